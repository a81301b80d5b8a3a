// @ts-check
/** The menu of view options: the layout and size of the tiles, and what is blurred. */

import { button, el } from "../panel/dom.js";

/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */
/** @typedef {import("./preferences.js").Preferences} Preferences */

const LEAST = 72; // pixels
const MOST = 400;

export class ViewMenu {
  /**
   * @param {GalleryContext} context
   * @param {Preferences} preferences  changed in place
   * @param {() => void} changed  called after each change of a preference
   */
  constructor(context, preferences, changed) {
    const { t } = context;
    const size = el("input", { type: "range", min: LEAST, max: MOST, step: 4, value: preferences.tile });
    size.addEventListener("input", () => {
      preferences.tile = Number(size.value);
      changed();
    });
    const choice = el("div", { class: "choice", role: "group", "aria-label": t("view.layout") });
    const layouts = [false, true].map((justified) =>
      button(t(justified ? "view.justified" : "view.square"), {
        "aria-pressed": String(preferences.justified === justified),
        onclick: () => {
          preferences.justified = justified;
          layouts.forEach((each, place) => each.setAttribute("aria-pressed", String(Boolean(place) === justified)));
          changed();
        },
      }),
    );
    choice.append(...layouts);
    const hidden = el("input", { type: "checkbox" });
    hidden.checked = preferences.blurHidden;
    hidden.addEventListener("change", () => {
      preferences.blurHidden = hidden.checked;
      changed();
    });
    const tags = el("input", { type: "text", value: preferences.blurTags, autocomplete: "off", spellcheck: "false" });
    tags.addEventListener("input", () => {
      preferences.blurTags = tags.value;
      changed();
    });
    const menu = el(
      "div",
      { class: "menu card", id: "gallery-view", role: "group", "aria-label": t("view.title"), hidden: true },
      choice,
      el("label", {}, el("span", { text: t("view.size") }), size),
      el("label", { class: "check" }, hidden, el("span", { text: t("view.blurHidden") })),
      el("label", {}, el("span", { text: t("view.blurTags") }), tags),
    );
    const toggle = button(t("view.title"), { icon: "view", bare: true, "aria-expanded": "false", "aria-controls": "gallery-view", onclick: () => show(menu.hidden) });
    /** @param {boolean} open */
    const show = (open) => {
      menu.hidden = !open;
      toggle.setAttribute("aria-expanded", String(open));
    };
    this.menu = menu;
    this.close = () => {
      if (menu.matches(":focus-within")) toggle.focus();
      show(false);
    };
    // It takes the focus if a press is on no control, or in Safari on a button.
    this.element = el("div", { class: "view-menu", tabindex: -1 }, toggle, menu);
    this.element.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key !== "Escape" || menu.hidden) return;
      show(false);
      toggle.focus();
    });
    this.element.addEventListener("focusout", (event) => {
      if (event.relatedTarget instanceof Node && !this.element.contains(event.relatedTarget)) show(false);
    });
  }
}
