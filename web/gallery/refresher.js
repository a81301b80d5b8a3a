// @ts-check
/**
 * When to ask for new assets: soon after an upload; every 2 s while the catalog may still be reading it or other
 * machines' files are loading; else every 30 s. In the background not at all, but at once when the page comes back.
 * While one refresh is under way, it begins no other.
 */

const SOON_MS = 600;
const NEXT_MS = 2_000;
const READING_MS = 16_000; // after the last upload, until the catalog has read it
const OTHERS_MS = 30_000; // other machines' files come without an event

export class Refresher {
  #refresh;
  #isLoading;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;
  #due = 0;
  #readingUntil = 0;
  #isRunning = false;
  #onVisibility = () => {
    if (!document.hidden) this.#wait(0);
  };

  /**
   * @param {() => Promise<void>} refresh  never rejects
   * @param {() => boolean} isLoading  whether other machines' files are still loading
   */
  constructor(refresh, isLoading) {
    this.#refresh = refresh;
    this.#isLoading = isLoading;
    this.#wait(OTHERS_MS);
    document.addEventListener("visibilitychange", this.#onVisibility);
  }

  /** Call after a file was archived. A refresh that is due earlier stays due: a stream of uploads must not put it off. */
  fileArchived() {
    this.#readingUntil = performance.now() + READING_MS;
    if (performance.now() + SOON_MS < this.#due) this.#wait(SOON_MS);
  }

  /** Call after each refresh: while more is loading, the next one comes soon. */
  refreshed() {
    if (this.#isLoading() && performance.now() + NEXT_MS < this.#due) this.#wait(NEXT_MS);
  }

  stop() {
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#onVisibility);
  }

  /** @param {number} milliseconds */
  #wait(milliseconds) {
    clearTimeout(this.#timer);
    this.#due = performance.now() + milliseconds;
    this.#timer = setTimeout(async () => {
      this.#wait(performance.now() < this.#readingUntil || this.#isLoading() ? NEXT_MS : OTHERS_MS);
      if (document.hidden || this.#isRunning) return;
      this.#isRunning = true;
      await this.#refresh();
      this.#isRunning = false;
    }, milliseconds);
  }
}
