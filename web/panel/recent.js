// @ts-check
/** The newest archived files, with a picture where ComfyUI can show one. */

import { formatAgo, formatBytes, formatMoment, kindOf, parseTime, splitPath } from "../format.js";
import { button, el, fileName, icon, keyed, oneTabStop, setText } from "./dom.js";

/** @typedef {import("../types.d.ts").Context} Context */
/** @typedef {import("../types.d.ts").RecentUpload} RecentUpload */
/** @typedef {import("../types.d.ts").Row<RecentUpload>} RecentRow */
/** @typedef {import("../types.d.ts").View} View */

export class Recent {
  #context;
  /** @type {Map<string, RecentRow>} */
  #rows = new Map();
  #list = el("ul", { class: "list recent" });
  #refresh = oneTabStop(this.#list);
  #empty;

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    const { t } = context;
    this.#empty = el("p", { class: "empty", text: t("recent.empty"), hidden: true });
    this.element = el(
      "section",
      { "aria-labelledby": "recent-title" },
      el("div", { class: "title" }, el("h3", { id: "recent-title", text: t("recent.title") })),
      this.#list,
      this.#empty,
    );
  }

  /** @param {View} view */
  update({ status }) {
    const recent = [...(status?.recent_uploads ?? [])].reverse();
    this.#empty.hidden = recent.length > 0;
    this.element.hidden = !status || (status.state === "not_configured" && !recent.length);
    keyed(this.#list, this.#rows, recent, (file) => `${file.s3_key}\n${file.upload_time}`, (file) => this.#row(file));
    this.#refresh();
  }

  tick() {
    for (const row of this.#rows.values()) row.tick?.();
  }

  /**
   * @param {RecentUpload} file
   * @returns {RecentRow}
   */
  #row(file) {
    const { t } = this.#context;
    const path = file.path ?? file.file_name;
    const time = parseTime(file.upload_time);
    const ago = el("time", { datetime: file.upload_time, title: time ? formatMoment(time, t.locale) : null });
    const about = el("span", { class: "small quiet num" }, `${formatBytes(file.size_bytes, t.locale)} · `, ago);
    const tick = () => setText(ago, time ? formatAgo(time, t.locale) : "");
    const copy = button(t("action.copyKey.named", { name: splitPath(path)[1] }), {
      icon: "copy",
      bare: true,
      onclick: () => this.#context.copy(file.s3_key),
    });
    return {
      node: el("li", {}, this.#thumbnail(path), el("div", { class: "text" }, fileName(path), about), copy),
      update: tick,
      tick,
    };
  }

  /** @param {string} path */
  #thumbnail(path) {
    const kind = kindOf(path);
    const mark = icon(kind === "video" ? "play" : kind);
    const box = el("span", { class: "thumb", role: "img", "aria-label": this.#context.t(`kind.${kind}`) }, mark);
    const source = kind === "image" ? this.#context.thumbnail(path) : null;
    if (source) {
      const image = el("img", { alt: "", loading: "lazy", decoding: "async", draggable: "false" });
      // The local file may be gone already: then the mark stays.
      image.addEventListener("error", () => image.remove(), { once: true });
      image.src = source;
      box.append(image);
    }
    return box;
  }
}
