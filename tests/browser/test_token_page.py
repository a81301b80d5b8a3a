"""The page of a daemon with a token: it asks for the token, uses it for every call, and shows it nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from cloud_archive.api.server import build_application
from tests.browser.conftest import a_page
from tests.browser.pages import PANEL, HeldRequests, heading, intercept, press, serious_findings
from tests.browser.sample_pictures import write
from tests.browser.stage import Background
from tests.functional.archives import engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until

TOKEN = "the-token-of-this-daemon"
_KEEP_COPIES = """const make = URL.createObjectURL, end = URL.revokeObjectURL; window.copies = new Set();
URL.createObjectURL = (what) => { const url = make.call(URL, what); copies.add(url); return url; };
URL.revokeObjectURL = (url) => { copies.delete(url); end.call(URL, url); };"""


@pytest.fixture
def address(background: Background, tmp_path: Path) -> Iterator[str]:
    """A daemon's public listener with a token, around an engine in this process."""
    # The sample pictures are old, and the first scan may find them.
    everything = {"CLOUD_ARCHIVE_BACKFILL": "all"}
    with (
        engine_on(tmp_path / "output", MemoryStore(), tmp_path / "state", **everything) as engine,
        background.serving(build_application(engine, token=None, bearer=TOKEN)) as address,
    ):
        yield address


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab of its own, whose stored token goes with it. No console check: the browser itself logs each 401."""
    with a_page(browser) as (opened, _):
        yield opened


def open_library(page: Page, address: str) -> Locator:
    page.goto(f"{address}/?library")
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    return page.locator("cloud-archive-gallery")


def test_the_page_asks_for_the_token_and_uses_it_for_calls_and_events(
    page: Page, address: str, tmp_path: Path
) -> None:
    page.goto(address)
    field = page.get_by_label("Token")
    expect(field).to_be_focused()
    assert serious_findings(page, "main") == []
    expect(page.locator(PANEL)).to_have_count(0)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    field.fill("a wrong one")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_have_text("Wrong token.")
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    panel = page.locator(PANEL)
    expect(heading(panel)).to_have_text("Up to date", timeout=60_000)
    # Only the event stream can bring this: the page can't ask for the status meanwhile.
    intercept(page, "**/cloud-sync/status", lambda route: route.abort())
    (tmp_path / "output" / "new.png").write_bytes(b"new")
    expect(panel.locator(".recent li").first).to_contain_text("new.png", timeout=60_000)
    page.unroute("**/cloud-sync/status")
    panel.get_by_role("button", name="Stop", exact=True).click()
    expect(heading(panel)).to_have_text("Stopped", timeout=60_000)
    page.reload()
    expect(heading(page.locator(PANEL))).to_have_text("Stopped", timeout=60_000)
    assert TOKEN not in page.url
    assert page.context.cookies() == []


def test_the_library_shows_pictures_with_the_token_and_gives_every_copy_back(
    page: Page, address: str, tmp_path: Path
) -> None:
    page.set_default_timeout(90_000)
    page.add_init_script(_KEEP_COPIES)
    write(tmp_path / "output", 3)
    gallery = open_library(page, address)
    expect(gallery.locator(".tile img.there").first).to_be_visible(timeout=90_000)
    expect(gallery.locator(".tile img.there").first).to_have_attribute("src", re.compile("^blob:"))
    gallery.locator(".tile:not(.waiting)").first.click()
    whole = gallery.locator(".viewer img.whole")
    expect(whole).to_be_visible()
    wait_until(lambda: page.evaluate("copies.size") > 0, "the picture is a copy")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Status").click()
    recent = page.locator(f"{PANEL} .recent li img")
    expect(recent).to_have_count(3)  # the only ones that are left: the status shows the same pictures
    shown = "(images) => copies.size === images.length && images.every((image) => copies.has(image.src))"
    wait_until(lambda: recent.evaluate_all(shown), "every other copy is given back")


def test_a_comparison_that_a_refused_token_ends_gives_every_copy_back(
    page: Page, address: str, tmp_path: Path
) -> None:
    page.add_init_script(_KEEP_COPIES)
    write(tmp_path / "output", 2)
    gallery = open_library(page, address)
    expect(gallery.locator(".tile img.there")).to_have_count(2)
    press(gallery, " ", "ArrowRight", " ")
    gallery.get_by_role("button", name="Compare").click()
    expect(gallery.locator(".compare img.whole").last).to_have_attribute("src", re.compile("^blob:"))
    intercept(page, "**/cloud-sync/status", lambda route: route.fulfill(status=401))
    page.evaluate("document.querySelector('cloud-archive-app').client.refresh()")
    expect(page.get_by_role("alert")).to_have_text("Wrong token.")
    wait_until(lambda: page.evaluate("copies.size") == 0, "every copy is given back")


def test_the_original_opens_in_a_tab_of_the_click_itself(page: Page, address: str, tmp_path: Path) -> None:
    """A browser blocks a tab that a page opens some seconds after the click."""
    write(tmp_path / "output", 1)
    gallery = open_library(page, address)
    gallery.locator(".tile:not(.waiting)").first.click()
    expect(gallery.locator(".viewer img.whole")).to_be_visible()
    held = HeldRequests(page, "**/content")
    with page.expect_popup() as opened:
        gallery.get_by_role("button", name="Open original").click()
    held.wait("the file")
    held.release()
    opened.value.wait_for_url(re.compile("^blob:"))
    assert opened.value.evaluate("window.opener") is None


def test_an_original_that_may_hold_a_script_is_saved(page: Page, address: str, tmp_path: Path) -> None:
    """Opened in a tab, it would run as the page and could read the token."""
    (tmp_path / "output" / "page.html").write_text("<script>alert(1)</script>")
    gallery = open_library(page, address)
    gallery.locator(".tile:not(.waiting)").first.click()
    with page.expect_download() as saved:
        gallery.get_by_role("button", name="Open original").click()
    assert saved.value.suggested_filename == "page.html"


def test_a_token_takes_any_letters(page: Page, background: Background, tmp_path: Path) -> None:
    token = "schlüssel-鍵"
    with (
        engine_on(tmp_path / "output", MemoryStore(), tmp_path / "state") as engine,
        background.serving(build_application(engine, token=None, bearer=token)) as address,
    ):
        page.goto(address)
        page.get_by_label("Token").fill("the 鍵…")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("Wrong token.")
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        expect(heading(page.locator(PANEL))).to_have_text("Up to date")
