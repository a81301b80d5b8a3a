/**
 * What the archive says, kept current: one fetch, then pushes; a poll only where pushes stay away.
 *
 * The server pushes at least every 5 s. After 10 s without a word nobody can tell how the archive is: `reachable`
 * is false then, whatever the last status said.
 *
 * It knows neither ComfyUI nor the daemon's page: a transport does. Harmless when loaded alone.
 *
 * @typedef {object} Transport
 * @property {(path: string, options?: RequestInit) => Promise<Response>} fetch  path starts with "/cloud-sync/"
 * @property {(on: {status: (status: object) => void, lost: () => void, restored: () => void}) => () => void} listen
 *   starts listening and returns what ends it.
 */

const QUIET_POLL_MS = 6_000;
const LOST_POLL_MS = 3_000;
const SILENCE_MS = 10_000;
const ANSWER_MS = 8_000;
const ACTION_MS = 60_000;

/** A request that was refused; `message` is the server's own reason where it gave one. */
export class RequestFailed extends Error {
  constructor(message, status) {
    super(message);
    this.name = "RequestFailed";
    this.status = status;
  }
}

export class StatusClient extends EventTarget {
  #transport;
  #status = null;
  #reachable = true;
  #stopListening = null;
  #timer = null;
  #silence = null;
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

  /** False while the server does not answer, or has said nothing for 10 s. */
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

  /** Somebody looks: fetch now, and poll slowly where pushes stay away. Returns what ends it. */
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
   * @throws {RequestFailed} the server refused or cannot be reached.
   */
  async get(path, { signal, ...query } = {}) {
    const words = Object.entries(query).filter(([, value]) => value !== "" && value != null);
    const search = words.length ? `?${new URLSearchParams(words)}` : "";
    return this.#request(path + search, { signal, cache: "no-store" });
  }

  /**
   * POST to one of the actions; the answer's own status, where it carries one, is shown at once.
   *
   * @throws {RequestFailed} the server refused or cannot be reached.
   */
  async post(path, body) {
    const options = { method: "POST", signal: AbortSignal.timeout(ACTION_MS) };
    if (body !== undefined) {
      options.headers = { "Content-Type": "application/json" };
      options.body = JSON.stringify(body);
    }
    const answer = await this.#request(path, options);
    if (answer?.status && typeof answer.status === "object") this.#take(answer.status);
    if (answer?.success === false) throw new RequestFailed(answer.message ?? "", 200);
    return answer;
  }

  async #request(path, options) {
    let response;
    try {
      response = await this.#transport.fetch(path, options);
    } catch (error) {
      if (error?.name === "AbortError") throw error;
      throw new RequestFailed(String(error?.message ?? error), 0);
    }
    const text = await response.text();
    let answer = null;
    try {
      answer = text ? JSON.parse(text) : null;
    } catch {
      // An error page; its status line says enough.
    }
    if (response.ok && answer !== null) return answer;
    const reason = answer?.message ?? answer?.error;
    const line = `${response.status} ${response.statusText}`.trim();
    throw new RequestFailed(typeof reason === "string" && reason ? reason : line, response.status);
  }

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

  /** Begin the wait for the next word anew. */
  #listenOn() {
    clearTimeout(this.#silence);
    if (this.#stopListening) this.#silence = setTimeout(() => this.#lose(), SILENCE_MS);
  }

  #schedule() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (!this.#watchers) return;
    const wait = this.#reachable ? QUIET_POLL_MS : LOST_POLL_MS;
    this.#timer = setTimeout(() => this.refresh(), wait);
  }
}
