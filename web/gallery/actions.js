// @ts-check
/** What can be done with one asset: use it again in ComfyUI, copy from it, open and download it. */

import { button, el } from "../panel/dom.js";
import { reasonOf } from "../status_client.js";
import { download, openMedia } from "./media.js";
import { shareButton } from "./share.js";
import { mediaKind } from "./tile.js";

/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */

/**
 * Create the buttons for one asset.
 *
 * @param {Asset} asset
 * @param {GalleryContext} context
 * @param {() => void} done  called after the asset went to the canvas
 */
export function actionsFor(asset, context, done) {
  const { t, canvas, client } = context;
  const stem = asset.name.replace(/\.[^.]*$/, "");
  const content = `/cloud-sync/assets/${asset.id}/content`;
  /** @param {() => Promise<unknown>} act */
  const attempt = (act) => async () => {
    try {
      await act();
    } catch (error) {
      context.say(reasonOf(error, t), "bad");
    }
  };
  const hasGraph = asset.has_workflow || asset.has_prompt;
  const openWorkflow = async () => {
    await canvas?.openWorkflow(asset);
    done();
  };
  const useAsInput = async () => context.say((await canvas?.useAsInput(asset)) ?? "", "good");
  const graph = asset.has_workflow ? "workflow" : "prompt";
  const openOriginal = async () => {
    const { url } = await openMedia(client, content);
    window.open(url, "_blank", "noopener");
  };
  return [
    canvas && hasGraph ? button(t("action.openWorkflow"), { icon: "flow", kind: "primary", onclick: attempt(openWorkflow) }) : null,
    canvas && mediaKind(asset) !== "other" ? button(t("action.useAsInput"), { icon: "input", onclick: attempt(useAsInput) }) : null,
    !canvas && hasGraph
      ? button(t("action.saveWorkflow"), { icon: "flow", kind: "primary", onclick: attempt(() => download(client, `/cloud-sync/assets/${asset.id}/${graph}`, `${stem}.json`)) })
      : null,
    asset.metadata.prompt ? button(t("asset.copyPrompt"), { icon: "copy", onclick: () => context.copy(asset.metadata.prompt ?? "") }) : null,
    el(
      "span",
      { class: "small-acts" },
      shareButton(context, () => [asset], { bare: true }).node,
      button(t("action.download"), { icon: "download", bare: true, onclick: attempt(() => download(client, content, asset.name)) }),
      button(t("action.openOriginal"), { icon: "external", bare: true, onclick: attempt(openOriginal) }),
    ),
  ].filter((node) => node !== null);
}
