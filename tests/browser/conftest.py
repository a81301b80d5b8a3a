"""Chromium once a session, an empty page for each test, and an eye on the page's console."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Error,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.browser.pages import open_comfy, toasts
from tests.browser.panel_pictures import paint_outputs
from tests.browser.scripted_catalog import ScriptedCatalog
from tests.browser.scripted_model import a_status
from tests.browser.stage import (
    CHROMIUM_ARGUMENTS,
    Background,
    Scene,
    comfy_scene,
    current_frontend,
    dashboard_scene,
    old_frontend,
)
from tests.chromium import find_chromium
from tests.servers import missing

# A deadline, not a goal: the machine may be busy with other groups of tests.
expect.set_options(timeout=60_000)

OUR_FILES = (
    "/extensions/cloud-archive/",
    "/gallery/",
    "/panel/",
    "/strings/",
    "/archive_app.js",
    "/archive_panel.js",
    "/canvas_actions.js",
    "/dashboard.js",
    "/format.js",
    "/notifier.js",
    "/page_history.js",
    "/status_client.js",
    "/strings.js",
)


@pytest.hookimpl(trylast=True)  # after pytest has put the tests together that share a frontend
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test in this folder needs Chromium. Those in ComfyUI come last: its page never rests, and stays open."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
    items.sort(key=lambda item: "frontend" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    servers = Background()
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        missing("chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=list(CHROMIUM_ARGUMENTS))
        yield launched
        launched.close()


USUAL_SIZE: ViewportSize = {"width": 1280, "height": 900}


class Console:
    """Collect the complaints on a page's console that concern our files."""

    def __init__(self, page: Page) -> None:
        self.complaints: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", self._hear_error)

    def _hear(self, message: ConsoleMessage) -> None:
        place = str(message.location.get("url", ""))
        if message.type not in ("error", "warning"):
            return
        ours = any(part in place or part in message.text for part in OUR_FILES)
        if ours or ("deprecat" in message.text.lower() and "cloud" in message.text.lower()):
            self.complaints.append(f"{message.type}: {message.text} ({place})")

    def _hear_error(self, error: Error) -> None:
        # The frontend has errors of its own: only those count that passed through a file of ours.
        if any(part in (error.stack or "") for part in OUR_FILES):
            self.complaints.append(error.stack or str(error))


@pytest.fixture
def fresh_page(browser: Browser) -> Iterator[Page]:
    """A page for this test alone, to be tampered with; it fails where one of our files complained on its console."""
    with a_page(browser) as (opened, console):
        yield opened
    assert console.complaints == []


@pytest.fixture(scope="session")
def one_page(browser: Browser) -> Iterator[tuple[Page, Console]]:
    with a_page(browser) as made:
        yield made


@pytest.fixture
def page(one_page: tuple[Page, Console]) -> Iterator[Page]:
    """An empty page of the usual size, one after another in one context: a fresh one costs 1.5 s of processor time.

    The test fails where one of our files wrote an error or a warning to its console.
    """
    opened, console = one_page
    # Without motion the library's tests take a seventh less time. On fresh pages and in ComfyUI its tiles do move.
    opened.emulate_media(reduced_motion="reduce")
    yield opened
    opened.unroute_all(behavior="ignoreErrors")
    opened.set_viewport_size(USUAL_SIZE)
    if opened.url.startswith("http"):  # the next test may be at the same address
        opened.evaluate("localStorage.clear(), sessionStorage.clear()")
    opened.goto("about:blank")
    complaints, console.complaints = console.complaints, []
    assert complaints == []


@pytest.fixture
def dialogs(page: Page) -> Iterator[list[str]]:
    """The texts of the dialogs that the page opens; each is dismissed."""
    texts: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        texts.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    yield texts
    page.remove_listener("dialog", dismiss)


@contextmanager
def a_page(browser: Browser, **options: Any) -> Iterator[tuple[Page, Console]]:
    """Yield a page in a context of its own with these options; each step may take a minute."""
    usual = {"viewport": USUAL_SIZE, "locale": "en-GB"}
    with browser.new_context(**usual | options) as context:
        context.set_default_timeout(60_000)
        opened = context.new_page()
        yield opened, Console(opened)


@pytest.fixture
def library(background: Background, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """The daemon's page with this many assets, twenty a day."""
    with dashboard_scene(background, ScriptedCatalog(getattr(request, "param", 60), per_day=20)) as scene:
        yield scene


@pytest.fixture
def dashboard(background: Background) -> Iterator[Scene]:
    """The daemon's page with the scripted model behind it."""
    with dashboard_scene(background) as scene:
        yield scene


@pytest.fixture(scope="session", params=["current", "old"])
def frontend(request: pytest.FixtureRequest) -> Path:
    """The static files of a ComfyUI frontend: the installed one, and the oldest that we promise."""
    try:
        return current_frontend() if request.param == "current" else old_frontend()
    except (ImportError, OSError, subprocess.SubprocessError) as error:
        missing(f"comfyui-frontend-package ({error})")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """ComfyUI's output directory."""
    directory = tmp_path / "output"
    directory.mkdir()
    return directory


@pytest.fixture(scope="session")
def booted(
    browser: Browser, background: Background, frontend: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Page, Scene, Path, Console]]:
    """A real frontend, booted once (it takes seconds), with the scripted model behind it."""
    output = tmp_path_factory.mktemp("output")
    # This server knows no nodes: the oldest frontend would say so in a dialog over everything.
    quiet = {"Comfy.Workflow.ShowMissingNodesWarning": False}
    with comfy_scene(background, frontend, output, quiet) as scene, a_page(browser) as (opened, console):
        open_comfy(opened, scene.address)
        yield opened, scene, output, console


@pytest.fixture
def comfy(booted: tuple[Page, Scene, Path, Console]) -> Iterator[tuple[Page, Scene]]:
    """The booted frontend with the tab closed, everything archived, and a new session of the archive."""
    page, scene, output, console = booted
    page.evaluate(
        "() => { const bar = app.extensionManager.sidebarTab;"
        " if (bar.activeSidebarTabId === 'cloud-archive') bar.toggleSidebarTab('cloud-archive');"
        " const toast = app.extensionManager.toast; (toast.dismissAll ?? toast.removeAll)(); }"
    )
    expect(toasts(page, "Cloud Archive")).to_have_count(0)  # they fade out
    paint_outputs(output)
    scene.model.files, scene.model.calls = [], []
    scene.model.status = a_status(session_id=str(uuid.uuid4()))
    scene.push()
    page.wait_for_function(
        "app.extensionManager.getSidebarTabs().find(t => t.id === 'cloud-archive').tooltip"
        " === 'Cloud Archive: Up to date'"
    )
    yield page, scene
    complaints, console.complaints = console.complaints, []
    assert complaints == []
