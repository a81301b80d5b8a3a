// @ts-check
/** The viewer's buttons for the asset that it shows. */

import { button } from "../panel/dom.js";
import { reasonOf } from "../status_client.js";
import { RELEASE_AFTER_MS, download, openMedia } from "./media.js";
import { mediaKind } from "./tile.js";

/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */

/** Types of files that can't hold a script. */
const WITHOUT_SCRIPT = /^(image|video|audio)\/(?!.*xml)/i;

/**
 * Return a listener that runs an action, and shows the reason if it fails.
 *
 * @param {GalleryContext} context
 * @param {() => Promise<unknown>} act
 */
function attempt(context, act) {
  return async () => {
    try {
      await act();
    } catch (error) {
      context.say(reasonOf(error, context.t), "bad");
    }
  };
}

/**
 * Create the buttons that use an asset again, in ComfyUI or elsewhere.
 *
 * @param {Asset} asset
 * @param {GalleryContext} context
 * @param {() => void} done  called after the asset's workflow was opened on the canvas
 */
export function reuseButtons(asset, context, done) {
  const { t, canvas, client } = context;
  const stem = asset.name.replace(/\.[^.]*$/, "");
  const hasGraph = asset.has_workflow || asset.has_prompt;
  const openWorkflow = async () => {
    await canvas?.openWorkflow(asset);
    done();
  };
  const useAsInput = async () => context.say((await canvas?.useAsInput(asset)) ?? "", "good");
  const graph = asset.has_workflow ? "workflow" : "prompt";
  return [
    canvas && hasGraph ? button(t("action.openWorkflow"), { icon: "flow", kind: "primary", onclick: attempt(context, openWorkflow) }) : null,
    canvas && mediaKind(asset) !== "other" ? button(t("action.useAsInput"), { icon: "input", onclick: attempt(context, useAsInput) }) : null,
    !canvas && hasGraph
      ? button(t("action.saveWorkflow"), { icon: "flow", kind: "primary", onclick: attempt(context, () => download(client, `/cloud-sync/assets/${asset.id}/${graph}`, `${stem}.json`)) })
      : null,
    asset.metadata.prompt ? button(t("asset.copyPrompt"), { icon: "copy", onclick: () => context.copy(asset.metadata.prompt ?? "") }) : null,
  ].filter((node) => node !== null);
}

/**
 * @param {Asset} asset
 * @param {GalleryContext} context
 */
export function fileButtons(asset, context) {
  const { t, client } = context;
  const content = `/cloud-sync/assets/${asset.id}/content`;
  const save = () => download(client, content, asset.name);
  const openOriginal = async () => {
    const isCopy = client.url(content) === null;
    // A script in a copy could read the token.
    if (isCopy && !WITHOUT_SCRIPT.test(asset.mime_type ?? "")) return save();
    // A tab that opens only once the file is here may be blocked as a popup.
    const tab = isCopy ? window.open("", "_blank") : null;
    if (tab) tab.opener = null;
    try {
      const { url, release } = await openMedia(client, content);
      if (tab) tab.location.replace(url);
      else window.open(url, "_blank", "noopener");
      setTimeout(release, RELEASE_AFTER_MS);
    } catch (error) {
      tab?.close();
      throw error;
    }
  };
  return [
    button(t("action.download"), { icon: "download", bare: true, onclick: attempt(context, save) }),
    button(t("action.openOriginal"), { icon: "external", bare: true, onclick: attempt(context, openOriginal) }),
  ];
}
