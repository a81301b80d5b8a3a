"""What the library's search field and its filters suggest."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.pages import HeldRequests, open_library, press
from tests.browser.stage import Scene


def test_suggestions_complete_fields_and_values(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    field = gallery.get_by_role("combobox")
    field.press_sequentially("mo")
    gallery.get_by_role("option", name="model:").click(button="right")
    expect(field).to_have_value("mo")
    field.press("ArrowDown")
    field.press("Enter")
    expect(field).to_have_value("model:")
    field.press_sequentially("jug")
    field.press("ArrowDown")
    field.press("Enter")
    expect(field).to_have_value("model:juggernautXL_v9.safetensors ")
    expect(gallery.locator(".line")).to_contain_text("20 files")
    field.fill("fox model:jug")
    for key in ("Home", "ArrowDown", "Enter"):
        field.press(key)
    expect(field).to_have_value("fox model:juggernautXL_v9.safetensors ")


def test_a_term_that_is_being_typed_does_not_limit_its_own_suggestions(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    field = gallery.get_by_role("combobox")
    field.fill("model:jugs")
    expect(gallery.get_by_text("Nothing matches this search.")).to_be_visible()
    field.press("Backspace")
    expect(gallery.get_by_role("option", name="model:juggernautXL_v9.safetensors")).to_contain_text("20")
    # The other terms do limit them.
    field.fill("dunes ")
    expect(gallery.locator(".line")).to_contain_text("12 files")
    field.press_sequentially("model:jug")
    expect(gallery.get_by_role("option", name="model:juggernautXL_v9.safetensors")).to_contain_text("4")


def test_a_query_that_is_no_query_yet_does_not_say_that_nothing_matches(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    field = gallery.get_by_role("combobox")
    field.fill("nothing-like-this")
    expect(gallery.get_by_text("Nothing matches this search.")).to_be_visible()
    library.catalog.failure = (400, 'q: "type:vi": accepted are image, video.')
    field.fill("type:vi")
    expect(gallery.locator(".line")).to_contain_text('"type:vi": accepted are image, video.')
    expect(gallery.get_by_text("Nothing matches this search.")).to_be_hidden()


def test_a_search_that_was_replaced_does_not_limit_suggestions(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    field = gallery.get_by_role("combobox")
    field.fill("model:juggernautXL_v9.safetensors ")
    expect(gallery.locator(".line")).to_contain_text("20 files")
    field.fill("model:flux")
    expect(gallery.get_by_role("option").first).to_contain_text("model:flux")


def test_other_files_can_be_filtered_and_are_suggested(page: Page, library: Scene) -> None:
    library.catalog.assets[0]["mime_type"] = "application/zip"
    gallery = open_library(page, library)
    gallery.get_by_role("button", name="Filters").click()
    filters = gallery.get_by_role("group", name="Filters")
    expect(filters.get_by_role("button", name="Image")).to_be_visible()
    expect(filters.get_by_role("button", name=re.compile("^File"))).to_be_visible()
    gallery.get_by_role("combobox").fill("type:")
    expect(gallery.get_by_role("option", name="type:image")).to_be_visible()
    expect(gallery.get_by_role("option", name="type:other")).to_be_visible()


def test_the_enter_key_goes_from_the_search_to_the_files_and_from_there_to_the_viewer(
    page: Page, library: Scene
) -> None:
    gallery = open_library(page, library)
    press(gallery, "/")
    page.keyboard.type("dunes")
    expect(gallery.locator(".line")).to_contain_text("12 files")
    page.keyboard.press("Enter")
    expect(gallery.locator(".list-box")).to_be_focused()
    page.keyboard.press("Enter")
    expect(gallery.get_by_role("dialog", name="Viewer").locator(".prompt").first).to_contain_text("dunes")


def test_the_enter_key_waits_for_the_files_and_stays_in_the_field_without_any(
    page: Page, library: Scene
) -> None:
    gallery = open_library(page, library)
    held = HeldRequests(page, re.compile("/facets"))
    press(gallery, "/")
    page.keyboard.type("dunes")
    page.keyboard.press("Enter")
    held.wait("the search")
    field = gallery.get_by_role("combobox")
    expect(field).to_be_focused()  # the files in view are those of the search before
    held.release()
    expect(gallery.locator(".list-box")).to_be_focused()
    expect(gallery.locator(".line")).to_contain_text("12 files")
    field.fill("nothing-like-this")
    page.keyboard.press("Enter")
    expect(gallery.get_by_text("Nothing matches this search.")).to_be_visible()
    expect(field).to_be_focused()


def test_the_enter_key_that_ends_a_composition_stays_in_the_field(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "/")
    field = gallery.get_by_role("combobox")
    devtools = page.context.new_cdp_session(page)
    devtools.send("Input.imeSetComposition", {"text": "dunes", "selectionStart": 5, "selectionEnd": 5})
    expect(gallery.locator(".line")).to_contain_text("12 files")
    page.keyboard.press("Enter")
    expect(field).to_be_focused()
    devtools.send("Input.insertText", {"text": "dunes"})
    in_safari = {"type": "rawKeyDown", "key": "Enter", "windowsVirtualKeyCode": 229}
    devtools.send("Input.dispatchKeyEvent", in_safari)
    expect(field).to_be_focused()
    devtools.send("Input.dispatchKeyEvent", in_safari | {"type": "keyUp"})
    devtools.detach()
    page.keyboard.press("Enter")
    expect(gallery.locator(".list-box")).to_be_focused()
