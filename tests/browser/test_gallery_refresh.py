"""What an open library shows after something has changed elsewhere, and that a refresh disturbs nobody."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.pages import (
    GALLERY,
    HeldRequests,
    intercept,
    open_dashboard,
    open_library,
    press,
    wait_for_state,
)
from tests.browser.scripted_catalog import ScriptedCatalog, an_asset
from tests.browser.stage import Background, Scene, dashboard_scene
from tests.servers import wait_until


def archive_one(scene: Scene, number: int = 777) -> None:
    """Archive a file of today, which makes the page ask for new assets."""
    scene.catalog.add_newest(number, name=f"fresh_{number}.png")
    scene.show(archived_files=number)


def test_an_edit_by_another_machine_is_shown_although_no_file_came_or_went_that_day(
    page: Page, library: Scene
) -> None:
    gallery = open_library(page, library)
    tile = gallery.locator('.tile[title="picture_000025_.png"]')  # of yesterday
    expect(tile.locator("img")).to_have_class("there")
    press(gallery, *["ArrowRight"] * 25, " ")
    library.catalog.assets[25] |= {"favorite": True, "tags": ["theirs"]}
    archive_one(library)
    expect(tile.locator(".star")).to_be_visible()
    # The selection knows their tag, too: adding another one keeps it.
    gallery.get_by_role("toolbar").get_by_label("Add tag").fill("ours")
    with page.expect_response(lambda answer: answer.request.method == "PATCH"):
        page.keyboard.press("Enter")
    assert library.catalog.assets[26]["tags"] == ["theirs", "ours"]


def test_the_viewer_goes_on_with_what_is_loaded_while_the_catalog_does_not_answer(
    page: Page, library: Scene
) -> None:
    gallery = open_library(page, library)
    page.set_viewport_size({"width": 1280, "height": 300})
    archive_one(library)
    expect(gallery.locator('.tile[aria-posinset="1"]')).to_have_attribute("title", "fresh_777.png")
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    expect(viewer.locator("h2")).to_have_text("fresh_777.png")
    page.keyboard.press("ArrowRight")
    expect(viewer.locator("h2")).to_have_text("picture_000000_.png")
    intercept(page, "**/cloud-sync/assets?*", lambda route: route.abort())
    archive_one(library, 778)
    expect(viewer).to_contain_text("of 62")
    page.keyboard.press("ArrowLeft")
    expect(viewer.locator(".said")).to_contain_text("can't be reached")
    expect(viewer).to_be_visible()


def test_a_screen_reader_meets_the_tiles_in_their_order(page: Page, library: Scene) -> None:
    """The browser gives it the nodes in the order of the document, not by where they are placed."""
    page.set_viewport_size({"width": 700, "height": 300})
    gallery = open_library(page, library)

    def shown() -> list[int]:
        tiles = gallery.locator(".tile:not([hidden])")
        numbers = list(tiles.evaluate_all("tiles => tiles.map(tile => Number(tile.ariaPosInSet))"))
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        return numbers

    assert shown()[0] == 1
    archive_one(library)
    expect(gallery.locator('.tile[aria-posinset="1"]')).to_have_attribute("title", "fresh_777.png")
    few = len(shown())
    page.set_viewport_size({"width": 700, "height": 600})
    wait_until(lambda: len(shown()) > few, "a taller page shows more")
    press(gallery, "End")
    wait_until(lambda: shown()[0] > 1, "the first tiles have gone")
    press(gallery, "Home")
    wait_until(lambda: shown()[0] == 1, "the first tiles are back")


def test_a_tile_that_is_kept_for_later_names_no_file(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    page.set_viewport_size({"width": 1280, "height": 300})
    kept = gallery.locator(".tile[hidden]")
    expect(kept).not_to_have_count(0)
    assert kept.evaluate_all("tiles => tiles.filter((tile) => tile.id || tile.ariaPosInSet).length") == 0


@pytest.mark.parametrize("library", [0], indirect=True)
def test_the_months_beside_the_timeline_belong_to_the_search(page: Page, library: Scene) -> None:
    for number in range(80):
        model, first = ("spring", datetime(2025, 5, 9)) if number % 2 else ("autumn", datetime(2025, 11, 9))
        moment = first - timedelta(days=number // 4 % 2)
        asset = an_asset(number, moment, name=f"{model}_{number}.png")
        library.catalog.assets.append(asset)
    library.catalog.assets.sort(key=lambda asset: str(asset["created_at"]), reverse=True)
    page.set_viewport_size({"width": 700, "height": 400})
    gallery = open_library(page, library, "&q=spring")
    marks = gallery.locator(".marks")
    expect(marks).to_have_text("May 2025")
    gallery.get_by_role("combobox").fill("autumn")
    expect(gallery.locator(".day").first).to_contain_text("November")
    expect(marks).to_have_text("Nov 2025")


def test_a_search_that_finds_nothing_for_a_while_leaves_the_viewer_open(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    expect(viewer.locator("h2")).to_have_text("picture_000000_.png")
    kept, library.catalog.assets = library.catalog.assets, []
    library.show(archived_files=61)
    expect(gallery.locator(".message")).to_contain_text("Nothing is archived yet.")
    library.catalog.assets = kept
    library.show(archived_files=62)
    expect(gallery.locator(".message p")).to_have_text("")
    expect(viewer).to_contain_text("1 of 60")
    expect(gallery.locator(".said")).to_be_hidden()


def test_a_date_that_is_being_typed_survives_a_refresh(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    gallery.get_by_role("button", name="Filters").click()
    field = gallery.get_by_label("Another day")
    field.focus()
    page.keyboard.type("11112")  # Chromium has a date from the first digit of the year on
    archive_one(library)
    expect(gallery.locator(".line")).to_contain_text("61 files")
    expect(field).to_be_focused()
    page.keyboard.type("026")
    expect(gallery.get_by_role("combobox")).to_have_value("since:2026-11-11 until:2026-11-11")
    assert not any("since:0" in str(query) for _, _, query in library.catalog.calls)


def test_a_page_that_comes_to_the_front_is_refreshed_at_once(fresh_page: Page, library: Scene) -> None:
    page = fresh_page
    noon = datetime.fromisoformat(library.catalog.assets[0]["created_at"]).replace(tzinfo=None)
    page.clock.install(time=noon)
    gallery = open_library(page, library)
    expect(gallery.locator(".day").first).to_contain_text("Today")
    # In the background nothing is asked for; the tab comes back a day later.
    page.evaluate(
        """() => {
          Object.defineProperty(document, "hidden", { value: true, configurable: true });
          const real = window.fetch;
          window.refreshes = 0;
          window.fetch = (...call) => {
            if (String(call[0]).includes("/facets")) refreshes += 1;
            return real(...call);
          };
        }"""
    )
    page.clock.fast_forward(24 * 3600 * 1000)
    assert page.evaluate("refreshes") == 0
    page.clock.pause_at(noon.replace(hour=23, minute=59) + timedelta(days=1))
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    page.clock.run_for(1000)
    assert page.evaluate("refreshes") >= 1
    expect(gallery.locator(".day").first).to_contain_text("Yesterday")


def test_the_first_status_counts_as_no_new_file(fresh_page: Page, library: Scene) -> None:
    page = fresh_page
    page.clock.install(time=datetime.now())
    library.model.status |= {"archived_files": 60}
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_library(page, library)
    wait_for_state(page, "idle")
    page.clock.run_for(1_000)  # after a new file a refresh comes within 0.6 s, else after 30 s
    assert len([url for url in asked if "/cloud-sync/facets" in url]) == 1


def test_a_refresh_waits_for_the_answer_of_the_one_before(fresh_page: Page, library: Scene) -> None:
    page = fresh_page
    page.clock.install(time=datetime.now())
    library.catalog.loading = {"searched": 40, "total": 100}  # a refresh comes every 2 s
    gallery = open_library(page, library)
    held = HeldRequests(page, "**/cloud-sync/facets*")
    library.catalog.add_newest(777)
    for _ in range(5):
        page.clock.run_for(2_000)
        held.wait("the refresh is under way")
    assert len(held.routes) == 1
    held.release()
    expect(gallery.locator(".line")).to_contain_text("61 files")


def test_a_file_that_goes_leaves_no_tile_behind_where_two_pages_meet(
    page: Page, background: Background
) -> None:
    with dashboard_scene(background, ScriptedCatalog(150, per_day=150)) as scene:
        gallery = open_library(page, scene)
        gallery.locator(".scroller").evaluate("root => { root.scrollTop = root.scrollHeight / 2; }")
        expect(gallery.locator('.tile[title="picture_000100_.png"]')).to_be_visible()
        expect(gallery.locator('.tile[title="picture_000099_.png"]')).to_be_visible()
        del scene.catalog.assets[0]
        scene.show(archived_files=777)
        expect(gallery.locator('.tile[aria-posinset="101"]')).to_have_attribute(
            "title", "picture_000101_.png"
        )
        shown = gallery.locator(".tile:not([hidden])")
        places = shown.evaluate_all("tiles => tiles.map((tile) => tile.ariaPosInSet)")
        assert len(places) == len(set(places)), "each place has one tile"


def test_the_library_in_a_tab_of_its_own_reads_the_event_stream(fresh_page: Page, library: Scene) -> None:
    page = fresh_page
    with page.expect_response("**/cloud-sync/events"):
        page.goto(f"{library.address}/library.html")
    gallery = page.locator(GALLERY)
    expect(gallery.locator(".line")).to_contain_text("60 files")
    intercept(page, "**/cloud-sync/status", lambda route: route.abort())
    archive_one(library)
    expect(gallery.locator(".line")).to_contain_text("61 files")
    expect(gallery.locator(".note-line")).to_be_hidden()


def test_a_turn_stays_right_if_a_file_comes_while_it_loads(page: Page, background: Background) -> None:
    with dashboard_scene(background, ScriptedCatalog(300, per_day=300)) as scene:
        gallery = open_library(page, scene)
        viewer = gallery.get_by_role("dialog", name="Viewer")
        count = viewer.locator(".viewer-bar .num")
        press(gallery, *["ArrowRight"] * 98, "Enter")
        expect(viewer.locator("h2")).to_have_text("picture_000098_.png")
        held = HeldRequests(page, re.compile(r"/assets\?.*after="))
        archive_one(scene)
        expect(count).to_have_text("100 of 301")
        page.keyboard.press("ArrowRight")
        expect(count).to_have_text("101 of 301")
        held.wait("the next page is asked for")
        archive_one(scene, 778)
        expect(count).to_have_text("102 of 302")
        held.release()
        expect(viewer.locator("h2")).to_have_text("picture_000099_.png")
        page.keyboard.press("ArrowRight")
        expect(viewer.locator("h2")).to_have_text("picture_000100_.png")
        page.keyboard.press("ArrowLeft")
        expect(viewer.locator("h2")).to_have_text("picture_000099_.png")


@pytest.mark.parametrize("library", [0], indirect=True)
def test_an_empty_library_claims_nothing_of_a_store_that_is_away(page: Page, library: Scene) -> None:
    message = page.locator(f"{GALLERY} .message")
    page.goto(f"{library.address}/?library")
    expect(message).to_contain_text("Nothing is archived yet.")
    library.show(state="retrying", safe_to_stop=False)
    expect(message).to_have_text("No files to show.")
    library.show(state="idle", safe_to_stop=True)
    expect(message).to_contain_text("Nothing is archived yet.")


def test_a_library_without_settings_points_to_them(page: Page, library: Scene) -> None:
    library.model.status |= {"state": "not_configured", "running": False, "safe_to_stop": False}
    open_dashboard(page, library.address)
    wait_for_state(page, "not_configured")
    page.get_by_role("button", name="Library").click()
    expect(page.locator(f"{GALLERY} .message")).to_have_text(re.compile("once the archive is configured"))
    assert library.catalog.calls == [], "there is no catalog to ask"


def test_files_that_are_not_read_yet_are_mentioned_only_in_a_search(page: Page, library: Scene) -> None:
    library.catalog.unread = 2
    gallery = open_library(page, library)
    note = gallery.locator(".note-line")
    expect(note).to_be_hidden()
    gallery.get_by_role("combobox").fill("picture")
    expect(note).to_contain_text("2 files have not been read yet")


def test_a_refresh_leaves_the_focus_on_the_button_of_a_message(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    gallery.get_by_role("combobox").fill("nothing-like-this")
    clear = gallery.get_by_role("button", name="Clear search")
    clear.focus()
    library.catalog.unread = 2
    archive_one(library)
    expect(gallery.locator(".note-line")).to_contain_text("2 files have not been read yet")
    expect(clear).to_be_focused()


def test_pictures_are_loaded_again_once_the_bucket_can_be_read(page: Page, library: Scene) -> None:
    asked = []

    def answer_as_an_icon(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(response=route.fetch(), headers={"Cache-Control": "no-store"})

    intercept(page, f"**/{library.catalog.assets[0]['id']}/thumbnail*", answer_as_an_icon)
    library.catalog.trouble = "Nothing answers at the endpoint."
    gallery = open_library(page, library)
    first = gallery.locator('.tile[aria-posinset="1"] img.there')
    expect(first).to_be_visible()
    assert len(asked) == 1
    library.catalog.trouble = None
    library.show(archived_files=61)
    expect(gallery.locator(".note-line")).to_be_hidden()
    expect(first).to_be_visible()
    assert len(asked) == 2
    # In Firefox a page keeps the picture of an address.
    expect(first).to_have_attribute("src", re.compile("#1$"))
