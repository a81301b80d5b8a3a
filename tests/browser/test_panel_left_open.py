"""A panel that stays open: ages, the chart's last day, a list in use, and where the focus is after an action."""

from __future__ import annotations

import re
from datetime import datetime

from playwright.sync_api import Page, Route, expect

from tests.browser.pages import heading, intercept, open_dashboard
from tests.browser.scripted_model import a_file, a_status, from_now
from tests.browser.stage import Scene

DAY_MS = 24 * 3600 * 1000


def test_after_a_quiet_night_ages_and_the_chart_are_true(fresh_page: Page, dashboard: Scene) -> None:
    page = fresh_page
    page.clock.install(time=datetime.now())
    dashboard.model.files = [a_file("a.png", uploaded_at=from_now(-3600))]
    dashboard.model.report = [{"start": from_now(-60), "files": 7, "bytes": 5_000_000}]
    dashboard.model.status = a_status(archived_files=1)
    panel = open_dashboard(page, dashboard.address)
    expect(panel.locator(".chart .readout")).to_have_text("7 files, 5 MB")
    expect(panel.locator(".found time")).to_have_text("1 hr ago")
    page.clock.fast_forward(2 * DAY_MS)
    expect(panel.locator(".found time")).to_have_text("2 days ago")
    expect(panel.locator(".chart .readout")).to_have_text("Nothing was archived in this period.")


def test_a_list_whose_buttons_are_in_use_is_refreshed_afterwards(page: Page, dashboard: Scene) -> None:
    dashboard.model.files = [a_file("a.png")]
    dashboard.model.status = a_status(archived_files=1)
    panel = open_dashboard(page, dashboard.address)
    rows = panel.locator(".found li")
    expect(rows).to_have_count(1)
    rows.get_by_role("button").focus()
    dashboard.model.files = [a_file("b.png"), a_file("a.png")]
    dashboard.show(archived_files=2)
    expect(panel.locator('[data-count="archived"] dd')).to_have_text("2")
    expect(rows).to_have_count(1)
    panel.get_by_label("Filter by name").focus()
    expect(rows).to_have_count(2)


def test_a_check_that_ends_takes_the_focus_from_nobody(page: Page, dashboard: Scene) -> None:
    panel = open_dashboard(page, dashboard.address)
    held: list[Route] = []
    intercept(page, "**/cloud-sync/check", lambda route: held.append(route), times=1)
    check = panel.get_by_role("button", name="Check connection")
    with page.expect_request("**/cloud-sync/check"):
        check.press("Enter")
    expect(check).to_be_focused()
    check.press("Enter")  # no second check
    field = panel.get_by_label("Filter by name")
    field.focus()
    held[0].continue_()
    expect(panel.get_by_text("The connection works.")).to_be_visible()
    expect(field).to_be_focused()
    assert [path for path, _ in dashboard.model.calls].count("/cloud-sync/check") == 1


def test_buttons_keep_the_focus_after_their_action(page: Page, dashboard: Scene) -> None:
    refused = a_file("a.png", "failed", cause="Refused.", cure="Wait.", attempts=2)
    dashboard.model.files = [refused, a_file("old.png", "baseline")]
    dashboard.model.status = a_status(failed_files=1, baseline_files=1, safe_to_stop=False)
    panel = open_dashboard(page, dashboard.address)
    expect(heading(panel)).to_have_text("Needs attention")
    for name in ("Retry a.png", "Retry all", "Archive them"):
        button = panel.get_by_role("button", name=name)
        with page.expect_response(lambda response: response.request.method == "POST"):
            button.press("Enter")
        expect(button).to_be_enabled()
        expect(button).to_be_focused()


def test_an_action_that_ends_takes_the_focus_from_nobody(page: Page, dashboard: Scene) -> None:
    panel = open_dashboard(page, dashboard.address)
    field = panel.get_by_label("Filter by name")
    feedback = panel.locator(".feedback")
    held: list[Route] = []
    intercept(page, re.compile("/(rescan|stop)$"), lambda route: held.append(route))
    for name in ("Rescan", "Stop"):
        with page.expect_request(f"**/{name.lower()}"):
            panel.get_by_role("button", name=name).first.press("Enter")
        field.focus()
        held.pop().continue_()
        expect(feedback).to_have_text(f"{name.lower()}: done")
        expect(field).to_be_focused()


def test_the_next_path_can_be_typed_while_a_file_is_uploaded(page: Page, dashboard: Scene) -> None:
    panel = open_dashboard(page, dashboard.address)
    panel.get_by_role("button", name="Upload now").click()
    form = panel.locator("form.upload")
    field = form.get_by_role("combobox")
    field.fill("a.png")
    held: list[Route] = []
    intercept(page, "**/cloud-sync/upload", lambda route: held.append(route), times=1)
    with page.expect_request("**/cloud-sync/upload"):
        form.get_by_role("button", name="Upload").click()
    expect(field).to_be_focused()
    field.fill("b.png")
    held[0].continue_()
    expect(panel.locator(".feedback")).to_have_text("upload: done")
    expect(field).to_have_value("b.png")


def test_a_chart_without_a_report_does_not_say_that_nothing_was_archived(
    page: Page, dashboard: Scene
) -> None:
    dashboard.model.report = [{"start": from_now(-60), "files": 7, "bytes": 5_000_000}]
    held: list[Route] = []
    intercept(page, "**/cloud-sync/report?*", lambda route: held.append(route), times=1)
    with page.expect_request("**/cloud-sync/report?*"):
        panel = open_dashboard(page, dashboard.address)
    readout = panel.locator(".chart .readout")
    expect(readout).to_have_text("")
    held[0].continue_()
    expect(readout).to_have_text("7 files, 5 MB")
    intercept(page, "**/cloud-sync/report?*", lambda route: held.append(route), times=1)
    with page.expect_request("**/cloud-sync/report?*"):
        panel.get_by_role("button", name="Last month").click()
    expect(readout).to_have_text("")
    with page.expect_event("requestfailed"):
        held[1].abort()
    expect(readout).to_have_text("")
