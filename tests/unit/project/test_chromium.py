"""Where the browser tests look for a browser, and what happens where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import chromium


def test_windows_browsers_are_looked_for_where_they_install_themselves() -> None:
    environ = {"PROGRAMFILES": r"C:\Program Files", "LOCALAPPDATA": r"C:\Users\me\AppData\Local"}
    found = list(chromium.usual_programs("win32", environ))
    assert r"C:\Program Files\Google\Chrome\Application\chrome.exe" in found
    assert r"C:\Users\me\AppData\Local\Microsoft\Edge\Application\msedge.exe" in found
    assert list(chromium.usual_programs("linux", environ)) == []


def test_an_installed_browser_is_not_installed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromium, "find_chromium", lambda: "/usr/bin/chromium")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it ran something"))
    assert chromium.install_chromium() == ""


def test_each_way_that_fails_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = [sys.executable, "-c", "print('first'); print('no network'); raise SystemExit(1)"]
    nothing = [sys.executable, "-c", "pass"]
    monkeypatch.setattr(chromium, "find_chromium", lambda: None)
    monkeypatch.setattr(chromium, "_install_commands", lambda: [("one", [fails]), ("two", [nothing])])
    assert chromium.install_chromium() == "one: no network; two: it installed no browser"


def test_the_second_way_is_tried_where_the_first_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    fails = [sys.executable, "-c", "raise SystemExit(1)"]
    works = [sys.executable, "-c", f"open({str(made)!r}, 'w')"]
    monkeypatch.setattr(chromium, "find_chromium", lambda: str(made) if made.exists() else None)
    monkeypatch.setattr(chromium, "_install_commands", lambda: [("one", [fails]), ("two", [works])])
    assert chromium.install_chromium() == ""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="apt-get needs root")
def test_debians_chromium_is_tried_where_there_is_no_headless_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: name if name == "apt-get" else None)
    ways = [commands for _, commands in chromium._install_commands()]
    assert [commands[-1][-1] for commands in ways] == ["chromium", "chromium-headless-shell", "chromium"]
    assert "playwright" in ways[0][-1]


def test_a_chromium_without_windows_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert chromium.find_chromium() == "/usr/bin/chromium-headless-shell"


def test_browser_tests_set_routes_by_the_function_that_waits_for_an_open_page() -> None:
    folder = Path(__file__).parents[2] / "browser"
    files = [path.name for path in folder.glob("test_*.py") if ".route(" in path.read_text("utf-8")]
    assert files == [], "use `intercept` of tests/browser/pages.py"
