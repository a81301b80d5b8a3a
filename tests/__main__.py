"""`python -m tests`: every check of this repository, the fast ones first; ends at the first that fails.

The tests run in groups, two at a time, each in a process of its own (a browser's event loop and asyncio's do not go
together in one). Much of what they prove has to do with time, and two groups on two cores are in each other's way:
what fails beside another group is run once more alone, and said to be. What fails then has failed.

With arguments, pytest alone is run with them: `python -m tests -k ledger`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECKS: dict[str, tuple[str, ...]] = {
    "ruff check": ("-m", "ruff", "check", "."),
    "ruff format": ("-m", "ruff", "format", "--check", "."),
    "import-linter": ("-c", "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"),
    "mypy": ("-m", "mypy"),
}
# The longest first, so that none is left over at the end.
GROUPS: tuple[tuple[str, ...], ...] = (
    ("tests/integration",),
    ("tests/unit", "tests/functional"),
    ("tests/quirks", "tests/faults"),
    ("tests/browser",),
)
AT_ONCE = 2
NO_TESTS = 5  # https://docs.pytest.org/en/stable/reference/exit-codes.html


@dataclass(frozen=True)
class Result:
    """One group's run."""

    folders: tuple[str, ...]
    status: int
    output: str
    seconds: float

    def show(self, note: str) -> None:
        print(f"== pytest {' '.join(self.folders)}{note} ({self.seconds:.0f} s)\n{self.output}", flush=True)


def run_group(folders: tuple[str, ...], cache: Path, *more: str) -> Result:
    """Run pytest on these folders; what failed is remembered below `cache`."""
    begin = time.monotonic()
    name = "-".join(Path(folder).name for folder in folders)
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={cache / name}", *more, *folders],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
    )
    return Result(folders, found.returncode, found.stdout, time.monotonic() - begin)


def run_tests() -> int:
    """Run all groups. Returns 0 where every test passed, beside others or alone."""
    status = 0
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(AT_ONCE) as lanes:
        cache = Path(directory)
        failed: list[tuple[str, ...]] = []
        for result in lanes.map(lambda folders: run_group(folders, cache), GROUPS):
            result.show("")
            if result.status not in (0, NO_TESTS):
                failed.append(result.folders)
        for folders in failed:
            result = run_group(folders, cache, "--last-failed", "--last-failed-no-failures", "none")
            result.show(", what failed beside another group once more alone")
            status = status or result.status
    return status


def main() -> int:
    """Returns the exit status of the first check that fails, else that of the tests."""
    if sys.argv[1:]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", *sys.argv[1:]], cwd=ROOT, check=False
        ).returncode
    for name, check in CHECKS.items():
        print(f"== {name}", flush=True)
        status = subprocess.run([sys.executable, *check], cwd=ROOT, check=False).returncode
        if status:
            return status
    return run_tests()


if __name__ == "__main__":
    sys.exit(main())
