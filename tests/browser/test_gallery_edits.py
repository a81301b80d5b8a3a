"""Edits on a slow or failing line: what the user typed stays, and quick edits don't undo each other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from playwright.sync_api import Page, Route, expect

from tests.browser.pages import HeldRequests, intercept, open_library, press
from tests.browser.scripted_catalog import ScriptedCatalog
from tests.browser.stage import Background, Scene, dashboard_scene
from tests.servers import wait_until

BUSY = "The catalog is busy."


@pytest.fixture
def library(background: Background) -> Iterator[Scene]:
    """The daemon's page with some assets."""
    with dashboard_scene(background, ScriptedCatalog(12)) as scene:
        yield scene


def test_a_tag_that_was_not_saved_stays_in_its_field(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    refused = "**/cloud-sync/assets/*"
    intercept(page, refused, lambda route: route.fulfill(status=503, json={"message": BUSY}))
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
    intercept(page, "**/cloud-sync/assets/*", lambda route: held.append(route), times=1)
    with page.expect_request("**/cloud-sync/assets/*"):
        viewer.get_by_role("button", name="Remove tag one").click()
    viewer.get_by_role("button", name="Remove tag two").click()
    held[0].continue_()
    expect(viewer.get_by_role("button", name="Remove tag")).to_have_count(1)
    assert library.catalog.assets[0]["tags"] == ["three"]


@pytest.mark.parametrize("place", ["selection", "viewer"])
def test_a_tag_that_the_page_does_not_know_yet_stays(page: Page, library: Scene, place: str) -> None:
    asset = library.catalog.assets[0]
    asset["tags"] = ["old"]
    gallery = open_library(page, library)
    press(gallery, " " if place == "selection" else "Enter")
    part = gallery.get_by_role("toolbar" if place == "selection" else "dialog")
    if place == "viewer":
        expect(part.get_by_role("button", name="Remove tag")).to_have_count(1)
    changed = page.request.patch(
        f"{library.address}/cloud-sync/assets/{asset['id']}", data={"tags": ["theirs"]}
    )
    assert changed.ok
    part.get_by_label("Add tag").fill("ours")
    with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        page.keyboard.press("Enter")
    assert asset["tags"] == ["theirs", "ours"]


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


@pytest.mark.parametrize(
    ("query", "assets"), [("tag:draft", {"tags": ["draft"]}), ("is:favorite", {"favorite": True})]
)
def test_the_timeline_follows_an_edit_in_the_viewer_as_soon_as_that_closes(
    fresh_page: Page, library: Scene, query: str, assets: dict[str, Any]
) -> None:
    page = fresh_page
    for asset in library.catalog.assets[:3]:
        asset |= assets
    page.clock.install(time=datetime.now())
    gallery = open_library(page, library, f"&q={query}")
    press(gallery, "ArrowRight", "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    expect(viewer.locator("h2")).to_have_text("picture_000001_.png")
    page.clock.pause_at(datetime.now() + timedelta(minutes=2))  # no refresh comes by itself
    if "tags" in assets:
        viewer.get_by_role("button", name="Remove tag draft").click()
        expect(viewer.get_by_role("button", name="Remove tag draft")).to_have_count(0)
    else:
        page.keyboard.press("f")
        expect(viewer.get_by_role("button", name="Favorite")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Escape")
    expect(gallery.locator(".list-box")).to_be_focused()
    page.clock.run_for(1_000)
    expect(gallery.locator(".line")).to_contain_text("2 files")
    page.clock.run_for(1_000)
    expect(gallery.locator('.tile[aria-posinset="2"]')).to_have_attribute("title", "picture_000002_.png")


def test_an_edit_in_the_timeline_that_ends_a_match_makes_the_next_file_current(
    page: Page, library: Scene
) -> None:
    for asset in library.catalog.assets[:5]:
        asset["favorite"] = True
    gallery = open_library(page, library, "&q=is:favorite")
    press(gallery, "ArrowRight", "ArrowRight", "f")
    expect(gallery.locator(".line")).to_contain_text("4 files")
    expect(gallery.locator(".tile.current")).to_have_attribute("title", "picture_000003_.png")


@pytest.mark.parametrize(("start", "key", "neighbour"), [(1, "ArrowRight", 2), (4, "ArrowLeft", 3)])
def test_the_viewer_turns_to_the_neighbour_of_a_file_that_the_search_no_longer_finds(
    page: Page, library: Scene, start: int, key: str, neighbour: int
) -> None:
    for asset in library.catalog.assets[:5]:
        asset["tags"] = ["draft"]
    gallery = open_library(page, library, "&q=tag:draft")
    press(gallery, *["ArrowRight"] * start, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    viewer.get_by_role("button", name="Remove tag draft").click()
    expect(viewer.get_by_role("button", name="Remove tag draft")).to_have_count(0)
    held = HeldRequests(page, "**/cloud-sync/assets?*")
    library.show(archived_files=61)
    expect(viewer).to_contain_text("of 4")
    # The key is pressed while the page does not know yet which file has taken its place.
    viewer.get_by_role("button", name="Next" if key == "ArrowRight" else "Previous").press(key)
    held.release()
    expect(viewer.locator("h2")).to_have_text(f"picture_{neighbour:06}_.png")


def test_the_open_form_shows_edits_of_other_machines_and_keeps_what_is_typed(
    page: Page, library: Scene
) -> None:
    gallery = open_library(page, library)
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    field = viewer.get_by_label("Add tag")
    field.fill("ours")
    note = viewer.get_by_role("textbox", name="Note")
    library.catalog.assets[0] |= {"tags": ["theirs"], "favorite": True, "rating": 3, "note": "from elsewhere"}
    library.show(archived_files=61)
    expect(viewer.get_by_role("button", name="Remove tag theirs")).to_be_visible()
    expect(viewer.get_by_role("button", name="Favorite")).to_have_attribute("aria-pressed", "true")
    expect(viewer.get_by_role("radio", checked=True)).to_have_attribute("aria-label", "3 stars")
    expect(note).to_have_value("from elsewhere")
    expect(field).to_be_focused()
    page.keyboard.press("Enter")
    expect(viewer.get_by_role("button", name="Remove tag ours")).to_be_visible()
    assert library.catalog.assets[0]["tags"] == ["theirs", "ours"]
    note.fill("my own")
    library.catalog.assets[0] |= {"note": "again from elsewhere", "rating": 4}
    library.show(archived_files=62)
    expect(viewer.get_by_role("radio", checked=True)).to_have_attribute("aria-label", "4 stars")
    expect(note).to_have_value("my own")


def test_an_answer_from_before_an_edit_does_not_undo_it(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    field = viewer.get_by_label("Add tag")
    old = page.request.get(f"{library.address}/cloud-sync/assets?limit=100").json()
    held: list[Route] = []
    intercept(page, "**/cloud-sync/assets?*", lambda route: held.append(route), times=1)
    library.show(archived_files=61)
    wait_until(lambda: page.evaluate("true") and len(held) == 1, "the page is asked for")
    field.fill("one")
    page.keyboard.press("Enter")
    expect(viewer.get_by_role("button", name="Remove tag one")).to_be_visible()
    with page.expect_response("**/cloud-sync/assets?*"):
        held[0].fulfill(json=old)
    page.evaluate("new Promise(requestAnimationFrame)")
    field.fill("two")
    page.keyboard.press("Enter")
    expect(viewer.get_by_role("button", name="Remove tag two")).to_be_visible()
    assert library.catalog.assets[0]["tags"] == ["one", "two"]


def test_the_keyboard_stays_in_the_form_when_a_tag_is_removed(page: Page, library: Scene) -> None:
    library.catalog.assets[0]["tags"] = ["one", "two"]
    gallery = open_library(page, library)
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    viewer.get_by_role("button", name="Remove tag one").press("Enter")
    expect(viewer.get_by_role("button", name="Remove tag two")).to_be_focused()
    page.keyboard.press("Enter")
    expect(viewer.get_by_label("Add tag")).to_be_focused()
    assert library.catalog.assets[0]["tags"] == []


class CutOff(ScriptedCatalog):
    """Answers an edit with the beginning of an answer, as a proxy does whose server dies."""

    async def _edit(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "500"})
        await answer.prepare(request)
        await answer.write(b'{"id": ')
        assert request.transport is not None
        request.transport.close()
        return answer


def test_an_answer_that_is_cut_off_counts_as_none(page: Page, background: Background) -> None:
    with dashboard_scene(background, CutOff(12)) as scene:
        gallery = open_library(page, scene)
        press(gallery, "f")
        expect(gallery.locator(".said")).to_have_text("The server can't be reached.")


def test_a_file_that_is_hidden_leaves_a_word_how_to_find_it(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "h")
    said = gallery.locator(".said")
    expect(said).to_have_text("1 file hidden. To find it, search for is:hidden.")
