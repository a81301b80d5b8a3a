// @ts-check
/**
 * <cloud-archive-panel>: shows the status of a StatusClient.
 *
 *     definePanel();
 *     const panel = document.createElement("cloud-archive-panel");
 *     panel.client = client;                     // a StatusClient; its owner starts and stops it
 *     panel.locale = "ja";                       // default "en"
 *     panel.picturePath = (path) => request | null; // default: null
 */

import { reasonOf } from "./status_client.js";
import { translator } from "./strings.js";
import { AllFiles } from "./panel/all_files.js";
import { Chart } from "./panel/chart.js";
import { Destination } from "./panel/destination.js";
import { copyText, el } from "./panel/dom.js";
import { FirstRun } from "./panel/first_run.js";
import { Header } from "./panel/header.js";
import { Problems } from "./panel/problems.js";
import { Recent } from "./panel/recent.js";
import { panelSheet } from "./panel/style.js";
import { Unarchived } from "./panel/unarchived.js";
import { ActiveUploads, Waiting } from "./panel/uploads.js";

/** @typedef {import("./status_client.js").StatusClient} StatusClient */
/** @typedef {import("./types.d.ts").Context} Context */
/** @typedef {import("./types.d.ts").Section} Section */

const CLOCK_MS = 1000;

export class ArchivePanel extends HTMLElement {
  /** @type {StatusClient|null} */
  #client = null;
  #locale = "en";
  /** @type {Section[]} */
  #sections = [];
  /** @type {Header|null} */
  #header = null;
  /** @type {(() => void)|null} */
  #endWatch = null;
  /** @type {ReturnType<typeof setInterval>|undefined} */
  #clock;
  /** @type {number|null} */
  #frame = null;
  #root = this.attachShadow({ mode: "open" });
  #onChange = () => this.#schedule();

  /**
   * The path of a request for the picture of a local file, or null; set before the panel enters the page.
   *
   * @type {(path: string) => string|null}
   */
  picturePath = () => null;

  constructor() {
    super();
    this.#root.adoptedStyleSheets = [panelSheet()];
  }

  get client() {
    return this.#client;
  }

  set client(client) {
    if (client === this.#client) return;
    this.#disconnect();
    this.#client = client;
    if (this.isConnected) this.#connect();
  }

  get locale() {
    return this.#locale;
  }

  set locale(locale) {
    if (locale === this.#locale) return;
    this.#locale = locale;
    if (!this.isConnected) return;
    this.#disconnect();
    this.#connect();
  }

  connectedCallback() {
    this.#connect();
  }

  disconnectedCallback() {
    this.#disconnect();
  }

  /** Open the form of "Upload now" and put the cursor there. */
  askForUpload() {
    this.#header?.toggleUpload(true);
  }

  #connect() {
    if (!this.#client || this.#endWatch) return;
    this.#build(this.#client);
    this.#client.addEventListener("change", this.#onChange);
    this.#clock = setInterval(() => this.#tick(), CLOCK_MS);
    this.#endWatch = this.#client.watch();
    this.#show();
  }

  #disconnect() {
    this.#endWatch?.();
    this.#endWatch = null;
    this.#client?.removeEventListener("change", this.#onChange);
    clearInterval(this.#clock);
    if (this.#frame !== null) cancelAnimationFrame(this.#frame);
    this.#frame = null;
    for (const section of this.#sections) section.disconnect?.();
    this.#sections = [];
    this.#header = null;
    this.#root.replaceChildren();
  }

  /** @param {StatusClient} client */
  #build(client) {
    const t = translator(this.#locale);
    /** @type {Context} */
    const context = {
      t,
      client,
      act: (name, body) => this.#act(name, body),
      copy: (text) => this.#copy(text),
      picture: (path) => this.picturePath(path),
      list: (state) => files.showState(state),
    };
    const header = new Header(context);
    const unarchived = new Unarchived(context);
    const setup = new FirstRun(context);
    const active = new ActiveUploads(context);
    const problems = new Problems(context);
    const waiting = new Waiting(context);
    const recent = new Recent(context);
    const chart = new Chart(context);
    const destination = new Destination(context);
    const files = new AllFiles(context);
    this.#header = header;
    this.#sections = [header, unarchived, setup, active, problems, waiting, recent, chart, destination, files];
    const left = el("div", { class: "column" }, problems.element, active.element, waiting.element, recent.element);
    const right = el("div", { class: "column" }, chart.element, destination.element);
    this.#root.replaceChildren(
      el("div", { class: "page", lang: t.locale }, header.element, unarchived.element, setup.element, left, right, files.element),
    );
  }

  #schedule() {
    if (this.#frame !== null) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = null;
      this.#show();
    });
  }

  #show() {
    if (!this.#client) return;
    const view = { status: this.#client.status, reachable: this.#client.reachable };
    for (const section of this.#sections) section.update(view);
  }

  #tick() {
    if (document.hidden) return;
    for (const section of this.#sections) section.tick?.();
  }

  /**
   * @param {string} name
   * @param {object} [body]
   */
  async #act(name, body) {
    const t = translator(this.#locale);
    try {
      const answer = await this.#client?.post(`/cloud-sync/${name}`, body);
      this.#show();
      this.#header?.say(t.server(answer?.message ?? ""), "good");
      return true;
    } catch (error) {
      this.#header?.say(reasonOf(error, t), "bad");
      return false;
    }
  }

  /** @param {string} text */
  async #copy(text) {
    const t = translator(this.#locale);
    try {
      await copyText(text);
      this.#header?.say(t("action.copied"), "good");
    } catch {
      this.#header?.say(t("error.copy"), "bad");
    }
  }
}

/** Register the element; a second call, or a second copy of this file, changes nothing. */
export function definePanel(registry = customElements) {
  if (!registry.get("cloud-archive-panel")) registry.define("cloud-archive-panel", ArchivePanel);
}
