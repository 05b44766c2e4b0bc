// One chart over time: lines on a grid, marks for switches, and the values under a finger, a pointer or an arrow key.

import { drawn, make, put, say } from "./dom.js";
import { nearest, path, runs, steps, times } from "./scale.js";
import { clock } from "./words.js";

const MINUTE_MS = 60_000;
const HEIGHT = 128;
const LEFT = 46;
const RIGHT = 10;
const TOP = 14;
const BOTTOM = 20;
const CHAR = 6.2; // about the width of one in a label

/**
 * Args of the constructor: `name` (data-chart), `title`, `lines`: [{key, label, tone}], `unit`: of the axis,
 * `axis(value)` and `value(value)`: how they are written, `least`: the smallest top of the axis.
 * `picked(at_ms or null)` is called when somebody points at a moment.
 */
export class Chart {
  constructor(kind, picked) {
    this._kind = kind;
    this._picked = picked;
    this._rows = [];
    this._marks = [];
    this._at = null;
    this._width = 0;
    this._build();
    new ResizeObserver(() => this._resize()).observe(this._svg);
  }

  _build() {
    const { name, title, unit, lines } = this._kind;
    this._values = lines.map(() => make("b"));
    const legend = lines.map((line, index) =>
      make("span", { class: "legend", "data-tone": line.tone }, `${line.label} `, this._values[index]),
    );
    this._when = make("span", { class: "when" });
    this._grid = drawn("g", { class: "grid" });
    this._plot = drawn("g");
    this._cursor = drawn("g", { class: "cursor" });
    this._svg = drawn("svg", { "data-chart": name, role: "img", tabindex: "0", height: HEIGHT }, this._grid, this._plot, this._cursor);
    this.node = make(
      "figure",
      {},
      make("figcaption", {}, make("h3", {}, title, make("small", {}, ` ${unit}`)), this._when),
      this._svg,
      make("p", { class: "legends" }, ...legend),
    );
    this._svg.addEventListener("pointermove", (event) => this._point(event));
    this._svg.addEventListener("pointerdown", (event) => this._point(event));
    this._svg.addEventListener("pointerleave", () => this._picked(null));
    this._svg.addEventListener("blur", () => this._picked(null));
    this._svg.addEventListener("keydown", (event) => this._key(event));
  }

  /** `marks`: [{at_ms, label}]; `gapMs`: rows that are further apart are not joined; `fresh`: the last row is of now. */
  set({ rows, marks, fromMs, toMs, gapMs, fresh }) {
    Object.assign(this, { _rows: rows, _marks: marks, _fromMs: fromMs, _toMs: toMs, _gapMs: gapMs, _fresh: fresh });
    this._draw();
  }

  /** Shows the values of this moment; null: the newest. */
  point(atMs) {
    this._at = atMs;
    this._read();
  }

  _resize() {
    const width = Math.round(this._svg.clientWidth);
    if (width && width !== this._width) {
      this._width = width;
      put(this._svg, "viewBox", `0 0 ${width} ${HEIGHT}`);
      this._draw();
    }
  }

  _x(atMs) {
    const share = (atMs - this._fromMs) / Math.max(1, this._toMs - this._fromMs);
    return LEFT + share * (this._width - LEFT - RIGHT);
  }

  _y(value) {
    return HEIGHT - BOTTOM - (value / this._top) * (HEIGHT - BOTTOM - TOP);
  }

  _draw() {
    if (!this._width || !this._rows.length) return;
    const { lines, least } = this._kind;
    let largest = 0;
    for (const row of this._rows) for (const line of lines) largest = Math.max(largest, row[line.key] ?? 0);
    const levels = steps(largest, 3, least);
    this._top = levels.at(-1);
    put(this._svg, "data-from-ms", this._rows[0].at_ms);
    put(this._svg, "data-to-ms", this._rows.at(-1).at_ms);
    this._drawGrid(levels);
    this._drawLines();
    this._read();
  }

  _drawGrid(levels) {
    const floor = HEIGHT - BOTTOM;
    const right = this._width - RIGHT;
    const parts = levels.flatMap((level) => [
      drawn("line", { x1: LEFT, x2: right, y1: this._y(level), y2: this._y(level) }),
      text(LEFT - 6, this._y(level) + 3.5, this._kind.axis(level), "end"),
    ]);
    const { moments, stepMs } = times(this._fromMs, this._toMs, Math.max(2, Math.floor(this._width / 80)));
    for (const at of moments) {
      const x = this._x(at);
      if (x < LEFT + 18 || x > right - 18) continue;
      parts.push(drawn("line", { x1: x, x2: x, y1: floor, y2: floor + 3, class: "tick" }));
      parts.push(text(x, HEIGHT - 5, clock(at, this._toMs, stepMs < MINUTE_MS), "middle"));
    }
    parts.push(...this._drawMarks(floor, right));
    this._grid.replaceChildren(...parts);
  }

  /** A line for each; words where there is room, the newest first. */
  _drawMarks(floor, right) {
    const parts = [];
    let free = Infinity;
    for (const mark of [...this._marks].reverse()) {
      const x = this._x(mark.at_ms);
      if (x < LEFT || x > right) continue;
      parts.push(drawn("line", { x1: x, x2: x, y1: TOP - 3, y2: floor, class: "mark" }));
      const half = (mark.label.length * CHAR) / 2;
      const middle = Math.min(right - half, Math.max(half, x));
      if (middle + half > free) continue;
      free = middle - half - CHAR;
      parts.push(text(middle, TOP - 5, mark.label, "middle", "mark"));
    }
    return parts;
  }

  _drawLines() {
    const floor = HEIGHT - BOTTOM;
    const { lines } = this._kind;
    const parts = [];
    lines.forEach((line, index) => {
      for (const run of runs(this._rows, line.key, this._gapMs)) {
        const points = run.map(([at, value]) => [this._x(at), this._y(value)]);
        if (points.length === 1) points.push([points[0][0] + 1, points[0][1]]);
        const way = path(points);
        if (index === 0 && lines.length === 1) {
          const area = `${way}L${points.at(-1)[0].toFixed(1)} ${floor}L${points[0][0].toFixed(1)} ${floor}Z`;
          parts.push(drawn("path", { d: area, class: "area", "data-tone": line.tone }));
        }
        parts.push(drawn("path", { d: way, class: "line", "data-tone": line.tone }));
      }
    });
    this._plot.replaceChildren(...parts);
  }

  _read() {
    const row = this._at === null ? this._rows.at(-1) : nearest(this._rows, this._at);
    if (!row) return;
    const { lines, value } = this._kind;
    lines.forEach((line, index) => say(this._values[index], value(row[line.key])));
    const when = this._at === null && this._fresh ? "now" : clock(row.at_ms);
    say(this._when, when);
    const said = lines.map((line) => `${line.label} ${value(row[line.key])}`).join(", ");
    put(this._svg, "aria-label", `${this._kind.title}, ${when}: ${said}`);
    if (!this._width) return;
    const x = this._x(row.at_ms).toFixed(1);
    const dots = lines.filter((line) => row[line.key] !== null && row[line.key] !== undefined);
    this._cursor.replaceChildren(
      ...(this._at === null ? [] : [drawn("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM })]),
      ...dots.map((line) => drawn("circle", { cx: x, cy: this._y(row[line.key]).toFixed(1), r: 2.8, "data-tone": line.tone })),
    );
  }

  _point(event) {
    const share = (event.offsetX - LEFT) / (this._width - LEFT - RIGHT);
    const at = this._fromMs + Math.min(1, Math.max(0, share)) * (this._toMs - this._fromMs);
    if (this._rows.length) this._picked(at);
  }

  _key(event) {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this._picked(null);
    if (!way || !this._rows.length) return;
    event.preventDefault();
    const row = this._at === null ? this._rows.at(-1) : nearest(this._rows, this._at);
    const index = this._rows.indexOf(row) + way * (event.shiftKey ? 10 : 1);
    this._picked(this._rows[Math.min(this._rows.length - 1, Math.max(0, index))].at_ms);
  }
}

function text(x, y, words, anchor, kind = null) {
  return drawn("text", { x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor, class: kind }, words);
}
