// Numbers and times as people read them. Times are UTC, everywhere.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const two = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

export const NONE = "–";
export const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

export function watts(value) {
  if (!known(value)) return NONE;
  return Math.abs(value) >= 10000 ? `${one.format(value / 1000)} kW` : `${whole.format(value)} W`;
}

export const price = (value) => (known(value) ? two.format(value) : NONE);
export const count = (value) => (known(value) ? whole.format(value) : NONE);
export const rate = (value) => (known(value) ? (value >= 100 ? whole : one).format(value) : NONE);
export const percent = (share) => (known(share) ? `${one.format(share * 100)} %` : NONE);

export function age(seconds) {
  if (!known(seconds)) return "";
  if (seconds < 90) return `${whole.format(seconds)} s`;
  if (seconds < 5400) return `${whole.format(seconds / 60)} min`;
  return `${whole.format(seconds / 3600)} h`;
}

export const words = (name) => String(name ?? "").toLowerCase().replaceAll("_", " ");

export function utc(text) {
  const when = new Date(text);
  return Number.isNaN(when.valueOf()) ? NONE : `${when.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

export const seconds = (text) => Date.parse(text) / 1000;
