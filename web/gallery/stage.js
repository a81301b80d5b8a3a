// @ts-check
/** One picture, video or audio file, made smaller where it does not fit; pictures can be zoomed and moved. */

import { el, icon } from "../panel/dom.js";
import { openMedia, showPicture } from "./media.js";
import { mediaKind, thumbnailPath } from "./tile.js";

/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */

const MOST = 16; // the largest zoom factor
const STEP = 1.4;
const SWIPE = 48; // pixels

export class Stage {
  #context;
  /** @type {(() => void)|null} */
  #end = null;
  /** @type {HTMLImageElement|null} */
  #image = null;
  #scale = 1;
  #x = 0;
  #y = 0;
  /** @type {Map<number, {x: number, y: number}>} */
  #pointers = new Map();
  /** Where a finger came down that may swipe. @type {{clientX: number, clientY: number}|null} */
  #swipe = null;
  /** @type {(() => void)|null} called after each zoom or move */
  moved = null;
  /** @type {((step: 1|-1) => void)|null} called after a swipe; 1: to the left, for what comes next */
  swiped = null;

  /** @param {GalleryContext} context */
  constructor(context) {
    this.#context = context;
    this.element = el("div", {
      class: "stage",
      onwheel: (/** @type {WheelEvent} */ event) => this.#wheel(event),
      onpointerdown: (/** @type {PointerEvent} */ event) => this.#down(event),
      onpointermove: (/** @type {PointerEvent} */ event) => this.#move(event),
      onpointerup: (/** @type {PointerEvent} */ event) => this.#up(event),
      onpointercancel: (/** @type {PointerEvent} */ event) => this.#up(event),
      ondblclick: (/** @type {MouseEvent} */ event) => this.toggleZoom(event),
    });
  }

  clear() {
    this.#end?.();
    this.#end = null;
    this.#image = null;
    this.element.replaceChildren();
  }

  /** @param {Asset} asset */
  show(asset) {
    this.clear();
    this.#scale = 1;
    this.#x = this.#y = 0;
    this.element.classList.remove("zoomed");
    const kind = mediaKind(asset);
    if (kind === "image") this.#showImage(asset);
    else if (kind === "video" || kind === "audio") this.#showMedia(asset, kind);
    else this.#showNone(asset, this.#context.t("viewer.noPreview"));
  }

  /** @param {Asset} asset */
  #showImage(asset) {
    const { client } = this.#context;
    const content = `/cloud-sync/assets/${asset.id}/content`;
    const image = el("img", { class: "whole", alt: asset.metadata.prompt?.slice(0, 300) || asset.name, decoding: "async", draggable: "false" });
    const preview = el("img", { class: "preview", alt: "", "aria-hidden": "true", draggable: "false" });
    if (asset.width && asset.height) {
      // Both have the box of the whole picture before it comes, so that nothing jumps.
      const ratio = asset.width / asset.height;
      for (const { style } of [image, preview]) {
        style.aspectRatio = String(ratio);
        style.width = `min(${asset.width}px, 100cqw, ${100 * ratio}cqh)`;
      }
    }
    const endPreview = showPicture(client, preview, [thumbnailPath(asset)], () => preview.remove());
    image.addEventListener("load", () => {
      preview.remove();
      image.style.width = image.style.aspectRatio = ""; // a camera's picture may be turned
    }, { once: true });
    const end = showPicture(client, image, [content], () => this.#showFailure(asset));
    this.#image = image;
    this.#end = () => {
      endPreview();
      end();
    };
    this.element.replaceChildren(preview, image);
  }

  /**
   * @param {Asset} asset
   * @param {string} kind
   */
  #showMedia(asset, kind) {
    const { client } = this.#context;
    const ended = new AbortController();
    const player = el(kind === "video" ? "video" : "audio", { controls: true, preload: "metadata", class: "player", "aria-label": asset.name });
    if (kind === "video") {
      player.setAttribute("playsinline", "");
      player.loop = true;
    }
    let release = () => {};
    openMedia(client, `/cloud-sync/assets/${asset.id}/content`, ended.signal).then(
      (opened) => {
        if (ended.signal.aborted) opened.release();
        else {
          release = opened.release;
          player.src = opened.url;
        }
      },
      () => {
        if (!ended.signal.aborted) this.#showFailure(asset);
      },
    );
    player.addEventListener("error", () => this.#showFailure(asset), { once: true, signal: ended.signal });
    player.addEventListener("loadedmetadata", () => {
      // Chromium plays the sound of a video whose picture it can't decode.
      if (asset.width && "videoWidth" in player && !player.videoWidth) this.#showFailure(asset);
    }, { signal: ended.signal });
    this.#end = () => {
      ended.abort();
      player.pause();
      player.removeAttribute("src");
      player.load();
      release();
    };
    this.element.replaceChildren(player);
  }

  /**
   * @param {Asset} asset
   * @param {string} why
   */
  #showNone(asset, why) {
    this.clear();
    this.element.replaceChildren(el("div", { class: "none" }, icon(mediaKind(asset)), el("p", { text: why })));
  }

  /** @param {Asset} asset */
  #showFailure(asset) {
    const { client, t } = this.#context;
    this.#showNone(asset, t(client.reachable ? "viewer.failed" : "error.unreachable"));
  }

  /** The zoom factor, and how many pixels the picture is moved. */
  get viewport() {
    return { scale: this.#scale, x: this.#x, y: this.#y };
  }

  /** Take over another stage's zoom and position. @param {{scale: number, x: number, y: number}} place */
  follow({ scale, x, y }) {
    this.#scale = scale;
    this.#x = x;
    this.#y = y;
    this.#apply();
  }

  /**
   * Zoom by a factor around a point of the stage, its middle by default.
   *
   * @param {number} factor
   * @param {{clientX: number, clientY: number}} [point]
   */
  zoom(factor, point) {
    if (!this.#image) return;
    const box = this.element.getBoundingClientRect();
    const scale = Math.min(MOST, Math.max(1, this.#scale * factor));
    const px = (point?.clientX ?? box.left + box.width / 2) - box.left - box.width / 2;
    const py = (point?.clientY ?? box.top + box.height / 2) - box.top - box.height / 2;
    const ratio = scale / this.#scale;
    this.#x = px - (px - this.#x) * ratio;
    this.#y = py - (py - this.#y) * ratio;
    this.#scale = scale;
    this.#change();
  }

  zoomIn() {
    this.zoom(STEP);
  }

  zoomOut() {
    this.zoom(1 / STEP);
  }

  /** Zoom from the whole picture to its full size, at least twofold; if it is zoomed, back. @param {MouseEvent} [event] */
  toggleZoom(event) {
    if (!this.#image) return;
    const full = this.#image.naturalWidth / Math.max(1, this.#image.clientWidth);
    this.zoom(this.#scale > 1 ? 1 / this.#scale : Math.max(2, full), event);
  }

  #change() {
    this.#apply();
    this.moved?.();
  }

  #apply() {
    if (!this.#image) return;
    if (this.#scale === 1) this.#x = this.#y = 0;
    const { clientWidth, clientHeight } = this.element;
    const roomX = Math.max(0, (this.#image.clientWidth * this.#scale - clientWidth) / 2);
    const roomY = Math.max(0, (this.#image.clientHeight * this.#scale - clientHeight) / 2);
    this.#x = Math.min(roomX, Math.max(-roomX, this.#x));
    this.#y = Math.min(roomY, Math.max(-roomY, this.#y));
    this.#image.style.transform = `translate(${this.#x}px, ${this.#y}px) scale(${this.#scale})`;
    this.element.classList.toggle("zoomed", this.#scale > 1);
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    if (!this.#image) return;
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * 0.002), event);
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button) return;
    // A mouse drags. A second finger zooms, and on a player a finger also moves the slider.
    const maySwipe = event.isPrimary && event.pointerType !== "mouse" && this.#scale === 1;
    this.#swipe = maySwipe && !(event.target instanceof HTMLMediaElement) ? event : null;
    if (!this.#image) return;
    this.element.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const [first, second] = [...this.#pointers.values()];
    const apart = second ? Math.hypot(first.x - second.x, first.y - second.y) : 0;
    const dx = event.clientX - before.x;
    const dy = event.clientY - before.y;
    before.x = event.clientX;
    before.y = event.clientY;
    if (second && apart) {
      const now = Math.hypot(first.x - second.x, first.y - second.y);
      this.zoom(now / apart, { clientX: (first.x + second.x) / 2, clientY: (first.y + second.y) / 2 });
    } else if (this.#scale > 1) {
      this.#x += dx;
      this.#y += dy;
      this.#change();
    }
  }

  /** @param {PointerEvent} event */
  #up(event) {
    this.#pointers.delete(event.pointerId);
    const from = this.#swipe;
    this.#swipe = null;
    if (!from || event.type !== "pointerup") return;
    const dx = event.clientX - from.clientX;
    const dy = event.clientY - from.clientY;
    if (Math.abs(dx) > SWIPE && Math.abs(dx) > 2 * Math.abs(dy)) this.swiped?.(dx < 0 ? 1 : -1);
  }
}
