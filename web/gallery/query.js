// @ts-check
/** Read and change a query as text: words, "phrases" and field:value. Pure. */

const TOKEN = /-?(?:[A-Za-z_]+:)?(?:"(?:[^"]|"")*"?|[^\s"]+)|\S/g;

/** The fields that the query language knows, in the order in which they are offered. */
export const FIELDS = ["model", "lora", "type", "tag", "is", "rating", "since", "until", "machine", "seed", "sampler", "width", "height", "path", "job"];

/**
 * Return `field:value`, quoted where the value needs it.
 *
 * @param {string} field
 * @param {string|number} value
 */
export function term(field, value) {
  const text = String(value).replaceAll('"', '""');
  return /^[^\s"]+$/.test(text) ? `${field}:${text}` : `${field}:"${text}"`;
}

/**
 * Return the parts of a query.
 *
 * @param {string} query
 * @returns {string[]}
 */
function tokens(query) {
  const parts = query.match(TOKEN) ?? [];
  // The last phrase may not be closed yet: what is added behind it must not become a part of it.
  return parts.map((part) => ((part.split('"').length - 1) % 2 ? `${part}"` : part));
}

/**
 * Return whether a query has this part.
 *
 * @param {string} query
 * @param {string} part
 */
export function hasTerm(query, part) {
  return tokens(query).some((each) => each.toLowerCase() === part.toLowerCase());
}

/**
 * Return the query with the part added, or without it where it was there.
 *
 * @param {string} query
 * @param {string} part
 */
export function toggleTerm(query, part) {
  const parts = tokens(query);
  const rest = parts.filter((each) => each.toLowerCase() !== part.toLowerCase());
  return (rest.length < parts.length ? rest : [...parts, part]).join(" ");
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
 * Return the query narrowed to a day, or without the day where it was narrowed to it.
 *
 * @param {string} query
 * @param {string} day
 */
export function toggleDay(query, day) {
  const rest = tokens(query).filter((each) => !/^(since|until):/i.test(each));
  return (hasDay(query, day) ? rest : [...rest, `since:${day}`, `until:${day}`]).join(" ");
}

/**
 * Return the part that the cursor is in or right after, and where that part begins and ends.
 *
 * @param {string} query
 * @param {number} cursor
 */
export function tokenAt(query, cursor) {
  for (const match of query.matchAll(TOKEN)) {
    const end = match.index + match[0].length;
    if (match.index < cursor && cursor <= end) return { text: match[0], start: match.index, end };
  }
  return { text: "", start: cursor, end: cursor };
}
