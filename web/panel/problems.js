// @ts-check
/** The files that failed. Those with the same cause and cure share a card. */

import { formatDuration, formatNumber, parseTime, splitPath } from "../format.js";
import { button, el, fileName, keyed, oneTabStop, setText, whileBusy } from "./dom.js";

/** @typedef {import("../types.d.ts").Context} Context */
/** @typedef {import("../types.d.ts").FileRow} FileRow */
/** @typedef {import("../types.d.ts").View} View */
/** @typedef {[key: string, files: FileRow[]]} Group */
/** @typedef {import("../types.d.ts").Row<Group>} Card */
/** @typedef {import("../types.d.ts").Row<FileRow>} ProblemRow */

const PAGE = 50;
const SHOWN = 3;

export class Problems {
  #context;
  /** @type {Map<string, Card>} */
  #cards = new Map();
  #badge = el("span", { class: "badge" });
  #list = el("div");
  #more;
  #messages = el("ul", { class: "messages" });
  #box;
  #notes;
  /** @type {FileRow[]} */
  #files = [];
  #cut = false;
  /** @type {AbortController|null} */
  #abort = null;
  #stale = false;
  #seen = "";
  /** @type {View} */
  #view = { status: null, reachable: true };
  /** @type {Set<string>} */
  #opened = new Set();

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    const { t } = context;
    const all = button(t("action.retryAll"), { icon: "retry", kind: "slim end", onclick: () => whileBusy(all, () => this.#act("retry")) });
    this.#more = el("p", { class: "small quiet", hidden: true, text: t("problems.more") });
    this.#box = el(
      "section",
      { "aria-labelledby": "problems-title", class: "problems", hidden: true },
      el("div", { class: "title" }, el("h3", { id: "problems-title", text: t("problems.title") }), this.#badge, all),
      this.#list,
      this.#more,
    );
    this.#notes = el(
      "section",
      { "aria-labelledby": "messages-title", hidden: true },
      el("div", { class: "title" }, el("h3", { id: "messages-title", text: t("messages.title") })),
      this.#messages,
    );
    this.element = el("div", { class: "group" }, this.#box, this.#notes);
  }

  /** @param {View} view */
  update(view) {
    this.#view = view;
    const { status, reachable } = view;
    if (!status) return;
    const failing = (status.failed_files ?? 0) + (status.retrying_files ?? 0);
    const trouble = status.state !== "not_configured" && (failing > 0 || status.errors?.length > 0);
    // A file that was being tried again as the list was made is missing there, though no count changed.
    const incomplete = !this.#cut && this.#files.length < failing;
    const now = trouble
      ? [status.failed_files, status.retrying_files, status.state, status.errors?.at(-1), status.pending_files].join(" ")
      : "";
    if (!trouble) {
      this.#abort?.abort();
      this.#take([], false);
    } else if (reachable && status.state !== "unavailable" && (now !== this.#seen || incomplete)) this.refresh();
    this.#seen = now;
    this.#showMessages();
  }

  disconnect() {
    this.#abort?.abort();
    this.#stale = false;
  }

  tick() {
    for (const card of this.#cards.values()) card.tick?.();
  }

  async refresh() {
    if (this.#abort) {
      this.#stale = true;
      return;
    }
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const { client } = this.#context;
    /** @param {string} state */
    const ask = (state) => client.get("/cloud-sync/files", { state, limit: PAGE, signal });
    try {
      const pages = await Promise.all([ask("given_up"), ask("retrying")]);
      this.#take(pages.flatMap((page) => page.files ?? []), pages.some((page) => page.next_cursor));
    } catch {
      // The list stays as it was.
    }
    this.#abort = null;
    if (this.#stale && !signal.aborted) {
      this.#stale = false;
      this.refresh();
    }
  }

  /**
   * @param {FileRow[]} files
   * @param {boolean} cut  whether there are more
   */
  #take(files, cut) {
    const before = this.#files.length;
    this.#files = files;
    this.#cut = cut;
    if (!files.length && !before) return;
    const { t } = this.#context;
    const { status } = this.#view;
    /** @type {Map<string, FileRow[]>} */
    const groups = new Map();
    for (const file of files) {
      const key = `${file.cause}\n${file.cure}`;
      groups.set(key, [...(groups.get(key) ?? []), file]);
    }
    const all = cut ? Math.max(files.length, (status?.failed_files ?? 0) + (status?.retrying_files ?? 0)) : files.length;
    setText(this.#badge, formatNumber(all, t.locale));
    this.#box.hidden = !files.length;
    this.#more.hidden = !cut;
    keyed(this.#list, this.#cards, [...groups], ([key]) => key, ([key, group]) => this.#card(key, group[0]));
    this.#showMessages();
  }

  /**
   * @param {string} key
   * @param {FileRow} first
   * @returns {Card}
   */
  #card(key, first) {
    const { t } = this.#context;
    /** @type {Map<string, ProblemRow>} */
    const rows = new Map();
    const list = el("ul", { class: "list" });
    const refresh = oneTabStop(list);
    const rest = button("", { kind: "slim", onclick: () => {
      this.#opened.add(key);
      this.#take(this.#files, this.#cut);
      list.querySelectorAll("button")[SHOWN * 2]?.focus();
    } });
    const node = el(
      "div",
      { class: "problem card" },
      el("div", {},
        el("p", { class: "cause", text: first.cause ? t.server(first.cause) : t("problems.unknown") }),
        first.cure ? el("p", { class: "cure", text: t.server(first.cure) }) : null),
      list,
      rest,
    );
    return {
      node,
      update: ([, files]) => {
        const shown = this.#opened.has(key) ? files : files.slice(0, SHOWN);
        keyed(list, rows, shown, (file) => String(file.id ?? file.path), (file) => this.#row(file));
        refresh();
        const hidden = files.length - shown.length;
        rest.hidden = hidden <= 0;
        setText(/** @type {Node} */ (rest.firstChild), t("action.showMore", { n: hidden }));
        node.classList.toggle("again", files.every(isRetrying));
      },
      tick: () => {
        for (const row of rows.values()) row.tick?.();
      },
    };
  }

  /**
   * @param {FileRow} first
   * @returns {ProblemRow}
   */
  #row(first) {
    const { t } = this.#context;
    let file = first;
    const name = splitPath(file.path)[1];
    const about = el("span", { class: "about num" });
    const retry = button(t("action.retry.named", { name }), { icon: "retry", bare: true, onclick: () =>
      whileBusy(retry, () => this.#act("upload", { file_path: file.path })) });
    const copy = button(t("action.copy.named", { name }), { icon: "copy", bare: true, onclick: () =>
      this.#context.copy(`${file.path}: ${[file.cause, file.cure].filter(Boolean).join(" ")}`) });
    const tick = () => {
      const next = parseTime(file.next_try_at);
      const seconds = next ? (next.getTime() - Date.now()) / 1000 : 0;
      const when = !isRetrying(file) ? t("problems.never")
        : seconds > 1 ? t("problems.next", { time: formatDuration(seconds, t) }) : t("problems.soon");
      setText(about, file.attempts > 0 ? `${when} · ${t("problems.tries", { n: file.attempts })}` : when);
    };
    return {
      node: el("li", {}, fileName(file.path), about, el("div", { class: "tools" }, retry, copy)),
      update: (newer) => {
        file = newer;
        tick();
      },
      tick,
    };
  }

  /**
   * @param {string} name
   * @param {object} [body]
   */
  async #act(name, body) {
    await this.#context.act(name, body);
    this.refresh();
  }

  /** Show the five newest messages that are not about the listed files, newest first. */
  #showMessages() {
    const { status } = this.#view;
    // The first run shows these itself.
    const errors = status?.state === "not_configured" ? [] : (status?.errors ?? []);
    const known = this.#files.map((file) => `${file.path}: `);
    const causes = new Set(this.#files.map((file) => [file.cause, file.cure].filter(Boolean).join(" ")));
    const others = [...new Set(errors)]
      .filter((text) => !causes.has(text) && !known.some((start) => text.startsWith(start)))
      .slice(-5)
      .reverse()
      .map(this.#context.t.server);
    this.#notes.hidden = !others.length;
    const same = others.length === this.#messages.childElementCount
      && others.every((text, place) => this.#messages.children[place].textContent === text);
    if (!same) this.#messages.replaceChildren(...others.map((text) => el("li", { text })));
  }
}

/**
 * Return whether a file failed and will be retried.
 *
 * @param {FileRow} file
 */
export function isRetrying(file) {
  return Boolean(file.cause) && (file.state === "pending" || (file.state === "failed" && Boolean(file.next_try_at)));
}
