// @ts-check
/** The headings between the tiles: each day's name and its number of assets. */

import { el } from "../panel/dom.js";

/** @typedef {import("../types.d.ts").NamedCount} NamedCount */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */

export class Headings {
  #context;
  /** @type {HTMLElement[]} reused */
  #nodes = [];
  element = el("div", { class: "days", "aria-hidden": "true" });

  /** @param {GalleryContext} context */
  constructor(context) {
    this.#context = context;
  }

  /**
   * @param {{day: NamedCount, y: number}[]} shown  the days in view, with their places in the timeline in pixels
   * @param {number} start  where the scroller's part begins in the timeline, in pixels
   */
  draw(shown, start) {
    while (this.#nodes.length < shown.length) {
      const node = el("h3", { class: "day" }, el("span"), el("span", { class: "quiet num" }));
      this.#nodes.push(node);
      this.element.append(node);
    }
    this.#nodes.forEach((node, index) => {
      const heading = shown[index];
      node.hidden = !heading;
      if (!heading) return;
      node.style.transform = `translateY(${heading.y - start}px)`;
      const [name, count] = node.children;
      name.textContent = this.#context.dayName(heading.day.name);
      count.textContent = this.#context.number(heading.day.count);
    });
  }
}
