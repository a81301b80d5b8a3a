// @ts-check
/** The texts of panel and library in three languages. Causes, cures and messages come from the server, in English. */

import { en } from "./strings/en.js";
import { ja } from "./strings/ja.js";
import { zh } from "./strings/zh.js";

/** @typedef {import("./types.d.ts").Translator} Translator */
/** @typedef {Record<string, string|Partial<Record<Intl.LDMLPluralRule, string>>>} Table */

/** @type {Record<string, Table>} */
const TABLES = { en, ja, zh };

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
  return Object.assign(t, { locale: tag.toLowerCase().startsWith(language) ? tag : language });
}
