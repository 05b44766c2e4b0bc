// How numbers and moments are written for people: short, of steady width, in thousands; as the terminal writes them.

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const SHORT_CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

export const NONE = "–";

export function count(number) {
  return number === null || number === undefined ? NONE : WHOLE.format(number);
}

export function counted(number, noun) {
  return `${count(number)} ${number === 1 ? noun : `${noun}s`}`;
}

/** 999, 12.3K, 4.56M: for axes and tiles. */
export function short(number) {
  if (number === null || number === undefined) return NONE;
  for (const [unit, letter] of [[1e9, "G"], [1e6, "M"], [1e4, "K"]]) {
    if (Math.abs(number) >= unit) {
      const shown = number / (letter === "K" ? 1e3 : unit);
      return `${shown >= 100 ? shown.toFixed(0) : shown.toFixed(1).replace(".0", "")}${letter}`;
    }
  }
  return number !== 0 && Math.abs(number) < 10 && !Number.isInteger(number) ? number.toFixed(1) : WHOLE.format(number);
}

/** Bytes: 999 B, 1.5 KB, 24.1 MB. */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return NONE;
  let shown = bytes;
  for (const unit of ["B", "KB", "MB"]) {
    if (shown < 999.95) return unit === "B" ? `${shown.toFixed(0)} B` : `${shown.toFixed(1)} ${unit}`;
    shown /= 1000;
  }
  return `${shown.toFixed(1)} GB`;
}

/** 0.4 s, 12 s, 3 min 20 s, 2 h 05 min, 3 d 04 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 100) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
  const hours = Math.round(minutes / 60);
  return `${Math.floor(hours / 24)} d ${two(hours % 24)} h`;
}

/** As `duration`, but 12 ms where that would be a share of a second. */
export function moment(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  return seconds < 0.9995 ? `${(seconds * 1000).toFixed(0)} ms` : duration(seconds);
}

export function latency(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return NONE;
  return milliseconds < 99.95 ? `${milliseconds.toFixed(1)} ms` : `${WHOLE.format(milliseconds)} ms`;
}

/** Percent, never 100 before all is done and never above; null when there is no total. */
export function share(done, total) {
  if (!(total > 0)) return null;
  return done >= total ? 100 : Math.min(99, Math.floor((done * 100) / total));
}

/** The time of day here; with the day where that is another one. */
export function clock(atMs, nowMs = Date.now(), seconds = true) {
  const at = new Date(atMs);
  const time = (seconds ? CLOCK : SHORT_CLOCK).format(at);
  return at.toDateString() === new Date(nowMs).toDateString() ? time : `${DAY.format(at)} ${time}`;
}

/** The same sentence with each number kept beside its unit. */
export function unbroken(text) {
  return text.replace(/(\d) (s|ms|min|h|d|%|keys?)(?![a-z])/g, "$1\u00a0$2");
}

function two(number) {
  return String(number).padStart(2, "0");
}
