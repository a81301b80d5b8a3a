// @ts-check
/**
 * The assets of one search, fetched when they become visible. Each day has its own pages, so that a jump to last year
 * costs one request. Only the pages that were used last are kept.
 */

import { BLOCK } from "./justified.js";

/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").AssetPage} AssetPage */
/** @typedef {import("../types.d.ts").NamedCount} NamedCount */

const PAGE = BLOCK; // so that one page is laid out at a time
const KEPT_PAGES = 40;
const AT_ONCE = 4;

/**
 * @typedef {object} Day
 * @property {(string|null)[]} cursors  where each page begins: "" for the first, null after the last, undefined where
 *   it isn't known yet
 */

export class Pages {
  #fetch;
  #changed;
  #failed;
  /** @type {Map<string, Day>} */
  #days = new Map();
  /** @type {Map<string, number>} how many assets each day has, by its latest answer */
  #totals = new Map();
  /** @type {Map<string, Asset[]>} the page used last comes last */
  #pages = new Map();
  /** @type {Set<string>} */
  #stale = new Set();
  /** @type {Map<string, Promise<void>>} */
  #loading = new Map();
  /** @type {[day: string, page: number][]} */
  #wanted = [];
  /** @type {Set<Map<string, Asset>>} for each request under way, the assets that were edited since it began, by id */
  #editedSince = new Set();
  #ended = new AbortController();

  /**
   * @param {(day: string, after: string, limit: number, signal: AbortSignal) => Promise<AssetPage>} fetch
   * @param {(day: string, page: number, assets: Asset[]) => void} changed  called after a page arrived
   * @param {(error: unknown) => void} failed  called after a request failed
   */
  constructor(fetch, changed, failed) {
    this.#fetch = fetch;
    this.#changed = changed;
    this.#failed = failed;
  }

  close() {
    this.#ended.abort();
    this.#wanted = [];
  }

  /** Mark every page as stale: other machines edit assets, too. A stale page is shown until it is fetched again. */
  expire() {
    for (const key of this.#pages.keys()) this.#stale.add(key);
  }

  /** Forget where a day's pages begin, because assets came or went. @param {string} day */
  forgetCursors(day) {
    this.#days.delete(day);
  }

  /**
   * Return whether assets of a day came or went since `day.count` was counted: then its places hold other assets.
   *
   * @param {NamedCount} day
   */
  isOutdated(day) {
    return (this.#totals.get(day.name) ?? day.count) !== day.count;
  }

  /**
   * Return an asset; undefined if its page is not loaded.
   *
   * @param {string} day
   * @param {number} place
   */
  get(day, place) {
    const key = `${day}/${Math.floor(place / PAGE)}`;
    const page = this.#pages.get(key);
    if (!page) return undefined;
    this.#pages.delete(key);
    this.#pages.set(key, page);
    return page[place % PAGE];
  }

  /**
   * Replace an asset that was edited. Requests under way may still answer with the old one.
   *
   * @param {Asset} asset
   */
  put(asset) {
    for (const page of this.#pages.values()) {
      const place = page.findIndex((each) => each.id === asset.id);
      if (place >= 0) page[place] = asset;
    }
    for (const edited of this.#editedSince) edited.set(asset.id, asset);
  }

  /**
   * Load the pages of the visible places. Pages that were wanted before, and are not requested yet, are dropped.
   *
   * @param {{day: {name: string}, place: number}[]} places
   */
  want(places) {
    const keys = new Set(places.map(({ day, place }) => `${day.name}/${Math.floor(place / PAGE)}`));
    this.#wanted = [...keys]
      .filter((key) => !this.#pages.has(key) || this.#stale.has(key))
      .map((key) => /** @type {[string, number]} */ ([key.slice(0, key.lastIndexOf("/")), Number(key.slice(key.lastIndexOf("/") + 1))]));
    this.#pump();
  }

  /**
   * Return an asset, after fetching its page if that is missing or stale; undefined: none. If that fails, a stale page
   * still serves.
   *
   * @param {string} day
   * @param {number} place
   */
  async load(day, place) {
    await this.#load(day, Math.floor(place / PAGE)).catch(() => {}); // `failed` has been called
    return this.get(day, place);
  }

  #pump() {
    for (const [day, page] of this.#wanted) {
      if (this.#loading.size >= AT_ONCE) return;
      if (this.#loading.has(`${day}/${page}`)) continue;
      this.#load(day, page).then(
        () => {
          // Also without the page: the day may have fewer pages now.
          this.#wanted = this.#wanted.filter(([otherDay, other]) => otherDay !== day || other !== page);
          this.#pump();
        },
        () => {},
      );
    }
  }

  /**
   * @param {string} day
   * @param {number} page
   * @returns {Promise<void>}
   */
  #load(day, page) {
    const key = `${day}/${page}`;
    if (this.#pages.has(key) && !this.#stale.has(key)) return Promise.resolve();
    const running = this.#loading.get(key);
    if (running) return running;
    const started = this.#loadUpTo(day, page).finally(() => this.#loading.delete(key));
    this.#loading.set(key, started);
    return started;
  }

  /**
   * @param {string} day
   * @param {number} page
   */
  async #loadUpTo(day, page) {
    try {
      for (let at = page; at <= page; ) {
        const known = this.#days.get(day) ?? { cursors: [""] };
        this.#days.set(day, known);
        while (known.cursors[at] === undefined) at -= 1;
        if (known.cursors[at] === null) return; // the day has fewer pages
        if (await this.#request(day, at, known)) at += 1;
      }
    } catch (error) {
      if (this.#ended.signal.aborted) return;
      this.#wanted = [];
      this.#failed(error);
      throw error;
    }
  }

  /**
   * Fetch a page. Returns false if the day's cursors were forgotten meanwhile: the page may begin elsewhere now.
   *
   * @param {string} day
   * @param {number} page
   * @param {Day} known
   */
  async #request(day, page, known) {
    /** @type {Map<string, Asset>} */
    const edited = new Map();
    this.#editedSince.add(edited);
    const asking = this.#fetch(day, known.cursors[page] ?? "", PAGE, this.#ended.signal);
    const answer = await asking.finally(() => this.#editedSince.delete(edited));
    if (this.#days.get(day) !== known) return false;
    const assets = answer.assets.map((asset) => edited.get(asset.id) ?? asset);
    const endsElsewhere = known.cursors.length > page + 1 && known.cursors[page + 1] !== answer.next_cursor;
    const { cursors } = endsElsewhere ? this.#forgetLater(day, page, known) : known;
    cursors[page + 1] = answer.next_cursor;
    this.#totals.set(day, answer.total);
    const key = `${day}/${page}`;
    this.#pages.delete(key);
    this.#stale.delete(key);
    this.#pages.set(key, assets);
    forgetOldest(this.#pages);
    this.#changed(day, page, assets);
    return true;
  }

  /**
   * Forget where a day's later pages begin, because this one ends elsewhere now. Pages under way are requested again.
   *
   * @param {string} day
   * @param {number} page
   * @param {Day} known
   */
  #forgetLater(day, page, known) {
    const kept = { cursors: known.cursors.slice(0, page + 1) };
    this.#days.set(day, kept);
    for (let later = page + 1; later < known.cursors.length; later += 1) this.#stale.add(`${day}/${later}`);
    return kept;
  }
}

/** @param {Map<string, Asset[]>} pages  those that were not used for longest come first */
function forgetOldest(pages) {
  for (const key of pages.keys()) {
    if (pages.size <= KEPT_PAGES) return;
    pages.delete(key);
  }
}
