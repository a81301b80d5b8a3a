"""Presses that come faster than the answers, keys that are held down, and buttons of the mouse but the first."""

from __future__ import annotations

from datetime import datetime, timedelta

from playwright.sync_api import Page, expect

from tests.browser.pages import HeldRequests, open_dashboard, open_library, press
from tests.browser.scripted_model import a_file, a_status
from tests.browser.stage import Scene
from tests.servers import wait_until

# The browser tells a dialog a moment later that it has closed.
_OPEN_AGAIN = """(root, [opener, event, options]) => new Promise(resolve => {
  const dialog = [...root.shadowRoot.querySelectorAll("dialog[open]")].at(-1);
  dialog.addEventListener("close", () => setTimeout(resolve));
  dialog.close();
  root.shadowRoot.querySelector(opener).dispatchEvent(new window[event](options.type, { bubbles: true, ...options }));
})"""


def edits_of(library: Scene) -> list[object]:
    """Return the bodies of the edits that the server got."""
    return [body for method, _, body in library.catalog.calls if method == "PATCH"]


def test_two_filters_pressed_before_the_first_answer_both_narrow_the_search(
    page: Page, library: Scene
) -> None:
    gallery = open_library(page, library)
    gallery.get_by_role("button", name="Filters").click()
    chips = gallery.locator(".filters")
    expect(chips.get_by_role("button", name="Favorite")).to_be_visible()
    held = HeldRequests(page, "**/cloud-sync/facets*")
    favorite = chips.get_by_role("button", name="Favorite")
    favorite.click()
    held.wait("the first search")
    expect(favorite).to_have_attribute("aria-pressed", "true")
    chips.get_by_role("button", name="Hidden").click()
    expect(gallery.get_by_role("combobox")).to_have_value("is:favorite is:hidden")
    favorite.click()
    expect(gallery.get_by_role("combobox")).to_have_value("is:hidden")
    held.release()


def test_a_filter_pressed_while_the_user_types_narrows_what_is_typed(
    fresh_page: Page, library: Scene
) -> None:
    page = fresh_page
    page.clock.install(time=datetime.now())
    gallery = open_library(page, library)
    gallery.get_by_role("button", name="Filters").click()
    favorite = gallery.locator(".filters").get_by_role("button", name="Favorite")
    expect(favorite).to_be_visible()
    page.clock.pause_at(datetime.now() + timedelta(minutes=2))  # the search for the typed text waits
    field = gallery.get_by_role("combobox")
    field.fill("dunes")
    favorite.click()
    expect(field).to_have_value("dunes is:favorite")
    page.clock.run_for(1_000)
    expect(field).to_have_value("dunes is:favorite")
    expect(favorite).to_have_attribute("aria-pressed", "true")
    field.fill("dunes")
    favorite.click()
    page.clock.run_for(1_000)
    expect(field).to_have_value("dunes is:favorite")


def test_two_presses_on_older_before_the_first_answer_turn_one_page(page: Page, dashboard: Scene) -> None:
    dashboard.model.files = [a_file(f"{number}.png") for number in range(80)]
    dashboard.model.status = a_status(archived_files=80)
    panel = open_dashboard(page, dashboard.address)
    place = panel.locator(".pager .num")
    expect(place).to_have_text("Files 1 to 25")
    held = HeldRequests(page, "**/cloud-sync/files?*cursor=25*")
    older = panel.get_by_role("button", name="Older")
    older.dblclick()
    held.wait("the second page")
    held.release()
    expect(place).to_have_text("Files 26 to 50")
    expect(panel.locator(".found .base").first).to_have_text("25.png")
    older.click()
    expect(place).to_have_text("Files 51 to 75")


def test_a_key_pressed_twice_in_the_viewer_before_the_answer_undoes_the_first_press(
    page: Page, library: Scene
) -> None:
    gallery = open_library(page, library)
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    expect(viewer.locator("h2")).to_have_text("picture_000000_.png")
    held = HeldRequests(page, "**/cloud-sync/assets/*")
    page.keyboard.press("f")
    held.wait("the first edit")
    page.keyboard.press("f")
    page.keyboard.press("4")
    held.release()
    edits = [{"favorite": True}, {"favorite": False}, {"rating": 4}]

    wait_until(lambda: page.evaluate("true") and len(edits_of(library)) == 3, "three edits")
    assert edits_of(library) == edits


def test_a_dialog_that_is_closed_and_opened_at_once_still_has_its_files(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "Enter")
    buttons = gallery.locator(".viewer .file-actions button")
    expect(buttons).to_have_count(3)
    gallery.evaluate(_OPEN_AGAIN, [".list-box", "KeyboardEvent", {"type": "keydown", "key": "Enter"}])
    expect(gallery.locator("dialog.viewer[open]")).to_have_count(1)
    assert buttons.count() == 3
    buttons.first.click()
    gallery.evaluate(_OPEN_AGAIN, [".file-actions button", "MouseEvent", {"type": "click"}])
    gallery.get_by_role("button", name="Create link").click()
    wait_until(lambda: any("share" in path for _, path, _ in library.catalog.calls), "the order of a link")
    (order,) = (body for _, path, body in library.catalog.calls if "share" in path)
    assert order["ids"] == [library.catalog.assets[0]["id"]]


def test_a_button_for_the_selection_pressed_twice_before_the_answer_acts_once(
    page: Page, library: Scene
) -> None:
    gallery = open_library(page, library)
    press(gallery, " ", "ArrowRight", " ")
    held = HeldRequests(page, "**/cloud-sync/assets/*")
    favorite = gallery.get_by_role("toolbar").get_by_role("button", name="Favorite")
    favorite.dblclick()
    held.wait("an edit")
    expect(favorite).to_have_attribute("aria-disabled", "true")
    held.release()
    expect(gallery.locator(".tile .star:visible")).to_have_count(2)
    expect(favorite).not_to_have_attribute("aria-disabled", "true")
    favorite.click()
    expect(gallery.locator(".tile .star:visible")).to_have_count(0)
    assert edits_of(library) == [{"favorite": True}] * 2 + [{"favorite": False}] * 2


def test_keys_pressed_quickly_in_the_timeline_are_saved_in_their_order(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    held = HeldRequests(page, "**/cloud-sync/assets/*")
    press(gallery, "f")
    held.wait("the first edit")
    press(gallery, "f", "h", "h", "4")
    held.release()
    favorites = [{"favorite": True}, {"favorite": False}]
    edits = [*favorites, {"hidden": True}, {"hidden": False}, {"rating": 4}]

    wait_until(lambda: page.evaluate("true") and len(edits_of(library)) == 5, "five edits")
    assert edits_of(library) == edits


def test_a_key_that_is_held_down_edits_and_selects_once(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    timeline = gallery.locator(".list-box")
    timeline.focus()
    current = gallery.locator(".tile.current")
    for key in ("f", " "):
        page.keyboard.down(key)
        page.keyboard.down(key)  # as the keyboard repeats it
        page.keyboard.up(key)
    expect(current).to_have_attribute("aria-selected", "true")
    expect(current.locator(".star")).to_be_visible()
    page.keyboard.press("Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    expect(viewer.locator("h2")).to_have_text("picture_000000_.png")
    for _ in range(2):
        page.keyboard.down("f")
    page.keyboard.up("f")
    expect(viewer.get_by_role("button", name="Favorite")).to_have_attribute("aria-pressed", "false")
    for _ in range(2):
        page.keyboard.down("ArrowRight")
    page.keyboard.up("ArrowRight")
    expect(viewer.locator("h2")).to_have_text("picture_000002_.png")
    assert edits_of(library) == [{"favorite": True}, {"favorite": False}]


def test_only_the_first_mouse_button_moves_the_scrubber(page: Page, library: Scene) -> None:
    page.set_viewport_size({"width": 1280, "height": 400})
    gallery = open_library(page, library)
    box = gallery.locator(".scrubber").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 10, box["y"] + box["height"] * 0.6)
    page.mouse.down(button="right")
    page.mouse.up(button="right")
    assert gallery.locator(".scroller").evaluate("(node) => node.scrollTop") == 0
    page.mouse.down()
    page.mouse.up()
    assert gallery.locator(".scroller").evaluate("(node) => node.scrollTop") > 0


def test_the_scrubber_comes_once_a_smaller_window_has_no_room_for_all_files(
    page: Page, library: Scene
) -> None:
    page.set_viewport_size({"width": 1280, "height": 3000})
    gallery = open_library(page, library)
    scrubber = gallery.locator(".scrubber")
    expect(scrubber).to_be_hidden()
    held = HeldRequests(page, "**/cloud-sync/facets*")  # no refresh brings it
    page.set_viewport_size({"width": 1280, "height": 400})
    expect(scrubber).to_be_visible()
    held.release()
