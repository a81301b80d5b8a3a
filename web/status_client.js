/**
 * What the archive says, kept current: one fetch, then pushes; a slow poll only where pushes fail.
 *
 * It knows neither ComfyUI nor the daemon's page: a transport does. Harmless when loaded alone.
 *
 * @typedef {object} Transport
 * @property {(path: string, options?: RequestInit) => Promise<Response>} fetch  path starts with "/cloud-sync/"
 * @property {(on: {status: (status: object) => void, lost: () => void, restored: () => void}) => () => void} listen
 *   starts listening and returns what ends it.
 */

const QUIET_POLL_MS = 20_000;
const LOST_POLL_MS = 3_000;

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

  /** False while the server does not answer. */
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
    this.refresh();
  }

  /** End everything: listeners and timer. */
  stop() {
    this.#stopListening?.();
    this.#stopListening = null;
    this.#watchers = 0;
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
    const heard = this.#heard;
    try {
      const status = await this.get("/cloud-sync/status");
      if (heard === this.#heard || !this.#reachable) this.#take(status);
    } catch {
      if (heard === this.#heard) this.#lose();
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
    const options = { method: "POST" };
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
    this.#schedule();
    this.dispatchEvent(new Event("change"));
  }

  #lose() {
    const changed = this.#reachable;
    this.#reachable = false;
    this.#schedule();
    if (changed) this.dispatchEvent(new Event("change"));
  }

  #schedule() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (!this.#watchers) return;
    const wait = this.#reachable ? QUIET_POLL_MS : LOST_POLL_MS;
    this.#timer = setTimeout(() => this.refresh(), wait);
  }
}
