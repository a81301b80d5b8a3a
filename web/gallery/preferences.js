// @ts-check
/** View preferences, kept in this browser; in one that keeps nothing, as long as the library is open. */

const NAME = "cloud-archive.gallery";

/** @typedef {{tile: number, justified: boolean, blurHidden: boolean, blurTags: string}} Preferences */

/** @type {Preferences} */
const DEFAULTS = { tile: 160, justified: false, blurHidden: true, blurTags: "nsfw" };

/** @returns {Preferences} */
export function readPreferences() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(NAME) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

/** @param {Preferences} preferences */
export function keepPreferences(preferences) {
  try {
    localStorage.setItem(NAME, JSON.stringify(preferences));
  } catch {
    // Private windows may keep nothing.
  }
}
