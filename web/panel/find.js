/** A filter over the whole ledger. The server pages; the page holds one page of rows, however many there are. */

import { formatAgo, formatBytes, formatMoment, parseTime, splitPath } from "../format.js";
import { button, el, fileName, icon, setText } from "./dom.js";

const PAGE = 25;
const DEBOUNCE_MS = 180;
const REFRESH_MS = 2_000;
const TONES = { archived: "good", pending: "calm", uploading: "busy", failed: "bad", vanished: "warn", skipped: "calm", baseline: "calm" };

export class Find {
  #context;
  #input;
  #select;
  #list = el("ul", { class: "list found" });
  #note = el("p", { class: "empty", hidden: true });
  #place = el("span", { class: "small quiet num", role: "status" });
  #pager;
  #newer;
  #older;
  #cursors = [""];
  #next = null;
  #abort = null;
  #timer = null;
  #fetched = 0;
  #seen = null;

  constructor(context) {
    this.#context = context;
    const { t } = context;
    this.#input = el("input", { type: "search", placeholder: t("find.filter"), "aria-label": t("find.filter"), autocomplete: "off", spellcheck: "false", oninput: () => this.#soon(DEBOUNCE_MS, true) });
    this.#select = el("select", { "aria-label": t("find.state"), onchange: () => this.#soon(0, true) });
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

  update({ status, reachable }) {
    this.element.hidden = !status || status.state === "not_configured";
    if (this.element.hidden || !reachable) return;
    const now = `${status.uploaded_files} ${status.already_archived_files} ${status.failed_files} ${status.pending_files} ${status.skipped_files} ${status.baseline_files}`;
    if (now === this.#seen) return;
    const first = this.#seen === null;
    this.#seen = now;
    // Only the first page moves by itself, and not under the fingers of somebody who works in it.
    const busy = this.#list.contains(this.#list.getRootNode().activeElement);
    if (first) this.#load();
    else if (this.#cursors.length === 1 && !busy && this.#timer === null) {
      this.#soon(Math.max(0, this.#fetched + REFRESH_MS - Date.now()), false);
    }
  }

  /** List the files in one state, and bring the list into view. */
  showState(state) {
    this.#select.value = state;
    this.#soon(0, true);
    this.element.scrollIntoView({ block: "start" });
    this.#select.focus();
  }

  disconnect() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#abort?.abort();
    this.#seen = null;
  }

  #soon(wait, anew) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (anew) this.#cursors = [""];
      this.#load();
    }, wait);
  }

  async #turn(way) {
    if (way > 0 && this.#next) this.#cursors.push(this.#next);
    else if (way < 0 && this.#cursors.length > 1) this.#cursors.pop();
    else return;
    await this.#load();
    // A button that just became useless passes the focus to its twin.
    const pressed = way > 0 ? this.#older : this.#newer;
    if (pressed.disabled) (way > 0 ? this.#newer : this.#older).focus();
  }

  async #load() {
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    this.#fetched = Date.now();
    this.#list.setAttribute("aria-busy", "true");
    const { t, client } = this.#context;
    const query = { q: this.#input.value.trim(), state: this.#select.value };
    try {
      const cursor = this.#cursors.at(-1);
      const answer = await client.get("/cloud-sync/files", { ...query, limit: PAGE, cursor, signal: abort.signal });
      if (abort.signal.aborted) return;
      this.#show(answer.files ?? [], answer.next_cursor ?? null, query);
    } catch (error) {
      if (abort.signal.aborted) return;
      this.#show([], null, query);
      this.#note.hidden = false;
      setText(this.#note, t("find.failed", { reason: error.message }));
    }
    this.#list.removeAttribute("aria-busy");
  }

  #show(files, next, query) {
    const { t } = this.#context;
    this.#next = next;
    this.#list.replaceChildren(...files.map((file) => this.#row(file)));
    this.#note.hidden = files.length > 0;
    if (!files.length) setText(this.#note, t(query.q || query.state ? "find.empty" : "find.none"));
    const from = (this.#cursors.length - 1) * PAGE + 1;
    this.#pager.hidden = this.#cursors.length === 1 && !next;
    this.#newer.disabled = this.#cursors.length === 1;
    this.#older.disabled = !next;
    setText(this.#place, files.length ? t("find.page", { from, to: from + files.length - 1 }) : "");
  }

  #row(file) {
    const { t } = this.#context;
    const mark = icon(file.state);
    mark.classList.add(TONES[file.state] ?? "calm");
    const time = parseTime(file.uploaded_at);
    const dot = () => el("span", { class: "dot", text: " · " });
    const about = el("span", { class: "small quiet num" }, el("span", { class: `word ${file.state}`, text: t(`file.${file.state}`) }));
    const isFolder = file.path.endsWith("/");
    about.append(isFolder ? "" : dot(), el("span", { text: isFolder ? "" : formatBytes(file.size_bytes, t.locale) }));
    if (file.state === "skipped") about.append(dot(), el("span", { class: "reason", text: t(`skipped.${file.reason}`) }));
    if (time) {
      const ago = el("time", { datetime: file.uploaded_at, title: formatMoment(time, t.locale), text: formatAgo(time, t.locale) });
      about.append(dot(), ago);
    }
    const copy = file.s3_key ? button(t("action.copyKey.named", { name: splitPath(file.path)[1] }), {
      icon: "copy",
      bare: true,
      onclick: () => this.#context.copy(file.s3_key),
    }) : el("span", { class: "gap" });
    return el("li", { title: file.cause }, mark, el("div", { class: "text" }, fileName(file.path), about), copy);
  }
}
