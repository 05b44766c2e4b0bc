// The rows that the charts are drawn of: those that the migration keeps, and after them the newest looks.

const RECENT_MS = 10 * 60 * 1000;
const RECENT_EVERY_MS = 900;
const ROWS_MAX = 1500;

export class Series {
  constructor() {
    this.everyS = 1;
    this._kept = [];
    this._recent = [];
  }

  /** Rows as the server sends them: all there are, or newer ones, which replace whatever was there of their time. */
  add({ every_s: everyS, columns, rows, whole = false }) {
    this.everyS = everyS;
    if (whole) this._kept = [];
    if (!rows.length) return;
    const named = rows.map((row) => Object.fromEntries(columns.map((column, index) => [column, row[index]])));
    this._kept = inOrder(this._kept.concat(named)).slice(-ROWS_MAX);
  }

  /** One look, as it comes: finer than what is kept of a long run. */
  look(row) {
    const last = this._recent.at(-1);
    if (last && row.at_ms - last.at_ms < RECENT_EVERY_MS) return;
    this._recent.push(row);
    this._recent = this._recent.filter((one) => one.at_ms > row.at_ms - RECENT_MS);
  }

  /** Rows of the last `spanMs`, the oldest first; of all the time when it is null. */
  rows(spanMs) {
    const last = Math.max(this._kept.at(-1)?.at_ms ?? 0, this._recent.at(-1)?.at_ms ?? 0);
    if (spanMs === null) {
      const after = this._kept.at(-1)?.at_ms ?? 0;
      return this._kept.concat(this._recent.filter((row) => row.at_ms > after));
    }
    const from = last - spanMs;
    const fine = this._recent.filter((row) => row.at_ms >= from);
    const until = fine[0]?.at_ms ?? Infinity;
    return this._kept.filter((row) => row.at_ms >= from && row.at_ms < until).concat(fine);
  }
}

/** Where the clock was set back, what was of a later time by then gives way to what came after it. */
function inOrder(rows) {
  let before = Infinity;
  return rows.reduceRight((kept, row) => {
    if (row.at_ms < before) {
      before = row.at_ms;
      kept.push(row);
    }
    return kept;
  }, []).reverse();
}

/** The row of a status, in the words of `telemetry/samples.py`; null while there are no numbers. */
export function rowOf(status, atMs) {
  const progress = status.progress;
  if (!progress) return null;
  return {
    at_ms: atMs,
    stage: status.stage,
    keys_done: progress.keys_done,
    keys_total: progress.keys_total,
    keys_per_second: progress.keys_per_second,
    changes_per_second: progress.changes_per_second,
    settled_per_second: progress.settled_per_second,
    dirty_keys: progress.dirty_keys,
    lag_s: progress.lag_s,
    source_latency_ms: progress.source_latency_ms,
    target_latency_ms: progress.target_latency_ms,
  };
}

/** By the migration's clock: when the status was made, in ms since 1970. */
export function madeAt(status) {
  return status.started_ms + status.elapsed_seconds * 1000;
}
