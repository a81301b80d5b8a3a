"""Select files of the library: a range that is not loaded yet, and by touch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import a_page
from tests.browser.pages import GALLERY, HeldRequests, intercept, open_library, press
from tests.browser.scripted_catalog import ScriptedCatalog, an_asset
from tests.browser.stage import Background, Scene, dashboard_scene
from tests.servers import wait_until


@pytest.fixture
def library(background: Background, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """The daemon's page with this many assets, 150 a day, so that each day has two pages."""
    with dashboard_scene(background, ScriptedCatalog(getattr(request, "param", 600), per_day=150)) as scene:
        yield scene


def go_to_end(gallery: Locator) -> Locator:
    """Scroll to the last tile, past pages that are never loaded; return it."""
    gallery.locator(".scroller").evaluate("root => { root.scrollTop = root.scrollHeight; }")
    last = gallery.locator('.tile[title="picture_000599_.png"]')
    expect(last).to_be_visible()
    expect(gallery.locator(".tile.waiting:not([hidden])")).to_have_count(0)
    return last


def test_shift_and_click_select_files_that_are_not_loaded_yet(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    bar = gallery.get_by_role("toolbar", name="Selected files")
    gallery.locator('.tile[aria-posinset="1"]').click(modifiers=["Control"])
    expect(bar).to_contain_text("1 selected")
    go_to_end(gallery).click(modifiers=["Shift"])
    expect(bar).to_contain_text("600 selected")
    press(gallery, "Escape")
    expect(bar).to_be_hidden()


def test_a_range_stays_between_its_two_files_while_newer_ones_come(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    bar = gallery.get_by_role("toolbar", name="Selected files")
    gallery.locator('.tile[aria-posinset="2"]').click(modifiers=["Control"])
    library.catalog.add_newest(777, name="fresh_777.png")
    library.show(archived_files=777)
    expect(gallery.locator('.tile[aria-posinset="1"]')).to_have_attribute("title", "fresh_777.png")
    newest_day = re.compile(f"/cloud-sync/assets.*since%3A{library.catalog.assets[1]['created_at'][:10]}")
    held = HeldRequests(page, newest_day)
    # A refresh makes the newest day's page stale, so that the range needs it again.
    library.show(archived_files=778)
    held.wait("the newest day is asked for")
    go_to_end(gallery).click(modifiers=["Shift"])
    library.catalog.add_newest(778, name="fresh_778.png")
    library.show(archived_files=779)
    expect(gallery.locator(".line")).to_contain_text("602 files")
    held.release()
    expect(bar).to_contain_text("599 selected")


def test_a_range_misses_no_file_when_one_came_without_an_event(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    bar = gallery.get_by_role("toolbar", name="Selected files")
    gallery.locator('.tile[aria-posinset="1"]').click(modifiers=["Control"])
    last = go_to_end(gallery)
    # A refresh that comes by itself would find the file before the range does.
    refreshes = HeldRequests(page, "**/cloud-sync/facets*")
    library.show(archived_files=777)
    refreshes.wait("a refresh is held")
    yesterday = library.catalog.assets[150]["created_at"]
    library.catalog.assets.insert(150, an_asset(777, datetime.fromisoformat(yesterday), name="other.png"))
    with page.expect_response(re.compile(f"/cloud-sync/assets.*since%3A{yesterday[:10]}")):
        last.click(modifiers=["Shift"])
    refreshes.release()
    expect(gallery.locator(".line")).to_contain_text("601 files")
    expect(bar).to_contain_text("600 selected")
    # All four days are equally high, so yesterday ends in the middle.
    gallery.locator(".scroller").evaluate("it => { it.scrollTop = (it.scrollHeight - it.clientHeight) / 2; }")
    oldest_of_yesterday = gallery.locator('.tile[title="picture_000299_.png"]')
    expect(oldest_of_yesterday).to_have_attribute("aria-selected", "true")


def test_a_range_whose_own_refresh_is_overtaken_misses_no_file_either(
    fresh_page: Page, library: Scene
) -> None:
    page = fresh_page
    page.clock.install(time=datetime.now())
    gallery = open_library(page, library)
    gallery.locator('.tile[aria-posinset="1"]').click(modifiers=["Control"])
    last = go_to_end(gallery)
    with page.expect_event("requestfinished", lambda request: "/cloud-sync/facets" in request.url):
        page.clock.pause_at(datetime.now() + timedelta(minutes=2))  # no refresh comes by itself now
    held = HeldRequests(page, "**/cloud-sync/facets*")
    yesterday = datetime.fromisoformat(library.catalog.assets[150]["created_at"])
    library.catalog.assets.insert(150, an_asset(777, yesterday, name="other.png"))
    last.click(modifiers=["Shift"])
    held.wait("the range asks for the new timeline")
    page.clock.run_for(31_000)
    wait_until(lambda: page.evaluate("true") and len(held.routes) == 2, "a refresh has overtaken it")
    held.release()
    page.clock.resume()
    expect(gallery.locator(".line")).to_contain_text("601 files")
    expect(gallery.get_by_role("toolbar", name="Selected files")).to_contain_text("600 selected")
    gallery.locator(".scroller").evaluate("root => { root.scrollTop = root.scrollHeight / 4; }")
    newest_of_yesterday = gallery.locator('.tile[title="picture_000150_.png"]')
    expect(newest_of_yesterday).to_have_attribute("aria-selected", "true")
    expect(gallery.locator('.tile[title="other.png"]')).to_have_attribute("aria-selected", "false")


@pytest.mark.parametrize("library", [2_500], indirect=True)
def test_a_range_that_is_too_long_is_refused_with_the_limit(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, " ", "Shift+End")
    expect(gallery.locator(".said")).to_have_text("Up to 2,000 files can be selected at once.")
    expect(gallery.get_by_role("toolbar", name="Selected files")).to_contain_text("1 selected")


def test_a_range_whose_files_cant_be_loaded_says_why(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    bar = gallery.get_by_role("toolbar", name="Selected files")
    gallery.locator('.tile[aria-posinset="1"]').click(modifiers=["Control"])
    last = go_to_end(gallery)
    intercept(
        page,
        "**/cloud-sync/assets?*",
        lambda route: route.fulfill(status=503, json={"message": "It is busy."}),
    )
    last.click(modifiers=["Shift"])
    expect(gallery.locator(".said")).to_have_text("It is busy.")
    expect(bar).not_to_contain_text("600 selected")


@pytest.mark.parametrize("width", [360, 1024])
def test_a_touch_screen_shows_where_to_select_and_turn(browser: Browser, library: Scene, width: int) -> None:
    with a_page(browser, has_touch=True, is_mobile=True, viewport={"width": width, "height": 700}) as (
        page,
        _,
    ):
        gallery = open_library(page, library)
        first, second = (gallery.locator(f'.tile[aria-posinset="{place}"]') for place in (1, 2))
        expect(first.locator(".pick")).to_have_css("opacity", "1")
        box = first.locator(".pick").bounding_box()
        assert box is not None
        # A finger is not exact.
        page.touchscreen.tap(box["x"] + box["width"] + 6, box["y"] + box["height"] + 6)
        expect(gallery.get_by_role("toolbar", name="Selected files")).to_contain_text("1 selected")
        second.tap()
        viewer = page.locator(GALLERY).get_by_role("dialog", name="Viewer")
        expect(viewer.get_by_role("button", name="Next")).to_have_css("opacity", "1")
