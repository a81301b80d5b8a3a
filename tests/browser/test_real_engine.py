"""The panel on our own routes, a real engine, and a real S3 store that is stopped and started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from cloud_archive.api.server import build_application
from cloud_archive.archive.engine import Engine
from cloud_archive.demo.seaweedfs import free_ports
from tests.browser.pages import heading, intercept, open_dashboard, open_tab, serious_findings
from tests.browser.real_plugin import real_plugin
from tests.browser.stage import CURRENT_FRONTEND, Background, Scene
from tests.servers import S3Server, listens, wait_until

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415408d763f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
LARGE_BYTES = 24_000_000
STATUS = "**/cloud-sync/status"


@contextmanager
def real_daemon(background: Background, output: Path, state: Path) -> Iterator[str]:
    """Run the daemon's public listener with an engine in this process."""
    engine = Engine(output, state_base=state)
    engine.start()
    try:
        with background.serving(build_application(engine, token=None)) as address:
            yield address
    finally:
        engine.close(1.0)


def drop(output: Path, name: str, size_bytes: int = 0) -> None:
    """Make a complete file appear: write it elsewhere, then move it in."""
    hidden = output / f".{name}.part"
    hidden.write_bytes(PNG + os.urandom(size_bytes))
    hidden.rename(output / name)


def check_the_life_of_an_archive(page: Page, panel: Locator, output: Path, store: S3Server) -> None:
    """Check the panel through idle, one file, a large file with progress, a stopped and restarted store, and Retry."""
    expect(heading(panel)).to_have_text("Up to date", timeout=60_000)

    # A file whose name is markup is shown as text, and by a push: the page can't ask for the status meanwhile.
    newest = panel.locator(".recent li").first
    name = "<img src=x onerror=alert(1)>.png"
    intercept(page, STATUS, lambda route: route.abort())
    drop(output, name)
    expect(newest).to_contain_text(name)
    page.unroute(STATUS)
    expect(panel.locator(".safe")).to_have_text("Safe to stop")

    page.evaluate(
        "() => { window.seen = new Set(); const root = document.querySelector('cloud-archive-app').panel.shadowRoot;"
        " window.watching = new MutationObserver(() => { for (const bar of root.querySelectorAll('[role=progressbar]'))"
        " seen.add(bar.getAttribute('aria-valuenow')); });"
        " watching.observe(root, {subtree: true, childList: true, attributes: true}); }"
    )
    drop(output, "large.bin", LARGE_BYTES)
    expect(newest).to_contain_text("large.bin", timeout=60_000)
    steps = {int(value) for value in page.evaluate("watching.disconnect() ?? [...seen]") if value is not None}
    assert len(steps) >= 2, steps

    assert store.embedded is not None
    store.embedded.stop()
    drop(output, "while_away.png")
    problem = panel.locator(".problem")
    expect(problem).to_contain_text("Nothing answers at the endpoint", timeout=60_000)
    expect(problem).to_contain_text("while_away.png")
    expect(panel.locator(".safe")).to_contain_text("Not yet")
    assert serious_findings(page) == []

    # Retry while the store is away: once it answers, the archive goes on by itself, and the button is gone.
    with page.expect_request("**/cloud-sync/upload"):
        panel.get_by_role("button", name="Retry while_away.png").click()
    store.embedded.start()
    expect(newest).to_contain_text("while_away.png", timeout=60_000)
    expect(problem).to_have_count(0)
    expect(heading(panel)).to_have_text("Up to date")
    expect(panel.locator(".safe")).to_have_text("Safe to stop")
    expect(panel.locator(".found li").first).to_contain_text("while_away.png")


@pytest.fixture
def settings(own_seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Settings for a store that the test may stop; uploads are slow enough to be seen."""
    for name, value in own_seaweedfs.environ(CLOUD_ARCHIVE_MAX_BANDWIDTH="3MB/s").items():
        monkeypatch.setenv(name, value)
    return own_seaweedfs


@pytest.mark.store
@CURRENT_FRONTEND
def test_comfyuis_tab_shows_the_life_of_an_archive(
    comfy: tuple[Page, Scene], output: Path, settings: S3Server, tmp_path: Path
) -> None:
    page, scene = comfy
    with real_plugin(scene, output, tmp_path / "state"):
        check_the_life_of_an_archive(page, open_tab(page, scene.address), output, settings)


@pytest.mark.store
def test_the_daemons_page_shows_the_life_of_an_archive(
    page: Page, background: Background, output: Path, settings: S3Server, tmp_path: Path
) -> None:
    with real_daemon(background, output, tmp_path / "state") as address:
        check_the_life_of_an_archive(page, open_dashboard(page, address), output, settings)


@pytest.mark.store
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_the_page_of_a_daemon_that_is_stopped_by_a_signal_is_not_green(
    page: Page, settings: S3Server, tmp_path: Path
) -> None:
    output, (port, *_) = tmp_path / "output", free_ports(1)
    output.mkdir()
    environ = {**os.environ, "CLOUD_ARCHIVE_STATE_DIR": str(tmp_path / "state")}
    command = [sys.executable, "-m", "cloud_archive", "watch", str(output), "--serve", f"127.0.0.1:{port}"]
    daemon = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), "the page is served")
        panel = open_dashboard(page, f"http://127.0.0.1:{port}")
        expect(heading(panel)).to_have_text("Up to date")
        daemon.send_signal(signal.SIGSTOP)
        expect(heading(panel)).to_have_text("Server unreachable", timeout=60_000)
        expect(panel.locator(".safe")).to_have_text("Can't tell whether it is safe to stop")
        daemon.send_signal(signal.SIGCONT)
        expect(heading(panel)).to_have_text("Up to date")
    finally:
        daemon.send_signal(signal.SIGCONT)
        daemon.terminate()
        daemon.wait(60)
