"""Run `tsc` and ESLint on `web/`. The first run installs both from npm into this folder.

Without Node.js nothing is checked; with CLOUD_ARCHIVE_REQUIRE_ALL=1 that is a failure. The exit status is 0 if all is
well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LOCK = HERE / "package-lock.json"
INSTALLED = HERE / "node_modules" / ".package-lock.json"


def main() -> int:
    """Check types and style. Returns the exit status."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        required = os.environ.get("CLOUD_ARCHIVE_REQUIRE_ALL") == "1"
        print("web/ was not checked: Node.js and npm are not installed.")
        return 1 if required else 0
    if not INSTALLED.is_file() or INSTALLED.stat().st_mtime < LOCK.stat().st_mtime:
        if status := run(npm, "ci", "--no-audit", "--no-fund", cwd=HERE):
            return status
        INSTALLED.touch()
    modules = HERE / "node_modules"
    types = run(node, str(modules / "typescript" / "bin" / "tsc"), "--noEmit", "-p", str(HERE), cwd=ROOT)
    config = ("-c", str(HERE / "eslint.config.js"), "--max-warnings", "0")
    style = run(node, str(modules / "eslint" / "bin" / "eslint.js"), *config, "web", cwd=ROOT)
    return types or style


def run(*command: str, cwd: Path) -> int:
    """Run a command to its end and return its exit status."""
    return subprocess.run(command, cwd=cwd, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
