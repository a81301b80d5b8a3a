/** Where files go, and whether that works. Nothing here can change it. */

import { button, el, icon, setText } from "./dom.js";

export class Destination {
  #context;
  #fields = new Map();
  #steps = el("ol", { class: "steps", hidden: true });
  #verdict = el("p", { class: "small below", role: "status" });
  #check;

  constructor(context) {
    this.#context = context;
    const { t } = context;
    const place = el("dl", { class: "place" });
    for (const name of ["endpoint", "bucket", "prefix", "directory", "watching", "version"]) {
      const term = el("dt", { text: t(`destination.${name}`) });
      const value = el("dd");
      this.#fields.set(name, { term, value });
      place.append(term, value);
    }
    this.#check = button(t("action.check"), { icon: "link", onclick: () => this.#run() });
    this.element = el(
      "section",
      { "aria-labelledby": "destination-title" },
      el("div", { class: "title" }, el("h3", { id: "destination-title", text: t("destination.title") })),
      el("div", { class: "card" }, place, el("div", { class: "below" }, this.#check), this.#verdict, this.#steps),
    );
    this.#verdict.hidden = true;
  }

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
    this.#set("version", status.version);
    this.#check.hidden = !reachable;
  }

  #set(name, text) {
    const { term, value } = this.#fields.get(name);
    term.hidden = value.hidden = !text;
    setText(value, text ?? "");
  }

  async #run() {
    const { t, client } = this.#context;
    this.#check.disabled = true;
    this.#steps.hidden = true;
    this.#verdict.hidden = false;
    this.#verdict.className = "small below";
    setText(this.#verdict, t("check.running"));
    try {
      const { steps } = await client.post("/cloud-sync/check");
      const good = steps.every((step) => step.ok !== false);
      this.#verdict.className = `small below ${good ? "good" : "bad"}`;
      setText(this.#verdict, t(good ? "check.good" : "check.bad"));
      this.#steps.replaceChildren(...steps.map((step) => this.#step(step)));
      this.#steps.hidden = false;
    } catch (error) {
      this.#verdict.className = "small below bad";
      setText(this.#verdict, t("action.failed", { reason: error.message }));
    }
    this.#check.disabled = false;
    this.#check.focus();
  }

  #step({ name, ok, cause, cure }) {
    const { t } = this.#context;
    const [shape, tone, word] = ok === null ? ["dash", "calm", "check.skipped"]
      : ok ? ["check", "good", "check.ok"] : ["cross", "bad", "check.failed"];
    const mark = icon(shape);
    mark.classList.add(tone);
    return el(
      "li",
      {},
      mark,
      el("div", {},
        el("span", { text: `${name}: ${t(word)}` }),
        cause ? el("p", { class: "quiet", text: cause }) : null,
        cure ? el("p", { text: cure }) : null),
    );
  }
}
