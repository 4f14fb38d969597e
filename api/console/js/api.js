// Requests to the daemon this page came from. The token lives in this tab only.

const TOKEN = "wattmill-token";
const TIMEOUT_MS = 8000;

export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status; // 0: nobody answered
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  clear: () => sessionStorage.removeItem(TOKEN),
};

export async function get(path) {
  let answer;
  try {
    answer = await fetch(path, {
      headers: { Authorization: `Bearer ${token.get() ?? ""}` },
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new Problem(0, "the daemon does not answer");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Problem(answer.status, body.detail || body.title || `HTTP ${answer.status}`);
  return body;
}
