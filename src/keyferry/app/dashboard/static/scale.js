// Arithmetic of axes and lines; knows no document.

const TIMES_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400, 172800, 604800];

/** Round steps from 0 to at least `largest`: about `wanted` of them. */
export function steps(largest, wanted = 3, least = 1) {
  const top = Math.max(largest, least);
  const raw = top / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => one >= raw * 0.999);
  const found = [];
  for (let index = 0; index <= Math.ceil(top / step - 1e-9); index += 1) found.push(index * step);
  return found;
}

/** Moments to be named on a time axis, at local round times: {moments, stepMs}. */
export function times(fromMs, toMs, wanted) {
  const span = (toMs - fromMs) / 1000;
  const step = (TIMES_S.find((one) => span / one <= wanted) ?? TIMES_S.at(-1)) * 1000;
  const shift = new Date(toMs).getTimezoneOffset() * 60000;
  const found = [];
  for (let at = Math.ceil((fromMs - shift) / step) * step + shift; at <= toMs; at += step) found.push(at);
  return { moments: found, stepMs: step };
}

/** Rows in runs without a hole: between processes of a migration nobody counted. */
export function runs(rows, key, gapMs) {
  const found = [];
  let run = null;
  let before = -Infinity;
  for (const row of rows) {
    const value = row[key];
    if (value === null || value === undefined) {
      run = null;
    } else {
      if (!run || row.at_ms - before > gapMs) found.push((run = []));
      run.push([row.at_ms, value]);
    }
    before = row.at_ms;
  }
  return found;
}

/** The row whose moment is nearest; null without any. Rows are in order. */
export function nearest(rows, atMs) {
  let low = 0;
  let high = rows.length - 1;
  if (high < 0) return null;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].at_ms < atMs) low = middle + 1;
    else high = middle;
  }
  const before = rows[low - 1];
  return before && atMs - before.at_ms < rows[low].at_ms - atMs ? before : rows[low];
}

export function path(points) {
  return points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}
