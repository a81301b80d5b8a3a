// @ts-check
/**
 * Two pages: the daemon's own, and the library that "Open in a new tab" opens from ComfyUI.
 *
 * ComfyUI imports every script in this folder; on a page that is neither of the two, this one does nothing.
 */

import { defineApp } from "./archive_app.js";
import { PageHistory, stored } from "./page_history.js";
import { el } from "./panel/dom.js";
import { StatusClient } from "./status_client.js";
import { translator } from "./strings.js";

/** @typedef {import("./archive_app.js").ArchiveApp} ArchiveApp */
/** @typedef {import("./types.d.ts").Status} Status */

const EVENT = "cloud-sync.status";
const RECONNECT_MS = 3_000;
const TOKEN_KEY = "cloud-archive.token";

// library.html is served below ComfyUI's extensions, so it says where the routes begin.
const BASE = new URL(document.documentElement.dataset.base ?? ".", document.baseURI).href;
const IS_LIBRARY = "base" in document.documentElement.dataset;

/**
 * Read the status objects of a stream of server-sent events. An EventSource can't send the token.
 *
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<Status>}
 */
async function* statuses(body) {
  const decoder = /** @type {TransformStream<Uint8Array, string>} */ (/** @type {unknown} */ (new TextDecoderStream()));
  const reader = body.pipeThrough(decoder).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop() ?? "";
    for (const lines of events.map((event) => event.split("\n"))) {
      if (!lines.includes(`event: ${EVENT}`)) continue;
      yield JSON.parse(lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n"));
    }
  }
}

/** Return a header's form of a text: one character for each byte in UTF-8. @param {string} text */
const utf8 = (text) => String.fromCharCode(...new TextEncoder().encode(text));

/**
 * @param {string} base  the address below which the server has its routes
 * @param {string} token  goes with every request; empty: there is none
 * @param {() => void} denied  called when the server asks for another token
 * @returns {import("./status_client.js").Transport}
 */
function serverTransport(base, token, denied) {
  /**
   * @param {string} path
   * @param {RequestInit} [options]
   */
  const send = async (path, options = {}) => {
    const headers = new Headers(options.headers);
    if (token) headers.set("Authorization", `Bearer ${utf8(token)}`);
    const answer = await fetch(new URL(path.replace(/^\//, ""), base), { ...options, headers });
    if (answer.status === 401) denied();
    return answer;
  };
  return {
    fetch: send,
    url: (path) => (token ? null : new URL(path.replace(/^\//, ""), base).href),
    listen(on) {
      let stream = new AbortController();
      let ended = false;
      /** @type {ReturnType<typeof setTimeout>|undefined} */
      let timer;
      let lost = false;
      const connect = async () => {
        clearTimeout(timer);
        stream.abort();
        if (ended || document.hidden) return;
        const mine = (stream = new AbortController());
        try {
          const answer = await send("/cloud-sync/events", { signal: mine.signal, cache: "no-store" });
          if (!answer.ok || !answer.body) throw new Error(`${answer.status}`);
          if (lost) on.restored();
          lost = false;
          for await (const status of statuses(answer.body)) on.status(status);
        } catch {
          // Tried again below.
        }
        if (mine.signal.aborted) return;
        lost = true;
        on.lost();
        timer = setTimeout(connect, RECONNECT_MS);
      };
      // A tab in the background has no stream: a browser opens six connections to a server, for all its tabs together.
      document.addEventListener("visibilitychange", connect);
      connect();
      return () => {
        ended = true;
        document.removeEventListener("visibilitychange", connect);
        connect();
      };
    },
  };
}

/** @type {StatusClient|null} */
let client = null;
/** @type {ArchiveApp|null} the newest */
let shown = null;
/** @type {PageHistory|null} */
let pageHistory = null;
let tabToken = ""; // empty: none is known

/** Keep the token until the tab is closed; in a browser that keeps nothing, until a reload. @param {string} given */
function keepToken(given) {
  tabToken = given;
  try {
    sessionStorage.setItem(TOKEN_KEY, given);
  } catch {
    // Storage is blocked.
  }
}

function readToken() {
  try {
    tabToken = sessionStorage.getItem(TOKEN_KEY) ?? "";
  } catch {
    // Storage is blocked.
  }
}

/**
 * @param {HTMLElement} place
 * @param {boolean} wrong  whether a token was refused
 */
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
    keepToken(input.value.trim());
    show(place);
  });
  place.before(header());
  place.replaceChildren(form);
  input.focus();
}

/** Return the page's address with the view and the query, so that a reload or a bookmark shows the same. */
function address() {
  if (!shown) return location.href;
  const query = shown.view === "library" && shown.query ? `&${new URLSearchParams({ q: shown.query })}` : "";
  return `${location.pathname}?${shown.view}${query}`;
}

/** The product's name. It stands beside the switch of the app, or above the form that asks for the token. */
const header = () => /** @type {HTMLElement} */ (document.querySelector("header"));

/** @param {HTMLElement} place */
function show(place) {
  const token = tabToken;
  const mine = new StatusClient(
    serverTransport(BASE, token, () => {
      if (client !== mine) return; // several requests were denied, and the first one has asked for a token already
      client = null;
      mine.stop();
      keepToken("");
      askForToken(place, token !== "");
    }),
  );
  client = mine;
  const app = (shown = /** @type {ArchiveApp} */ (document.createElement("cloud-archive-app")));
  app.locale = navigator.language;
  app.client = mine;
  const asked = new URLSearchParams(location.search);
  app.query = asked.get("q") ?? "";
  const isLibrary = IS_LIBRARY || asked.has("library") || asked.has("q");
  app.view = isLibrary && !asked.has("status") ? "library" : "status";
  app.place = stored().place;
  app.history = pageHistory;
  app.addEventListener("viewchange", () => pageHistory?.write());
  app.addEventListener("placechange", () => pageHistory?.changed());
  app.append(header());
  place.replaceChildren(app);
  mine.start();
}

const place = document.getElementById("cloud-archive-dashboard");
if (place) {
  defineApp();
  document.documentElement.lang = translator(navigator.language).locale;
  readToken();
  pageHistory = new PageHistory(address, () => shown?.place ?? null);
  pageHistory.addEventListener("reopen", () => shown && (shown.view = "library"));
  show(place);
  // A page that the browser keeps for "back" must not hold its stream.
  addEventListener("pagehide", () => client?.stop());
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
}
