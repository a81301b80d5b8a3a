// @ts-check
/** The header: the state, whether it is safe to stop, the counts, and the actions. */

import { formatBytes, formatDuration, formatNumber } from "../format.js";
import { button, el, icon, passFocus, setText } from "./dom.js";
import { UploadForm } from "./upload_form.js";

/** @typedef {import("../types.d.ts").Context} Context */
/** @typedef {import("../types.d.ts").Status} Status */
/** @typedef {import("../types.d.ts").Translator} Translator */
/** @typedef {import("../types.d.ts").View} View */

/** @type {Record<string, string>} */
const TONES = {
  idle: "good",
  uploading: "busy",
  starting: "busy",
  checking: "busy",
  retrying: "warn",
  attention: "bad",
  unavailable: "bad",
  unreachable: "bad",
  not_configured: "calm",
  stopped: "calm",
  stopping: "busy",
  standby: "calm",
  loading: "calm",
};
const HINTS = ["stopped", "stopping", "standby", "unreachable", "unavailable"];

/**
 * Return the state to show: the archive's own, except where that alone would mislead.
 *
 * @param {View} view
 */
export function shownState({ status, reachable }) {
  if (!reachable) return "unreachable";
  if (!status) return "loading";
  if (status.state === "stopped" && status.active?.length) return "stopping";
  if (status.state !== "idle") return status.state in TONES ? status.state : "checking";
  if (status.failed_files > 0) return "attention";
  return status.safe_to_stop || status.pending_files > 0 ? "idle" : "checking";
}

/**
 * Return whether no file waits but no request to the store has succeeded yet: then the mark is not green.
 *
 * @param {Status} status
 */
function unverified(status) {
  return status.safe_to_stop && status.connection_verified === false;
}

/**
 * Return "Safe to stop", or what is missing: "Not yet: 3 files, 41 MB, about 20 s".
 *
 * @param {View} view
 * @param {Translator} t
 */
function safeText({ status, reachable }, t) {
  if (!status) return reachable ? "" : t("safe.unknown");
  if (!reachable || status.state === "unavailable") return t("safe.unknown");
  if (unverified(status)) return t("safe.unverified");
  if (status.safe_to_stop) return t("safe.yes");
  const parts = [];
  if (status.pending_files > 0) {
    parts.push(t("files", { n: status.pending_files }), formatBytes(status.unsent_bytes, t.locale));
    if (status.seconds_left) parts.push(t("about", { time: formatDuration(status.seconds_left, t) }));
  } else if (status.failed_files > 0) {
    parts.push(t("safe.failed", { n: status.failed_files }));
  } else {
    parts.push(t("safe.checking"));
  }
  return t("safe.no", { what: parts.join(t("separator")) });
}

export class Header {
  #context;
  /** @type {SVGElement|null} */
  #icon = null;
  #state = "";
  #title = el("h2");
  #safeMark = el("span", { class: "mark" });
  #safeText = el("span");
  #safe = el("p", { class: "safe" }, this.#safeMark, this.#safeText);
  #stateBox = el("div", { class: "state" }, el("div", {}, el("div", { role: "status" }, this.#title), this.#safe));
  #hint = el("p", { class: "hint" });
  /** @type {Map<string, {box: HTMLElement, value: HTMLElement}>} */
  #counts = new Map();
  #countList = el("dl", { class: "counts" });
  /** @type {Map<string, HTMLButtonElement>} */
  #buttons = new Map();
  #actions = el("div", { class: "actions" });
  #feedback = el("p", { class: "feedback", role: "status" });
  #upload;

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    const { t } = context;
    for (const name of ["archived", "waiting", "retrying", "failed"]) {
      const value = el("dd", { text: "0" });
      const box = el("div", { "data-count": name }, el("dt", { text: t(`count.${name}`) }), value);
      this.#counts.set(name, { box, value });
      this.#countList.append(box);
    }
    this.#add("start", { icon: "start", kind: "primary", onclick: () => this.#act("start") });
    this.#add("stop", { icon: "stop", onclick: () => this.#act("stop"), title: t("action.stop.help") });
    this.#add("rescan", { icon: "retry", onclick: () => this.#act("rescan"), title: t("action.rescan.help") });
    const opener = this.#add("upload", { icon: "upload", "aria-expanded": "false", onclick: () => this.toggleUpload() });
    this.#upload = new UploadForm(context, opener);
    this.element = el(
      "div",
      { class: "head card" },
      this.#stateBox,
      this.#countList,
      this.#hint,
      this.#actions,
      this.#upload.element,
      this.#feedback,
    );
  }

  /**
   * Open or close the form that uploads one file.
   *
   * @param {boolean} [open]  default: the opposite of now
   */
  toggleUpload(open) {
    this.#upload.toggle(open);
  }

  /**
   * Show the result of an action.
   *
   * @param {string} text
   * @param {"good"|"bad"} tone
   */
  say(text, tone) {
    this.#feedback.className = `feedback ${tone}`;
    this.#feedback.replaceChildren(...(text ? [icon(tone === "bad" ? "attention" : "check"), el("span", { text })] : []));
  }

  /** @param {View} view */
  update(view) {
    const { t } = this.#context;
    const { status, reachable } = view;
    const state = shownState(view);
    this.#showState(state);
    const sure = Boolean(status?.safe_to_stop) && reachable && state !== "unavailable" && !(status && unverified(status));
    if (this.#safe.dataset.safe !== String(sure)) {
      this.#safe.dataset.safe = String(sure);
      this.#safeMark.className = sure ? "mark good" : "mark calm";
      this.#safeMark.replaceChildren(icon(sure ? "check" : "pending"));
    }
    const text = safeText(view, t);
    setText(this.#safeText, text);
    this.#safe.hidden = !text || state === "not_configured";
    setText(this.#hint, HINTS.includes(state) ? t(`hint.${state}`) : "");
    this.#hint.hidden = !HINTS.includes(state);
    this.#showCounts(status, state);
    const ready = Boolean(status) && reachable && !["not_configured", "unavailable"].includes(state);
    const running = Boolean(status?.running) || state === "standby";
    this.#show("start", ready && !running);
    this.#show("stop", ready && running);
    this.#show("rescan", ready && running && state !== "standby");
    this.#show("upload", ready && state !== "standby");
    this.#actions.hidden = !ready;
    if (!ready) this.#upload.hide();
  }

  disconnect() {
    this.#upload.disconnect();
  }

  /** @param {string} state */
  #showState(state) {
    if (state === this.#state) return;
    this.#state = state;
    const picture = icon(state);
    picture.classList.add(TONES[state]);
    this.#icon?.remove();
    this.#icon = picture;
    this.#stateBox.prepend(picture);
    this.#stateBox.dataset.state = state;
    setText(this.#title, this.#context.t(`state.${state}`));
    this.say("", "good");
  }

  /**
   * Archived files are the ledger's total; the title says how many this session archived.
   *
   * @param {Status|null} status
   * @param {string} state
   */
  #showCounts(status, state) {
    const { t } = this.#context;
    this.#countList.hidden = !status?.session_id || state === "not_configured";
    if (!status) return;
    const session = status.uploaded_files + (status.already_archived_files ?? 0);
    this.#counts.get("archived")?.box.setAttribute("title", t("count.session", { n: session }));
    const retrying = status.retrying_files ?? 0;
    const numbers = {
      archived: status.archived_files ?? session,
      waiting: Math.max(0, status.pending_files - retrying),
      retrying,
      failed: status.failed_files,
    };
    let shown = 0;
    for (const [name, number] of Object.entries(numbers)) {
      const cell = this.#counts.get(name);
      if (!cell) continue;
      cell.box.hidden = name === "retrying" && !number;
      shown += cell.box.hidden ? 0 : 1;
      setText(cell.value, formatNumber(number, t.locale));
      if (number && name === "retrying") cell.value.className = "warn";
      if (name === "failed") cell.value.className = number ? "bad" : "";
    }
    this.#countList.dataset.cells = String(shown);
  }

  /**
   * @param {string} name
   * @param {Record<string, any>} properties
   */
  #add(name, properties) {
    const node = button(this.#context.t(`action.${name}`), properties);
    this.#buttons.set(name, node);
    this.#actions.append(node);
    return node;
  }

  /**
   * @param {string} name
   * @param {boolean} shown
   */
  #show(name, shown) {
    const node = this.#buttons.get(name);
    if (node) node.hidden = !shown;
  }

  /** @param {string} name */
  async #act(name) {
    // No button is disabled meanwhile: a start must be possible before a stop is answered, and the other way round.
    await this.#context.act(name);
    // Start and Stop replace each other.
    const pressed = this.#buttons.get(name);
    const twin = this.#buttons.get(name === "start" ? "stop" : "start");
    if (pressed?.hidden && twin) passFocus(pressed, twin);
  }
}
