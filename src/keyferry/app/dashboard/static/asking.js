// One request to the migration, and its answer as the server gives it.

const LOST = 3; // as the exit status of a command that nobody answered

/**
 * Gives {status, exit_code, sentence, hint, facts, said}; never throws.
 *
 * status 0: no answer came. What was asked may have been done all the same, so the sentence says where to look.
 */
export async function ask(action, options, token) {
  let response;
  try {
    response = await fetch(`/api/actions/${action}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
      body: JSON.stringify(options),
      cache: "no-store",
      credentials: "omit",
    });
  } catch {
    return answer(0, {
      sentence: "The connection was lost before the answer came.",
      hint: "Look at the events below for what became of it, before you ask again.",
    });
  }
  let body;
  try {
    body = await response.json();
  } catch {
    body = {};
  }
  return answer(response.status, body);
}

function answer(status, body) {
  return {
    status,
    exit_code: Number.isInteger(body.exit_code) ? body.exit_code : status === 200 ? 0 : LOST,
    sentence: String(body.sentence ?? body.detail ?? `The server answered with status ${status}.`),
    hint: String(body.hint ?? ""),
    facts: body.facts ?? {},
    said: body.said ?? [],
  };
}
