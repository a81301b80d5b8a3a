// @ts-check
/**
 * <cloud-archive-app>: the status or the library, with a switch between them. Only the chosen one is in the page.
 * Beside the switch stands the product's name, or the child in the slot "name".
 *
 * It dispatches "viewchange" when the user changes the view or the library's query, and "placechange" when the library
 * is scrolled, or its viewer turns to another file.
 */

import { defineGallery } from "./gallery/gallery.js";
import { definePanel } from "./archive_panel.js";
import { button, el, sheetOf } from "./panel/dom.js";
import { panelSheet } from "./panel/style.js";
import { translator } from "./strings.js";

/** @typedef {import("./archive_panel.js").ArchivePanel} ArchivePanel */
/** @typedef {import("./gallery/gallery.js").ArchiveGallery} ArchiveGallery */
/** @typedef {import("./page_history.js").PageHistory} PageHistory */
/** @typedef {import("./status_client.js").StatusClient} StatusClient */
/** @typedef {import("./types.d.ts").CanvasActions} CanvasActions */
/** @typedef {import("./types.d.ts").Place} Place */

const CSS = `
:host { display: flex; flex-direction: column; height: 100%; overflow: hidden; }
.switch { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 12px; padding: 10px 12px 4px; min-width: 0; }
.switch > slot { display: block; margin-inline-end: auto; }
.switch h2 { font-size: .875rem; font-weight: 600; }
.switch .choice .button { min-height: 24px; padding: 2px 12px; }
.switch .bare { margin-inline-start: -6px; }
:host > *, .view { min-height: 0; }
.view { flex: 1; overflow: hidden; display: flex; flex-direction: column; }
.view > * { flex: 1; min-height: 0; }
@container (min-width: 45rem) {
  .switch { padding: 14px 24px 6px; gap: 6px 24px; }
  .switch > slot { margin: 0; }
}
@media (pointer: coarse) { .switch .choice .button { min-height: 40px; padding-inline: 16px; } }
`;

const appSheet = sheetOf(CSS);

/** @typedef {"status"|"library"} View */

export class ArchiveApp extends HTMLElement {
  /** @type {StatusClient|null} */
  client = null;
  /** @type {CanvasActions|null} */
  canvas = null;
  /** @type {(path: string) => string|null} */
  picturePath = () => null;
  /** The page that a button opens in a new tab; empty: no button. */
  fullPage = "";
  /** Where the library begins, and where it was last; null: at its top. @type {Place|null} */
  place = null;
  /** Gets what the library opens and closes, so that Back can close it; null: Back leaves the page. @type {PageHistory|null} */
  history = null;
  #locale = "en";
  /** @type {View} */
  #view = "status";
  #query = "";
  #root = this.attachShadow({ mode: "open" });
  /** @type {ArchivePanel|ArchiveGallery|null} */
  #shown = null;

  constructor() {
    super();
    this.#root.adoptedStyleSheets = [panelSheet(), appSheet()];
    this.#root.addEventListener("keydown", (event) => {
      // A letter chooses an option. ComfyUI, which spares only text fields, would also run its command of that letter.
      if (event.composedPath()[0] instanceof HTMLSelectElement) event.stopPropagation();
    });
  }

  get locale() {
    return this.#locale;
  }

  set locale(locale) {
    if (locale === this.#locale) return;
    this.#locale = locale;
    if (this.isConnected) this.#build();
  }

  get view() {
    return this.#view;
  }

  set view(view) {
    if (view === this.#view) return;
    this.#view = view;
    if (this.isConnected) this.#build();
  }

  get query() {
    return this.#query;
  }

  set query(query) {
    this.#query = query;
    if (this.#shown && "query" in this.#shown) this.#shown.query = query;
  }

  /** The panel, while the status is shown. */
  get panel() {
    return this.#view === "status" ? /** @type {ArchivePanel|null} */ (this.#shown) : null;
  }

  connectedCallback() {
    definePanel();
    defineGallery();
    this.#build();
  }

  disconnectedCallback() {
    this.#root.replaceChildren();
    this.#shown = null;
  }

  #build() {
    const t = translator(this.#locale);
    const choice = el("div", { class: "choice", role: "group", "aria-label": t("app.view") });
    for (const view of /** @type {View[]} */ (["status", "library"])) {
      choice.append(button(t(`app.${view}`), { "aria-pressed": String(view === this.#view), onclick: () => this.#choose(view) }));
    }
    const page = this.fullPage
      ? button(t("app.fullPage"), { icon: "external", bare: true, onclick: () => window.open(this.fullPage, "_blank", "noopener") })
      : null;
    this.#shown = this.#view === "status" ? this.#panel() : this.#gallery();
    this.#root.replaceChildren(
      el("div", { class: "switch", lang: t.locale }, el("slot", { name: "name" }, el("h2", { text: t("name") })), choice, page),
      el("div", { class: "view" }, this.#shown),
    );
  }

  /** @param {View} view */
  #choose(view) {
    if (view === this.#view) return;
    this.view = view;
    const pressed = /** @type {HTMLElement|null} */ (this.#root.querySelector('.choice [aria-pressed="true"]'));
    pressed?.focus();
    this.dispatchEvent(new Event("viewchange"));
  }

  #panel() {
    const panel = /** @type {ArchivePanel} */ (document.createElement("cloud-archive-panel"));
    panel.picturePath = this.picturePath;
    panel.locale = this.#locale;
    panel.client = this.client;
    return panel;
  }

  #gallery() {
    const gallery = /** @type {ArchiveGallery} */ (document.createElement("cloud-archive-gallery"));
    gallery.locale = this.#locale;
    gallery.client = this.client;
    gallery.canvas = this.canvas;
    gallery.query = this.#query;
    gallery.place = this.place;
    gallery.history = this.history;
    gallery.addEventListener("querychange", () => {
      this.#query = gallery.query;
      this.place = null;
      this.dispatchEvent(new Event("viewchange"));
    });
    gallery.addEventListener("placechange", () => {
      this.place = gallery.place;
      this.dispatchEvent(new Event("placechange"));
    });
    return gallery;
  }
}

/** Register the element; a second call, or a second copy of this file, changes nothing. */
export function defineApp(registry = customElements) {
  if (!registry.get("cloud-archive-app")) registry.define("cloud-archive-app", ArchiveApp);
}
