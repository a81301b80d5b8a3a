"""`python -m tests.benchmarks [ROW…] [--rounds N] [--output FILE]`: one table, each row against its peer in one run.

If FILE has `<!-- table -->`, as docs/performance.md has, only the measured lines are replaced in it.

`page` measures everything in docs/performance.md; `curves` and `requests` measure its other parts alone. `process`
stands for the rows of whole processes, and of files a second by workers. Operations are measured one by one:
`verify [OBJECTS]`, `report [ROWS]`, `catalog [ROWS]`, `catalog-bucket [ROWS]`, `thumbnails [FILES]`,
`library [ASSETS]`, `scale-out [ARCHIVERS] [FILES EACH]`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks import (
    catalog_bucket,
    catalog_million,
    curves,
    library,
    report_million,
    requests_per_file,
    scale_out,
    thumbnails,
    verify_20000,
    whole_process,
)
from tests.benchmarks.figures import HEADER, Figure, Row
from tests.benchmarks.machine import facts
from tests.benchmarks.page import PAGE, between, merge_lines, put_between
from tests.benchmarks.rows import ROWS
from tests.servers import running_seaweedfs

OPERATIONS: dict[str, Callable[..., int]] = {
    "verify": verify_20000.main,
    "report": report_million.main,
    "catalog": catalog_million.main,
    "catalog-bucket": catalog_bucket.main,
    "thumbnails": thumbnails.main,
    "library": library.main,
    "scale-out": scale_out.main,
    "requests": requests_per_file.main,
}


def main() -> int:
    """Run the rows and print them as a Markdown table, or measure something else. Returns the exit status."""
    if sys.argv[1:] and sys.argv[1] in OPERATIONS:
        return OPERATIONS[sys.argv[1]](*map(int, sys.argv[2:]))
    if sys.argv[1:2] == ["curves"]:
        return curves.main(*map(Path, sys.argv[2:]))
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds of each measurement; the median counts (default: 5)"
    )
    parser.add_argument("--output", type=Path, help="write the table to this file too")
    given = parser.parse_args()
    if given.rows == ["page"]:
        _measure(list(ROWS), given.rounds, PAGE)
        return requests_per_file.main() or curves.main()
    if given.rows == ["process"]:
        given.rows = list(whole_process.ROWS)
    unknown = set(given.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    _measure(given.rows or list(ROWS), given.rounds, given.output)
    return 0


def _measure(names: Sequence[str], rounds: int, output: Path | None) -> None:
    """Print the machine's facts, and each line of the table when it is measured."""
    known = list(facts(rounds))
    print("\n".join([*known, "", *HEADER]), flush=True)
    lines: list[str] = []
    for name in names:
        for figure in _figures(ROWS[name], rounds):
            print(figure.line, flush=True)
            lines.append(figure.line)
        if output is not None:
            _write(output, known if len(names) == len(ROWS) else [], lines)


def _figures(row: Row, rounds: int) -> list[Figure]:
    """Measure one row with a store and a directory of its own, so that rows don't affect each other."""
    with tempfile.TemporaryDirectory() as directory, running_seaweedfs(Path(directory) / "store") as server:
        figures = row.measure(server.with_fresh_bucket(), Path(directory), rounds)
    assert tuple(figure.work for figure in figures) == row.works
    return figures


def _write(output: Path, known: Sequence[str], lines: Sequence[str]) -> None:
    """Write the table so far; called after each row, so that an interrupted run keeps its lines."""
    if output.is_file() and "<!-- table -->" in output.read_text(encoding="utf-8"):
        old = [line for line in between(output, "table").splitlines() if line]
        put_between(output, "table", merge_lines(old or HEADER, lines))
        if known:
            put_between(output, "machine", known)
    else:
        output.write_text("\n".join([*known, "", *HEADER, *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
