// @ts-check
/** The filters: models, tags and so on of the found assets, with counts. A filter switches a term of the query. */

import { button, el, keyed, setText } from "../panel/dom.js";
import { hasDay, hasTerm, term, toggleDay, toggleTerm } from "./query.js";

/** @typedef {import("../types.d.ts").FacetName} FacetName */
/** @typedef {import("../types.d.ts").Facets} Facets */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */
/** @typedef {{term: string, text: string, count: number, pressed: boolean, press: () => void}} Chip  count 0: it shows no number */
/** @typedef {{name: string, label: string, chips: Chip[], more: number}} Group  more: how many chips are not shown */
/** @typedef {import("../types.d.ts").Row<Chip>} ChipRow */
/** @typedef {import("../types.d.ts").Row<Group>} GroupRow */

const SHOWN = 6;

/** @type {{name: FacetName, field: string}[]} */
const FACETS = [
  { name: "types", field: "type" },
  { name: "models", field: "model" },
  { name: "loras", field: "lora" },
  { name: "tags", field: "tag" },
  { name: "machines", field: "machine" },
  { name: "samplers", field: "sampler" },
];

export class Filters {
  #context;
  #typed;
  #change;
  /** @type {Map<string, GroupRow>} */
  #rows = new Map();
  /** @type {Set<string>} the groups that show all their chips */
  #expanded = new Set();
  /** @type {Facets|null} */
  #facets = null;
  #query = "";

  /**
   * @param {GalleryContext} context
   * @param {() => string} typed  returns the query in the search field, which may be newer than the one that is shown
   * @param {(query: string) => void} change  called with the new query
   */
  constructor(context, typed, change) {
    this.#context = context;
    this.#typed = typed;
    this.#change = change;
    const label = context.t("gallery.filters");
    this.element = el("div", { class: "filters", id: "gallery-filters", role: "group", "aria-label": label, hidden: true });
    this.toggle = button(label, { icon: "filter", bare: true, "aria-controls": "gallery-filters", onclick: () => this.open(this.element.hidden) });
    this.open(false);
  }

  /** @param {boolean} open  false: close */
  open(open) {
    if (!open && this.element.matches(":focus-within")) this.toggle.focus();
    this.element.hidden = !open;
    this.toggle.setAttribute("aria-expanded", String(open));
    this.show(this.#facets, this.#query);
  }

  /**
   * @param {Facets|null} facets
   * @param {string} query
   */
  show(facets, query) {
    this.#facets = facets;
    this.#query = query;
    if (this.element.hidden) return;
    const focused = /** @type {ShadowRoot} */ (this.element.getRootNode()).activeElement;
    const groups = [this.#marks(), this.#days(), ...FACETS.map((facet) => this.#values(facet)).filter(({ chips }) => chips.length)];
    keyed(this.element, this.#rows, groups, ({ name }) => name, ({ name, label }) => this.#row(name, label));
    // A chip that took another place has lost the focus. With the focus still there, `focus` would restart a date's year.
    if (this.element.contains(focused) && !focused?.matches(":focus")) /** @type {HTMLElement} */ (focused).focus();
  }

  /** @returns {Group} */
  #marks() {
    const { t } = this.#context;
    const chips = [
      this.#chip("is:favorite", t("asset.favorite"), 0),
      this.#chip("rating:>=4", t("filter.rated"), 0),
      this.#chip("is:hidden", t("asset.hidden"), 0),
    ];
    return { name: "marks", label: t("filter.show"), chips, more: 0 };
  }

  /** @returns {Group} */
  #days() {
    const { t, dayName } = this.#context;
    const chips = (this.#facets?.days ?? []).slice(0, SHOWN).map(({ name, count }) => ({
      term: name,
      text: dayName(name, true),
      count,
      pressed: hasDay(this.#query, name),
      press: () => this.#change(toggleDay(this.#typed(), name)),
    }));
    return { name: "days", label: t("field.day"), chips, more: 0 };
  }

  /**
   * @param {{name: FacetName, field: string}} facet
   * @returns {Group}
   */
  #values({ name, field }) {
    const { t } = this.#context;
    const values = this.#facets?.[name] ?? [];
    const shown = this.#expanded.has(name) ? values : values.slice(0, SHOWN);
    const chips = shown.map((value) =>
      this.#chip(term(field, value.name), field === "type" ? t(`kind.${value.name}`) : value.name, value.count));
    return { name, label: t(`field.${field}`), chips, more: values.length - shown.length };
  }

  /**
   * Return a chip that adds a term to the query or removes it.
   *
   * @param {string} part
   * @param {string} text
   * @param {number} count
   * @returns {Chip}
   */
  #chip(part, text, count) {
    return { term: part, text, count, pressed: hasTerm(this.#query, part), press: () => this.#change(toggleTerm(this.#typed(), part)) };
  }

  /**
   * Create the row of a group. A refresh keeps its nodes, so that a press or a half-typed date is not lost.
   *
   * @param {string} name
   * @param {string} label
   * @returns {GroupRow}
   */
  #row(name, label) {
    /** @type {Map<string, ChipRow>} */
    const rows = new Map();
    const rest = button("", { kind: "slim", hidden: true, onclick: () => this.#showAll(name, rest) });
    const box = el("div", { class: "chips" }, rest, name === "days" ? this.#otherDay() : null);
    return {
      node: el("div", { class: "filter-row" }, el("span", { class: "small quiet", text: label }), box),
      update: ({ chips, more }) => {
        keyed(box, rows, chips, (chip) => chip.term, () => this.#button());
        rest.hidden = !more;
        setText(/** @type {Node} */ (rest.firstChild), this.#context.t("action.showMore", { n: more }));
      },
    };
  }

  /**
   * @param {string} name
   * @param {HTMLElement} rest  the button that was pressed; it disappears, so the first new chip takes the focus
   */
  #showAll(name, rest) {
    const last = rest.previousElementSibling;
    this.#expanded.add(name);
    this.show(this.#facets, this.#query);
    /** @type {HTMLElement|null|undefined} */ (last?.nextElementSibling)?.focus();
  }

  /** Create the field for a day that has no chip. */
  #otherDay() {
    const { t } = this.#context;
    // Chromium reports each digit of a year that is being typed: 0002, 0020, 0202.
    const other = el("input", { type: "date", min: "1970-01-01", class: "other-day", "aria-label": t("filter.day"), title: t("filter.day") });
    other.addEventListener("change", () => {
      if (other.value && other.validity.valid && !hasDay(this.#typed(), other.value)) this.#change(toggleDay(this.#typed(), other.value));
    });
    return other;
  }

  /** @returns {ChipRow} */
  #button() {
    let press = () => {};
    const node = button("", { kind: "chip", onclick: () => press() });
    const number = el("span", { class: "quiet num" });
    node.append(number);
    return {
      node,
      update: (chip) => {
        press = chip.press;
        setText(/** @type {Node} */ (node.firstChild), chip.text);
        node.title = chip.text;
        node.setAttribute("aria-pressed", String(chip.pressed));
        number.hidden = !chip.count;
        setText(number, this.#context.number(chip.count));
      },
    };
  }
}
