/** The header: is everything archived, may I stop, and the actions. */

import { formatBytes, formatDuration } from "../format.js";
import { button, el, icon, setText } from "./dom.js";

const TONES = {
  idle: "good",
  uploading: "busy",
  starting: "busy",
  checking: "busy",
  retrying: "warn",
  attention: "bad",
  unavailable: "bad",
  unreachable: "bad",
  not_configured: "warn",
  stopped: "calm",
  stopping: "busy",
  standby: "calm",
  loading: "calm",
};

/**
 * The word for what a user sees: the archive's own state, except where that alone would mislead.
 *
 * @param {{status: object|null, reachable: boolean}} view
 */
export function shownState({ status, reachable }) {
  if (!reachable) return "unreachable";
  if (!status) return "loading";
  if (status.state === "stopped" && status.active?.length) return "stopping";
  if (status.state !== "idle") return status.state in TONES ? status.state : "checking";
  if (status.failed_files > 0) return "attention";
  return status.safe_to_stop || status.pending_files > 0 ? "idle" : "checking";
}

/** Whether nothing waits, although the store has not accepted anything yet: no reason for a green mark. */
function unverified(status) {
  return status.safe_to_stop && status.connection_verified === false;
}

/** "Safe to stop", or what is missing: "Not yet: 3 files, 41 MB, about 20 s". */
export function safeText({ status, reachable }, t) {
  if (!status) return reachable ? "" : t("safe.unknown");
  if (!reachable || status.state === "unavailable") return t("safe.unknown");
  if (unverified(status)) return t("safe.unverified");
  if (status.safe_to_stop) return t("safe.yes");
  const parts = [];
  if (status.pending_files > 0) {
    parts.push(t("files", { n: status.pending_files }), formatBytes(status.pending_bytes, t.locale));
    if (status.seconds_left > 0) parts.push(t("about", { time: formatDuration(status.seconds_left, t) }));
  } else if (status.failed_files > 0) {
    parts.push(t("safe.failed", { n: status.failed_files }));
  } else {
    parts.push(t("safe.checking"));
  }
  return t("safe.no", { what: parts.join(t("separator")) });
}

export class Header {
  #context;
  #icon = null;
  #state = null;
  #title = el("h2");
  #safeMark = el("span");
  #safeText = el("span");
  #hint = el("p", { class: "hint" });
  #counts = new Map();
  #countList;
  #buttons = new Map();
  #feedback = el("p", { class: "feedback", role: "status" });
  #field;
  #form;

  constructor(context) {
    this.#context = context;
    const { t } = context;
    const counts = el("dl", { class: "counts", title: t("count.session") });
    this.#countList = counts;
    for (const name of ["archived", "waiting", "failed"]) {
      const value = el("dd", { text: "0" });
      this.#counts.set(name, value);
      counts.append(el("div", {}, el("dt", { text: t(`count.${name}`) }), value));
    }
    this.#safeMark.className = "mark";
    this.safe = el("p", { class: "safe" }, this.#safeMark, this.#safeText);
    this.stateBox = el("div", { class: "state" }, el("div", {}, el("div", { role: "status" }, this.#title), this.safe));
    const actions = el("div", { class: "actions" });
    const add = (name, properties) => {
      const node = button(t(`action.${name}`), properties);
      this.#buttons.set(name, node);
      actions.append(node);
    };
    add("start", { icon: "start", kind: "primary", onclick: () => this.#act("start") });
    add("stop", { icon: "stop", onclick: () => this.#act("stop"), title: t("action.stop.help") });
    add("rescan", { icon: "retry", onclick: () => this.#act("rescan"), title: t("action.rescan.help") });
    add("upload", { icon: "upload", "aria-expanded": "false", onclick: () => this.toggleUpload() });
    this.#field = el("input", { id: "upload-path", type: "text", placeholder: t("upload.example"), autocomplete: "off", spellcheck: "false" });
    this.#form = el(
      "form",
      { class: "upload", hidden: true, onsubmit: (event) => this.#upload(event) },
      el("label", { for: "upload-path", text: t("upload.label") }),
      el("div", { class: "row" }, this.#field, button(t("action.upload"), { kind: "primary", type: "submit" })),
    );
    this.#form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.toggleUpload(false);
    });
    this.element = el("div", { class: "head card" }, this.stateBox, counts, this.#hint, actions, this.#form, this.#feedback);
  }

  /** Open (or close) the field that names one file to archive. */
  toggleUpload(open = this.#form.hidden) {
    this.#form.hidden = !open;
    const opener = this.#buttons.get("upload");
    opener.setAttribute("aria-expanded", String(open));
    (open ? this.#field : opener).focus();
  }

  /** Say what an action came to; `tone` is "good" or "bad". */
  say(text, tone) {
    this.#feedback.className = `feedback ${tone}`;
    this.#feedback.replaceChildren(...(text ? [icon(tone === "bad" ? "attention" : "check"), el("span", { text })] : []));
  }

  update(view) {
    const { t } = this.#context;
    const { status, reachable } = view;
    const state = shownState(view);
    if (state !== this.#state) {
      this.#state = state;
      const picture = icon(state);
      picture.classList.add(TONES[state]);
      this.#icon?.remove();
      this.#icon = picture;
      this.stateBox.prepend(picture);
      this.stateBox.dataset.state = state;
      setText(this.#title, t(`state.${state}`));
      this.say("", "good");
    }
    const sure = Boolean(status?.safe_to_stop) && reachable && state !== "unavailable" && !unverified(status);
    if (this.safe.dataset.safe !== String(sure)) {
      this.safe.dataset.safe = String(sure);
      this.#safeMark.className = sure ? "mark good" : "mark calm";
      this.#safeMark.replaceChildren(icon(sure ? "check" : "pending"));
    }
    const text = safeText(view, t);
    setText(this.#safeText, text);
    this.safe.hidden = !text || state === "not_configured";
    const hint = ["stopped", "stopping", "standby", "unreachable", "unavailable", "not_configured"].includes(state);
    setText(this.#hint, hint ? t(`hint.${state}`) : "");
    this.#hint.hidden = !hint;
    this.#countList.hidden = state === "not_configured" || state === "loading";
    this.#count("archived", status ? status.uploaded_files + (status.already_archived_files ?? 0) : 0);
    this.#count("waiting", status?.pending_files ?? 0);
    this.#count("failed", status?.failed_files ?? 0);
    const settled = status && reachable && !["not_configured", "unavailable"].includes(state);
    const running = Boolean(status?.running) || state === "standby";
    this.#show("start", settled && !running);
    this.#show("stop", settled && running);
    this.#show("rescan", settled && running && state !== "standby");
    this.#show("upload", settled && state !== "standby");
    if (!settled && !this.#form.hidden) this.#form.hidden = true;
  }

  #count(name, value) {
    const node = this.#counts.get(name);
    setText(node, new Intl.NumberFormat(this.#context.t.locale).format(value));
    if (name === "failed") node.className = value > 0 ? "bad" : "";
  }

  #show(name, shown) {
    this.#buttons.get(name).hidden = !shown;
  }

  async #act(name) {
    // Never disabled: a start must be possible while a stop has not been answered, and the other way round.
    const pressed = this.#buttons.get(name);
    await this.#context.act(name);
    // Start and Stop replace each other: the focus goes along.
    if (pressed.hidden) this.#buttons.get(name === "start" ? "stop" : "start").focus();
    else pressed.focus();
  }

  async #upload(event) {
    event.preventDefault();
    const path = this.#field.value.trim();
    if (!path) return;
    if (await this.#context.act("upload", { file_path: path })) this.#field.value = "";
    this.#field.focus();
  }
}
