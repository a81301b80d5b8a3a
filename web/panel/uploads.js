// @ts-check
/** What is being uploaded, and what waits. */

import { formatBytes, formatDuration, formatNumber } from "../format.js";
import { el, fileName, icon, keyed, setText } from "./dom.js";

/** @typedef {import("../types.d.ts").ActiveFile} ActiveFile */
/** @typedef {import("../types.d.ts").Context} Context */
/** @typedef {import("../types.d.ts").FileRow} FileRow */
/** @typedef {import("../types.d.ts").Row<ActiveFile>} ActiveRow */
/** @typedef {import("../types.d.ts").View} View */

const SHOWN_WAITING = 30;

/**
 * Return the path below the watched directory; the bare name where the server sends no path.
 *
 * @param {{path?: string, file_name: string}} file
 */
const pathOf = (file) => file.path ?? file.file_name;

const STEADY_SECONDS = 5;

/**
 * Return whether small files may come and go in moments. What is below their list must not jump with each of them.
 *
 * @param {View} view
 */
const isUploading = ({ status, reachable }) => reachable && status?.state === "uploading";

/** The uploads in progress; the section is as high as it was in the last seconds, and hidden once there was none. */
export class ActiveUploads {
  #context;
  #kept = 0; // pixels, the list's least height
  #highest = 0; // pixels, of the rows since `#seconds` was 0
  #seconds = 0;
  /** @type {Map<string, ActiveRow>} */
  #rows = new Map();
  #list = el("ul", { class: "list" });
  #rate = el("span", { class: "end small quiet num" });

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    this.element = el(
      "section",
      { "aria-labelledby": "now-title", class: "now", hidden: true },
      el("div", { class: "title" }, el("h3", { id: "now-title", text: context.t("now.title") }), this.#rate),
      this.#list,
    );
  }

  /** @param {View} view */
  update(view) {
    const { status, reachable } = view;
    const { t } = this.#context;
    const active = reachable ? (status?.active ?? []) : [];
    const parts = [];
    if (status?.rate_bytes_per_second) {
      parts.push(t("now.rate", { rate: formatBytes(status.rate_bytes_per_second, t.locale) }));
    }
    if (status?.seconds_left) parts.push(t("now.left", { time: formatDuration(status.seconds_left, t) }));
    setText(this.#rate, parts.join(" · "));
    keyed(this.#list, this.#rows, active, (file) => `${pathOf(file)}\n${file.s3_key}`, (file) => this.#row(file));
    if (active.length) this.element.hidden = false; // a hidden row has no height
    const high = this.#rowsHigh();
    this.#highest = Math.max(this.#highest, high);
    this.#keep(isUploading(view) ? Math.max(this.#kept, high) : high);
  }

  tick() {
    this.#seconds = (this.#seconds + 1) % STEADY_SECONDS;
    if (this.#seconds) return;
    this.#keep(Math.min(this.#kept, this.#highest));
    this.#highest = this.#rowsHigh();
  }

  #rowsHigh() {
    const { firstElementChild: first, lastElementChild: last } = this.#list;
    return first && last ? last.getBoundingClientRect().bottom - first.getBoundingClientRect().top : 0;
  }

  /** @param {number} high  pixels; 0: hide the section */
  #keep(high) {
    this.#kept = high;
    this.#list.style.minHeight = `${high}px`;
    this.element.hidden = !high;
  }

  /**
   * @param {ActiveFile} file
   * @returns {ActiveRow}
   */
  #row(file) {
    const { t } = this.#context;
    const fill = el("span");
    const bar = el("div", {
      class: "bar",
      role: "progressbar",
      "aria-valuemin": 0,
      "aria-valuemax": 100,
      "aria-label": t("now.progress", { name: pathOf(file) }),
    }, fill);
    const sent = el("span", { class: "small quiet num" });
    const line = el("div", { class: "line" }, fileName(pathOf(file)), sent);
    return {
      node: el("li", { class: "active" }, line, bar),
      update: ({ sent_bytes: done, size_bytes: size }) => {
        const share = size > 0 ? Math.min(1, done / size) : 0;
        fill.style.transform = `scaleX(${share.toFixed(4)})`;
        bar.setAttribute("aria-valuenow", String(Math.floor(share * 100)));
        const of = t("now.of", { sent: formatBytes(done, t.locale), size: formatBytes(size, t.locale) });
        setText(sent, of);
        bar.setAttribute("aria-valuetext", of);
      },
    };
  }
}

/** The files that wait: first those that are not complete yet, then those that wait for a worker. */
export class Waiting {
  #context;
  #list = el("ul", { class: "list small" });
  #badge = el("span", { class: "badge" });
  #details;
  /** @type {AbortController|null} */
  #abort = null;
  /** @type {FileRow[]} */
  #pending = [];
  #seen = "";
  #seconds = 0; // for which the section stays, although no file waits
  /** @type {View} */
  #view = { status: null, reachable: true };

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    this.#details = el(
      "details",
      {},
      el("summary", {}, icon("chevron"), el("span", { text: context.t("waiting.title") }), this.#badge),
      this.#list,
    );
    this.#details.addEventListener("toggle", () => this.update(this.#view));
    this.element = el("section", { class: "waiting", "aria-label": context.t("waiting.title"), hidden: true }, this.#details);
  }

  /** @param {View} view */
  update(view) {
    this.#view = view;
    const { status } = view;
    if (!status) return;
    // Problems lists the files that will be retried.
    const others = status.pending_files - (status.active?.length ?? 0) - (status.retrying_files ?? 0);
    const count = Math.max(status.waiting?.length ?? 0, others);
    if (count > 0) this.#seconds = STEADY_SECONDS;
    this.element.hidden = status.state === "retrying" || (count <= 0 && !(this.#seconds && isUploading(view)));
    setText(this.#badge, formatNumber(count, this.#context.t.locale));
    if (!this.#details.open || count <= 0) return;
    const now = `${status.pending_files} ${status.uploaded_files}`;
    if (now !== this.#seen) this.#load(now);
    this.#show(count);
  }

  tick() {
    if (this.#seconds && !(this.#seconds -= 1)) this.update(this.#view);
  }

  disconnect() {
    this.#abort?.abort();
  }

  /** @param {string} seen  the counts for which the list is loaded */
  async #load(seen) {
    if (this.#abort) return;
    this.#seen = seen;
    this.#abort = new AbortController();
    const query = { state: "pending", limit: SHOWN_WAITING, signal: this.#abort.signal };
    const answer = await this.#context.client.get("/cloud-sync/files", query).catch(() => null);
    this.#abort = null;
    if (!answer) {
      this.#seen = ""; // the next status loads the list again
      return;
    }
    this.#pending = /** @type {FileRow[]} */ (answer.files ?? []).filter((file) => !file.cause);
    this.update(this.#view);
  }

  /** @param {number} count */
  #show(count) {
    const { t } = this.#context;
    const unfinished = this.#view.status?.waiting ?? [];
    const rows = [
      ...unfinished.map((file) => ({ path: pathOf(file), size: file.size_bytes, reason: t.server(file.reason) })),
      ...this.#pending.map((file) => ({ path: file.path, size: file.size_bytes, reason: "" })),
    ].slice(0, SHOWN_WAITING);
    const items = rows.map(({ path, size, reason }) => el(
      "li",
      { title: reason || null },
      fileName(path),
      reason ? el("span", { class: "quiet", text: reason }) : null,
      el("span", { class: "quiet num", text: formatBytes(size, t.locale) }),
    ));
    if (count > rows.length) items.push(el("li", { class: "quiet", text: t("waiting.more", { n: count - rows.length }) }));
    this.#list.replaceChildren(...items);
  }
}
