"""The panel for everybody: accessible, in every language and browser, and without motion for those who ask."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from cloud_archive.store.failures import explain
from tests.browser.conftest import a_page
from tests.browser.pages import TITLES, heading, open_dashboard, serious_findings
from tests.browser.panel_pictures import states
from tests.browser.scripted_model import a_file, a_status
from tests.browser.stage import Scene


@pytest.mark.parametrize(("scheme", "width"), [("dark", 260), ("light", 1200)])
def test_axe_finds_nothing_serious_in_the_fullest_states(
    page: Page, dashboard: Scene, scheme: str, width: int
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 900})
    prepare = states(dashboard.model)
    prepare["idle"]()
    panel = open_dashboard(page, dashboard.address)
    panel.get_by_role("button", name="Check connection").click()
    expect(panel.locator(".steps li")).to_have_count(4)
    for name in ("uploading", "unarchived", "stopping", "retrying", "not_configured"):
        prepare[name]()
        dashboard.push()
        expect(heading(panel)).to_have_text(TITLES.get(name, "Up to date"))
        if name == "retrying":
            panel.get_by_role("button", name="Upload now").first.click()
            expect(panel.locator(".problem li")).to_have_count(3)
        assert serious_findings(page, "body") == [], name
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.emulate_media(color_scheme="null")


@pytest.mark.parametrize(
    ("locale", "title", "safe"),
    [
        ("ja-JP", "アップロード中", "まだ停止できません"),
        ("zh-CN", "正在上传", "暂时不能停止"),
        ("fr-FR", "Uploading", "Not yet"),
    ],
)
def test_the_page_speaks_the_language_of_the_browser(
    browser: Browser, dashboard: Scene, locale: str, title: str, safe: str
) -> None:
    states(dashboard.model)["uploading"]()
    with a_page(browser, locale=locale) as (page, _):
        panel = open_dashboard(page, dashboard.address)
        expect(heading(panel)).to_have_text(title)
        expect(panel.locator(".safe")).to_contain_text(safe)
        language = "en" if locale == "fr-FR" else locale
        expect(page.locator("html")).to_have_attribute("lang", language)


def test_every_language_has_every_string_with_the_same_values_in_it(page: Page, dashboard: Scene) -> None:
    open_dashboard(page, dashboard.address)
    tables: dict[str, dict[str, Any]] = page.evaluate(
        "Promise.all(['en','ja','zh'].map(l => import(`/strings/${l}.js`).then(m => [l, m[l]])))"
        ".then(Object.fromEntries)"
    )

    def values(text: Any) -> set[str]:
        return set(re.findall(r"\{\w+\}", text["other"] if isinstance(text, dict) else text))

    for language in ("ja", "zh"):
        assert tables[language].keys() == tables["en"].keys()
        for key, text in tables["en"].items():
            assert values(tables[language][key]) == values(text), (language, key)


def test_nothing_moves_for_people_who_asked_for_less_motion(page: Page, dashboard: Scene) -> None:
    states(dashboard.model)["uploading"]()
    page.emulate_media(reduced_motion="no-preference")
    bar = open_dashboard(page, dashboard.address).locator(".bar > span").first
    expect(bar).not_to_have_css("transition-property", "none")
    page.emulate_media(reduced_motion="reduce")
    expect(bar).to_have_css("transition-property", "none")


def test_a_browser_that_keeps_nothing_shows_the_page(fresh_page: Page, dashboard: Scene) -> None:
    page = fresh_page
    page.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name,"
        " { get() { throw new DOMException('Access is denied.', 'SecurityError'); } });"
    )
    panel = open_dashboard(page, dashboard.address)
    expect(heading(panel)).to_have_text("Up to date")


def test_a_language_tag_that_is_none_still_gives_a_page(fresh_page: Page, dashboard: Scene) -> None:
    """Browsers started with LANG=C have named "en-US@posix" as their language."""
    page = fresh_page
    page.add_init_script("Object.defineProperty(navigator, 'language', { get: () => 'en-US@posix' });")
    dashboard.model.files = [a_file("a.png")]
    panel = open_dashboard(page, dashboard.address)
    expect(heading(panel)).to_have_text("Up to date")
    expect(panel.locator(".found time")).to_have_text("now")


_NO_BUCKET = explain("NoSuchBucket").sentence
_EMPTY = "b.png is empty and was not archived."


@pytest.mark.parametrize(
    ("locale", "no_bucket", "empty"),
    [
        (
            "ja-JP",
            "このエンドポイントにバケットが存在しません。"
            "バケットを作成するか、S3_BUCKET と S3_ENDPOINT_URL を修正してください。",
            "b.png は空のため、アーカイブされませんでした。",
        ),
        (
            "zh-CN",
            "此端点上不存在该存储桶。请创建存储桶，或更正 S3_BUCKET 和 S3_ENDPOINT_URL。",
            "b.png 为空，未归档。",
        ),
        ("fr-FR", _NO_BUCKET, _EMPTY),
    ],
    ids=["Japanese", "Chinese", "English"],
)
def test_messages_of_the_server_are_in_the_language_of_the_page(
    browser: Browser, dashboard: Scene, locale: str, no_bucket: str, empty: str
) -> None:
    unknown = "The moon is full."
    dashboard.model.status = a_status(errors=[f"new/a.png: {_NO_BUCKET}", _EMPTY, unknown])
    with a_page(browser, locale=locale) as (page, _):
        panel = open_dashboard(page, dashboard.address)
        expect(panel.locator(".messages li")).to_have_text([unknown, empty, f"new/a.png: {no_bucket}"])


def test_a_cause_is_shown_in_the_users_language_and_copied_in_english(
    browser: Browser, dashboard: Scene
) -> None:
    failure = explain("AccessDenied")
    dashboard.model.files = [a_file("a.png", "failed", cause=failure.cause, cure=failure.cure, attempts=1)]
    dashboard.model.status = a_status(failed_files=1)
    with a_page(browser, locale="ja-JP") as (page, _):
        page.add_init_script("navigator.clipboard.writeText = async (text) => { window.copied = text; };")
        panel = open_dashboard(page, dashboard.address)
        expect(panel.locator(".cause")).to_have_text(
            "ストアがアクセスを拒否しました。この認証情報にはここへの書き込み権限がありません。"
        )
        expect(panel.locator(".cure")).to_contain_text("s3:PutObject を許可し")
        panel.get_by_role("button", name="a.png のエラーをコピー").click()
        expect(panel.locator(".feedback")).to_have_text("コピーしました")
        assert page.evaluate("copied") == f"a.png: {failure.sentence}"


def test_only_whole_sentences_are_translated(page: Page, dashboard: Scene) -> None:
    open_dashboard(page, dashboard.address)
    answers = {
        "Stopped. 1 upload in progress will finish. 1,200 files will wait until you start again.": (
            "停止しました。実行中のアップロード 1 件は完了します。1,200 ファイルは、次に開始するまで待機します。"
        ),
        "3 new or changed files found.": ("新しいファイルまたは変更されたファイルが 3 件見つかりました。"),
        "Archiving /data/v1.5/out.": "/data/v1.5/out をアーカイブしています。",
        "unreadable": "読み取れません",
        "unreadable.png: 404 pages found.": "unreadable.png: 404 pages found.",
        "The store failed (Busy: try later).": "ストアでエラーが発生しました（Busy: try later）。",
    }
    translated = page.evaluate(
        "texts => import('/strings.js').then(({ translator }) => texts.map(translator('ja').server))",
        [*answers],
    )
    assert translated == [*answers.values()]
