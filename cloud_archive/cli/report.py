"""`report`: files and bytes over time, and their monthly cost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CloudArchiveError
from ..terminal import format_table, is_terminal, print_json, print_line
from ..text import count_noun, format_bytes, make_printable
from .arguments import WrongUsage
from .common import bucket, ledger_of, needed_root, reading_scope, settings_now
from .options import Directory, Json

if TYPE_CHECKING:
    from ..maintenance.costs import Prices
    from ..maintenance.report import By, Report, ReportRow

NO_MODEL = "(none known)"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", short_help="Show files and bytes over time, and their monthly cost.")(report)


def report(
    directory: Directory = None,
    by: Annotated[
        str, typer.Option("--by", metavar="WHAT", help="hour, day, month, type, folder or model.")
    ] = "day",
    from_bucket: Annotated[
        bool, typer.Option("--bucket", help="Count what is in the bucket instead of the ledger.")
    ] = False,
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="P", help="With --bucket: only keys below P.")
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(
            "--prices", metavar="FILE", help="A table of prices (JSON) to use instead of the built-in one."
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print the lines as CSV.")] = False,
    json: Json = False,
) -> None:
    """Show archived files and bytes by time, type, folder or model, and their monthly cost at R2, S3, GCS and B2.

    --by model shows no cost.
    """
    from ..maintenance.costs import TABLE, load_prices
    from ..maintenance.report import BY

    if by not in BY:
        raise WrongUsage(f"--by {by!r}: accepted are {', '.join(BY[:-1])} and {BY[-1]}.")
    if csv and json:
        raise WrongUsage("Give --csv or --json, not both.")
    if prefix is not None and not from_bucket:
        raise WrongUsage("--prefix needs --bucket.")
    if by == "model" and from_bucket:
        raise WrongUsage("--by model reads the catalog, not the bucket: leave --bucket out.")
    try:
        table = load_prices(prices or TABLE)
    except CloudArchiveError as error:
        raise WrongUsage(f"--prices: {error}") from error
    found = _build(directory, by, from_bucket, prefix, table)
    if json:
        print_json(found.to_json())
    elif csv:
        sys.stdout.write(found.to_csv())
    else:
        _show(found)


def _build(directory: Path | None, by: By, from_bucket: bool, prefix: str | None, prices: Prices) -> Report:
    from ..maintenance.report import report_from_bucket, report_from_ledger
    from .progress import Progress

    if by == "model":
        return _by_model(directory)
    if from_bucket:
        settings = settings_now()
        with bucket(settings) as store, Progress(is_terminal(sys.stderr), "Listing") as progress:
            return report_from_bucket(
                store,
                reading_scope(prefix, settings),
                by=by,
                prices=prices,
                on_progress=lambda listed: progress.draw(0, None, f"{listed:,} objects"),
            )
    root = needed_root(directory)
    with ledger_of(root, needed=True) as ledger:
        assert ledger is not None
        return report_from_ledger(ledger, by=by, prices=prices)


def _by_model(directory: Path | None) -> Report:
    from ..catalog.search import files_by_model
    from ..maintenance.report import Report, ReportRow
    from .catalog_view import catalog_of

    with catalog_of(directory) as database, database.reading() as db:
        rows = [ReportRow(name or NO_MODEL, files, size) for name, files, size in files_by_model(db)]
        files, size = db.execute("SELECT count(*), coalesce(sum(size), 0) FROM assets").fetchone()
    rows.sort(key=lambda row: (-row.size_bytes, row.name))
    return Report("model", "catalog", tuple(rows), files, size)


def _show(found: Report) -> None:
    from ..maintenance.report import TIMES

    where = {"bucket": "in the bucket", "catalog": "in the catalog"}.get(
        found.source, "archived, according to the ledger"
    )
    print_line(f"{count_noun(found.files, 'file')}, {format_bytes(found.size_bytes)} {where}.")
    if found.stored_files is not None and found.stored_files < found.files:
        print_line(
            f"The costs are for {count_noun(found.stored_files, 'object')}, {format_bytes(found.stored_bytes or 0)}:"
            " where several versions have the same key, the bucket holds only the newest."
        )
    timed = found.by in TIMES
    head = [found.by, "files", "size", *(["total"] if timed else [])]
    _print(head, [_cells(row, timed=timed) for row in found.rows])
    if found.prices is None or not found.costs:
        return
    print_line()
    print_line(
        f"Cost per month in {found.prices.currency}, by list prices of {found.prices.read_on}; fixed free allowances"
        " are not deducted:"
    )
    _print(
        ["provider", "storage", "writes", "total per month", "per month in a year", "download everything"],
        [
            [
                cost.provider,
                *(_money(a) for a in (cost.storage, cost.writes, cost.now, cost.projected, cost.bring_back)),
            ]
            for cost in found.costs
        ],
    )
    print_line(
        "Per month in a year: if every month adds as much as the last 30 days. Download everything: each file once."
    )


def _cells(row: ReportRow, *, timed: bool) -> list[str]:
    name = row.name.removesuffix("T00:00:00").replace("T", " ") if timed else row.name
    return [
        make_printable(name),
        f"{row.files:,}",
        format_bytes(row.size_bytes),
        *([format_bytes(row.total_bytes)] if timed else []),
    ]


def _money(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 0.01 or amount == 0 else "<0.01"


def _print(head: list[str], rows: list[list[str]]) -> None:
    if not is_terminal(sys.stdout):
        for line in format_table([head, *rows]):
            print_line(line)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False)
    for place, name in enumerate(head):
        justify: Any = "left" if place == 0 else "right"
        drawn.add_column(name, justify=justify)
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout, highlight=False).print(drawn)
