// The two charts, drawn by uPlot. Colours come from the style sheet, so that both themes fit.

import { NONE, known, price, seconds, watts } from "./format.js";

const HISTORY_POINTS = 3600;
const HEIGHT_PX = 222;
const DAY_S = 86400;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function axis(extra) {
  const font = "12px system-ui, sans-serif";
  return { stroke: css("--muted"), font, grid: { stroke: css("--line"), width: 1 }, ticks: { show: false }, ...extra };
}

function options(target, series, yAxis, more = {}) {
  return {
    width: target.clientWidth,
    height: HEIGHT_PX,
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    cursor: { y: false, points: { size: 6 } },
    axes: [axis({ values: times, space: 70, size: 30 }), axis({ size: 62, ...yAxis })],
    series: [{ label: "at", value: (_, at) => (known(at) ? clock(at) : NONE) }, ...series.map((one) => ({ points: { show: false }, ...one }))],
    ...more,
  };
}

const clock = (at) => new Date(at * 1000).toISOString().slice(11, 16);

function times(_, splits, __, ___, step) {
  return splits.map((at) => {
    const shown = new Date(at * 1000).toISOString();
    if (step >= 3600 && at % DAY_S === 0) return shown.slice(5, 10);
    return step < 60 ? shown.slice(11, 19) : shown.slice(11, 16);
  });
}

// A chart that keeps its data when the window or the theme changes.
class Chart {
  constructor(target, make) {
    this.target = target;
    this.make = make;
    this.data = null;
    new ResizeObserver(() => this.plot?.setSize({ width: target.clientWidth, height: HEIGHT_PX })).observe(target);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.rebuild());
  }

  show(data, label) {
    this.data = data;
    if (label) this.target.setAttribute("aria-label", label);
    if (this.plot) this.plot.setData(data);
    else this.rebuild();
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = this.data && this.target.clientWidth ? new uPlot(this.make(this.target), this.data, this.target) : null;
  }
}

export class PowerChart {
  constructor(target) {
    this.rows = [[], [], [], []];
    this.chart = new Chart(target, (place) =>
      options(
        place,
        [
          { label: "draw", stroke: css("--power"), fill: css("--power-fill"), width: 2, value: (_, v) => watts(v) },
          { label: "worst case", stroke: css("--accounted"), width: 1.5, value: (_, v) => watts(v) },
          { label: "budget", stroke: css("--limit"), width: 1.5, dash: [6, 4], value: (_, v) => watts(v), paths: uPlot.paths.stepped({ align: 1 }) },
        ],
        { values: (_, splits) => splits.map((v) => watts(v)) },
        { scales: { y: { range: (_, __, high) => [0, (high || 100) * 1.08] } } },
      ),
    );
  }

  add(state, root) {
    const at = seconds(state.at);
    const [times_] = this.rows;
    if (times_.length && at <= times_[times_.length - 1]) return;
    [at, root.draw_w, root.accounted_w, root.limit_w].forEach((value, row) => this.rows[row].push(value ?? null));
    if (times_.length > HISTORY_POINTS) this.rows.forEach((row) => row.shift());
    this.chart.show(this.rows, `Power since this page was opened: now ${watts(root.draw_w)} drawn, ${watts(root.accounted_w)} worst case, budget ${watts(root.limit_w)}`);
  }
}

export class PriceChart {
  constructor(target) {
    this.now = null;
    this.chart = new Chart(target, (place) =>
      options(
        place,
        [{ label: "price", stroke: css("--price"), fill: css("--price-fill"), width: 2, value: (_, v) => price(v), paths: uPlot.paths.stepped({ align: 1 }) }],
        { values: (_, splits) => splits.map((v) => String(v)) },
        {
          scales: { y: { range: (_, low, high) => [Math.min(0, low * 1.1), Math.max(10, high * 1.05)] } },
          hooks: { draw: [(plot) => this.drawNow(plot)] },
        },
      ),
    );
  }

  // `slots`: {start, end, value}; gaps stay gaps.
  show(slots, unit) {
    const times_ = [], values = [];
    slots.forEach((slot, index) => {
      const start = seconds(slot.start), end = seconds(slot.end);
      times_.push(start);
      values.push(slot.value);
      const next = slots[index + 1];
      if (!next || seconds(next.start) > end) {
        times_.push(end);
        values.push(next ? null : slot.value);
      }
    });
    const known_ = slots.map((slot) => slot.value);
    const label = slots.length
      ? `Price from ${slots[0].start} to ${slots.at(-1).end}: lowest ${price(Math.min(...known_))}, highest ${price(Math.max(...known_))} ${unit}`
      : "No prices known";
    this.chart.show([times_, values], label);
  }

  mark(now) {
    this.now = seconds(now);
    this.chart.plot?.redraw(false);
  }

  drawNow(plot) {
    if (!known(this.now) || this.now < plot.scales.x.min || this.now > plot.scales.x.max) return;
    const x = plot.valToPos(this.now, "x", true);
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = css("--ink");
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.restore();
  }
}
