// @ts-check
/**
 * <cloud-archive-gallery>: shows what is archived, to view and use again.
 *
 *     defineGallery();
 *     const gallery = document.createElement("cloud-archive-gallery");
 *     gallery.client = client;          // a StatusClient; its owner starts and stops it
 *     gallery.locale = "ja";            // default "en"
 *     gallery.canvas = actions;         // what ComfyUI can do with an asset; default: null
 *     gallery.query = "is:favorite";    // dispatches "querychange" when the user changes it
 *     gallery.place = place;            // where it begins; dispatches "placechange" when it, or the viewer, moves on
 *     gallery.history = history;        // gets what opens and closes; default: null
 */

import { button, el } from "../panel/dom.js";
import { panelSheet } from "../panel/style.js";
import { reasonOf, RequestFailed } from "../status_client.js";
import { translator } from "../strings.js";
import { Compare } from "./compare.js";
import { galleryContext } from "./context.js";
import { Filters } from "./filters.js";
import { Grid } from "./grid.js";
import { reopenLayers, reportLayers } from "./layers.js";
import { Notices } from "./notices.js";
import { Pages } from "./pages.js";
import { keepPreferences, readPreferences } from "./preferences.js";
import { Refresher } from "./refresher.js";
import { Scrubber } from "./scrubber.js";
import { SearchField } from "./search_field.js";
import { SelectionBar } from "./selection_bar.js";
import { ShareDialog } from "./share.js";
import { gallerySheet } from "./style.js";
import { Toast } from "./toast.js";
import { ViewMenu } from "./view_menu.js";
import { Viewer } from "./viewer.js";

/** @typedef {import("../page_history.js").PageHistory} PageHistory */
/** @typedef {import("../status_client.js").StatusClient} StatusClient */
/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").CanvasActions} CanvasActions */
/** @typedef {import("../types.d.ts").Facets} Facets */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */
/** @typedef {import("../types.d.ts").Place} Place */

const DEBOUNCE_MS = 180;
const ANSWER_MS = 60_000;

/** @typedef {NonNullable<ReturnType<ArchiveGallery["buildParts"]>>} Parts */

export class ArchiveGallery extends HTMLElement {
  /** @type {StatusClient|null} */
  client = null;
  locale = "en";
  /** @type {CanvasActions|null} */
  canvas = null;
  /** @type {PageHistory|null} */
  history = null;
  /** @type {Place|null} */
  place = null;
  #query = "";
  #root = this.attachShadow({ mode: "open" });
  /** @type {Parts|null} */
  #parts = null;
  /** @type {Pages|null} */
  #pages = null;
  /** @type {Facets|null} */
  #facets = null;
  #preferences = readPreferences();
  #ended = new AbortController();
  /** @type {AbortController|null} */
  #facetsRequest = null;
  #facetsLoading = Promise.resolve(); // resolves once the newest request has ended
  /** @type {Record<string, ReturnType<typeof setTimeout>>} */
  #timers = {};
  #archivedFiles = -1; // -1: no status yet
  #isNewQuery = false; // true from a change of the query until its first answer is shown
  #endWatch = () => {};
  #endReports = () => {};
  #isEdited = false; // the timeline must be refreshed once the viewer is closed
  /** @type {Refresher|null} */
  #refresher = null;

  constructor() {
    super();
    this.#root.adoptedStyleSheets = [panelSheet(), gallerySheet()];
  }

  get query() {
    return this.#query;
  }

  set query(query) {
    this.#query = query;
    if (!this.#parts) return;
    this.place = null;
    this.#parts.field.value = query;
    this.#parts.filters.show(this.#facets, query); // the next filter may be pressed before the answer
    this.#loadFacets(true);
  }

  connectedCallback() {
    if (!this.client || this.#parts) return;
    this.#ended = new AbortController();
    this.#parts = this.buildParts(this.client);
    this.#parts.field.value = this.#query;
    this.#parts.filters.show(null, this.#query);
    this.#parts.grid.element.addEventListener("scroll", () => this.#onScroll());
    this.#parts.grid.resize(this.#preferences.tile, this.#preferences.justified);
    this.client.addEventListener("change", () => this.#onStatus(), { signal: this.#ended.signal });
    const showZoom = () => this.classList.toggle("page-zoomed", Number(visualViewport?.scale) > 1);
    visualViewport?.addEventListener("resize", showZoom, { signal: this.#ended.signal });
    showZoom();
    this.#endWatch = this.client.watch();
    this.#archivedFiles = this.client.status?.archived_files ?? -1;
    this.#loadFacets(true);
    if (this.history) this.#endReports = reportLayers(this.history, this.#parts);
    this.history?.addEventListener("reopen", () => this.#reopen(), { signal: this.#ended.signal });
    this.#reopen();
    this.#refresher = new Refresher(() => this.#loadFacets(false), () => Boolean(this.#facets?.loading));
  }

  disconnectedCallback() {
    this.#endReports();
    this.#ended.abort();
    this.#facetsRequest?.abort();
    this.#pages?.close();
    this.#refresher?.stop();
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    this.#timers = {};
    for (const dialog of this.#root.querySelectorAll("dialog")) dialog.close();
    this.#parts?.grid.disconnect();
    this.#parts?.toast.disconnect();
    this.#endWatch();
    this.#parts = this.#pages = this.#facets = this.#refresher = null;
    this.#root.replaceChildren();
  }

  /** @param {StatusClient} client */
  buildParts(client) {
    const toast = new Toast(this.#root);
    const context = galleryContext(client, translator(this.locale), this.canvas, this.#preferences, {
      say: (text, tone) => toast.show(text, tone),
      edited: (saved) => this.#showEdits(saved),
      share: (assets) => this.#parts?.share.open(assets),
    });
    const { t } = context;
    /** @param {number} index @returns {Asset|undefined} */
    const asset = (index) => {
      const { day, place } = grid.timeline.locate(index);
      return day && this.#pages?.get(day.name, place);
    };
    /** @param {number} index */
    const load = async (index) => {
      const { day, place } = grid.timeline.locate(index);
      return day && this.#pages?.load(day.name, place);
    };
    /** @param {number} index */
    const open = (index) => {
      grid.pictures.pause(true);
      viewer.open(index, grid.timeline.count);
    };
    /** @type {Grid} */
    const grid = new Grid(context, {
      asset,
      load: async (index) => {
        const { day } = grid.timeline.locate(index);
        const found = await load(index);
        if (day && this.#pages?.isOutdated(day)) await this.#loadFacets(false);
        return found;
      },
      want: (indexes) => this.#pages?.want(indexes.map((index) => grid.timeline.locate(index))),
      open,
      selectionChanged: () => selection.update(),
      pressed: (key, found) => this.#handleKey(key, found, context),
    });
    const viewer = new Viewer(
      context,
      load,
      (index) => {
        grid.pictures.pause(false);
        grid.goTo(index);
        grid.list.focus();
        if (this.#isEdited) this.#refreshAfterEdit();
      },
      (query) => this.#search(query),
      () => this.dispatchEvent(new Event("placechange")),
    );
    const compare = new Compare(context);
    const selection = new SelectionBar(context, () => [...grid.selection.assets.values()], {
      compare: () => {
        const [left, right] = grid.selection.assets.values();
        if (right) compare.open(left, right);
      },
      clear: () => grid.clear(),
    });
    const share = new ShareDialog(context);
    const scrubber = new Scrubber(context, grid);
    const field = new SearchField(context, (query) => this.#callLater("search", DEBOUNCE_MS, () => this.#search(query)), (query) => this.#goToFiles(query));
    const filters = new Filters(context, () => field.value, (query) => this.#search(query));
    const menu = new ViewMenu(context, this.#preferences, () => {
      keepPreferences(this.#preferences);
      grid.resize(this.#preferences.tile, this.#preferences.justified);
      grid.show(this.#facets?.days ?? [], false);
      scrubber.update();
    });
    const notices = new Notices(context, () => this.#search(""), grid.element, scrubber.element);
    const tags = el("datalist", { id: "gallery-tags" });
    this.#root.replaceChildren(
      el(
        "div",
        { class: "gallery", lang: t.locale },
        el("div", { class: "search-bar" }, field.element, filters.toggle, menu.element),
        filters.element,
        notices.line,
        notices.body,
        selection.element,
        toast.element,
        tags,
        viewer.element,
        compare.element,
        share.element,
      ),
    );
    return { context, grid, viewer, compare, share, selection, scrubber, field, filters, menu, notices, toast, tags, load, open };
  }

  /**
   * Act on a pressed key. Returns whether it has a meaning here.
   *
   * @param {string} key
   * @param {Asset} asset
   * @param {GalleryContext} context
   */
  #handleKey(key, asset, context) {
    if (key === "f") context.edit([asset], ({ favorite }) => ({ favorite: !favorite }));
    else if (key === "h") context.edit([asset], ({ hidden }) => ({ hidden: !hidden }));
    else if (/^[0-5]$/.test(key)) context.edit([asset], { rating: Number(key) });
    else if (key === "/") this.#parts?.field.focus();
    else return false;
    return true;
  }

  /**
   * @param {string} name  a call replaces an earlier one of this name that has not run yet
   * @param {number} wait  milliseconds
   * @param {() => void} act
   */
  #callLater(name, wait, act) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(act, wait);
  }

  /** @param {string} query */
  #search(query) {
    clearTimeout(this.#timers.search);
    if (this.#parts) this.#parts.field.value = query;
    if (query === this.#query) return;
    this.query = query;
    this.dispatchEvent(new Event("querychange"));
  }

  /** Search now; move the focus to the files once they are shown, unless the user goes on typing. @param {string} query */
  async #goToFiles(query) {
    this.#search(query);
    for (let awaited; awaited !== this.#facetsLoading; ) await (awaited = this.#facetsLoading);
    if (!this.#isNewQuery && this.#parts?.field.isAt(query)) this.#parts.grid.list.focus();
  }

  #onStatus() {
    const archived = this.client?.status?.archived_files ?? -1;
    this.#parts?.notices.showNote(this.#facets, this.#query);
    this.#parts?.selection.update();
    this.#parts?.viewer.updateShare();
    if (archived === this.#archivedFiles) return;
    if (this.#archivedFiles >= 0) this.#refresher?.fileArchived();
    this.#archivedFiles = archived;
  }

  /** Replace the last request. Resolves once no later one is under way either. @param {boolean} isNewQuery  false: refresh */
  async #loadFacets(isNewQuery) {
    if (!this.client || !this.#parts) return;
    if (this.client.status?.state === "not_configured") {
      this.#parts.notices.showNote(null, this.#query);
      return;
    }
    this.#isNewQuery ||= isNewQuery; // stays true if a refresh replaces the new query's first request
    this.#facetsRequest?.abort();
    this.#facetsRequest = new AbortController();
    if (isNewQuery) this.#parts.grid.element.setAttribute("aria-busy", "true");
    this.#facetsLoading = this.#requestFacets(this.client, this.#facetsRequest);
    for (let awaited; awaited !== this.#facetsLoading; ) await (awaited = this.#facetsLoading);
  }

  /** @param {StatusClient} client @param {AbortController} request */
  async #requestFacets(client, request) {
    const { query } = this;
    try {
      /** @type {Facets} */
      const facets = await client.get("/cloud-sync/facets", { q: query, signal: AbortSignal.any([request.signal, AbortSignal.timeout(ANSWER_MS)]) });
      if (!request.signal.aborted) this.#showFacets(facets, query, this.#isNewQuery);
    } catch (error) {
      if (!request.signal.aborted) this.#showError(error);
    } finally {
      if (!request.signal.aborted) this.#parts?.grid.element.removeAttribute("aria-busy");
    }
  }

  /** @param {Facets} facets @param {string} query @param {boolean} isNewQuery */
  #showFacets(facets, query, isNewQuery) {
    const { client } = this;
    if (!this.#parts || !client) return;
    const { grid, field, filters, notices, tags } = this.#parts;
    if (isNewQuery || !this.#pages) {
      this.#pages?.close();
      this.#pages = new Pages(
        // The query comes last, because the user may not have closed its last phrase yet.
        (day, after, limit, signal) => client.get("/cloud-sync/assets", { q: `since:${day} until:${day} ${query}`.trim(), limit, after, signal }),
        (day, page, assets) => grid.learn(day, page, assets),
        (error) => this.#showError(error),
      );
    } else {
      const before = new Map(this.#facets?.days.map((day) => [day.name, day.count]));
      this.#pages.expire();
      for (const day of facets.days) if (before.get(day.name) !== day.count) this.#pages.forgetCursors(day.name);
    }
    // While the bucket could not be read, the server may have sent icons in place of pictures.
    if (this.#facets?.trouble && !facets.trouble) grid.pictures.reload();
    this.#facets = facets;
    this.#isNewQuery = false;
    this.#refresher?.refreshed();
    field.suggestFrom(facets, query);
    field.markInvalid(false);
    filters.show(facets, query);
    tags.replaceChildren(...facets.tags.map(({ name }) => el("option", { value: name })));
    if (facets.days.length) notices.showMessage(); // a hidden timeline has no width to be laid out for
    const shown = grid.timeline;
    grid.show(facets.days, isNewQuery, isNewQuery ? this.place : null);
    this.#parts.viewer.follow((index) => grid.timeline.carry(shown.locate(index)), grid.timeline.count);
    this.#parts.scrubber.update();
    notices.showCount(grid.timeline.count, this.#query);
    notices.showNote(facets, this.#query);
    this.#reopen();
  }

  #onScroll() {
    if (this.#isNewQuery || !this.#parts) return; // what is shown still belongs to the query before
    this.place = this.#parts.grid.place;
    this.dispatchEvent(new Event("placechange"));
  }

  #reopen() {
    if (this.history && this.#parts) reopenLayers(this.history, this.#parts, !this.#isNewQuery);
  }

  /** @param {unknown} error */
  #showError(error) {
    if (!this.#parts) return;
    const { context, field, grid, notices } = this.#parts;
    const reason = reasonOf(error, context.t);
    const status = error instanceof RequestFailed ? error.status : 0;
    if (status === 400) {
      // The user may still be typing the query, so the files of the last one stay.
      field.markInvalid(true);
      notices.showInvalid(reason.replace(/^q: /, ""));
    } else if (this.client?.status?.state === "not_configured") notices.showNote(null, this.#query);
    else if (grid.timeline.count && status !== 403) context.say(reason, "bad");
    else notices.showMessage(reason, status === 403 ? null : button(context.t("action.retry"), { icon: "retry", onclick: () => this.#loadFacets(true) }));
  }

  /** @param {Asset[]} saved */
  #showEdits(saved) {
    if (!this.#parts) return;
    const { grid, selection, viewer } = this.#parts;
    for (const asset of saved) {
      this.#pages?.put(asset);
      viewer.put(asset);
    }
    grid.selection.learn(saved);
    grid.draw();
    selection.update();
    // The query may no longer find the viewer's asset, so this refresh waits until the viewer is closed.
    if (viewer.isOpen) this.#isEdited = true;
    else this.#refreshAfterEdit();
  }

  /** An edit may have changed what the query finds. */
  #refreshAfterEdit() {
    this.#isEdited = false;
    this.#callLater("edited", DEBOUNCE_MS, () => this.#loadFacets(false));
  }
}

/** Register the element; a second call, or a second copy of this file, changes nothing. */
export function defineGallery(registry = customElements) {
  if (!registry.get("cloud-archive-gallery")) registry.define("cloud-archive-gallery", ArchiveGallery);
}
