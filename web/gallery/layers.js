// @ts-check
/** The library's layers (dialogs, the menu, the filters) in the page's history, so that Back closes the topmost. */

/** @typedef {import("../page_history.js").PageHistory} PageHistory */
/** @typedef {import("./gallery.js").Parts} Parts */

/**
 * @typedef {object} Layer
 * @property {HTMLElement} element  open unless it is hidden or a dialog that is closed
 * @property {() => void} close
 * @property {() => unknown} [data]  returns what is needed to open it again; without it, that can't be done
 */

/** @param {Element} element */
const isOpen = (element) => (element instanceof HTMLDialogElement ? element.open : !element.matches("[hidden]"));

/** @param {{element: HTMLDialogElement}} dialog @returns {Layer} */
const dialog = ({ element }) => ({ element, close: () => element.close() });

/** @param {Parts} parts @returns {Record<string, Layer>} */
function layersOf({ filters, menu, grid, viewer, compare, share }) {
  const data = () => viewer.shown && { ...grid.timeline.locate(viewer.shown.index), id: viewer.shown.id };
  return {
    filters: { element: filters.element, close: () => filters.open(false), data: () => true },
    menu: { element: menu.menu, close: menu.close },
    viewer: { ...dialog(viewer), data },
    compare: dialog(compare),
    share: dialog(share),
  };
}

/**
 * Report each layer that opens or closes, until the returned function is called: it reports that all are closed.
 *
 * @param {PageHistory} history
 * @param {Parts} parts
 */
export function reportLayers(history, parts) {
  const layers = Object.entries(layersOf(parts));
  /** @type {Set<string>} */
  const open = new Set();
  const report = () => {
    for (const [name, { element, close, data = () => undefined }] of layers) {
      if (isOpen(element) === open.has(name)) continue;
      if (open.delete(name)) history.closed(name);
      else {
        open.add(name);
        history.opened(name, close, data);
      }
    }
  };
  const observer = new MutationObserver(report);
  for (const [, { element }] of layers) observer.observe(element, { attributeFilter: ["hidden", "open"] });
  return () => {
    observer.disconnect();
    for (const name of open) history.closed(name);
  };
}

/**
 * Open the layers that the history wants open again.
 *
 * @param {PageHistory} history
 * @param {Parts} parts
 * @param {boolean} isLoaded  whether the timeline is there; the viewer needs it
 */
export async function reopenLayers(history, { filters, grid, load, open }, isLoaded) {
  if (history.wanted("filters")) filters.open(true);
  const wanted = history.wanted("viewer");
  if (!wanted || !isLoaded) return;
  const asset = await load(grid.timeline.carry(wanted));
  if (history.wanted("viewer") !== wanted || !grid.element.isConnected) return;
  if (asset?.id === wanted.id) open(grid.timeline.carry(wanted));
  else history.closed("viewer");
}
