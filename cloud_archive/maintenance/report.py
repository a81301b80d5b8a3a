"""`report`: files and bytes by time, type or folder, and what they cost.

From the ledger (what is archived now, by the time it came), or from the bucket itself (what lies below the prefix,
by the time it was written). Days and months are local ones.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from ..ledger.history import TimeSlot, archived_by_time, archived_paths
from ..ledger.ledger import Ledger
from ..scope import KeyScope
from ..store.base import ObjectStore
from .costs import Cost, Prices, Usage, requests_for

By = Literal["hour", "day", "month", "type", "folder", "model"]
BY: tuple[By, ...] = ("hour", "day", "month", "type", "folder", "model")  # by model: from the catalog
TIMES: tuple[By, ...] = ("hour", "day", "month")
MONTH_SECONDS = 30 * 86_400.0
NO_TYPE = "(none)"
LONGEST_TYPE = 12  # what comes after the last dot and is longer is part of a name
TOP = "(top)"


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a time (local ISO 8601, its beginning), a type or a folder."""

    name: str
    files: int
    size_bytes: int
    total_bytes: int = 0  # of this and all earlier lines: how it grew; for times only

    def to_json(self, by: By) -> dict[str, Any]:
        """As `--json` and the route show it."""
        found: dict[str, Any] = {"start" if by in TIMES else by: self.name}
        found |= {"files": self.files, "bytes": self.size_bytes}
        return found | ({"total_bytes": self.total_bytes} if by in TIMES else {})


@dataclass(frozen=True, slots=True)
class Report:
    """What there is, in lines, and its cost.

    Attributes:
        rows: times oldest first; types and folders the largest first.
        files, size_bytes: of everything, whatever lines are shown.
    """

    by: By
    source: str
    rows: tuple[Row, ...]
    files: int
    size_bytes: int
    costs: tuple[Cost, ...] = ()
    prices: Prices | None = None

    def to_json(self) -> dict[str, Any]:
        """As `--json` shows it."""
        return {
            "by": self.by,
            "source": self.source,
            "files": self.files,
            "bytes": self.size_bytes,
            "rows": [row.to_json(self.by) for row in self.rows],
            "monthly_cost": [cost.to_json() for cost in self.costs],
            "prices_read_on": None if self.prices is None else self.prices.read_on,
        }

    def to_csv(self) -> str:
        """The lines as CSV, with their names in the first one."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        timed = self.by in TIMES
        writer.writerow(
            ["start" if timed else self.by, "files", "bytes", *(["total_bytes"] if timed else [])]
        )
        for row in self.rows:
            # A name that a spreadsheet would take for a formula gets the apostrophe that makes it a text.
            name = f"'{row.name}" if row.name[:1] in "=+-@\t\r" else row.name
            writer.writerow([name, row.files, row.size_bytes, *([row.total_bytes] if timed else [])])
        return text.getvalue()


@dataclass(slots=True)
class _Sum:
    files: int = 0
    size_bytes: int = 0

    def add(self, files: int, size_bytes: int) -> None:
        self.files += files
        self.size_bytes += size_bytes


def report_from_ledger(
    ledger: Ledger, *, by: By, prices: Prices | None = None, now: Callable[[], float] = time.time
) -> Report:
    """What the ledger has as archived.

    Args:
        prices: None leaves the costs out.

    Raises:
        LedgerError: it cannot be read.
    """
    slots = archived_by_time(ledger)
    rows = _by_time(slots, by) if by in TIMES else _by_name(_pieces_of(ledger, by), by, os.fsdecode)
    return _made(by, "ledger", rows, slots, prices, now())


def report_from_bucket(
    store: ObjectStore,
    scope: KeyScope,
    *,
    by: By,
    prices: Prices | None = None,
    now: Callable[[], float] = time.time,
    on_progress: Callable[[int], None] = lambda listed: None,
) -> Report:
    """Return what lies in the bucket below the prefix, whoever wrote it; without the reserved folder.

    Raises:
        StoreError: the bucket cannot be listed.
    """
    slots: list[TimeSlot] = []
    pieces: defaultdict[bytes, _Sum] = defaultdict(_Sum)
    for info in store.list(scope.listing_prefix):
        if not scope.holds(info.key):
            continue
        written = 0.0 if info.last_modified is None else info.last_modified.timestamp()
        slots.append(TimeSlot(int(written), 1, info.size_bytes))
        if by not in TIMES:
            path = info.key[len(scope.head) :].encode("utf-8", "surrogatepass")
            pieces[_piece(path, by)].add(1, info.size_bytes)
        on_progress(len(slots))
    rows = _by_time(slots, by) if by in TIMES else _by_name(pieces, by, _of_key)
    return _made(by, "bucket", rows, slots, prices, now())


def chart_rows(ledger: Ledger, by: Literal["hour", "day"], last: int, now: float) -> list[dict[str, Any]]:
    """The last hours or days with anything in them, this one included, for the panel's chart.

    Args:
        last: how many hours or days back.
    """
    start = datetime.fromtimestamp(now).replace(minute=0, second=0, microsecond=0)
    if by == "hour":
        since = start.timestamp() - (last - 1) * 3600.0
    else:
        since = (start.replace(hour=0) - timedelta(days=last - 1)).timestamp()
    rows = _by_time(archived_by_time(ledger, since), by)
    return [{"start": row.name, "files": row.files, "bytes": row.size_bytes} for row in rows]


def _by_time(slots: Iterable[TimeSlot], by: By) -> list[Row]:
    sums: defaultdict[str, _Sum] = defaultdict(_Sum)
    for slot in slots:
        moment = datetime.fromtimestamp(slot.start).replace(minute=0, second=0)
        if by != "hour":
            moment = moment.replace(hour=0)
        if by == "month":
            moment = moment.replace(day=1)
        sums[moment.isoformat(timespec="seconds")].add(slot.files, slot.size_bytes)
    rows: list[Row] = []
    total = 0
    for name in sorted(sums):
        total += sums[name].size_bytes
        rows.append(Row(name, sums[name].files, sums[name].size_bytes, total))
    return rows


def _pieces_of(ledger: Ledger, by: By) -> Mapping[bytes, _Sum]:
    """Sums by the piece of the path that counts, as bytes: of a million paths only the few pieces become text."""
    sums: defaultdict[bytes, _Sum] = defaultdict(_Sum)
    for page in archived_paths(ledger):
        for path, size_bytes in page:
            one = sums[_piece(path, by)]
            one.files += 1
            one.size_bytes += size_bytes
    return sums


def _piece(path: bytes, by: By) -> bytes:
    if by == "folder":
        return path[: path.find(b"/") + 1]
    begin = path.rfind(b"/") + 1
    dot = path.rfind(b".", begin)
    return path[dot + 1 :] if dot > begin else b""  # a name that begins with its only dot has no type


def _of_key(piece: bytes) -> str:
    return piece.decode("utf-8", "surrogatepass")


def _by_name(pieces: Mapping[bytes, _Sum], by: By, decode: Callable[[bytes], str]) -> list[Row]:
    sums: defaultdict[str, _Sum] = defaultdict(_Sum)
    for piece, one in pieces.items():
        text = decode(piece)
        sums[_type(text) if by == "type" else text[:-1] or TOP].add(one.files, one.size_bytes)
    rows = [Row(name, one.files, one.size_bytes) for name, one in sums.items()]
    return sorted(rows, key=lambda row: (-row.size_bytes, row.name))


def _type(ending: str) -> str:
    return ending.lower() if 0 < len(ending) <= LONGEST_TYPE else NO_TYPE


def _made(
    by: By, source: str, rows: Sequence[Row], slots: Sequence[TimeSlot], prices: Prices | None, now: float
) -> Report:
    files = sum(slot.files for slot in slots)
    size_bytes = sum(slot.size_bytes for slot in slots)
    costs: tuple[Cost, ...] = ()
    if prices is not None:
        recent = [slot for slot in slots if slot.start >= now - MONTH_SECONDS]
        came = sum(slot.files for slot in recent)
        came_bytes = sum(slot.size_bytes for slot in recent)
        usage = Usage(
            size_bytes=size_bytes,
            files=files,
            month_bytes=came_bytes,
            month_writes=requests_for(came, came_bytes),
        )
        costs = tuple(provider.cost(usage) for provider in prices.providers)
    return Report(by, source, tuple(rows), files, size_bytes, costs, prices)
