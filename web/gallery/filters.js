// @ts-check
/** The filters: models, tags and so on of the found assets, with counts. A filter is a part of the query, on or off. */

import { button, el } from "../panel/dom.js";
import { hasDay, hasTerm, term, toggleDay, toggleTerm } from "./query.js";

/** @typedef {import("../types.d.ts").NamedCount} NamedCount */
/** @typedef {import("../types.d.ts").FacetName} FacetName */
/** @typedef {import("../types.d.ts").Facets} Facets */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */

const SHOWN = 6;

/** @type {{name: FacetName, field: string}[]} */
const GROUPS = [
  { name: "types", field: "type" },
  { name: "models", field: "model" },
  { name: "loras", field: "lora" },
  { name: "tags", field: "tag" },
  { name: "machines", field: "machine" },
  { name: "samplers", field: "sampler" },
];

export class Filters {
  #context;
  #change;
  /** @type {Set<string>} */
  #open = new Set();
  /** @type {Facets|null} */
  #facets = null;
  #query = "";

  /**
   * @param {GalleryContext} context
   * @param {(query: string) => void} change  called with the new query
   */
  constructor(context, change) {
    this.#context = context;
    this.#change = change;
    this.element = el("div", { class: "filters", id: "gallery-filters", role: "group", "aria-label": context.t("gallery.filters"), hidden: true });
  }

  /**
   * @param {Facets|null} facets
   * @param {string} query
   */
  show(facets, query) {
    this.#facets = facets;
    this.#query = query;
    if (this.element.hidden) return;
    const focused = /** @type {HTMLElement|null} */ (this.element.getRootNode() instanceof ShadowRoot ? /** @type {ShadowRoot} */ (this.element.getRootNode()).activeElement : null);
    const focusedTerm = focused && this.element.contains(focused) ? focused.dataset.term : undefined;
    const { t } = this.#context;
    this.element.replaceChildren(
      this.#row(t("filter.show"), [this.#chip("is:favorite", t("asset.favorite"), 0), this.#chip("rating:>=4", t("filter.rated"), 0), this.#chip("is:hidden", t("asset.hidden"), 0)]),
      this.#days(),
      ...GROUPS.map((group) => this.#group(group)).filter((node) => node !== null),
    );
    // The chips are new nodes: the focus moves to the same one.
    if (focusedTerm) /** @type {HTMLElement|undefined} */ ([...this.element.querySelectorAll("button")].find((node) => node.dataset.term === focusedTerm))?.focus();
  }

  /** The newest days, and a field for any other. */
  #days() {
    const { t, dayName } = this.#context;
    const days = this.#facets?.days ?? [];
    const chips = days.slice(0, SHOWN).map(({ name, count }) => {
      const pressed = hasDay(this.#query, name);
      return this.#toggle(dayName(name, true), pressed, name, count, () => this.#change(toggleDay(this.#query, name)));
    });
    const other = el("input", { type: "date", class: "other-day", "aria-label": t("filter.day"), title: t("filter.day") });
    other.addEventListener("change", () => {
      if (other.value && !hasDay(this.#query, other.value)) this.#change(toggleDay(this.#query, other.value));
    });
    return this.#row(t("field.day"), [...chips, other]);
  }

  /** @param {{name: FacetName, field: string}} group */
  #group({ name, field }) {
    const values = this.#facets?.[name] ?? [];
    if (!values.length) return null;
    const { t } = this.#context;
    const all = this.#open.has(name);
    const shown = all ? values : values.slice(0, SHOWN);
    const chips = shown
      // "other" is a kind that the query language can't name.
      .filter((value) => field !== "type" || value.name !== "other")
      .map((value) => this.#chip(term(field, value.name), field === "type" ? t(`kind.${value.name}`) : value.name, value.count));
    if (!chips.length) return null;
    if (values.length > shown.length) {
      chips.push(
        button(t("action.showMore", { n: values.length - shown.length }), {
          kind: "slim",
          onclick: () => {
            this.#open.add(name);
            this.show(this.#facets, this.#query);
          },
        }),
      );
    }
    return this.#row(t(`field.${field}`), chips);
  }

  /**
   * @param {string} label
   * @param {HTMLElement[]} chips
   */
  #row(label, chips) {
    return el("div", { class: "filter-row" }, el("span", { class: "small quiet", text: label }), el("div", { class: "chips" }, ...chips));
  }

  /**
   * @param {string} part  of the query
   * @param {string} text
   * @param {number} count  0: not shown
   */
  #chip(part, text, count) {
    return this.#toggle(text, hasTerm(this.#query, part), part, count, () => this.#change(toggleTerm(this.#query, part)));
  }

  /**
   * @param {string} text
   * @param {boolean} pressed
   * @param {string} name  by which the focus finds the button again
   * @param {number} count  0: not shown
   * @param {() => void} act
   */
  #toggle(text, pressed, name, count, act) {
    const node = button(text, { kind: "chip", title: text, "aria-pressed": String(pressed), "data-term": name, onclick: act });
    if (count) node.append(el("span", { class: "quiet num", text: this.#context.number(count) }));
    return node;
  }
}
