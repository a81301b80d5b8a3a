// @ts-check
/**
 * The browser's history on a page of dashboard.js: Back closes what is open, and a reload comes back to the same place.
 *
 * Each open layer (a dialog, a menu, the filters) has an entry of its own above the page's entry. The state of an entry
 * holds the layers up to it, and the place in the library. So it belongs to one tab, and another visit starts afresh.
 */

/** @typedef {{name: string, data: unknown}} StoredLayer */

/**
 * @typedef {object} Layer
 * @property {string} name
 * @property {unknown} kept  what is needed to open it again, as it was last; undefined: that can't be done
 * @property {() => unknown} data  returns the same as it is now; undefined: it is not known yet
 * @property {(() => void)|null} close  null: it is not open again yet
 */

const WRITE_MS = 400; // Safari allows 100 changes in 30 s

export class PageHistory extends EventTarget {
  #address;
  #place;
  /** @type {Layer[]} the topmost is the last */
  #layers = [];
  #isGoing = false; // from `history.go` until the browser is there
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;

  /**
   * Dispatches "reopen" after Forward, if layers are to be opened again. After a reload they are from the beginning.
   *
   * @param {() => string} address  returns what the page's address should be now
   * @param {() => unknown} place  returns the place in the library
   */
  constructor(address, place) {
    super();
    this.#address = address;
    this.#place = place;
    this.#want(stored().layers);
    addEventListener("popstate", () => this.#onMove());
    if (stored().layers.length > this.#layers.length) this.write();
  }

  /**
   * Call after a layer was opened, also if that was because it was wanted.
   *
   * @param {string} name
   * @param {() => void} close  closes it
   * @param {() => unknown} data  see `Layer`
   */
  opened(name, close, data) {
    const layer = this.#layers.find((each) => each.name === name);
    if (layer) Object.assign(layer, { close, data });
    else this.#layers.push({ name, close, data, kept: undefined });
    this.write();
  }

  /** Call after a layer was closed, or if a wanted one can't be opened. @param {string} name */
  closed(name) {
    const rest = this.#layers.filter((each) => each.name !== name);
    if (rest.length === this.#layers.length) return;
    if (this.#timer) this.write(); // for Forward: the entry that is left keeps what the layer showed last
    this.#layers = rest;
    this.write();
  }

  /**
   * Return the data of a layer that is to be opened again; undefined: it is not.
   *
   * @param {string} name
   * @returns {any}
   */
  wanted(name) {
    return this.#layers.find((each) => each.name === name && !each.close)?.kept;
  }

  /** Write soon what has changed: it changes often. */
  changed() {
    this.#timer ??= setTimeout(() => this.write(), WRITE_MS);
  }

  /** Bring the browser's history to what the page shows. */
  write() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#isGoing) return;
    const wanted = this.#layers.length;
    const missing = wanted - stored().layers.length;
    if (missing < 0) {
      this.#isGoing = true;
      history.go(missing);
    } else if (missing === 0) history.replaceState(this.#state(wanted), "", this.#address());
    for (let count = wanted - missing + 1; count <= wanted; count += 1) history.pushState(this.#state(count), "", this.#address());
  }

  /** @param {number} count  of layers */
  #state(count) {
    for (const layer of this.#layers) layer.kept = layer.data() ?? layer.kept;
    const layers = this.#layers.slice(0, count).map(({ name, kept }) => ({ name, data: kept }));
    return { layers, place: this.#place() };
  }

  #onMove() {
    if (!this.#isGoing) {
      const { layers } = stored();
      for (const layer of this.#layers.splice(layers.length).reverse()) layer.close?.();
      this.#want(layers.slice(this.#layers.length));
      if (this.#layers.some(({ close }) => !close)) this.dispatchEvent(new Event("reopen"));
    }
    this.#isGoing = false;
    this.write();
  }

  /** Want the layers of another entry, up to one that can't be opened again. @param {StoredLayer[]} layers */
  #want(layers) {
    for (const { name, data } of layers) {
      if (data === undefined) return;
      this.#layers.push({ name, kept: data, data: () => undefined, close: null });
    }
  }
}

/**
 * Return the state of the current entry.
 *
 * @returns {{layers: StoredLayer[], place: any}}
 */
export function stored() {
  return history.state ?? { layers: [], place: null };
}
