// @ts-check
/** View preferences of this browser. Where it keeps nothing, they last as long as the page. */

const NAME = "cloud-archive.gallery";

/** @typedef {{tile: number, justified: boolean, blurHidden: boolean, blurTags: string}} Preferences */

/** @type {Preferences} */
const DEFAULTS = { tile: 160, justified: false, blurHidden: true, blurTags: "nsfw" };

/** Return the stored preferences, and defaults for the rest. @returns {Preferences} */
export function readPreferences() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(NAME) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

/** Store the preferences. @param {Preferences} preferences */
export function keepPreferences(preferences) {
  try {
    localStorage.setItem(NAME, JSON.stringify(preferences));
  } catch {
    // Private windows may keep nothing.
  }
}
