// @ts-check
/** When to look for new assets: soon after an upload, again while the catalog may still be reading it, and now and then. */

const SOON_MS = 600;
const NEXT_MS = 2_000;
const READING_MS = 16_000; // after the last upload, until the catalog has read it
const OTHERS_MS = 30_000; // other machines' files come without an event

export class News {
  #look;
  #isLoading;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;
  #due = 0;
  #readingUntil = 0;

  /**
   * @param {() => void} look
   * @param {() => boolean} isLoading  whether more is known to come
   */
  constructor(look, isLoading) {
    this.#look = look;
    this.#isLoading = isLoading;
    this.#wait(OTHERS_MS);
  }

  /** Something was archived. What is due earlier stays due: uploads without a pause must not put it off. */
  heard() {
    this.#readingUntil = Date.now() + READING_MS;
    if (Date.now() + SOON_MS < this.#due) this.#wait(SOON_MS);
  }

  /** What is known changed: look again in time. */
  looked() {
    if (this.#isLoading() && Date.now() + NEXT_MS < this.#due) this.#wait(NEXT_MS);
  }

  stop() {
    clearTimeout(this.#timer);
  }

  /** @param {number} milliseconds */
  #wait(milliseconds) {
    clearTimeout(this.#timer);
    this.#due = Date.now() + milliseconds;
    this.#timer = setTimeout(() => {
      this.#wait(Date.now() < this.#readingUntil || this.#isLoading() ? NEXT_MS : OTHERS_MS);
      if (!document.hidden) this.#look();
    }, milliseconds);
  }
}
