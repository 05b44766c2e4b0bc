// Which button makes sense now, and why another one does not. Pure; the migration itself decides once more.

const OVER = new Set(["finished"]);
const FOLLOWS = new Set(["following", "following back"]);

/** Why the action makes no sense now, as a sentence; empty when it does. */
export function against(action, status, state) {
  if (state === "ended") return "It is over.";
  if (state !== "live" && state !== "old") return "The migration cannot be reached now.";
  if (!status || status.kind !== "migrate") return "There is nothing to be asked.";
  if (OVER.has(status.stage)) return "The migration is over.";
  if (status.stage === "switching" && action !== "pause" && action !== "unpause" && action !== "throttle") {
    return "A switch is under way: wait until it is over.";
  }
  return RULES[action](status);
}

const nothingFollowed = (status) => (status.stage === "switched" ? "Nothing is followed any more." : "");

const RULES = {
  pause: (status) => (status.paused ? "It is paused already." : nothingFollowed(status)),
  unpause: (status) => (status.paused ? "" : "It is not paused."),
  throttle: nothingFollowed,
  verify: (status) => {
    if (status.paused) return "It is paused: unpause it first.";
    return FOLLOWS.has(status.stage) ? "" : `All keys can be compared while it follows; now it is ${status.stage}.`;
  },
  cutover: (status) => {
    if (status.authority !== "source") return "The target has authority already.";
    return ready(status, "cutover");
  },
  rollback: (status) => {
    if (status.authority !== "target") return "The source has authority: there is nothing to take back.";
    if (status.stage === "switched") return "This cutover was made without a way back.";
    return ready(status, "rollback");
  },
  finish: (status) => (status.authority === "target" ? "" : "Cut over first: until then there is nothing to finish."),
  abort: (status) =>
    status.authority === "source" ? "" : "The target has authority: take that back first, or finish.",
};

function ready(status, what) {
  if (status.ready) return "";
  const reason = status.not_ready?.[0] ?? `It is ${status.stage}.`;
  return `Not ready for a ${what}: ${reason}`;
}
