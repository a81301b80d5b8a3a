"""Report files and bytes by time, type or folder, and what they cost.

The source is the ledger (archived files, by the time of archiving) or the bucket (objects below the prefix, by the time
they were written). Days and months are in local time.
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

from ..ledger.history import SLOT_SECONDS, TimeSlot, archived_by_time, archived_paths, stored_by_time
from ..ledger.ledger import Ledger
from ..scope import KeyScope
from ..store.base import ObjectStore
from .costs import Cost, Prices, Usage, requests_for

PathBy = Literal["hour", "day", "month", "type", "folder"]
By = PathBy | Literal["model"]
BY: tuple[By, ...] = ("hour", "day", "month", "type", "folder", "model")  # `model` needs the catalog
TIMES: tuple[By, ...] = ("hour", "day", "month")
MONTH_SECONDS = 30 * 86_400.0
NO_TYPE = "(none)"
MAX_TYPE_CHARACTERS = 12  # a longer text after the last dot is part of the name
TOP_FOLDER = "(top)"


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One line of a report.

    Attributes:
        name: a type, a folder, a model, or the start of a time span in local ISO 8601.
        total_bytes: the bytes of this and all earlier lines; for times only.
    """

    name: str
    files: int
    size_bytes: int
    total_bytes: int = 0

    def to_json(self, by: By) -> dict[str, Any]:
        row: dict[str, Any] = {"start" if by in TIMES else by: self.name}
        row |= {"files": self.files, "bytes": self.size_bytes}
        return row | ({"total_bytes": self.total_bytes} if by in TIMES else {})


@dataclass(frozen=True, slots=True)
class Report:
    """A report.

    Attributes:
        source: `ledger`, `bucket` or `catalog`.
        rows: times with the oldest first; types and folders with the largest first.
        files, size_bytes: the totals.
        stored_files, stored_bytes: the objects that `costs` are for; None without costs. There are fewer than `files`
            where versions in the ledger share a key, as with renaming off: the bucket holds the newest of them only.
    """

    by: By
    source: str
    rows: tuple[ReportRow, ...]
    files: int
    size_bytes: int
    costs: tuple[Cost, ...] = ()
    prices: Prices | None = None
    stored_files: int | None = None
    stored_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "by": self.by,
            "source": self.source,
            "files": self.files,
            "bytes": self.size_bytes,
            "rows": [row.to_json(self.by) for row in self.rows],
            "stored_files": self.stored_files,
            "stored_bytes": self.stored_bytes,
            "monthly_cost": [cost.to_json() for cost in self.costs],
            "prices_read_on": None if self.prices is None else self.prices.read_on,
        }

    def to_csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        timed = self.by in TIMES
        writer.writerow(
            ["start" if timed else self.by, "files", "bytes", *(["total_bytes"] if timed else [])]
        )
        for row in self.rows:
            # An apostrophe keeps a spreadsheet from reading the name as a formula.
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
    ledger: Ledger, *, by: PathBy, prices: Prices | None = None, now: Callable[[], float] = time.time
) -> Report:
    """Report the archived files of the ledger (`prices` None: without costs). LedgerError: it can't be read."""
    slots = archived_by_time(ledger)
    rows = _by_time(slots, by) if by in TIMES else _by_name(_sum_by_group(ledger, by), by, os.fsdecode)
    stored = stored_by_time(ledger) if prices is not None else ()
    return _build_report(by, "ledger", rows, slots, stored, prices, now())


def report_from_bucket(
    store: ObjectStore,
    scope: KeyScope,
    *,
    by: PathBy,
    prices: Prices | None = None,
    now: Callable[[], float] = time.time,
    on_progress: Callable[[int], None] = lambda listed: None,
) -> Report:
    """Report all objects of the scope, including those that other programs wrote.

    Args:
        prices: None = without costs.
        on_progress: called with the number of objects so far.

    Raises:
        StoreError: the bucket can't be listed.
    """
    sums: defaultdict[int, _Sum] = defaultdict(_Sum)  # by slot, because a bucket may hold millions of objects
    groups: defaultdict[bytes, _Sum] = defaultdict(_Sum)
    listed = 0
    for info in store.list(scope.listing_prefix):
        if not scope.holds(info.key):
            continue
        written = 0.0 if info.last_modified is None else info.last_modified.timestamp()
        sums[int(written) // SLOT_SECONDS].add(1, info.size_bytes)
        if by not in TIMES:
            path = info.key[len(scope.head) :].encode("utf-8", "surrogatepass")
            groups[_path_group(path, by)].add(1, info.size_bytes)
        listed += 1
        on_progress(listed)
    slots = [TimeSlot(slot * SLOT_SECONDS, one.files, one.size_bytes) for slot, one in sorted(sums.items())]
    rows = _by_time(slots, by) if by in TIMES else _by_name(groups, by, _decode_key)
    return _build_report(by, "bucket", rows, slots, slots, prices, now())


def chart_rows(ledger: Ledger, by: Literal["hour", "day"], last: int, now: float) -> list[dict[str, Any]]:
    """Return the hours or days with uploads among the `last`, the current one included; `now`: seconds since 1970."""
    start = datetime.fromtimestamp(now).replace(minute=0, second=0, microsecond=0)
    if by == "hour":
        since = start.timestamp() - (last - 1) * 3600.0
    else:
        since = (start.replace(hour=0) - timedelta(days=last - 1)).timestamp()
    rows = _by_time(archived_by_time(ledger, since), by)
    return [{"start": row.name, "files": row.files, "bytes": row.size_bytes} for row in rows]


def _by_time(slots: Iterable[TimeSlot], by: By) -> list[ReportRow]:
    sums: defaultdict[str, _Sum] = defaultdict(_Sum)
    for slot in slots:
        moment = datetime.fromtimestamp(slot.start).replace(minute=0, second=0)
        if by != "hour":
            moment = moment.replace(hour=0)
        if by == "month":
            moment = moment.replace(day=1)
        sums[moment.isoformat(timespec="seconds")].add(slot.files, slot.size_bytes)
    rows: list[ReportRow] = []
    total = 0
    for name in sorted(sums):
        total += sums[name].size_bytes
        rows.append(ReportRow(name, sums[name].files, sums[name].size_bytes, total))
    return rows


def _sum_by_group(ledger: Ledger, by: By) -> Mapping[bytes, _Sum]:
    """Return sums by group. Groups are bytes, so that a million paths need not be decoded."""
    sums: defaultdict[bytes, _Sum] = defaultdict(_Sum)
    for page in archived_paths(ledger):
        for path, size_bytes in page:
            one = sums[_path_group(path, by)]
            one.files += 1
            one.size_bytes += size_bytes
    return sums


def _path_group(path: bytes, by: By) -> bytes:
    """Return the folder or the type of a path."""
    if by == "folder":
        return path[: path.find(b"/") + 1]
    begin = path.rfind(b"/") + 1
    dot = path.rfind(b".", begin)
    return path[dot + 1 :] if dot > begin else b""  # a dot at the start of a name starts no type


def _decode_key(group: bytes) -> str:
    return group.decode("utf-8", "surrogatepass")


def _by_name(groups: Mapping[bytes, _Sum], by: By, decode: Callable[[bytes], str]) -> list[ReportRow]:
    sums: defaultdict[str, _Sum] = defaultdict(_Sum)
    for group, one in groups.items():
        text = decode(group)
        sums[_format_type(text) if by == "type" else text[:-1] or TOP_FOLDER].add(one.files, one.size_bytes)
    rows = [ReportRow(name, one.files, one.size_bytes) for name, one in sums.items()]
    return sorted(rows, key=lambda row: (-row.size_bytes, row.name))


def _format_type(extension: str) -> str:
    return extension.lower() if 0 < len(extension) <= MAX_TYPE_CHARACTERS else NO_TYPE


def _build_report(
    by: By,
    source: str,
    rows: Sequence[ReportRow],
    archived: Sequence[TimeSlot],
    stored: Sequence[TimeSlot],
    prices: Prices | None,
    now: float,
) -> Report:
    total = _sum_of(archived)
    if prices is None:
        return Report(by, source, tuple(rows), total.files, total.size_bytes)
    objects = _sum_of(stored)
    recent = _sum_of(slot for slot in archived if slot.start >= now - MONTH_SECONDS)
    usage = Usage(
        size_bytes=objects.size_bytes,
        files=objects.files,
        month_bytes=_sum_of(slot for slot in stored if slot.start >= now - MONTH_SECONDS).size_bytes,
        month_writes=requests_for(recent.files, recent.size_bytes),
    )
    costs = tuple(provider.cost(usage) for provider in prices.providers)
    return Report(
        by,
        source,
        tuple(rows),
        total.files,
        total.size_bytes,
        costs,
        prices,
        stored_files=objects.files,
        stored_bytes=objects.size_bytes,
    )


def _sum_of(slots: Iterable[TimeSlot]) -> _Sum:
    found = _Sum()
    for slot in slots:
        found.add(slot.files, slot.size_bytes)
    return found
