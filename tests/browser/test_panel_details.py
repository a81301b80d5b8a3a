"""Counts after a restart, the age of a check, the first run, the upload form, the keyboard, narrow labels."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import a_page
from tests.browser.pages import APP, open_dashboard, open_library, press
from tests.browser.panel_pictures import recent, states
from tests.browser.scripted_catalog import an_asset
from tests.browser.scripted_model import a_file, a_status, from_now
from tests.browser.stage import Scene
from tests.servers import wait_until


def test_archived_is_the_ledgers_total_and_since_start_is_in_its_title(page: Page, dashboard: Scene) -> None:
    dashboard.model.status = a_status(archived_files=1521, uploaded_files=2, already_archived_files=1)
    panel = open_dashboard(page, dashboard.address)
    cell = panel.locator('[data-count="archived"]')
    expect(cell.locator("dd")).to_have_text("1,521")
    expect(cell).to_have_attribute("title", "3 since start")


def test_a_file_that_will_be_retried_has_one_name_everywhere_until_it_is_given_up(
    page: Page, dashboard: Scene
) -> None:
    file = a_file("a.png", "failed", cause="Refused.", cure="Wait.", attempts=2, next_try_at="2999-01-01")
    dashboard.model.files = [file]
    dashboard.model.status = a_status(state="retrying", safe_to_stop=False, pending_files=1, retrying_files=1)
    panel = open_dashboard(page, dashboard.address)
    expect(panel.locator(".state h2")).to_have_text("Retrying")
    counts = {name: panel.locator(f'[data-count="{name}"] dd') for name in ("waiting", "retrying", "failed")}
    for name, number in {"waiting": "0", "retrying": "1", "failed": "0"}.items():
        expect(counts[name]).to_have_text(number)
    expect(panel.locator(".problem li")).to_contain_text("Retrying in")
    expect(panel.locator(".problem")).to_have_class(re.compile("again"))
    expect(panel.locator(".found li")).to_contain_text("Retrying")
    panel.get_by_label("State").select_option("failed")
    expect(panel.locator(".found li")).to_have_count(0)

    dashboard.model.files = [{**file, "next_try_at": None}]
    dashboard.show(state="idle", pending_files=0, retrying_files=0, failed_files=1)
    expect(panel.locator(".problem li")).to_contain_text("Waits until this is fixed")
    expect(panel.locator(".found li")).to_contain_text("Failed")
    expect(counts["failed"]).to_have_text("1")
    expect(panel.locator('[data-count="retrying"]')).to_be_hidden()


def test_a_problem_that_was_tried_again_as_it_was_listed_is_listed_later(
    page: Page, dashboard: Scene
) -> None:
    file = a_file("a.png", "failed", cause="Refused.", cure="Wait.", attempts=2, next_try_at="2999-01-01")
    dashboard.model.files = [{**file, "state": "uploading"}]
    dashboard.model.status = a_status(state="retrying", safe_to_stop=False, pending_files=1, retrying_files=1)
    with page.expect_response(lambda answer: "state=retrying" in answer.url):
        panel = open_dashboard(page, dashboard.address)
    dashboard.model.files = [file]
    dashboard.show(archived_files=7)
    expect(panel.locator(".problem li")).to_contain_text("Retrying in")


@pytest.mark.parametrize(
    "change",
    [
        {"session_id": "another"},
        {"destination": {"endpoint": "other.example.net:443", "bucket": "b", "prefix": "p"}},
        {"uploaded_files": 1},
    ],
    ids=["session", "settings", "upload"],
)
def test_a_check_result_shows_its_time_and_goes_when_it_no_longer_counts(
    page: Page, dashboard: Scene, change: dict[str, object]
) -> None:
    dashboard.model.check = [
        {"name": "Bucket", "ok": False, "cause": "It does not exist.", "cure": "Create it."}
    ]
    panel = open_dashboard(page, dashboard.address)
    panel.get_by_role("button", name="Check connection").click()
    expect(panel.locator(".steps li")).to_have_count(1)
    expect(panel.get_by_text("The connection does not work yet.")).to_contain_text("12:34:56")
    dashboard.show(skipped_files=3)
    expect(panel.locator(".unarchived")).to_be_visible()
    expect(panel.locator(".steps")).to_be_visible()
    dashboard.show(**change)
    expect(panel.locator(".steps")).to_be_hidden()
    expect(panel.get_by_text("The connection does not work yet.")).to_be_hidden()


def test_steps_of_a_check_that_were_not_tried_say_once_why(page: Page, dashboard: Scene) -> None:
    skipped = {"ok": None, "cause": "Not tried.", "cure": "First cure the step that failed."}
    dashboard.model.check = [
        {"name": "credentials", "ok": False, "cause": "It is refused.", "cure": "Check it."},
        *({"name": name, **skipped} for name in ("bucket", "write")),
    ]
    panel = open_dashboard(page, dashboard.address)
    panel.get_by_role("button", name="Check connection").click()
    expect(panel.locator(".steps li")).to_have_text(
        [
            "credentials: FailedIt is refused.Check it.",
            "bucket: UnknownNot tried.First cure the step that failed.",
            "write: Unknown",
        ]
    )


def test_a_step_of_a_check_without_a_clear_result_is_not_called_untried(page: Page, dashboard: Scene) -> None:
    dashboard.model.check = [
        {"name": "create-only", "ok": None, "cause": "The test gave no clear answer.", "cure": ""}
    ]
    panel = open_dashboard(page, dashboard.address)
    panel.get_by_role("button", name="Check connection").click()
    expect(panel.locator(".steps li")).to_have_text("create-only: UnknownThe test gave no clear answer.")


def test_the_panel_says_whether_local_files_are_kept(page: Page, dashboard: Scene) -> None:
    panel = open_dashboard(page, dashboard.address)
    local = panel.locator(".place dt", has_text="Local files").locator("+ dd")
    expect(local).to_have_text("kept")
    dashboard.show(keeps_local_files=False)
    expect(local).to_have_text("deleted after proof")
    dashboard.show(session_id="", state="unavailable", running=False)
    expect(local).to_be_hidden()


def test_a_store_that_overwrites_is_named_with_its_cure(page: Page, dashboard: Scene) -> None:
    panel = open_dashboard(page, dashboard.address)
    risk = panel.get_by_text("This store can't refuse to overwrite")
    expect(panel.locator(".place")).to_be_visible()
    expect(risk).to_be_hidden()
    dashboard.show(overwrite_risk="all_files")
    expect(risk).to_contain_text("can't refuse to overwrite files")
    expect(risk).to_contain_text("put {session_id} into S3_PREFIX")
    dashboard.show(overwrite_risk="large_files")
    expect(risk).to_contain_text("can't refuse to overwrite large files")
    dashboard.show(overwrite_risk="")
    expect(risk).to_be_hidden()


def test_the_first_run_is_calm_and_says_once_what_is_missing(page: Page, dashboard: Scene) -> None:
    page.set_viewport_size({"width": 312, "height": 900})
    states(dashboard.model)["not_configured"]()
    dashboard.model.status["errors"].append("CLOUD_ARCHIVE_WORKERS is 99: use 1 to 64")
    panel = open_dashboard(page, dashboard.address)
    setup = panel.locator(".setup")
    expect(setup).to_contain_text("copies ComfyUI's outputs to your S3 bucket")
    expect(setup.locator(".missing")).to_have_text("Missing: S3_BUCKET, S3_ACCESS_KEY_ID")
    expect(setup.locator("li")).to_have_text(["CLOUD_ARCHIVE_WORKERS is 99: use 1 to 64"])
    expect(panel.locator(".bad:visible")).to_have_count(0)
    expect(panel.locator(".hint")).to_be_hidden()
    expect(panel.get_by_text("Set these environment variables")).to_have_count(1)
    assert setup.locator("pre").evaluate("node => node.scrollWidth <= node.clientWidth"), "nothing is cut off"
    assert not [call for call in dashboard.model.calls if "/files" in call[0]], "there is no list to ask for"


def test_the_upload_form_completes_names_from_the_ledger_and_from_the_directory(
    page: Page, dashboard: Scene
) -> None:
    dashboard.model.files = [
        a_file("portraits/fox_1.png"),
        a_file("portraits/fox_old.png", "baseline"),
        a_file(".cache/", "skipped", 0, reason="hidden"),
        a_file("birds/owl.png"),
    ]
    panel = open_dashboard(page, dashboard.address)
    panel.get_by_role("button", name="Upload now").click()
    panel.get_by_label("File in the watched directory").press_sequentially("fox")
    names = panel.locator("datalist option")
    expect(names).to_have_count(2)
    values = names.evaluate_all("options => options.map(option => option.value)")
    assert values == ["portraits/fox_old.png", "portraits/fox_1.png"]
    submit = panel.get_by_role("button", name="Upload", exact=True)
    assert submit.evaluate("node => node.getClientRects().length === 1 && node.offsetHeight < 36"), "one line"


def test_recent_files_show_the_pictures_of_the_library_once_it_has_them(page: Page, dashboard: Scene) -> None:
    dashboard.catalog.assets = [an_asset(7, datetime.now())]
    upload = recent()[0] | {"file_name": "a.png", "asset_id": dashboard.catalog.assets[0]["id"]}
    dashboard.model.status = a_status(recent_uploads=[upload], uploaded_files=1)
    dashboard.catalog.failure = (503, "The file is not read yet.")
    panel = open_dashboard(page, dashboard.address)
    asked = f"/cloud-sync/assets/{upload['asset_id']}/thumbnail"
    wait_until(lambda: asked in [call[1] for call in dashboard.catalog.calls], "it asks for the picture")
    expect(panel.locator(".recent .thumb[aria-label=Image] .icon-image")).to_be_visible()
    image = panel.locator(".recent .thumb img")
    expect(image).to_be_hidden()  # an <img> that failed shows a broken picture even without its source
    dashboard.catalog.failure = None
    expect(image).to_be_visible()
    page.wait_for_function(
        "document.querySelector('cloud-archive-app').panel.shadowRoot.querySelector('.recent img').naturalWidth === 240"
    )


def test_a_new_file_is_asked_for_its_picture_only_once_there_may_be_one(
    fresh_page: Page, dashboard: Scene
) -> None:
    page = fresh_page
    dashboard.catalog.assets = [an_asset(7, datetime.now())]
    upload = recent()[0] | {"file_name": "a.png", "asset_id": dashboard.catalog.assets[0]["id"]}
    asked = f"/cloud-sync/assets/{upload['asset_id']}/thumbnail"
    page.clock.install(time=datetime.now())
    panel = open_dashboard(page, dashboard.address)
    expect(panel.locator(".state h2")).to_have_text("Up to date")
    page.clock.pause_at(datetime.now() + timedelta(minutes=1))
    dashboard.show(recent_uploads=[upload | {"upload_time": from_now(60)}])
    page.wait_for_function(f"document.querySelector('{APP}').client.status.recent_uploads.length === 1")
    page.clock.run_for(100)
    expect(panel.locator(".recent .thumb[aria-label=Image]")).to_have_count(1)
    page.evaluate("fetch('/cloud-sync/report')")  # an earlier request has arrived by now
    assert asked not in [call[1] for call in dashboard.catalog.calls]
    page.clock.run_for(3_000)
    wait_until(lambda: asked in [call[1] for call in dashboard.catalog.calls], "it asks for the picture")


def test_recent_files_are_one_tab_stop_with_arrow_keys(page: Page, dashboard: Scene) -> None:
    dashboard.model.status = a_status(recent_uploads=recent(), uploaded_files=6)
    panel = open_dashboard(page, dashboard.address)
    buttons = panel.locator(".recent button")
    expect(buttons).to_have_count(6)
    expect(panel.locator('.recent button[tabindex="0"]')).to_have_count(1)
    buttons.first.focus()
    page.keyboard.press("ArrowDown")
    expect(buttons.nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(buttons.nth(5)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(buttons.nth(5)).to_be_focused()
    page.keyboard.press("Tab")
    expect(panel.locator(".recent button:focus")).to_have_count(0)
    page.keyboard.press("Shift+Tab")
    expect(buttons.nth(5)).to_be_focused()


def test_the_end_of_a_long_queue_counts_all_of_its_files(page: Page, dashboard: Scene) -> None:
    open_dashboard(page, dashboard.address)
    said = page.evaluate(
        """async () => {
          const { Notifier } = await import("/notifier.js");
          const said = [];
          const notifier = new Notifier((key, values) => said.push([key, values.n]));
          const see = (more) => notifier.see({ session_id: "s", uploaded_files: 0, already_archived_files: 0,
            failed_files: 0, retrying_files: 0, pending_files: 0, safe_to_stop: true, state: "idle", ...more });
          see({});
          see({ uploaded_files: 8, pending_files: 492, safe_to_stop: false, state: "uploading" });
          see({ uploaded_files: 500, safe_to_stop: false });
          see({ uploaded_files: 500 });
          return said;
        }"""
    )
    assert said == [["toast.done", 500]]


def test_a_file_that_cannot_be_read_is_no_recovery_each_time_another_one_is_archived(
    page: Page, dashboard: Scene
) -> None:
    open_dashboard(page, dashboard.address)
    said = page.evaluate(
        """async () => {
          const { Notifier } = await import("/notifier.js");
          const said = [];
          const notifier = new Notifier((key) => said.push(key));
          const see = (more) => notifier.see({ session_id: "s", uploaded_files: 0, already_archived_files: 0,
            failed_files: 0, retrying_files: 0, pending_files: 1, safe_to_stop: false, state: "retrying",
            waiting: [{ file_name: "a.png", size_bytes: 1, reason: "unreadable" }], ...more });
          see({ pending_files: 0, state: "idle", waiting: [] });
          see({});
          see({ uploaded_files: 1, pending_files: 2, state: "uploading" });
          see({ uploaded_files: 2 });
          see({ uploaded_files: 2, retrying_files: 1 });
          return said;
        }"""
    )
    assert said == ["toast.retrying"], "only for the file that failed at the store"


def test_ages_count_the_whole_units_that_have_passed(page: Page, dashboard: Scene) -> None:
    open_dashboard(page, dashboard.address)
    ages = page.evaluate(
        """async (ages) => {
          const { formatAgo } = await import("/format.js");
          return ages.map((seconds) => formatAgo(new Date(-1000 * seconds), "en-US", 0));
        }""",
        [9, 59, 3_599, 86_399, 29 * 86_400 + 86_399],
    )
    assert ages == ["now", "50 sec. ago", "59 min. ago", "23 hr. ago", "29 days ago"]


def test_a_browser_that_refuses_to_copy_is_named_in_the_users_language(
    browser: Browser, dashboard: Scene
) -> None:
    dashboard.model.files = [a_file("b.png")]
    dashboard.catalog.assets = [an_asset(0, datetime.now())]
    with a_page(browser, locale="ja-JP") as (page, _):
        page.add_init_script("navigator.clipboard.writeText = async () => { throw new Error('denied'); }")
        panel = open_dashboard(page, dashboard.address)
        panel.locator(".found button").click()
        expect(panel.locator(".feedback")).to_have_text("ブラウザーがコピーを許可しませんでした。")
        page.goto(f"{dashboard.address}/?library")
        gallery = page.locator("cloud-archive-gallery")
        gallery.locator(".tile:not(.waiting)").first.click()
        gallery.locator(".details .title button").first.click()
        expect(gallery.locator(".said")).to_have_text("ブラウザーがコピーを許可しませんでした。")


def test_text_is_copied_from_a_dialog_of_a_page_without_a_clipboard(
    fresh_page: Page, dashboard: Scene
) -> None:
    """Pages served over plain HTTP have none."""
    page = fresh_page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.add_init_script(
        "window.kept = navigator.clipboard; Object.defineProperty(navigator, 'clipboard', { value: undefined });"
    )
    dashboard.catalog.assets = [an_asset(0, datetime.now())]
    gallery = open_library(page, dashboard)
    page.evaluate("kept.writeText('before')")
    # ComfyUI copies the selected nodes instead, unless a text field is the target.
    page.evaluate("document.addEventListener('copy', (event) => event.preventDefault())")
    press(gallery, "Enter")
    copy = gallery.locator(".details .title button").first
    copy.click()
    expect(gallery.locator(".said")).to_have_text("Copied")
    expect(copy).to_be_focused()
    wait_until(lambda: str(page.evaluate("kept.readText()")).startswith("a fjord"), "it is copied")
    page.evaluate("kept.writeText('before')")
    # On a Mac, Safari and Firefox take the focus from everything at a click on a button.
    copy.evaluate("node => { node.blur(); node.click(); }")
    wait_until(lambda: str(page.evaluate("kept.readText()")).startswith("a fjord"), "it is copied again")


def test_a_drop_while_the_server_is_away_says_why(page: Page, dashboard: Scene) -> None:
    open_dashboard(page, dashboard.address)
    said = page.evaluate(
        """async () => {
          const { takeDrops } = await import("/canvas_actions.js");
          const { StatusClient } = await import("/status_client.js");
          const client = new StatusClient({ fetch: () => Promise.reject(new TypeError("Failed to fetch")) });
          const app = { canvas: { canvas: document.body, convertEventToCanvasOffset: () => [0, 0] } };
          const said = new Promise((resolve) => takeDrops(app, client, () => "en", resolve));
          const dataTransfer = new DataTransfer();
          dataTransfer.setData("application/x-cloud-archive-asset", "an-id");
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
          return said;
        }"""
    )
    assert said == "The server can't be reached."


@pytest.mark.parametrize("locale", ["en-GB", "ja-JP", "zh-CN"])
def test_labels_fit_at_260_pixels_in_every_language(browser: Browser, dashboard: Scene, locale: str) -> None:
    states(dashboard.model)["retrying"]()
    dashboard.model.status |= {"failed_files": 1, "archived_files": 123_456}
    with a_page(browser, locale=locale, viewport={"width": 260, "height": 900}) as (page, _):
        panel = open_dashboard(page, dashboard.address)
        panel.locator(".actions button").nth(3).click()
        wait_until(lambda: panel.locator(".problem li").count() == 3, "the problems")
        cut = panel.evaluate(
            """panel => [...panel.shadowRoot.querySelectorAll(".counts dt, .counts dd, button, button span, h2, h3")]
              .filter(node => node.offsetParent && node.scrollWidth > node.clientWidth + 1 && node.clientWidth)
              .map(node => node.textContent)"""
        )
        assert cut == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_time_that_a_slow_clock_puts_into_the_future_is_now(page: Page, dashboard: Scene) -> None:
    open_dashboard(page, dashboard.address)
    ages = page.evaluate(
        """async () => {
          const { formatAgo } = await import("/format.js");
          return [300, 40 * 86_400].map((seconds) => formatAgo(new Date(1000 * seconds), "en-US", 0));
        }"""
    )
    assert ages == ["now", "now"]
