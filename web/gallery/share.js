// @ts-check
/** The dialog that shares files: first its options, then the links, each with its real expiry time. */

import { formatMoment, parseTime } from "../format.js";
import { button, el } from "../panel/dom.js";
import { reasonOf } from "../status_client.js";

/** @typedef {import("../status_client.js").StatusClient} StatusClient */
/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */
/** @typedef {import("../types.d.ts").ShareAnswer} ShareAnswer */
/** @typedef {import("../types.d.ts").Translator} Translator */

const MOST = 500;
const MOST_STRIPPED = 100;
const WAIT_MS = 600_000; // copies without metadata are written and proven within the call
const HOUR = 3600;
/** @type {[key: string, seconds: number][]} */
const TIMES = [["share.hour", HOUR], ["share.day", 24 * HOUR], ["share.week", 7 * 24 * HOUR]];

/**
 * Return why `count` files can't be shared now; empty: they can.
 *
 * @param {StatusClient} client
 * @param {Translator} t
 * @param {number} count
 */
function obstacle({ status, reachable }, t, count) {
  if (!reachable || status?.state === "unavailable") return t("share.unreachable");
  if (status?.state === "not_configured") return t("share.notConfigured");
  return count > MOST ? t("share.tooMany", { n: MOST }) : "";
}

/**
 * Create the button that opens the dialog. If the assets can't be shared, its tooltip says why, and a press shows that.
 *
 * @param {GalleryContext} context
 * @param {() => Asset[]} assets
 * @param {{bare?: boolean, kind?: string}} options
 */
export function shareButton(context, assets, options) {
  const { t, client } = context;
  const node = button(t("action.share"), {
    ...options,
    icon: "share",
    onclick: () => {
      update();
      const why = obstacle(client, t, assets().length);
      if (why) context.say(why, "bad");
      else context.share(assets());
    },
  });
  const update = () => {
    const why = obstacle(client, t, assets().length);
    node.setAttribute("aria-disabled", String(Boolean(why)));
    node.title = why || t("action.share");
  };
  update();
  return { node, update };
}

export class ShareDialog {
  #context;
  /** @type {Asset[]} */
  #assets = [];
  #title = el("h2");
  #time = el("select", { autofocus: true });
  #strip = el("input", { type: "checkbox" });
  #album = el("input", { type: "text", maxlength: 200, autocomplete: "off" });
  #prompts = el("input", { type: "checkbox" });
  #promptsLabel;
  #submit;
  #problem = el("p", { class: "bad", role: "alert", hidden: true });
  #form;
  #result = el("div", { class: "shared", role: "status" });
  /** @type {AbortController|null} */
  #asking = null;

  /** @param {GalleryContext} context */
  constructor(context) {
    this.#context = context;
    const { t } = context;
    for (const [key, seconds] of TIMES) this.#time.append(el("option", { value: seconds, text: t(key) }));
    this.#time.value = String(24 * HOUR);
    this.#submit = el("button", { class: "button primary", text: t("share.make") });
    const prompts = (this.#promptsLabel = el("label", { class: "check", hidden: true }, this.#prompts, el("span", { text: t("share.prompts") })));
    this.#album.addEventListener("input", () => {
      prompts.hidden = !this.#album.value.trim();
    });
    this.#form = el(
      "form",
      { onsubmit: (/** @type {SubmitEvent} */ event) => this.#share(event) },
      el("label", {}, el("span", { text: t("share.time") }), this.#time),
      el("label", {}, el("span", { text: t("share.album") }), this.#album),
      prompts,
      el("label", { class: "check" }, this.#strip, el("span", { text: t("share.strip") })),
      el("p", { class: "small quiet", text: t("share.hint") }),
      this.#problem,
      this.#submit,
    );
    this.element = el(
      "dialog",
      { class: "share card", "aria-label": t("action.share"), onclose: () => this.#end(), onkeydown: (/** @type {KeyboardEvent} */ event) => event.stopPropagation() },
      el("div", { class: "title" }, this.#title, el("span", { class: "gap" }), button(t("viewer.close"), { icon: "cross", bare: true, onclick: () => this.element.close() })),
      this.#form,
      this.#result,
    );
  }

  /** @param {Asset[]} assets */
  open(assets) {
    const { t } = this.#context;
    this.#assets = assets;
    this.#title.textContent = assets.length === 1 ? t("share.one", { name: assets[0].name }) : t("share.several", { n: assets.length });
    this.#form.hidden = false;
    this.#result.replaceChildren();
    this.#problem.hidden = true;
    this.#busy(false);
    this.element.showModal();
  }

  #end() {
    this.#asking?.abort();
    if (this.element.open) return; // it was opened again before this event
    this.#result.replaceChildren(); // links are shown once
    this.#assets = [];
  }

  /** @param {boolean} busy */
  #busy(busy) {
    this.#submit.setAttribute("aria-disabled", String(busy)); // `disabled` would take the focus
    this.#submit.textContent = this.#context.t(busy ? "share.making" : "share.make");
  }

  /** @param {SubmitEvent} event */
  async #share(event) {
    event.preventDefault();
    if (this.#submit.getAttribute("aria-disabled") === "true") return;
    const { t, client } = this.#context;
    const album = this.#album.value.trim();
    if (this.#strip.checked && this.#assets.length > MOST_STRIPPED) {
      this.#refuse(t("share.tooManyStripped", { n: MOST_STRIPPED }));
      return;
    }
    const asking = (this.#asking = new AbortController());
    const order = {
      ids: this.#assets.map(({ id }) => id),
      expires_seconds: Number(this.#time.value),
      strip_metadata: this.#strip.checked,
      album: album || null,
      with_prompts: Boolean(album) && this.#prompts.checked,
    };
    this.#problem.hidden = true;
    this.#busy(true);
    try {
      /** @type {ShareAnswer} */
      const answer = await client.post("/cloud-sync/share", order, "POST", AbortSignal.any([asking.signal, AbortSignal.timeout(WAIT_MS)]));
      if (!asking.signal.aborted) this.#show(answer);
    } catch (error) {
      if (!asking.signal.aborted) this.#refuse(reasonOf(error, t));
    } finally {
      if (!asking.signal.aborted) this.#busy(false);
    }
  }

  /** @param {string} why */
  #refuse(why) {
    this.#problem.textContent = why;
    this.#problem.hidden = false;
  }

  /** @param {ShareAnswer} answer */
  #show({ share, album, links, errors, warnings }) {
    const { t, copy } = this.#context;
    const shown = album ? [{ ...album, name: album.title }] : links;
    const lines = shown.map(({ name, url, expires_at }) => this.#link(name, url, expires_at));
    const problems = [
      ...errors.map(({ name, message }) => el("p", { class: "bad small", text: `${name}: ${t.server(message)}`, dir: "auto" })),
      ...warnings.map((text) => el("p", { class: "warn small", text: t.server(text) })),
      ...(this.#isLocal() ? [el("p", { class: "warn small", text: t("share.local", { endpoint: this.#endpoint }) })] : []),
    ];
    this.#form.hidden = true;
    this.#album.value = ""; // the next files are another album
    this.#promptsLabel.hidden = true;
    this.#result.replaceChildren(
      ...lines,
      shown.length > 1 ? button(t("share.copyAll"), { icon: "copy", onclick: () => copy(shown.map(({ url }) => url).join("\n")) }) : "",
      ...problems,
      share ? el("p", { class: "small quiet", text: t("share.takeBack", { command: `cloud-archive unshare ${share}` }) }) : "",
    );
    this.#result.querySelector("button")?.focus();
  }

  get #endpoint() {
    return this.#context.client.status?.destination.endpoint ?? "";
  }

  /** Whether only this machine can reach the store's address. */
  #isLocal() {
    return /^(localhost|127\.|\[?::1)/.test(this.#endpoint);
  }

  /**
   * @param {string} name
   * @param {string} url
   * @param {string} until
   */
  #link(name, url, until) {
    const { t, copy } = this.#context;
    const end = parseTime(until);
    return el(
      "div",
      { class: "link" },
      el("p", { dir: "auto", text: name }),
      el("div", { class: "row" }, el("input", { type: "text", readonly: true, value: url, "aria-label": t("share.link", { name }), onfocus: (/** @type {FocusEvent} */ event) => /** @type {HTMLInputElement} */ (event.target).select() }), button(t("share.copy", { name }), { icon: "copy", bare: true, onclick: () => copy(url) })),
      el("p", { class: "small quiet", text: t("share.until", { time: end ? formatMoment(end, t.locale) : until }) }),
    );
  }
}
