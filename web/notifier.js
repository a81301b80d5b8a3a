// @ts-check
/** Decide which changes deserve a notification: a failure, its recovery, the end of a long queue. */

import { storeMayBeAway } from "./status_client.js";

/** @typedef {import("./types.d.ts").Status} Status */
/** @typedef {"toast.retrying"|"toast.failed"|"toast.recovered"|"toast.done"} Key */

const LONG_QUEUE_FILES = 20;

export class Notifier {
  #notify;
  /** @type {string|null} */
  #session = null;
  #failing = false;
  #givenUp = 0;
  #queued = 0;
  #archivedWhenEmpty = 0; // how many files were archived when the queue was last empty
  #archivedAtFailure = 0;

  /** @param {(key: Key, values: Record<string, unknown>) => void} notify */
  constructor(notify) {
    this.#notify = notify;
  }

  /**
   * Compare a status with the last one. The first one of a session is only remembered.
   *
   * @param {Status|null} status
   */
  see(status) {
    if (!status) return;
    const archived = status.uploaded_files + (status.already_archived_files ?? 0);
    const troubled = status.failed_files > 0 || status.retrying_files > 0 || storeMayBeAway(status);
    // During a new attempt no file is "retrying", so that alone is no recovery.
    const recovered = !troubled && (status.safe_to_stop || archived > this.#archivedAtFailure);
    const failing = troubled || (this.#failing && !recovered);
    if (status.session_id !== this.#session) {
      this.#session = status.session_id;
      this.#failing = troubled;
      this.#givenUp = status.failed_files;
      this.#archivedAtFailure = this.#archivedWhenEmpty = archived;
      this.#queued = status.pending_files;
      return;
    }
    if (failing && !this.#failing) this.#archivedAtFailure = archived;
    if (status.failed_files > this.#givenUp && !this.#givenUp) this.#notify("toast.failed", { n: status.failed_files });
    else if (failing && !this.#failing) this.#notify("toast.retrying", { n: status.retrying_files });
    else if (!failing && this.#failing) this.#notify("toast.recovered", {});
    this.#failing = failing;
    this.#givenUp = status.failed_files;
    if (status.pending_files > 0) {
      this.#queued = Math.max(this.#queued, status.pending_files);
      return;
    }
    const files = archived - this.#archivedWhenEmpty;
    if (this.#queued >= LONG_QUEUE_FILES && files > 0 && status.safe_to_stop) this.#notify("toast.done", { n: files });
    if (!status.safe_to_stop) return;
    this.#queued = 0;
    this.#archivedWhenEmpty = archived;
  }
}
