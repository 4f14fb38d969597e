// The console: signs in, asks every two seconds, and brings the page up to date.

import { Problem, get, token } from "./api.js";
import { PowerChart, PriceChart } from "./charts.js";
import { byId, element, sync, text, width } from "./dom.js";
import { NONE, age, count, known, price, utc, watts, words } from "./format.js";
import { showJobs, isEnded } from "./jobs.js";

const PERIOD_MS = 2000;
const STALE_S = 10;
const PRICES_EVERY = 15; // periods
const BEHIND_H = 6;
const AHEAD_H = 30;

let timer = 0;
let charts = null;
let periods = 0;

function show(section) {
  byId("sign-in").hidden = section !== "sign-in";
  byId("view").hidden = section !== "view";
  byId("sign-out").hidden = section !== "view";
}

function signOut(message) {
  clearTimeout(timer);
  token.clear();
  show("sign-in");
  byId("grid-time").hidden = true;
  text(byId("link"), "");
  text(byId("site"), "");
  text(byId("sign-in-error"), message);
  byId("token").focus();
}

async function signIn(event) {
  event.preventDefault();
  const field = byId("token");
  token.set(field.value.trim());
  try {
    await get("/v1/status");
  } catch (problem) {
    signOut(problem.status === 401 ? "This token is unknown, expired or revoked." : `Cannot sign in: ${problem.message}.`);
    return;
  }
  field.value = "";
  text(byId("sign-in-error"), "");
  start();
}

function start() {
  show("view");
  charts ??= { power: new PowerChart(byId("power-chart")), price: new PriceChart(byId("price-chart")) };
  periods = 0;
  refresh();
}

async function refresh() {
  try {
    const [state, jobs] = await Promise.all([get("/v1/power/state"), get("/v1/jobs?limit=200")]);
    render(state, jobs.items);
    connection(state);
    if (periods % PRICES_EVERY === 0) await refreshPrices(state);
    periods += 1;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401) {
      signOut("You were signed out: the token has expired or was revoked.");
      return;
    }
    lost(problem.status === 0 ? "no answer from the daemon, trying again" : problem.message);
  } finally {
    if (token.get()) timer = setTimeout(refresh, PERIOD_MS);
  }
}

async function refreshPrices(state) {
  const now = Date.parse(state.at);
  const at = (hours) => new Date(now + hours * 3600e3).toISOString();
  const prices = await get(`/v1/prices?start=${at(-BEHIND_H)}&end=${at(AHEAD_H)}`);
  charts.price.show(prices.slots, `${state.currency}/MWh`);
  charts.price.mark(state.at);
}

function lost(message) {
  byId("link").classList.add("down");
  text(byId("link"), message);
  byId("view").classList.add("stale");
}

function connection(state) {
  const behind = (Date.now() - Date.parse(state.real_at)) / 1000;
  if (behind > STALE_S) {
    lost(`the controller was last heard ${age(behind)} ago`);
    return;
  }
  byId("link").classList.remove("down");
  byId("view").classList.remove("stale");
  text(byId("link"), "live");
}

function render(state, jobs) {
  const root = state.domains.find((domain) => domain.parent === null);
  const powerByJob = new Map(state.jobs.map((job) => [job.job_id, job]));
  const time = byId("grid-time");
  time.hidden = false;
  text(time, utc(state.at) + (state.clock_rate === 1 ? "" : `, replayed ${count(state.clock_rate)} times as fast`));
  text(byId("site"), root.name);
  showDegraded(state.degraded);
  showPower(root);
  showGrid(state);
  showCounts(state, jobs);
  charts.power.add(state, root);
  charts.price.mark(state.at);
  showDomains(state.domains);
  showGpus(state, new Map(jobs.map((job) => [job.id, job])));
  showJobs(byId("jobs"), jobs, powerByJob);
  byId("no-jobs").hidden = jobs.length > 0;
  document.title = `${watts(root.draw_w)} · wattmill`;
}

function showDegraded(states) {
  const banner = byId("degraded");
  banner.hidden = states.length === 0;
  text(banner, states.length ? `Running with less: ${states.map(words).join(", ")}` : "");
}

function showPower(root) {
  const limit = root.limit_w;
  const over = limit !== null && Math.max(root.accounted_w, root.draw_w ?? 0) > limit + 0.5;
  text(byId("draw"), watts(root.draw_w));
  text(byId("limit"), limit === null ? "no budget set" : `of ${watts(limit)}`);
  byId("draw").parentElement.classList.toggle("over", over);
  const scale = limit ?? root.accounted_w;
  const meter = byId("meter-draw").parentElement;
  meter.classList.toggle("over", over);
  width(byId("meter-draw"), root.draw_w / scale);
  width(byId("meter-accounted"), root.accounted_w / scale);
  const free = limit === null ? "" : over ? `, over by ${watts(root.accounted_w - limit)}` : `, ${watts(limit - root.accounted_w)} free`;
  text(byId("power-note"), `worst case ${watts(root.accounted_w)}${free}`);
}

function showGrid(state) {
  text(byId("price"), price(state.price_per_mwh));
  text(byId("price-unit"), `${state.currency}/MWh`);
  text(byId("price-rules"), state.active_rules.length ? `in force: ${state.active_rules.join(", ")}` : "");
  text(byId("price-note"), state.price_source ? `${state.price_source}${state.price_age_s > 0 ? `, fetched ${age(state.price_age_s)} ago` : ""}` : "no price known: decisions are price-blind");
  text(byId("price-source"), state.price_source ? `${state.currency}/MWh, UTC` : "");
  text(byId("carbon"), count(state.carbon_g_per_kwh));
  text(byId("carbon-note"), state.carbon_source ?? "not known");
}

function showCounts(state, jobs) {
  const of = (...states) => jobs.filter((job) => states.includes(job.state)).length;
  text(byId("running"), of("RUNNING", "STARTING"));
  text(byId("jobs-note"), `${of("QUEUED")} waiting, ${of("PAUSED", "PAUSING")} paused, ${jobs.filter(isEnded).length} ended`);
  const busy = state.gpus.filter((gpu) => gpu.job_id || gpu.foreign).length;
  text(byId("gpus-note"), `${busy} of ${state.gpus.length} GPUs in use`);
}

function showDomains(domains) {
  const build = () => {
    const row = document.createElement("tr");
    const name = element("th");
    name.scope = "row";
    row.append(name);
    for (let i = 0; i < 5; i += 1) row.append(element("td", "num"));
    return row;
  };
  sync(byId("domains"), domains, (d) => d.name, build, (row, d) => {
    const free = d.limit_w === null ? NONE : watts(d.limit_w - d.accounted_w);
    const limit = d.limit_w === null ? "none" : watts(d.limit_w);
    const cells = [d.parent ? `${d.name} (in ${d.parent})` : d.name, limit, watts(d.accounted_w), watts(d.draw_w), watts(d.base_load_w), free];
    cells.forEach((cell, index) => text(row.cells[index], cell));
  });
}

function showGpus(state, jobsById) {
  text(byId("backend"), state.backend === "simulated" ? "simulated" : "");
  const build = () => {
    const track = element("div", "track", element("div", "fill"), element("div", "cap"));
    track.setAttribute("aria-hidden", "true");
    return element("li", "gpu",
      element("div", "head", document.createElement("b"), element("span", "who")), track,
      element("div", "foot", document.createElement("span"), document.createElement("span")), element("p", "flags"));
  };
  sync(byId("gpus"), state.gpus, (gpu) => gpu.uuid, build, (tile, gpu) => {
    const [head, track, foot, flags] = tile.children;
    const job = jobsById.get(gpu.job_id);
    tile.title = gpu.uuid;
    tile.classList.toggle("bad", !gpu.healthy);
    text(head.children[0], `${gpu.index} · ${gpu.model}`);
    head.children[1].classList.toggle("free", !gpu.job_id && !gpu.foreign);
    text(head.children[1], gpu.job_id ? (job?.name || `…${gpu.job_id.slice(-6)}`) : gpu.foreign ? "not ours" : "free");
    width(track.children[0], gpu.power_w / gpu.max_cap_w);
    track.children[1].hidden = !known(gpu.cap_w);
    track.children[1].style.left = `calc(${Math.min(100, (100 * gpu.cap_w) / gpu.max_cap_w)}% - 2px)`;
    text(foot.children[0], `${watts(gpu.power_w)}, cap ${watts(gpu.cap_w)}`);
    const use = known(gpu.utilization) ? `${count(gpu.utilization * 100)} %` : "";
    text(foot.children[1], [use, known(gpu.temperature_c) ? `${count(gpu.temperature_c)} °C` : ""].filter(Boolean).join(", "));
    text(flags, gpuFlags(gpu).join(", "));
  });
}

function gpuFlags(gpu) {
  return [
    gpu.error ?? (gpu.healthy ? null : "not healthy"),
    gpu.cordoned ? "cordoned" : null,
    gpu.settable ? null : "limit not settable",
    gpu.sample_age_s > 3 ? `last read ${age(gpu.sample_age_s)} ago` : null,
  ].filter(Boolean);
}

byId("sign-in-form").addEventListener("submit", signIn);
byId("sign-out").addEventListener("click", () => signOut(""));
if (token.get()) start();
else signOut("");
