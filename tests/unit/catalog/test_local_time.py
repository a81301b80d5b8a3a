"""Days around 1970, also where the system knows no local time before it, as on Windows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo

import pytest

from cloud_archive.catalog.database import CatalogDatabase
from cloud_archive.catalog.facets import facets
from cloud_archive.catalog.local_time import from_local, to_local

from .cataloguing import add_described
from .searched import FOX, names

DAY = 86_400.0
SECONDS = [-86_500.0, -DAY, -900.0, -100.0, 0.0, 100.0, DAY, 2 * DAY - 1, 2 * DAY, 3 * DAY - 1, 3 * DAY]


class WindowsDatetime(datetime):
    """Fails where Python does on Windows: it also asks for the local time a day earlier."""

    @classmethod
    def fromtimestamp(cls, timestamp: float, tz: tzinfo | None = None) -> WindowsDatetime:
        if timestamp < 0:
            raise OSError(22, "Invalid argument")
        return super().fromtimestamp(timestamp, tz)

    def timestamp(self) -> float:
        if self.tzinfo is None and self < datetime.fromtimestamp(DAY):
            raise OSError(22, "Invalid argument")
        return super().timestamp()


@pytest.fixture(params=["as it is", "UTC", "Asia/Tokyo", "America/Los_Angeles"])
def _zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "as it is":
        yield
        return
    if not hasattr(time, "tzset"):
        pytest.skip("this system has one time zone")
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(params=[datetime, WindowsDatetime])
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("catalog.facets", "catalog.local_time", "catalog.query", "text"):
        monkeypatch.setattr(f"cloud_archive.{module}.datetime", request.param)


@pytest.mark.usefixtures("_zone", "_system")
@pytest.mark.parametrize("seconds", SECONDS)
def test_a_day_around_1970_finds_what_its_count_says(database: CatalogDatabase, seconds: float) -> None:
    add_described(database, "out/old.png", FOX, created=seconds)
    day = to_local(seconds).date().isoformat()
    for query in ("", "type:image"):  # counted from the totals, and file by file
        with database.reading() as db:
            assert {"name": day, "count": 1} in facets(db, query)["days"]
    assert names(database, f"since:{day} until:{day}") == ["old.png"]


@pytest.mark.usefixtures("_zone", "_system")
@pytest.mark.parametrize("seconds", SECONDS)
def test_a_local_time_around_1970_comes_back(seconds: float) -> None:
    moment = to_local(seconds)
    assert moment == to_local(0.0) + timedelta(seconds=seconds)
    assert from_local(moment) == seconds
