"""What the panel's and the library's parts look like: lines of errors, large numbers, targets for fingers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import a_page
from tests.browser.pages import APP, heading, intercept, open_dashboard, open_library, press
from tests.browser.panel_pictures import states
from tests.browser.scripted_catalog import ScriptedCatalog
from tests.browser.scripted_model import a_file
from tests.browser.stage import Background, Scene, dashboard_scene

_FINGER = 36  # pixels
_SMALL = """(root, least) => [...root.shadowRoot.querySelectorAll("button, input:not([type=checkbox]), select")]
  .filter(node => node.offsetParent && node.type !== "range" && node.offsetHeight < least)
  .map(node => node.getAttribute("aria-label") ?? node.textContent)"""

_CUT_OFF = """root => [...root.shadowRoot.querySelectorAll("button, input, select")]
  .filter(node => node.checkVisibility())
  .filter(node => node.getBoundingClientRect().left < 0 || node.getBoundingClientRect().right > innerWidth)
  .map(node => node.getAttribute("aria-label") ?? node.textContent)"""


def test_an_error_of_several_lines_keeps_its_lines(page: Page, dashboard: Scene) -> None:
    lines = "It was refused.\nRequest id 4442587FB7D0A2F9."
    dashboard.model.files = [a_file("a.png", "failed", cause=lines, cure="Wait.\nThen retry.", attempts=1)]
    dashboard.model.status |= {
        "failed_files": 1,
        "safe_to_stop": False,
        "errors": [f"The directory: {lines}"],
    }
    panel = open_dashboard(page, dashboard.address)
    expect(panel.locator(".problem .cause")).to_be_visible()
    for selector in (".problem .cause", ".problem .cure", ".messages li"):
        assert panel.locator(selector).inner_text().count("\n") == 1, selector


@pytest.mark.parametrize("width", [260, 768, 1280])
@pytest.mark.parametrize("state", ["idle", "retrying"])  # three cells, and four
def test_millions_of_files_fit_into_their_cell(page: Page, dashboard: Scene, state: str, width: int) -> None:
    states(dashboard.model)[state]()
    dashboard.model.status |= {"archived_files": 1_234_567}
    page.set_viewport_size({"width": width, "height": 900})
    panel = open_dashboard(page, dashboard.address)
    number = panel.locator('[data-count="archived"] dd')
    expect(number).to_have_text("1,234,567")
    room = """node => { const range = document.createRange(); range.selectNodeContents(node);
      return node.parentElement.getBoundingClientRect().right - range.getBoundingClientRect().right; }"""
    assert number.evaluate(room) >= 6
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_without_an_engine_no_count_is_shown(page: Page, dashboard: Scene) -> None:
    panel = open_dashboard(page, dashboard.address)
    counts, recent = panel.locator(".counts"), panel.get_by_role("region", name="Recent")
    expect(counts).to_be_visible()
    expect(recent).to_be_visible()
    dashboard.model.calls.clear()
    ended = {"session_id": "", "errors": ["The engine is not answering right now."]}
    dashboard.show(state="unavailable", running=False, safe_to_stop=False, **ended)
    expect(heading(panel)).to_have_text("Engine not answering")
    expect(panel.locator(".messages li")).to_have_text(ended["errors"])
    page.evaluate("fetch('/cloud-sync/report')")  # an earlier request has arrived by now
    assert not [call for call in dashboard.model.calls if "given_up" in call[0]], "it would fail"
    expect(counts).to_be_hidden()
    expect(recent).to_be_hidden()


def test_a_finger_finds_every_button(browser: Browser, background: Background) -> None:
    phone = {"has_touch": True, "is_mobile": True, "viewport": {"width": 360, "height": 740}}
    with (
        dashboard_scene(background, ScriptedCatalog(60, per_day=20)) as scene,
        a_page(browser, **phone) as (page, _),
    ):
        states(scene.model)["retrying"]()
        panel = open_dashboard(page, scene.address)
        expect(panel.locator(".problem li")).to_have_count(3)
        assert panel.evaluate(_SMALL, _FINGER) == []
        gallery = open_library(page, scene)
        gallery.get_by_role("button", name="Filters").click()
        press(gallery, " ")
        expect(gallery.get_by_role("toolbar")).to_be_visible()
        assert gallery.evaluate(_SMALL, _FINGER) == []
        press(gallery, "Enter")
        expect(gallery.locator(".facts .button").first).to_be_visible()
        assert gallery.evaluate(_SMALL, _FINGER) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_at_half_the_width_of_a_phone_nothing_is_cut_off(page: Page, library: Scene) -> None:
    """As a narrow window shows it at a zoom of 200 %."""
    library.model.files = [a_file(f"{n}.png") for n in range(30)]
    page.set_viewport_size({"width": 190, "height": 500})
    panel = open_dashboard(page, library.address)
    expect(panel.get_by_role("button", name="Older")).to_be_visible()
    assert panel.evaluate(_CUT_OFF) == []
    gallery = open_library(page, library)
    gallery.get_by_role("button", name="View options").click()
    assert gallery.evaluate(_CUT_OFF) == []
    press(gallery, "Enter")
    expect(gallery.locator(".facts .button").first).to_be_visible()
    assert gallery.evaluate(_CUT_OFF) == []


def test_uploads_that_come_and_go_do_not_move_what_is_below_them(fresh_page: Page, dashboard: Scene) -> None:
    page = fresh_page
    page.clock.install(time=datetime.now())
    panel = open_dashboard(page, dashboard.address)
    now, waiting, recent = (panel.locator(f".{name}") for name in ("now", "waiting", "recent"))
    expect(heading(panel)).to_have_text("Up to date")
    page.clock.pause_at(datetime.now() + timedelta(minutes=1))

    def show(active: list[dict[str, Any]], **more: Any) -> None:
        dashboard.show(active=active, **more)
        page.wait_for_function(
            f"document.querySelector('{APP}').client.status.active.length === {len(active)}"
        )
        page.clock.run_for(100)
        expect(now.locator("li")).to_have_count(len(active))

    file = {"size_bytes": 1000, "sent_bytes": 250}
    files = [file | {"file_name": f"{name}.png", "s3_key": f"k/{name}.png"} for name in "abc"]
    show(files, state="uploading", safe_to_stop=False, pending_files=5)
    expect(waiting).to_be_visible()
    top = "node => node.getBoundingClientRect().top"
    before, last = recent.evaluate(top), now.locator("li").last
    height = last.evaluate("node => node.offsetHeight")
    show(files[:1])
    assert recent.evaluate(top) == before
    assert last.evaluate("node => node.offsetHeight") == height
    for _ in range(2):  # with one file for a while, but not without an event
        page.clock.run_for(6_000)
        show(files[:1])
    assert recent.evaluate(top) < before
    show(files)
    assert recent.evaluate(top) == before
    show([], pending_files=0)
    assert recent.evaluate(top) == before
    for _ in range(2):  # without a file for a while, but not without an event
        page.clock.run_for(6_000)
        show([])
    expect(now).to_be_hidden()
    expect(waiting).to_be_hidden()
    show(files[:1])
    expect(now).to_be_visible()
    show([], state="idle", safe_to_stop=True)
    expect(now).to_be_hidden()


@pytest.mark.parametrize("width", [320, 1280])
def test_the_name_stands_on_the_line_of_the_switch(page: Page, dashboard: Scene, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.goto(dashboard.address)
    name = page.get_by_role("heading", name="Cloud Archive", level=1).bounding_box()
    switch = page.get_by_role("group", name="View").bounding_box()
    assert name is not None
    assert switch is not None
    assert switch["x"] > name["x"] + name["width"]
    assert switch["y"] < name["y"] + name["height"] / 2 < switch["y"] + switch["height"]


def test_text_grows_with_the_browsers_font_size_and_fits_on_a_phone(page: Page, library: Scene) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    for view, element in (("library", "cloud-archive-gallery"), ("status", "cloud-archive-panel")):
        page.goto(f"{library.address}/?{view}")
        page.locator("html").evaluate("root => root.style.fontSize = '24px'")
        shown = page.locator(element)
        expect(shown).to_have_css("font-size", "19.5px")  # 13 px of 16
        expect(shown.get_by_role("button").first).to_be_visible()
        assert shown.evaluate(_CUT_OFF) == []


_COVERED = """word => { const range = document.createRange(); range.selectNodeContents(word);
  const text = range.getBoundingClientRect(), cell = word.getBoundingClientRect();
  return Math.max(0, text.right - cell.right); }"""


@pytest.mark.parametrize("width", [768, 1280, 1600])
def test_where_text_is_twice_as_large_no_word_covers_the_next_one(
    page: Page, library: Scene, width: int
) -> None:
    library.model.files = [a_file("portraits/aurora.png")]
    page.set_viewport_size({"width": width, "height": 900})
    panel = open_dashboard(page, library.address)
    page.locator("html").evaluate("root => root.style.fontSize = '32px'")
    expect(panel).to_have_css("font-size", "26px")
    assert panel.locator(".found .word").first.evaluate(_COVERED) == 0


def test_where_text_is_twice_as_large_the_first_day_is_not_cut_off(page: Page, library: Scene) -> None:
    gallery = open_library(page, library)
    page.locator("html").evaluate("root => root.style.fontSize = '32px'")
    expect(gallery).to_have_css("font-size", "26px")
    day = gallery.locator(".day span").first.bounding_box()
    timeline = gallery.locator(".scroller").bounding_box()
    assert day is not None
    assert timeline is not None
    assert day["y"] >= timeline["y"]


def test_the_form_for_the_token_fits_on_a_phone_where_text_is_large(page: Page, dashboard: Scene) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    intercept(page, "**/cloud-sync/**", lambda route: route.fulfill(status=401))
    page.goto(dashboard.address)
    expect(page.get_by_label("Token")).to_be_visible()
    page.locator("html").evaluate("root => root.style.fontSize = '24px'")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
