// @ts-check
/** A sentence for the user, shown for 5 s or until the next one. */

import { el, setText } from "../panel/dom.js";

const SHOWN_MS = 5_000;

export class Toast {
  #root;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;
  element = el("p", { class: "said", role: "status", hidden: true });

  /** @param {ShadowRoot} root  of the gallery */
  constructor(root) {
    this.#root = root;
  }

  /**
   * @param {string} text
   * @param {"good"|"bad"} tone
   */
  show(text, tone) {
    // A dialog covers the rest of the page.
    const open = [...this.#root.querySelectorAll("dialog[open]")].at(-1);
    (open ?? this.#root.querySelector(".gallery"))?.append(this.element);
    this.element.className = `said ${tone}`;
    this.element.hidden = !text;
    setText(this.element, text);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.element.hidden = true;
    }, SHOWN_MS);
  }

  disconnect() {
    clearTimeout(this.#timer);
  }
}
