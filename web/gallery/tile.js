// @ts-check
/** One tile of the timeline: a picture with its icons, made once and reused for many assets. */

import { formatDuration } from "../format.js";
import { el, icon } from "../panel/dom.js";
import { showPicture } from "./media.js";

/** @typedef {import("../status_client.js").StatusClient} StatusClient */
/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */

/**
 * @typedef {object} Tile
 * @property {HTMLElement} node
 * @property {HTMLImageElement} image
 * @property {number} index
 * @property {Asset|undefined} asset
 * @property {(() => void)|null} end  stops loading its picture
 * @property {string} drawn  the index and the count that it shows; empty: it must be drawn again
 * @property {boolean} settled  whether its picture is loaded, or can't be shown
 * @property {boolean} failed  whether it can't be shown
 */

/** The type of the data that a dragged tile carries: its asset's id. */
export const DRAG_TYPE = "application/x-cloud-archive-asset";
const MAX_ORIGINAL_BYTES = 30_000_000; // a larger image is not loaded in place of a missing thumbnail

/** @returns {Tile} */
export function buildTile() {
  const image = el("img", { alt: "", decoding: "async", draggable: "false" });
  image.addEventListener("load", () => image.classList.add("there"));
  const node = el(
    "div",
    { class: "tile", role: "option", "aria-selected": "false" },
    el("span", { class: "kind" }),
    image,
    el("span", { class: "length num", hidden: true }),
    el("span", { class: "star", hidden: true }, icon("heart")),
    el("span", { class: "pick" }, icon("check")),
  );
  return { node, image, index: -1, asset: undefined, end: null, drawn: "", settled: false, failed: false };
}

/**
 * Show what is known of a tile's asset.
 *
 * @param {Tile} tile
 * @param {number} count  of all assets
 * @param {GalleryContext} context
 */
export function drawTile({ node, index, asset }, count, context) {
  const { t } = context;
  node.classList.toggle("waiting", !asset);
  node.setAttribute("aria-setsize", String(count));
  node.setAttribute("aria-posinset", String(index + 1));
  const [kind, , length, star] = /** @type {HTMLElement[]} */ ([...node.children]);
  node.draggable = Boolean(asset);
  node.title = asset?.name ?? "";
  star.hidden = !asset?.favorite;
  length.hidden = !asset?.duration_seconds;
  kind.replaceChildren();
  if (!asset) {
    node.setAttribute("aria-label", t("state.loading"));
    return;
  }
  const media = mediaKind(asset);
  node.setAttribute("aria-label", tileLabel(asset, media, context));
  node.classList.toggle("blurred", context.isBlurred(asset));
  kind.append(icon(media === "video" ? "play" : media));
  if (media !== "image") kind.append(el("span", { text: asset.name.slice(asset.name.lastIndexOf(".") + 1).toUpperCase().slice(0, 5) }));
  if (asset.duration_seconds) length.textContent = clock(asset.duration_seconds);
}

/**
 * @param {Tile} tile
 * @param {number} index
 */
export function numberTile(tile, index) {
  tile.index = index;
  tile.node.id = `tile-${index}`;
}

/**
 * @param {Tile} tile
 * @param {import("../types.d.ts").TileBox} box
 */
export function placeTile({ node }, { x, y, width, height }) {
  node.style.transform = `translate(${x}px, ${y}px)`;
  node.style.width = `${width}px`;
  node.style.height = `${height}px`;
}

/**
 * @param {Tile} tile
 * @param {StatusClient} client
 * @param {number} reloads  changes the address: Firefox loads each only once
 * @param {() => void} settled  called when it is loaded, or can't be shown
 */
export function loadPicture(tile, client, reloads, settled) {
  const asset = /** @type {Asset} */ (tile.asset);
  const paths = [`${thumbnailPath(asset)}#${reloads}`];
  if (mediaKind(asset) === "image" && asset.size < MAX_ORIGINAL_BYTES) paths.push(`/cloud-sync/assets/${asset.id}/content`);
  tile.settled = false;
  const settle = () => {
    tile.settled = true;
    settled();
  };
  const endPicture = showPicture(client, tile.image, paths, () => {
    tile.failed = true;
    settle();
  });
  tile.image.addEventListener("load", settle);
  tile.end = () => {
    tile.image.removeEventListener("load", settle);
    endPicture();
  };
}

/** Remove a tile's picture, or stop loading it. @param {Tile} tile */
export function dropPicture(tile) {
  tile.end?.();
  tile.end = null;
  tile.failed = false;
  tile.image.classList.remove("there");
}

/**
 * Let a tile be dragged, such as to ComfyUI's canvas.
 *
 * @param {Tile} tile
 * @param {DragEvent} event
 */
export function startDrag({ asset, image }, { dataTransfer }) {
  if (!asset || !dataTransfer) return;
  dataTransfer.setData(DRAG_TYPE, asset.id);
  dataTransfer.setData("text/plain", asset.key);
  dataTransfer.effectAllowed = "copy";
  if (image.classList.contains("there")) dataTransfer.setDragImage(image, 24, 24);
}

/**
 * Return the path of an asset's thumbnail. It changes with the file's bytes, because browsers cache thumbnails.
 *
 * @param {Asset} asset
 */
export function thumbnailPath(asset) {
  return `${asset.preview_url}?v=${encodeURIComponent((asset.sha256 ?? asset.created_at).slice(0, 24))}`;
}

/**
 * Return the kind of icon and player: "image", "video", "audio" or "other".
 *
 * @param {Asset} asset
 */
export function mediaKind(asset) {
  const kind = (asset.mime_type ?? "").split("/")[0];
  return ["image", "video", "audio"].includes(kind) ? kind : "other";
}

/**
 * @param {Asset} asset
 * @param {string} media
 * @param {GalleryContext} context
 */
function tileLabel(asset, media, context) {
  const { t } = context;
  const parts = [asset.name, t(`kind.${media}`), context.moment(asset.created_at)];
  if (asset.duration_seconds) parts.push(formatDuration(asset.duration_seconds, t));
  if (asset.favorite) parts.push(t("asset.favorite"));
  if (asset.rating) parts.push(t("asset.stars", { n: asset.rating }));
  return parts.join(t("separator"));
}

/** @param {number} seconds */
function clock(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
