// @ts-check
/** Read and change the text of a query. Its terms are words, "phrases" and field:value. Pure. */

const TERM = /-?(?:[A-Za-z_][A-Za-z0-9_-]*:)?(?:"(?:[^"]|"")*"?|[^\s"]+)|\S/g;

/** The fields of the query language, in the order in which the search field suggests them. */
export const FIELDS = ["model", "lora", "type", "tag", "is", "rating", "since", "until", "machine", "seed", "sampler", "width", "height", "path", "job"];

/**
 * Return the term `field:value`; the value is quoted if it needs that.
 *
 * @param {string} field
 * @param {string|number} value
 */
export function term(field, value) {
  const text = String(value).replaceAll('"', '""');
  // Without quotes, `path://x` is a word, as an address is.
  return /^(?!\/\/)[^\s"]+$/.test(text) ? `${field}:${text}` : `${field}:"${text}"`;
}

/**
 * @param {string} query
 * @returns {string[]}
 */
function splitTerms(query) {
  const terms = query.match(TERM) ?? [];
  // Close the last phrase if the user has not yet, so that a term added after it does not become part of it.
  return terms.map((each) => ((each.split('"').length - 1) % 2 ? `${each}"` : each));
}

/**
 * Return whether a query has this term, ignoring case.
 *
 * @param {string} query
 * @param {string} wanted
 */
export function hasTerm(query, wanted) {
  return splitTerms(query).some((each) => each.toLowerCase() === wanted.toLowerCase());
}

/**
 * Return the query without this term if it has it, else with the term added.
 *
 * @param {string} query
 * @param {string} toggled
 */
export function toggleTerm(query, toggled) {
  const terms = splitTerms(query);
  const rest = terms.filter((each) => each.toLowerCase() !== toggled.toLowerCase());
  return (rest.length < terms.length ? rest : [...terms, toggled]).join(" ");
}

/**
 * Return whether a query is narrowed to this day.
 *
 * @param {string} query
 * @param {string} day  such as 2026-11-25
 */
export function hasDay(query, day) {
  return hasTerm(query, `since:${day}`) && hasTerm(query, `until:${day}`);
}

/**
 * Return the query narrowed to a day, or for all days if it was narrowed to that one.
 *
 * @param {string} query
 * @param {string} day
 */
export function toggleDay(query, day) {
  const rest = splitTerms(query).filter((each) => !/^(since|until):/i.test(each));
  return (hasDay(query, day) ? rest : [...rest, `since:${day}`, `until:${day}`]).join(" ");
}

/**
 * Return the term that the cursor is in or right after, with its begin and end. Its text is empty if there is none.
 *
 * @param {string} query
 * @param {number} cursor
 */
export function termAt(query, cursor) {
  for (const match of query.matchAll(TERM)) {
    const end = match.index + match[0].length;
    if (match.index < cursor && cursor <= end) return { text: match[0], start: match.index, end };
  }
  return { text: "", start: cursor, end: cursor };
}
