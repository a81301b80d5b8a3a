/** The only file here that knows ComfyUI: the sidebar tab with its badge, the commands, the notifications. */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { definePanel } from "./archive_panel.js";
import { splitPath } from "./format.js";
import { Notifier } from "./notifier.js";
import { shownState } from "./panel/header.js";
import { StatusClient } from "./status_client.js";
import { translator } from "./strings.js";

const TAB = "cloud-archive";
const EVENT = "cloud-sync.status";
const SETTINGS = { notifications: "CloudArchive.Notifications", badge: "CloudArchive.Badge" };

const ICONS = {
  idle: "pi pi-cloud",
  checking: "pi pi-cloud",
  loading: "pi pi-cloud",
  standby: "pi pi-cloud",
  stopped: "pi pi-cloud",
};
const BADGE_MS = 1000;
const ALARMS = ["attention", "unavailable", "unreachable", "not_configured", "retrying"];

/** Fetch and listen through ComfyUI's own client, so that its base path and login stay in force. */
const transport = {
  fetch: (path, options) => api.fetchApi(path, options),
  listen(on) {
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

const client = new StatusClient(transport);
const preference = (id) => app.extensionManager.setting.get(id);
const locale = () => preference("Comfy.Locale") || "en";

/** ComfyUI's own `/view` of an output, for the pictures in the list. */
function thumbnailUrl(path) {
  const [subfolder, filename] = splitPath(path);
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type: "output" })}`);
}

/**
 * A notification that goes away by itself, whatever the frontend's version.
 *
 * @param {"success"|"error"|"info"} severity
 */
function notify(severity, summary, detail, life) {
  const toast = app.extensionManager.toast;
  // From 1.57 there is one function for each kind, and `add` is deprecated.
  if (typeof toast[severity] === "function") toast[severity](summary, { description: detail, duration: life });
  else toast.add({ severity, summary, detail, life });
}

let panel = null;
let badgeState = "";
let badgeAt = 0;

function openTab() {
  const sidebar = app.extensionManager.sidebarTab;
  if (sidebar?.activeSidebarTabId !== TAB) sidebar?.toggleSidebarTab(TAB);
}

const tab = {
  id: TAB,
  icon: "pi pi-cloud",
  title: "Cloud Archive",
  tooltip: "Cloud Archive",
  type: "custom",
  render(element) {
    definePanel();
    panel?.remove();
    panel = document.createElement("cloud-archive-panel");
    panel.heading = true;
    panel.thumbnailUrl = thumbnailUrl;
    panel.locale = locale();
    panel.client = client;
    element.style.height = "100%";
    element.append(panel);
  },
  destroy() {
    panel?.remove();
    panel = null;
  },
};

/** The icon and its badge: pending files as a number, "!" where somebody should look. */
function showBadge() {
  const shown = app.extensionManager.getSidebarTabs?.().find((each) => each.id === TAB);
  if (!shown) return;
  const t = translator(locale());
  const state = shownState(client);
  const pending = client.status?.pending_files ?? 0;
  // Each change makes the frontend draw the button anew, and up to 1.27 its tooltip then keeps three listeners:
  // a running number changes once a second at most, a state at once.
  const key = [state, pending > 0, client.status?.failed_files > 0, locale(), preference(SETTINGS.badge)].join();
  if (key === badgeState && Date.now() - badgeAt < BADGE_MS) return;
  badgeState = key;
  badgeAt = Date.now();
  const alarm = ALARMS.includes(state) || client.status?.failed_files > 0;
  const number = pending > 999 ? "999+" : String(pending);
  const badge = alarm ? "!" : pending > 0 ? number : null;
  const values = {
    icon: ICONS[state] ?? (alarm ? "pi pi-cloud" : "pi pi-cloud-upload"),
    iconBadge: preference(SETTINGS.badge) === false ? null : badge,
    tooltip: t("tab.tooltip", { state: t(`state.${state}`) }),
  };
  for (const [name, value] of Object.entries(values)) {
    if (shown[name] !== value) shown[name] = value;
  }
}

/** Carry out an action from a command or menu; what came of it is said once. */
async function act(name) {
  const t = translator(locale());
  try {
    const answer = await client.post(`/cloud-sync/${name}`);
    notify("success", t("name"), answer.message ?? "", 4000);
  } catch (error) {
    notify("error", t("name"), t("action.failed", { reason: error.message }), 8000);
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
      openTab();
      // The tab renders in the frontend's next turn.
      requestAnimationFrame(() => requestAnimationFrame(() => panel?.askForUpload()));
    },
  },
  { id: "CloudArchive.Open", label: "Cloud Archive: Open panel", icon: "pi pi-cloud", function: openTab },
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
    const notifier = new Notifier((severity, key, values, life) => {
      if (preference(SETTINGS.notifications) === false) return;
      const t = translator(locale());
      notify(severity, t(key), t(`${key}.detail`, values), life);
    });
    client.addEventListener("change", () => {
      showBadge();
      if (client.reachable) notifier.see(client.status);
    });
    // The frontend changes its language without a reload; so does the panel.
    app.ui?.settings?.addEventListener?.("Comfy.Locale.change", () => {
      showBadge();
      if (panel) panel.locale = locale();
    });
    client.start();
  },
});
