"""`report`: sums, costs and CSV."""

from __future__ import annotations

import csv
import io
import time
import tracemalloc
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from cloud_archive.files import FileVersion
from cloud_archive.keys import PrefixTemplate
from cloud_archive.ledger.history import Restored, add_restored
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance.costs import load_prices
from cloud_archive.maintenance.report import Report, chart_rows, report_from_bucket, report_from_ledger
from cloud_archive.scope import KeyScope
from cloud_archive.store.base import ObjectInfo
from tests.memory_store import MemoryStore


class Clock:
    """Seconds since 1970, moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def local(*moment: int) -> float:
    return datetime(*moment).timestamp()  # type: ignore[arg-type]


FILES = [
    ("a.png", 100, local(2026, 3, 31, 23, 59)),
    ("b.PNG", 200, local(2026, 4, 1, 0, 1)),
    ("video/c.mp4", 1000, local(2026, 4, 1, 0, 59)),
    ("video/deep/d.mp4", 2000, local(2026, 4, 1, 13, 0)),
    ("video/no ending", 1, local(2026, 4, 2, 1, 0)),
    (".hidden", 2, local(2026, 4, 2, 1, 0)),
]


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    clock = Clock()
    ledger = Ledger(None, clock=clock)
    ledger.open()
    for number, (path, size, moment) in enumerate(FILES):
        clock.now = moment
        add_restored(ledger, [Restored(FileVersion(path, size, number), f"out/{path}", "ab" * 32, None)])
    ledger.add([FileVersion("pending.png", 10**6, 5)])
    yield ledger
    ledger.close()


@pytest.fixture
def store() -> Any:
    store = MemoryStore()
    for path, size, moment in FILES:
        store.add_foreign(f"out/{path}", b"x" * size, written=moment)
    store.add_foreign("beside.png", b"x" * 5000)
    return store


def lines(report: Report) -> list[tuple[str, int, int]]:
    return [(row.name, row.files, row.size_bytes) for row in report.rows]


EXPECTED = {
    "hour": [
        ("2026-03-31T23:00:00", 1, 100),
        ("2026-04-01T00:00:00", 2, 1200),
        ("2026-04-01T13:00:00", 1, 2000),
        ("2026-04-02T01:00:00", 2, 3),
    ],
    "day": [("2026-03-31T00:00:00", 1, 100), ("2026-04-01T00:00:00", 3, 3200), ("2026-04-02T00:00:00", 2, 3)],
    "month": [("2026-03-01T00:00:00", 1, 100), ("2026-04-01T00:00:00", 5, 3203)],
    "type": [("mp4", 2, 3000), ("png", 2, 300), ("(none)", 2, 3)],
    "folder": [("video", 3, 3001), ("(top)", 3, 302)],
}


@pytest.mark.parametrize("by", EXPECTED)
def test_ledger_and_bucket_are_summed_up_alike(ledger: Ledger, store: Any, by: Any) -> None:
    assert lines(report_from_ledger(ledger, by=by)) == EXPECTED[by]
    found = report_from_bucket(store, KeyScope.folder("out"), by=by)
    assert lines(found) == EXPECTED[by]
    assert (found.files, found.size_bytes) == (6, 3303)


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns", "Pacific/Chatham", "UTC"])
def test_days_are_local_ones_in_zones_of_half_and_quarter_hours_too(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(time, "tzset"):
        return
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        clock = Clock()
        ledger = Ledger(None, clock=clock)
        ledger.open()
        for number, moment in enumerate((local(2026, 4, 1, 23, 59), local(2026, 4, 2, 0, 0))):
            clock.now = moment
            add_restored(ledger, [Restored(FileVersion("a", 1, number), "k", "ab" * 32, None)])
        assert [row.name for row in report_from_ledger(ledger, by="day").rows] == [
            "2026-04-01T00:00:00",
            "2026-04-02T00:00:00",
        ]
        ledger.close()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_growth_adds_up(ledger: Ledger) -> None:
    assert [row.total_bytes for row in report_from_ledger(ledger, by="day").rows] == [100, 3300, 3303]


def test_the_chart_has_the_last_hours_and_days_only(ledger: Ledger) -> None:
    now = local(2026, 4, 2, 1, 30)
    assert chart_rows(ledger, "hour", 2, now) == [{"start": "2026-04-02T01:00:00", "files": 2, "bytes": 3}]
    assert [row["start"] for row in chart_rows(ledger, "hour", 26, now)] == [
        "2026-04-01T00:00:00",
        "2026-04-01T13:00:00",
        "2026-04-02T01:00:00",
    ]
    assert [row["start"] for row in chart_rows(ledger, "day", 2, now)] == [
        "2026-04-01T00:00:00",
        "2026-04-02T00:00:00",
    ]


def test_a_large_bucket_takes_little_memory() -> None:
    class LargeBucket(MemoryStore):
        def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
            moment = datetime(2026, 4, 1, 12, 0).astimezone()
            for number in range(20_000):
                yield ObjectInfo(f"out/{number}.png", 1000 + number, None, None, None, {}, moment)

    tracemalloc.start()
    try:
        found = report_from_bucket(LargeBucket(), KeyScope.folder("out"), by="type")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lines(found) == [("png", 20_000, sum(range(1000, 21_000)))]
    assert peak_bytes < 200_000


def test_csv_is_read_back_and_no_name_is_a_formula(store: Any) -> None:
    store.add_foreign('out/=HYPERLINK("x")/a.png', b"x")
    store.add_foreign('out/comma, quote"/a.png', b"x")
    rows = list(
        csv.reader(io.StringIO(report_from_bucket(store, KeyScope.folder("out"), by="folder").to_csv()))
    )
    assert rows[0] == ["folder", "files", "bytes"]
    assert rows[1] == ["video", "3", "3001"]
    assert ['\'=HYPERLINK("x")', "1", "1"] in rows
    assert ['comma, quote"', "1", "1"] in rows


def test_the_last_thirty_days_are_a_month(ledger: Ledger) -> None:
    prices = load_prices()
    now = local(2026, 5, 1, 12, 0)
    found = report_from_ledger(ledger, by="day", prices=prices, now=lambda: now)
    s3 = next(cost for cost in found.costs if cost.provider == "AWS S3")
    recent = sum(1 for _, _, moment in FILES if moment >= now - 30 * 86_400)
    assert 0 < recent < len(FILES)
    assert s3.writes == pytest.approx(recent * 5.0 / 1e6)


def test_the_costs_are_for_the_newest_version_at_each_key() -> None:
    clock = Clock()
    ledger = Ledger(None, clock=clock)
    ledger.open()
    now = local(2026, 5, 1, 12, 0)
    day = 86_400
    versions = [("a.png", 5000, 40), ("b.png", 700, 35), ("a.png", 3000, 20), ("a.png", 1000, 10)]
    for number, (path, size, days_ago) in enumerate(versions):
        clock.now = now - days_ago * day
        add_restored(ledger, [Restored(FileVersion(path, size, number), f"out/{path}", "ab" * 32, None)])
    found = report_from_ledger(ledger, by="day", prices=load_prices(), now=lambda: now)
    assert (found.files, found.size_bytes) == (4, 9700)
    assert (found.stored_files, found.stored_bytes) == (2, 1700)
    r2 = next(cost for cost in found.costs if cost.provider == "Cloudflare R2")
    assert r2.storage == pytest.approx(1700 / 1e9 * 0.015)
    assert r2.writes == pytest.approx(2 * 4.5 / 1e6)  # replaced versions were uploaded too
    assert r2.projected == pytest.approx((1700 + 12 * 1000) / 1e9 * 0.015 + r2.writes)
    ledger.close()


def test_the_reserved_folder_and_other_archives_are_not_counted() -> None:
    store = MemoryStore()
    store.add("comfy-2026/a.png", b"12")
    for key in (".cloud-archive/v1/segments/x", ".cloud-archive-check", "comfy-old/a.png", "other.png"):
        store.add(key, b"x" * 100)
    found = report_from_bucket(store, KeyScope(PrefixTemplate.parse("comfy-{Y}")), by="folder")
    assert (found.files, found.size_bytes) == (1, 2)
