// @ts-check
/** The gallery's style sheet; colours and buttons come from the panel's. */

import { sheetOf } from "../panel/dom.js";

const CSS = `
:host { overflow: hidden; }
.gallery { position: relative; display: flex; flex-direction: column; height: 100%; min-height: 0; padding: 8px 0 0 12px; gap: 6px; }
.search-bar { display: flex; gap: 4px; align-items: center; padding-inline-end: 12px; }
.search { position: relative; flex: 1; min-width: 0; }
.search > .icon { position: absolute; left: 9px; top: calc(50% - 7px); width: 14px; height: 14px; color: var(--ca-quiet); pointer-events: none; }
.query { padding-inline-start: 29px; }
.query[aria-invalid="true"] { border-color: var(--ca-bad); }
.search-bar .button.bare { width: 30px; min-height: 30px; }
.button[aria-expanded="true"], .button.bare[aria-pressed="true"] { background: var(--ca-hover); color: var(--ca-fg); }
.suggestions { position: absolute; z-index: 5; inset: calc(100% + 4px) 0 auto 0; padding: 4px; background: var(--ca-bg); border: 1px solid var(--ca-line); border-radius: 8px; box-shadow: 0 8px 24px #0006; }
.suggestions li { display: flex; justify-content: space-between; gap: 8px; padding: 5px 8px; border-radius: 6px; cursor: pointer; }
.suggestions .text { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.suggestions li:is(:hover, [aria-selected="true"]) { background: var(--ca-hover); }
.view-menu { position: relative; }
.view-menu:focus { outline: none; }
.menu { position: absolute; z-index: 5; right: 0; top: calc(100% + 4px); width: min(13.75rem, 100cqw - 24px); max-height: max(90px, 100vh - 150px); overflow-y: auto; display: grid; gap: 12px; background: var(--ca-bg); border: 1px solid var(--ca-line); box-shadow: 0 8px 24px #0006; }
.menu .choice { justify-self: start; }
.menu label { display: grid; gap: 4px; font-size: .75rem; }
.menu label.check { display: flex; align-items: center; gap: 8px; }
input[type="range"] { appearance: auto; padding: 0; border: 0; min-height: 20px; accent-color: var(--ca-bar); background: transparent; }
input[type="checkbox"] { appearance: auto; width: 16px; min-height: 16px; height: 16px; margin: 0; flex: none; accent-color: var(--ca-bar); }
textarea { width: 100%; min-width: 0; padding: 6px 10px; border: 1px solid var(--ca-edge); border-radius: 8px; background: var(--ca-bg); color: var(--ca-fg); font: inherit; resize: vertical; }
textarea::placeholder { color: var(--ca-quiet); opacity: 1; }
textarea:focus-visible { outline: 2px solid var(--ca-busy); outline-offset: 1px; }
.filters { display: grid; gap: 6px; max-height: 38%; overflow-y: auto; scrollbar-width: thin; padding: 2px 12px 6px 2px; flex: none; }
/* A shadow where more can be scrolled to; the first two layers, which move with the text, cover it at either end. It
   keeps a pixel from the edge, because a browser may round these layers to less than the whole box. */
:is(.filters, .prompt) { background: linear-gradient(var(--ca-bg) 50%, transparent) 0 0 / 100% 24px local, linear-gradient(transparent, var(--ca-bg) 50%) 0 100% / 100% 24px local, linear-gradient(var(--ca-line), transparent) 0 1px / 100% 11px, linear-gradient(transparent, var(--ca-line)) 0 calc(100% - 1px) / 100% 11px; background-repeat: no-repeat; }
.filter-row { display: grid; gap: 4px; }
.chips { display: flex; flex-wrap: wrap; gap: 4px; min-width: 0; }
.button.chip { min-height: 24px; padding: 2px 8px; font-size: .75rem; font-weight: 400; border-radius: 12px; max-width: 100%; min-width: 0; }
.button.chip > span { overflow: hidden; text-overflow: ellipsis; }
.button.chip .num { flex: none; }
.button.chip[aria-pressed="true"] { background: var(--ca-fg); color: var(--ca-bg); }
.button.chip[aria-pressed="true"] .quiet { color: inherit; }
.button.chip .icon { width: 10px; height: 10px; flex: none; }
.other-day { width: auto; min-height: 24px; padding: 1px 8px; font-size: .75rem; border-radius: 12px; }
.line { display: flex; flex-wrap: wrap; gap: 2px 12px; min-height: 18px; padding-inline-end: 12px; overflow-wrap: anywhere; }
.body { position: relative; flex: 1; min-height: 0; }
.scroller { position: absolute; inset: 0; overflow-y: auto; overflow-x: hidden; overscroll-behavior: contain; scrollbar-width: none; padding-inline-end: 20px; contain: strict; }
.scroller[aria-busy="true"] { opacity: .6; }
.list-box { position: relative; border-radius: 4px; }
.list-box:focus { outline: none; }
.canvas { position: relative; }
.days { position: relative; height: 0; z-index: 1; pointer-events: none; }
.day { position: absolute; inset: 0 0 auto 0; height: 34px; display: flex; gap: 8px; align-items: end; padding-bottom: 6px; white-space: nowrap; }
.day > span { line-height: min(1.45em, 28px); }
.day > span:first-child { overflow: hidden; text-overflow: ellipsis; }
.day .quiet { font-weight: 400; font-size: .75rem; }
.tile { position: absolute; left: 0; top: 0; border-radius: 6px; overflow: hidden; background: var(--ca-card); cursor: pointer; contain: strict; }
.tile img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; opacity: 0; transition: opacity .15s, filter .2s; }
.tile img.there { opacity: 1; }
.tile.blurred img { filter: blur(18px) saturate(.6); }
.tile .kind { position: absolute; inset: 0; display: grid; place-content: center; justify-items: center; gap: 4px; color: var(--ca-quiet); font-size: .6875rem; }
.tile .kind .icon { width: 26px; height: 26px; }
.tile.waiting { background: linear-gradient(100deg, var(--ca-card) 40%, var(--ca-hover) 50%, var(--ca-card) 60%) 0 / 300% 100%; animation: shimmer 1.6s linear infinite; }
@keyframes shimmer { from { background-position: 100% 0; } to { background-position: -50% 0; } }
.tile .length { position: absolute; right: 5px; bottom: 5px; padding: 0 5px; border-radius: 4px; font-size: .6875rem; line-height: 1.0625rem; background: #000b; color: #fff; }
.tile .star { position: absolute; left: 6px; bottom: 5px; color: #ff5d73; filter: drop-shadow(0 0 2px #000c); display: flex; }
.tile .star .icon path, .button[aria-pressed="true"] .icon-heart path, .rating .on .icon path { fill: currentColor; }
.tile .pick { position: absolute; left: 6px; top: 6px; width: 22px; height: 22px; border-radius: 50%; display: grid; place-items: center; color: transparent; background: #0006; border: 1.5px solid #fffc; opacity: 0; }
.tile .pick .icon { width: 13px; height: 13px; stroke-width: 2.2; }
.tile:hover .pick, .selecting .pick, .tile.current .pick { opacity: 1; }
.tile[aria-selected="true"] .pick { color: #fff; background: var(--ca-bar); }
.tile[aria-selected="true"] { box-shadow: inset 0 0 0 3px var(--ca-bar); }
.tile[aria-selected="true"] img { inset: 6px; width: calc(100% - 12px); height: calc(100% - 12px); border-radius: 4px; }
.tile.current::after { content: ""; position: absolute; inset: 0; border-radius: 6px; box-shadow: inset 0 0 0 3px var(--ca-busy), inset 0 0 0 4.5px var(--ca-bg); pointer-events: none; }
.scrubber { position: absolute; inset: 0 0 0 auto; width: 20px; touch-action: none; cursor: pointer; user-select: none; }
.scrubber:focus-visible { outline-offset: -2px; border-radius: 6px; }
.thumb-mark { position: absolute; top: 0; right: 3px; width: 14px; height: 4px; border-radius: 2px; background: var(--ca-quiet); pointer-events: none; }
.scrubber:hover .thumb-mark { background: var(--ca-fg); }
.marks { opacity: 0; transition: opacity .15s; pointer-events: none; }
.scrubber:is(:hover, :focus-visible) .marks { opacity: 1; }
.marks span, .thumb-label { position: absolute; top: 0; right: 22px; padding: 1px 6px; border-radius: 4px; font-size: .6875rem; white-space: nowrap; background: color-mix(in srgb, var(--ca-bg) 88%, transparent); }
.thumb-label { background: var(--ca-fg); color: var(--ca-bg); padding: 5px 10px; border-radius: 6px; font-size: .75rem; pointer-events: none; }
.message { position: absolute; inset: 0; display: grid; place-content: center; justify-items: center; gap: 12px; text-align: center; color: var(--ca-quiet); padding: 24px; text-wrap: balance; }
.selection { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; padding: 8px 12px 8px 0; border-top: 1px solid var(--ca-line); }
.selection input { padding-inline: 8px; }
.selection input, .selection select { width: 6.25rem; min-height: 26px; padding-block: 2px; font-size: .75rem; }
.selection .button.slim { min-height: 26px; }
.said { position: absolute; z-index: 6; left: 50%; bottom: 16px; transform: translateX(-50%); max-width: calc(100% - 32px); padding: 8px 14px; border-radius: 8px; background: var(--ca-fg); color: var(--ca-bg); box-shadow: 0 6px 24px #0006; overflow-wrap: anywhere; white-space: pre-line; }
.gap { flex: 1; }

.viewer { width: 100%; height: 100%; max-width: none; max-height: none; margin: 0; padding: 0; border: 0; background: var(--ca-bg); color: var(--ca-fg); font: inherit; overflow: hidden; }
.viewer[open] { display: flex; flex-direction: column; }
.viewer::backdrop { background: #000a; }
.viewer-bar { display: flex; flex-wrap: wrap; align-items: center; justify-content: flex-end; gap: 4px; padding: 8px 12px; min-height: 46px; }
.viewer-bar > .num { margin-inline-end: auto; }
.viewer-bar > .tools { display: flex; flex-wrap: wrap; justify-content: flex-end; gap: 4px; }
.file-actions { display: flex; gap: 4px; margin-inline-end: 12px; }
.viewer-bar .button.bare { width: 30px; min-height: 30px; }
.viewer-main { flex: 1; min-height: 0; display: grid; grid-template-columns: minmax(0, 1fr) clamp(372px, 33.75vw, 484px); }
.viewer-stage { position: relative; min-height: 0; min-width: 0; }
.stage { position: absolute; inset: 0; container-type: size; overflow: hidden; touch-action: none; display: grid; place-items: center; background: color-mix(in srgb, var(--ca-bg) 55%, #000); }
.stage.fixed { touch-action: pan-y pinch-zoom; }
/* Fingers that have zoomed the page move it. */
:host(.page-zoomed) .stage.fixed { touch-action: auto; }
.stage.zoomed { cursor: grab; } .stage.zoomed:active { cursor: grabbing; }
.stage > img { grid-area: 1 / 1; max-width: 100%; max-height: 100%; width: auto; height: auto; object-fit: contain; user-select: none; min-width: 0; min-height: 0; }
.stage > .preview { filter: blur(2px); }
.stage .player { max-width: 100%; max-height: 100%; }
.stage audio.player { width: min(520px, 90%); }
.viewer-stage audio.player { width: min(520px, 100% - 120px); }
.stage .none { display: grid; justify-items: center; gap: 10px; color: var(--ca-fg); padding: 20px; text-align: center; text-wrap: balance; }
.viewer-stage .none { padding-inline: 60px; }
.stage .none .icon { width: 40px; height: 40px; }
.button.turn { position: absolute; top: 50%; margin-top: -20px; width: 40px; min-height: 40px; border-radius: 50%; background: #0009; color: #fff; opacity: 0; transition: opacity .15s; }
.viewer-stage:hover .turn, .turn:focus-visible { opacity: 1; }
.button.turn[aria-disabled="true"]:not(:focus-visible) { opacity: 0; pointer-events: none; }
.button.turn:hover { background: #000; color: #fff; }
.turn.previous { left: 12px; } .turn.next { right: 12px; }
.side-box { min-height: 0; display: flex; flex-direction: column; padding-top: 6px; border-inline-start: 1px solid var(--ca-line); }
.side-box .actions { padding: 0 14px; margin-bottom: 10px; }
.side-box .actions:empty { display: none; }
.side-box .actions .button { flex: 0 1 auto; padding-inline: 9px; }
.viewer-stage:focus { outline: none; }
.side { flex: 1; min-height: 0; overflow-y: auto; padding: 2px 14px 20px; scrollbar-width: thin; }
.details { display: grid; gap: 16px; }
.details h2 { font-size: .9375rem; overflow-wrap: anywhere; }
.details .title { margin: 0; }
.details .title .button { margin-inline-start: auto; }
.prompt { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 190px; overflow-y: auto; scrollbar-width: thin; }
.facts > div { display: grid; grid-template-columns: minmax(5.125rem, 25%) minmax(0, 1fr); align-items: center; gap: 8px; min-height: 26px; }
.facts dt { color: var(--ca-quiet); font-size: .75rem; }
.facts dd { display: flex; align-items: center; min-width: 0; }
.facts .value { flex: 1; min-width: 0; padding-block: 2px; overflow-wrap: anywhere; }
.facts .button.bare { width: 24px; min-height: 24px; opacity: .75; }
.facts .button.bare:is(:hover, :focus-visible) { opacity: 1; }
.edit-form { display: grid; gap: 8px; padding: 10px; border-radius: 8px; background: var(--ca-card); }
.marks-row { display: flex; flex-wrap: wrap; align-items: center; gap: 4px; }
.marks-row .rating { display: flex; margin-inline-end: auto; }
.rating .button.bare { width: 22px; }
.rating .on { color: var(--ca-warn); }
.button[aria-pressed="true"]:has(.icon-heart) { color: #ff5d73; background: transparent; }
.new-tag { min-height: 28px; }
.bare-stage .side-box { display: none; }
.bare-stage .viewer-main { grid-template-columns: minmax(0, 1fr); }
.share { width: min(460px, calc(100% - 24px)); padding: 16px; border: 1px solid var(--ca-line); border-radius: 12px; background: var(--ca-bg); color: var(--ca-fg); font: inherit; box-shadow: 0 12px 48px #0008; }
.share::backdrop { background: #0008; }
.share .title { margin: 0 0 12px; }
.share h2 { font-size: .875rem; overflow-wrap: anywhere; min-width: 0; }
.share form { display: grid; gap: 12px; }
.share form label:not([hidden]) { display: grid; gap: 4px; font-size: .75rem; }
.share form label.check:not([hidden]) { display: flex; align-items: start; gap: 8px; }
.share form .button { justify-self: start; }
.shared { display: grid; gap: 12px; max-height: 60vh; overflow-y: auto; overflow-wrap: anywhere; }
.shared > .button { justify-self: start; }
.link { display: grid; gap: 4px; }
.link .row { display: flex; gap: 4px; align-items: center; }
.link .row .button { flex: none; width: 30px; min-height: 30px; }
.pair { flex: 1; min-height: 0; display: grid; grid-template-columns: 1fr 1fr; gap: 2px; }
.pair > .stage { position: relative; inset: auto; }
.compare .side { flex: 0 1 auto; max-height: 38%; padding: 10px 14px; }
.differences { width: 100%; border-collapse: collapse; table-layout: fixed; }
.differences :is(th, td) { text-align: start; vertical-align: top; padding: 4px 8px; font-weight: 400; overflow-wrap: anywhere; }
.differences th { width: 9.375rem; color: var(--ca-quiet); }
.differences .same td { color: var(--ca-quiet); }
.differences .differs td { background: color-mix(in srgb, var(--ca-warn) 16%, var(--ca-bg)); }

@container (min-width: 45rem) {
  .gallery { padding: 12px 0 0 24px; }
  .search { max-width: 35rem; }
  .filter-row { grid-template-columns: 5.625rem minmax(0, 1fr); align-items: baseline; }
}
@media (max-width: 600px), (max-width: 760px) and (orientation: portrait) {
  .viewer-main { grid-template-columns: minmax(0, 1fr); grid-template-rows: minmax(0, 1fr) minmax(0, 46%); }
  .side-box { border-inline-start: 0; border-top: 1px solid var(--ca-line); padding-top: 10px; }
  .bare-stage .viewer-main { grid-template-rows: minmax(0, 1fr); }
  .button.turn { opacity: 1; }
  .differences th { width: 88px; }
}
@media (max-width: 400px) {
  .viewer-bar { padding-inline: 8px; }
  .viewer-bar > .tools, .file-actions { gap: 1px; }
  .file-actions { margin-inline-end: 0; }
  .side-box .actions .button { padding-inline: 7px; gap: 4px; }
}
@media (max-width: 340px) { .side-box .actions .button { font-size: .75rem; } }
@media (max-height: 480px) {
  .selection { flex-wrap: nowrap; overflow-x: auto; scrollbar-width: thin; }
  .selection > * { flex: none; }
}
@media (any-pointer: coarse) {
  /* A finger can't hover, and it needs more room than a mouse. */
  .tile .pick, .button.turn { opacity: 1; }
  .tile .pick::before { content: ""; position: absolute; inset: -8px -12px -12px -8px; }
}
@media (pointer: coarse) {
  .search-bar .button.bare, .link .row .button { width: 44px; min-height: 44px; }
  .viewer-bar .button.bare { width: min(40px, 10vw); min-height: 44px; }
  .facts .button.bare, .rating .button.bare { width: 40px; min-height: 40px; }
  .button.chip, .other-day { min-height: 40px; border-radius: 20px; }
  .new-tag { min-height: 44px; }
  .selection :is(input, select, .button.slim) { min-height: 44px; }
}
@media (prefers-reduced-motion: reduce) {
  .tile.waiting { animation: none; }
}
@media (forced-colors: active) {
  .tile[aria-selected="true"], .tile.current { outline: 3px solid Highlight; outline-offset: -3px; }
  .tile:not([aria-selected="true"]) .pick .icon { visibility: hidden; }
  .thumb-mark { background: CanvasText; }
}
`;

export const gallerySheet = sheetOf(CSS);
