// @ts-check
/** Helpers that build elements. Text is never markup. */

/** @template T @typedef {import("../types.d.ts").Row<T>} Row */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Create an element: `el("button", {class: "a", onclick: f}, "text", child)`.
 *
 * A property that starts with "on" adds a listener, `text` sets textContent; false, null and undefined are left out.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Node|string|null|undefined|false)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null && child !== undefined && child !== false) node.append(child);
  return node;
}

/**
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...Node} children
 * @returns {SVGElementTagNameMap[K]}
 */
export function svg(tag, properties = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

/**
 * Return a function that makes a style sheet at its first call, and returns the same one at each call.
 *
 * @param {string} css
 */
export function sheetOf(css) {
  /** @type {CSSStyleSheet|undefined} */
  let sheet;
  return () => {
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(css);
    }
    return sheet;
  };
}

/**
 * Paths on a 16 x 16 grid, stroked or filled by the style sheet.
 *
 * @type {Record<string, string>}
 */
const SHAPES = {
  idle: "M2 8a6 6 0 1 0 12 0a6 6 0 1 0-12 0M5.3 8.2l1.9 1.9l3.6-4",
  uploading: "M2 8a6 6 0 1 0 12 0a6 6 0 1 0-12 0M8 11V5.2M5.6 7.5L8 5.1l2.4 2.4",
  retrying: "M2 8a6 6 0 1 0 12 0a6 6 0 1 0-12 0M8 4.8V8l2.2 1.6",
  stopped: "M2 8a6 6 0 1 0 12 0a6 6 0 1 0-12 0M6 6h4v4H6z",
  stopping: "M8 2.2L13.8 8L8 13.8L2.2 8zM6.4 6.4h3.2v3.2H6.4z",
  standby: "M2 8a6 6 0 1 0 12 0a6 6 0 1 0-12 0M6.5 5.8v4.4M9.5 5.8v4.4",
  attention: "M8 2.2L14.3 13.4H1.7zM8 6.4v3.2M8 11.4v.2",
  unreachable: "M2.5 6.2a8.4 8.4 0 0 1 11 0M5 8.9a4.6 4.6 0 0 1 6 0M8 12v.2M2.5 2.5l11 11",
  not_configured: "M2 4.5h6M12 4.5h2M2 11.5h2M8 11.5h6M8 4.5a2 2 0 1 0 4 0a2 2 0 1 0-4 0M4 11.5a2 2 0 1 0 4 0a2 2 0 1 0-4 0",
  starting: "M8 2v2.4M8 11.6V14M2 8h2.4M11.6 8H14M3.8 3.8l1.7 1.7M10.5 10.5l1.7 1.7M3.8 12.2l1.7-1.7M10.5 5.5l1.7-1.7",
  vanished: "M2 8a6 6 0 1 0 12 0a6 6 0 1 0-12 0M5.4 8h5.2",
  check: "M3.2 8.4l3.2 3.2l6.4-7",
  cross: "M4 4l8 8M12 4l-8 8",
  dash: "M3.5 8h9",
  copy: "M5.5 5.5h7.5v8H5.5zM10.5 5.3V2.5H3v8h2.3",
  retry: "M13 5.5A5.6 5.6 0 1 0 13.6 9M13.3 2.3v3.5H9.8",
  upload: "M8 10.5V2.8M4.9 5.7L8 2.6l3.1 3.1M2.5 10.5v3h11v-3",
  play: "M5.5 3.6v8.8L12.4 8z",
  image: "M2.2 3h11.6v10H2.2zM2.5 11l3.4-3.5l2.6 2.6l1.6-1.6l3.4 3M10.4 6v.2",
  audio: "M6 12V4l7-1.4v7.8M2.6 12a1.7 1.7 0 1 0 3.4 0a1.7 1.7 0 1 0-3.4 0M9.6 10.6a1.7 1.7 0 1 0 3.4 0a1.7 1.7 0 1 0-3.4 0",
  other: "M3.5 2h6l3 3v9h-9zM9.3 2.2V5.3h3",
  video: "M5.5 3.6v8.8L12.4 8z",
  chevron: "M6 3.8l4 4.2l-4 4.2",
  start: "M5.5 3.6v8.8L12.4 8z",
  stop: "M4.5 4.5h7v7h-7z",
  share: "M9.8 4.2a2 2 0 1 0 4 0a2 2 0 1 0-4 0M2.2 8a2 2 0 1 0 4 0a2 2 0 1 0-4 0M9.8 11.8a2 2 0 1 0 4 0a2 2 0 1 0-4 0M6 7.1L10 5.1M6 8.9L10 10.9",
  search: "M2.6 7a4.4 4.4 0 1 0 8.8 0a4.4 4.4 0 1 0-8.8 0M10.3 10.3l3.4 3.4",
  link: "M6.5 9.5l3-3M7 4.6l1.4-1.4a3 3 0 0 1 4.3 4.3L11.3 9M9 11.4l-1.4 1.4a3 3 0 0 1-4.3-4.3L4.7 7",
  star: "M8 2l1.8 3.8l4.2.5l-3.1 2.9l.8 4.1L8 11.3l-3.7 2l.8-4.1L2 6.3l4.2-.5z",
  heart: "M8 13.2C3.5 9.8 2 7.8 2 5.7A3 3 0 0 1 8 4.6a3 3 0 0 1 6 1.1c0 2.1-1.5 4.1-6 7.5z",
  info: "M2 8a6 6 0 1 0 12 0a6 6 0 1 0-12 0M8 7.4v3.4M8 5.2v.2",
  plus: "M8 3.5v9M3.5 8h9",
  minus: "M3.5 8h9",
  back: "M10 3.8L6 8l4 4.2",
  flow: "M2 3.2h4v3.2H2zM10 9.6h4v3.2h-4zM6 4.8h2.5v6.4H10",
  input: "M7 3H3v10h10V9M13.4 2.6L7.6 8.4M7.4 5v3.6H11",
  download: "M8 2.6v7.6M4.9 7.3L8 10.4l3.1-3.1M2.5 10.5v3h11v-3",
  external: "M7 3.5H3v9.5h9.5V9M9.5 2.8h3.8v3.8M13 3L7.6 8.4",
  compare: "M2 3h5v10H2zM9 3h5v10H9z",
  hidden: "M1.8 8c1.6-2.8 3.7-4.2 6.2-4.2S12.6 5.2 14.2 8c-1.6 2.8-3.7 4.2-6.2 4.2S3.4 10.8 1.8 8M2.8 2.5l10.4 11",
  filter: "M2.5 4.5h11M4.5 8h7M6.5 11.5h3",
  view: "M2.5 2.5h4.5v4.5h-4.5zM9 2.5h4.5v4.5H9zM2.5 9h4.5v4.5h-4.5zM9 9h4.5v4.5H9z",
};
SHAPES.unavailable = SHAPES.attention;
SHAPES.skipped = SHAPES.vanished;
SHAPES.baseline = SHAPES.vanished;
SHAPES.failed = SHAPES.attention;
SHAPES.archived = SHAPES.idle;
SHAPES.pending = SHAPES.retrying;
SHAPES.checking = SHAPES.search;
SHAPES.loading = SHAPES.starting;

/**
 * Create an icon. Screen readers skip it: a text or its button's label must say what it means.
 *
 * @param {string} name
 */
export function icon(name) {
  const path = svg("path", { d: SHAPES[name] ?? SHAPES.other });
  const node = svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" }, path);
  node.classList.add("icon", `icon-${name}`);
  return node;
}

/**
 * Create a button: `button("Retry", {icon: "retry", onclick: f})`.
 *
 * @param {string} text  the visible label, or the accessible name of a `bare` button, which shows only its icon
 * @param {{icon?: string, label?: string, bare?: boolean, kind?: string, [property: string]: any}} [options]
 */
export function button(text, { icon: picture, label, bare = false, kind = "", ...properties } = {}) {
  const content = [picture ? icon(picture) : null, bare ? null : el("span", { text })];
  const name = label ?? (bare ? text : null);
  return el(
    "button",
    { type: "button", class: `button ${bare ? "bare" : ""} ${kind}`.trim(), "aria-label": name, title: name, ...properties },
    ...content,
  );
}

/**
 * Run what a button does. Until that ends, further presses do nothing. Unlike `disabled`, `aria-disabled` keeps the focus.
 *
 * @param {HTMLElement} node
 * @param {() => Promise<unknown>} act
 */
export async function whileBusy(node, act) {
  if (node.getAttribute("aria-disabled") === "true") return;
  node.setAttribute("aria-disabled", "true");
  try {
    await act();
  } finally {
    node.removeAttribute("aria-disabled");
  }
}

/**
 * Set text only where it differs, so that screen readers announce only changes.
 *
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Update a parent's children to match `items`. The nodes of those that stay are kept, with their focus if they don't move.
 *
 * @template T
 * @param {HTMLElement} parent
 * @param {Map<string, Row<T>>} rows  kept between calls
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => Row<T>} create
 */
export function keyed(parent, rows, items, keyOf, create) {
  const wanted = new Set(items.map(keyOf));
  for (const [key, row] of rows) {
    if (wanted.has(key)) continue;
    row.node.remove();
    row.end?.();
    rows.delete(key);
  }
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    let row = rows.get(key);
    if (!row) {
      row = create(item);
      rows.set(key, row);
    }
    row.update(item);
    if (row.node === place) place = row.node.nextSibling;
    else parent.insertBefore(row.node, place);
  }
}

/**
 * Create a file's name with its folder before it; the folder is cut off first where there is no room.
 *
 * @param {string} path
 */
export function fileName(path) {
  const cut = path.lastIndexOf("/") + 1;
  const node = el("span", { class: "name", title: path, dir: "auto" });
  if (cut) node.append(el("span", { class: "folder", text: path.slice(0, cut) }));
  node.append(el("span", { class: "base", text: path.slice(cut) }));
  return node;
}

/**
 * Make a list one tab stop: Tab reaches one of its buttons, the arrow keys, Home and End move among them.
 *
 * @param {HTMLElement} list
 * @returns {() => void}  to be called after the list's rows changed
 */
export function oneTabStop(list) {
  const buttons = () => /** @type {HTMLButtonElement[]} */ ([...list.querySelectorAll("button")]);
  /** @type {HTMLElement|null} */
  let current = null;
  const refresh = () => {
    const all = buttons();
    if (!all.some((each) => each === current)) current = all[0] ?? null;
    for (const each of all) each.tabIndex = each === current ? 0 : -1;
  };
  list.addEventListener("focusin", (event) => {
    current = /** @type {HTMLElement} */ (event.target);
    refresh();
  });
  list.addEventListener("keydown", (event) => {
    const all = buttons();
    const from = all.findIndex((each) => each === current);
    const targets = { ArrowDown: from + 1, ArrowRight: from + 1, ArrowUp: from - 1, ArrowLeft: from - 1, Home: 0, End: all.length - 1 };
    if (!(event.key in targets)) return;
    event.preventDefault();
    event.stopPropagation();
    all[targets[/** @type {keyof typeof targets} */ (event.key)]]?.focus();
  });
  return refresh;
}

/** Return the element with the focus, also inside shadow roots. */
function focusedElement() {
  let focused = document.activeElement;
  while (focused?.shadowRoot?.activeElement) focused = focused.shadowRoot.activeElement;
  return /** @type {HTMLElement|null} */ (focused);
}

/**
 * Return an open modal dialog, also inside shadow roots: of several, the last.
 *
 * @param {Document|ShadowRoot} root
 * @returns {Element|null}
 */
function modalDialog(root) {
  let last = null;
  for (const node of root.querySelectorAll("*")) {
    if (node.matches("dialog:modal")) last = node;
    else if (node.shadowRoot) last = modalDialog(node.shadowRoot) ?? last;
  }
  return last;
}

/**
 * Pass the focus on from an element that was hidden or disabled, unless the user has moved it meanwhile.
 *
 * @param {HTMLElement} from
 * @param {HTMLElement} to
 */
export function passFocus(from, to) {
  const focused = focusedElement();
  if (!focused || focused === from || focused === document.body) to.focus();
}

/**
 * Copy text to the clipboard.
 *
 * @param {string} text
 * @throws {Error} the browser refused.
 */
export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Pages served over plain HTTP, except from this machine, have no clipboard object.
  const field = el("textarea", { "aria-hidden": "true", tabindex: "-1" });
  field.style.cssText = "position:fixed;opacity:0";
  field.value = text;
  // ComfyUI would copy the selected nodes.
  field.addEventListener("copy", (event) => event.stopPropagation());
  const focused = focusedElement();
  // Outside an open dialog nothing can be selected.
  (modalDialog(document) ?? document.body).append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  focused?.focus?.();
  if (!copied) throw new Error("execCommand refused to copy");
}
