// The jobs table: what each does, what it was promised, and why it is not faster.

import { element, sync, text, width } from "./dom.js";
import { NONE, count, known, percent, rate, utc, watts, words } from "./format.js";

const ENDED = new Set(["SUCCEEDED", "FAILED", "CANCELLED"]);
const HELD = new Set(["PAUSED", "PAUSING"]);
const SHOWN_ENDED = 20;
const CONDITIONS = {
  NOMINAL: "full speed",
  CAPPED_BUDGET: "capped by budget",
  CAPPED_PRICE: "capped by price",
  CAPPED_THERMAL: "capped by heat",
  EMERGENCY: "emergency cap",
};

export const isEnded = (job) => ENDED.has(job.state);

export function showJobs(body, jobs, powerByJob) {
  const live = jobs.filter((job) => !isEnded(job)).sort((a, b) => rank(a) - rank(b));
  const ended = jobs.filter(isEnded).slice(0, SHOWN_ENDED);
  sync(body, [...live, ...ended], (job) => job.id, build, (row, job) => update(row, job, powerByJob.get(job.id)));
}

function rank(job) {
  return ["RUNNING", "STARTING", "STOPPING", "PAUSING", "PAUSED", "QUEUED"].indexOf(job.state);
}

function build() {
  const row = document.createElement("tr");
  const name = element("th", "", document.createElement("span"), document.createElement("small"));
  name.scope = "row";
  const state = element("td", "", element("span", "state", document.createElement("span"), document.createElement("small")));
  const bar = element("span", "track", document.createElement("span"));
  bar.setAttribute("aria-hidden", "true");
  const ledger = element("td", "", element("div", "ledger", document.createElement("span"), bar));
  row.append(name, state);
  for (let i = 0; i < 5; i += 1) row.append(element("td", "num"));
  row.append(ledger, element("td", "why"));
  return row;
}

function update(row, job, power) {
  const [name, state, gpus, cap, draw, speed, progress, ledger, why] = row.cells;
  row.classList.toggle("ended", isEnded(job));
  text(name.children[0], job.name || job.argv.join(" ").slice(0, 60));
  text(name.children[1], `${job.owner}, …${job.id.slice(-6)}`);
  name.title = job.id;
  showState(state.firstElementChild, job, power);
  text(gpus, count(job.gpus));
  text(cap, power ? watts(power.cap_w) : NONE);
  text(draw, power ? watts(power.draw_w) : NONE);
  text(speed, power && !power.frozen ? rate(power.samples_per_s) : NONE);
  text(progress, power && power.total_steps ? `${Math.floor((100 * power.step) / power.total_steps)} %` : NONE);
  showLedger(ledger.firstElementChild, power);
  text(why, reason(job, power));
}

function showState(cell, job, power) {
  const condition = power?.condition ?? job.condition;
  const capped = job.state === "RUNNING" && condition !== "NOMINAL";
  const look = isEnded(job) ? (job.state === "FAILED" ? "failed" : "ended-state")
    : HELD.has(job.state) ? "paused" : job.state === "QUEUED" ? "waiting" : capped ? "capped" : "running";
  cell.className = `state ${look}`;
  text(cell.children[0], words(job.state));
  text(cell.children[1], job.state === "RUNNING" ? (CONDITIONS[condition] ?? words(condition)) : "");
}

function showLedger(cell, power) {
  const [figures, track] = cell.children;
  if (!power) {
    text(figures, NONE);
    track.hidden = true;
    return;
  }
  const { promised_share: promised, used_share: used } = power;
  text(figures, promised > 0 ? `${percent(used)} of ${percent(promised)}` : `${percent(used)}, none promised`);
  track.hidden = !(promised > 0);
  width(track.firstElementChild, promised > 0 ? used / promised : 0);
  cell.className = `ledger ${used > promised && promised > 0 ? "over" : used > 0.8 * promised ? "near" : ""}`;
}

function reason(job, power) {
  if (job.state === "FAILED" || job.state === "CANCELLED") {
    const code = known(job.exit_code) ? `, exit code ${job.exit_code}` : "";
    return `${words(job.end_reason || job.state)}${code}`;
  }
  if (job.state === "SUCCEEDED") return `finished ${utc(job.ended_at)}`;
  if (job.wait_reason) return job.wait_detail || words(job.wait_reason);
  return power?.cause || job.condition_cause || "";
}
