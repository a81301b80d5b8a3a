/**
 * The daemon's own page: the panel, fed by server-sent events.
 *
 * Where the daemon asks for a token, so does the page; it keeps the token for this tab alone.
 * ComfyUI imports every script in this folder; this one does nothing on a page that is not the daemon's.
 */

import { definePanel } from "./archive_panel.js";
import { el } from "./panel/dom.js";
import { StatusClient } from "./status_client.js";
import { translator } from "./strings.js";

const EVENT = "cloud-sync.status";
const AGAIN_MS = 3_000;
const KEPT = "cloud-archive.token";

/** The status objects in a stream of server-sent events, which `fetch` reads because an EventSource sends no token. */
async function* statuses(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const lines of events.map((event) => event.split("\n"))) {
      if (!lines.includes(`event: ${EVENT}`)) continue;
      yield JSON.parse(lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n"));
    }
  }
}

/**
 * Fetch and listen on the origin that served this page.
 *
 * @param {string|null} token  goes with every request
 * @param {() => void} denied  called when the server asks for another token
 */
function serverTransport(base, token, denied) {
  const send = async (path, options = {}) => {
    const headers = token ? { ...options.headers, Authorization: `Bearer ${token}` } : options.headers;
    const answer = await fetch(new URL(path.replace(/^\//, ""), base), { ...options, headers });
    if (answer.status === 401) denied();
    return answer;
  };
  return {
    fetch: send,
    listen(on) {
      const ended = new AbortController();
      let timer = null;
      let lost = false;
      const connect = async () => {
        try {
          const answer = await send("/cloud-sync/events", { signal: ended.signal, cache: "no-store" });
          if (!answer.ok) throw new Error(`${answer.status}`);
          if (lost) on.restored();
          lost = false;
          for await (const status of statuses(answer.body)) on.status(status);
        } catch {
          // Broken or refused: both are tried again below.
        }
        if (ended.signal.aborted) return;
        lost = true;
        on.lost();
        timer = setTimeout(connect, AGAIN_MS);
      };
      connect();
      return () => {
        clearTimeout(timer);
        ended.abort();
      };
    },
  };
}

let client = null;

/** Ask for the token in place of the panel. */
function askForToken(place, wrong) {
  const t = translator(navigator.language);
  const input = el("input", { id: "token", type: "password", autocomplete: "current-password", required: true });
  const form = el(
    "form",
    { class: "token" },
    el("label", { for: "token", text: t("token.label") }),
    input,
    el("button", { text: t("token.open") }),
    wrong ? el("p", { role: "alert", text: t("token.wrong") }) : null,
    el("p", { text: t("token.hint") }),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEPT, input.value.trim());
    show(place);
  });
  place.replaceChildren(form);
  input.focus();
}

/** Show the panel. */
function show(place) {
  const token = sessionStorage.getItem(KEPT);
  const mine = new StatusClient(
    serverTransport(document.baseURI, token, () => {
      if (client !== mine) return; // several requests were denied: the first has asked
      client = null;
      mine.stop();
      sessionStorage.removeItem(KEPT);
      askForToken(place, token !== null);
    }),
  );
  client = mine;
  const panel = document.createElement("cloud-archive-panel");
  panel.locale = navigator.language;
  panel.client = mine;
  place.replaceChildren(panel);
  mine.start();
}

const place = document.getElementById("cloud-archive-dashboard");
if (place) {
  definePanel();
  document.documentElement.lang = navigator.language;
  show(place);
  // A page that the browser keeps for "back" must not hold its stream.
  addEventListener("pagehide", () => client?.stop());
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
}
