// @ts-check
/** Where each tile and each day's heading stands. Pure: it knows numbers, no elements. Harmless when loaded alone. */

/** @typedef {import("../types.d.ts").DayCount} DayCount */

export const GAP = 4;
const HEADING = 34;
const AFTER_DAY = 12;

/**
 * The layout of one search: days one below the other, each a heading and rows of square tiles.
 *
 * Indexes count all assets, the newest is 0.
 */
export class Timeline {
  #days;
  /** @type {number[]} */
  #tops = [];
  /** @type {number[]} */
  #firsts = [];

  /**
   * @param {DayCount[]} days  newest first
   * @param {number} width  pixels
   * @param {number} wish  the least edge of a tile in pixels; tiles grow to fill the width
   */
  constructor(days, width, wish) {
    this.#days = days.filter((day) => day.count > 0);
    this.columns = Math.max(1, Math.floor((width + GAP) / (wish + GAP)));
    this.tile = Math.max(24, (width - GAP * (this.columns - 1)) / this.columns);
    let top = 0;
    let first = 0;
    for (const day of this.#days) {
      this.#tops.push(top);
      this.#firsts.push(first);
      top += HEADING + Math.ceil(day.count / this.columns) * (this.tile + GAP) + AFTER_DAY;
      first += day.count;
    }
    this.height = top;
    this.count = first;
  }

  get days() {
    return this.#days;
  }

  /**
   * Return the number of the last day that begins at or above `value` in `list`.
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
   * Return the day of an asset, and its place within that day.
   *
   * @param {number} index
   */
  locate(index) {
    const day = this.#last(this.#firsts, index);
    return { day: this.#days[day], number: day, place: index - this.#firsts[day] };
  }

  /**
   * Return where a tile stands.
   *
   * @param {number} index
   */
  position(index) {
    const { number, place } = this.locate(index);
    const row = Math.floor(place / this.columns);
    return {
      x: (place % this.columns) * (this.tile + GAP),
      y: this.#tops[number] + HEADING + row * (this.tile + GAP),
    };
  }

  /**
   * Return the day that lies at this height.
   *
   * @param {number} y
   */
  dayAt(y) {
    return this.#days.length ? this.#days[this.#last(this.#tops, Math.max(0, y))] : null;
  }

  /**
   * Return where a day begins.
   *
   * @param {number} number  of the day, the newest is 0
   */
  top(number) {
    return this.#tops[number] ?? 0;
  }

  /**
   * Return the tiles and headings between two heights: `[first, end)` ranges of indexes.
   *
   * @param {number} from
   * @param {number} to
   */
  between(from, to) {
    /** @type {{day: DayCount, number: number, y: number}[]} */
    const headings = [];
    let first = -1;
    let end = -1;
    if (!this.#days.length) return { first: 0, end: 0, headings };
    for (let number = this.#last(this.#tops, Math.max(0, from)); number < this.#days.length; number += 1) {
      const top = this.#tops[number];
      if (top >= to) break;
      const day = this.#days[number];
      headings.push({ day, number, y: top });
      const step = this.tile + GAP;
      const rows = Math.ceil(day.count / this.columns);
      const firstRow = Math.min(rows, Math.max(0, Math.floor((from - top - HEADING) / step)));
      const endRow = Math.min(rows, Math.max(0, Math.ceil((to - top - HEADING) / step)));
      if (first < 0) first = this.#firsts[number] + Math.min(day.count, firstRow * this.columns);
      end = this.#firsts[number] + Math.min(day.count, endRow * this.columns);
    }
    return { first: Math.max(0, first), end: Math.max(first, end, 0), headings };
  }

  /**
   * Return the index that lies some rows away, in the same column where there is one.
   *
   * @param {number} index
   * @param {number} rows  negative: up
   */
  moveRows(index, rows) {
    let at = index;
    for (let left = Math.abs(rows); left > 0; left -= 1) {
      const { day, number, place } = this.locate(at);
      const column = place % this.columns;
      const next = place + Math.sign(rows) * this.columns;
      if (next >= 0 && Math.floor(next / this.columns) <= Math.floor((day.count - 1) / this.columns)) {
        at = this.#firsts[number] + Math.min(day.count - 1, next);
      } else {
        const other = number + Math.sign(rows);
        if (other < 0 || other >= this.#days.length) break;
        const count = this.#days[other].count;
        const row = rows > 0 ? 0 : Math.floor((count - 1) / this.columns);
        at = this.#firsts[other] + Math.min(count - 1, row * this.columns + column);
      }
    }
    return at;
  }
}
