// @ts-check
/** The list of the ledger's files, or of skipped or older ones, filtered by name: one page of rows. */

import { formatAgo, formatBytes, formatMoment, parseTime, splitPath } from "../format.js";
import { reasonOf } from "../status_client.js";
import { button, el, fileName, icon, oneTabStop, passFocus, setText } from "./dom.js";
import { isRetrying } from "./problems.js";

/** @typedef {import("../types.d.ts").Context} Context */
/** @typedef {import("../types.d.ts").FileRow} FileRow */
/** @typedef {import("../types.d.ts").View} View */

const PAGE = 25;
const DEBOUNCE_MS = 180;
const REFRESH_MS = 2_000;

/** @type {Record<string, string>} */
const TONES = { archived: "good", pending: "calm", uploading: "busy", retrying: "warn", failed: "bad", vanished: "warn", skipped: "calm", baseline: "calm" };

export class AllFiles {
  #context;
  #input;
  #select;
  #list = el("ul", { class: "list found" });
  #refresh = oneTabStop(this.#list);
  #note = el("p", { class: "empty", hidden: true });
  #place = el("span", { class: "small quiet num", role: "status" });
  #pager;
  #newer;
  #older;
  #cursors = [""];
  /** @type {string|null} */
  #next = null;
  /** @type {AbortController|null} */
  #abort = null;
  /** @type {ReturnType<typeof setTimeout>|null} */
  #timer = null;
  #fetched = 0;
  /** @type {string|null} */
  #seen = null;

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    const { t } = context;
    this.#input = el("input", { type: "search", placeholder: t("find.filter"), "aria-label": t("find.filter"), autocomplete: "off", spellcheck: "false", oninput: () => this.#loadAfter(DEBOUNCE_MS, true) });
    this.#select = el("select", { "aria-label": t("find.state"), onchange: () => this.#loadAfter(0, true) });
    this.#select.append(el("option", { value: "", text: t("find.any") }));
    for (const state of Object.keys(TONES)) {
      this.#select.append(el("option", { value: state, text: t(`file.${state}`) }));
    }
    this.#newer = button(t("find.newer"), { kind: "slim", onclick: () => this.#turn(-1) });
    this.#older = button(t("find.older"), { kind: "slim", onclick: () => this.#turn(1) });
    this.#pager = el("div", { class: "pager", role: "group", "aria-label": t("find.pages") }, this.#newer, this.#place, this.#older);
    this.element = el(
      "section",
      { "aria-labelledby": "find-title", class: "wide" },
      el("div", { class: "title" }, el("h3", { id: "find-title", text: t("find.title") })),
      el("div", { class: "finder" }, this.#input, this.#select),
      this.#list,
      this.#note,
      this.#pager,
    );
  }

  /** @param {View} view */
  update({ status, reachable }) {
    this.element.hidden = !status || status.state === "not_configured";
    if (!status || this.element.hidden || !reachable) return;
    const { archived_files, failed_files, retrying_files, pending_files, skipped_files, baseline_files } = status;
    const counts = [archived_files, failed_files, retrying_files, pending_files, skipped_files, baseline_files];
    const now = [status.uploaded_files, status.already_archived_files, ...counts].join(" ");
    if (now === this.#seen) return;
    const first = this.#seen === null;
    // Only the first page is refreshed, and only once none of its buttons has the focus.
    const root = /** @type {ShadowRoot} */ (this.#list.getRootNode());
    if (!first && (this.#cursors.length > 1 || this.#list.contains(root.activeElement))) return;
    this.#seen = now;
    if (first) this.#load();
    else if (this.#timer === null) this.#loadAfter(Math.max(0, this.#fetched + REFRESH_MS - performance.now()), false);
  }

  tick() {
    for (const node of this.#list.querySelectorAll("time")) setText(node, formatAgo(new Date(node.dateTime), this.#context.t.locale));
  }

  /**
   * List the files in one state, scroll there, and focus the choice of state.
   *
   * @param {string} state
   */
  showState(state) {
    this.#select.value = state;
    this.#loadAfter(0, true);
    this.element.scrollIntoView({ block: "start" });
    this.#select.focus();
  }

  disconnect() {
    clearTimeout(this.#timer ?? undefined);
    this.#timer = null;
    this.#abort?.abort();
    this.#seen = null;
  }

  /**
   * @param {number} waitMs
   * @param {boolean} fromFirstPage  false: reload the page that is shown
   */
  #loadAfter(waitMs, fromFirstPage) {
    clearTimeout(this.#timer ?? undefined);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (fromFirstPage) this.#cursors = [""];
      this.#load();
    }, waitMs);
  }

  /** @param {1|-1} way  1: older */
  async #turn(way) {
    if (way > 0 && this.#next) {
      this.#cursors.push(this.#next);
      this.#next = null; // a second press before the answer turns no page
    } else if (way < 0 && this.#cursors.length > 1) this.#cursors.pop();
    else return;
    await this.#load();
    const [pressed, other] = way > 0 ? [this.#older, this.#newer] : [this.#newer, this.#older];
    if (pressed.disabled) passFocus(pressed, other);
  }

  async #load() {
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    this.#fetched = performance.now();
    this.#list.setAttribute("aria-busy", "true");
    const { t, client } = this.#context;
    const state = this.#select.value === "failed" ? "given_up" : this.#select.value;
    const query = { q: this.#input.value.trim(), state };
    try {
      const cursor = this.#cursors.at(-1);
      const answer = await client.get("/cloud-sync/files", { ...query, limit: PAGE, cursor, signal: abort.signal });
      if (abort.signal.aborted) return;
      this.#show(answer.files ?? [], answer.next_cursor ?? null, query);
    } catch (error) {
      if (abort.signal.aborted) return;
      this.#show([], null, query);
      this.#seen = ""; // the next status loads it again if it is the first page
      this.#note.hidden = false;
      setText(this.#note, t("find.failed", { reason: reasonOf(error, t) }));
    }
    this.#list.removeAttribute("aria-busy");
  }

  /**
   * @param {FileRow[]} files
   * @param {string|null} next  the cursor of the next page
   * @param {{q: string, state: string}} query
   */
  #show(files, next, query) {
    const { t } = this.#context;
    this.#next = next;
    this.#list.replaceChildren(...files.map((file) => this.#row(file)));
    this.#refresh();
    this.#note.hidden = files.length > 0;
    if (!files.length) setText(this.#note, t(query.q || query.state ? "find.empty" : "find.none"));
    const from = (this.#cursors.length - 1) * PAGE + 1;
    this.#pager.hidden = this.#cursors.length === 1 && !next;
    this.#newer.disabled = this.#cursors.length === 1;
    this.#older.disabled = !next;
    setText(this.#place, files.length ? t("find.page", { from, to: from + files.length - 1 }) : "");
  }

  /** @param {FileRow} file */
  #row(file) {
    const { t } = this.#context;
    const state = isRetrying(file) ? "retrying" : file.state;
    const key = file.s3_key;
    const mark = icon(state);
    mark.classList.add(TONES[state] ?? "calm");
    const time = parseTime(file.uploaded_at);
    const dot = () => el("span", { class: "dot", text: " · " });
    const about = el("span", { class: "small quiet num" }, el("span", { class: `word ${state}`, text: t(`file.${state}`) }));
    const isFolder = file.path.endsWith("/");
    about.append(isFolder ? "" : dot(), el("span", { text: isFolder ? "" : formatBytes(file.size_bytes, t.locale) }));
    if (file.state === "skipped") about.append(dot(), el("span", { class: "reason", text: t(`skipped.${file.reason}`) }));
    if (time) {
      const ago = el("time", { datetime: file.uploaded_at, title: formatMoment(time, t.locale), text: formatAgo(time, t.locale) });
      about.append(dot(), ago);
    }
    const copy = key ? button(t("action.copyKey.named", { name: splitPath(file.path)[1] }), {
      icon: "copy",
      bare: true,
      onclick: () => this.#context.copy(key),
    }) : el("span", { class: "gap" });
    return el("li", { title: file.cause && t.server(file.cause) }, mark, el("div", { class: "text" }, fileName(file.path), about), copy);
  }
}
