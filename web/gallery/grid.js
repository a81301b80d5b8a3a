// @ts-check
/**
 * The timeline: only the visible tiles are in the page, however many assets there are.
 *
 * The list keeps the focus and says which tile is current (aria-activedescendant), so that nodes can be reused.
 */

import { el } from "../panel/dom.js";
import { Headings } from "./headings.js";
import { Shapes } from "./justified.js";
import { Pictures } from "./pictures.js";
import { Scroller } from "./scroller.js";
import { Selection } from "./selection.js";
import { buildTile, drawTile, dropPicture, numberTile, placeTile, startDrag, thumbnailPath } from "./tile.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").NamedCount} NamedCount */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */
/** @typedef {import("../types.d.ts").Place} Place */
/** @typedef {import("./tile.js").Tile} Tile */

const LOAD_MS = 90;
const LARGE = 300; // pixels
const OVERSCAN = 0.4; // of the height, above and below

/**
 * @typedef {object} Source
 * @property {(index: number) => Asset|undefined} asset  returns an asset; undefined: not loaded yet
 * @property {(index: number) => Promise<Asset|undefined>} load  see `Selection`
 * @property {(indexes: number[]) => void} want  loads the assets of the visible tiles
 * @property {(index: number) => void} open  opens the viewer
 * @property {() => void} selectionChanged
 * @property {(key: string, asset: Asset) => boolean} pressed  acts on a key; returns whether it did
 */

export class Grid {
  #context;
  #source;
  #timeline = new Timeline([], 100, 100, null);
  #shapes = new Shapes();
  #justified = false;
  #targetSize = 160;
  /** @type {NamedCount[]} */
  #days = [];
  /** @type {Map<number, Tile>} */
  #tiles = new Map();
  /** @type {Map<Element, Tile>} the hidden tiles, by node */
  #spare = new Map();
  #headings;
  #canvas = el("div", { class: "canvas", role: "presentation" });
  #current = 0;
  #frame = 0;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;
  #resize = new ResizeObserver(() => this.#onResize());
  #width = 0;

  /**
   * @param {GalleryContext} context
   * @param {Source} source
   */
  constructor(context, source) {
    this.#context = context;
    this.#source = source;
    this.selection = new Selection(source.load, () => {
      this.#showStates();
      source.selectionChanged();
    });
    this.#headings = new Headings(context);
    this.pictures = new Pictures(context.client, () => this.#tiles.values());
    this.list = el("div", {
      class: "list-box",
      role: "listbox",
      tabindex: 0,
      "aria-multiselectable": "true",
      "aria-label": context.t("gallery.assets"),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
      onclick: (/** @type {MouseEvent} */ event) => this.#click(event),
      ondragstart: (/** @type {DragEvent} */ event) => this.#drag(event),
      onfocus: () => this.#showStates(),
      onblur: () => this.#showStates(),
    }, this.#canvas);
    this.scroller = new Scroller(this.#canvas, () => this.#schedule(), this.#headings.element, this.list);
    this.element = this.scroller.element;
    this.#resize.observe(this.element);
  }

  get timeline() {
    return this.#timeline;
  }

  disconnect() {
    this.#resize.disconnect();
    clearTimeout(this.#timer);
    cancelAnimationFrame(this.#frame);
    for (const tile of this.#tiles.values()) tile.end?.();
    this.#tiles.clear();
  }

  /** The topmost asset in view; null: the timeline is at its top. @returns {Place|null} */
  get place() {
    const { top } = this.scroller;
    const { first } = this.#timeline.between(top, top + 1);
    const { day, place } = this.#timeline.locate(first);
    if (top <= 0 || !day || first >= this.#timeline.count) return null;
    return { day, place, offset: this.#timeline.position(first).y - top };
  }

  /**
   * @param {NamedCount[]} days
   * @param {boolean} isNewQuery  whether the days shown before belong to another query
   * @param {Place|null} [place]  where a new query begins; null: at the top
   */
  show(days, isNewQuery, place = null) {
    this.#days = days;
    if (isNewQuery) {
      this.#shapes = new Shapes();
      this.scroller.top = 0;
      this.#current = 0;
      this.selection.restart();
      this.#timeline = new Timeline([], 100, 100, null);
    }
    this.#lay(place);
    if (place) this.#current = this.#timeline.carry(place);
    this.#followAssets();
  }

  /**
   * @param {number} targetSize  the least edge of a square tile, or the target height of a row, in pixels
   * @param {boolean} justified  whether pictures keep their shapes
   */
  resize(targetSize, justified) {
    this.#targetSize = targetSize;
    this.#justified = justified;
    for (const tile of this.#tiles.values()) tile.drawn = ""; // the preferences also say what is blurred
    this.#lay();
  }

  /**
   * Show a page of assets that arrived. Where pictures keep their shapes, this moves tiles.
   *
   * @param {string} day
   * @param {number} page
   * @param {Asset[]} assets
   */
  learn(day, page, assets) {
    this.selection.learn(assets);
    this.#followAssets();
    if (this.#shapes.learn(day, page, assets) && this.#justified) this.#lay();
    else this.draw();
  }

  /** Give each tile the index that its asset has now, so that loaded pictures stay when newer files push assets down. */
  #followAssets() {
    const indexes = [...this.#tiles.keys()];
    // After a file has gone, an asset has two tiles where one page is new and the next one is not yet.
    /** @type {Map<string|Tile, Tile>} by the asset's id, if no other tile has that */
    const free = new Map();
    for (const tile of this.#tiles.values()) free.set(tile.asset && !free.has(tile.asset.id) ? tile.asset.id : tile, tile);
    /** @type {Map<number, Tile>} */
    const next = new Map();
    for (const index of indexes) {
      const id = this.#source.asset(index)?.id ?? "";
      const tile = free.get(id);
      if (tile) next.set(index, tile);
      free.delete(id);
    }
    const rest = [...free.values()];
    for (const index of indexes) {
      const tile = next.get(index) ?? rest.shift();
      if (!tile) continue;
      next.set(index, tile);
      numberTile(tile, index);
    }
    this.#tiles = next;
    this.draw();
  }

  /** Lay out again if the width has changed. */
  #onResize() {
    const width = this.#canvas.clientWidth || this.element.clientWidth;
    if (width && width !== this.#width) this.#lay();
    else this.#schedule();
  }

  /** @param {Place|null} [place]  to bring into view; null: stay */
  #lay(place = null) {
    const width = this.#canvas.clientWidth || this.element.clientWidth;
    if (!width) return;
    const before = this.#timeline;
    const kept = place ?? this.place;
    this.#width = width;
    // A narrow panel shows two columns, unless large tiles are chosen.
    const most = this.#targetSize < LARGE ? width / 2 - 2 : width;
    this.#timeline = new Timeline(this.#days, width, Math.min(this.#targetSize, most), this.#justified ? this.#shapes : null);
    this.scroller.resize(this.#timeline.height);
    // Assets come and go: the topmost tile stays in view, and the current one stays current, except at the very top.
    if (kept && this.#timeline.count) this.scroller.top = this.#timeline.position(this.#timeline.carry(kept)).y - kept.offset;
    if (this.#current) this.#current = this.#timeline.carry(before.locate(this.#current));
    this.selection.carry(before, this.#timeline);
    this.draw();
  }

  /** @param {number} number  of the day, from 0 */
  goToDay(number) {
    this.scroller.top = this.#timeline.top(number);
  }

  #schedule() {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.draw());
  }

  /** Place the visible tiles, and load what is missing a moment later. */
  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const height = this.element.clientHeight;
    const { start, top } = this.scroller;
    const { first, end, headings } = this.#timeline.between(top - height * OVERSCAN, top + height * (1 + OVERSCAN));
    for (const [index, tile] of this.#tiles) {
      if (index >= first && index < end) continue;
      this.#tiles.delete(index);
      this.#retire(tile);
    }
    let next = this.#canvas.firstElementChild;
    for (let index = first; index < end; index += 1) {
      // A screen reader reads the nodes in their order in the document, wherever they are placed.
      const tile = this.#tiles.get(index) ?? this.#make(index, next);
      while (next && this.#spare.has(next)) next = next.nextElementSibling;
      if (next === tile.node) next = next.nextElementSibling;
      else this.#canvas.insertBefore(tile.node, next);
      const box = this.#timeline.position(index);
      placeTile(tile, { ...box, y: box.y - start });
      this.#fill(tile);
    }
    this.#headings.draw(headings, start);
    this.#showStates();
    // During a fast scroll nothing is fetched for tiles that pass by within this time.
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#load();
    }, LOAD_MS);
  }

  #load() {
    this.#source.want([...this.#tiles.keys()]);
    for (const tile of this.#tiles.values()) this.#fill(tile);
    this.pictures.load();
  }

  /**
   * @param {number} index
   * @param {Element|null} next  the node in whose place it comes: if that is spare, it stays there, which costs least
   */
  #make(index, next) {
    const [first] = this.#spare.values();
    const tile = (next && this.#spare.get(next)) ?? first ?? buildTile();
    this.#spare.delete(tile.node);
    numberTile(tile, index);
    this.#tiles.set(index, tile);
    tile.node.hidden = false;
    return tile;
  }

  /** @param {Tile} tile */
  #retire(tile) {
    dropPicture(tile);
    tile.drawn = "";
    tile.node.hidden = true;
    for (const name of ["id", "aria-posinset"]) tile.node.removeAttribute(name); // another tile may get them
    this.#spare.set(tile.node, tile);
  }

  /** @param {Tile} tile */
  #fill(tile) {
    const asset = this.#source.asset(tile.index);
    const drawn = `${tile.index}/${this.#timeline.count}`;
    if (asset === tile.asset && drawn === tile.drawn) return;
    tile.drawn = drawn;
    // A picture that failed is tried again once a refresh has brought its asset again.
    const isSame = tile.asset && asset && thumbnailPath(tile.asset) === thumbnailPath(asset);
    if (!isSame || (tile.failed && tile.asset !== asset)) dropPicture(tile);
    tile.asset = asset;
    drawTile(tile, this.#timeline.count, this.#context);
  }

  #showStates() {
    const focused = this.list.matches(":focus-visible");
    for (const tile of this.#tiles.values()) {
      tile.node.classList.toggle("current", focused && tile.index === this.#current);
      const selected = Boolean(tile.asset && this.selection.assets.has(tile.asset.id));
      tile.node.setAttribute("aria-selected", String(selected));
    }
    this.element.classList.toggle("selecting", this.selection.assets.size > 0);
    if (this.#tiles.has(this.#current)) this.list.setAttribute("aria-activedescendant", `tile-${this.#current}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  /**
   * Make a tile current and bring it into view.
   *
   * @param {number} index
   */
  goTo(index) {
    this.#current = Math.max(0, Math.min(this.#timeline.count - 1, index));
    if (!this.#timeline.count) return;
    const { y, height } = this.#timeline.position(this.#current);
    const { clientHeight } = this.element;
    const bottom = y + height + 4;
    if (y - 40 < this.scroller.top) this.scroller.top = Math.max(0, y - 40);
    else if (bottom > this.scroller.top + clientHeight) this.scroller.top = bottom - clientHeight;
    this.draw();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.altKey || event.metaKey) return;
    const rows = Math.max(1, Math.floor(this.element.clientHeight / this.#timeline.row) - 1);
    /** @type {Record<string, () => number>} */
    const moves = {
      ArrowLeft: () => this.#current - 1,
      ArrowRight: () => this.#current + 1,
      ArrowUp: () => this.#timeline.moveRows(this.#current, -1),
      ArrowDown: () => this.#timeline.moveRows(this.#current, 1),
      PageUp: () => this.#timeline.moveRows(this.#current, -rows),
      PageDown: () => this.#timeline.moveRows(this.#current, rows),
      Home: () => 0,
      End: () => this.#timeline.count - 1,
    };
    if (event.key in moves) {
      const from = this.#current;
      this.goTo(moves[event.key]());
      if (event.shiftKey && !this.selection.assets.size) this.selection.anchor = from;
      if (event.shiftKey) this.#extend();
    } else if (event.repeat) {
      if (event.key === "Tab" || event.ctrlKey) return; // other keys have acted at the first press
    } else if (event.key === "Enter") this.#source.open(this.#current);
    else if (event.key === " ") this.#toggle(this.#current);
    else if (event.key === "Escape" && this.selection.assets.size) this.clear();
    else {
      const asset = this.#source.asset(this.#current);
      if (event.ctrlKey || !asset || !this.#source.pressed(event.key.toLowerCase(), asset)) return;
    }
    // Elsewhere on ComfyUI's page single keys are its own commands.
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const target = /** @type {Element} */ (event.target);
    const node = target.closest(".tile");
    const tile = [...this.#tiles.values()].find((each) => each.node === node);
    if (!tile?.asset) return;
    this.#current = tile.index;
    if (event.shiftKey) this.#extend();
    else if (target.closest(".pick") || event.ctrlKey || event.metaKey) this.#toggle(tile.index);
    else this.#source.open(tile.index);
    this.#showStates();
  }

  /** @param {number} index */
  #toggle(index) {
    const asset = this.#source.asset(index);
    if (asset) this.selection.toggle(asset, index);
  }

  #extend() {
    const limit = this.selection.extend(this.#current);
    if (limit) this.#context.say(this.#context.t("gallery.tooMany", { n: limit }), "bad");
  }

  /** Clear the selection. Its bar disappears, so the timeline takes the focus. */
  clear() {
    this.list.focus({ preventScroll: true });
    this.selection.clear();
  }

  /** @param {DragEvent} event */
  #drag(event) {
    const tile = [...this.#tiles.values()].find((each) => each.node === event.target);
    if (tile) startDrag(tile, event);
  }
}
