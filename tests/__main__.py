"""`python -m tests [--install-browser]`: every check of this repository.

The checks and groups of tests below run side by side, each in its own process: four more than there are cores,
because half of the time of most tests is waiting. After a check that fails, no group is started. A group leaves out
the files that another group names (a browser's event loop and asyncio's do not work in one process).

A busy machine is no excuse: tests wait on events, with limits of a minute.

`--install-browser` first installs a Chromium if this machine has none. Without one, the last line says how many
browser tests did not run, and why.

With other arguments, pytest alone is run with them: `python -m tests -k ledger`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tests.chromium import find_chromium, install_chromium

INSTALL_BROWSER = "--install-browser"
ROOT = Path(__file__).parent.parent
CHECKS: dict[str, tuple[str, ...]] = {
    "ruff check": ("-m", "ruff", "check", "."),
    "ruff format": ("-m", "ruff", "format", "--check", "."),
    "import-linter": ("-c", "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"),
    "mypy": ("-m", "mypy"),
    "tsc and ESLint": ("-m", "tests.javascript"),
}
if sys.version_info < (3, 11):
    del CHECKS["mypy"]  # the last releases of watchdog and PyAV for this Python have other types
# The longest come first, so that all processes end at about the same time.
GROUPS: tuple[tuple[str, ...], ...] = (
    ("tests/browser",),
    ("tests/functional",),
    ("tests/quirks",),
    (  # those that boot ComfyUI's frontend share it
        "tests/browser/test_comfyui_tab.py",
        "tests/browser/test_gallery_comfyui.py",
        "tests/browser/test_real_engine.py",
        "tests/browser/test_library_real.py",
        "tests/browser/test_token_page.py",
    ),
    ("tests/integration",),
    (
        "tests/integration/test_cli.py",
        "tests/integration/test_once.py",
        "tests/integration/test_upload.py",
        "tests/integration/test_demo.py",
        "tests/integration/test_free.py",
        "tests/integration/test_free_races.py",
        "tests/integration/test_examples.py",
        "tests/integration/test_docs.py",
        "tests/integration/test_embedded_store.py",
    ),
    (
        "tests/integration/test_pipeline.py",
        "tests/integration/test_pipeline_trouble.py",
        "tests/integration/test_engine_process.py",
        "tests/integration/test_store.py",
        "tests/integration/test_store_dialects.py",
    ),
    ("tests/faults",),
    (
        "tests/functional/test_failing_ledger.py",
        "tests/functional/test_lost_watches.py",
        "tests/functional/test_odd_files.py",
        "tests/functional/test_replaced_root.py",
        "tests/functional/test_rewritten.py",
        "tests/functional/test_store_away.py",
        "tests/functional/test_visible.py",
        "tests/functional/test_watching.py",
    ),
    ("tests/unit",),
    ("tests/unit/archive", "tests/unit/catalog"),
)
AT_ONCE = (os.cpu_count() or 2) + 4
NO_TESTS = 5  # https://docs.pytest.org/en/stable/reference/exit-codes.html


@dataclass(frozen=True)
class Result:
    """How one process ended."""

    name: str
    status: int
    output: str
    seconds: float

    def show(self) -> None:
        print(f"== {self.name} ({self.seconds:.0f} s)\n{self.output}", flush=True)


def environment() -> dict[str, str]:
    """Return our variables, without the one that has each of a thousand processes compile every module anew."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_python(name: str, *arguments: str) -> Result:
    """Run this interpreter to its end; return its result with all of its output."""
    begin = time.monotonic()
    found = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(),
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
    )
    return Result(name, found.returncode, found.stdout, time.monotonic() - begin)


def run_group(group: tuple[str, ...]) -> Result:
    """Run pytest on these folders and files."""
    others = {path for other in GROUPS if other is not group for path in other}
    left_out = [f"--ignore={path}" for path in others if any(path.startswith(f"{each}/") for each in group)]
    name = f"pytest {' '.join(group)}"
    result = run_python(name, "-m", "pytest", "-q", "-p", "no:cacheprovider", *left_out, *group)
    return result if result.status != NO_TESTS else Result(result.name, 0, result.output, result.seconds)


def run_all() -> int:
    """Run checks and groups. Returns 0 if every check and every test passed."""
    stop = threading.Event()
    status = 0
    with ThreadPoolExecutor(AT_ONCE) as lanes:

        def check(name: str) -> Result | None:
            result = run_python(name, *CHECKS[name])
            if result.status:
                stop.set()
            return result

        def group(paths: tuple[str, ...]) -> Result | None:
            return None if stop.is_set() else run_group(paths)

        jobs = [lanes.submit(check, name) for name in CHECKS]
        jobs += [lanes.submit(group, paths) for paths in GROUPS]
        for job in as_completed(jobs):
            result = job.result()
            if result is not None:
                result.show()
                status = status or result.status
    return status


def main() -> int:
    """Returns the exit status."""
    arguments = [each for each in sys.argv[1:] if each != INSTALL_BROWSER]
    why = "no Chromium, Chrome or Edge was found"
    if INSTALL_BROWSER in sys.argv[1:]:
        why = install_chromium() or why
    if arguments:
        return run_python_here("-m", "pytest", *arguments)
    status = run_all()
    if find_chromium() is None:
        print(f"{count_browser_tests()} browser tests did not run: {why}.", flush=True)
    return status


def count_browser_tests() -> int:
    """How many tests need a browser."""
    found = run_python("collect", "-m", "pytest", "--collect-only", "-q", "tests/browser")
    return sum("::" in line for line in found.output.splitlines())


def run_python_here(*arguments: str) -> int:
    """Run this interpreter on our own terminal."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
