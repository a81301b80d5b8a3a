"""The library's layouts, days, sharing, motion and colours, and its messages while it can't show everything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.browser.conftest import a_page
from tests.browser.pages import (
    APP,
    GALLERY,
    PANEL,
    intercept,
    open_library,
    press,
    serious_findings,
    wait_for_copy,
)
from tests.browser.scripted_catalog import ScriptedCatalog, an_asset
from tests.browser.stage import Background, Scene, dashboard_scene
from tests.servers import wait_until

SHAPES = ((768, 768), (1216, 704), (704, 1216), (1536, 640), (896, 1152))
_TILES = """root => [...root.querySelectorAll('.tile:not([hidden])')].map(tile => {
  const [x, y] = tile.style.transform.match(/[\\d.]+/g).map(Number);
  return {place: Number(tile.getAttribute('aria-posinset')), x, y, width: tile.offsetWidth, height: tile.offsetHeight,
          known: !tile.classList.contains('waiting')};
}).sort((one, other) => one.place - other.place)"""

_COUNT_LISTENERS = """function (listenersOf) {
  return this.reduce((sum, one) => sum + Object.values(listenersOf(one) ?? {}).flat().length, 0);
}"""


@pytest.fixture
def scene(background: Background, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """The daemon's page with this many assets of many shapes."""
    catalog = ScriptedCatalog(getattr(request, "param", 90), per_day=30, shapes=SHAPES)
    with dashboard_scene(background, catalog) as scene:
        yield scene


def original_shapes(page: Page, gallery: Locator) -> None:
    gallery.get_by_role("button", name="View options").click()
    gallery.get_by_role("button", name="Original shape").click()
    page.keyboard.press("Escape")


def rows_of(tiles: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    rows: dict[float, list[dict[str, Any]]] = {}
    for tile in tiles:
        rows.setdefault(tile["y"], []).append(tile)
    return list(rows.values())


def test_pictures_keep_their_shapes_in_full_rows_and_the_choice_is_remembered(
    page: Page, scene: Scene
) -> None:
    gallery = open_library(page, scene)
    scroller = gallery.locator(".scroller")
    assert len({(tile["width"], tile["height"]) for tile in scroller.evaluate(_TILES)}) == 1, "squares"
    original_shapes(page, gallery)
    page.wait_for_function("JSON.parse(localStorage['cloud-archive.gallery']).justified")

    def check() -> None:
        expect(gallery.locator(".tile.waiting:not([hidden])")).to_have_count(0)
        tiles = scroller.evaluate(_TILES)
        for tile in tiles:
            width, height = SHAPES[(tile["place"] - 1) % len(SHAPES)]
            assert tile["width"] / tile["height"] == pytest.approx(width / height, rel=0.03), tile
        width = gallery.locator(".canvas").evaluate("node => node.clientWidth")
        for row in rows_of(tiles)[:-1]:
            assert row[-1]["x"] + row[-1]["width"] == pytest.approx(width, abs=2), row
            assert {tile["height"] for tile in row} == {row[0]["height"]}

    check()
    page.reload()
    expect(gallery.locator(".tile:not(.waiting)").first).to_be_visible()
    check()
    # Down and up again keep to the column, and the last one is reached.
    press(gallery, "ArrowRight", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp")
    expect(gallery.locator(".tile.current")).to_have_attribute("aria-posinset", "2")
    press(gallery, "End")
    expect(gallery.locator(".tile.current")).to_have_attribute("title", "picture_000089_.png")
    gallery.get_by_role("button", name="View options").click()
    gallery.get_by_role("button", name="Square").click()
    page.wait_for_function("!JSON.parse(localStorage['cloud-archive.gallery']).justified")


@pytest.mark.parametrize("scene", [30_000], indirect=True)
def test_many_pictures_of_all_shapes_are_few_nodes_and_the_visible_ones_stay(
    page: Page, scene: Scene
) -> None:
    gallery = open_library(page, scene)
    original_shapes(page, gallery)
    scroller = gallery.locator(".scroller")
    for share in (0.3, 0.9, 1.0, 0.5):
        scroller.evaluate(f"root => {{ root.scrollTop = root.scrollHeight * {share}; }}")
        expect(gallery.locator(".tile:not([hidden]):not(.waiting)").first).to_be_visible()
        assert scroller.evaluate("root => root.querySelectorAll('.tile:not([hidden])').length") < 250
    # New files on top, and sizes that become known above, do not move the visible tiles.
    expect(gallery.locator(".tile.waiting:not([hidden])")).to_have_count(0)
    where = """root => { const box = root.getBoundingClientRect();
      const tile = [...root.querySelectorAll('.tile:not([hidden])')].map(each => [each.getBoundingClientRect(), each])
        .filter(([at]) => at.top >= box.top).sort(([one], [other]) => one.top - other.top || one.left - other.left)[0];
      return tile && [tile[1].title, Math.round(tile[0].top)]; }"""
    # The tiles of the place before may still be there for a moment.
    page.wait_for_function(f"root => ({where})(root)?.[0]", arg=scroller.element_handle())
    before = scroller.evaluate(where)
    scene.catalog.add_newest(77_777, name="fresh.png")
    scene.show(archived_files=30_001)
    expect(gallery.locator(".line")).to_contain_text("30,001 files")
    expect(gallery.locator(".tile.waiting:not([hidden])")).to_have_count(0)
    assert scroller.evaluate(where) == before


def test_the_view_options_lie_within_the_window_and_close(page: Page, scene: Scene) -> None:
    gallery = open_library(page, scene)
    for width, height in ((260, 700), (360, 225), (720, 700), (768, 700), (1280, 700)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function(f"innerWidth === {width}")
        gallery.get_by_role("button", name="View options").click()
        box = gallery.locator(".menu").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width, f"at {width} pixels"
        assert box["y"] + box["height"] <= height, f"at {height} pixels"
        page.keyboard.press("Escape")
        expect(gallery.locator(".menu")).to_be_hidden()
    gallery.get_by_role("button", name="View options").click()
    for pressed in (gallery.locator(".menu"), gallery.get_by_role("combobox")):
        pressed.click(position={"x": 3, "y": 3})  # in the menu, beside its controls
    expect(gallery.locator(".menu")).to_be_hidden()


@pytest.mark.parametrize("locale", ["en-GB", "ja-JP", "zh-CN"])
def test_the_viewers_buttons_stay_on_one_line_in_every_language(
    browser: Browser, scene: Scene, locale: str
) -> None:
    with a_page(browser, locale=locale) as (page, _):
        gallery = open_library(page, scene)
        for width in (320, 360, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function(f"innerWidth === {width}")
            press(gallery, "Enter")
            expect(gallery.locator(".viewer .file-actions button")).to_have_count(3)
            for row, buttons in ((".viewer-bar", 7), (".side-box .actions", 2)):
                tops = gallery.locator(f"dialog[open] {row} button").evaluate_all(
                    "nodes => nodes.map(node => Math.round(node.getBoundingClientRect().top))"
                )
                assert len(tops) == buttons
                assert len(set(tops)) == 1, f"{row} at {width} pixels"
            page.keyboard.press("Escape")
            expect(gallery.locator("dialog[open]")).to_have_count(0)


def test_edits_that_end_after_another_one_failed_are_shown(page: Page, scene: Scene) -> None:
    gallery = open_library(page, scene)
    first, second = (f"**/cloud-sync/assets/{asset['id']}" for asset in scene.catalog.assets[:2])
    held: list[Route] = []
    intercept(page, first, lambda route: route.fulfill(status=503, json={"message": "The catalog is busy."}))
    intercept(page, second, lambda route: held.append(route))
    press(gallery, " ", "ArrowRight", " ")
    with page.expect_response(first), page.expect_request(second):
        gallery.locator(".selection").get_by_role("button", name="Favorite").click()
    page.evaluate("new Promise(requestAnimationFrame)")  # the page has handled the failure
    held[0].continue_()
    expect(gallery.locator('.tile[aria-posinset="2"] .star')).to_be_visible()
    expect(gallery.locator('.tile[aria-posinset="1"] .star')).to_be_hidden()
    expect(gallery.locator(".said")).to_have_text("1 of 2 files were not changed: The catalog is busy.")


def test_a_day_is_a_filter_on_and_off_by_chip_and_by_calendar(page: Page, scene: Scene) -> None:
    gallery = open_library(page, scene)
    gallery.get_by_role("button", name="Filters").click()
    yesterday, earlier = (scene.catalog.assets[place]["created_at"][:10] for place in (30, 60))
    days = gallery.locator(".filter-row", has_text="Day").get_by_role("button")
    days.nth(1).click()
    expect(gallery.get_by_role("combobox")).to_have_value(f"since:{yesterday} until:{yesterday}")
    expect(gallery.locator(".line")).to_contain_text("30 files")
    expect(days).to_have_count(1)
    expect(days).to_have_attribute("aria-pressed", "true")
    days.click()
    expect(gallery.locator(".line")).to_contain_text("90 files")
    gallery.get_by_label("Another day").fill(earlier)
    expect(gallery.locator(".line")).to_contain_text("30 files")


def test_files_are_shared_as_links_with_their_end_or_as_an_album(page: Page, scene: Scene) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    gallery = open_library(page, scene)
    press(gallery, "Enter")
    viewer = gallery.get_by_role("dialog", name="Viewer")
    viewer.get_by_role("button", name="Share", exact=True).click()
    dialog = gallery.get_by_role("dialog", name="Share")
    expect(dialog.locator("h2")).to_have_text("Share picture_000000_.png")
    expect(dialog.get_by_label("The link expires after")).to_be_focused()
    dialog.get_by_label("The link expires after").select_option("1 hour")
    dialog.get_by_role("button", name="Create link").click()
    link = dialog.get_by_label("Link to picture_000000_.png", exact=True)
    expect(link).to_have_value("https://store.example/comfyui-outputs/picture_000000_.png?signature=abc")
    expect(dialog.locator(".link")).to_contain_text(re.compile(r"Expires .*20\d\d"))
    dialog.get_by_role("button", name="Copy the link to picture_000000_.png").click()
    wait_for_copy(page, "https://", "?signature=abc")
    expect(dialog.locator(".said")).to_have_text("Copied")
    assert serious_findings(page, APP, GALLERY, ".share") == []
    page.keyboard.press("Escape")
    expect(viewer).to_be_visible()
    page.keyboard.press("Escape")
    orders = [call[2] for call in scene.catalog.calls if call[1] == "/cloud-sync/share"]
    first = scene.catalog.assets[0]["id"]
    plain = {"strip_metadata": False, "album": None, "with_prompts": False}
    assert orders == [{"ids": [first], "expires_seconds": 3600, **plain}]

    press(gallery, " ", "ArrowRight", " ")
    gallery.get_by_role("toolbar").get_by_role("button", name="Share").click()
    expect(dialog.locator("h2")).to_have_text("Share 2 files")
    dialog.get_by_label("Title of an album page").fill("Fjords")
    dialog.get_by_label("Show prompts on the page").check()
    dialog.get_by_label("Share copies without prompt").check()
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Link to Fjords", exact=True)).to_have_value(
        "https://store.example/album.html?signature=abc"
    )
    expect(dialog).to_contain_text("cloud-archive unshare share-1")
    order = [call[2] for call in scene.catalog.calls if call[1] == "/cloud-sync/share"][-1]
    expected = {"strip_metadata": True, "album": "Fjords", "with_prompts": True, "expires_seconds": 3600}
    assert {name: order[name] for name in expected} == expected
    page.keyboard.press("Escape")
    gallery.get_by_role("toolbar").get_by_role("button", name="Share").click()
    expect(dialog.get_by_label("Title of an album page")).to_have_value("")
    page.keyboard.press("Escape")
    page.context.clear_permissions()


def test_where_nothing_can_be_shared_the_button_says_why(page: Page, scene: Scene) -> None:
    gallery = open_library(page, scene)
    press(gallery, " ", "ArrowRight", " ")
    share = gallery.get_by_role("toolbar").get_by_role("button", name="Share")
    expect(share).to_have_attribute("aria-disabled", "false")
    scene.show(state="unavailable")
    expect(share).to_have_attribute("aria-disabled", "true")
    why = "Nothing can be shared while the archive does not answer."
    expect(share).to_have_attribute("title", why)
    share.press("Enter")
    expect(gallery.locator(".said")).to_have_text(why)
    scene.show(state="idle")
    expect(share).to_have_attribute("aria-disabled", "false")
    scene.catalog.failure = (503, "The store denies access.")
    share.press("Enter")
    dialog = gallery.get_by_role("dialog", name="Share")
    dialog.get_by_role("button", name="Create link").click()
    expect(dialog.get_by_role("alert")).to_have_text("The store denies access.")


def test_the_viewer_shows_that_nothing_can_be_shared_now(page: Page, scene: Scene) -> None:
    gallery = open_library(page, scene)
    press(gallery, "Enter")
    share = gallery.locator(".viewer").get_by_role("button", name="Share")
    expect(share).to_have_attribute("aria-disabled", "false")
    scene.show(state="unavailable")
    expect(share).to_have_attribute("aria-disabled", "true")


@pytest.mark.parametrize("scene", [12], indirect=True)
def test_twenty_openings_leave_no_listener_timer_or_object_url(fresh_page: Page, scene: Scene) -> None:
    """With a token, so that pictures are object URLs. All listeners count that garbage collection leaves."""
    page = fresh_page
    page.set_viewport_size({"width": 400, "height": 300})  # few points to paint, a hundred times
    page.add_init_script("sessionStorage.setItem('cloud-archive.token', 'secret')")
    page.add_init_script(path=Path(__file__).parent / "instruments.js")
    page.goto(scene.address)
    devtools = page.context.new_cdp_session(page)
    gallery = page.locator(GALLERY)

    def open_and_close(times: int) -> None:
        for _ in range(times):
            page.get_by_role("button", name="Library").click()
            expect(gallery.locator(".tile img.there").first).to_be_visible()
            press(gallery, "Enter")
            expect(gallery.locator(".viewer img.whole")).to_have_attribute("src", re.compile("^blob:"))
            gallery.get_by_role("dialog", name="Viewer").get_by_role("button", name="Share").click()
            page.keyboard.press("Escape")
            page.keyboard.press("Escape")
            expect(gallery.get_by_role("dialog", name="Viewer")).to_be_hidden()
            page.get_by_role("button", name="Status").click()
            expect(page.locator(PANEL)).to_be_visible()

    def listeners() -> int:
        # `queryObjects` collects garbage from within a call: addresses left on the stack may keep a closed library.
        devtools.send("HeapProfiler.collectGarbage")
        group = {"objectGroup": "count"}
        prototype = devtools.send("Runtime.evaluate", {"expression": "EventTarget.prototype", **group})
        identity = {"prototypeObjectId": prototype["result"]["objectId"], **group}
        every = devtools.send("Runtime.queryObjects", identity)["objects"]
        # The console's own function, called on all in the page: a call from here for each would cost a second.
        ask = {"expression": "getEventListeners", "includeCommandLineAPI": True, **group}
        tool = devtools.send("Runtime.evaluate", ask)["result"]
        call = {"objectId": every["objectId"], "functionDeclaration": _COUNT_LISTENERS, "returnByValue": True}
        counted = devtools.send(
            "Runtime.callFunctionOn", {"arguments": [{"objectId": tool["objectId"]}], **call}
        )
        devtools.send("Runtime.releaseObjectGroup", group)
        return int(counted["result"]["value"])

    # The client's own timers: the next poll, and the time after which a silent server counts as lost.
    at_rest = "ourTimers().join() === '2,0'"

    def resting() -> int:
        """Count while nothing is under way: two counts in a row agree."""
        counts = [0]

        def agree() -> bool:
            counts.append(listeners())
            return bool(page.evaluate(at_rest)) and counts[-1] == counts[-2]

        wait_until(agree, "no timer more than the client's own")
        return counts[-1]

    before = resting()
    assert before > 10, "it does see them"
    open_and_close(20)
    # As many as before the first opening.
    wait_until(lambda: resting() == before, f"the {before} listeners of the start")
    left, made = page.evaluate("ourUrls()")
    assert (left, page.evaluate("ourClocks()")) == (0, 1)
    assert made >= 40


def test_while_older_files_load_the_library_says_how_much_is_searched_and_goes_on_by_itself(
    page: Page, scene: Scene
) -> None:
    scene.catalog.loading = {"searched": 40_000, "total": 1_000_000}
    gallery = open_library(page, scene)
    note = gallery.locator(".note-line")
    expect(note).to_have_text("Searching 40,000 of about 1,000,000 files while the rest loads.")
    # Older files come in behind the others, and the visible tiles stay.
    old = datetime.now() - timedelta(days=400)
    scene.catalog.assets.append(an_asset(99_999, old, name="old.png"))
    scene.catalog.loading = None
    expect(gallery.locator(".line")).to_contain_text("91 files")
    expect(note).to_be_hidden()
    expect(gallery.locator('.tile[aria-posinset="1"]')).to_have_attribute("title", "picture_000000_.png")


def test_a_missing_right_is_named_and_what_is_there_is_shown(page: Page, scene: Scene) -> None:
    scene.catalog.trouble = (
        "These credentials may not read the catalog in the bucket: the right s3:ListBucket is missing."
    )
    gallery = open_library(page, scene)
    expect(gallery.locator(".note-line")).to_contain_text(
        "Other machines' files may be missing: These credentials may not"
    )
    expect(gallery.locator(".line")).to_contain_text("90 files")


def test_without_motion_and_in_forced_colours_everything_is_told_apart(page: Page, scene: Scene) -> None:
    page.emulate_media(reduced_motion="reduce", forced_colors="active")
    try:
        gallery = open_library(page, scene)
        moving = gallery.locator(".gallery").evaluate(
            "root => [...root.querySelectorAll('*')].filter(each => { const style = getComputedStyle(each);"
            " return style.animationName !== 'none' || parseFloat(style.transitionDuration) > 0; }).length"
        )
        assert moving == 0
        press(gallery, "ArrowRight", " ")
        expect(gallery.locator(".tile[aria-selected=true]")).to_have_css("outline-style", "solid")
        expect(gallery.locator(".tile.current")).to_have_css("outline-style", "solid")
        picks = gallery.locator(".tile:not([hidden]) .pick .icon")
        expect(picks.nth(1)).to_be_visible()
        expect(picks.nth(0)).to_have_css("visibility", "hidden")
        expect(page.get_by_role("button", name="Library", exact=True)).to_have_css("outline-style", "solid")
        expect(gallery.get_by_role("button", name="Share")).to_have_css("border-top-style", "solid")
        gallery.get_by_role("button", name="Filters").click()
        gallery.get_by_role("button", name="flux1-dev.safetensors").click()
        chip = gallery.get_by_role("button", name="flux1-dev.safetensors")
        expect(chip).to_have_attribute("aria-pressed", "true")
        expect(chip).to_have_css("outline-style", "solid")
        expect(gallery.get_by_role("button", name="4 stars or more")).to_have_css("outline-style", "none")
        assert serious_findings(page) == []
    finally:
        page.emulate_media(forced_colors="none")
