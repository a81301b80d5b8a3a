// @ts-check
/**
 * The archive's status, kept current: one fetch, then pushes; a poll only where pushes stay away.
 *
 * The server pushes at least every 5 s. After 10 s without a push the state of the archive is unknown: `reachable` is
 * false then, whatever the last status said.
 *
 * It knows neither ComfyUI nor the daemon's page: a transport does. Harmless when loaded alone.
 */

/** @typedef {import("./types.d.ts").Status} Status */
/** @typedef {import("./types.d.ts").Translator} Translator */

/**
 * @typedef {object} Listener
 * @property {(status: Status) => void} status  called with each pushed status
 * @property {() => void} lost  called when the connection is lost
 * @property {() => void} restored  called when the connection is back
 *
 * @typedef {object} Transport
 * @property {(path: string, options?: RequestInit) => Promise<Response>} fetch  path starts with "/cloud-sync/"
 * @property {(on: Listener) => () => void} listen  starts listening and returns what ends it
 * @property {(path: string) => string|null} url  the address for an <img>; null where requests need a header
 */

const QUIET_POLL_MS = 6_000;
const LOST_POLL_MS = 3_000;
const SILENCE_MS = 10_000;
const ANSWER_MS = 8_000;
const ACTION_MS = 60_000;

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
  return error.message || (error.status ? t("error.status", { status: error.status }) : t("error.unreachable"));
}

/**
 * Return an answer's JSON, or null where it is none: an error page, whose status says enough.
 *
 * A seed of 64 bits is more than a number holds here, so that it becomes text.
 *
 * @param {string} text
 */
function parsed(text) {
  try {
    return text ? JSON.parse(text.replace(/"seed":\s*(\d{16,})/g, '"seed": "$1"')) : null;
  } catch {
    return null;
  }
}

/**
 * @param {number} status
 * @param {string} text  the answer's body
 */
function failure(status, text) {
  const answer = parsed(text);
  const reason = answer?.message ?? answer?.error;
  return new RequestFailed(typeof reason === "string" ? reason : "", status);
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

  /** The newest status object, or null before the first answer. */
  get status() {
    return this.#status;
  }

  /** False while the server does not answer, or has sent nothing for 10 s. */
  get reachable() {
    return this.#reachable;
  }

  /** Listen for pushes and fetch the first status. Calling it twice is fine. */
  start() {
    if (this.#stopListening) return;
    this.#stopListening = this.#transport.listen({
      status: (status) => this.#take(status),
      lost: () => this.#lose(),
      restored: () => this.refresh(),
    });
    this.#listenOn();
    this.refresh();
  }

  /** End everything: listeners and timer. */
  stop() {
    this.#stopListening?.();
    this.#stopListening = null;
    this.#watchers = 0;
    clearTimeout(this.#silence);
    this.#schedule();
  }

  /** Fetch now, and poll slowly where pushes stay away, for a panel that is open. Returns what ends it. */
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

  /** Fetch the status now. An answer that a push has overtaken is dropped. */
  async refresh() {
    if (this.#asking) return;
    this.#asking = true;
    const heard = this.#heard;
    try {
      // A server that hangs takes the connection and never answers.
      const status = await this.get("/cloud-sync/status", { signal: AbortSignal.timeout(ANSWER_MS) });
      if (heard === this.#heard || !this.#reachable) this.#take(status);
    } catch {
      if (heard === this.#heard) this.#lose();
    } finally {
      this.#asking = false;
    }
  }

  /**
   * GET a JSON answer.
   *
   * @param {string} path
   * @param {{signal?: AbortSignal, [name: string]: unknown}} [options]  the signal, and the query
   * @returns {Promise<any>}
   * @throws {RequestFailed} the server refused or can't be reached.
   */
  async get(path, { signal, ...query } = {}) {
    const words = Object.entries(query)
      .filter(([, value]) => value !== "" && value != null)
      .map(([name, value]) => [name, String(value)]);
    const search = words.length ? `?${new URLSearchParams(words)}` : "";
    return this.#request(path + search, { signal, cache: "no-store" });
  }

  /**
   * Return the address of a file for an <img>, or null where it must be fetched with `blob`.
   *
   * @param {string} path
   */
  url(path) {
    return this.#transport.url(path);
  }

  /**
   * Fetch a file.
   *
   * @param {string} path
   * @param {AbortSignal} [signal]
   * @throws {RequestFailed} the server refused or cannot be reached.
   */
  async blob(path, signal) {
    const response = await this.#send(path, { signal, cache: "no-store" });
    if (response.ok) return response.blob();
    throw failure(response.status, await response.text());
  }

  /**
   * POST to one of the actions; the answer's own status, where it carries one, is shown at once.
   *
   * @param {string} path
   * @param {object} [body]
   * @param {"POST"|"PATCH"} [method]
   * @param {AbortSignal} [signal]  what ends it; default: a timeout
   * @returns {Promise<any>}
   * @throws {RequestFailed} the server refused or can't be reached.
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
  async #send(path, options) {
    try {
      return await this.#transport.fetch(path, options);
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new RequestFailed("", 0);
    }
  }

  /**
   * @param {string} path
   * @param {RequestInit} options
   */
  async #request(path, options) {
    const response = await this.#send(path, options);
    const text = await response.text();
    const answer = parsed(text);
    if (response.ok && answer !== null) return answer;
    throw failure(response.status, text);
  }

  /** @param {Status} status */
  #take(status) {
    if (!status || typeof status !== "object") return;
    this.#heard += 1;
    this.#status = status;
    this.#reachable = true;
    this.#listenOn();
    this.#schedule();
    this.dispatchEvent(new Event("change"));
  }

  #lose() {
    const changed = this.#reachable;
    this.#reachable = false;
    this.#schedule();
    if (changed) this.dispatchEvent(new Event("change"));
  }

  /** Start the time of silence anew. */
  #listenOn() {
    clearTimeout(this.#silence);
    if (this.#stopListening) this.#silence = setTimeout(() => this.#lose(), SILENCE_MS);
  }

  #schedule() {
    clearTimeout(this.#timer);
    if (!this.#watchers) return;
    const wait = this.#reachable ? QUIET_POLL_MS : LOST_POLL_MS;
    this.#timer = setTimeout(() => this.refresh(), wait);
  }
}
