// @ts-check
/** The newest archived files, each with its picture. */

import { showPicture } from "../gallery/media.js";
import { formatAgo, formatBytes, formatMoment, kindOf, parseTime, splitPath } from "../format.js";
import { button, el, fileName, icon, keyed, oneTabStop, setText } from "./dom.js";

/** @typedef {import("../types.d.ts").Context} Context */
/** @typedef {import("../types.d.ts").RecentUpload} RecentUpload */
/** @typedef {import("../types.d.ts").Row<RecentUpload>} RecentRow */
/** @typedef {import("../types.d.ts").View} View */

// The catalog makes a file's thumbnail some seconds after its upload.
const RETRY_SECONDS = [2, 4, 8, 16, 32];

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
    this.element.hidden = !recent.length && (!status?.session_id || status.state === "not_configured");
    keyed(this.#list, this.#rows, recent, (file) => `${file.s3_key}\n${file.upload_time}`, (file) => this.#row(file));
    this.#refresh();
  }

  tick() {
    for (const row of this.#rows.values()) row.tick?.();
  }

  disconnect() {
    for (const row of this.#rows.values()) row.end?.();
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
    const thumbnail = this.#thumbnail(file, path, time);
    const tick = () => {
      setText(ago, time ? formatAgo(time, t.locale) : "");
      thumbnail.tick();
    };
    const copy = button(t("action.copyKey.named", { name: splitPath(path)[1] }), {
      icon: "copy",
      bare: true,
      onclick: () => this.#context.copy(file.s3_key),
    });
    return {
      node: el("li", {}, thumbnail.node, el("div", { class: "text" }, fileName(path), about), copy),
      update: () => setText(ago, time ? formatAgo(time, t.locale) : ""),
      tick,
      end: thumbnail.end,
    };
  }

  /**
   * Create the picture of a file: the local one if the page can show it, else the catalog's, else an icon.
   *
   * @param {RecentUpload} file
   * @param {string} path
   * @param {Date|null} time  when it was uploaded
   */
  #thumbnail(file, path, time) {
    const { client, picture, t } = this.#context;
    const kind = kindOf(path);
    const placeholder = icon(kind === "video" ? "play" : kind);
    const node = el("span", { class: "thumb", role: "img", "aria-label": t(`kind.${kind}`) }, placeholder);
    const local = kind === "image" ? picture(path) : null;
    const catalogued = file.asset_id && kind !== "audio" ? `/cloud-sync/assets/${file.asset_id}/thumbnail` : null;
    const sources = [local, catalogued].filter((source) => source !== null);
    if (!sources.length) return { node, tick: () => {}, end: () => {} };
    const image = el("img", { alt: "", decoding: "async", draggable: "false" });
    const waits = catalogued ? [...RETRY_SECONDS] : [];
    let seconds = 0; // until the next try; 0: none is due
    let end = () => {};
    const attempt = () => {
      end = showPicture(client, image, [...sources], () => {
        end();
        seconds = waits.shift() ?? 0;
      });
    };
    const tick = () => {
      if (seconds && (seconds -= 1) === 0) attempt();
    };
    if (local || !time || Date.now() - time.getTime() > waits[0] * 1000) attempt();
    else seconds = waits.shift() ?? 0;
    node.append(image);
    return { node, tick, end: () => end() };
  }
}
