// Which charts there are, and what all of them show together: the same time, the same marks, one cursor.

import { Chart } from "./chart.js";
import { byId, put } from "./dom.js";
import { NONE, count, latency, moment, short } from "./words.js";

const MINUTE_MS = 60 * 1000;
const SPANS = { all: null, "10": 10 * MINUTE_MS };
const REDRAW_MS = 500;

const perSecond = (value) => (value === null || value === undefined ? NONE : `${count(value)}/s`);
const seconds = (value) => (value === 0 ? "0" : value < 1 ? moment(value) : `${short(value)} s`);

const KINDS = [
  {
    name: "rate", title: "Keys gone over", unit: "keys/s", least: 10, axis: short, value: perSecond,
    lines: [{ key: "keys_per_second", label: "keys", tone: "one" }],
  },
  {
    name: "changes", title: "Changes", unit: "keys/s", least: 10, axis: short, value: perSecond,
    lines: [
      { key: "changes_per_second", label: "changed", tone: "one" },
      { key: "settled_per_second", label: "settled", tone: "two" },
    ],
  },
  {
    name: "dirty", title: "Dirty keys", unit: "changed, not carried yet", least: 10, axis: short, value: count,
    lines: [{ key: "dirty_keys", label: "dirty", tone: "one" }],
  },
  {
    name: "lag", title: "Lag", unit: "age of the oldest dirty key", least: 0.01, axis: seconds, value: moment,
    lines: [{ key: "lag_s", label: "behind", tone: "one" }],
  },
  {
    name: "latency", title: "Latency", unit: "of a small request", least: 1, axis: (value) => (value < 1000 ? `${short(value)} ms` : `${short(value / 1000)} s`), value: latency,
    lines: [
      { key: "source_latency_ms", label: "source", tone: "source" },
      { key: "target_latency_ms", label: "target", tone: "target" },
    ],
  },
];

export class Charts {
  constructor(series) {
    this._series = series;
    this._marks = [];
    this._fresh = true;
    this._drawnAt = 0;
    this._later = 0;
    this._span = "all";
    this._charts = KINDS.map((kind) => new Chart(kind, (at) => this._charts.forEach((chart) => chart.point(at))));
    byId("charts-grid").prepend(...this._charts.map((chart) => chart.node));
    for (const button of byId("span").querySelectorAll("button")) {
      button.addEventListener("click", () => {
        this._span = button.dataset.span;
        this._pressed();
        this._draw();
      });
    }
    this._pressed();
  }

  _pressed() {
    for (const one of byId("span").querySelectorAll("button")) {
      put(one, "aria-pressed", one.dataset.span === this._span ? "true" : "false");
    }
  }

  /** `switches`: of the status. */
  mark(switches) {
    this._marks = switches.map((one) => ({ at_ms: one.at_ms, label: labelOf(one) }));
  }

  /** Whether what is drawn is of now, or of a last look. */
  set fresh(fresh) {
    if (this._fresh === fresh) return;
    this._fresh = fresh;
    this.draw();
  }

  /** Soon, and not more often than an eye can follow. */
  draw() {
    if (this._later) return;
    const wait = Math.max(0, this._drawnAt + REDRAW_MS - performance.now());
    this._later = setTimeout(() => this._draw(), wait);
  }

  _draw() {
    clearTimeout(this._later);
    this._later = 0;
    this._drawnAt = performance.now();
    const rows = this._series.rows(SPANS[this._span]);
    if (!rows.length) return;
    const toMs = rows.at(-1).at_ms;
    const fromMs = Math.min(rows[0].at_ms, toMs - MINUTE_MS / 2);
    const gapMs = Math.max(10_000, 3.5 * 1000 * this._series.everyS);
    for (const chart of this._charts) chart.set({ rows, marks: this._marks, fromMs, toMs, gapMs, fresh: this._fresh });
  }
}

function labelOf({ direction, outcome, gate_ms: gateMs }) {
  const waited = gateMs === null || gateMs === undefined ? "" : ` ${latency(gateMs)}`;
  return outcome === "done" ? `${direction}${waited}` : `${direction} ${outcome}`;
}
