// @ts-check
/**
 * Keep the archive's status current: one fetch, then pushes. While a view is open and no pushes come, it polls.
 *
 * The server pushes at least every 5 s. After 10 s without a status, pushed or fetched, `reachable` is false.
 */

/** @typedef {import("./types.d.ts").Status} Status */
/** @typedef {import("./types.d.ts").Translator} Translator */

/**
 * @typedef {object} Listener
 * @property {(status: Status) => void} status
 * @property {() => void} lost  called when the connection is lost
 * @property {() => void} restored
 *
 * @typedef {object} Transport
 * @property {(path: string, options?: RequestInit) => Promise<Response>} fetch  path starts with "/cloud-sync/"
 * @property {(on: Listener) => () => void} listen  returns a function that ends it
 * @property {(path: string) => string|null} url  the address for an <img>; null where requests need a header
 */

const QUIET_POLL_MS = 6_000;
const LOST_POLL_MS = 3_000;
const SILENCE_MS = 10_000;
const ANSWER_MS = 8_000;
const ACTION_MS = 60_000;
const MAX_SEARCH_CHARACTERS = 7_500; // ComfyUI refuses an address of more than 8,190 bytes

/** A request that failed. */
export class RequestFailed extends Error {
  /**
   * @param {string} message  the server's own reason; empty where it gave none
   * @param {number} status  of HTTP; 0 where the server could not be reached
   */
  constructor(message, status) {
    super(message);
    this.name = "RequestFailed";
    this.status = status;
  }
}

/**
 * Return why something failed, as a sentence for users.
 *
 * @param {unknown} error
 * @param {Translator} t
 */
export function reasonOf(error, t) {
  if (!(error instanceof RequestFailed)) return error instanceof Error ? error.message : String(error);
  return t.server(error.message) || (error.status ? t("error.status", { status: error.status }) : t("error.unreachable"));
}

/**
 * Return whether uploads wait because the store may be away.
 *
 * While a file can't be read, the state is "retrying" whenever nothing else waits: that says nothing about the store.
 *
 * @param {Status} status
 */
export function storeMayBeAway({ state, waiting }) {
  return state === "retrying" && !waiting?.some((file) => file.reason === "unreadable");
}

/**
 * Parse an answer's JSON; null where it is none, such as a proxy's error page.
 *
 * A seed that is too large for a JavaScript number becomes text.
 *
 * @param {string} text
 */
function parseJson(text) {
  try {
    return text ? JSON.parse(text.replace(/"seed":\s*(\d{16,})/g, seedText)) : null;
  } catch {
    return null;
  }
}

/**
 * @param {string} pair
 * @param {string} seed
 */
const seedText = (pair, seed) => (Number.isSafeInteger(Number(seed)) ? pair : `"seed": "${seed}"`);

/**
 * @param {number} status  of HTTP
 * @param {string} text  the answer's body
 */
function failureOf(status, text) {
  const answer = parseJson(text);
  const reason = answer?.message ?? answer?.error;
  return new RequestFailed(typeof reason === "string" ? reason : "", status);
}

/**
 * @template T
 * @param {Promise<T>} answer
 * @throws {RequestFailed} the server can't be reached, or did not answer in time.
 * @throws {DOMException} the request was aborted.
 */
async function received(answer) {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new RequestFailed("", 0);
  }
}

export class StatusClient extends EventTarget {
  #transport;
  /** @type {Status|null} */
  #status = null;
  #reachable = true;
  /** @type {(() => void)|null} */
  #stopListening = null;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #silence;
  #asking = false;
  #watchers = 0;
  #heard = 0;

  /** @param {Transport} transport */
  constructor(transport) {
    super();
    this.#transport = transport;
  }

  /** The newest status; null before the first. */
  get status() {
    return this.#status;
  }

  /** False while the server does not answer, or has sent nothing for 10 s. */
  get reachable() {
    return this.#reachable;
  }

  /** Listen for pushes and fetch the first status. A second call does nothing. */
  start() {
    if (this.#stopListening) return;
    this.#stopListening = this.#transport.listen({
      status: (status) => this.#take(status),
      lost: () => this.#markUnreachable(),
      restored: () => this.refresh(),
    });
    this.#restartSilence();
    this.refresh();
  }

  stop() {
    this.#stopListening?.();
    this.#stopListening = null;
    this.#watchers = 0;
    clearTimeout(this.#silence);
    this.#schedule();
  }

  /** Fetch now, and poll while no pushes come. Returns a function that ends this. */
  watch() {
    this.#watchers += 1;
    this.refresh();
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#watchers = Math.max(0, this.#watchers - 1);
      this.#schedule();
    };
  }

  /** Fetch the status, unless a fetch is under way. An answer that a push has overtaken is dropped while the server is reachable. */
  async refresh() {
    if (this.#asking) return;
    this.#asking = true;
    const heard = this.#heard;
    try {
      // A server that hangs takes the connection and never answers.
      const status = await this.get("/cloud-sync/status", { signal: AbortSignal.timeout(ANSWER_MS) });
      if (heard === this.#heard || !this.#reachable) this.#take(status);
    } catch {
      if (heard === this.#heard) this.#markUnreachable();
    } finally {
      this.#asking = false;
    }
  }

  /**
   * GET a path and return the answer's JSON. A search that is too long for a URL is sent by POST.
   *
   * @param {string} path
   * @param {{signal?: AbortSignal, [name: string]: unknown}} [options]  the rest is the query
   * @returns {Promise<any>}
   * @throws {RequestFailed} the server refused, can't be reached, or sent no JSON.
   * @throws {DOMException} the request was aborted.
   */
  async get(path, { signal, ...query } = {}) {
    const pairs = Object.entries(query)
      .filter(([, value]) => value !== "" && value != null)
      .map(([name, value]) => [name, String(value)]);
    const search = pairs.length ? `?${new URLSearchParams(pairs)}` : "";
    if (search.length > MAX_SEARCH_CHARACTERS) return this.post(path, Object.fromEntries(pairs), "POST", signal);
    return this.#request(path + search, { signal, cache: "no-store" });
  }

  /**
   * Return the address that an element can load a file from; null: fetch it with `blob`.
   *
   * @param {string} path
   */
  url(path) {
    return this.#transport.url(path);
  }

  /**
   * @param {string} path
   * @param {AbortSignal} [signal]
   * @throws {RequestFailed} the server refused or can't be reached.
   * @throws {DOMException} the request was aborted.
   */
  async blob(path, signal) {
    const response = await received(this.#transport.fetch(path, { signal, cache: "no-store" }));
    if (response.ok) return received(response.blob());
    throw failureOf(response.status, await received(response.text()));
  }

  /**
   * Call an action and return the answer's JSON; a status in the answer becomes the current one.
   *
   * @param {string} path
   * @param {object} [body]
   * @param {"POST"|"PATCH"} [method]
   * @param {AbortSignal} [signal]  aborts the request; default: a timeout of 60 s
   * @returns {Promise<any>}
   * @throws {RequestFailed} the server refused, can't be reached, or sent no JSON.
   * @throws {DOMException} the request was aborted.
   */
  async post(path, body, method = "POST", signal = AbortSignal.timeout(ACTION_MS)) {
    /** @type {RequestInit} */
    const options = { method, signal };
    if (body !== undefined) {
      options.headers = { "Content-Type": "application/json" };
      options.body = JSON.stringify(body);
    }
    const answer = await this.#request(path, options);
    if (answer?.status && typeof answer.status === "object") this.#take(answer.status);
    if (answer?.success === false) throw new RequestFailed(answer.message ?? "", 200);
    return answer;
  }

  /**
   * @param {string} path
   * @param {RequestInit} options
   */
  async #request(path, options) {
    const response = await received(this.#transport.fetch(path, options));
    const text = await received(response.text());
    const answer = parseJson(text);
    if (response.ok && answer !== null) return answer;
    throw failureOf(response.status, text);
  }

  /** @param {Status} status */
  #take(status) {
    if (!status || typeof status !== "object") return;
    this.#heard += 1;
    this.#status = status;
    this.#reachable = true;
    this.#restartSilence();
    this.#schedule();
    this.dispatchEvent(new Event("change"));
  }

  #markUnreachable() {
    const changed = this.#reachable;
    this.#reachable = false;
    this.#schedule();
    if (changed) this.dispatchEvent(new Event("change"));
  }

  #restartSilence() {
    clearTimeout(this.#silence);
    if (this.#stopListening) this.#silence = setTimeout(() => this.#markUnreachable(), SILENCE_MS);
  }

  #schedule() {
    clearTimeout(this.#timer);
    if (!this.#watchers) return;
    const wait = this.#reachable ? QUIET_POLL_MS : LOST_POLL_MS;
    this.#timer = setTimeout(() => this.refresh(), wait);
  }
}
