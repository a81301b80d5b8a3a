"""What an open page does after an answer failed: it asks again, and it shows no old answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.browser.conftest import a_page
from tests.browser.pages import GALLERY, HeldRequests, heading, intercept, open_dashboard
from tests.browser.scripted_catalog import ScriptedCatalog
from tests.browser.scripted_model import a_file, a_status, from_now
from tests.browser.stage import Background, Scene, dashboard_scene
from tests.servers import wait_until


@pytest.fixture
def library(background: Background) -> Iterator[Scene]:
    """The daemon's page with some assets."""
    with dashboard_scene(background, ScriptedCatalog(6)) as scene:
        yield scene


@pytest.fixture
def tampered(browser: Browser) -> Iterator[Page]:
    """A page of its own. No console check: the browser itself logs each refused request."""
    with a_page(browser) as (opened, _):
        yield opened


def test_activity_is_asked_for_again_after_the_first_report_failed(tampered: Page, dashboard: Scene) -> None:
    page = tampered
    dashboard.model.report = [{"start": from_now(-60), "files": 7, "bytes": 5_000_000}]
    page.clock.install(time=datetime.now())
    intercept(
        page, "**/cloud-sync/report*", lambda route: route.fulfill(status=503, json={"message": "Starting."})
    )
    panel = open_dashboard(page, dashboard.address)
    expect(heading(panel)).to_have_text("Up to date")
    expect(panel.locator(".chart .readout")).to_have_text("")
    page.unroute_all()
    page.clock.fast_forward(60_000)
    dashboard.push()
    expect(panel.locator(".chart .readout")).to_have_text("7 files, 5 MB")


def test_a_list_that_failed_is_loaded_again(tampered: Page, dashboard: Scene) -> None:
    page = tampered
    dashboard.model.files = [a_file("a.png"), a_file("b.png")]
    dashboard.model.status = a_status(archived_files=2)
    panel = open_dashboard(page, dashboard.address)
    expect(panel.locator(".found li")).to_have_count(2)
    intercept(
        page, "**/cloud-sync/files*", lambda route: route.fulfill(status=502, body="<html>Bad gateway</html>")
    )
    panel.get_by_label("Filter by name").fill("b")
    expect(panel.get_by_text("The server answered with HTTP 502.")).to_be_visible()
    page.unroute_all()
    dashboard.push()
    expect(panel.locator(".found .base")).to_have_text("b.png")


def test_problems_that_are_solved_do_not_come_back_with_a_late_answer(page: Page, dashboard: Scene) -> None:
    dashboard.model.files = [a_file("a.png", "failed", cause="Refused.", attempts=2)]
    dashboard.model.status = a_status(failed_files=1, safe_to_stop=False)
    held = HeldRequests(page, "**/cloud-sync/files?state=given_up*")
    panel = open_dashboard(page, dashboard.address)
    expect(heading(panel)).to_have_text("Needs attention")
    held.wait("the problems")
    with page.expect_event("requestfailed"):
        dashboard.show(failed_files=0, safe_to_stop=True)
    page.unroute_all(behavior="ignoreErrors")
    expect(panel.locator(".problems")).to_be_hidden()


def test_pictures_that_failed_are_loaded_once_the_server_answers_again(
    tampered: Page, library: Scene
) -> None:
    page = tampered
    failed: list[Request] = []
    page.on("requestfailed", lambda request: failed.append(request))
    intercept(page, "**/cloud-sync/assets/*/*", lambda route: route.abort())
    page.goto(f"{library.address}/?library")
    gallery = page.locator(GALLERY)
    tiles = gallery.locator(".tile:not(.waiting)")
    expect(tiles).to_have_count(6)
    wait_until(lambda: page.evaluate("true") and len(failed) >= 12, "every thumbnail and every file")
    page.unroute_all()
    library.show(archived_files=7)
    expect(gallery.locator(".tile img.there")).to_have_count(6)


def test_the_upload_form_is_said_to_be_closed_after_the_engine_was_lost(page: Page, dashboard: Scene) -> None:
    panel = open_dashboard(page, dashboard.address)
    opener = panel.get_by_role("button", name="Upload now")
    opener.click()
    expect(panel.get_by_label("File in the watched directory")).to_be_focused()
    dashboard.show(state="unavailable")
    expect(heading(panel)).to_have_text("Engine not answering")
    dashboard.show(state="idle")
    expect(opener).to_be_visible()
    expect(opener).to_have_attribute("aria-expanded", "false")
    opener.click()
    expect(panel.get_by_label("File in the watched directory")).to_be_focused()


def test_waiting_files_that_could_not_be_listed_are_listed_later(tampered: Page, dashboard: Scene) -> None:
    page = tampered
    dashboard.model.files = [a_file("a.png", "pending")]
    dashboard.model.status = a_status(
        pending_files=2,
        safe_to_stop=False,
        waiting=[{"file_name": "b.mp4", "size_bytes": 9, "reason": "still being written"}],
    )
    intercept(page, "**/cloud-sync/files?state=pending*", lambda route: route.fulfill(status=503, json={}))
    panel = open_dashboard(page, dashboard.address)
    with page.expect_response("**/cloud-sync/files?state=pending*"):
        panel.locator(".waiting summary").click()
    rows = panel.locator(".waiting li")
    expect(rows).to_contain_text(["b.mp4", "and 1 more"])
    page.unroute_all()
    dashboard.push()
    expect(rows).to_contain_text(["b.mp4", "a.png"])


def test_a_clock_that_is_set_back_stops_no_refresh(tampered: Page, library: Scene) -> None:
    page = tampered
    page.add_init_script("Date.now = () => 1_800_000_000_000 - (window.setBack ? 3_600_000 : 0);")
    library.model.files = [a_file("a.png")]
    library.model.status = a_status(archived_files=6)
    panel = open_dashboard(page, library.address)
    rows = panel.locator(".found li")
    expect(rows).to_have_count(1)
    page.evaluate("window.setBack = true")
    library.model.files = [a_file("b.png"), a_file("a.png")]
    library.show(archived_files=7)
    expect(rows).to_have_count(2)
