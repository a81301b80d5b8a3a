// @ts-check
/** The extension in ComfyUI's frontend. Only this file imports ComfyUI's own modules. */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { defineApp } from "./archive_app.js";
import { canvasActions, takeDrops } from "./canvas_actions.js";
import { splitPath } from "./format.js";
import { Notifier } from "./notifier.js";
import { shownState } from "./panel/header.js";
import { reasonOf, StatusClient } from "./status_client.js";
import { translator } from "./strings.js";

/** @typedef {import("./archive_app.js").ArchiveApp} ArchiveApp */
/** @typedef {import("./types.d.ts").FileRow} FileRow */
/** @typedef {"success"|"error"|"warn"} Severity */

const TAB = "cloud-archive";
const EVENT = "cloud-sync.status";
const LANGUAGE = "Comfy.Locale";
const SETTINGS = { notifications: "CloudArchive.Notifications", badge: "CloudArchive.Badge" };
const BADGE_MS = 1000;
const MOST_IN_BADGE = 99;
const ALARMS = ["attention", "unavailable", "unreachable", "retrying"];
const QUIET = ["idle", "checking", "loading", "standby", "stopped", "not_configured"];

/** @type {Record<string, {severity: Severity, life: number, files?: string}>} */
const TOASTS = {
  "toast.retrying": { severity: "warn", life: 10_000, files: "retrying" },
  "toast.failed": { severity: "error", life: 10_000, files: "given_up" },
  "toast.recovered": { severity: "success", life: 6_000 },
  "toast.done": { severity: "success", life: 6_000 },
};

/**
 * Fetch and listen through ComfyUI's own client, so that its base path and login are used.
 *
 * @type {import("./status_client.js").Transport}
 */
const transport = {
  fetch: (path, options) => api.fetchApi(path, options),
  url: (path) => api.apiURL(path),
  listen(on) {
    /** @type {Record<string, (event: CustomEvent) => void>} */
    const listeners = {
      [EVENT]: (event) => on.status(event.detail),
      reconnecting: () => on.lost(),
      reconnected: () => on.restored(),
    };
    for (const [name, listener] of Object.entries(listeners)) api.addEventListener(name, listener);
    return () => {
      for (const [name, listener] of Object.entries(listeners)) api.removeEventListener(name, listener);
    };
  },
};

// Without a listener, the frontend logs "Unknown message type" for a push that comes before `setup`.
api.addEventListener(EVENT, () => {});

const client = new StatusClient(transport);
/** @type {ArchiveApp|null} */
let shown = null;
/** @type {"status"|"library"} */
let view = "status";
let query = "";
/** @type {import("./types.d.ts").Place|null} */
let place = null;
/** @type {string|null} */
let chosenLanguage = null; // from the change event, which may come before the setting changes
let badgeState = "";
let badgeAt = 0;

/** @param {string} id */
const preference = (id) => app.extensionManager.setting.get(id);
const locale = () => String(chosenLanguage ?? preference(LANGUAGE) ?? "en");

/** @param {string} path  below ComfyUI's output directory */
function picturePath(path) {
  const [subfolder, filename] = splitPath(path);
  return `/view?${new URLSearchParams({ filename, subfolder, type: "output" })}`;
}

/**
 * Show a notification whose button opens the panel. Before frontend 1.57 there is no button: see `openFromToast`.
 *
 * @param {Severity} severity
 * @param {string} summary
 * @param {string} detail
 * @param {number} life  milliseconds
 */
function notify(severity, summary, detail, life) {
  const toast = app.extensionManager.toast;
  // From 1.57 there is one function for each kind, and `add` is deprecated.
  const modern = toast[severity === "warn" ? "warning" : severity];
  if (typeof modern === "function") {
    const action = { label: translator(locale())("toast.open"), onClick: () => openTab("status") };
    modern.call(toast, summary, { description: detail, duration: life, action });
  } else toast.add({ severity, summary, detail, life });
}

/** Open the panel after a click on one of our notifications, but not on its close button. @param {Event} event */
function openFromToast(event) {
  const { target } = event;
  if (!(target instanceof Element) || target.closest("button")) return;
  if (target.closest(".p-toast-message")?.textContent?.includes("Cloud Archive")) openTab("status");
}

/**
 * Return "name: cause" of the newest file in this state, or null.
 *
 * @param {string} state
 */
async function newestProblem(state) {
  try {
    /** @type {{files: FileRow[]}} */
    const { files } = await client.get("/cloud-sync/files", { state, limit: 1 });
    const [file] = files;
    return file ? `${splitPath(file.path)[1]}: ${translator(locale()).server(file.cause ?? "")}` : null;
  } catch {
    return null;
  }
}

/**
 * @param {import("./notifier.js").Key} key
 * @param {Record<string, unknown>} values
 */
async function showToast(key, values) {
  if (preference(SETTINGS.notifications) === false) return;
  const t = translator(locale());
  const { severity, life, files } = TOASTS[key];
  const detail = (files && (await newestProblem(files))) || t(`${key}.detail`, values);
  notify(severity, t(key), detail, life);
}

/** @param {"status"|"library"} [wanted]  which view to show */
function openTab(wanted) {
  if (wanted) view = wanted;
  if (shown && wanted) shown.view = wanted;
  const sidebar = app.extensionManager.sidebarTab;
  if (sidebar?.activeSidebarTabId !== TAB) sidebar?.toggleSidebarTab(TAB);
}

const tab = {
  id: TAB,
  icon: "pi pi-cloud",
  title: "Cloud Archive",
  tooltip: "Cloud Archive",
  type: "custom",
  /** @param {HTMLElement} element */
  render(element) {
    defineApp();
    shown?.remove();
    shown = /** @type {ArchiveApp} */ (document.createElement("cloud-archive-app"));
    shown.picturePath = picturePath;
    shown.locale = locale();
    shown.client = client;
    shown.canvas = canvasActions(app, client, locale);
    shown.fullPage = new URL("./library.html", import.meta.url).href;
    shown.view = view;
    shown.query = query;
    shown.place = place;
    for (const change of ["viewchange", "placechange"]) shown.addEventListener(change, () => shown && ({ view, query, place } = shown));
    element.style.height = "100%";
    element.append(shown);
  },
  destroy() {
    shown?.remove();
    shown = null;
  },
};

/** Update the tab's icon, tooltip and badge: the number of pending files, or "!" where something needs attention. */
function showBadge() {
  const button = app.extensionManager.getSidebarTabs?.().find((each) => each.id === TAB);
  if (!button) return;
  const t = translator(locale());
  const state = shownState(client);
  const pending = client.status?.pending_files ?? 0;
  const failed = client.status?.failed_files ?? 0;
  // At each change the frontend draws the button again; 1.27 leaks three listeners each time. So a new number is shown
  // at most once a second, but a new state at once.
  const key = [state, pending > 0, failed > 0, locale(), preference(SETTINGS.badge)].join();
  if (key === badgeState && performance.now() - badgeAt < BADGE_MS) return;
  badgeState = key;
  badgeAt = performance.now();
  const alarm = ALARMS.includes(state) || failed > 0;
  const number = pending > MOST_IN_BADGE ? `${MOST_IN_BADGE}+` : String(pending);
  const badge = alarm ? "!" : pending > 0 ? number : null;
  const values = {
    icon: alarm || QUIET.includes(state) ? "pi pi-cloud" : "pi pi-cloud-upload",
    iconBadge: preference(SETTINGS.badge) === false ? null : badge,
    tooltip: t("tab.tooltip", { state: t(`state.${state}`) }),
  };
  if (button.icon !== values.icon) button.icon = values.icon;
  if (button.iconBadge !== values.iconBadge) button.iconBadge = values.iconBadge;
  if (button.tooltip !== values.tooltip) button.tooltip = values.tooltip;
}

/** Send an action, and show its result in a notification. @param {string} name  of the route, such as "rescan" */
async function act(name) {
  const t = translator(locale());
  try {
    const answer = await client.post(`/cloud-sync/${name}`);
    notify("success", t("name"), t.server(answer.message ?? ""), 4000);
  } catch (error) {
    notify("error", t("name"), reasonOf(error, t), 8000);
  }
}

const commands = [
  { id: "CloudArchive.Start", label: "Cloud Archive: Start", icon: "pi pi-play", function: () => act("start") },
  { id: "CloudArchive.Stop", label: "Cloud Archive: Stop", icon: "pi pi-stop", function: () => act("stop") },
  { id: "CloudArchive.Rescan", label: "Cloud Archive: Rescan", icon: "pi pi-refresh", function: () => act("rescan") },
  { id: "CloudArchive.RetryAll", label: "Cloud Archive: Retry all", icon: "pi pi-replay", function: () => act("retry") },
  {
    id: "CloudArchive.UploadNow",
    label: "Cloud Archive: Upload now",
    icon: "pi pi-cloud-upload",
    function: () => {
      openTab("status");
      // By the second frame the frontend has rendered the tab.
      requestAnimationFrame(() => requestAnimationFrame(() => shown?.panel?.askForUpload()));
    },
  },
  { id: "CloudArchive.Open", label: "Cloud Archive: Open panel", icon: "pi pi-cloud", function: () => openTab() },
  { id: "CloudArchive.Library", label: "Cloud Archive: Open library", icon: "pi pi-images", function: () => openTab("library") },
];

app.registerExtension({
  name: "CloudArchive",
  commands,
  menuCommands: [{ path: ["Extensions", "Cloud Archive"], commands: commands.map((command) => command.id) }],
  settings: [
    {
      id: SETTINGS.badge,
      category: ["Cloud Archive", "Sidebar", "Badge"],
      name: "Show the number of waiting files on the icon",
      type: "boolean",
      defaultValue: true,
      onChange: () => showBadge(),
    },
    {
      id: SETTINGS.notifications,
      category: ["Cloud Archive", "Sidebar", "Notifications"],
      name: "Notify when uploads fail, recover, or finish after a long queue",
      type: "boolean",
      defaultValue: true,
    },
  ],
  setup() {
    app.extensionManager.registerSidebarTab(tab);
    const notifier = new Notifier(showToast);
    client.addEventListener("change", () => {
      showBadge();
      if (client.reachable) notifier.see(client.status);
    });
    // The frontend changes its language without a reload.
    app.ui?.settings?.addEventListener?.(`${LANGUAGE}.change`, (/** @type {CustomEvent} */ event) => {
      chosenLanguage = event.detail?.value ?? null;
      showBadge();
      if (shown) shown.locale = locale();
    });
    document.addEventListener("click", openFromToast);
    takeDrops(app, client, locale, (text, good) => notify(good ? "success" : "error", translator(locale())("name"), text, 5000));
    client.start();
  },
});
