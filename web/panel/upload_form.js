// @ts-check
/** The form that uploads one file by its path. */

import { button, el } from "./dom.js";

/** @typedef {import("../types.d.ts").Context} Context */
/** @typedef {import("../types.d.ts").FileRow} FileRow */

const MAX_SUGGESTIONS = 20;
const DEBOUNCE_MS = 200;

export class UploadForm {
  #context;
  #opener;
  #names = el("datalist", { id: "upload-names" });
  #field;
  /** @type {AbortController|null} */
  #abort = null;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;

  /**
   * @param {Context} context
   * @param {HTMLButtonElement} opener  opens the form and gets the focus back
   */
  constructor(context, opener) {
    this.#context = context;
    this.#opener = opener;
    const { t } = context;
    this.#field = el("input", {
      id: "upload-path",
      type: "text",
      list: "upload-names",
      placeholder: t("upload.example"),
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.#suggestAfter(DEBOUNCE_MS),
    });
    this.element = el(
      "form",
      { class: "upload", hidden: true, onsubmit: (/** @type {Event} */ event) => this.#submit(event) },
      el("label", { for: "upload-path", text: t("upload.label") }),
      el("div", { class: "row" }, this.#field, this.#names, button(t("upload.submit"), { kind: "primary", type: "submit" })),
    );
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.toggle(false);
    });
  }

  /** @param {boolean} [open] */
  toggle(open = this.element.hidden) {
    this.#show(open);
    (open ? this.#field : this.#opener).focus();
    if (open) this.#suggestAfter(0);
  }

  /** Hide the form without taking the focus. */
  hide() {
    this.#show(false);
  }

  /** @param {boolean} open */
  #show(open) {
    this.element.hidden = !open;
    this.#opener.setAttribute("aria-expanded", String(open));
    if (!open) this.disconnect();
  }

  disconnect() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
  }

  /** @param {number} delayMs */
  #suggestAfter(delayMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#suggest(), delayMs);
  }

  /** Suggest files whose path contains what was typed: first those that the ledger does not hold. */
  async #suggest() {
    this.#abort?.abort();
    const { signal } = (this.#abort = new AbortController());
    const query = { q: this.#field.value.trim(), limit: MAX_SUGGESTIONS, signal };
    /** @param {string} state */
    const ask = async (state) => {
      try {
        const { files } = await this.#context.client.get("/cloud-sync/files", { ...query, state });
        return /** @type {FileRow[]} */ (files ?? []);
      } catch {
        return []; // the form works without suggestions
      }
    };
    const pages = await Promise.all([ask("unarchived"), ask("")]);
    if (signal.aborted) return;
    const paths = new Set(pages.flat().map((file) => file.path).filter((path) => !path.endsWith("/")));
    this.#names.replaceChildren(...[...paths].slice(0, MAX_SUGGESTIONS).map((path) => el("option", { value: path })));
  }

  /** @param {Event} event */
  async #submit(event) {
    event.preventDefault();
    const path = this.#field.value.trim();
    if (!path) return;
    this.#field.focus(); // the next path can be typed meanwhile
    const succeeded = await this.#context.act("upload", { file_path: path });
    if (succeeded && this.#field.value.trim() === path) this.#field.value = "";
  }
}
