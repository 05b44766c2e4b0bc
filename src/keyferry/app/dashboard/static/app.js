// Wires the page: what comes from the server goes to the parts that show it.

import { Actions } from "./actions.js";
import { Charts } from "./charts.js";
import { byId, put, say } from "./dom.js";
import { glance } from "./glance.js";
import { listen, stateOf } from "./live.js";
import { Series, madeAt, rowOf } from "./series.js";
import { tables } from "./tables.js";
import { takeFromAddress } from "./token.js";
import { clock } from "./words.js";

const NARROW = "(max-width: 640px)";

takeFromAddress();
const series = new Series();
const charts = new Charts(series);
let actions = null;
let state = "connecting";

function head(status) {
  say(byId("name"), status.name || status.kind);
  say(byId("source"), status.source);
  say(byId("target"), status.target);
  put(document.body, "data-kind", status.kind);
}

function changed() {
  state = stateOf(seen, Date.now());
  glance(seen, state, Date.now());
  document.title = [titleOf(), seen.status?.name, "Keyferry"].filter(Boolean).join(" · ");
  charts.fresh = state === "live";
  say(byId("facts-title"), state === "live" || !seen.status ? "Now" : `Last look, ${clock(madeAt(seen.status))}`);
  actions?.show();
}

/** What is read in a row of tabs. */
function titleOf() {
  if (state !== "live") return state;
  return seen.status.glance?.health === "trouble" ? "Trouble" : seen.status.stage;
}

const seen = listen("/api/events", {
  status(status) {
    head(status);
    charts.mark(status.switches ?? []);
    const row = rowOf(status, madeAt(status));
    if (row) series.look(row);
    charts.draw();
    tables(status);
    changed();
  },
  history(samples) {
    series.add(samples);
    charts.draw();
  },
  changed: () => changed(),
});
actions = new Actions(seen, () => state);
changed();

if (matchMedia(NARROW).matches) {
  for (const part of document.querySelectorAll("details[data-folds]")) part.open = false;
}
