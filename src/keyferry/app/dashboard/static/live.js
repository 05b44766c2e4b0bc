// What the page knows of the migration, and how fresh that is. The server sends events; this says what they amount to:
//
//   connecting   nothing has come yet
//   live         it comes
//   old          the server speaks, but the migration has not looked around for a while: busy, or stuck
//   lost         the server does not speak; the last look stays, greyed
//   ended, died  the migration is over, with a word or without one
//
// The browser opens the stream again by itself, also on a migration that was started again at the same address.

export const OLD_S = 10;
export const SILENT_S = 15;
const AGAIN_MS = 2000;

/** Pure: which of the states above. `now` and all moments in ms of one clock. */
export function stateOf(seen, now) {
  if (seen.ended) return seen.ended.died ? "died" : "ended";
  if (!seen.statusAt) return seen.lostAt ? "lost" : "connecting";
  if (seen.lostAt || now - seen.heardAt > SILENT_S * 1000) return "lost";
  return ageOf(seen, now) > OLD_S ? "old" : "live";
}

/** Seconds since the migration looked around, by what was heard last. */
export function ageOf(seen, now) {
  return (seen.status?.age_seconds ?? 0) + Math.max(0, now - seen.statusAt) / 1000;
}

/**
 * Listens until the page goes.
 *
 * on.status(status), on.history(samples), on.changed(): the state may be another one.
 * Gives what is known: {status, statusAt, heardAt, lostAt, ended, endedAt}.
 */
export function listen(url, on) {
  const seen = { status: null, statusAt: 0, heardAt: 0, lostAt: 0, ended: null, endedAt: 0 };
  let source = null;

  function open() {
    source?.close();
    source = new EventSource(url);
    source.addEventListener("status", (event) => {
      heard();
      seen.status = JSON.parse(event.data);
      seen.statusAt = Date.now();
      seen.ended = null; // it was started again
      on.status(seen.status);
    });
    source.addEventListener("history", (event) => {
      heard();
      on.history(JSON.parse(event.data));
    });
    source.addEventListener("ended", (event) => {
      heard();
      seen.ended = JSON.parse(event.data);
      seen.endedAt = Date.now();
      on.changed();
    });
    source.onerror = lost;
  }

  function heard() {
    seen.heardAt = Date.now();
    seen.lostAt = 0;
  }

  function lost() {
    if (!seen.lostAt) seen.lostAt = Date.now();
    on.changed();
    // A refused connection is tried again by the browser; an answer that is no stream is not.
    if (source.readyState === EventSource.CLOSED) setTimeout(open, AGAIN_MS);
  }

  function watch() {
    // A connection that broke without a word, as when a laptop was asleep.
    if (seen.heardAt && !seen.lostAt && Date.now() - seen.heardAt > SILENT_S * 1000) {
      lost();
      open();
    }
    on.changed();
  }

  open();
  setInterval(watch, 1000);
  // A stream over a network that is gone breaks only after minutes; one to this machine goes on. A new one tells.
  addEventListener("offline", open);
  addEventListener("online", () => seen.lostAt && open());
  return seen;
}
