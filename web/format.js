// @ts-check
/** Format numbers, times and names for people. */

/** @typedef {import("./types.d.ts").Slot} Slot */
/** @typedef {import("./types.d.ts").Translator} Translator */

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/**
 * Format a size in decimal units: 41_234_567 -> "41 MB".
 *
 * @param {number} bytes
 */
export function formatBytes(bytes, locale = "en") {
  let value = Math.max(0, Number(bytes) || 0);
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit > 0 && value < 9.95 ? 1 : 0;
  return `${formatNumber(value, locale, digits)} ${UNITS[unit]}`;
}

/**
 * Format a number: 12345 -> "12,345".
 *
 * @param {number} value
 */
export function formatNumber(value, locale = "en", digits = 0) {
  return new Intl.NumberFormat(locale, { maximumFractionDigits: digits }).format(Number(value) || 0);
}

/**
 * Format a duration: "20 s", "3 min", "2 h 10 min", "4 d".
 *
 * @param {number} seconds
 * @param {Translator} t
 */
export function formatDuration(seconds, t) {
  const total = Math.max(0, Math.round(Number(seconds) || 0));
  if (total < 60) return t("unit.seconds", { n: Math.max(1, total) });
  const minutes = Math.round(total / 60);
  if (minutes < 60) return t("unit.minutes", { n: minutes });
  const hours = Math.floor(minutes / 60);
  if (hours < 24) {
    const rest = minutes % 60;
    const text = t("unit.hours", { n: hours });
    return rest && hours < 6 ? `${text} ${t("unit.minutes", { n: rest })}` : text;
  }
  return t("unit.days", { n: Math.round(hours / 24) });
}

/**
 * Parse an ISO time; null if it is none. Date and time without a zone count as local.
 *
 * @param {string|null|undefined} text
 */
export function parseTime(text) {
  if (!text) return null;
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? null : time;
}

/**
 * Format how long ago: "2 min. ago"; "now" below ten seconds, and if a wrong clock puts it into the future; a date from
 * 30 days on.
 *
 * @param {Date} time
 * @param {string} locale
 */
export function formatAgo(time, locale, now = Date.now()) {
  const seconds = Math.min(0, (time.getTime() - now) / 1000);
  const format = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "short" });
  const age = -seconds;
  if (age < 10) return format.format(0, "second");
  // Whole units that have passed: rounding up would give "60 seconds ago".
  if (age < 60) return format.format(Math.trunc(seconds / 10) * 10, "second");
  if (age < 3600) return format.format(Math.trunc(seconds / 60), "minute");
  if (age < 86400) return format.format(Math.trunc(seconds / 3600), "hour");
  if (age < 30 * 86400) return format.format(Math.trunc(seconds / 86400), "day");
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium" }).format(time);
}

/**
 * Format date and time, to the second.
 *
 * @param {Date} time
 * @param {string} locale
 */
export function formatMoment(time, locale) {
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" }).format(time);
}

/**
 * Split a path into folder and name: "a/b/c.png" -> ["a/b", "c.png"].
 *
 * @param {string} path
 * @returns {[folder: string, name: string]}
 */
export function splitPath(path) {
  const cut = path.lastIndexOf("/");
  return cut < 0 ? ["", path] : [path.slice(0, cut), path.slice(cut + 1)];
}

/** @type {Record<string, string[]>} */
const KINDS = {
  image: ["png", "jpg", "jpeg", "webp", "gif", "avif", "bmp"],
  video: ["mp4", "webm", "mkv", "mov", "avi", "m4v"],
  audio: ["wav", "mp3", "flac", "ogg", "opus", "m4a", "aac"],
};

/**
 * Return a file's kind by its extension: a key of `KINDS`, or "other".
 *
 * @param {string} path
 */
export function kindOf(path) {
  const ending = path.slice(path.lastIndexOf(".") + 1).toLowerCase();
  return Object.keys(KINDS).find((kind) => KINDS[kind].includes(ending)) ?? "other";
}

/**
 * Return one slot for each hour or day up to now, empty ones included.
 *
 * @param {{start: string, files: number, bytes: number}[]} rows  of the report
 * @param {"hour"|"day"} step
 * @param {number} count  of slots
 * @returns {Slot[]}
 */
export function fillSlots(rows, step, count, now = new Date()) {
  /** @param {Date} time */
  const floor = (time) => {
    const start = new Date(time);
    start.setMinutes(0, 0, 0);
    if (step === "day") start.setHours(0);
    return start;
  };
  const found = new Map();
  for (const row of rows) {
    const time = parseTime(row.start);
    if (!time) continue;
    const key = floor(time).getTime();
    const slot = found.get(key) ?? { files: 0, bytes: 0 };
    found.set(key, { files: slot.files + (row.files || 0), bytes: slot.bytes + (row.bytes || 0) });
  }
  const slots = [];
  for (let back = count - 1; back >= 0; back -= 1) {
    const start = floor(now);
    if (step === "day") start.setDate(start.getDate() - back);
    else start.setTime(start.getTime() - back * 3_600_000);
    slots.push({ start, ...(found.get(start.getTime()) ?? { files: 0, bytes: 0 }) });
  }
  return slots;
}
