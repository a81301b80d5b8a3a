// @ts-check
/** Loads the pictures of the visible tiles, a few at a time. */

import { dropPicture, loadPicture } from "./tile.js";

/** @typedef {import("../status_client.js").StatusClient} StatusClient */
/** @typedef {import("./tile.js").Tile} Tile */

const AT_ONCE = 4; // a browser has six connections to a server, and others need one too

export class Pictures {
  #client;
  #tiles;
  #isPaused = false;
  #reloads = 0;

  /**
   * @param {StatusClient} client
   * @param {() => Iterable<Tile>} tiles  returns the visible ones
   */
  constructor(client, tiles) {
    this.#client = client;
    this.#tiles = tiles;
  }

  /** Load those that are missing, from the first tile on. */
  load() {
    const tiles = [...this.#tiles()].filter((tile) => tile.asset);
    let free = this.#isPaused ? 0 : AT_ONCE - tiles.filter((tile) => tile.end && !tile.settled).length;
    for (const tile of tiles.sort((one, other) => one.index - other.index)) {
      if (free <= 0) return;
      if (tile.end) continue;
      free -= 1;
      loadPicture(tile, this.#client, this.#reloads, () => this.load());
    }
  }

  /** Stop loading, so that the viewer gets the connections; false: go on. @param {boolean} paused */
  pause(paused) {
    this.#isPaused = paused;
    for (const tile of this.#tiles()) {
      if (paused && tile.end && !tile.settled) dropPicture(tile);
    }
    this.load();
  }

  /** Load all again. */
  reload() {
    this.#reloads += 1;
    for (const tile of this.#tiles()) dropPicture(tile);
    this.load();
  }
}
