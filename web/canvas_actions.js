// @ts-check
/** What ComfyUI's canvas can do with an asset: open its workflow, take it as input, receive it by drag and drop. */

import { DRAG_TYPE } from "./gallery/tile.js";
import { reasonOf } from "./status_client.js";
import { translator } from "./strings.js";

/** @typedef {import("./status_client.js").StatusClient} StatusClient */
/** @typedef {import("./types.d.ts").Asset} Asset */
/** @typedef {import("./types.d.ts").CanvasActions} CanvasActions */

const COPY_MS = 3_600_000; // the answer comes once the whole file is here
const INPUT_WIDGETS = ["image", "video", "audio", "file", "upload"];

/** @typedef {{name: string, value: unknown, options?: {values?: unknown}, callback?: (value: unknown) => void}} Widget */
/** @typedef {{widgets?: Widget[], setDirtyCanvas?: (front: boolean, back: boolean) => void}} Node */

/**
 * @param {any} app  ComfyUI's
 * @param {StatusClient} client
 * @param {() => string} locale
 * @returns {CanvasActions}
 */
export function canvasActions(app, client, locale) {
  return {
    openWorkflow: (asset) => openWorkflow(app, client, asset, locale()),
    useAsInput: (asset) => useAsInput(app, client, asset, selectedInput(app), locale()),
  };
}

/**
 * Open an asset's workflow, or else its graph as it ran, in a new workflow tab.
 *
 * @param {any} app
 * @param {StatusClient} client
 * @param {Asset} asset
 * @param {string} locale
 * @throws {Error} the asset has neither, or the request failed.
 */
async function openWorkflow(app, client, asset, locale) {
  const name = asset.name.replace(/\.[^.]*$/, "");
  const path = `/cloud-sync/assets/${asset.id}`;
  if (asset.has_workflow) await app.loadGraphData(await client.get(`${path}/workflow`), true, true, name);
  else if (asset.has_prompt) await app.loadApiJson(await client.get(`${path}/prompt`), name);
  else throw new Error(translator(locale)("input.noGraph"));
}

/**
 * Put a file into ComfyUI's input directory, and select it in a node. Returns a sentence for the user.
 *
 * @param {any} app
 * @param {StatusClient} client
 * @param {Asset} asset
 * @param {{node: Node, widget: Widget}|null} target  null: in no node
 * @param {string} locale
 */
async function useAsInput(app, client, asset, target, locale) {
  const t = translator(locale);
  const { name, subfolder } = await client.post(`/cloud-sync/assets/${asset.id}/bring-back`, undefined, "POST", AbortSignal.timeout(COPY_MS));
  const path = subfolder ? `${subfolder}/${name}` : name;
  if (!target) {
    await app.refreshComboInNodes?.(); // so that every node offers the file
    return t("input.ready", { name: path });
  }
  const { node, widget } = target;
  const values = widget.options?.values;
  if (Array.isArray(values) && !values.includes(path)) values.push(path);
  widget.value = path;
  widget.callback?.(path);
  node.setDirtyCanvas?.(true, true);
  return t("input.selected", { name: path });
}

/**
 * Return a node with its widget that takes a file, such as Load Image's; null: it has none.
 *
 * @param {Node|null|undefined} node
 */
function inputOf(node) {
  const widget = node?.widgets?.find((each) => INPUT_WIDGETS.includes(each.name) && each.options?.values);
  return node && widget ? { node, widget } : null;
}

/** Return the first selected node that takes a file, as `inputOf` does. @param {any} app */
function selectedInput(app) {
  const selected = Object.values(app.canvas?.selected_nodes ?? {});
  return selected.map(inputOf).find(Boolean) ?? null;
}

/**
 * Let tiles be dropped on the canvas: a node that takes a file gets it, elsewhere the workflow opens.
 *
 * @param {any} app
 * @param {StatusClient} client
 * @param {() => string} locale
 * @param {(text: string, good: boolean) => void} say
 */
export function takeDrops(app, client, locale, say) {
  /** @param {DragEvent} event */
  const isOurs = (event) => Boolean(event.dataTransfer?.types.includes(DRAG_TYPE));
  const onCanvas = (/** @type {DragEvent} */ event) => event.composedPath().includes(app.canvas?.canvas);
  // In the capture phase, so that ComfyUI does not take the text for a workflow.
  document.addEventListener("dragover", (event) => isOurs(event) && onCanvas(event) && event.preventDefault(), true);
  document.addEventListener(
    "drop",
    async (event) => {
      if (!isOurs(event) || !onCanvas(event)) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      const id = event.dataTransfer?.getData(DRAG_TYPE);
      const [x, y] = app.canvas.convertEventToCanvasOffset(event);
      const target = inputOf(app.canvas.graph?.getNodeOnPos?.(x, y));
      try {
        const asset = await client.get(`/cloud-sync/assets/${id}`);
        if (target) say(await useAsInput(app, client, asset, target, locale()), true);
        else await openWorkflow(app, client, asset, locale());
      } catch (error) {
        say(reasonOf(error, translator(locale())), false);
      }
    },
    true,
  );
}
