"""Back, Forward and a reload on the daemon's page: what they close, what they open, and where the library begins."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import a_page
from tests.browser.pages import GALLERY, open_library, press
from tests.browser.scripted_catalog import an_asset
from tests.browser.stage import Scene
from tests.browser.test_gallery_views import original_shapes
from tests.servers import wait_until

_TOPMOST = """root => {
  const edge = root.getBoundingClientRect().top;
  const tiles = [...root.querySelectorAll(".tile:not([hidden], .waiting)")];
  const top = (tile) => tile.getBoundingClientRect().top - edge;
  const [first] = tiles.filter((tile) => top(tile) + tile.clientHeight > 0).sort((one, other) => top(one) - top(other));
  return first ? [first.title, Math.round(top(first))] : null;
}"""


def topmost(page: Page) -> list[object] | None:
    """Return the name of the topmost asset in view, and how far its tile begins below the upper edge."""
    found = page.locator(f"{GALLERY} .scroller").evaluate(_TOPMOST)
    assert found is None or isinstance(found, list)
    return found


def scroll_down(page: Page) -> list[object]:
    """Scroll to a place inside the timeline, wait until the browser's history knows it, and return the topmost."""
    scroller = page.locator(f"{GALLERY} .scroller")
    scroller.evaluate("root => { root.scrollTop = root.scrollHeight * 0.4 + 33; }")
    page.wait_for_function("history.state?.place")
    wait_until(lambda: topmost(page) is not None, "the tiles are loaded")
    found = topmost(page)
    assert found is not None
    return found


def viewer_of(page: Page) -> Locator:
    return page.locator(GALLERY).get_by_role("dialog", name="Viewer")


def depth(page: Page) -> int:
    """Return how many layers the current entry of the history has."""
    return int(page.evaluate("history.state?.layers.length ?? 0"))


def leave_by_back(page: Page) -> None:
    """Go back once, and check that this leaves the page."""
    wait_until(lambda: depth(page) == 0, "the entry of the layer is gone")
    page.go_back()
    expect(page).to_have_url("about:blank")


def test_back_closes_the_topmost_layer_and_then_leaves_the_page(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    gallery.get_by_role("button", name="Filters").click()
    press(gallery, "Enter")
    viewer = viewer_of(page)
    viewer.get_by_role("button", name="Share").click()
    share = gallery.get_by_role("dialog", name="Share")
    expect(share).to_be_visible()
    page.go_back()
    expect(share).to_be_hidden()
    expect(viewer).to_be_visible()
    page.go_back()
    expect(viewer).to_be_hidden()
    expect(gallery.locator(".filters")).to_be_visible()
    gallery.locator(".chip").first.focus()
    page.go_back()
    expect(gallery.locator(".filters")).to_be_hidden()
    expect(gallery.get_by_role("button", name="Filters")).to_have_attribute("aria-expanded", "false")
    expect(gallery.get_by_role("button", name="Filters")).to_be_focused()
    leave_by_back(page)


def test_back_closes_a_comparison_and_the_view_options(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    gallery.get_by_role("button", name="View options").click()
    menu = gallery.get_by_role("group", name="View options")
    menu.get_by_label("Tile size").focus()
    page.go_back()
    expect(menu).to_be_hidden()
    expect(gallery.get_by_role("button", name="View options")).to_be_focused()
    press(gallery, " ", "ArrowRight", " ")
    gallery.get_by_role("button", name="Compare").click()
    compare = gallery.get_by_role("dialog", name="Compare")
    expect(compare).to_be_visible()
    page.go_back()
    expect(compare).to_be_hidden()
    page.go_forward()  # a comparison can't be opened again, so this comes back
    leave_by_back(page)


def test_what_is_closed_by_key_or_button_leaves_no_entry_behind(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    viewer = viewer_of(page)
    for _ in range(3):
        press(gallery, "Enter")
        page.keyboard.press("Escape")  # perhaps before anything is loaded
    press(gallery, "Enter")
    viewer.get_by_role("button", name="Close").click()
    for _ in range(2):
        gallery.get_by_role("button", name="Filters").click()
    gallery.get_by_role("button", name="View options").click()
    page.keyboard.press("Escape")
    leave_by_back(page)


def test_a_press_that_closes_the_menu_and_opens_the_viewer_needs_one_back(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    gallery.get_by_role("button", name="View options").click()
    gallery.locator('.tile[aria-posinset="1"]').click()
    expect(viewer_of(page)).to_be_visible()
    expect(gallery.get_by_role("group", name="View options")).to_be_hidden()
    wait_until(lambda: depth(page) == 1, "one layer is left")
    page.go_back()
    expect(viewer_of(page)).to_be_hidden()
    leave_by_back(page)


def test_forward_opens_the_viewer_again(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "ArrowRight", "Enter")
    viewer = viewer_of(page)
    expect(viewer.locator("h2")).to_have_text("picture_000001_.png")
    page.keyboard.press("ArrowRight")
    expect(viewer.locator("h2")).to_have_text("picture_000002_.png")
    page.keyboard.press("Escape")
    wait_until(lambda: depth(page) == 0, "the entry is left")
    library.catalog.assets.insert(0, an_asset(777, datetime.now(), name="fresh.png"))
    library.show(archived_files=61)
    expect(gallery.locator('.tile[aria-posinset="1"]')).to_have_attribute("title", "fresh.png")
    page.go_forward()
    expect(viewer.locator("h2")).to_have_text("picture_000002_.png")
    page.go_back()
    expect(viewer).to_be_hidden()
    page.get_by_role("button", name="Status").click()
    page.go_forward()
    expect(viewer.locator("h2")).to_have_text("picture_000002_.png")
    expect(page).to_have_url(re.compile("library"))
    page.keyboard.press("Escape")
    leave_by_back(page)


def test_forward_to_a_file_that_is_not_found_now_comes_back(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "Enter")
    expect(viewer_of(page).locator("h2")).to_have_text("picture_000000_.png")
    page.wait_for_function("history.state.layers[0].data")
    page.keyboard.press("Escape")
    gallery.get_by_role("combobox").fill("dunes")
    expect(gallery.locator(".line")).to_contain_text("12 files")
    page.go_forward()
    wait_until(lambda: depth(page) == 0, "the entry is left")
    expect(viewer_of(page)).to_be_hidden()
    expect(gallery.get_by_role("combobox")).to_have_value("dunes")
    page.wait_for_function("location.search.includes('q=dunes')")
    leave_by_back(page)


def test_a_reload_opens_the_viewer_and_the_filters_again(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    gallery.get_by_role("button", name="Filters").click()
    press(gallery, "End", "Enter")
    viewer = viewer_of(page)
    page.keyboard.press("ArrowLeft")
    expect(viewer.locator("h2")).to_have_text("picture_000058_.png")
    viewer.get_by_role("button", name="Share").click()
    page.wait_for_function("history.state.layers[1].data?.place === 18 && history.state.layers.length === 3")
    for _ in range(2):
        page.reload()
        expect(viewer.locator("h2")).to_have_text("picture_000058_.png")
        wait_until(lambda: depth(page) == 2, "the share, whose links are shown once, is left")
    page.go_back()
    expect(viewer).to_be_hidden()
    expect(gallery.locator('.tile[title="picture_000058_.png"]')).to_be_in_viewport()
    expect(gallery.locator(".filters")).to_be_visible()
    page.go_back()
    expect(gallery.locator(".filters")).to_be_hidden()
    leave_by_back(page)


def test_a_filter_that_was_chosen_stays_when_back_closes_the_filters(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    gallery.get_by_role("button", name="Filters").click()
    gallery.get_by_role("button", name="flux1-dev.safetensors").click()
    expect(gallery.locator(".line")).to_contain_text("20 files")
    page.go_back()
    expect(gallery.locator(".filters")).to_be_hidden()
    expect(gallery.get_by_role("combobox")).to_have_value("model:flux1-dev.safetensors")
    expect(page).to_have_url(re.compile("flux1-dev"))
    page.reload()
    expect(gallery.locator(".line")).to_contain_text("20 files")
    leave_by_back(page)


def test_a_search_from_the_viewer_is_in_the_page_s_address(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "Enter")
    viewer_of(page).get_by_role("button", name="Search for model:juggernautXL_v9.safetensors").click()
    expect(gallery.locator(".line")).to_contain_text("20 files")
    wait_until(lambda: depth(page) == 0, "the viewer's entry is left")
    expect(page).to_have_url(re.compile("juggernaut"))
    expect(viewer_of(page)).to_be_hidden()
    leave_by_back(page)


@pytest.mark.parametrize("justified", [False, True])
@pytest.mark.parametrize("library", [600], indirect=True)
def test_a_reload_comes_back_to_the_same_place_also_if_files_came(
    page: Page, library: Scene, justified: bool
) -> None:
    gallery = open_library(page, library)
    if justified:
        original_shapes(page, gallery)
    place = scroll_down(page)
    assert place[0] != "picture_000000_.png"
    for number in range(30):  # more than a row
        library.catalog.assets.insert(0, an_asset(7000 + number, datetime.now()))
    page.reload()
    wait_until(lambda: topmost(page) == place, "the same asset is at the same height")
    page.goto("about:blank")
    page.go_back()
    wait_until(lambda: topmost(page) == place, "also after Back from another page")


@pytest.mark.parametrize("library", [600], indirect=True)
def test_the_library_comes_back_to_its_place_after_the_status(page: Page, library: Scene) -> None:
    open_library(page, library)
    place = scroll_down(page)
    page.get_by_role("button", name="Status").click()
    page.get_by_role("button", name="Library").click()
    wait_until(lambda: topmost(page) == place, "the same asset is at the same height")


@pytest.mark.parametrize("library", [600], indirect=True)
def test_a_new_search_and_another_visit_begin_at_the_top(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    scroll_down(page)
    gallery.get_by_role("combobox").fill("dunes")
    expect(gallery.locator(".line")).to_contain_text("120 files")
    wait_until(lambda: topmost(page) == ["picture_000001_.png", 34], "the search begins at the top")
    scroll_down(page)
    page.reload()
    expect(gallery.get_by_role("combobox")).to_have_value("dunes")
    wait_until(
        lambda: (topmost(page) or [""])[0] not in ("", "picture_000001_.png"), "the place in the search"
    )
    page.goto("about:blank")
    open_library(page, library)
    wait_until(lambda: topmost(page) == ["picture_000000_.png", 34], "another visit begins at the top")


@pytest.mark.parametrize("library", [600], indirect=True)
def test_each_tab_has_a_place_of_its_own(browser: Browser, library: Scene) -> None:
    with a_page(browser) as (page, _):
        open_library(page, library)
        place = scroll_down(page)
        other = page.context.new_page()
        open_library(other, library)
        wait_until(lambda: topmost(other) == ["picture_000000_.png", 34], "another tab begins at the top")
        other.reload()
        wait_until(lambda: topmost(other) == ["picture_000000_.png", 34], "and stays there")
        page.reload()
        wait_until(lambda: topmost(page) == place, "the first one comes back to its place")
