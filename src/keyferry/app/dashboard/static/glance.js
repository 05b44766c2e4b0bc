// The first look: what it does, whether that is well, how long it takes, what to press. Where the page does not know
// how things are (no connection, or a migration that stands still) it says that, and never shows an old "healthy".

import { byId, list, make, put, say, show } from "./dom.js";
import { ageOf } from "./live.js";
import { clock, count, duration, share, unbroken } from "./words.js";

const HEALTH = { good: "Healthy", attention: "Needs a look", trouble: "Trouble", unknown: "Not known", over: "Over" };
const PASSES = new Set(["copying", "comparing", "verifying"]);
const CONNECTION = { connecting: "connecting", live: "live", old: "stands still", lost: "connection lost", ended: "ended", died: "died" };
/** By exit status: done, done with something to look at, stopped by its operator. Everything else is trouble. */
const ENDS = { 0: "over", 1: "attention", 130: "over" };
const TOLD_EVERY_MS = 10_000;
/** A look that is older is said to be, before the migration is said to stand still. */
const AGED_S = 3;

const HALFWAY = {
  why: "A switch was under way: writes may be waiting.",
  next: "Start it again at once with the same command: it puts right what was left.",
};
const QUIET = {
  why: "What you see below is from then. The service goes on without it; what changes is found by the next start.",
  next: "Start it again with the same command: it goes on where it was.",
};

let toldAt = 0;
let told = "";

export function glance(seen, state, now) {
  put(document.body, "data-connection", state);
  connection(seen, state, now);
  const said = words(seen, state, now);
  say(byId("glance-doing"), unbroken(said.doing));
  put(byId("glance-health"), "data-health", said.health);
  say(byId("glance-word"), HEALTH[said.health] ?? said.health);
  say(byId("glance-why"), unbroken(said.why));
  say(byId("glance-left"), said.left);
  say(byId("glance-next"), unbroken(said.next));
  show(byId("glance-next-row"), Boolean(said.next));
  tell(seen, said, now);
  if (seen.status) {
    bar(seen.status);
    stations(seen.status, state === "ended" && seen.ended.exit_code === 0);
  }
}

function words(seen, state, now) {
  const glance = seen.status?.glance ?? {};
  const nothing = { why: "", left: "", next: "", command: "" };
  if (state === "connecting") return { ...nothing, doing: "Waiting for the first look …", health: "unknown" };
  if (state === "ended") return end(seen);
  if (state === "died") {
    return {
      ...nothing,
      doing: `The migration's process died without a word, ${clock(seen.endedAt)}.`,
      health: "trouble",
      ...(seen.status?.stage === "switching" ? HALFWAY : QUIET),
    };
  }
  if (state === "lost") {
    if (!seen.status) return { ...nothing, doing: "No connection to the migration.", health: "unknown", why: "Trying again." };
    return {
      ...nothing,
      doing: `Connection lost, ${clock(seen.lostAt || seen.heardAt)}.`,
      health: "unknown",
      why: `Whether it runs is not known. Its last look: ${glance.doing ?? seen.status.stage} Trying again.`,
      next: "Look whether keyferry still runs, and whether this machine reaches it.",
    };
  }
  if (state === "old") {
    return {
      ...nothing,
      doing: `The migration has not answered for ${duration(ageOf(seen, now))}: it is busy, or stuck.`,
      health: "unknown",
      why: `Its last look: ${glance.doing ?? seen.status.stage}`,
      next: "Wait a moment. If it stays so, look at its process.",
    };
  }
  return { ...nothing, doing: seen.status.stage, health: "unknown", ...glance };
}

function end(seen) {
  const { exit_code: code, sentence, hint, report } = seen.ended;
  const kept = report ? `Its report: ${report}.` : "";
  return {
    doing: sentence || (code ? `It ended with exit status ${code}.` : "It has ended."),
    health: ENDS[code] ?? "trouble",
    why: code ? `Exit status ${code}, ${clock(seen.endedAt)}.` : `Ended ${clock(seen.endedAt)}.`,
    left: "",
    next: [hint, kept].filter(Boolean).join(" "),
  };
}

function connection(seen, state, now) {
  const node = byId("connection");
  put(node, "data-state", state);
  const age = ageOf(seen, now);
  say(byId("connection-word"), state === "live" && age > AGED_S ? `last look ${Math.round(age)} s ago` : CONNECTION[state]);
  const since = state === "lost" ? seen.lostAt || seen.heardAt : seen.endedAt;
  put(node, "title", seen.statusAt ? `Last look ${clock(seen.statusAt)}` : null);
  say(byId("connection-since"), state === "lost" || state === "ended" || state === "died" ? clock(since, now) : "");
}

/** For who listens: when something of it is another, never for numbers that run. */
function tell(seen, said, now) {
  const key = [said.health, said.why, said.next, seen.status?.station, seen.status?.stage, seen.status?.authority].join("|");
  if (key === told || (now - toldAt < TOLD_EVERY_MS && said.health !== "trouble" && told)) return;
  told = key;
  toldAt = now;
  say(byId("glance-live"), [HEALTH[said.health], said.doing, said.why, said.next].filter(Boolean).join(" "));
}

function bar({ progress, stage }) {
  const passes = progress && PASSES.has(stage);
  const percent = passes ? share(progress.keys_done, progress.keys_total) : null;
  put(byId("progress"), "data-shown", percent !== null ? "true" : "false");
  const meter = byId("progress-bar");
  put(meter, "value", percent ?? 0);
  say(byId("progress-text"), percent === null ? "" : `${percent} %, ${count(progress.keys_per_second)} keys/s`);
}

function stations(status, over) {
  const names = status.stations ?? [];
  const at = over || status.station === "finished" ? names.length : names.indexOf(status.station);
  const items = names.map((name, index) => ({ name, place: index < at ? "done" : index === at ? "here" : "ahead" }));
  list(
    byId("stations"),
    items,
    () => make("li", {}, make("span", { class: "dot", "aria-hidden": "true" }), make("span", { class: "name" }), make("span", { class: "unseen" })),
    (node, { name, place }) => {
      put(node, "data-place", place);
      put(node, "aria-current", place === "here" ? "step" : null);
      say(node.children[1], name);
      say(node.children[2], place === "done" ? " (done)" : "");
    },
  );
}
