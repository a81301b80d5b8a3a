// @ts-check
/** The bar below the timeline, with the number of selected assets and the actions for them. */

import { button, el, whileBusy } from "../panel/dom.js";
import { reasonOf } from "../status_client.js";
import { download } from "./media.js";
import { shareButton } from "./share.js";

/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */

const MOST_IN_ZIP = 200;

export class SelectionBar {
  #context;
  #selected;
  #count = el("strong", { class: "num" });
  #compare;
  #share;
  #tag;

  /**
   * @param {GalleryContext} context
   * @param {() => Asset[]} selected
   * @param {{compare: () => void, clear: () => void}} actions
   */
  constructor(context, selected, actions) {
    this.#context = context;
    this.#selected = selected;
    const { t } = context;
    this.#compare = button(t("action.compare"), { icon: "compare", kind: "slim", onclick: actions.compare });
    this.#share = shareButton(context, selected, { kind: "slim" });
    this.#tag = el("input", { type: "text", maxlength: 100, list: "gallery-tags", placeholder: t("asset.addTag"), "aria-label": t("asset.addTag"), autocomplete: "off" });
    this.#tag.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter" && !event.isComposing) this.#addTag();
    });
    const rating = el("select", { "aria-label": t("asset.rating") });
    rating.append(el("option", { value: "", text: t("asset.rating") }));
    for (let value = 0; value <= 5; value += 1) rating.append(el("option", { value, text: value ? t("asset.stars", { n: value }) : t("asset.noRating") }));
    rating.addEventListener("change", () => {
      if (rating.value) this.#context.edit(this.#selected(), { rating: Number(rating.value) });
      rating.value = "";
    });
    this.element = el(
      "div",
      { class: "selection", role: "toolbar", "aria-label": t("gallery.selection"), hidden: true },
      this.#count,
      button(t("action.clear"), { icon: "cross", bare: true, onclick: actions.clear }),
      this.#switch("favorite", "heart"),
      this.#switch("hidden", "hidden"),
      rating,
      this.#tag,
      this.#compare,
      this.#share.node,
      button(t("action.zip"), { icon: "download", kind: "slim", onclick: () => this.#zip() }),
    );
  }

  /** Show the bar for the selected assets; hide it if none is selected. */
  update() {
    const selected = this.#selected();
    this.element.hidden = !selected.length;
    this.#count.textContent = this.#context.t("gallery.selected", { n: selected.length });
    this.#share.update();
    this.#compare.hidden = selected.length !== 2;
  }

  /**
   * Create a button that sets `name` on all selected assets, or clears it if it is set on all of them.
   *
   * @param {"favorite"|"hidden"} name
   * @param {string} picture  the name of the icon
   */
  #switch(name, picture) {
    const toggle = () => {
      const selected = this.#selected();
      return this.#context.edit(selected, { [name]: selected.some((asset) => !asset[name]) });
    };
    const node = button(this.#context.t(`asset.${name}`), { icon: picture, bare: true, onclick: () => whileBusy(node, toggle) });
    return node;
  }

  async #addTag() {
    const name = this.#tag.value.trim();
    if (!name) return;
    const untagged = this.#selected().filter((asset) => !asset.tags.includes(name));
    this.#tag.value = ""; // for the next tag; if saving fails, this one comes back
    if (!(await this.#context.edit(untagged, ({ tags }) => ({ tags: [...new Set([...tags, name])] })))) this.#tag.value ||= name;
  }

  async #zip() {
    const { t, client, say } = this.#context;
    const selected = this.#selected();
    if (selected.length > MOST_IN_ZIP) {
      say(t("zip.tooMany", { n: MOST_IN_ZIP }), "bad");
      return;
    }
    const ids = selected.map((asset) => asset.id.replaceAll("-", "")).join(",");
    try {
      await download(client, `/cloud-sync/assets.zip?ids=${ids}`, "cloud-archive.zip");
    } catch (error) {
      say(reasonOf(error, t), "bad");
    }
  }
}
