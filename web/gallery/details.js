// @ts-check
/** What is known of one asset: how it was made, and where it is. */

import { formatBytes, formatDuration } from "../format.js";
import { button, el } from "../panel/dom.js";
import { term } from "./query.js";

/** @typedef {import("../types.d.ts").Asset} Asset */
/** @typedef {import("../types.d.ts").GalleryContext} GalleryContext */

/**
 * Create the column beside the picture.
 *
 * @param {Asset} asset
 * @param {GalleryContext} context
 * @param {HTMLElement} form  edits the asset
 * @param {(query: string) => void} search
 */
export function details(asset, context, form, search) {
  const { t } = context;
  const facts = asset.metadata;
  const { loras, models } = facts;
  /** @type {(Node|null)[]} */
  const made = [
    facts.seed === null ? null : fact(t("field.seed"), String(facts.seed), context, term("seed", facts.seed), search),
    ...models.map((name) => fact(t("field.model"), name, context, term("model", name), search)),
    ...loras.map(({ name, strength }) => fact(t("field.lora"), strength === null ? name : `${name} (${strength})`, context, term("lora", name), search)),
    facts.sampler === null ? null : fact(t("field.sampler"), [facts.sampler, facts.scheduler].filter(Boolean).join(", "), context, term("sampler", facts.sampler), search),
    facts.steps === null ? null : fact(t("asset.steps"), String(facts.steps), context),
    facts.cfg === null ? null : fact(t("asset.cfg"), String(facts.cfg), context),
  ];
  const size = asset.width && asset.height ? `${asset.width} × ${asset.height}` : null;
  const file = [
    fact(t("asset.key"), asset.key, context),
    fact(t("asset.size"), [formatBytes(asset.size, t.locale), size, asset.duration_seconds ? formatDuration(asset.duration_seconds, t) : null].filter(Boolean).join(" · "), context),
    fact(t("asset.created"), context.moment(asset.created_at), context),
    asset.machine ? fact(t("field.machine"), asset.machine, context, term("machine", asset.machine), search) : null,
    asset.job_id ? fact(t("field.job"), asset.job_id, context, term("job", asset.job_id), search) : null,
    fact(t("asset.proof"), asset.sha256 ? t("asset.proven", { sum: asset.sha256.slice(0, 12) }) : t("asset.archived"), context, "", undefined, asset.sha256 ?? undefined),
  ];
  const known = made.filter((node) => node !== null);
  return el(
    "div",
    { class: "details" },
    el("h2", { text: asset.name, dir: "auto" }),
    text(t("asset.prompt"), facts.prompt, "asset.copyPrompt", context),
    text(t("asset.negative"), facts.negative_prompt, "asset.copyNegative", context),
    known.length ? el("section", {}, el("h3", { text: t("asset.made") }), el("dl", { class: "facts" }, ...known)) : null,
    !facts.prompt && !known.length
      ? el("p", { class: "small quiet", text: t(asset.has_workflow || asset.has_prompt ? "asset.unread" : "asset.unknown") })
      : facts.confidence === "low"
        ? el("p", { class: "small quiet", text: t("asset.unsure") })
        : null,
    form,
    el("section", {}, el("h3", { text: t("asset.file") }), el("dl", { class: "facts" }, ...file)),
  );
}

/**
 * Create a section for a text, with a button that copies it; null: there is no text.
 *
 * @param {string} title
 * @param {string|null} content
 * @param {string} label  the key of the button's name
 * @param {GalleryContext} context
 */
function text(title, content, label, context) {
  if (!content) return null;
  return el(
    "section",
    {},
    el("div", { class: "title" }, el("h3", { text: title }), button(context.t(label), { icon: "copy", bare: true, onclick: () => context.copy(content) })),
    el("p", { class: "prompt", dir: "auto", text: content }),
  );
}

/**
 * Create one line, with a button that copies its value and, if there is a `query`, one that searches for that.
 *
 * @param {string} name
 * @param {string} value
 * @param {GalleryContext} context
 * @param {string} [query]
 * @param {(query: string) => void} [search]
 * @param {string} [copied]  what is copied in place of the value
 */
function fact(name, value, context, query = "", search = undefined, copied = value) {
  const { t } = context;
  return el(
    "div",
    {},
    el("dt", { text: name }),
    el(
      "dd",
      {},
      el("span", { class: "value", text: value, dir: "auto" }),
      query && search ? button(t("asset.find", { what: query }), { icon: "search", bare: true, onclick: () => search(query) }) : null,
      button(t("asset.copy", { what: name }), { icon: "copy", bare: true, onclick: () => context.copy(copied) }),
    ),
  );
}
