// @ts-check
/** The search field. While the user types, it suggests fields and their values. */

import { el, icon } from "../panel/dom.js";
import { FIELDS, term, termAt } from "./query.js";

/** @typedef {import("../types.d.ts").FacetName} FacetName */
/** @typedef {import("../types.d.ts").Facets} Facets */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */
/** @typedef {{text: string, note: string}} Suggestion */

const MAX_SUGGESTIONS = 8;

/** The facet that holds the values of a field. @type {Record<string, FacetName>} */
const FACET_OF = { model: "models", lora: "loras", sampler: "samplers", machine: "machines", type: "types", tag: "tags" };
/** The values that are suggested for a field without a facet. @type {Record<string, string[]>} */
const VALUES = { is: ["favorite", "hidden"], rating: [">=5", ">=4", ">=3"], since: ["1d", "7d", "30d"], width: [">=2048", ">=1024"], height: [">=2048", ">=1024"] };

export class SearchField {
  #context;
  #input;
  #list = el("ul", { id: "gallery-suggestions", class: "suggestions", role: "listbox", hidden: true });
  /** @type {Suggestion[]} */
  #suggestions = [];
  #cursor = 0; // when the suggestions were made
  #active = -1; // of the suggestions; -1: none
  #changed;
  #entered;
  /** Of the query `#limit`. @type {Facets|null} */
  #facets = null;
  #limit = "";
  /** Of the empty query. @type {Facets|null} */
  #allFacets = null;

  /**
   * @param {GalleryContext} context
   * @param {(query: string) => void} changed  called with the query each time the user changes it
   * @param {(query: string) => void} entered  called with the query after Enter, unless that chooses a suggestion
   */
  constructor(context, changed, entered) {
    this.#context = context;
    this.#changed = changed;
    this.#entered = entered;
    const { t } = context;
    this.#list.setAttribute("aria-label", t("gallery.suggestions"));
    this.#input = el("input", {
      type: "search",
      class: "query",
      placeholder: t("gallery.search"),
      "aria-label": t("gallery.search"),
      role: "combobox",
      "aria-autocomplete": "list",
      "aria-expanded": "false",
      "aria-controls": "gallery-suggestions",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => {
        this.#suggest();
        this.#changed(this.value);
      },
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
      onfocus: () => this.#suggest(),
      onblur: () => this.#close(),
    });
    this.element = el("div", { class: "search" }, icon("search"), this.#input, this.#list);
  }

  get value() {
    return this.#input.value;
  }

  set value(query) {
    if (this.#input.value !== query) this.#input.value = query;
  }

  /** Return whether the field has the focus and holds this query. @param {string} query */
  isAt(query) {
    return this.#input.matches(":focus") && this.value === query;
  }

  focus() {
    this.#input.focus();
  }

  /**
   * Suggest values from these facets, unless they are limited to the term at the cursor.
   *
   * @param {Facets} facets
   * @param {string} query  that they are of
   */
  suggestFrom(facets, query) {
    const { text } = termAt(this.value, this.#input.selectionStart ?? 0);
    if (!query.trim()) this.#allFacets = facets;
    if (!text || !this.#facets) [this.#facets, this.#limit] = [facets, query.trim()];
  }

  /** Show whether the server has refused the query as invalid. @param {boolean} invalid */
  markInvalid(invalid) {
    if (invalid) this.#input.setAttribute("aria-invalid", "true");
    else this.#input.removeAttribute("aria-invalid");
  }

  /** Return the suggestions for the term at the cursor. @returns {Suggestion[]} */
  #findSuggestions() {
    this.#cursor = this.#input.selectionStart ?? 0;
    const { text } = termAt(this.value, this.#cursor);
    const bare = text.replace(/^-/, "").replaceAll('"', "").toLowerCase();
    if (!bare) return [];
    const [, field, typed] = /^(\w+):(.*)$/.exec(bare) ?? [null, "", bare];
    const facets = this.value.includes(this.#limit) ? this.#facets : (this.#allFacets ?? this.#facets);
    if (field) {
      const facet = FACET_OF[field];
      const values = facet ? (facets?.[facet] ?? []) : (VALUES[field] ?? []).map((name) => ({ name, count: 0 }));
      return values
        .filter(({ name }) => name.toLowerCase().includes(typed) && name.toLowerCase() !== typed)
        .slice(0, MAX_SUGGESTIONS)
        .map(({ name, count }) => ({ text: term(field, name), note: count ? this.#context.number(count) : "" }));
    }
    const fields = FIELDS.filter((name) => name.startsWith(typed)).map((name) => ({ text: `${name}:`, note: this.#context.t(`field.${name}`) }));
    const values = ["model", "lora", "tag"].flatMap((name) =>
      (facets?.[FACET_OF[name]] ?? [])
        .filter((value) => typed.length > 1 && value.name.toLowerCase().includes(typed))
        .map((value) => ({ text: term(name, value.name), note: this.#context.number(value.count) })),
    );
    return [...fields, ...values].slice(0, MAX_SUGGESTIONS);
  }

  #suggest() {
    this.#suggestions = this.#findSuggestions();
    this.#active = -1;
    this.#list.hidden = !this.#suggestions.length;
    this.#input.setAttribute("aria-expanded", String(this.#suggestions.length > 0));
    this.#list.replaceChildren(
      ...this.#suggestions.map((suggestion, index) =>
        el(
          "li",
          {
            id: `gallery-suggestion-${index}`,
            role: "option",
            "aria-selected": "false",
            // Without preventDefault the field would lose the focus, and the list would close.
            onpointerdown: (/** @type {PointerEvent} */ event) => {
              event.preventDefault();
              if (!event.button) this.#insert(index);
            },
          },
          el("span", { class: "text", text: suggestion.text }),
          el("span", { class: "quiet num", text: suggestion.note }),
        ),
      ),
    );
    this.#showActive();
  }

  #close() {
    this.#suggestions = [];
    this.#list.hidden = true;
    this.#input.setAttribute("aria-expanded", "false");
    this.#input.removeAttribute("aria-activedescendant");
  }

  #showActive() {
    [...this.#list.children].forEach((node, index) => node.setAttribute("aria-selected", String(index === this.#active)));
    if (this.#active >= 0) this.#input.setAttribute("aria-activedescendant", `gallery-suggestion-${this.#active}`);
    else this.#input.removeAttribute("aria-activedescendant");
  }

  /** Replace the term for which the suggestions were made with one of them. @param {number} index */
  #insert(index) {
    const { text } = this.#suggestions[index];
    const { text: old, start, end } = termAt(this.value, this.#cursor);
    const minus = old.startsWith("-") ? "-" : "";
    const needsValue = text.endsWith(":");
    const inserted = `${minus}${text}${needsValue ? "" : " "}`;
    const rest = this.value.slice(end);
    this.#input.value = this.value.slice(0, start) + inserted + (needsValue ? rest : rest.trimStart());
    this.#input.setSelectionRange(start + inserted.length, start + inserted.length);
    this.#suggest();
    this.#changed(this.value);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    event.stopPropagation(); // a key typed here is no command of ComfyUI
    // Safari ends a composition before it reports the key that ended it, which has this code.
    if (event.isComposing || event.keyCode === 229) return;
    const count = this.#suggestions.length;
    if (count && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      const step = event.key === "ArrowDown" ? 1 : -1;
      this.#active = this.#active < 0 ? (step > 0 ? 0 : count - 1) : (this.#active + step + count) % count;
      this.#showActive();
    } else if (count && this.#active >= 0 && (event.key === "Enter" || event.key === "Tab")) this.#insert(this.#active);
    else if (event.key === "Escape" && count) this.#close();
    else if (event.key === "Enter") {
      this.#close();
      this.#entered(this.value);
    } else return;
    event.preventDefault();
  }
}
