/** What is under way, and what waits. */

import { formatBytes, formatDuration } from "../format.js";
import { el, fileName, icon, keyed, setText } from "./dom.js";

const SHOWN_WAITING = 30;

/** The path below the watched directory, or the bare name where the server tells no more. */
const pathOf = (file) => file.path ?? file.file_name;

/** Each upload under way with its progress; the section is there only while something moves. */
export class Now {
  #context;
  #rows = new Map();
  #list = el("ul", { class: "list" });
  #rate = el("span", { class: "end small quiet num" });

  constructor(context) {
    this.#context = context;
    this.element = el(
      "section",
      { "aria-labelledby": "now-title", class: "now", hidden: true },
      el("div", { class: "title" }, el("h3", { id: "now-title", text: context.t("now.title") }), this.#rate),
      this.#list,
    );
  }

  update({ status, reachable }) {
    const { t } = this.#context;
    const active = reachable ? (status?.active ?? []) : [];
    this.element.hidden = !active.length;
    const parts = [];
    if (status?.rate_bytes_per_second > 0) {
      parts.push(t("now.rate", { rate: formatBytes(status.rate_bytes_per_second, t.locale) }));
    }
    if (status?.seconds_left > 0) parts.push(t("now.left", { time: formatDuration(status.seconds_left, t) }));
    setText(this.#rate, parts.join(" · "));
    keyed(this.#list, this.#rows, active, (file) => `${pathOf(file)}\n${file.s3_key}`, (file) => this.#row(file));
  }

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
        const of = { sent: formatBytes(done, t.locale), size: formatBytes(size, t.locale) };
        setText(sent, t("now.of", of));
        bar.setAttribute("aria-valuetext", t("now.of", of));
      },
    };
  }
}

/** The list that can be opened: files that are not complete yet, then those that wait for a worker. */
export class Waiting {
  #context;
  #list = el("ul", { class: "list small" });
  #badge = el("span", { class: "badge" });
  #details;
  #abort = null;
  #pending = [];
  #seen = "";
  #view = { status: null };

  constructor(context) {
    this.#context = context;
    this.#details = el(
      "details",
      {},
      el("summary", {}, icon("chevron"), el("span", { text: context.t("waiting.title") }), this.#badge),
      this.#list,
    );
    this.#details.addEventListener("toggle", () => this.#load());
    this.element = el("section", { class: "waiting", "aria-label": context.t("waiting.title"), hidden: true }, this.#details);
  }

  update(view) {
    this.#view = view;
    const { status } = view;
    const under = status?.active?.length ?? 0;
    const count = Math.max(status?.waiting?.length ?? 0, (status?.pending_files ?? 0) - under);
    // While everything left waits for its next try, Problems lists it.
    this.element.hidden = count <= 0 || status.state === "retrying";
    setText(this.#badge, new Intl.NumberFormat(this.#context.t.locale).format(count));
    if (!this.#details.open || count <= 0) return;
    const now = `${status.pending_files} ${status.uploaded_files}`;
    if (now !== this.#seen) this.#load(now);
    else this.#show(count);
  }

  disconnect() {
    this.#abort?.abort();
  }

  async #load(seen = "") {
    if (!this.#details.open || this.#abort) return;
    this.#seen = seen;
    this.#abort = new AbortController();
    try {
      const query = { state: "pending", limit: SHOWN_WAITING, signal: this.#abort.signal };
      this.#pending = (await this.#context.client.get("/cloud-sync/files", query)).files ?? [];
    } catch {
      this.#pending = [];
    }
    this.#abort = null;
    this.update(this.#view);
  }

  #show(count) {
    const { t } = this.#context;
    const unfinished = this.#view.status?.waiting ?? [];
    const rows = [
      ...unfinished.map((file) => [pathOf(file), file.size_bytes, file.reason]),
      ...this.#pending.map((file) => [file.path, file.size_bytes, null]),
    ].slice(0, SHOWN_WAITING);
    const items = rows.map(([path, size, reason]) => el(
      "li",
      { title: reason },
      fileName(path),
      reason ? el("span", { class: "quiet", text: reason }) : null,
      el("span", { class: "quiet num", text: formatBytes(size, t.locale) }),
    ));
    if (count > rows.length) items.push(el("li", { class: "quiet", text: t("waiting.more", { n: count - rows.length }) }));
    this.#list.replaceChildren(...items);
  }
}
