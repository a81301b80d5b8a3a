// @ts-check
/**
 * One day as rows of pictures in about their own shapes; very wide and very tall ones are cut. Each row but perhaps the
 * last one is as wide as the page.
 */

/** @typedef {import("../types.d.ts").DayLayout} DayLayout */
/** @typedef {import("../types.d.ts").TileBox} TileBox */
/** @typedef {{first: number, end: number, y: number, height: number}} Row */
/** @typedef {{rows: Row[], lefts: Float64Array, widths: Float64Array, height: number}} Block */

/** Rows are laid out for this many assets at a time, so that the shapes of one page change no row of another block. */
export const BLOCK = 100;
// The last row of a block that is not full keeps the target height if it would else be this many times as tall.
const TALLEST = 1.35;
const UNFILLED = 0.08; // the highest cost of that last row if it is taller than the target

/**
 * Break one block into rows that are as wide as the page, so that their heights differ least from the target.
 *
 * @param {number} count
 * @param {(place: number) => number} shape  width divided by height
 * @param {number} width  pixels
 * @param {number} target  the target height of a row in pixels
 * @param {number} gap
 * @returns {Block}
 */
function layBlock(count, shape, width, target, gap) {
  const shapes = Float64Array.from({ length: count }, (_, place) => shape(place));
  const height = (/** @type {number} */ first, /** @type {number} */ end, /** @type {number} */ sum) => (width - gap * (end - first - 1)) / sum;
  const cost = new Float64Array(count + 1).fill(Infinity);
  const from = new Int32Array(count + 1);
  cost[0] = 0;
  for (let end = 1; end <= count; end += 1) {
    let sum = 0;
    for (let first = end - 1; first >= 0; first -= 1) {
      sum += shapes[first];
      const high = height(first, end, sum);
      if (high < target / 2 && end - first > 1) break; // more pictures make it lower still
      let bad = Math.log(Math.max(high, 1) / target) ** 2;
      if (end === count && count < BLOCK && high > target) bad = Math.min(bad, UNFILLED);
      if (cost[first] + bad < cost[end]) {
        cost[end] = cost[first] + bad;
        from[end] = first;
      }
    }
  }
  const lefts = new Float64Array(count);
  const widths = new Float64Array(count);
  /** @type {Row[]} */
  const rows = [];
  for (let end = count; end > 0; end = from[end]) rows.unshift({ first: from[end], end, y: 0, height: 0 });
  let y = 0;
  for (const row of rows) {
    const sum = shapes.subarray(row.first, row.end).reduce((all, each) => all + each, 0);
    const full = height(row.first, row.end, sum);
    row.y = y;
    row.height = row.end === count && count < BLOCK && full > target * TALLEST ? target : full;
    let x = 0;
    for (let place = row.first; place < row.end; place += 1) {
      lefts[place] = x;
      widths[place] = shapes[place] * row.height;
      x += widths[place] + gap;
    }
    y += row.height + gap;
  }
  return { rows, lefts, widths, height: y };
}

/** The known shapes of a query's assets, and the blocks laid out with them for one width. */
export class Shapes {
  /** @type {Map<string, Float32Array>} by day and block */
  #known = new Map();
  /** @type {Map<string, Block>} by day, block and count of assets; by the count alone where no shapes are known yet */
  #laid = new Map();
  #laidFor = "";

  /**
   * Store the shapes of one block's assets. Returns whether they changed.
   *
   * @param {string} day
   * @param {number} block
   * @param {{width: number|null, height: number|null}[]} assets
   */
  learn(day, block, assets) {
    const key = `${day}/${block}`;
    const found = Float32Array.from(assets, ({ width, height }) => (width && height ? Math.min(3.5, Math.max(0.4, width / height)) : 1));
    const before = this.#known.get(key);
    if (before?.length === found.length && found.every((shape, place) => shape === before[place])) return false;
    this.#known.set(key, found);
    for (const laid of this.#laid.keys()) if (laid.startsWith(`${key}/`)) this.#laid.delete(laid);
    return true;
  }

  /**
   * Return a block's layout; assets that are not known yet count as square.
   *
   * @param {string} day
   * @param {number} block
   * @param {number} count  how many assets it has
   * @param {number} width  pixels
   * @param {number} target  the target height of a row in pixels
   * @param {number} gap
   */
  lay(day, block, count, width, target, gap) {
    const laidFor = `${width}/${target}`;
    if (laidFor !== this.#laidFor) this.#laid.clear();
    this.#laidFor = laidFor;
    const shapes = this.#known.get(`${day}/${block}`);
    const key = shapes ? `${day}/${block}/${count}` : `${count}`;
    const laid = this.#laid.get(key) ?? layBlock(count, (place) => shapes?.[place] ?? 1, width, target, gap);
    this.#laid.set(key, laid);
    return laid;
  }
}

/** A day's blocks, one below the other. @implements {DayLayout} */
export class JustifiedDay {
  #count;
  /** @type {Block[]} */
  #blocks = [];
  /** @type {number[]} where each block begins, in pixels */
  #tops = [];

  /**
   * @param {string} day  such as 2026-11-25
   * @param {number} count  of its assets
   * @param {number} width  pixels
   * @param {number} target  the target height of a row in pixels
   * @param {number} gap
   * @param {Shapes} shapes
   */
  constructor(day, count, width, target, gap, shapes) {
    this.#count = count;
    let top = 0;
    for (let first = 0; first < count; first += BLOCK) {
      const block = shapes.lay(day, first / BLOCK, Math.min(BLOCK, count - first), width, target, gap);
      this.#blocks.push(block);
      this.#tops.push(top);
      top += block.height;
    }
    this.height = top;
  }

  /** @param {number} place @returns {TileBox} */
  position(place) {
    const number = Math.floor(place / BLOCK);
    const block = this.#blocks[number];
    const inside = place % BLOCK;
    const row = block.rows[rowOf(block, inside)];
    return { x: block.lefts[inside], y: this.#tops[number] + row.y, width: block.widths[inside], height: row.height };
  }

  /**
   * @param {number} from
   * @param {number} to
   * @returns {[first: number, end: number]}
   */
  between(from, to) {
    return [this.#at(from, false), this.#at(to, true)];
  }

  /**
   * Return the first place of the row that lies `y` pixels below the day's heading.
   *
   * @param {number} y
   * @param {boolean} next  instead the first place of the row after it
   */
  #at(y, next) {
    if (y <= 0) return 0;
    if (y >= this.height) return this.#count;
    let number = this.#tops.length - 1;
    while (this.#tops[number] > y) number -= 1;
    const block = this.#blocks[number];
    let at = block.rows.length - 1;
    while (at > 0 && this.#tops[number] + block.rows[at].y > y) at -= 1;
    const row = block.rows[at];
    return number * BLOCK + (next ? row.end : row.first);
  }

  /**
   * @param {number} place
   * @param {1|-1} step
   */
  neighbour(place, step) {
    let number = Math.floor(place / BLOCK);
    let row = rowOf(this.#blocks[number], place % BLOCK) + step;
    if (!this.#blocks[number].rows[row]) {
      number += step;
      if (!this.#blocks[number]) return undefined;
      row = step > 0 ? 0 : this.#blocks[number].rows.length - 1;
    }
    const { x, width } = this.position(place);
    return this.#nearest(number, row, x + width / 2);
  }

  /**
   * @param {number} x
   * @param {boolean} last
   */
  edge(x, last) {
    const number = last ? this.#blocks.length - 1 : 0;
    return this.#nearest(number, last ? this.#blocks[number].rows.length - 1 : 0, x);
  }

  /**
   * @param {number} number  of the block
   * @param {number} row  its number within the block
   * @param {number} x  pixels from the left
   */
  #nearest(number, row, x) {
    const block = this.#blocks[number];
    const { first, end } = block.rows[row];
    let place = first;
    while (place < end - 1 && block.lefts[place + 1] <= x) place += 1;
    return number * BLOCK + place;
  }
}

/**
 * @param {Block} block
 * @param {number} place
 */
function rowOf(block, place) {
  let low = 0;
  let high = block.rows.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (block.rows[middle].first <= place) low = middle;
    else high = middle - 1;
  }
  return low;
}
