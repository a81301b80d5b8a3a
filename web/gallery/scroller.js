// @ts-check
/** The box that scrolls the timeline. It holds a part of a timeline that is taller than browsers can scroll. */

import { el } from "../panel/dom.js";

const MOST = 10_000_000; // pixels; Firefox scrolls through 17.9 million, Chromium through 33.5 million
const ROOM = 100_000; // pixels; a single scroll event passes fewer

export class Scroller {
  #canvas;
  #height = 0;
  #start = 0;

  /**
   * @param {HTMLElement} canvas  gets the height of the part
   * @param {() => void} moved  called after each scroll
   * @param {...HTMLElement} children  of the box; the canvas is in one of them
   */
  constructor(canvas, moved, ...children) {
    this.#canvas = canvas;
    const onscroll = () => {
      this.#choosePart(this.top);
      moved();
    };
    // Firefox makes a box that scrolls a stop of the Tab key, unless it has a tabindex.
    this.element = el("div", { class: "scroller", tabindex: -1, onscroll }, ...children);
  }

  /** Where the part begins in the timeline, in pixels. */
  get start() {
    return this.#start;
  }

  /** Where the box's upper edge is in the timeline, in pixels. */
  get top() {
    return this.#start + this.element.scrollTop;
  }

  set top(top) {
    const before = this.#start;
    this.#choosePart(top);
    this.element.scrollTop = top - this.#start;
    // In another part, `scrollTop` may be the number that it was, and then the browser sends no event.
    if (this.#start !== before) this.element.dispatchEvent(new Event("scroll"));
  }

  /** Set the height of the timeline, in pixels. @param {number} height */
  resize(height) {
    this.#height = height;
    this.#start = Math.min(this.#start, this.#lastStart);
    this.#canvas.style.height = `${Math.min(height, MOST)}px`;
  }

  get #lastStart() {
    return Math.max(0, this.#height - MOST);
  }

  /** Take another part if this one has no room to scroll on from `top`. @param {number} top */
  #choosePart(top) {
    const inside = top - this.#start;
    const isTooHigh = inside < ROOM && this.#start > 0;
    const isTooLow = inside > MOST - ROOM && this.#start < this.#lastStart;
    if (!isTooHigh && !isTooLow) return;
    this.#start = Math.min(this.#lastStart, Math.max(0, top - MOST / 2));
    this.element.scrollTop = top - this.#start;
  }
}
