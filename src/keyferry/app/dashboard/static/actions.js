// The buttons and their dialog. What cannot be taken back looks first: the migration says what would be done, and only
// then it can be confirmed. While it runs the sentences are shown as they come.

import { ask } from "./asking.js";
import { COMMANDS, optionsOf } from "./commands.js";
import { byId, list, make, put, say, show } from "./dom.js";
import { against } from "./possible.js";
import { keep, token } from "./token.js";

const LOOK_AGAIN_MS = 400;
const NOT_HERE = new Set(["Give it again with --yes.", "Look with: keyferry status."]);

export class Actions {
  constructor(seen, state) {
    this._seen = seen;
    this._state = state;
    this._open = null; // the name of the command in the dialog
    this._asked = 0; // counts what was asked: an older answer is not shown
    this._running = "";
    this._before = new Set();
    this._dialog = byId("confirm");
    for (const button of this._buttons()) button.addEventListener("click", () => this._press(button.dataset.action));
    byId("confirm-go").addEventListener("click", () => this._go());
    byId("confirm-close").addEventListener("click", () => this._dialog.close());
    this._dialog.addEventListener("close", () => (this._open = null));
    byId("token-form").addEventListener("submit", (event) => this._typed(event));
    this.show();
  }

  /** After every look, and whenever the connection is another one. */
  show() {
    const { status } = this._seen;
    const state = this._state();
    const paused = Boolean(status?.paused);
    for (const button of this._buttons()) {
      const action = button.dataset.action;
      if (action === "pause") show(button, !paused);
      if (action === "unpause") show(button, paused);
      put(button, "aria-disabled", this._against(action) ? "true" : null);
      put(button, "title", this._against(action) || null);
      put(button, "data-next", state === "live" && status?.glance?.command === action ? "true" : null);
    }
    show(byId("token-form"), !token());
    if (this._open) this._progress();
  }

  _buttons() {
    return byId("actions").querySelectorAll("button[data-action]");
  }

  _against(action) {
    const reason = against(action, this._seen.status, this._state());
    if (reason) return reason;
    if (this._running) return "Something that was asked for is being done.";
    return token() ? "" : "To act, enter the token first. It stands in the terminal of keyferry.";
  }

  _typed(event) {
    event.preventDefault();
    keep(byId("token").value);
    byId("token").value = "";
    this._say("");
    this.show();
  }

  _say(text, outcome = "") {
    say(byId("said"), text);
    put(byId("said"), "data-outcome", outcome || null);
  }

  _press(action) {
    const reason = this._against(action);
    if (reason) {
      this._say(reason, "no");
      if (!token()) byId("token").focus();
      return;
    }
    this._say("");
    const command = COMMANDS[action];
    this._open = action;
    say(byId("confirm-title"), command.title);
    say(byId("confirm-text"), command.text);
    say(byId("confirm-go"), command.go);
    put(byId("confirm-go"), "data-final", command.final ? "true" : null);
    this._fields(command, action);
    this._show({ sentence: command.looks ? "Asking the migration …" : "" });
    say(byId("confirm-close"), "Cancel");
    this._dialog.showModal();
    byId("confirm-close").focus();
    if (command.looks) this._look();
    else this._ready(true);
  }

  _fields(command, action) {
    const limits = this._seen.status?.limits ?? {};
    byId("confirm-fields").replaceChildren(
      ...command.options.map((option) => {
        const known = action === "throttle" ? limits[option.name] ?? "" : "";
        const field = make("label", {}, make("span", {}, option.label), inputOf(option, known));
        if (command.looks) field.addEventListener("input", () => this._lookSoon());
        return field;
      }),
    );
    const options = byId("confirm-options");
    show(options, command.options.length > 0);
    options.open = !command.looks;
  }

  _values() {
    const values = {};
    for (const input of byId("confirm-fields").querySelectorAll("input, select")) {
      values[input.name] = input.type === "checkbox" ? input.checked : input.value;
    }
    return values;
  }

  _lookSoon() {
    this._ready(false);
    clearTimeout(this._later);
    this._later = setTimeout(() => this._open && !this._running && this._look(), LOOK_AGAIN_MS);
  }

  async _look() {
    const action = this._open;
    const asked = (this._asked += 1);
    const answer = await ask(action, { ...optionsOf(COMMANDS[action], this._values()), yes: false }, token());
    if (asked !== this._asked || this._open !== action) return;
    this._refused(answer);
    this._show(answer);
    this._ready(answer.exit_code === 0);
  }

  async _go() {
    const action = this._open;
    if (!action || this._running || byId("confirm-go").disabled) return;
    const command = COMMANDS[action];
    const options = optionsOf(command, this._values());
    if (command.looks) options.yes = true;
    this._asked += 1;
    this._running = action;
    this._before = new Set((this._seen.status?.events ?? []).map(keyOf));
    this._ready(false);
    if (command.looks) byId("confirm-options").open = false;
    for (const input of byId("confirm-fields").querySelectorAll("input, select")) input.disabled = true;
    this._show({ sentence: "Asked. What has begun goes on, also when this is closed." });
    say(byId("confirm-close"), "Close");
    byId("confirm-close").focus();
    this.show();
    const answer = await ask(action, options, token());
    this._running = "";
    this._refused(answer);
    const outcome = answer.exit_code === 0 ? "ok" : answer.exit_code === 1 ? "attention" : "no";
    this._say(`${command.title}: ${[answer.sentence, hintOf(answer)].filter(Boolean).join(" ")}`, outcome);
    if (this._open === action) this._show({ ...answer, outcome });
    this.show();
  }

  /** A token that counts no longer: after a restart there is a new one. */
  _refused(answer) {
    if (answer.status !== 401) return;
    keep("");
    this.show();
  }

  _ready(ready) {
    byId("confirm-go").disabled = !ready;
  }

  _show(answer) {
    const waits = !answer.outcome && answer.exit_code === undefined;
    put(this._dialog, "data-outcome", answer.outcome ?? (waits ? null : answer.exit_code === 0 ? "ok" : "no"));
    put(this._dialog, "data-running", this._running ? "true" : null);
    say(byId("confirm-sentence"), answer.sentence ?? "");
    say(byId("confirm-hint"), answer.hint ? hintOf(answer) : "");
    const lines = answer.facts?.lines ?? [];
    list(byId("confirm-lines"), lines.length ? lines : (answer.said ?? []), () => make("li"), (node, line) => say(node, textOf(line)));
  }

  /** Sentences that came since it was confirmed, and the step. */
  _progress() {
    if (this._running !== this._open) return;
    const { events = [], step = "" } = this._seen.status ?? {};
    const came = events.filter((event) => !this._before.has(keyOf(event))).map((event) => event.text);
    if (step) came.push(`Now: ${step} …`);
    list(byId("confirm-lines"), came, () => make("li"), say);
  }
}

function hintOf(answer) {
  return NOT_HERE.has(answer.hint) ? "" : answer.hint;
}

function keyOf(event) {
  return `${event.at_ms} ${event.text}`;
}

function textOf(line) {
  return typeof line === "string" ? line : String(line.sentence ?? line.said ?? "");
}

function inputOf({ name, kind, choices = [], hint = "" }, known) {
  if (kind === "choice") {
    return make("select", { name }, ...choices.map(([value, label]) => make("option", { value }, label)));
  }
  if (kind === "flag") return make("input", { name, type: "checkbox" });
  const input = make("input", { name, type: "number", min: "0", step: "any", inputmode: "decimal", placeholder: hint });
  input.value = known;
  return input;
}
