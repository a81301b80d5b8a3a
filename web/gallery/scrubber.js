// @ts-check
/** The strip beside the timeline: drag it, or press arrow keys, to travel through the days. */

import { el } from "../panel/dom.js";

/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */
/** @typedef {import("./grid.js").Grid} Grid */

const LEAST_GAP = 26; // pixels between two labels

export class Scrubber {
  #context;
  #grid;
  #thumb = el("span", { class: "thumb-mark" });
  #label = el("span", { class: "thumb-label", hidden: true });
  #marks = el("div", { class: "marks", "aria-hidden": "true" });
  /** @type {import("./timeline.js").Timeline|null} the one that the month labels belong to */
  #marked = null;
  #markedHeight = 0;

  /**
   * @param {GalleryContext} context
   * @param {Grid} grid
   */
  constructor(context, grid) {
    this.#context = context;
    this.#grid = grid;
    this.element = el(
      "div",
      {
        class: "scrubber",
        role: "slider",
        tabindex: 0,
        "aria-orientation": "vertical",
        "aria-label": context.t("gallery.scrubber"),
        onpointerdown: (/** @type {PointerEvent} */ event) => this.#grab(event),
        onpointermove: (/** @type {PointerEvent} */ event) => this.#move(event),
        onpointerup: () => this.#letGo(),
        onpointercancel: () => this.#letGo(),
        onkeydown: (/** @type {KeyboardEvent} */ event) => this.#press(event),
      },
      this.#marks,
      this.#thumb,
      this.#label,
    );
    grid.element.addEventListener("scroll", () => this.update());
    new ResizeObserver(() => this.update()).observe(grid.element);
  }

  update() {
    const { timeline, element, scroller } = this.#grid;
    const room = timeline.height - element.clientHeight;
    this.element.hidden = room <= 0 || timeline.days.length < 2;
    if (this.element.hidden) return;
    const height = this.element.clientHeight;
    const share = Math.min(1, Math.max(0, scroller.top / room));
    this.#thumb.style.transform = `translateY(${share * (height - 4)}px)`;
    const day = timeline.dayAt(scroller.top + 40);
    const number = day ? timeline.days.indexOf(day) : 0;
    this.element.setAttribute("aria-valuemin", "1");
    this.element.setAttribute("aria-valuemax", String(timeline.days.length));
    this.element.setAttribute("aria-valuenow", String(number + 1));
    this.element.setAttribute("aria-valuetext", day ? this.#context.dayName(day.name) : "");
    this.#label.textContent = day ? this.#context.dayName(day.name) : "";
    this.#label.style.transform = `translateY(${Math.min(height - 28, Math.max(0, share * height - 14))}px)`;
    this.#drawMarks(height);
  }

  /** Draw a label for each month, as far as there is room. @param {number} height */
  #drawMarks(height) {
    const { timeline } = this.#grid;
    if (timeline === this.#marked && height === this.#markedHeight) return;
    this.#marked = timeline;
    this.#markedHeight = height;
    const nodes = [];
    let month = "";
    let last = -LEAST_GAP;
    for (const [number, day] of timeline.days.entries()) {
      const name = day.name.slice(0, 7);
      const y = (timeline.top(number) / timeline.height) * height;
      if (name === month || y - last < LEAST_GAP || y > height - 16) continue;
      month = name;
      last = y;
      const mark = el("span", { text: this.#context.monthName(day.name) });
      mark.style.transform = `translateY(${y}px)`;
      nodes.push(mark);
    }
    this.#marks.replaceChildren(...nodes);
  }

  /** @param {PointerEvent} event */
  #grab(event) {
    if (event.button) return;
    this.element.setPointerCapture(event.pointerId);
    this.#label.hidden = false;
    this.#move(event);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (!this.element.hasPointerCapture(event.pointerId)) return;
    const box = this.element.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientY - box.top) / box.height));
    const { timeline, element, scroller } = this.#grid;
    scroller.top = share * (timeline.height - element.clientHeight);
  }

  #letGo() {
    this.#label.hidden = true;
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const { timeline } = this.#grid;
    const now = Number(this.element.getAttribute("aria-valuenow")) - 1;
    const last = timeline.days.length - 1;
    /** @type {Record<string, number>} */
    const targets = { ArrowDown: now + 1, ArrowRight: now + 1, ArrowUp: now - 1, ArrowLeft: now - 1, PageDown: now + 10, PageUp: now - 10, Home: 0, End: last };
    if (!(event.key in targets)) return;
    event.preventDefault();
    event.stopPropagation();
    this.#grid.goToDay(Math.min(last, Math.max(0, targets[event.key])));
  }
}
