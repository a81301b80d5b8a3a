/** What failed, why, what to do about it, and when it is tried again. Files with the same cause share a card. */

import { formatDuration, parseTime, splitPath } from "../format.js";
import { button, el, fileName, keyed, setText } from "./dom.js";

const PAGE = 50;
const SHOWN = 3;

export class Problems {
  #context;
  #cards = new Map();
  #badge = el("span", { class: "badge" });
  #list = el("div");
  #more = el("p", { class: "small quiet", hidden: true });
  #messages = el("ul", { class: "messages" });
  #box;
  #files = [];
  #cut = false;
  #abort = null;
  #stale = false;
  #seen = "";
  #view = { status: null, reachable: true };
  #opened = new Set();

  constructor(context) {
    this.#context = context;
    const { t } = context;
    const all = button(t("action.retryAll"), { icon: "retry", kind: "slim end", onclick: () => this.#retryAll(all) });
    this.#more.textContent = t("problems.more");
    this.#box = el(
      "section",
      { "aria-labelledby": "problems-title", class: "problems", hidden: true },
      el("div", { class: "title" }, el("h3", { id: "problems-title", text: t("problems.title") }), this.#badge, all),
      this.#list,
      this.#more,
    );
    this.notes = el(
      "section",
      { "aria-labelledby": "messages-title", hidden: true },
      el("div", { class: "title" }, el("h3", { id: "messages-title", text: t("messages.title") })),
      this.#messages,
    );
    this.element = el("div", { class: "group" }, this.#box, this.notes);
  }

  update(view) {
    this.#view = view;
    const { status, reachable } = view;
    if (!status) return;
    // A file that waits for its next try counts as pending, but its sentence is among the errors.
    const trouble = status.failed_files > 0 || status.state === "retrying" || status.errors?.length > 0;
    const now = trouble ? `${status.failed_files} ${status.state} ${status.errors?.at(-1)} ${status.pending_files}` : "";
    if (!trouble) this.#take([], false);
    else if (reachable && now !== this.#seen) this.refresh();
    this.#seen = now;
    this.#showMessages();
  }

  disconnect() {
    this.#abort?.abort();
    this.#stale = false;
  }

  /** Once a second while the panel is open: "next try in 20 s" counts down. */
  tick() {
    for (const card of this.#cards.values()) card.tick();
  }

  async refresh() {
    if (this.#abort) {
      this.#stale = true;
      return;
    }
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const { client } = this.#context;
    try {
      let answer = await client.get("/cloud-sync/files", { state: "failed", limit: PAGE, signal });
      if (!answer.files?.length) {
        // While the store itself is away, files wait as pending and carry its cause.
        const held = await client.get("/cloud-sync/files", { state: "pending", limit: PAGE, signal });
        answer = { ...held, files: held.files?.filter((file) => file.cause) };
      }
      this.#take(answer.files ?? [], Boolean(answer.next_cursor));
    } catch {
      // The header says that the server is away; the list stays as it was.
    }
    this.#abort = null;
    if (this.#stale && !signal.aborted) {
      this.#stale = false;
      this.refresh();
    }
  }

  #take(files, cut) {
    const before = this.#files.length;
    this.#files = files;
    this.#cut = cut;
    if (!files.length && !before) return;
    const { t } = this.#context;
    const groups = new Map();
    for (const file of files) {
      const key = `${file.cause}\n${file.cure}`;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(file);
    }
    const count = files.length < PAGE ? files.length : Math.max(files.length, this.#view.status?.failed_files ?? 0);
    setText(this.#badge, cut && count <= PAGE ? t("problems.size", { n: count }) : String(count));
    this.#box.hidden = !files.length;
    this.#more.hidden = !cut;
    keyed(this.#list, this.#cards, [...groups], ([key]) => key, ([key, group]) => this.#card(key, group[0]));
    this.#showMessages();
  }

  #card(key, first) {
    const { t } = this.#context;
    const rows = new Map();
    const list = el("ul", { class: "list" });
    const rest = button("", { kind: "slim", onclick: () => {
      this.#opened.add(key);
      this.#take(this.#files, this.#cut);
      list.querySelectorAll("button")[SHOWN * 2]?.focus();
    } });
    const node = el(
      "div",
      { class: "problem card" },
      el("div", {},
        el("p", { class: "cause", text: first.cause || t("problems.unknown") }),
        first.cure ? el("p", { class: "cure", text: first.cure }) : null),
      list,
      rest,
    );
    return {
      node,
      update: ([, files]) => {
        const shown = this.#opened.has(key) ? files : files.slice(0, SHOWN);
        keyed(list, rows, shown, (file) => String(file.id ?? file.path), (file) => this.#row(file));
        const hidden = files.length - shown.length;
        rest.hidden = hidden <= 0;
        setText(rest.firstChild, t("problems.all", { n: hidden }));
      },
      tick: () => {
        for (const row of rows.values()) row.tick();
      },
    };
  }

  #row(first) {
    const { t } = this.#context;
    let file = first;
    const name = splitPath(file.path)[1];
    const about = el("span", { class: "about num" });
    const retry = button(t("action.retry.named", { name }), { icon: "retry", bare: true, onclick: async () => {
      retry.disabled = true;
      await this.#context.act("upload", { file_path: file.path });
      retry.disabled = false;
      this.refresh();
    } });
    const copy = button(t("action.copy.named", { name }), { icon: "copy", bare: true, onclick: () =>
      this.#context.copy(`${file.path}: ${[file.cause, file.cure].filter(Boolean).join(" ")}`) });
    const tick = () => {
      const next = parseTime(file.next_try_at);
      const seconds = next ? (next.getTime() - Date.now()) / 1000 : 0;
      const when = !next ? t("problems.never")
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

  async #retryAll(all) {
    all.disabled = true;
    await this.#context.act("retry");
    all.disabled = false;
    this.refresh();
  }

  /** What the archive has to say beyond the failed files, newest first. */
  #showMessages() {
    const { status } = this.#view;
    // The first run shows these itself, beside what to set.
    const errors = status?.state === "not_configured" ? [] : (status?.errors ?? []);
    const known = this.#files.map((file) => `${file.path}: `);
    const causes = new Set(this.#files.map((file) => [file.cause, file.cure].filter(Boolean).join(" ")));
    const others = [...new Set(errors)]
      .filter((text) => !causes.has(text) && !known.some((start) => text.startsWith(start)))
      .slice(-5)
      .reverse();
    this.notes.hidden = !others.length;
    const same = others.length === this.#messages.childElementCount
      && others.every((text, place) => this.#messages.children[place].textContent === text);
    if (!same) this.#messages.replaceChildren(...others.map((text) => el("li", { text })));
  }
}

