"""The panel on the daemon's own page, with a scripted model behind it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import a_page
from tests.browser.pages import PANEL, TITLES, heading, intercept, open_dashboard, wait_for_copy
from tests.browser.panel_pictures import states
from tests.browser.scripted_model import a_file, a_status, from_now
from tests.browser.stage import Scene
from tests.servers import wait_until

# Fast, however busy the machine is.
_TYPE = """(field, text) => {
  for (const letter of text) {
    field.value += letter;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
}"""


def test_every_state_has_its_own_words_and_its_own_shape(page: Page, dashboard: Scene) -> None:
    prepare = states(dashboard.model)
    panel = open_dashboard(page, dashboard.address)
    shapes: dict[str, str | None] = {}
    for name, title in TITLES.items():
        prepare[name]()
        dashboard.push()
        expect(heading(panel)).to_have_text(title)
        shapes[name] = panel.locator(".state > .icon path").get_attribute("d")
    # Two states that need the user's attention share the triangle; all others differ.
    assert shapes.pop("unavailable") == shapes["attention"]
    assert len(set(shapes.values())) == len(shapes)


def test_the_header_says_in_plain_words_whether_it_is_safe_to_stop(page: Page, dashboard: Scene) -> None:
    panel = open_dashboard(page, dashboard.address)
    safe = panel.locator(".safe")
    expect(safe).to_have_text("Safe to stop")
    dashboard.show(
        state="uploading", safe_to_stop=False, pending_files=3, unsent_bytes=41_000_000, seconds_left=20
    )
    expect(safe).to_have_text("Not yet: 3 files, 41 MB, about 20 s")
    dashboard.show(unsent_bytes=12_000_000, seconds_left=None)
    expect(safe).to_have_text("Not yet: 3 files, 12 MB")
    dashboard.show(state="idle", pending_files=0, unsent_bytes=0, failed_files=1)
    expect(safe).to_have_text("Not yet: 1 file failed")
    dashboard.show(state="unavailable", safe_to_stop=True)
    expect(safe).to_have_text("Can't tell whether it is safe to stop")
    dashboard.show(state="starting", safe_to_stop=True, failed_files=0, connection_verified=False)
    expect(safe).to_have_text("No files are waiting, but the connection has not been verified yet")
    expect(safe.locator(".mark")).not_to_have_class(re.compile("good"))
    dashboard.show(state="idle", connection_verified=True)
    expect(safe).to_have_text("Safe to stop")
    expect(safe.locator(".mark")).to_have_class(re.compile("good"))


def test_tabs_in_the_background_leave_the_connections_to_the_one_in_front(
    browser: Browser, dashboard: Scene
) -> None:
    """A browser opens six connections to a server, for all its tabs together."""
    hide = """hidden => {
        Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with a_page(browser) as (front, _):
        behind = [front.context.new_page() for _ in range(6)]
        for page in behind:
            expect(heading(open_dashboard(page, dashboard.address))).to_have_text("Up to date")
            page.evaluate(hide, True)
        expect(heading(open_dashboard(front, dashboard.address))).to_have_text("Up to date")
        wait_until(lambda: len(dashboard.model._streams) == 1, "one stream")
        dashboard.show(state="retrying", safe_to_stop=False)
        behind[0].evaluate(hide, False)
        expect(heading(behind[0].locator(PANEL))).to_have_text("Retrying")
        wait_until(lambda: len(dashboard.model._streams) == 2, "two streams")


def test_uploads_under_way_move_their_progress_bars(page: Page, dashboard: Scene) -> None:
    panel = open_dashboard(page, dashboard.address)
    file = {"file_name": "clip.mp4", "size_bytes": 1000, "sent_bytes": 250, "s3_key": "k/clip.mp4"}
    dashboard.show(state="uploading", safe_to_stop=False, active=[file], rate_bytes_per_second=2_000_000)
    bar = panel.get_by_role("progressbar", name="Upload of clip.mp4")
    expect(bar).to_have_attribute("aria-valuenow", "25")
    expect(panel.locator(".now")).to_contain_text("2 MB/s")
    dashboard.show(active=[{**file, "sent_bytes": 900}])
    expect(bar).to_have_attribute("aria-valuenow", "90")
    dashboard.show(active=[], state="idle", safe_to_stop=True)
    expect(bar).to_have_count(0)


def test_a_failed_file_shows_cause_cure_and_next_try_and_can_be_retried(page: Page, dashboard: Scene) -> None:
    refused: dict[str, Any] = {"cause": "The connection was refused.", "cure": "Check that the store runs."}
    failed = [
        a_file(f"f{n}.png", "failed", **refused, attempts=2, next_try_at=from_now(59)) for n in range(5)
    ]
    dashboard.model.files = [
        *failed,
        a_file("g.png", "failed", cause="The key is too long.", cure="", attempts=1),
    ]
    dashboard.model.status = a_status(
        state="retrying", failed_files=1, retrying_files=5, pending_files=5, safe_to_stop=False
    )
    panel = open_dashboard(page, dashboard.address)
    cards = panel.locator(".problem")
    expect(cards).to_have_count(2)
    first = cards.last  # what was given up comes first
    expect(first).to_contain_text("The connection was refused.")
    expect(first).to_contain_text("Check that the store runs.")
    expect(first.locator("li")).to_have_count(3)
    retrying = first.locator("li").first
    expect(retrying).to_contain_text(re.compile(r"Retrying in \d+ s · 2 attempts"))
    expect(retrying).not_to_contain_text(retrying.locator(".about").inner_text())  # it counts down
    expect(cards.first).to_contain_text("Waits until this is fixed")
    first.get_by_role("button", name="Show 2 more").click()
    expect(first.locator("li")).to_have_count(5)

    panel.get_by_role("button", name="Retry f1.png").click()
    wait_until(lambda: ("/cloud-sync/upload", {"file_path": "f1.png"}) in dashboard.model.calls, "the retry")
    panel.get_by_role("button", name="Retry all").click()
    wait_until(lambda: ("/cloud-sync/retry", None) in dashboard.model.calls, "the retry of all")
    dashboard.model.files = []
    dashboard.show(state="idle", failed_files=0, retrying_files=0, pending_files=0, safe_to_stop=True)
    expect(cards).to_have_count(0)
    expect(panel.get_by_role("heading", name="Problems")).to_be_hidden()


def test_a_problem_and_a_key_can_be_copied(page: Page, dashboard: Scene) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dashboard.model.files = [a_file("a/b.png", "failed", cause="Why.", cure="How.", attempts=1)]
    upload = {"file_name": "x.png", "s3_key": "prefix/x.png", "upload_time": from_now(-5), "size_bytes": 9}
    dashboard.model.status = a_status(failed_files=1, safe_to_stop=False, recent_uploads=[upload])
    panel = open_dashboard(page, dashboard.address)
    panel.get_by_role("button", name="Copy the error of b.png").click()
    expect(panel.locator(".feedback")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "a/b.png: Why. How."
    panel.get_by_role("button", name="Copy the object key of x.png").click()
    wait_for_copy(page, "prefix/x.png")
    page.context.clear_permissions()


def test_a_file_name_that_is_markup_is_shown_as_text(
    page: Page, dashboard: Scene, dialogs: list[str]
) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    key = f"prefix/{name}"
    dashboard.model.files = [a_file(name, "failed", cause=name, cure=name, attempts=1), a_file(name)]
    dashboard.model.status = a_status(
        state="uploading",
        failed_files=1,
        safe_to_stop=False,
        errors=[f"general: {name}"],
        pending_files=2,
        waiting=[{"file_name": name, "size_bytes": 1, "reason": name}],
        active=[{"file_name": name, "size_bytes": 10, "sent_bytes": 1, "s3_key": key}],
        recent_uploads=[{"file_name": name, "s3_key": key, "upload_time": from_now(0), "size_bytes": 1}],
        destination={"endpoint": name, "bucket": name, "prefix": name},
    )
    panel = open_dashboard(page, dashboard.address)
    panel.locator(".waiting summary").click()
    for section in (".now", ".problems", ".waiting", ".recent", ".found", ".place", ".messages"):
        expect(panel.locator(section)).to_contain_text(name)
    assert panel.locator("img").count() == 0
    assert dialogs == []


def test_start_stop_and_rescan_call_the_server_and_say_what_came_of_it(page: Page, dashboard: Scene) -> None:
    panel = open_dashboard(page, dashboard.address)
    panel.get_by_role("button", name="Stop").click()
    expect(heading(panel)).to_have_text("Stopped")
    start = panel.get_by_role("button", name="Start")
    expect(start).to_be_focused()
    start.click()
    expect(heading(panel)).to_have_text("Up to date")
    feedback = panel.locator(".feedback")
    expect(feedback).to_have_text("start: done")
    rescan = panel.get_by_role("button", name="Rescan")
    rescan.click()
    expect(feedback).to_have_text("rescan: done")
    intercept(page, "**/cloud-sync/rescan", lambda route: route.fulfill(status=503), times=1)
    rescan.click()
    expect(feedback).to_have_text("The server answered with HTTP 503.")


def test_one_file_is_archived_by_name_with_the_keyboard_alone(page: Page, dashboard: Scene) -> None:
    panel = open_dashboard(page, dashboard.address)
    opener = panel.get_by_role("button", name="Upload now").first
    opener.focus()
    page.keyboard.press("Enter")
    field = panel.get_by_label("File in the watched directory")
    expect(field).to_be_focused()
    page.keyboard.type("folder/new.png")
    page.keyboard.press("Enter")
    wait_until(
        lambda: ("/cloud-sync/upload", {"file_path": "folder/new.png"}) in dashboard.model.calls, "the upload"
    )
    page.keyboard.press("Escape")
    expect(field).to_be_hidden()
    expect(opener).to_be_focused()


def test_a_server_that_disappears_is_reported_and_its_return_needs_no_reload(
    page: Page, dashboard: Scene
) -> None:
    panel = open_dashboard(page, dashboard.address)
    expect(heading(panel)).to_have_text("Up to date")
    dashboard.model.down = True
    dashboard.background.run(dashboard.model.end_streams())
    expect(heading(panel)).to_have_text("Server unreachable")
    dashboard.model.down = False
    dashboard.model.status = a_status(archived_files=77)
    expect(heading(panel)).to_have_text("Up to date")
    expect(panel.locator(".counts dd").first).to_have_text("77")
    # Pushes flow again too.
    dashboard.show(archived_files=78)
    expect(panel.locator(".counts dd").first).to_have_text("78")


def test_a_server_that_hangs_is_no_longer_green_after_10_s_and_says_that_it_cannot_tell(
    page: Page, dashboard: Scene
) -> None:
    panel = open_dashboard(page, dashboard.address)
    expect(heading(panel)).to_have_text("Up to date")
    dashboard.hang()
    expect(heading(panel)).to_have_text("Server unreachable", timeout=60_000)
    expect(panel.locator(".safe")).to_have_text("Can't tell whether it is safe to stop")
    expect(panel.locator(".good:visible")).to_have_count(0)
    dashboard.go_on()
    expect(heading(panel)).to_have_text("Up to date")


def test_a_stop_that_is_not_answered_yet_leaves_its_button_enabled(page: Page, dashboard: Scene) -> None:
    panel = open_dashboard(page, dashboard.address)
    expect(heading(panel)).to_have_text("Up to date")
    held: list[Route] = []
    intercept(page, "**/cloud-sync/stop", lambda route: held.append(route), times=1)
    stop = panel.get_by_role("button", name="Stop")
    with page.expect_request("**/cloud-sync/stop"):
        stop.click()
    expect(stop).to_be_enabled()
    held[0].continue_()
    expect(heading(panel)).to_have_text("Stopped")


def test_a_stop_that_drains_shows_what_is_under_way_and_can_be_taken_back(
    page: Page, dashboard: Scene
) -> None:
    states(dashboard.model)["stopping"]()
    panel = open_dashboard(page, dashboard.address)
    expect(heading(panel)).to_have_text("Stopping")
    expect(panel.locator(".now li")).to_have_count(2)
    panel.get_by_role("button", name="Start").click()
    wait_until(lambda: ("/cloud-sync/start", None) in dashboard.model.calls, "the call")


def test_files_that_are_not_archived_are_counted_listed_and_older_ones_archived(
    page: Page, dashboard: Scene
) -> None:
    states(dashboard.model)["unarchived"]()
    panel = open_dashboard(page, dashboard.address)
    notes = panel.locator(".unarchived .note")
    expect(notes.first).to_contain_text("5 files that were there before archiving began are not archived.")
    expect(notes.nth(1)).to_contain_text("3 files are skipped.")
    notes.first.get_by_role("button", name="Archive them").click()
    wait_until(lambda: ("/cloud-sync/backfill", None) in dashboard.model.calls, "the call")
    notes.nth(1).get_by_role("button", name="Show files").click()
    expect(panel.get_by_label("State")).to_have_value("skipped")
    rows = panel.locator(".found li")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("Hidden name")
    expect(rows.nth(1)).to_contain_text("Not included by the settings")
    dashboard.show(baseline_files=0, skipped_files=0)
    expect(panel.locator(".unarchived")).to_be_hidden()


@pytest.fixture(scope="module")
def hundred_thousand() -> list[dict[str, Any]]:
    """A ledger of 100,000 rows."""
    return [a_file(f"batch_{n // 1000:03}/image_{n:06}_.png") for n in range(100_000)]


def test_a_ledger_of_100000_rows_is_fetched_and_shown_a_page_at_a_time(
    page: Page, dashboard: Scene, hundred_thousand: list[dict[str, Any]]
) -> None:
    dashboard.model.files = hundred_thousand
    panel = open_dashboard(page, dashboard.address)
    rows = panel.locator(".found li")
    expect(rows).to_have_count(25)
    asked = len(dashboard.model.calls)
    filter_field = panel.get_by_label("Filter by name")
    filter_field.evaluate(_TYPE, "image_0999")
    expect(rows.first).to_contain_text("image_099900_.png")
    expect(rows).to_have_count(25)
    fetches = [path for path, _ in dashboard.model.calls if "/files" in path]
    assert all("limit=25" in path for path in fetches), fetches
    assert sum("/files" in path for path, _ in dashboard.model.calls[asked:]) == 1, "not one for each key"

    panel.get_by_role("button", name="Older").click()
    expect(rows.first).to_contain_text("image_099925_.png")
    expect(panel.locator(".pager")).to_contain_text("Files 26 to 50")
    expect(rows).to_have_count(25)
    panel.get_by_role("button", name="Newer").click()
    expect(rows.first).to_contain_text("image_099900_.png")
    filter_field.fill("no such name")
    expect(panel.locator(".found + .empty")).to_have_text("No matching files.")


def test_the_first_run_shows_what_to_set_and_no_way_to_set_it_here(page: Page, dashboard: Scene) -> None:
    states(dashboard.model)["not_configured"]()
    panel = open_dashboard(page, dashboard.address)
    text = panel.locator("pre")
    expect(text).to_contain_text("export S3_SECRET_ACCESS_KEY='<your secret key>'")
    panel.get_by_role("button", name="R2", exact=True).click()
    expect(text).to_contain_text("r2.cloudflarestorage.com")
    panel.get_by_role("button", name="Windows").click()
    expect(text).to_contain_text('set "S3_BUCKET=<your bucket>"')
    expect(panel.locator(".missing")).to_have_text("Missing: S3_BUCKET, S3_ACCESS_KEY_ID")
    assert panel.locator("input:visible").count() == 0


def test_the_connection_check_lists_its_steps_with_cause_and_cure(page: Page, dashboard: Scene) -> None:
    dashboard.model.check = [
        {"name": "Name resolves", "ok": True, "cause": "", "cure": ""},
        {"name": "Bucket", "ok": False, "cause": "The bucket does not exist.", "cure": "Create it."},
    ]
    panel = open_dashboard(page, dashboard.address)
    panel.get_by_role("button", name="Check connection").click()
    steps = panel.locator(".steps li")
    expect(steps.nth(0)).to_have_text("Name resolves: OK")
    expect(steps.nth(1)).to_contain_text("Bucket: Failed")
    expect(steps.nth(1)).to_contain_text("Create it.")


def test_the_chart_counts_hours_and_days_and_can_be_read_without_seeing_it(
    page: Page, dashboard: Scene
) -> None:
    dashboard.model.report = [{"start": from_now(-60), "files": 7, "bytes": 5_000_000}]
    panel = open_dashboard(page, dashboard.address)
    chart = panel.locator(".chart")
    expect(chart.locator(".readout")).to_have_text("7 files, 5 MB")
    expect(chart.locator("rect.value")).to_have_count(2)
    expect(chart.locator("tr")).to_have_count(2)
    chart.locator("figure").focus()
    page.keyboard.press("ArrowLeft")
    expect(chart.locator(".readout")).to_contain_text(re.compile(r"\d\d:\d\d · "))
    chart.get_by_role("button", name="Last month").click()
    expect(chart.get_by_role("button", name="Last month")).to_have_attribute("aria-pressed", "true")
    wait_until(
        lambda: any("by=day&last=30" in path for path, _ in dashboard.model.calls), "the month's request"
    )


def test_a_panel_that_leaves_the_page_leaves_no_clock_behind_and_can_return(
    fresh_page: Page, dashboard: Scene
) -> None:
    page = fresh_page
    page.add_init_script(
        "window.clocks = new Set(); const set = setInterval, end = clearInterval;"
        " window.setInterval = (...a) => { const id = set(...a); clocks.add(id); return id; };"
        " window.clearInterval = (id) => { clocks.delete(id); end(id); };"
    )
    panel = open_dashboard(page, dashboard.address)
    expect(heading(panel)).to_have_text("Up to date")
    assert page.evaluate("clocks.size") == 1
    page.evaluate("window.kept = document.querySelector('cloud-archive-app').panel; kept.remove()")
    assert page.evaluate("clocks.size") == 0
    assert page.evaluate("kept.shadowRoot.childElementCount") == 0
    page.evaluate("document.body.append(kept)")
    expect(heading(panel)).to_have_text("Up to date")
    assert page.evaluate("clocks.size") == 1
