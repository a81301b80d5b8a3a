"""Edits on a slow or failing line: what the user typed stays, and quick edits don't undo each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.scripted_catalog import ScriptedCatalog
from tests.browser.stage import Background, Scene, dashboard_scene
from tests.browser.test_gallery import open_library, press

BUSY = "The catalog is busy."


@pytest.fixture
def library(background: Background) -> Iterator[Scene]:
    """The daemon's page with some assets."""
    with dashboard_scene(background, ScriptedCatalog(12)) as scene:
        yield scene


@pytest.fixture(autouse=True)
def without_routes(page: Page) -> Iterator[None]:
    """Give the next test the page without routes."""
    yield
    page.unroute_all(behavior="ignoreErrors")


def test_a_tag_that_was_not_saved_stays_in_its_field(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    refused = "**/cloud-sync/assets/*"
    page.route(refused, lambda route: route.fulfill(status=503, json={"message": BUSY}))
    press(gallery, " ")
    bar = gallery.get_by_role("toolbar").get_by_label("Add tag")
    bar.fill("for the cover")
    page.keyboard.press("Enter")
    expect(gallery.locator(".said")).to_have_text(BUSY)
    expect(bar).to_have_value("for the cover")
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    field = viewer.get_by_label("Add tag")
    field.fill("for the back")
    page.keyboard.press("Enter")
    expect(viewer.locator(".said")).to_have_text(BUSY)
    expect(field).to_have_value("for the back")
    page.unroute_all()
    page.keyboard.press("Enter")
    expect(viewer.get_by_role("button", name="Remove tag for the back")).to_be_visible()
    expect(field).to_have_value("")


def test_two_tags_removed_in_quick_succession_are_both_removed(page: Page, library: Scene) -> None:
    library.catalog.assets[0]["tags"] = ["one", "two", "three"]
    gallery = open_library(page, library)
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    expect(viewer.get_by_role("button", name="Remove tag")).to_have_count(3)
    held: list[Route] = []
    page.route("**/cloud-sync/assets/*", lambda route: held.append(route), times=1)
    with page.expect_request("**/cloud-sync/assets/*"):
        viewer.get_by_role("button", name="Remove tag one").click()
    viewer.get_by_role("button", name="Remove tag two").click()
    held[0].continue_()
    expect(viewer.get_by_role("button", name="Remove tag")).to_have_count(1)
    assert library.catalog.assets[0]["tags"] == ["three"]


def test_a_timeline_without_the_focus_marks_no_tile_as_current(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "ArrowRight")
    expect(gallery.locator(".tile.current")).to_have_count(1)
    expect(gallery.locator(".tile img:not(.there)")).to_have_count(0)  # nothing draws any more
    page.keyboard.press("Shift+Tab")
    assert gallery.locator(".tile.current").count() == 0


def test_clearing_the_selection_gives_the_focus_back_to_the_timeline(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "ArrowRight", " ")
    gallery.get_by_role("toolbar").get_by_role("button", name="Clear selection").press("Enter")
    expect(gallery.get_by_role("toolbar")).to_be_hidden()
    expect(gallery.locator(".list-box")).to_be_focused()
    expect(gallery.locator(".tile.current")).to_have_attribute("aria-posinset", "2")
