// @ts-check
/** The form that edits an asset. Each change is saved at once. */

import { button, el, keyed } from "../panel/dom.js";

/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */
/** @typedef {import("../types.d.ts").Row<string>} TagRow */

export class EditForm {
  #asset;
  #context;
  #tags = el("div", { class: "chips" });
  /** @type {Map<string, TagRow>} */
  #tagRows = new Map();
  #newTag;
  #note;

  /**
   * @param {Asset} asset
   * @param {GalleryContext} context
   */
  constructor(asset, context) {
    this.#asset = asset;
    this.#context = context;
    const { t } = context;
    const tag = (this.#newTag = el("input", { type: "text", class: "new-tag", maxlength: 100, list: "gallery-tags", placeholder: t("asset.addTag"), "aria-label": t("asset.addTag"), autocomplete: "off" }));
    tag.addEventListener("keydown", async (event) => {
      event.stopPropagation();
      const name = tag.value.trim();
      if (event.key !== "Enter" || event.isComposing || !name) return;
      event.preventDefault();
      tag.value = ""; // for the next tag
      if (!(await this.save(({ tags }) => ({ tags: [...new Set([...tags, name])] })))) tag.value ||= name;
    });
    const note = (this.#note = el("textarea", { rows: 2, maxlength: 10_000, placeholder: t("asset.note"), "aria-label": t("asset.note") }));
    note.value = asset.note;
    note.addEventListener("keydown", (event) => event.stopPropagation());
    note.addEventListener("change", () => {
      const text = note.value;
      this.save(() => ({ note: text }));
    });
    this.element = el("section", { class: "edit-form" }, this.#marks(), this.#tags, tag, note);
    this.#drawTags();
  }

  #marks() {
    const { t } = this.#context;
    const favorite = button(t("asset.favorite"), { icon: "heart", bare: true, "aria-pressed": String(this.#asset.favorite), onclick: () => this.save((asset) => ({ favorite: !asset.favorite })) });
    const hide = button(t("asset.hidden"), { icon: "hidden", bare: true, "aria-pressed": String(this.#asset.hidden), onclick: () => this.save((asset) => ({ hidden: !asset.hidden })) });
    const stars = el("div", { class: "rating", role: "radiogroup", "aria-label": t("asset.rating") });
    const draw = () => {
      favorite.setAttribute("aria-pressed", String(this.#asset.favorite));
      hide.setAttribute("aria-pressed", String(this.#asset.hidden));
      [...stars.children].forEach((node, place) => {
        node.classList.toggle("on", place < this.#asset.rating);
        node.setAttribute("aria-checked", String(place + 1 === this.#asset.rating));
        /** @type {HTMLElement} */ (node).tabIndex = place === Math.max(0, this.#asset.rating - 1) ? 0 : -1;
      });
    };
    for (let value = 1; value <= 5; value += 1) {
      stars.append(
        button(t("asset.stars", { n: value }), {
          icon: "star",
          bare: true,
          role: "radio",
          // A second click removes the rating.
          onclick: () => this.save((asset) => ({ rating: asset.rating === value ? 0 : value })),
        }),
      );
    }
    stars.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      const rating = Math.min(5, Math.max(0, this.#asset.rating + step));
      /** @type {HTMLElement|undefined} */ (stars.children[Math.max(0, rating - 1)])?.focus();
      this.save((asset) => ({ rating: Math.min(5, Math.max(0, asset.rating + step)) }));
    });
    this.#draw = draw;
    draw();
    return el("div", { class: "marks-row" }, favorite, stars, hide);
  }

  #draw = () => {};

  /** @param {string} name @returns {TagRow} */
  #tagRow(name) {
    const label = this.#context.t("asset.removeTag", { name });
    const remove = () => this.save(({ tags }) => ({ tags: tags.filter((each) => each !== name) }));
    return { node: button(name, { icon: "cross", kind: "chip", label, onclick: remove }), update: () => {} };
  }

  #drawTags() {
    const focused = /** @type {ShadowRoot} */ (this.element.getRootNode()).activeElement;
    const place = [...this.#tags.children].findIndex((node) => node === focused);
    keyed(this.#tags, this.#tagRows, this.#asset.tags, (name) => name, (name) => this.#tagRow(name));
    this.#tags.hidden = !this.#asset.tags.length;
    // A tag that was removed passes the focus to the next one.
    if (place >= 0 && !this.#tags.contains(focused)) /** @type {HTMLElement} */ (this.#tags.children[place] ?? this.#newTag).focus();
  }

  /**
   * Show a newer version of the asset. A note that is being typed stays.
   *
   * @param {Asset} asset
   */
  update(asset) {
    if (this.#note.value === this.#asset.note) this.#note.value = asset.note;
    this.#asset = asset;
    this.#draw();
    this.#drawTags();
  }

  /**
   * Save changes. Resolves with whether that succeeded.
   *
   * @param {(asset: Asset) => Partial<Asset>} changesOf
   */
  async save(changesOf) {
    const saved = await this.#context.edit([this.#asset], changesOf);
    if (saved) this.update(saved[0]);
    return saved !== null;
  }
}
