"""Find a Chromium for the browser tests, and install one if there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

_COMMANDS = (
    "chromium-headless-shell",  # Chromium without windows: takes an eighth less processor time here
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "microsoft-edge-stable",
)
_MAC_PROGRAMS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
_WINDOWS_PROGRAMS = (r"Google\Chrome\Application\chrome.exe", r"Microsoft\Edge\Application\msedge.exe")
_WINDOWS_FOLDERS = ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
_INSTALL_SECONDS = 600


def find_chromium() -> str | None:
    """Return the path of Chromium, Chrome or Edge, else of Playwright's own download, else None."""
    for name in _COMMANDS:
        if path := shutil.which(name):
            return path
    for program in usual_programs(sys.platform, os.environ):
        if Path(program).is_file():
            return str(program)
    return _playwright_program()


def usual_programs(platform: str, environ: Mapping[str, str]) -> Iterable[str | PurePath]:
    """Yield where browsers are installed on macOS and Windows, which do not put them on the PATH."""
    if platform == "darwin":
        yield from _MAC_PROGRAMS
    elif platform == "win32":
        for folder in _WINDOWS_FOLDERS:
            if base := environ.get(folder):
                yield from (f"{base}\\{program}" for program in _WINDOWS_PROGRAMS)


def _playwright_program() -> str | None:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return None
    try:
        with sync_playwright() as playwright:
            program = Path(playwright.chromium.executable_path)
    except (Error, OSError):
        return None
    return str(program) if program.is_file() else None


def install_chromium() -> str:
    """Install Chromium: Playwright's download, else a package of Debian's where this user is root.

    Returns:
        Why there is still none; empty where it worked.
    """
    if find_chromium():
        return ""
    reasons = []
    for what, commands in _install_commands():
        failure = next((reason for command in commands if (reason := _run(command))), "")
        if not failure and find_chromium():
            return ""
        reasons.append(f"{what}: {failure or 'it installed no browser'}")
    return "; ".join(reasons)


def _install_commands() -> Iterable[tuple[str, list[list[str]]]]:
    yield "Playwright's download", [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
        yield "Debian's package", [["apt-get", "update", "-qq"], [*install, "chromium-headless-shell"]]
        yield "Debian's chromium", [[*install, "chromium"]]  # older releases have no headless shell


def _run(command: list[str]) -> str:
    """Run a command that installs something. Returns why it failed in one line; empty where it did not."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            check=False,
            timeout=_INSTALL_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    named = [line for line in lines if line.startswith(("Error:", "E:"))]
    return (named or lines or [f"exit status {done.returncode}"])[-1]
