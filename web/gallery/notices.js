// @ts-check
/** What the library says of its files: how many there are, what it can't show now, and why there is no timeline. */

import { button, el, setText } from "../panel/dom.js";
import { storeMayBeAway } from "../status_client.js";

/** @typedef {import("../status_client.js").StatusClient} StatusClient */
/** @typedef {import("../types.d.ts").Facets} Facets */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */
/** @typedef {import("../types.d.ts").Translator} Translator */

/**
 * Return what can't be shown now; empty: nothing is missing.
 *
 * @param {StatusClient} client
 * @param {Facets|null} facets
 * @param {string} query
 * @param {Translator} t
 */
function noteOf({ status, reachable }, facets, query, t) {
  if (!reachable) return t("gallery.unreachable");
  if (status && storeMayBeAway(status)) return t("gallery.retrying");
  if (facets?.trouble) return t("gallery.others", { why: t.server(facets.trouble) });
  if (facets?.loading) {
    const { searched, total } = facets.loading;
    return total > searched ? t("gallery.loading", { n: searched, total }) : t("gallery.listing");
  }
  return query && facets?.unread ? t("gallery.partial", { n: facets.unread }) : "";
}

export class Notices {
  #context;
  #clear;
  #timeline;
  #count = el("p", { class: "small quiet num", role: "status" });
  #note = el("p", { class: "note-line small warn", hidden: true });
  #message = el("div", { class: "message", hidden: true });
  #isEmpty = false; // neither a query nor a file
  line = el("div", { class: "line" }, this.#count, this.#note);

  /**
   * @param {GalleryContext} context
   * @param {() => void} clear  clears the search
   * @param {...HTMLElement} timeline  what a message takes the place of
   */
  constructor(context, clear, ...timeline) {
    this.#context = context;
    this.#clear = clear;
    this.#timeline = el("div", {}, ...timeline);
    this.body = el("div", { class: "body" }, this.#timeline, this.#message);
  }

  /**
   * Show how many files a query finds; if none, a message says why. `showNote` says it where there is no query.
   *
   * @param {number} count
   * @param {string} query
   */
  showCount(count, query) {
    const { t } = this.#context;
    setText(this.#count, t("gallery.count", { n: count }));
    this.#count.classList.remove("bad");
    if (count) this.showMessage();
    else if (query) this.showMessage(t("gallery.noMatch"), button(t("gallery.clear"), { onclick: this.#clear }));
    else this.#isEmpty = true;
  }

  /** Show in place of the count why the server has refused a query as invalid. @param {string} reason */
  showInvalid(reason) {
    this.showMessage(); // nothing was searched, so nothing is said about what matches
    setText(this.#count, reason);
    this.#count.classList.add("bad");
  }

  /** @param {Facets|null} facets @param {string} query */
  showNote(facets, query) {
    const { client, t } = this.#context;
    const text = noteOf(client, facets, query, t);
    setText(this.#note, text);
    this.#note.hidden = !text;
    if (client.status?.state === "not_configured") this.#show(t("gallery.notConfigured"));
    else if (this.#isEmpty) this.#show(t(text ? "gallery.none" : "gallery.empty"));
  }

  /**
   * Show a sentence in place of the timeline; without a text, show the timeline.
   *
   * @param {string} [text]
   * @param {HTMLElement|null} [action]
   */
  showMessage(text = "", action = null) {
    this.#isEmpty = false;
    this.#show(text, action);
  }

  /** @param {string} text @param {HTMLElement|null} [action] */
  #show(text, action = null) {
    if (text && this.#message.firstChild?.textContent === text) return; // its selection and its button's focus stay
    this.#message.hidden = !text;
    this.#timeline.hidden = Boolean(text);
    this.#message.replaceChildren(el("p", { text }), ...(action ? [action] : []));
  }
}
