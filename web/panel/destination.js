// @ts-check
/** Where files go, and a check of the connection. Settings can't be changed here. */

import { formatMoment, parseTime } from "../format.js";
import { reasonOf } from "../status_client.js";
import { button, el, icon, setText, whileBusy } from "./dom.js";

/** @typedef {import("../types.d.ts").CheckStep} CheckStep */
/** @typedef {import("../types.d.ts").Context} Context */
/** @typedef {import("../types.d.ts").Status} Status */
/** @typedef {import("../types.d.ts").View} View */

export class Destination {
  #context;
  /** @type {Map<string, {term: HTMLElement, value: HTMLElement}>} */
  #fields = new Map();
  #steps = el("ol", { class: "steps", hidden: true });
  #risk = el("p", { class: "small below warn", hidden: true });
  #verdict = el("p", { class: "small below", role: "status", hidden: true });
  #check;
  #checkedIn = ""; // the `circumstances` of the shown result; empty: no result is shown

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    const { t } = context;
    const place = el("dl", { class: "place" });
    for (const name of ["endpoint", "bucket", "prefix", "directory", "watching", "local", "version"]) {
      const term = el("dt", { text: t(`destination.${name}`) });
      const value = el("dd");
      this.#fields.set(name, { term, value });
      place.append(term, value);
    }
    this.#check = button(t("action.check"), { icon: "link", onclick: () => whileBusy(this.#check, () => this.#run()) });
    this.element = el(
      "section",
      { "aria-labelledby": "destination-title" },
      el("div", { class: "title" }, el("h3", { id: "destination-title", text: t("destination.title") })),
      el("div", { class: "card" }, place, this.#risk, el("div", { class: "below" }, this.#check), this.#verdict, this.#steps),
    );
  }

  /** @param {View} view */
  update({ status, reachable }) {
    this.element.hidden = !status || status.state === "not_configured";
    if (!status) return;
    const { t } = this.#context;
    const { endpoint, bucket, prefix } = status.destination ?? {};
    this.#set("endpoint", endpoint);
    this.#set("bucket", bucket);
    this.#set("prefix", prefix || (bucket ? t("destination.none") : ""));
    this.#set("directory", status.watched_directory);
    this.#set("watching", status.watching);
    const local = t(status.keeps_local_files ? "destination.local.kept" : "destination.local.deleted");
    this.#set("local", status.session_id ? local : ""); // without an engine, it is not known
    this.#set("version", status.version);
    const risk = status.overwrite_risk;
    this.#risk.hidden = !risk;
    setText(this.#risk, risk ? t(risk === "large_files" ? "destination.risk.large" : "destination.risk") : "");
    this.#check.hidden = !reachable;
    if (this.#checkedIn && circumstances(status) !== this.#checkedIn) this.#clear();
  }

  /**
   * @param {string} name
   * @param {string|undefined} text
   */
  #set(name, text) {
    const field = this.#fields.get(name);
    if (!field) return;
    field.term.hidden = field.value.hidden = !text;
    setText(field.value, text ?? "");
  }

  #clear() {
    this.#checkedIn = "";
    this.#verdict.hidden = this.#steps.hidden = true;
  }

  async #run() {
    const { t, client } = this.#context;
    this.#checkedIn = "";
    this.#steps.hidden = true;
    this.#verdict.hidden = false;
    this.#verdict.className = "small below";
    setText(this.#verdict, t("check.running"));
    try {
      /** @type {{checked_at: string, steps: CheckStep[]}} */
      const { steps, checked_at: checkedAt } = await client.post("/cloud-sync/check");
      const good = steps.every((step) => step.ok !== false);
      const time = parseTime(checkedAt);
      this.#verdict.className = `small below ${good ? "good" : "bad"}`;
      const verdict = t(good ? "check.good" : "check.bad");
      setText(this.#verdict, time ? t("check.at", { verdict, time: formatMoment(time, t.locale) }) : verdict);
      this.#steps.replaceChildren(...steps.map((step, place) => this.#step(step, steps[place - 1])));
      this.#steps.hidden = false;
    } catch (error) {
      this.#verdict.className = "small below bad";
      setText(this.#verdict, reasonOf(error, t));
    }
    this.#checkedIn = client.status ? circumstances(client.status) : "";
  }

  /**
   * @param {CheckStep} step
   * @param {CheckStep} [before]  the one above it; what both say is said once
   */
  #step({ name, ok, cause, cure }, before) {
    const { t } = this.#context;
    const isSame = ok === null && before?.cause === cause && before.cure === cure;
    const [shape, tone, word] = ok === null ? ["dash", "calm", "check.unknown"]
      : ok ? ["check", "good", "check.ok"] : ["cross", "bad", "check.failed"];
    const mark = icon(shape);
    mark.classList.add(tone);
    return el(
      "li",
      {},
      mark,
      el("div", {},
        el("span", { text: `${name}: ${t(word)}` }),
        cause && !isSame ? el("p", { class: "quiet", text: t.server(cause) }) : null,
        cure && !isSame ? el("p", { text: t.server(cure) }) : null),
    );
  }
}

/**
 * Return a text that differs once a check's result is out of date: in another session, with another destination, or after
 * a file was archived.
 *
 * @param {Status} status
 */
function circumstances(status) {
  const { session_id: session, destination, uploaded_files: uploaded, already_archived_files: found } = status;
  return JSON.stringify([session, destination, uploaded, found]);
}
