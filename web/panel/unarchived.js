// @ts-check
/** Files that are not archived: older ones, and those that the selection leaves out. */

import { button, el, setText, whileBusy } from "./dom.js";

/** @typedef {import("../types.d.ts").Context} Context */
/** @typedef {import("../types.d.ts").View} View */
/** @typedef {{node: HTMLElement, text: HTMLElement}} Note */

export class Unarchived {
  #context;
  #archive;
  #older;
  #skipped;

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    const { t } = context;
    this.#archive = button(t("baseline.archive"), { kind: "slim", onclick: () => whileBusy(this.#archive, () => context.act("backfill")) });
    this.#older = this.#note("baseline", this.#archive);
    this.#skipped = this.#note("skipped");
    this.element = el(
      "section",
      { class: "unarchived wide", "aria-label": t("unarchived.title"), hidden: true },
      this.#older.node,
      this.#skipped.node,
    );
  }

  /** @param {View} view */
  update({ status, reachable }) {
    const older = (reachable && status?.baseline_files) || 0;
    const skipped = (reachable && status?.skipped_files) || 0;
    this.#show(this.#older, "baseline.count", older);
    this.#show(this.#skipped, "skipped.count", skipped);
    this.#archive.hidden = !status?.running;
    this.element.hidden = !older && !skipped;
  }

  /**
   * Create a sentence with its buttons; the last one lists the files.
   *
   * @param {string} state
   * @param {...HTMLButtonElement} buttons
   * @returns {Note}
   */
  #note(state, ...buttons) {
    const { t } = this.#context;
    const text = el("p", { class: "small" });
    const list = button(t("unarchived.show"), { kind: "slim", onclick: () => this.#context.list(state) });
    return { node: el("div", { class: `note ${state === "baseline" ? "card" : "quiet"}` }, text, el("div", { class: "tools" }, ...buttons, list)), text };
  }

  /**
   * @param {Note} note
   * @param {string} key
   * @param {number} count
   */
  #show({ node, text }, key, count) {
    node.hidden = !count;
    setText(text, this.#context.t(key, { n: count }));
  }
}
