/**
 * The panel's own words in English, Japanese and Chinese. Harmless when loaded alone.
 *
 * A string may be a pair {one, other} where English needs it. What the archive itself says (causes, cures,
 * messages) comes from the server, in English.
 */

import { en } from "./strings/en.js";
import { ja } from "./strings/ja.js";
import { zh } from "./strings/zh.js";

const TABLES = { en, ja, zh };

/** "ja-JP" -> "ja"; a language that we do not have -> "en". */
export function supportedLocale(locale) {
  const language = String(locale ?? "en").toLowerCase().split(/[-_]/)[0];
  return language in TABLES ? language : "en";
}

/**
 * The translator of one language: `t("key", {n: 3})`. A key that a language lacks falls back to English.
 *
 * @returns {((key: string, values?: Record<string, unknown>) => string) & {locale: string}}
 */
export function translator(locale) {
  const language = supportedLocale(locale);
  const plural = new Intl.PluralRules(language);
  const numbers = new Intl.NumberFormat(language);
  const t = (key, values = {}) => {
    let text = TABLES[language][key] ?? en[key] ?? key;
    if (typeof text === "object") text = text[plural.select(Number(values.n))] ?? text.other;
    return text.replace(/\{(\w+)\}/g, (whole, name) => {
      const value = values[name];
      if (value === undefined) return whole;
      return typeof value === "number" ? numbers.format(value) : String(value);
    });
  };
  // The tag is told whole where its language is ours, so that "zh-TW" keeps its own dates.
  t.locale = String(locale ?? "").toLowerCase().startsWith(language) ? locale.replace("_", "-") : language;
  return t;
}
