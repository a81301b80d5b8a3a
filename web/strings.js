// @ts-check
/** The texts of panel and library in three languages, and translations of the English sentences of the server. */

import { en } from "./strings/en.js";
import { ja } from "./strings/ja.js";
import { serverJa } from "./strings/server.ja.js";
import { serverZh } from "./strings/server.zh.js";
import { zh } from "./strings/zh.js";

/** @typedef {import("./types.d.ts").Translator} Translator */
/** @typedef {Record<string, string|Partial<Record<Intl.LDMLPluralRule, string>>>} Table */

/** @type {Record<string, Table>} */
const TABLES = { en, ja, zh };
/** @type {Record<string, Record<string, string>>} */
const SERVER_TABLES = { ja: serverJa, zh: serverZh };
/** @type {Record<string, {pattern: RegExp, translation: string}[]>} */
const serverRules = {};

/**
 * Return a locale's language if there are texts in it, else "en": "ja-JP" -> "ja".
 *
 * @param {string} locale
 */
function supportedLanguage(locale) {
  const language = locale.toLowerCase().split(/[-_]/)[0];
  return language in TABLES ? language : "en";
}

/**
 * Return the pattern of a server table's key: a sentence within a text or, without a full stop, a whole text.
 *
 * `{n}` stands for a number with its noun, such as "2 files", any other name in braces for anything.
 *
 * @param {string} english
 */
function serverPattern(english) {
  const body = english
    .replace(/[.*+?^$()|[\]\\]/g, "\\$&")
    .replace("{n}", "(?<n>\\d[\\d,]*) [a-z ]+?")
    .replace(/\{(\w+)\}/g, "(?<$1>.+?)");
  if (!english.endsWith(".")) return new RegExp(`^${body}$`);
  const start = english.startsWith("{") ? "(?<=^|\\. |。)" : "";
  return new RegExp(`${start}${body}(?: |$)`, "g");
}

/**
 * Translate the known sentences in a text of the server. The rest stays as it is: names, codes, a store's own words.
 *
 * @param {string} text
 * @param {string} language
 */
function serverText(text, language) {
  serverRules[language] ??= Object.entries(SERVER_TABLES[language] ?? {}).map(([english, translation]) => (
    { pattern: serverPattern(english), translation }));
  return serverRules[language].reduce((result, { pattern, translation }) => (
    result.replace(pattern, (...found) => translation.replace(/\{(\w+)\}/g, (_, name) => found.at(-1)[name]))), text);
}

/**
 * Return the translator of one language: `t("key", {n: 3})`. A key that a language lacks falls back to English.
 *
 * @param {string} locale
 * @returns {Translator}
 */
export function translator(locale) {
  const language = supportedLanguage(locale);
  const plural = new Intl.PluralRules(language);
  const numbers = new Intl.NumberFormat(language);
  /**
   * @param {string} key
   * @param {Record<string, unknown>} values
   */
  const t = (key, values = {}) => {
    const found = TABLES[language][key] ?? TABLES.en[key] ?? key;
    const text = typeof found === "string" ? found : (found[plural.select(Number(values.n))] ?? found.other ?? key);
    return text.replace(/\{(\w+)\}/g, (whole, name) => {
      const value = values[name];
      if (value === undefined) return whole;
      return typeof value === "number" ? numbers.format(value) : String(value);
    });
  };
  // "zh-TW" keeps its own dates. Chromium without a locale names its language "en-US@posix".
  const [tag] = locale.replaceAll("_", "-").split(/[.@]/);
  const server = (/** @type {string} */ text) => serverText(text, language);
  return Object.assign(t, { server, locale: tag.toLowerCase().startsWith(language) ? tag : language });
}
