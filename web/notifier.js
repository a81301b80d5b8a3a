/** Which changes are worth a notification: the first failure, the recovery, the end of a long queue. Pure. */

const LONG_QUEUE_FILES = 20;
const LIFE_MS = { "toast.failed": 10_000, "toast.recovered": 6_000, "toast.done": 6_000 };

export class Notifier {
  #tell;
  #session = null;
  #failing = false;
  #queued = 0;
  #begun = 0;
  #atFailure = 0;

  /** @param {(severity: string, key: string, values: object, lifeMs: number) => void} tell */
  constructor(tell) {
    this.#tell = tell;
  }

  /** Look at the newest status; the first one of a session is only remembered. */
  see(status) {
    if (!status) return;
    const archived = status.uploaded_files + (status.already_archived_files ?? 0);
    const troubled = status.failed_files > 0 || status.state === "retrying";
    // Each new try leaves "retrying" for a moment: it is over only once something arrived.
    const over = !troubled && (status.safe_to_stop || archived > this.#atFailure);
    const failing = troubled || (this.#failing && !over);
    if (status.session_id !== this.#session) {
      this.#session = status.session_id;
      this.#failing = troubled;
      this.#atFailure = archived;
      this.#queued = status.pending_files;
      this.#begun = archived;
      return;
    }
    if (failing && !this.#failing) {
      this.#atFailure = archived;
      this.#say("error", "toast.failed");
    } else if (!failing && this.#failing) this.#say("success", "toast.recovered");
    this.#failing = failing;
    if (status.pending_files > 0) {
      if (!this.#queued) this.#begun = archived;
      this.#queued = Math.max(this.#queued, status.pending_files);
      return;
    }
    const done = archived - this.#begun;
    if (this.#queued >= LONG_QUEUE_FILES && done > 0 && status.safe_to_stop) this.#say("success", "toast.done", { n: done });
    if (status.safe_to_stop || !failing) this.#queued = 0;
  }

  #say(severity, key, values = {}) {
    this.#tell(severity, key, values, LIFE_MS[key]);
  }
}
