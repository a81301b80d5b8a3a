"""Measure the library's page with many assets in a real Chromium: first tiles, typing, scrolling, memory.

`python -m tests.benchmarks library [ASSETS]`. The engine, its catalog and its page are real, on a store in memory; the
thumbnails come from the test, a few pictures again and again.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, Route, sync_playwright

from cloud_archive.api.server import build_application
from tests.benchmarks.catalog_million import fill
from tests.browser.sample_pictures import paint
from tests.browser.stage import CHROMIUM_ARGUMENTS, Background
from tests.chromium import find_chromium
from tests.functional.archives import engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until

QUERY = "snow portrait city night forest"
KEY_MS = 70  # between two keys: a fast typist
STEP = 4_800  # pixels of one scroll
_WATCH = """() => {
  window.seen = {tiles: 0, picture: 0, tasks: []};
  const note = list => { for (const task of list.getEntries()) seen.tasks.push([task.startTime, task.duration]); };
  new PerformanceObserver(note).observe({type: 'longtask', buffered: true});
  const inside = (root, name) => root?.querySelector(name)?.shadowRoot;
  const look = () => {
    const gallery = inside(inside(document, 'cloud-archive-app'), 'cloud-archive-gallery');
    if (!seen.tiles && gallery?.querySelector('.tile:not(.waiting):not([hidden])')) seen.tiles = performance.now();
    if (!seen.picture && gallery?.querySelector('.tile img.there')) seen.picture = performance.now();
    if (!seen.picture) requestAnimationFrame(look);
  };
  look();
}"""
_SCROLL = """async ([step, back]) => {
  const root = document.querySelector('cloud-archive-app').shadowRoot.querySelector('cloud-archive-gallery').shadowRoot;
  const scroller = root.querySelector('.scroller');
  const frames = []; let most = 0; let last = performance.now();
  const end = scroller.scrollHeight - scroller.clientHeight;
  for (let at = 0; at < end; at += step) {
    scroller.scrollTop = back ? end - at : at;
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - last); last = now;
    most = Math.max(most, root.querySelectorAll('*').length);
  }
  scroller.scrollTop = back ? 0 : end;
  return [frames, most];
}"""


def _heap(devtools: CDPSession) -> float:
    """Return the megabytes of the scripts' heap after a garbage collection."""
    for _ in range(2):
        devtools.send("HeapProfiler.collectGarbage")
    metrics = {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}
    return float(metrics["JSHeapUsedSize"]) / 1e6


def _since(page: Page, begin: float) -> list[float]:
    tasks: list[list[float]] = page.evaluate("() => seen.tasks")
    return [duration for start, duration in tasks if start >= begin]


def _opening(page: Page, address: str) -> None:
    times: list[tuple[float, float]] = []
    for _ in range(5):
        page.goto(f"{address}/?library")
        page.wait_for_function("() => window.seen.picture")
        seen: dict[str, float] = page.evaluate("() => seen")
        times.append((seen["tiles"], seen["picture"]))
    for place, name in enumerate(("first tiles", "first picture")):
        found = sorted(one[place] for one in times)
        print(f"{name} after opening: {found[2]:.0f} ms, at most {found[-1]:.0f} ms", flush=True)


def _typing(page: Page) -> None:
    field = page.locator("cloud-archive-gallery").get_by_role("combobox")
    begin = float(page.evaluate("() => performance.now()"))
    field.press_sequentially(QUERY, delay=KEY_MS)
    page.wait_for_timeout(1_500)
    tasks = _since(page, begin)
    print(
        f"typing {len(QUERY)} letters: {len(tasks)} tasks over 50 ms, longest {max(tasks, default=0):.0f} ms",
        flush=True,
    )
    field.fill("")
    page.wait_for_timeout(1_500)


def _scrolling(page: Page, devtools: CDPSession) -> None:
    heaps = [_heap(devtools)]
    for again in range(2):
        begin = float(page.evaluate("() => performance.now()"))
        frames: list[float] = []
        for back in (False, True):
            found: list[Any] = page.evaluate(_SCROLL, [STEP, back])
            frames += found[0]
            page.wait_for_timeout(1_500)
        tasks = _since(page, begin)
        heaps.append(_heap(devtools))
        p95 = statistics.quantiles(frames, n=20)[-1]
        print(
            f"through all and back, time {again + 1}: {len(frames)} frames, median {statistics.median(frames):.1f} ms,"
            f" p95 {p95:.1f} ms, {found[1]} nodes at most, {len(tasks)} tasks over 50 ms,"
            f" longest {max(tasks, default=0):.0f} ms",
            flush=True,
        )
    print("heap before, after the first and the second time: " + ", ".join(f"{one:.1f} MB" for one in heaps))


def main(assets: int = 100_000) -> int:
    """Print the figures. Returns the exit status."""
    pictures = []
    for number in range(20):
        written = io.BytesIO()
        paint(number % 5, number, (320, 320)).save(written, "WEBP", quality=75)
        pictures.append(written.getvalue())

    def thumbnail(route: Route) -> None:
        body = pictures[hash(route.request.url) % len(pictures)]
        route.fulfill(body=body, content_type="image/webp")

    background = Background()
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        base = Path(directory)
        with engine_on(base / "output", MemoryStore(), base / "state") as engine:
            wait_until(lambda: engine.status().running, "running", 60)
            took = fill(engine.catalog().database, assets)
            print(f"{assets:,} assets, added in {took:.0f} s; load {os.getloadavg()[0]:.1f}", flush=True)
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=list(CHROMIUM_ARGUMENTS)
            )
            with background.serving(build_application(engine, token=None)) as address:
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.set_default_timeout(120_000)
                page.route("**/thumbnail", thumbnail)
                page.add_init_script(f"({_WATCH})()")
                devtools = page.context.new_cdp_session(page)
                devtools.send("Performance.enable")
                _opening(page, address)
                _typing(page)
                _scrolling(page, devtools)
                print(f"load {os.getloadavg()[0]:.1f}")
                page.close()
            browser.close()
    background.close()
    return 0
