// @ts-check
/** Two assets side by side: both zoom and move together, and what differs between them is marked. */

import { formatBytes } from "../format.js";
import { button, el } from "../panel/dom.js";
import { Stage } from "./stage.js";

/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */

export class Compare {
  #context;
  #stages;
  #table = el("table", { class: "differences" });

  /** @param {GalleryContext} context */
  constructor(context) {
    this.#context = context;
    const { t } = context;
    const stages = [new Stage(context), new Stage(context)];
    stages[0].moved = () => stages[1].follow(stages[0].viewport);
    stages[1].moved = () => stages[0].follow(stages[1].viewport);
    this.#stages = stages;
    this.element = el(
      "dialog",
      { class: "viewer compare", "aria-label": t("compare.title"), onclose: () => this.#end(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event) },
      el("div", { class: "viewer-bar" }, el("span", { text: t("compare.title") }), el("span", { class: "gap" }), button(t("viewer.close"), { icon: "cross", bare: true, onclick: () => this.element.close() })),
      el("div", { class: "pair" }, stages[0].element, stages[1].element),
      el("div", { class: "side", tabindex: 0, role: "region", "aria-label": t("compare.differences") }, this.#table),
    );
  }

  /**
   * @param {Asset} left
   * @param {Asset} right
   */
  open(left, right) {
    this.#stages[0].show(left);
    this.#stages[1].show(right);
    const { t } = this.#context;
    /** @type {[string, (asset: Asset) => unknown][]} */
    const rows = [
      [t("asset.name"), (asset) => asset.name],
      [t("asset.prompt"), (asset) => asset.metadata.prompt],
      [t("asset.negative"), (asset) => asset.metadata.negative_prompt],
      [t("field.seed"), (asset) => asset.metadata.seed],
      [t("field.model"), (asset) => asset.metadata.models.join(", ")],
      [t("field.lora"), (asset) => asset.metadata.loras.map(({ name, strength }) => `${name} ${strength ?? ""}`.trim()).join(", ")],
      [t("field.sampler"), (asset) => [asset.metadata.sampler, asset.metadata.scheduler].filter(Boolean).join(", ")],
      [t("asset.steps"), (asset) => asset.metadata.steps],
      [t("asset.cfg"), (asset) => asset.metadata.cfg],
      [t("asset.size"), (asset) => [asset.width && `${asset.width} × ${asset.height}`, formatBytes(asset.size, t.locale)].filter(Boolean).join(" · ")],
    ];
    this.#table.replaceChildren(
      el("tbody", {}, ...rows.map(([name, read]) => {
        const [first, second] = [left, right].map((asset) => String(read(asset) ?? "") || "–");
        return el("tr", { class: first === second ? "same" : "differs" }, el("th", { scope: "row", text: name }), el("td", { dir: "auto", text: first }), el("td", { dir: "auto", text: second }));
      })),
    );
    this.element.showModal();
  }

  #end() {
    if (this.element.open) return; // it was opened again before this event
    for (const stage of this.#stages) stage.clear();
    this.#table.replaceChildren();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    event.stopPropagation();
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const [stage] = this.#stages;
    /** @type {Record<string, () => void>} */
    const keys = { "+": () => stage.zoomIn(), "=": () => stage.zoomIn(), "-": () => stage.zoomOut(), z: () => stage.toggleZoom() };
    keys[event.key.toLowerCase()]?.(); // also with caps lock
  }
}
