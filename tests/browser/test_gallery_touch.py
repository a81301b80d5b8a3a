"""The library under a finger."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.clips import tone
from tests.browser.conftest import a_page
from tests.browser.pages import intercept, open_library
from tests.browser.stage import Scene

_PHONE = {"has_touch": True, "is_mobile": True, "viewport": {"width": 380, "height": 760}}


def swipe(page: Page, over: Locator, dx: int, dy: int = 0) -> None:
    """Move a finger from the upper half of an element."""
    box = over.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 4
    devtools = page.context.new_cdp_session(page)
    for kind, share in (("touchStart", 0.0), ("touchMove", 0.3), ("touchMove", 1.0), ("touchEnd", 1.0)):
        points = [] if kind == "touchEnd" else [{"x": x + dx * share, "y": y + dy * share}]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    devtools.detach()


def pinch(page: Page, over: Locator) -> None:
    """Move two fingers apart in the middle of an element."""
    box = over.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    devtools = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 20), ("touchMove", 30), ("touchMove", 60), ("touchMove", 100)):
        points = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    devtools.detach()


def test_a_swipe_turns_to_the_next_or_the_previous_file(browser: Browser, library: Scene) -> None:
    library.catalog.assets[2] |= {"name": "clip.ogg", "mime_type": "audio/ogg"}
    with a_page(browser, **_PHONE) as (page, console):
        sound = f"**/{library.catalog.assets[2]['id']}/content"
        intercept(page, sound, lambda route: route.fulfill(body=tone(), content_type="audio/wav"))
        gallery = open_library(page, library)
        gallery.locator('.tile[aria-posinset="1"]').tap()
        viewer = gallery.get_by_role("dialog", name="Viewer")
        stage, count = viewer.locator(".stage"), viewer.locator(".viewer-bar .num")
        expect(count).to_have_text("1 of 60")
        swipe(page, stage, -120)
        expect(count).to_have_text("2 of 60")
        swipe(page, stage, 20)  # too short
        swipe(page, stage, 60, 120)  # down
        swipe(page, stage, -120)
        expect(count).to_have_text("3 of 60")
        player = viewer.locator("audio")
        expect(player).to_be_visible()
        swipe(page, player, -120)  # that is for the player's slider
        swipe(page, stage, 120)
        expect(count).to_have_text("2 of 60")
        expect(stage.locator("img.whole")).to_be_visible()
        for _ in range(3):
            viewer.get_by_role("button", name="Zoom in").tap()
        expect(stage).to_have_class("stage zoomed")
        swipe(page, stage, -120)  # moves the picture
        expect(stage.locator("img.whole")).to_have_attribute("style", re.compile(r"translate\(-\d"))
        expect(count).to_have_text("2 of 60")
        assert console.complaints == []


def test_a_page_that_fingers_have_zoomed_is_moved_by_a_finger(browser: Browser, library: Scene) -> None:
    library.catalog.assets[1] |= {"name": "mesh.glb", "mime_type": "model/gltf-binary"}
    with a_page(browser, **_PHONE) as (page, _):
        gallery = open_library(page, library)
        gallery.locator('.tile[aria-posinset="2"]').tap()
        viewer = gallery.get_by_role("dialog", name="Viewer")
        stage, count = viewer.locator(".stage"), viewer.locator(".viewer-bar .num")
        expect(stage.locator(".none")).to_be_visible()
        pinch(page, stage)
        page.wait_for_function("visualViewport.scale > 1.3 && visualViewport.offsetLeft > 20")
        swipe(page, stage, 120)
        page.wait_for_function("visualViewport.offsetLeft === 0")
        swipe(page, stage, 120)  # there is no more to see on this side
        swipe(page, stage, -60)
        page.wait_for_function("visualViewport.offsetLeft > 20")
        expect(count).to_have_text("2 of 60")


@pytest.mark.parametrize("size", [(380, 760), (760, 360)])
@pytest.mark.parametrize("library", [3000], indirect=True)
def test_a_phone_shows_mostly_pictures(browser: Browser, library: Scene, size: tuple[int, int]) -> None:
    width, height = size
    with a_page(browser, **_PHONE | {"viewport": {"width": width, "height": height}}) as (page, _):
        gallery = open_library(page, library)
        expect(page.get_by_role("heading", name="Cloud Archive")).to_have_count(1)
        assert _height(gallery.locator(".scroller")) > height / 2
        gallery.locator('.tile[aria-posinset="1"]').tap()
        bar = gallery.locator(".viewer-bar").first
        expect(bar).to_contain_text("1 of 3,000")
        expect(bar.get_by_role("button")).to_have_count(7)
        assert _height(bar) < 70, "one row"


def _height(node: Locator) -> float:
    box = node.bounding_box()
    assert box is not None
    return box["height"]
