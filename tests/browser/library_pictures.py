"""Take pictures of the library, narrow and wide, dark and light.

`python -m tests.browser.library_pictures DIRECTORY [dark|light]` writes them.

For people who work on it, and for the pictures in the README. It asserts nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.pages import open_comfy, toggle_tab
from tests.browser.scripted_catalog import ScriptedCatalog
from tests.browser.stage import (
    CHROMIUM_ARGUMENTS,
    Background,
    Scene,
    comfy_scene,
    current_frontend,
    dashboard_scene,
)
from tests.chromium import find_chromium

_QUIET = {"Comfy.Workflow.ShowMissingNodesWarning": False, "Comfy.Minimap.Visible": False}


SHAPES = ((768, 768), (1216, 704), (768, 1024), (1152, 768), (704, 1216), (1344, 640), (896, 896))


def a_catalog() -> ScriptedCatalog:
    """Return three weeks of pictures with a few favourites, tags and a rating."""
    catalog = ScriptedCatalog(300, per_day=14, shapes=SHAPES)
    catalog.picture_size = (1100, 1100)
    for number, asset in enumerate(catalog.assets):
        asset["favorite"] = number % 9 == 3
        asset["rating"] = 5 if number % 9 == 3 else 0
        asset["tags"] = ["cover"] if number % 7 == 0 else []
    catalog.assets[5]["tags"] = ["nsfw"]
    return catalog


def _shoot(page: Page, target: Path, name: str) -> None:
    missing = page.locator("cloud-archive-gallery .tile:not([hidden]):not(.waiting) img:not(.there)")
    if not page.locator("cloud-archive-gallery dialog[open]").count():  # behind a dialog no picture is loaded
        expect(missing).to_have_count(0, timeout=90_000)
    page.wait_for_timeout(500)  # pictures fade in
    page.screenshot(path=target / f"{name}.png")


def _page_states(page: Page, scene: Scene, target: Path, scheme: str) -> None:
    for width in (312, 1400):
        page.set_viewport_size({"width": width, "height": 860})
        page.goto(f"{scene.address}/?library")
        gallery = page.locator("cloud-archive-gallery")
        gallery.locator(".tile:not(.waiting)").first.wait_for()
        _shoot(page, target, f"timeline-{width}-{scheme}")
        _original_shapes(page)
        _shoot(page, target, f"shapes-{width}-{scheme}")
        gallery.get_by_role("button", name="Filters").click()
        _shoot(page, target, f"filters-{width}-{scheme}")
        gallery.get_by_role("combobox").fill("mo")
        _shoot(page, target, f"suggestions-{width}-{scheme}")
        gallery.get_by_role("combobox").fill("nothing-like-this")
        _shoot(page, target, f"no-match-{width}-{scheme}")
        gallery.get_by_role("combobox").fill("")
        gallery.get_by_role("button", name="Filters").click()
        timeline = gallery.locator(".list-box")
        gallery.locator(".tile:not(.waiting)").first.wait_for()
        timeline.focus()
        for key in (" ", "ArrowRight", " "):
            page.keyboard.press(key)
        _shoot(page, target, f"selection-{width}-{scheme}")
        gallery.get_by_role("button", name="Compare").click()
        _shoot(page, target, f"compare-{width}-{scheme}")
        page.keyboard.press("Escape")
        timeline.focus()
        for key in ("Escape", "ArrowRight", "ArrowRight", "Enter"):
            page.keyboard.press(key)
        _shoot(page, target, f"viewer-{width}-{scheme}")
        gallery.get_by_role("dialog", name="Viewer").get_by_role("button", name="Share").click()
        _shoot(page, target, f"share-{width}-{scheme}")
        gallery.get_by_role("dialog", name="Share").get_by_role("button", name="Create link").click()
        _shoot(page, target, f"shared-{width}-{scheme}")
        page.evaluate("localStorage.clear()")


def _original_shapes(page: Page) -> None:
    gallery = page.locator("cloud-archive-gallery")
    gallery.get_by_role("button", name="View options").click()
    gallery.get_by_role("button", name="Original shape").click()
    page.keyboard.press("Escape")


def _honest_states(page: Page, scene: Scene, target: Path, scheme: str) -> None:
    catalog, everything = scene.catalog, scene.catalog.assets

    def partial() -> None:
        catalog.loading = {"searched": 40_000, "total": 1_000_000}

    def missing_right() -> None:
        catalog.loading = None
        right = "the right s3:ListBucket is missing. Give them that right, or set CLOUD_ARCHIVE_GALLERY=own."
        catalog.trouble = f"These credentials may not read the catalog in the bucket: {right}"

    def store_away() -> None:
        catalog.trouble = None
        scene.model.status |= {"state": "retrying", "safe_to_stop": False}

    def empty() -> None:
        scene.model.status |= {"state": "idle", "safe_to_stop": True}
        catalog.assets = []

    def catalog_off() -> None:
        catalog.failure = (503, "The catalog is turned off: CLOUD_ARCHIVE_CATALOG is off.")

    def gallery_off() -> None:
        catalog.failure = (403, "The library is turned off: CLOUD_ARCHIVE_GALLERY is off.")

    for prepare in (partial, missing_right, store_away, empty, catalog_off, gallery_off):
        prepare()
        for width in (312, 1400):
            page.set_viewport_size({"width": width, "height": 620})
            page.goto(f"{scene.address}/?library")
            page.locator("cloud-archive-gallery .line").wait_for(state="attached")
            _shoot(page, target, f"{prepare.__name__}-{width}-{scheme}")
    catalog.failure, catalog.assets = None, everything
    for width in (260, 2560):
        page.set_viewport_size({"width": width, "height": 1200})
        page.goto(f"{scene.address}/library.html")
        page.locator("cloud-archive-gallery .tile:not(.waiting)").first.wait_for()
        _shoot(page, target, f"tab-{width}-{scheme}")


def _comfy(browser: Browser, background: Background, target: Path, scheme: str) -> None:
    settings = {**_QUIET, "Comfy.ColorPalette": scheme}
    with comfy_scene(background, current_frontend(), target, settings, a_catalog()) as scene:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(150_000)
        open_comfy(page, scene.address)
        page.wait_for_selector("#splash-loader", state="detached")
        page.evaluate("app.graph.clear()")
        toggle_tab(page)
        page.locator("cloud-archive-app").get_by_role("button", name="Library").click()
        gallery = page.locator("cloud-archive-gallery")
        gallery.locator(".tile:not(.waiting)").first.wait_for()
        _shoot(page, target, f"comfyui-{scheme}-312")
        edge = page.evaluate("document.querySelector('cloud-archive-app').getBoundingClientRect().right")
        page.mouse.move(edge + 2, 400)
        page.mouse.down()
        page.mouse.move(920, 400, steps=4)
        page.mouse.up()
        _shoot(page, target, f"comfyui-{scheme}")
        gallery.locator(".tile:not(.waiting)").nth(2).click()
        _shoot(page, target, f"comfyui-{scheme}-viewer")
        page.close()


def main(target: Path, schemes: Sequence[str] = ("dark", "light")) -> None:
    """Write the pictures into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    background = Background()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_ARGUMENTS))
        for scheme in schemes:
            _comfy(browser, background, target, scheme)
            with dashboard_scene(background, a_catalog()) as scene:
                context = browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
                context.set_default_timeout(150_000)
                page = context.new_page()
                _page_states(page, scene, target, scheme)
                _honest_states(page, scene, target, scheme)
                context.close()
        browser.close()
    background.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ("dark", "light"))
