// The commands behind the buttons, in words: what each does, what it can be told, and whether it looks first.

const GATE = {
  name: "gate", label: "What makes writes wait", kind: "choice",
  choices: [["", "as migrate was told"], ["writers", "writers"], ["pause", "pause"], ["both", "both"], ["none", "none: I stopped all writers"]],
};
const TIMEOUT = { name: "timeout_s", label: "Longest wait, in seconds", kind: "number", hint: "as migrate was told" };
const PHASE = {
  name: "phase", label: "Phase that begins", kind: "choice",
  choices: [["", "what the clients allow"], ["target-dual", "target-dual: both are written"], ["target", "target: only the target"]],
};
const ONE_WAY = { name: "no_rollback", label: "Without a way back", kind: "flag" };

export const COMMANDS = {
  cutover: {
    title: "Cutover to the target", go: "Cutover now", looks: true, options: [GATE, TIMEOUT, PHASE, ONE_WAY],
    text: "Gives authority to the target. Writes wait for some milliseconds. What is late or wrong before the switch is made is undone.",
  },
  rollback: {
    title: "Rollback to the source", go: "Rollback now", looks: true, options: [GATE, TIMEOUT],
    text: "Gives authority back to the source, with everything that was written to the target since. Writes wait for some milliseconds.",
  },
  finish: {
    title: "Finish the migration", go: "Finish for good", looks: true, final: true, options: [],
    text: "Ends the migration: nothing is carried back any more. Afterwards there is no rollback.",
  },
  abort: {
    title: "Abort the migration", go: "Abort for good", looks: true, final: true, options: [],
    text: "Gives the migration up: the source stays what it is, the target keeps what was carried.",
  },
  verify: {
    title: "Compare all keys", go: "Compare now", looks: false, options: [],
    text: "Compares all keys of both servers while everything goes on, and settles what differs. It costs both servers some reads.",
  },
  pause: {
    title: "Pause", go: "Pause now", looks: false, options: [],
    text: "Stops everything that the migration reads or writes of the keys. What changes meanwhile is remembered; the service does not notice.",
  },
  unpause: {
    title: "Unpause", go: "Unpause now", looks: false, options: [],
    text: "Goes on after a pause.",
  },
  throttle: {
    title: "Throttle: change how fast it works", go: "Set", looks: false,
    options: [
      { name: "max_rate", label: "Keys per second at most (0: no limit)", kind: "number", hint: "as it is" },
      { name: "max_latency_ms", label: "Slow down when a server answers this much later than at rest, in ms (0: off)", kind: "number", hint: "as it is" },
    ],
    text: "At once; forgotten when the migration is started again.",
  },
};

/** What is sent: only what was filled in. `values`: text or true by name. */
export function optionsOf(command, values) {
  const options = {};
  for (const { name, kind } of command.options) {
    const value = values[name];
    if (kind === "flag") {
      if (value) options.rollback = false;
    } else if (value !== undefined && value !== "") {
      options[name] = kind === "number" ? Number(value) : value;
    }
  }
  return options;
}
