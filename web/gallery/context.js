// @ts-check
/** What every part of the gallery gets: texts, names of days, copying, and saving edits. */

import { formatMoment, formatNumber, parseTime } from "../format.js";
import { copyText } from "../panel/dom.js";
import { reasonOf } from "../status_client.js";

/** @typedef {import("../status_client.js").StatusClient} StatusClient */
/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").CanvasActions} CanvasActions */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */
/** @typedef {import("../types.d.ts").Translator} Translator */
/** @typedef {import("./preferences.js").Preferences} Preferences */

const EDITS_AT_ONCE = 4;

/**
 * @param {StatusClient} client
 * @param {Translator} t
 * @param {CanvasActions|null} canvas
 * @param {Preferences} preferences
 * @param {object} on
 * @param {(text: string, tone: "good"|"bad") => void} on.say
 * @param {(saved: Asset[]) => void} on.edited  called with the saved assets, after each `edit`
 * @param {(assets: Asset[]) => void} on.share
 * @returns {GalleryContext}
 */
export function galleryContext(client, t, canvas, preferences, { say, edited, share }) {
  const day = new Intl.DateTimeFormat(t.locale, { weekday: "short", day: "numeric", month: "long", year: "numeric" });
  const short = new Intl.DateTimeFormat(t.locale, { weekday: "short", day: "numeric", month: "short" });
  const month = new Intl.DateTimeFormat(t.locale, { month: "short", year: "numeric" });
  const near = new Intl.RelativeTimeFormat(t.locale, { numeric: "auto" });
  /** By the id of each asset with edits under way: the asset as they will leave it. @type {Map<string, Promise<Asset>>} */
  const newest = new Map();
  /**
   * Save changes after the asset's earlier ones, on which they may build.
   *
   * Tags are sent as a whole list, so changes of tags are made to the list as it is now: another machine may have
   * changed it.
   *
   * @param {Asset} asset
   * @param {(asset: Asset) => Partial<Asset>} changesOf
   * @returns {Promise<Asset>}
   */
  const save = (asset, changesOf) => {
    const path = `/cloud-sync/assets/${asset.id}`;
    const before = newest.get(asset.id) ?? Promise.resolve(asset);
    const saving = before.then(async (current) => {
      let changes = changesOf(current);
      if (changes.tags) changes = changesOf(await client.get(path));
      return client.post(path, changes, "PATCH");
    });
    const after = saving.catch(() => before);
    newest.set(asset.id, after);
    after.then(() => newest.get(asset.id) === after && newest.delete(asset.id));
    return saving;
  };
  return {
    t,
    client,
    canvas,
    say,
    share,
    dayName: (name, brief = false) => {
      const date = dateOf(name);
      const ago = Math.round((date.getTime() - new Date().setHours(0, 0, 0, 0)) / 86_400_000);
      const text = ago === 0 || ago === -1 ? near.format(ago, "day") : (brief && ago > -300 ? short : day).format(date);
      return text.charAt(0).toLocaleUpperCase(t.locale) + text.slice(1);
    },
    monthName: (name) => month.format(dateOf(name)),
    moment: (text) => {
      const time = parseTime(text);
      return time ? formatMoment(time, t.locale) : text;
    },
    number: (value) => formatNumber(value, t.locale),
    isBlurred: ({ hidden, tags }) => {
      const blurred = preferences.blurTags.toLowerCase().split(",").map((tag) => tag.trim());
      return (preferences.blurHidden && hidden) || tags.some((tag) => blurred.includes(tag.toLowerCase()));
    },
    copy: async (text) => {
      try {
        await copyText(text);
        say(t("action.copied"), "good");
      } catch {
        say(t("error.copy"), "bad");
      }
    },
    edit: async (assets, changesOf) => {
      /** @type {Asset[]} */
      const saved = [];
      const waiting = [...assets];
      const changes = typeof changesOf === "function" ? changesOf : () => changesOf;
      const work = async () => {
        for (let asset = waiting.shift(); asset; asset = waiting.shift()) {
          saved.push(await save(asset, changes));
        }
      };
      // Edits that are under way when one fails still end, and must be shown.
      const ends = await Promise.allSettled(Array.from({ length: EDITS_AT_ONCE }, work));
      edited(saved);
      const before = new Set(assets.filter(({ hidden }) => hidden).map(({ id }) => id));
      const hid = saved.filter(({ id, hidden }) => hidden && !before.has(id));
      if (hid.length) say(t("edit.hidden", { n: hid.length }), "good");
      const failed = ends.find((end) => end.status === "rejected");
      if (!failed) return saved;
      const reason = reasonOf(failed.reason, t);
      say(assets.length > 1 ? t("edit.failed", { n: assets.length - saved.length, total: assets.length, reason }) : reason, "bad");
      return null;
    },
  };
}

/** @param {string} day  such as 2026-11-25 */
function dateOf(day) {
  const [year, month, date] = day.split("-").map(Number);
  return new Date(year, month - 1, date);
}
