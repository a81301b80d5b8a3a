/**
 * The daemon's own page: the panel, fed by server-sent events.
 *
 * ComfyUI imports every script in this folder; this one does nothing on a page that is not the daemon's.
 */

import { definePanel } from "./archive_panel.js";
import { StatusClient } from "./status_client.js";

const EVENT = "cloud-sync.status";
const AGAIN_MS = 3_000;

/** Fetch and listen on the origin that served this page. */
function serverTransport(base) {
  const address = (path) => new URL(path.replace(/^\//, ""), base);
  return {
    fetch: (path, options) => fetch(address(path), options),
    listen(on) {
      let source = null;
      let timer = null;
      let lost = false;
      const connect = () => {
        source = new EventSource(address("/cloud-sync/events"));
        source.addEventListener(EVENT, (event) => on.status(JSON.parse(event.data)));
        source.addEventListener("open", () => {
          if (lost) on.restored();
          lost = false;
        });
        source.addEventListener("error", () => {
          lost = true;
          on.lost();
          // The browser tries again by itself after a broken connection, but not after a refusal.
          if (source.readyState !== EventSource.CLOSED) return;
          clearTimeout(timer);
          timer = setTimeout(connect, AGAIN_MS);
        });
      };
      connect();
      return () => {
        clearTimeout(timer);
        source.close();
      };
    },
  };
}

const place = document.getElementById("cloud-archive-dashboard");
if (place) {
  definePanel();
  const client = new StatusClient(serverTransport(document.baseURI));
  const panel = document.createElement("cloud-archive-panel");
  panel.locale = navigator.language;
  panel.client = client;
  document.documentElement.lang = navigator.language;
  place.replaceChildren(panel);
  client.start();
  // A page that the browser keeps for "back" must not hold its stream.
  addEventListener("pagehide", () => client.stop());
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
}
