// @ts-check
/** The position of each tile and each day's heading: numbers, no elements. */

import { JustifiedDay } from "./justified.js";

/** @typedef {import("../types.d.ts").NamedCount} NamedCount */
/** @typedef {import("../types.d.ts").DayLayout} DayLayout */
/** @typedef {import("../types.d.ts").TileBox} TileBox */
/** @typedef {import("./justified.js").Shapes} Shapes */

const GAP = 4;
const HEADING = 34;
const AFTER_DAY = 12;

/** A day of square tiles. @implements {DayLayout} */
class SquareDay {
  #count;
  #columns;
  #tile;

  /**
   * @param {number} count
   * @param {number} columns
   * @param {number} tile  the edge of a tile in pixels
   */
  constructor(count, columns, tile) {
    this.#count = count;
    this.#columns = columns;
    this.#tile = tile;
    this.height = Math.ceil(count / columns) * (tile + GAP);
  }

  /** @param {number} place @returns {TileBox} */
  position(place) {
    const step = this.#tile + GAP;
    return { x: (place % this.#columns) * step, y: Math.floor(place / this.#columns) * step, width: this.#tile, height: this.#tile };
  }

  /**
   * @param {number} from
   * @param {number} to
   * @returns {[first: number, end: number]}
   */
  between(from, to) {
    const step = this.#tile + GAP;
    const place = (/** @type {number} */ row) => Math.min(this.#count, Math.max(0, row) * this.#columns);
    return [place(Math.floor(from / step)), place(Math.ceil(to / step))];
  }

  /**
   * @param {number} place
   * @param {1|-1} step
   */
  neighbour(place, step) {
    const next = place + step * this.#columns;
    const row = Math.floor(next / this.#columns);
    return next >= 0 && row <= Math.floor((this.#count - 1) / this.#columns) ? Math.min(this.#count - 1, next) : undefined;
  }

  /**
   * @param {number} x
   * @param {boolean} last
   */
  edge(x, last) {
    const column = Math.min(this.#columns - 1, Math.floor(x / (this.#tile + GAP)));
    const row = last ? Math.floor((this.#count - 1) / this.#columns) : 0;
    return Math.min(this.#count - 1, row * this.#columns + column);
  }
}

/** The layout of one search: for each day a heading and rows of tiles. Indexes count all assets, the newest is 0. */
export class Timeline {
  #days;
  /** @type {DayLayout[]} */
  #layouts = [];
  /** @type {number[]} */
  #tops = [];
  /** @type {number[]} */
  #firsts = [];

  /**
   * @param {NamedCount[]} days  newest first
   * @param {number} width  pixels
   * @param {number} target  the least edge of a square tile, or the target height of a row, in pixels
   * @param {Shapes|null} shapes  null: square tiles, which grow to fill the width
   */
  constructor(days, width, target, shapes) {
    this.#days = days.filter((day) => day.count > 0);
    const columns = Math.max(1, Math.floor((width + GAP) / (target + GAP)));
    const tile = Math.max(24, (width - GAP * (columns - 1)) / columns);
    this.row = (shapes ? target : tile) + GAP;
    let top = 0;
    let first = 0;
    for (const day of this.#days) {
      const layout = shapes ? new JustifiedDay(day.name, day.count, width, target, GAP, shapes) : new SquareDay(day.count, columns, tile);
      this.#layouts.push(layout);
      this.#tops.push(top);
      this.#firsts.push(first);
      top += HEADING + layout.height + AFTER_DAY;
      first += day.count;
    }
    this.height = top;
    this.count = first;
  }

  get days() {
    return this.#days;
  }

  /**
   * Return the number of the last day that begins at `value` in `list` or before it.
   *
   * @param {number[]} list
   * @param {number} value
   */
  #last(list, value) {
    let low = 0;
    let high = list.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (list[middle] <= value) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /**
   * Return the day of an asset, and its place within that day; in an empty timeline the day is undefined.
   *
   * @param {number} index
   */
  locate(index) {
    const day = this.#last(this.#firsts, index);
    return { day: this.#days[day], number: day, place: index - this.#firsts[day] };
  }

  /**
   * Return the index of an asset that an earlier timeline located. Where its day has more assets, newer ones have pushed
   * it down. Where the day has fewer or is gone, the index is that of an asset near it.
   *
   * @param {{day: NamedCount|undefined, place: number}} located  day: undefined if that timeline was empty
   */
  carry({ day, place }) {
    if (!day) return 0;
    const found = this.#days.findIndex((each) => each.name <= day.name);
    if (found < 0) return Math.max(0, this.count - 1);
    const now = this.#days[found];
    const moved = now.name === day.name ? place + Math.max(0, now.count - day.count) : 0;
    return this.#firsts[found] + Math.min(now.count - 1, moved);
  }

  /**
   * @param {number} index
   * @returns {TileBox}
   */
  position(index) {
    const { number, place } = this.locate(index);
    const inside = this.#layouts[number].position(place);
    return { ...inside, y: this.#tops[number] + HEADING + inside.y };
  }

  /**
   * Return the day that lies at this height.
   *
   * @param {number} y
   */
  dayAt(y) {
    return this.#days.length ? this.#days[this.#last(this.#tops, Math.max(0, y))] : null;
  }

  /** Return where a day begins. @param {number} number  the newest is 0 */
  top(number) {
    return this.#tops[number] ?? 0;
  }

  /**
   * Return the tiles, as a range of indexes `[first, end)`, and the headings between two heights.
   *
   * @param {number} from
   * @param {number} to
   */
  between(from, to) {
    /** @type {{day: NamedCount, y: number}[]} */
    const headings = [];
    let first = -1;
    let end = -1;
    if (!this.#days.length) return { first: 0, end: 0, headings };
    for (let number = this.#last(this.#tops, Math.max(0, from)); number < this.#days.length; number += 1) {
      const top = this.#tops[number];
      if (top >= to) break;
      headings.push({ day: this.#days[number], y: top });
      const [start, stop] = this.#layouts[number].between(from - top - HEADING, to - top - HEADING);
      if (first < 0) first = this.#firsts[number] + start;
      end = this.#firsts[number] + stop;
    }
    return { first: Math.max(0, first), end: Math.max(first, end, 0), headings };
  }

  /**
   * Return the index some rows away, in the same column if the row has one.
   *
   * @param {number} index
   * @param {number} rows  negative: up
   */
  moveRows(index, rows) {
    const step = rows < 0 ? -1 : 1;
    let at = index;
    for (let left = Math.abs(rows); left > 0; left -= 1) {
      const { number, place } = this.locate(at);
      const next = this.#layouts[number].neighbour(place, step);
      if (next !== undefined) {
        at = this.#firsts[number] + next;
        continue;
      }
      const other = number + step;
      if (!this.#layouts[other]) break;
      const { x, width } = this.#layouts[number].position(place);
      at = this.#firsts[other] + this.#layouts[other].edge(x + width / 2, step < 0);
    }
    return at;
  }
}
