"""The library on the daemon's page: search, timeline, viewer, edits, and what it says when something is wrong."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.clips import tone
from tests.browser.pages import APP, GALLERY, intercept, open_library, press, serious_findings, wait_for_copy
from tests.browser.stage import Scene
from tests.servers import wait_until


def test_the_switch_shows_the_library_and_the_address_keeps_it(page: Page, library: Scene) -> None:
    page.goto(library.address)
    page.get_by_role("button", name="Library").click()
    gallery = page.locator(GALLERY)
    expect(gallery.locator(".line")).to_contain_text("60 files")
    gallery.get_by_role("combobox").fill("dunes")
    expect(gallery.locator(".line")).to_contain_text("12 files")
    page.wait_for_function("location.search.includes('q=dunes')")
    page.reload()
    expect(page.locator(GALLERY).get_by_role("combobox")).to_have_value("dunes")
    expect(page.locator(GALLERY).locator(".line")).to_contain_text("12 files")
    page.get_by_role("button", name="Status").click()
    expect(page.locator("cloud-archive-panel")).to_be_visible()
    expect(page).not_to_have_url(re.compile("library"))


def test_the_address_also_keeps_the_status_in_the_library_s_own_tab(page: Page, library: Scene) -> None:
    page.goto(f"{library.address}/library.html")
    page.get_by_role("button", name="Status").click()
    expect(page.locator("cloud-archive-panel")).to_be_visible()
    page.reload()
    expect(page.locator("cloud-archive-panel")).to_be_visible()


@pytest.mark.parametrize("library", [100_000], indirect=True)
def test_a_hundred_thousand_assets_are_a_few_hundred_nodes(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    expect(gallery.locator(".line")).to_contain_text("100,000 files")
    scroller = gallery.locator(".scroller")
    count = "root => root.getRootNode().querySelectorAll('*').length"
    shown = "root => root.querySelectorAll('.tile:not([hidden])').length"
    # The tiles are drawn in the frame after the scroll event.
    scroll = """async (root, share) => { root.scrollTop = root.scrollHeight * share;
      for (let frame = 0; frame < 3; frame += 1) await new Promise(requestAnimationFrame); }"""
    waiting = gallery.locator(".tile.waiting:not([hidden])")
    expect(waiting).to_have_count(0)
    nodes = [scroller.evaluate(count)]
    for _ in range(2):
        for share in (0.2, 0.4, 0.6, 0.8, 1.0, 0.7, 0.3, 0.0):
            scroller.evaluate(scroll, share)
            assert scroller.evaluate(shown) < 200
        expect(waiting).to_have_count(0)
        nodes.append(scroller.evaluate(count))
    first, once, twice = nodes
    # A spare tile that never had an asset has fewer elements; one leaked for each visit would be hundreds more.
    assert twice < once + 100, "nothing grows the second time"
    assert once < first + 1200
    press(gallery, "End")
    expect(gallery.locator(".tile.current")).to_have_attribute("aria-posinset", "100000")
    expect(gallery.locator(".tile.current")).to_have_attribute("title", "picture_099999_.png")
    days = {call[2]["q"] for call in library.catalog.calls if call[1] == "/cloud-sync/assets"}
    assert len(days) < 60, "of 5,000 days only those are fetched at which the scroller stopped"


def test_arrow_keys_move_through_days_and_enter_opens_the_viewer(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    current = gallery.locator(".tile.current")
    press(gallery, "ArrowRight", "ArrowRight")
    expect(current).to_have_attribute("aria-posinset", "3")
    press(gallery, "ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown")
    place = int(current.get_attribute("aria-posinset") or 0)
    assert place > 20, "into the next day"
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    expect(viewer).to_be_visible()
    expect(viewer).to_contain_text(f"{place} of 60")
    page.keyboard.press("ArrowRight")
    expect(viewer).to_contain_text(f"{place + 1} of 60")
    expect(viewer.locator("h2")).to_have_text(f"picture_{place:06}_.png")
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(current).to_have_attribute("aria-posinset", str(place + 1))


def test_the_viewer_shows_how_it_was_made_and_copies_all_of_a_large_seed(page: Page, library: Scene) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    gallery = open_library(page, library)
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    expect(viewer).to_contain_text("low mist over the water, soft light, number 0")
    expect(viewer).to_contain_text("juggernautXL_v9.safetensors")
    expect(viewer).to_contain_text("In the bucket, SHA-256 000000000000…")
    viewer.get_by_role("button", name="Copy Seed").click()
    wait_for_copy(page, str(2**63))
    viewer.get_by_role("button", name="Copy prompt").first.click()
    wait_for_copy(page, "a fjord at dawn", "number 0")
    page.context.clear_permissions()
    viewer.get_by_role("button", name=f"Search for seed:{2**63}").click()
    expect(gallery.get_by_role("combobox")).to_have_value(f"seed:{2**63}")
    expect(gallery.locator(".line")).to_contain_text("1 file")


def test_the_workflow_and_the_file_can_be_downloaded(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    with page.expect_download() as saved:
        viewer.get_by_role("button", name="Download workflow").click()
    assert saved.value.suggested_filename == "picture_000000_.json"
    assert json.loads(Path(saved.value.path()).read_text())["version"] == 0.4
    with page.expect_download() as saved:
        viewer.get_by_role("button", name="Download", exact=True).click()
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")


def test_zoom_by_keyboard_and_by_double_click(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "Enter")
    stage = gallery.locator(".viewer .stage").first
    expect(stage.locator("img.whole")).to_be_visible()
    page.keyboard.press("+")
    expect(stage).to_have_class("stage zoomed")
    page.keyboard.press("-")
    expect(stage).to_have_class("stage")
    page.keyboard.press("Z")  # what z gives with caps lock
    expect(stage).to_have_class("stage zoomed")
    page.keyboard.press("z")
    expect(stage).to_have_class("stage")
    stage.dblclick()
    expect(stage).to_have_class("stage zoomed")


def test_edits_are_saved_and_shown(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "f", "4")

    def edits() -> list[object]:
        return [call[2] for call in library.catalog.calls if call[0] == "PATCH"]

    wait_until(lambda: {"favorite": True} in edits() and {"rating": 4} in edits(), "both are saved")
    expect(gallery.locator(".tile.current .star")).to_be_visible()
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    expect(viewer.get_by_role("radio", checked=True)).to_have_attribute("aria-label", "4 stars")
    viewer.get_by_label("Add tag").fill("keeper")
    page.keyboard.press("Enter")
    expect(viewer.get_by_role("button", name="Remove tag keeper")).to_be_visible()
    viewer.get_by_role("textbox", name="Note").fill("for the cover")
    page.keyboard.press("Tab")
    wait_until(lambda: {"note": "for the cover"} in edits(), "the note is saved")
    assert library.catalog.assets[0]["tags"] == ["keeper"]


def test_several_are_edited_compared_and_zipped_together(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, " ", "ArrowRight", " ")
    bar = gallery.get_by_role("toolbar", name="Selected files")
    expect(bar).to_contain_text("2 selected")
    bar.get_by_label("Add tag").fill("pair")
    page.keyboard.press("Enter")
    wait_until(lambda: [a["tags"] for a in library.catalog.assets[:3]] == [["pair"], ["pair"], []], "both")
    bar.get_by_role("button", name="Compare").click()
    compare = gallery.get_by_role("dialog", name="Compare")
    expect(compare.locator("img.whole")).to_have_count(2)
    expect(compare.locator("tr.differs").first).to_contain_text("picture_000000_.png")
    page.keyboard.press("Control+z")
    assert compare.locator(".zoomed").count() == 0
    page.keyboard.press("z")
    expect(compare.locator(".zoomed")).to_have_count(2)
    page.keyboard.press("Escape")
    with page.expect_download() as saved:
        bar.get_by_role("button", name="Download ZIP").click()
    assert saved.value.suggested_filename == "cloud-archive.zip"
    ids = ",".join(asset["id"].replace("-", "") for asset in library.catalog.assets[:2])
    assert ("GET", "/cloud-sync/assets.zip", {"ids": ids}) in library.catalog.calls
    press(gallery, "Escape")
    expect(bar).to_be_hidden()


def test_filters_are_parts_of_the_query(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    gallery.get_by_role("button", name="Filters").click()
    gallery.get_by_role("button", name="flux1-dev.safetensors").click()
    expect(gallery.get_by_role("combobox")).to_have_value("model:flux1-dev.safetensors")
    expect(gallery.locator(".line")).to_contain_text("20 files")
    chip = gallery.get_by_role("button", name="flux1-dev.safetensors")
    expect(chip).to_have_attribute("aria-pressed", "true")
    chip.click()
    expect(gallery.locator(".line")).to_contain_text("60 files")


def test_nothing_known_is_no_guess(page: Page, library: Scene) -> None:
    first, second = library.catalog.assets[:2]
    first["metadata"] |= {"confidence": "low"}
    nothing = {
        "prompt": None,
        "negative_prompt": None,
        "seed": None,
        "sampler": None,
        "steps": None,
        "cfg": None,
    }
    second |= {"has_workflow": False, "has_prompt": False}
    second["metadata"] |= nothing | {"models": [], "loras": [], "confidence": "low"}
    gallery = open_library(page, library)
    press(gallery, "Enter")
    details = gallery.locator(".details")
    expect(details).to_contain_text("This is a guess")
    page.keyboard.press("ArrowRight")
    expect(details).to_contain_text("It is not known how this file was made.")
    expect(details).not_to_contain_text("guess")


def test_a_file_that_is_archived_now_appears_on_top(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    library.catalog.add_newest(777, name="fresh.png")
    library.show(archived_files=61)
    expect(gallery.locator('.tile[aria-posinset="1"]')).to_have_attribute("title", "fresh.png")
    expect(gallery.locator(".line")).to_contain_text("61 files")
    # Uploads without a pause don't delay it.
    library.catalog.add_newest(778, name="fresher.png")
    newest = gallery.locator('.tile[aria-posinset="1"]')
    counts = itertools.count(62)

    def is_there_after_one_more() -> bool:
        library.show(archived_files=next(counts))
        return newest.get_attribute("title") == "fresher.png"

    wait_until(is_there_after_one_more, "it is on top while others are archived")


def test_what_is_known_of_a_new_file_once_it_is_read_is_shown(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    fresh = library.catalog.add_newest(777, name="fresh.mp4", mime_type="video/mp4")
    library.catalog.unread = 1
    library.show(archived_files=61)
    newest = gallery.locator('.tile[aria-posinset="1"]')
    expect(newest).to_have_attribute("title", "fresh.mp4")
    expect(newest.locator(".length")).to_be_hidden()
    fresh["duration_seconds"] = 5
    library.catalog.unread = 0
    expect(newest.locator(".length")).to_have_text("0:05")


def test_a_file_that_was_replaced_gets_its_new_picture(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    image = gallery.locator('.tile[title="picture_000000_.png"] img')
    expect(image).to_have_class("there")
    before = image.get_attribute("src")
    library.catalog.assets[0]["sha256"] = "ab" * 32
    library.catalog.add_newest(777, name="fresh.png")
    library.show(archived_files=62)
    expect(gallery.locator('.tile[aria-posinset="1"]')).to_have_attribute("title", "fresh.png")
    expect(image).not_to_have_attribute("src", str(before))
    expect(image).to_have_class("there")


def test_a_refresh_during_a_search_does_not_show_the_earlier_search(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    held: list[Route] = []
    intercept(page, "**/facets?q=dunes*", lambda route: held.append(route), times=1)
    with page.expect_request("**/facets?q=dunes*"):
        gallery.get_by_role("combobox").fill("dunes")
    library.show(archived_files=777)
    expect(gallery.locator(".line")).to_contain_text("12 files")
    expect(gallery.locator('.tile[aria-posinset="1"]')).to_have_attribute("title", "picture_000001_.png")


def test_the_viewer_keeps_its_place_while_files_come(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    expect(viewer.locator("h2")).to_have_text("picture_000000_.png")
    for number in (1, 2):
        library.catalog.add_newest(776 + number, name=f"fresh_{number}.png")
        library.show(archived_files=60 + number)
        expect(viewer).to_contain_text(f"{1 + number} of {60 + number}")
    page.keyboard.press("ArrowRight")
    expect(viewer.locator("h2")).to_have_text("picture_000001_.png")
    page.keyboard.press("Escape")
    expect(gallery.locator(".tile.current")).to_have_attribute("title", "picture_000001_.png")


def test_a_phrase_that_is_not_closed_yet_finds_files(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    gallery.get_by_role("combobox").fill('"dunes at')
    expect(gallery.locator(".line")).to_contain_text("12 files")
    expect(gallery.locator('.tile[aria-posinset="1"]')).to_have_attribute("title", "picture_000001_.png")
    found = page.evaluate(
        """async () => {
          const { toggleTerm } = await import("/gallery/query.js");
          return toggleTerm('red "dunes at', "is:favorite");
        }"""
    )
    assert found == 'red "dunes at" is:favorite'


def test_hidden_files_and_chosen_tags_are_blurred(page: Page, library: Scene) -> None:
    library.catalog.assets[0]["tags"] = ["nsfw"]
    library.catalog.assets[1]["hidden"] = True
    gallery = open_library(page, library)
    tagged, hidden, other = (gallery.locator(f'.tile[aria-posinset="{place}"]') for place in (1, 2, 3))
    expect(tagged).to_have_class("tile blurred")
    expect(hidden).to_have_class("tile blurred")
    expect(other).to_have_class("tile")
    gallery.get_by_role("button", name="View options").click()
    gallery.get_by_label("Blur files with these tags").fill("")
    expect(tagged).to_have_class("tile")
    expect(hidden).to_have_class("tile blurred")


@pytest.mark.parametrize("library", [0], indirect=True)
def test_an_empty_library_says_what_to_expect(page: Page, library: Scene) -> None:
    page.goto(f"{library.address}/?library")
    expect(page.locator(f"{GALLERY} .message")).to_contain_text("Nothing is archived yet.")


def test_states_say_what_is_wrong(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    gallery.get_by_role("combobox").fill("nothing-like-this")
    expect(gallery.locator(".message")).to_contain_text("Nothing matches this search.")
    gallery.get_by_role("button", name="Clear search").click()
    expect(gallery.locator(".line")).to_contain_text("60 files")
    library.show(state="retrying")
    away = "While the store can't be reached, only files on this disk and saved previews are shown."
    expect(gallery.locator(".note-line")).to_have_text(f"Uploads wait for a retry. {away}")
    unreadable = {"file_name": "a.png", "size_bytes": 1, "reason": "unreadable"}
    library.show(state="retrying", waiting=[unreadable])
    expect(gallery.locator(".note-line")).to_be_hidden()
    library.catalog.failure = (400, 'q: There is no field "modle".')
    gallery.get_by_role("combobox").fill("modle:x")
    expect(gallery.locator(".line")).to_contain_text('There is no field "modle".')
    expect(gallery.locator(".tile").first).to_be_visible()
    library.catalog.failure = (403, "The library is turned off: CLOUD_ARCHIVE_GALLERY is off.")
    page.reload()
    expect(page.locator(f"{GALLERY} .message")).to_contain_text("CLOUD_ARCHIVE_GALLERY is off")
    library.catalog.failure = (503, "The catalog is turned off: CLOUD_ARCHIVE_CATALOG is off.")
    page.reload()
    expect(page.locator(f"{GALLERY} .message")).to_contain_text("The catalog is turned off")


@pytest.mark.parametrize("width", [260, 2560])
def test_axe_finds_nothing_serious(page: Page, library: Scene, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    gallery = open_library(page, library)
    gallery.get_by_role("button", name="Filters").click()
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    gallery.get_by_role("button", name="Filters").click()
    press(gallery, " ", "Enter")
    expect(gallery.get_by_role("dialog", name="Viewer")).to_be_visible()
    expect(gallery.locator(".viewer img.whole")).to_be_visible()
    # Elements behind a modal dialog don't count for its colours.
    assert serious_findings(page, APP, GALLERY, ".viewer") == []


def test_names_and_prompts_are_text_never_markup(page: Page, library: Scene, dialogs: list[str]) -> None:
    evil = "<img src=x onerror=alert(1)>"
    asset = library.catalog.assets[0]
    asset |= {"name": f"{evil}.png", "tags": [evil], "note": evil, "machine": evil}
    asset["metadata"] |= {"prompt": evil, "models": [evil], "sampler": evil}
    gallery = open_library(page, library)
    gallery.get_by_role("button", name="Filters").click()
    press(gallery, "Enter")
    expect(gallery.get_by_role("dialog", name="Viewer").locator("h2")).to_have_text(f"{evil}.png")
    assert gallery.locator('img[src="x"]').count() == 0
    assert dialogs == []


@pytest.mark.parametrize("library", [3], indirect=True)
def test_the_viewer_says_what_its_buttons_and_the_browser_cant_do(page: Page, library: Scene) -> None:
    library.catalog.assets[1] |= {"name": "tone.wav", "mime_type": "audio/wav"}
    library.catalog.assets[2] |= {"name": "sound-only.mp4", "mime_type": "video/mp4"}
    intercept(page, "**/content", lambda route: route.fulfill(body=tone(), content_type="audio/wav"))
    gallery = open_library(page, library)
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    button = {name: viewer.get_by_role("button", name=name) for name in ("Previous", "Next", "Zoom in")}
    dead = "aria-disabled"
    expect(button["Previous"]).to_have_attribute(dead, "true")
    expect(button["Zoom in"]).to_have_attribute(dead, "false")
    button["Next"].click()
    expect(viewer.locator("h2")).to_have_text("tone.wav")
    expect(button["Previous"]).to_have_attribute(dead, "false")
    expect(button["Zoom in"]).to_have_attribute(dead, "true")
    button["Next"].click()
    expect(button["Next"]).to_have_attribute(dead, "true")
    # Of a video with an unknown codec Chromium gets the sound, and reports no error.
    expect(viewer.locator(".none")).to_contain_text("This file can't be shown here.")
