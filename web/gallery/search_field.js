// @ts-check
/** The search field: fields, models, LoRAs, samplers, machines and tags are suggested while the user types. */

import { el, icon } from "../panel/dom.js";
import { FIELDS, term, tokenAt } from "./query.js";

/** @typedef {import("../types.d.ts").FacetName} FacetName */
/** @typedef {import("../types.d.ts").Facets} Facets */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */
/** @typedef {{text: string, note: string}} Suggestion */

const MOST = 8;

/** @type {Record<string, FacetName>} */
const FACET_OF = { model: "models", lora: "loras", sampler: "samplers", machine: "machines", type: "types", tag: "tags" };
/** @type {Record<string, string[]>} */
const VALUES = { is: ["favorite", "hidden"], rating: [">=5", ">=4", ">=3"], since: ["1d", "7d", "30d"], width: [">=2048", ">=1024"], height: [">=2048", ">=1024"] };

export class SearchField {
  #context;
  #input;
  #list = el("ul", { id: "gallery-suggestions", class: "suggestions", role: "listbox", hidden: true });
  /** @type {Suggestion[]} */
  #shown = [];
  #active = -1;
  #changed;
  /** @type {Facets|null} */
  facets = null;

  /**
   * @param {GalleryContext} context
   * @param {(query: string) => void} changed  called with the query each time it changes
   */
  constructor(context, changed) {
    this.#context = context;
    this.#changed = changed;
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

  focus() {
    this.#input.focus();
  }

  /** Show whether the server could not read the query. @param {boolean} invalid */
  markInvalid(invalid) {
    if (invalid) this.#input.setAttribute("aria-invalid", "true");
    else this.#input.removeAttribute("aria-invalid");
  }

  /** @returns {Suggestion[]} */
  #find() {
    const { text } = tokenAt(this.value, this.#input.selectionStart ?? 0);
    const bare = text.replace(/^-/, "").replaceAll('"', "").toLowerCase();
    if (!bare) return [];
    const [, field, part] = /^(\w+):(.*)$/.exec(bare) ?? [null, "", bare];
    if (field) {
      const facet = FACET_OF[field];
      const values = facet ? (this.facets?.[facet] ?? []) : (VALUES[field] ?? []).map((name) => ({ name, count: 0 }));
      return values
        .filter(({ name }) => name.toLowerCase().includes(part) && name.toLowerCase() !== part)
        .slice(0, MOST)
        .map(({ name, count }) => ({ text: term(field, name), note: count ? this.#context.number(count) : "" }));
    }
    const fields = FIELDS.filter((name) => name.startsWith(part)).map((name) => ({ text: `${name}:`, note: this.#context.t(`field.${name}`) }));
    const found = ["model", "lora", "tag"].flatMap((name) =>
      (this.facets?.[FACET_OF[name]] ?? [])
        .filter((value) => part.length > 1 && value.name.toLowerCase().includes(part))
        .map((value) => ({ text: term(name, value.name), note: this.#context.number(value.count) })),
    );
    return [...fields, ...found].slice(0, MOST);
  }

  #suggest() {
    this.#shown = this.#find();
    this.#active = -1;
    this.#list.hidden = !this.#shown.length;
    this.#input.setAttribute("aria-expanded", String(this.#shown.length > 0));
    this.#list.replaceChildren(
      ...this.#shown.map((suggestion, place) =>
        el(
          "li",
          {
            id: `gallery-suggestion-${place}`,
            role: "option",
            "aria-selected": "false",
            // The field must not lose the focus first.
            onpointerdown: (/** @type {Event} */ event) => {
              event.preventDefault();
              this.#take(place);
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
    this.#shown = [];
    this.#list.hidden = true;
    this.#input.setAttribute("aria-expanded", "false");
    this.#input.removeAttribute("aria-activedescendant");
  }

  #showActive() {
    [...this.#list.children].forEach((node, place) => node.setAttribute("aria-selected", String(place === this.#active)));
    if (this.#active >= 0) this.#input.setAttribute("aria-activedescendant", `gallery-suggestion-${this.#active}`);
    else this.#input.removeAttribute("aria-activedescendant");
  }

  /** Put a suggestion into the query. @param {number} place */
  #take(place) {
    const { text } = this.#shown[place];
    const { text: old, start, end } = tokenAt(this.value, this.#input.selectionStart ?? 0);
    const minus = old.startsWith("-") ? "-" : "";
    const open = text.endsWith(":");
    const made = `${minus}${text}${open ? "" : " "}`;
    const rest = this.value.slice(end);
    this.#input.value = this.value.slice(0, start) + made + (open ? rest : rest.trimStart());
    this.#input.setSelectionRange(start + made.length, start + made.length);
    this.#suggest();
    this.#changed(this.value);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    event.stopPropagation(); // for ComfyUI, single letters are commands
    if (event.isComposing) return;
    const count = this.#shown.length;
    if (count && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      const step = event.key === "ArrowDown" ? 1 : -1;
      this.#active = this.#active < 0 ? (step > 0 ? 0 : count - 1) : (this.#active + step + count) % count;
      this.#showActive();
    } else if (count && this.#active >= 0 && (event.key === "Enter" || event.key === "Tab")) this.#take(this.#active);
    else if (event.key === "Escape" && count) this.#close();
    else return;
    event.preventDefault();
  }
}
