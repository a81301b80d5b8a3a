// @ts-check
/** Which assets are selected, and the tile from which Shift extends the selection. */

/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("./timeline.js").Timeline} Timeline */

const MAX_IN_RANGE = 2_000;
const STEP = 100; // how many assets a long range selects between two calls of `changed`

export class Selection {
  /** @type {Map<string, Asset>} by id */
  assets = new Map();
  anchor = 0;
  #load;
  #changed;
  /** @type {{index: number, last: number}|null} what is still to be selected; null: nothing */
  #range = null;

  /**
   * @param {(index: number) => Promise<Asset|undefined>} load  never rejects; undefined: it can't be loaded. If the
   *   timeline is older than the asset's page, it first waits for a new timeline, with which `carry` is called
   * @param {() => void} changed
   */
  constructor(load, changed) {
    this.#load = load;
    this.#changed = changed;
  }

  /**
   * @param {Asset} asset
   * @param {number} index
   */
  toggle(asset, index) {
    this.#range = null;
    if (!this.assets.delete(asset.id)) this.assets.set(asset.id, asset);
    this.anchor = index;
    this.#changed();
  }

  clear() {
    this.#range = null;
    this.assets.clear();
    this.#changed();
  }

  /** Replace selected assets by newer versions. @param {Asset[]} assets */
  learn(assets) {
    for (const asset of assets) if (this.assets.has(asset.id)) this.assets.set(asset.id, asset);
  }

  /**
   * Select the assets from the anchor to another tile, after loading those that are missing. Returns the limit if they
   * are too many, else null.
   *
   * @param {number} to
   */
  extend(to) {
    const range = { index: Math.min(this.anchor, to), last: Math.max(this.anchor, to) };
    if (range.last - range.index >= MAX_IN_RANGE) return MAX_IN_RANGE;
    this.#select(range);
    return null;
  }

  /** @param {{index: number, last: number}} range */
  async #select(range) {
    this.#range = range;
    while (range.index <= range.last) {
      const { index } = range;
      const asset = await this.#load(index);
      if (this.#range !== range) return;
      if (!asset) break; // the user is told of a request that failed
      if (range.index !== index) continue; // the timeline has changed meanwhile
      this.assets.set(asset.id, asset);
      range.index += 1;
      if (range.index % STEP === 0) this.#changed();
    }
    this.#range = null;
    this.#changed();
  }

  /**
   * Stay with the same tiles in a new timeline.
   *
   * @param {Timeline} before
   * @param {Timeline} now
   */
  carry(before, now) {
    this.anchor = now.carry(before.locate(this.anchor));
    if (!this.#range) return;
    this.#range.index = now.carry(before.locate(this.#range.index));
    this.#range.last = now.carry(before.locate(this.#range.last));
  }

  /** Forget the anchor and the range: the timeline shows another query. What is selected stays. */
  restart() {
    this.anchor = 0;
    if (!this.#range) return;
    this.#range = null;
    this.#changed();
  }
}
