/** Files that are not archived: older than the first start, or left out by name or by the settings. */

import { button, el, setText } from "./dom.js";

export class Unarchived {
  #context;
  #older;
  #skipped;

  constructor(context) {
    this.#context = context;
    const { t } = context;
    const archive = button(t("baseline.archive"), { kind: "slim", onclick: () => this.#archive(archive) });
    this.#older = this.#line("baseline", archive);
    this.#skipped = this.#line("skipped");
    this.element = el(
      "section",
      { class: "unarchived wide", "aria-label": t("unarchived.title"), hidden: true },
      this.#older.node,
      this.#skipped.node,
    );
  }

  update({ status, reachable }) {
    const shown = Boolean(status) && reachable;
    const older = shown ? (status.baseline_files ?? 0) : 0;
    const skipped = shown ? (status.skipped_files ?? 0) : 0;
    this.#show(this.#older, "baseline.count", older);
    this.#show(this.#skipped, "skipped.count", skipped);
    this.#older.buttons[0].hidden = !status?.running;
    this.element.hidden = !older && !skipped;
  }

  /** A sentence with its buttons; the last one lists the files. */
  #line(state, ...buttons) {
    const { t } = this.#context;
    const text = el("p", { class: "small" });
    const list = button(t("unarchived.show"), { kind: "slim", onclick: () => this.#context.list(state) });
    buttons.push(list);
    return { node: el("div", { class: "note card" }, text, el("div", { class: "tools" }, ...buttons)), text, buttons };
  }

  #show({ node, text }, key, count) {
    node.hidden = !count;
    setText(text, this.#context.t(key, { n: count }));
  }

  async #archive(pressed) {
    pressed.disabled = true;
    await this.#context.act("backfill");
    pressed.disabled = false;
  }
}
