// @ts-check
/** Pictures, videos and downloads, by address, or as a copy in memory where requests need the daemon's token. */

/** @typedef {import("../status_client.js").StatusClient} StatusClient */

/** How long a copy is kept for a download or a new tab. */
export const RELEASE_AFTER_MS = 60_000;

/**
 * Return an address that an element can load, and a function that releases it.
 *
 * @param {StatusClient} client
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<{url: string, release: () => void}>}
 */
export async function openMedia(client, path, signal) {
  const url = client.url(path);
  if (url !== null) return { url, release: () => {} };
  const made = URL.createObjectURL(await client.blob(path, signal));
  return { url: made, release: () => URL.revokeObjectURL(made) };
}

/**
 * Show the first of some pictures that can be loaded. Returns a function that removes it or stops loading.
 *
 * @param {StatusClient} client
 * @param {HTMLImageElement} image
 * @param {string[]} paths  in order of preference; emptied
 * @param {() => void} failed  called if none of them can be shown
 */
export function showPicture(client, image, paths, failed) {
  const ended = new AbortController();
  let release = () => {};
  const attempt = async () => {
    const path = paths.shift();
    release();
    release = () => {};
    if (path === undefined) {
      failed();
      return;
    }
    try {
      const opened = await openMedia(client, path, ended.signal);
      if (ended.signal.aborted) {
        opened.release();
        return;
      }
      release = opened.release;
      image.src = opened.url;
    } catch {
      if (!ended.signal.aborted) attempt();
    }
  };
  image.addEventListener("error", attempt, { signal: ended.signal });
  attempt();
  return () => {
    ended.abort();
    image.removeAttribute("src");
    release();
  };
}

/**
 * @param {StatusClient} client
 * @param {string} path
 * @param {string} name
 */
export async function download(client, path, name) {
  const { url, release } = await openMedia(client, path);
  saveAs(url, name);
  setTimeout(release, RELEASE_AFTER_MS);
}

/**
 * @param {string} url
 * @param {string} name
 */
function saveAs(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}
