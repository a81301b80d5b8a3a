// @ts-check
/** The viewer: one asset, with what is known of it beside it. */

import { button, el } from "../panel/dom.js";
import { fileButtons, reuseButtons } from "./actions.js";
import { details } from "./details.js";
import { EditForm } from "./edit_form.js";
import { shareButton } from "./share.js";
import { Stage } from "./stage.js";

/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */

export class Viewer {
  #context;
  #load;
  #closed;
  #search;
  #turned;
  #stage;
  #side = el("div", { class: "side", tabindex: -1 });
  #actions = el("div", { class: "actions" });
  #fileActions = el("div", { class: "file-actions" });
  #count = el("span", { class: "num quiet" });
  #index = 0;
  #inPlace = 0; // what is at the index: 0: the shown asset; if that is gone, 1: its next one, -1: its previous one
  #turns = 0;
  #shownTurn = 0; // the turn whose asset is shown; `#turns`, unless that one is still loading
  /** Resolves once `#inPlace` is known, after files came or went. */
  #following = Promise.resolve();
  #total = 0;
  /** @type {Asset|null} */
  #asset = null;
  /** @type {EditForm|null} */
  #form = null;
  #share;
  #info;
  #zoom;
  #previous;
  #next;

  /**
   * @param {GalleryContext} context
   * @param {(index: number) => Promise<Asset|undefined>} load  never rejects; undefined: it can't be loaded
   * @param {(index: number) => void} closed  called with the index shown last
   * @param {(query: string) => void} search
   * @param {() => void} turned  called after each asset that it shows
   */
  constructor(context, load, closed, search, turned) {
    this.#context = context;
    this.#load = load;
    this.#closed = closed;
    this.#search = search;
    this.#turned = turned;
    this.#stage = new Stage(context);
    this.#stage.swiped = (step) => this.#turn(step);
    const { t } = context;
    this.#share = shareButton(context, () => (this.#asset ? [this.#asset] : []), { bare: true });
    this.#info = button(t("viewer.info"), { icon: "info", bare: true, "aria-pressed": "true", onclick: () => this.#toggleInfo() });
    this.#zoom = [
      button(t("viewer.zoomOut"), { icon: "minus", bare: true, onclick: () => this.#stage.zoomOut() }),
      button(t("viewer.zoomIn"), { icon: "plus", bare: true, onclick: () => this.#stage.zoomIn() }),
    ];
    this.#previous = button(t("viewer.previous"), { icon: "back", bare: true, kind: "turn previous", onclick: () => this.#turn(-1) });
    this.#next = button(t("viewer.next"), { icon: "chevron", bare: true, kind: "turn next", onclick: () => this.#turn(1) });
    this.element = el(
      "dialog",
      {
        class: "viewer",
        "aria-label": t("viewer.title"),
        onclose: () => this.#end(),
        onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
      },
      el(
        "div",
        { class: "viewer-bar" },
        this.#count,
        el(
          "div",
          { class: "tools" },
          this.#fileActions,
          ...this.#zoom,
          this.#info,
          button(t("viewer.close"), { icon: "cross", bare: true, onclick: () => this.element.close() }),
        ),
      ),
      el(
        "div",
        { class: "viewer-main" },
        el(
          "div",
          // The picture has the focus first, not a button.
          { class: "viewer-stage", tabindex: -1, autofocus: true },
          this.#stage.element,
          this.#previous,
          this.#next,
        ),
        el("div", { class: "side-box" }, this.#actions, this.#side),
      ),
    );
  }

  get isOpen() {
    return this.element.open;
  }

  /** The index and the id of the asset that is shown; undefined: it is not loaded yet. */
  get shown() {
    return this.#asset && { index: this.#index, id: this.#asset.id };
  }

  /**
   * @param {number} index
   * @param {number} total
   */
  async open(index, total) {
    this.#total = total;
    if (!this.element.open) this.element.showModal();
    await this.#show(index);
  }

  /**
   * Take another place in the timeline: files came or went while the viewer is open.
   *
   * @param {(index: number) => number} carry  returns the new index of an asset
   * @param {number} total
   */
  follow(carry, total) {
    if (!this.element.open || !this.#total || !total) return;
    this.#index = carry(this.#index);
    this.#total = total;
    this.#showPlace();
    const index = this.#index;
    this.#following = this.#load(index).then((asset) => {
      if (!asset || !this.#asset || this.#shownTurn !== this.#turns || index !== this.#index) return;
      this.put(asset); // another machine may have edited it
      // If the query no longer finds the shown asset, its next or its previous one has taken its place.
      this.#inPlace = asset.id === this.#asset.id ? 0 : asset.created_at <= this.#asset.created_at ? 1 : -1;
      this.#showPlace();
    });
  }

  #showPlace() {
    this.#count.textContent = this.#context.t("viewer.count", { n: this.#index + 1, total: this.#total });
    this.#previous.setAttribute("aria-disabled", String(this.#indexAfter(-1) === null));
    this.#next.setAttribute("aria-disabled", String(this.#indexAfter(1) === null));
  }

  /** Return the index of the next or the previous asset; null: there is none. @param {1|-1} step */
  #indexAfter(step) {
    const index = step === this.#inPlace ? this.#index : this.#index + step;
    return index >= 0 && index < this.#total ? index : null;
  }

  /** Show whether the asset can be shared now. */
  updateShare() {
    this.#share.update();
  }

  /** Show a newer version of the asset, if it is the one that is shown. @param {Asset} asset */
  put(asset) {
    if (this.#asset?.id !== asset.id) return;
    this.#asset = asset;
    this.#form?.update(asset);
  }

  /** @param {number} index */
  async #show(index) {
    this.#index = index;
    this.#inPlace = 0;
    const turn = ++this.#turns;
    this.#showPlace();
    let loaded;
    let asset;
    do {
      loaded = this.#index;
      asset = await this.#load(loaded);
      if (turn !== this.#turns || !this.element.open) return;
    } while (loaded !== this.#index); // files that came or went meanwhile have moved the asset
    if (!asset) {
      this.element.close();
      return;
    }
    this.#asset = asset;
    this.#shownTurn = turn;
    this.#stage.show(asset);
    const isFixed = !asset.mime_type?.startsWith("image/");
    this.#stage.element.classList.toggle("fixed", isFixed);
    for (const zoom of this.#zoom) zoom.setAttribute("aria-disabled", String(isFixed));
    this.#fileActions.replaceChildren(this.#share.node, ...fileButtons(asset, this.#context));
    this.#actions.replaceChildren(...reuseButtons(asset, this.#context, () => this.element.close()));
    this.#form = new EditForm(asset, this.#context);
    this.#side.replaceChildren(
      details(asset, this.#context, this.#form.element, (query) => {
        this.element.close();
        this.#search(query);
      }),
    );
    this.#side.scrollTop = 0;
    this.#turned();
    if (this.#index + 1 < this.#total) this.#load(this.#index + 1);
  }

  /** @param {1|-1} step */
  async #turn(step) {
    await this.#following;
    if (!this.element.open) return;
    const index = this.#indexAfter(step);
    if (index !== null) this.#show(index);
  }

  #toggleInfo() {
    const hidden = this.element.classList.toggle("bare-stage");
    this.#info.setAttribute("aria-pressed", String(!hidden));
  }

  #end() {
    if (this.element.open) return; // it was opened again before this event
    this.#stage.clear();
    this.#side.replaceChildren();
    this.#actions.replaceChildren();
    this.#fileActions.replaceChildren();
    this.#asset = this.#form = null;
    this.#closed(this.#index);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    event.stopPropagation(); // ComfyUI has single keys as commands
    const target = /** @type {HTMLElement} */ (event.composedPath()[0]);
    if (event.altKey || event.ctrlKey || event.metaKey || target.matches("input, textarea, select, video, audio")) return;
    /** @type {Record<string, () => void>} */
    const repeated = {
      arrowleft: () => this.#turn(-1),
      arrowright: () => this.#turn(1),
      "+": () => this.#stage.zoomIn(),
      "=": () => this.#stage.zoomIn(),
      "-": () => this.#stage.zoomOut(),
    };
    /** @type {Record<string, () => void>} */
    const once = {
      z: () => this.#stage.toggleZoom(),
      i: () => this.#toggleInfo(),
      f: () => this.#form?.save((asset) => ({ favorite: !asset.favorite })),
    };
    for (let rating = 0; rating <= 5; rating += 1) once[String(rating)] = () => this.#form?.save(() => ({ rating }));
    const key = event.key.toLowerCase(); // also with caps lock
    const act = repeated[key] ?? once[key];
    if (!act) return;
    event.preventDefault();
    if (!event.repeat || key in repeated) act();
  }
}
