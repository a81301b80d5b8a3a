"""`python -m tests.benchmarks [ROW…] [--rounds N]`: one table, each row a ratio against its peer in the same run.

What operations take is measured by itself: `python -m tests.benchmarks verify [OBJECTS]`, `report [ROWS]`,
`scale-out [ARCHIVERS] [FILES EACH]`.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import report_million, scale_out, verify_20000
from tests.benchmarks.rows import ROWS
from tests.benchmarks.stage import Figure
from tests.servers import running_seaweedfs

OPERATIONS: dict[str, Callable[..., int]] = {
    "verify": verify_20000.main,
    "report": report_million.main,
    "scale-out": scale_out.main,
}


def main() -> int:
    """Run the rows and print them as a Markdown table, or measure one operation. Returns the exit status."""
    if sys.argv[1:] and sys.argv[1] in OPERATIONS:
        return OPERATIONS[sys.argv[1]](*map(int, sys.argv[2:]))
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many (default 5)")
    given = parser.parse_args()
    unknown = set(given.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    print(
        f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, SeaweedFS on loopback\n"
    )
    print("| work | ours | peer | | ratio | goal |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory, running_seaweedfs(Path(directory) / "store") as server:
        for name in given.rows or ROWS:
            for figure in ROWS[name](server.with_fresh_bucket(), Path(directory), given.rounds):
                print(_line(figure), flush=True)
    return 0


def _line(figure: Figure) -> str:
    ours, peer = f"{figure.ours:.3g} {figure.unit}", f"{figure.peer:.3g} {figure.unit}"
    return f"| {figure.work} | {ours} | {peer} | {figure.peer_name} | {figure.ratio:.2f} | {figure.goal} |"


if __name__ == "__main__":
    sys.exit(main())
