// The token that lets this page act. It comes in the fragment of the address, which never leaves the browser, or is
// typed; it is kept for this tab, and goes nowhere but into the header of what the buttons ask.

const NAME = "keyferry-token";
let kept = "";

export function token() {
  return kept;
}

export function keep(value) {
  kept = value.trim();
  try {
    if (kept) sessionStorage.setItem(NAME, kept);
    else sessionStorage.removeItem(NAME);
  } catch {
    // A browser that keeps nothing: it is known until the page goes.
  }
}

/** Takes it out of the address bar, where a shoulder or a screenshot would find it. */
export function takeFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    history.replaceState(null, "", location.pathname + location.search);
    keep(given);
    return;
  }
  try {
    kept = sessionStorage.getItem(NAME) ?? "";
  } catch {
    kept = "";
  }
}
