// Everything below the charts: who writes, switches, verification, keys, failures, shards, what happened.

import { byId, list, make, put, say, show, table } from "./dom.js";
import { madeAt } from "./series.js";
import { clock, count, counted, duration, latency, moment, size } from "./words.js";

/** Nobody looks at the writers then: how long one has been silent is not known. */
const WAITING = "waiting for a server";
const SILENT_LEASES = 1.5; // as `keyferry status` judges it: renewals come three times per lease
const GUARD = { off: "off", free: "on, full speed", slowed: "on, slowed by latency", limited: "held to your limit" };

export function tables(status) {
  numbers(status);
  readiness(status);
  writers(status);
  switches(status);
  verification(status);
  keys(status);
  failures(status);
  shards(status);
  happened(status);
}

function numbers(status) {
  const now = status.progress ?? {};
  const limits = status.limits ?? {};
  const facts = {
    keys: now.keys_total ? `${count(now.keys_done)} of ${count(now.keys_total)}` : "–",
    settled: count(now.settled_keys),
    wait: now.cutover_s === null || now.cutover_s === undefined ? "not known yet" : moment(now.cutover_s),
    failed: count(now.failed),
    foreign: count(now.foreign_keys),
    latency: `source ${latency(now.source_latency_ms)}, target ${latency(now.target_latency_ms)}`,
    guard: GUARD[now.throttle] ?? "–",
    limits: [
      limits.max_rate ? `${count(limits.max_rate)} keys/s` : "no rate limit",
      limits.max_latency_ms ? `${latency(limits.max_latency_ms)} later than at rest` : "latency guard off",
    ].join(", "),
    feed: now.feed ? `${now.feed}, generation ${now.generation}` : "–",
    authority: status.authority,
    phase: status.phase ? `${status.phase}, epoch ${status.epoch}` : "–",
    stage: [status.stage, status.step && `(${status.step})`, status.paused && "paused"].filter(Boolean).join(" "),
    elapsed: duration(status.elapsed_seconds),
    process: `pid ${status.pid}, Keyferry ${status.version}`,
  };
  for (const [name, words] of Object.entries(facts)) say(byId(`fact-${name}`), words);
  put(byId("fact-failed"), "data-mark", now.failed ? "trouble" : null);
  put(byId("fact-foreign"), "data-mark", now.foreign_keys ? "attention" : null);
  put(byId("fact-guard"), "data-mark", now.throttle === "slowed" ? "attention" : null);
}

function readiness(status) {
  const to = status.authority === "target" ? "rollback" : "cutover";
  const under = status.stage === "switching";
  summary("readiness", under ? "under way" : status.ready ? `ready for a ${to}` : `not ready for a ${to}`, status.ready && !under ? "good" : null);
  list(byId("not-ready"), under || status.ready ? [] : (status.not_ready ?? []), () => make("li"), say);
  show(byId("not-ready-none"), under || status.ready);
}

/** What somebody has to look at, of one writer; empty when there is nothing. */
export function troubleOf(writer, { epoch, stage }, nowMs) {
  const found = [];
  if (stage !== WAITING && writer.seen_ms && nowMs - writer.seen_ms > writer.lease_ms * SILENT_LEASES) {
    found.push(`silent for ${duration((nowMs - writer.seen_ms) / 1000)}`);
  }
  if (writer.epoch < epoch) found.push(`has not taken epoch ${epoch} yet, is at ${writer.epoch}`);
  if (writer.note) found.push(writer.note);
  return found.join("; ");
}

function writers(status) {
  const nowMs = madeAt(status);
  const judged = (status.writers ?? []).map((writer) => ({ writer, trouble: troubleOf(writer, status, nowMs) }));
  judged.sort((one, other) => Number(Boolean(other.trouble)) - Number(Boolean(one.trouble)) || order(one.writer, other.writer));
  const looked = judged.filter((one) => one.trouble).length;
  summary("writers", looked ? `${counted(judged.length, "writer")}, ${looked} to look at` : count(judged.length), looked ? "attention" : null);
  show(byId("writers-none"), judged.length === 0);
  table(byId("writers"), judged, [
    { label: "program", text: ({ writer }) => writer.program },
    { label: "where", text: ({ writer }) => `pid ${writer.pid} on ${writer.host}` },
    { label: "phase", text: ({ writer }) => writer.phase || "none taken yet" },
    { label: "state", text: ({ trouble }) => trouble || (status.stage === WAITING ? "not looked at now" : "follows"), mark: ({ trouble }) => trouble && "attention" },
  ]);
}

function order(one, other) {
  return `${one.program} ${one.host}`.localeCompare(`${other.program} ${other.host}`) || one.pid - other.pid;
}

function switches(status) {
  const all = [...(status.switches ?? [])].reverse();
  summary("switches", count(all.length));
  show(byId("switches-none"), all.length === 0);
  table(byId("switches"), all, [
    { label: "when", text: (one) => clock(one.at_ms) },
    { label: "switch", text: (one) => one.direction },
    { label: "end", text: (one) => one.outcome, mark: (one) => MARKS[one.outcome] },
    { label: "writes waited", text: (one) => latency(one.gate_ms), number: true },
    { label: "gate", text: (one) => one.gate || "–" },
    { label: "compared", text: (one) => counted(one.compared, "key"), number: true },
    { label: "more", text: moreOf, mark: (one) => one.hook_failed && "trouble" },
  ]);
}

const MARKS = { done: "good", undone: "attention", "put off": "attention", unknown: "trouble" };

function moreOf(one) {
  if (one.outcome !== "done") return one.reason;
  return [one.hook, one.barred].filter(Boolean).join(" ");
}

function verification(status) {
  const last = status.verification;
  const differs = Boolean(last?.differences);
  const verdict = !last ? "not yet" : differs ? `${count(last.differences)} differ` : "equal";
  summary("verification", verdict, differs ? "trouble" : null);
  const ago = last ? duration(Math.max(0, madeAt(status) - last.at_ms) / 1000) : "";
  let said = "All keys of both servers are compared after the copy, and now and then while it follows.";
  if (last) {
    said = differs
      ? `${count(last.differences)} of ${counted(last.compared, "key")} differed, ${ago} ago.`
      : `All ${counted(last.compared, "key")} were equal, ${ago} ago.`;
    if (status.touched) said += ` ${counted(status.touched, "key")} changed since: compared again before a switch.`;
  }
  say(byId("verification"), said);
  say(byId("barred"), status.barred ?? "");
}

const KEY = { label: "key", text: (one) => one.key };
const DATABASE = { label: "database", text: (one) => String(one.database), number: true };

function keys(status) {
  const { hottest = [], biggest = [] } = status.progress ?? {};
  summary("keys", hottest.length + biggest.length ? `${hottest.length} hot, ${biggest.length} big` : "none known");
  show(byId("hottest-none"), hottest.length === 0);
  show(byId("biggest-none"), biggest.length === 0);
  show(byId("keys-hidden"), !status.show_keys && hottest.length + biggest.length > 0);
  table(byId("hottest"), hottest, [
    KEY,
    DATABASE,
    { label: "carried", text: (one) => `${one.per_second.toFixed(1)}/s`, number: true },
    { label: "size", text: (one) => (one.size_bytes ? size(one.size_bytes) : "–"), number: true },
    { label: "at most every", text: (one) => (one.pause_s ? moment(one.pause_s) : "–"), number: true },
  ]);
  table(byId("biggest"), biggest, [
    KEY,
    DATABASE,
    { label: "type", text: (one) => one.type || "–" },
    { label: "size", text: (one) => (one.size_bytes ? size(one.size_bytes) : "–"), number: true },
    { label: "members", text: (one) => count(one.members), number: true },
  ]);
}

function failures(status) {
  const { count: total = 0, last = [] } = status.failures ?? {};
  summary("failures", count(total), total ? "trouble" : null);
  show(byId("failures-none"), total === 0);
  table(byId("failures"), last, [KEY, DATABASE, { label: "reason", text: (one) => one.reason }]);
}

function shards(status) {
  const looks = status.progress?.shard_looks ?? [];
  const all = status.progress?.shards ?? 0;
  // Of a single server everything stands above already.
  show(byId("shards-part"), looks.length > 1);
  summary("shards", looks.length < all ? `${count(looks.length)} of ${counted(all, "shard")}` : counted(all, "shard"));
  table(byId("shards"), looks, [
    { label: "shard", text: (one) => one.shard },
    { label: "keys", text: (one) => count(one.keys_total), number: true },
    { label: "dirty", text: (one) => count(one.dirty_keys), number: true },
    { label: "latency", text: (one) => latency(one.latency_ms), number: true },
    { label: "feed", text: (one) => one.feed || "–" },
  ]);
}

function happened(status) {
  const warnings = status.warnings ?? [];
  summary("warnings", count(warnings.length), warnings.length ? "attention" : null);
  show(byId("warnings-part"), warnings.length > 0);
  list(byId("warnings"), [...warnings].reverse(), () => make("li"), say);
  const events = [...(status.events ?? [])].reverse();
  show(byId("events-none"), events.length === 0);
  list(
    byId("events"),
    events,
    () => make("li", {}, make("time"), make("span")),
    (node, { at_ms: atMs, text }) => {
      say(node.firstElementChild, clock(atMs));
      say(node.lastElementChild, text);
    },
  );
}

function summary(name, words, mark = null) {
  const node = byId(`${name}-sum`);
  say(node, words);
  put(node, "data-mark", mark);
}
