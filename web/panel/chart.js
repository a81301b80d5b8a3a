// @ts-check
/** Files and bytes over the last day or month, as two rows of bars. */

import { fillSlots, formatBytes, formatNumber } from "../format.js";
import { RequestFailed } from "../status_client.js";
import { button, el, setText, svg } from "./dom.js";

/** @typedef {import("../types.d.ts").Context} Context */
/** @typedef {import("../types.d.ts").Slot} Slot */
/** @typedef {import("../types.d.ts").View} View */

/** @type {Record<string, {by: "hour"|"day", last: number}>} */
const RANGES = { day: { by: "hour", last: 24 }, month: { by: "day", last: 30 } };
const REFRESH_MS = 10_000;
const WIDTH = 300;
const ROW = 52;
const LABEL = 16; // the height of the name above each row
const HEIGHT = 2 * (LABEL + ROW);

export class Chart {
  #context;
  #range = "day";
  /** @type {Slot[]} all empty while `#reported` is not the range */
  #slots = [];
  #reported = ""; // the range of the report that is shown; empty: none is
  /** @type {AbortController|null} */
  #abort = null;
  #fetched = -Infinity;
  #countAtRefresh = -1; // archived files at the last refresh; -1: none yet, or it failed
  /** @type {number|null} */
  #pointed = null;
  #hasNoReport = false; // the engine answers 404: it has no such route
  #plot = svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  #readout = el("p", { class: "readout num" });
  #ends = el("div", { class: "legend" });
  #table = el("table");
  #figure;
  /** @type {Map<string, HTMLButtonElement>} */
  #choices = new Map();

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    const { t } = context;
    const choice = el("div", { class: "choice end", role: "group", "aria-label": t("chart.range") });
    for (const name of Object.keys(RANGES)) {
      const node = button(t(`chart.${name}`), { "aria-pressed": String(name === this.#range), onclick: () => this.#choose(name) });
      this.#choices.set(name, node);
      choice.append(node);
    }
    const labels = ["files", "bytes"].map((name, row) => {
      const label = el("span", { text: t(`chart.${name}`) });
      label.style.top = `${50 * row}%`;
      return label;
    });
    this.#figure = el(
      "figure",
      { tabindex: 0, role: "group", "aria-labelledby": "chart-title", onkeydown: (/** @type {KeyboardEvent} */ event) => this.#move(event), onblur: () => this.#point(null), onpointerleave: () => this.#point(null) },
      el("div", { class: "area" }, this.#plot, ...labels),
      this.#ends,
      el("div", { class: "unseen" }, this.#table),
    );
    this.element = el(
      "section",
      { "aria-labelledby": "chart-title", class: "chart" },
      el("div", { class: "title" }, el("h3", { id: "chart-title", text: t("chart.title") }), choice),
      el("div", { class: "card" }, this.#readout, this.#figure),
    );
    this.#plot.addEventListener("pointerover", (event) => {
      const { place } = /** @type {SVGElement} */ (event.target).dataset;
      if (place !== undefined) this.#point(Number(place));
    });
    this.#draw();
  }

  /** @param {View} view */
  update({ status, reachable }) {
    this.element.hidden = this.#hasNoReport || !status || status.state === "not_configured";
    if (!status || this.element.hidden || !reachable) return;
    const count = status.uploaded_files + (status.already_archived_files ?? 0);
    const [now] = fillSlots([], RANGES[this.#range].by, 1);
    const isNewSlot = now.start.getTime() !== this.#slots.at(-1)?.start.getTime(); // the next hour or day has begun
    const waited = performance.now() - this.#fetched > REFRESH_MS;
    const atOnce = status.state !== "uploading" && this.#countAtRefresh >= 0;
    if ((isNewSlot && waited) || (count !== this.#countAtRefresh && (waited || atOnce))) {
      this.#countAtRefresh = count;
      this.refresh();
    }
  }

  disconnect() {
    this.#abort?.abort();
    this.#countAtRefresh = -1;
  }

  async refresh() {
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    this.#fetched = performance.now();
    const { by, last } = RANGES[this.#range];
    try {
      const answer = await this.#context.client.get("/cloud-sync/report", { by, last, signal: abort.signal });
      this.#slots = fillSlots(answer.rows ?? [], by, last);
      this.#reported = this.#range;
    } catch (error) {
      // The last report stays if it is of this range.
      if (abort.signal.aborted) return;
      this.#countAtRefresh = -1;
      this.#hasNoReport = error instanceof RequestFailed && error.status === 404;
      this.element.hidden ||= this.#hasNoReport;
    }
    this.#draw();
  }

  /** @param {string} name */
  #choose(name) {
    this.#range = name;
    for (const [each, node] of this.#choices) node.setAttribute("aria-pressed", String(each === name));
    this.#draw();
    this.refresh();
  }

  #draw() {
    const { t } = this.#context;
    const { by, last } = RANGES[this.#range];
    if (this.#reported !== this.#range) {
      this.#slots = fillSlots([], by, last);
      this.#reported = "";
    }
    const slots = this.#slots;
    const step = WIDTH / slots.length;
    /**
     * @param {string} name
     * @param {number} top
     * @param {number[]} values
     */
    const row = (name, top, values) => {
      const most = Math.max(...values, 1);
      const group = svg("g", { class: name });
      group.append(svg("line", { x1: 0, x2: WIDTH, y1: top + ROW, y2: top + ROW, "vector-effect": "non-scaling-stroke" }));
      values.forEach((value, place) => {
        if (!value) return;
        const height = Math.max(2, (value / most) * (ROW - 4));
        group.append(svg("rect", { class: "value", x: (place + 0.15) * step, y: top + ROW - height, width: step * 0.7, height }));
      });
      return group;
    };
    const zones = slots.map((_, place) =>
      svg("rect", { class: "slot", x: place * step, y: 0, width: step, height: HEIGHT, "data-place": place }));
    const files = slots.map((slot) => slot.files);
    const bytes = slots.map((slot) => slot.bytes);
    this.#plot.replaceChildren(...zones, row("files", LABEL, files), row("bytes", 2 * LABEL + ROW, bytes));
    // Bars lie above the zones but let the pointer through.
    for (const bar of this.#plot.querySelectorAll(".value, line")) bar.setAttribute("pointer-events", "none");
    this.#ends.replaceChildren(...[slots[0], slots[last - 1]].map((slot) => el("span", { text: this.#when(slot) })));
    const head = el("tr", {}, ...["chart.when", "chart.files", "chart.bytes"].map((key) => el("th", { scope: "col", text: t(key) })));
    const rows = slots.filter((slot) => slot.files).map((slot) => el(
      "tr",
      {},
      el("th", { scope: "row", text: this.#when(slot) }),
      el("td", { text: formatNumber(slot.files, t.locale) }),
      el("td", { text: formatBytes(slot.bytes, t.locale) }),
    ));
    this.#table.replaceChildren(el("tbody", {}, head, ...rows));
    this.#point(null);
  }

  /** @param {Slot} slot */
  #when(slot) {
    /** @type {Intl.DateTimeFormatOptions} */
    const form = this.#range === "day" ? { hour: "2-digit", minute: "2-digit" } : { month: "short", day: "numeric" };
    return new Intl.DateTimeFormat(this.#context.t.locale, form).format(slot.start);
  }

  /**
   * Show one slot's numbers, or the sum of all.
   *
   * @param {number|null} place
   */
  #point(place) {
    const { t } = this.#context;
    this.#pointed = place;
    this.#plot.querySelectorAll(".slot").forEach((zone, each) => zone.classList.toggle("here", each === place));
    const shown = place === null ? this.#slots : [this.#slots[place]];
    const files = shown.reduce((sum, slot) => sum + slot.files, 0);
    const size = formatBytes(shown.reduce((sum, slot) => sum + slot.bytes, 0), t.locale);
    const summary = t("chart.summary", { files: t("files", { n: files }), size });
    const nothing = this.#reported === this.#range ? t("chart.empty") : "";
    if (place === null) setText(this.#readout, files ? summary : nothing);
    else setText(this.#readout, `${this.#when(this.#slots[place])} · ${summary}`);
  }

  /** @param {KeyboardEvent} event */
  #move(event) {
    const step = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const last = this.#slots.length - 1;
    this.#point(Math.min(last, Math.max(0, (this.#pointed ?? last + 1) + step)));
  }
}
