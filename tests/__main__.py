"""`python -m tests`: every check of this repository, the fast ones first; stops at the first that fails.

Arguments go to pytest: `python -m tests -k ledger`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECKS: tuple[tuple[str, ...], ...] = (
    ("-m", "ruff", "check", "."),
    ("-m", "ruff", "format", "--check", "."),
    ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
    ("-m", "mypy"),
)


def main() -> int:
    """Returns the exit status of the first check that fails, else that of pytest."""
    for check in (*CHECKS, ("-m", "pytest", *sys.argv[1:])):
        name = check[1] if check[0] == "-m" else "import-linter"
        print(f"== {name}", flush=True)
        status = subprocess.run([sys.executable, *check], cwd=ROOT, check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
