// @ts-check
/** What the library can't show now, in one sentence. Pure. */

/** @typedef {import("../status_client.js").StatusClient} StatusClient */
/** @typedef {import("../types.d.ts").Facets} Facets */
/** @typedef {import("../types.d.ts").Translator} Translator */

/**
 * Return the sentence; empty: nothing is missing.
 *
 * @param {StatusClient} client
 * @param {Facets|null} facets
 * @param {Translator} t
 */
export function noteOf({ status, reachable }, facets, t) {
  if (!reachable) return t("gallery.unreachable");
  if (status?.state === "retrying") return t("gallery.retrying");
  if (facets?.trouble) return t("gallery.others", { why: facets.trouble });
  if (facets?.loading) {
    const { searched, total } = facets.loading;
    return total > searched ? t("gallery.loading", { n: searched, total }) : t("gallery.listing");
  }
  return facets?.unread ? t("gallery.partial", { n: facets.unread }) : "";
}
