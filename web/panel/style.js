// @ts-check
/**
 * The panel's style sheet, as a module so that it is there before the first paint.
 *
 * Colours come from ComfyUI's variables (names of frontends 1.27 to 1.58) where the page has them. Tones and quiet text
 * are mixed from the foreground, which keeps their contrast in light and dark palettes.
 */

import { sheetOf } from "./dom.js";

const CSS = `
:host {
  --ca-fg: var(--base-foreground, var(--fg-color, #171718));
  --ca-bg: var(--comfy-menu-bg, var(--bg-color, #ffffff));
  --ca-quiet: color-mix(in srgb, var(--ca-fg) 72%, var(--ca-bg));
  --ca-card: color-mix(in srgb, var(--ca-fg) 5%, var(--ca-bg));
  --ca-hover: color-mix(in srgb, var(--ca-fg) 11%, var(--ca-bg));
  --ca-line: color-mix(in srgb, var(--ca-fg) 15%, var(--ca-bg));
  --ca-edge: color-mix(in srgb, var(--ca-fg) 50%, var(--ca-bg));
  --ca-good: color-mix(in srgb, #12b76a 58%, var(--ca-fg));
  --ca-busy: color-mix(in srgb, #0b8ce9 58%, var(--ca-fg));
  --ca-warn: color-mix(in srgb, #f79009 52%, var(--ca-fg));
  --ca-bad: color-mix(in srgb, #f04438 58%, var(--ca-fg));
  --ca-bar: #0b8ce9;
  container-type: inline-size;
  display: block;
  box-sizing: border-box;
  height: 100%;
  overflow-y: auto;
  overflow-x: hidden;
  overscroll-behavior: contain;
  scrollbar-width: thin;
  scrollbar-color: var(--ca-line) transparent;
  background: var(--ca-bg);
  color: var(--ca-fg);
  font: 400 .8125rem/1.45 Inter, system-ui, "Segoe UI", Arial, "Hiragino Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", sans-serif;
  text-align: start;
  -webkit-font-smoothing: antialiased;
}
*, *::before, *::after { box-sizing: border-box; }
[hidden] { display: none !important; }
h2, h3, p, ul, ol, dl, dd, figure, pre { margin: 0; padding: 0; }
ul, ol { list-style: none; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.quiet { color: var(--ca-quiet); }
.small { font-size: .75rem; }
.num { font-variant-numeric: tabular-nums; white-space: nowrap; }

.page { display: grid; gap: 16px; padding: 12px; min-width: 0; }
.group { display: contents; }
.column { display: grid; gap: 16px; align-content: start; min-width: 0; }
section { min-width: 0; }
.title { display: flex; align-items: center; gap: 8px; min-height: 24px; margin-bottom: 6px; }
h3, summary { font-size: .8125rem; font-weight: 600; }
.title > .end { margin-inline-start: auto; }
.badge { font-size: .6875rem; font-weight: 600; line-height: 1.125rem; min-width: 1.125rem; padding: 0 5px; border-radius: 1rem; text-align: center; background: var(--ca-hover); font-variant-numeric: tabular-nums; }
.card { background: var(--ca-card); border-radius: 8px; padding: 10px; min-width: 0; }
.list { display: grid; gap: 2px; min-width: 0; }

.icon { width: 16px; height: 16px; flex: none; fill: none; stroke: currentColor; stroke-width: 1.5; stroke-linecap: round; stroke-linejoin: round; }
.icon-play path, .icon-video path, .icon-start path, .icon-stop path { fill: currentColor; }
.good { color: var(--ca-good); } .busy { color: var(--ca-busy); } .warn { color: var(--ca-warn); } .bad { color: var(--ca-bad); } .calm { color: var(--ca-quiet); }

.button { appearance: none; display: inline-flex; align-items: center; justify-content: center; gap: 6px; min-height: 30px; padding: 4px 10px; border: 0; border-radius: 8px; background: var(--ca-hover); color: var(--ca-fg); font: inherit; font-weight: 500; line-height: 1.2; cursor: pointer; }
.button > span { white-space: nowrap; }
.button:hover { background: var(--ca-line); }
.button.primary { background: var(--ca-fg); color: var(--ca-bg); }
.button.primary:hover { background: color-mix(in srgb, var(--ca-fg) 88%, var(--ca-bg)); }
.button.bare { min-height: 26px; width: 26px; padding: 0; background: transparent; color: var(--ca-quiet); flex: none; }
.button.bare:hover { background: var(--ca-hover); color: var(--ca-fg); }
.button.slim { min-height: 24px; padding: 2px 8px; font-size: .75rem; border-radius: 6px; }
.button:is([disabled], [aria-disabled="true"]) { opacity: .5; cursor: default; }
.button .icon { width: 14px; height: 14px; }
:is(button, input, select, summary, a, [tabindex]):focus-visible { outline: 2px solid var(--ca-busy); outline-offset: 1px; }
input, select { appearance: none; width: 100%; min-width: 0; min-height: 30px; padding: 4px 10px; border: 1px solid var(--ca-edge); border-radius: 8px; background: var(--ca-bg); color: var(--ca-fg); font: inherit; }
input { text-overflow: ellipsis; }
input::placeholder { color: var(--ca-quiet); opacity: 1; }
select { padding-inline-end: 26px; background-image: linear-gradient(45deg, transparent 50%, currentColor 50%), linear-gradient(-45deg, transparent 50%, currentColor 50%); background-size: 5px 5px; background-position: right 14px center, right 9px center; background-repeat: no-repeat; }
option { background: var(--ca-bg); color: var(--ca-fg); }
.choice { display: inline-flex; padding: 2px; gap: 2px; border-radius: 8px; background: var(--ca-hover); max-width: 100%; flex-wrap: wrap; }
.choice .button { min-height: 22px; padding: 1px 8px; font-size: .75rem; border-radius: 6px; background: transparent; }
.choice .button[aria-pressed="true"] { background: var(--ca-bg); box-shadow: 0 0 0 1px var(--ca-line); }

.head { display: grid; gap: 10px; }
.state { display: flex; gap: 10px; align-items: flex-start; }
.state:has(.safe[hidden]) { align-items: center; }
.state > .icon { width: 28px; height: 28px; stroke-width: 1.25; margin-top: 1px; }
.state h2 { font-size: 1rem; font-weight: 600; line-height: 1.3; text-wrap: balance; }
.safe { text-wrap: pretty; display: flex; align-items: flex-start; gap: 5px; }
.safe .icon { width: 14px; height: 14px; margin-top: 2px; }
.head > .hint { color: var(--ca-quiet); font-size: .75rem; }
.counts { display: grid; grid-template-columns: repeat(3, minmax(min-content, 1fr)); gap: 6px; }
.counts[data-cells="4"] { grid-template-columns: repeat(2, minmax(min-content, 1fr)); }
.counts > div { display: grid; padding: 6px 8px; border-radius: 6px; background: var(--ca-bg); }
.counts dt { font-size: .6875rem; color: var(--ca-quiet); order: 2; word-break: auto-phrase; overflow-wrap: break-word; }
.counts dd { font-size: 1rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.25; }
.actions { display: flex; flex-wrap: wrap; gap: 6px; }
.actions .button { flex: 1 1 auto; }
.feedback { display: flex; gap: 6px; align-items: flex-start; font-size: .75rem; overflow-wrap: anywhere; white-space: pre-line; }
.feedback .icon { width: 14px; height: 14px; margin-top: 2px; }
.feedback:empty { display: none; }
.unarchived { display: grid; gap: 6px; }
.note.quiet { padding-inline: 10px; margin-block: -4px; }
.note.quiet .button { background: transparent; text-decoration: underline; text-underline-offset: 2px; color: inherit; }
.note.quiet .button:hover { background: var(--ca-hover); }
.note { display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between; gap: 6px 12px; }
.note > p { flex: 1 1 200px; }
.note.quiet > p { flex-basis: auto; }
.note .tools { display: flex; flex-wrap: wrap; gap: 6px; }
form.upload { display: grid; gap: 6px; }
form.upload label { font-size: .75rem; color: var(--ca-quiet); }
form.upload .row { display: flex; gap: 6px; }
form.upload .button { flex: none; }

.name { display: flex; min-width: 0; overflow: hidden; white-space: nowrap; }
.name .base { overflow: hidden; text-overflow: ellipsis; }
.name .folder { color: var(--ca-quiet); overflow: hidden; text-overflow: ellipsis; flex: 0 1000 auto; min-width: 2em; }
.now .list { align-content: start; }
.active { display: grid; gap: 4px; padding: 6px 0; }
.active .line { display: flex; gap: 8px; justify-content: space-between; min-width: 0; }
.bar { height: 4px; border-radius: 2px; background: var(--ca-line); overflow: hidden; }
.bar > span { display: block; height: 100%; border-radius: 2px; background: var(--ca-bar); transform-origin: 0 50%; transition: transform .25s linear; }

.problem { display: grid; gap: 6px; border-inline-start: 3px solid var(--ca-bad); }
.problem.again { border-inline-start-color: var(--ca-warn); }
.problem + .problem { margin-top: 8px; }
.problem :is(.cause, .cure) { overflow-wrap: anywhere; white-space: pre-line; }
.problem .cause { font-weight: 500; }
.problem .cure { color: var(--ca-quiet); }
.problem ul { border-top: 1px solid var(--ca-line); padding-top: 4px; }
.problem li { display: grid; grid-template-columns: minmax(0, 1fr) auto; align-items: center; column-gap: 2px; }
.problem li .about { grid-column: 1; font-size: .75rem; color: var(--ca-quiet); white-space: normal; }
.problem li .tools { grid-column: 2; grid-row: 1 / span 2; display: flex; }

details > summary { display: flex; align-items: center; gap: 6px; min-height: 28px; cursor: pointer; list-style: none; border-radius: 6px; }
details > summary::-webkit-details-marker { display: none; }
details > summary > .icon { width: 12px; height: 12px; color: var(--ca-quiet); transition: transform .15s; }
details[open] > summary > .icon { transform: rotate(90deg); }
.waiting li { display: flex; gap: 8px; align-items: baseline; padding: 3px 0; min-width: 0; }
.waiting li .name { flex: 1; }
.messages li { padding: 5px 0; border-top: 1px solid var(--ca-line); overflow-wrap: anywhere; white-space: pre-line; font-size: .75rem; }

.recent li, .found li { display: flex; align-items: center; gap: 8px; padding: 4px; border-radius: 6px; min-width: 0; }
.recent li:hover, .found li:hover { background: var(--ca-hover); }
.recent .text, .found .text { flex: 1; min-width: 0; display: grid; }
:is(.recent, .found) .text > .num { white-space: normal; }
.thumb { position: relative; width: 40px; height: 40px; flex: none; border-radius: 6px; overflow: hidden; background: var(--ca-hover); color: var(--ca-quiet); display: grid; place-items: center; }
.thumb img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; }
.thumb img:not([src]) { visibility: hidden; }

.chart .area { position: relative; }
.chart .area > span { position: absolute; left: 0; font-size: .6875rem; line-height: .875rem; color: var(--ca-quiet); pointer-events: none; }
.chart svg.plot { display: block; width: 100%; height: 136px; overflow: visible; }
.chart .files rect.value { fill: var(--ca-bar); }
.chart .bytes rect.value { fill: color-mix(in srgb, var(--ca-bar) 45%, var(--ca-fg)); }
.chart .slot { fill: transparent; }
.chart .slot:hover, .chart .slot.here { fill: var(--ca-hover); }
.chart line { stroke: var(--ca-line); }
.chart .legend { display: flex; justify-content: space-between; gap: 8px; font-size: .6875rem; color: var(--ca-quiet); font-variant-numeric: tabular-nums; }
.chart .readout { font-size: .75rem; min-height: 18px; white-space: normal; }
.chart figure:focus-visible { outline: 2px solid var(--ca-busy); outline-offset: 2px; border-radius: 4px; }
.chart table { border-collapse: collapse; }

.finder { display: grid; grid-template-columns: minmax(0, 1fr) minmax(90px, 38%); gap: 6px; margin-bottom: 6px; }
.found .gap { width: 26px; height: 26px; flex: none; }
.found .icon { width: 14px; height: 14px; }
.found[aria-busy="true"] { opacity: .65; }
.pager { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; justify-content: space-between; margin-top: 6px; }
.empty { padding: 10px 4px; color: var(--ca-quiet); }

.place { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 3px 12px; }
.place dt { color: var(--ca-quiet); }
.place dd { overflow-wrap: anywhere; }
.steps { margin-top: 10px; display: grid; gap: 6px; }
.steps li { display: grid; grid-template-columns: 16px minmax(0, 1fr); gap: 6px; }
.steps .icon { width: 14px; height: 14px; margin-top: 2px; }
.steps p { overflow-wrap: anywhere; white-space: pre-line; font-size: .75rem; }
.below { margin-top: 10px; }

.setup { display: grid; gap: 10px; }
.setup .row { display: grid; gap: 4px; justify-items: start; }
.setup pre { width: 100%; padding: 10px; border-radius: 6px; background: var(--ca-bg); font: .75rem/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; user-select: all; }
.setup :is(li, .missing) { overflow-wrap: anywhere; white-space: pre-line; }
.setup ul { display: grid; gap: 4px; }

@container (min-width: 45rem) {
  .page { grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 24px; padding: 12px 24px 24px; max-width: 1280px; }
  .column { gap: 24px; }
  .head, .wide { grid-column: 1 / -1; }
  .head { grid-template-columns: minmax(0, 1fr) auto; align-items: center; padding: 16px; }
  .state > .icon { width: 36px; height: 36px; }
  .state h2 { font-size: 1.25rem; }
  .counts { grid-template-columns: repeat(3, minmax(104px, auto)); }
  .counts[data-cells="4"] { grid-template-columns: repeat(4, minmax(88px, auto)); }
  .actions { justify-content: flex-start; }
  .actions .button { flex: 0 0 auto; }
  .head > :is(.hint, .feedback, form) { grid-column: 1 / -1; }
  .actions { grid-column: 1 / -1; }
  .chart svg.plot { height: 170px; }
  .finder { grid-template-columns: minmax(0, 1fr) 12.5rem; }
  .found li { padding: 6px 8px; }
  .found .text { grid-template-columns: minmax(0, 1fr) 20rem; align-items: center; gap: 12px; }
  .found .text .small { display: grid; grid-template-columns: 6.25rem 5rem 1fr; }
  .found .text .small .dot { display: none; }
}
@container (max-width: 18.75rem) {
  /* The icon shows it; the word stays for screen readers. */
  .found .word.archived { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .found .word.archived + .dot { display: none; }
  .found li { position: relative; }
  .name .folder { display: none; }
  .counts dd { font-size: .875rem; }
  .counts > div { padding-inline: 6px; }
  .button { padding-inline: 8px; }
  .place { grid-template-columns: minmax(0, 1fr); gap: 0; }
  .place dd { margin-bottom: 5px; }
  .finder { grid-template-columns: minmax(0, 1fr); }
}
@container (max-width: 15rem) {
  .counts, .counts[data-cells="4"] { grid-template-columns: minmax(0, 1fr); gap: 4px; }
  .counts > div { display: flex; justify-content: space-between; align-items: baseline; padding: 3px 8px; }
  .counts dd { font-size: .8125rem; }
  .active .line { flex-direction: column; gap: 0; }
  .problem li .name { grid-column: 1 / -1; }
  .problem li .tools { grid-row: 2; }
  .name .base { white-space: normal; overflow-wrap: anywhere; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; }
  .title { flex-wrap: wrap; }
}
@media (pointer: coarse) {
  .button { min-height: 44px; }
  .button.bare { min-height: 44px; width: 44px; }
  .button.slim, .choice .button { min-height: 40px; }
  input, select { min-height: 44px; }
}
@media (prefers-reduced-motion: reduce) {
  *, *::before, *::after { transition: none !important; animation: none !important; }
}
@media (forced-colors: active) {
  .bar { border: 1px solid CanvasText; }
  .button:not(.bare) { border: 1px solid ButtonBorder; }
  .bar > span { background: Highlight; forced-color-adjust: none; }
  .button:is([aria-pressed="true"], [aria-expanded="true"]):not(:focus-visible) { outline: 2px solid Highlight; outline-offset: -2px; }
}
`;

export const panelSheet = sheetOf(CSS);
