"""Estimate the monthly cost of an archive, from a dated table of list prices (`prices.json`) that users may replace.

It includes no discounts, taxes or fixed free allowances, but a free allowance that grows with the stored bytes, because
that decides the cost of reading everything once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CloudArchiveError

PROJECTED_MONTHS = 12
PART_BYTES = 8 * 1024 * 1024  # of a multipart upload
TABLE = Path(__file__).with_name("prices.json")


@dataclass(frozen=True, slots=True)
class Usage:
    """The stored files, and the uploads of a month.

    Attributes:
        month_bytes: the bytes of the stored files that were uploaded in the last 30 days.
        month_writes: the write requests of all uploads in the last 30 days.
    """

    size_bytes: int
    files: int
    month_bytes: int
    month_writes: int


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost at one provider, in the table's currency.

    Attributes:
        storage: a month of storage.
        writes: the writes of the last 30 days.
        now: storage and writes together.
        projected: `now` in a year, if every month adds as much as the last 30 days.
        bring_back: reading everything once, outside the provider's network.
    """

    provider: str
    plan: str
    storage: float
    writes: float
    now: float
    projected: float
    bring_back: float

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of `--json`, rounded to four decimals."""
        return {
            "provider": self.provider,
            "plan": self.plan,
            "storage": round(self.storage, 4),
            "writes": round(self.writes, 4),
            "now": round(self.now, 4),
            "in_a_year": round(self.projected, 4),
            "bring_back_everything": round(self.bring_back, 4),
        }


@dataclass(frozen=True, slots=True)
class Provider:
    """One line of the price table."""

    name: str
    plan: str
    gigabyte_bytes: int
    storage_gb_month: float
    writes_million: float
    reads_million: float
    egress_gb: float
    free_egress_times_stored: float = 0.0  # per month, as a multiple of the stored bytes

    def cost(self, usage: Usage) -> Cost:
        gigabytes = usage.size_bytes / self.gigabyte_bytes
        storage = gigabytes * self.storage_gb_month
        writes = usage.month_writes / 1e6 * self.writes_million
        later = (
            usage.size_bytes + PROJECTED_MONTHS * usage.month_bytes
        ) / self.gigabyte_bytes * self.storage_gb_month + writes
        reads = 2 * usage.files / 1e6 * self.reads_million  # `restore` sends a HEAD and a GET for each
        back = gigabytes * max(0.0, 1.0 - self.free_egress_times_stored) * self.egress_gb + reads
        return Cost(self.name, self.plan, storage, writes, storage + writes, later, back)


@dataclass(frozen=True, slots=True)
class Prices:
    """The price table; `read_on` is the day on which its sources were read."""

    read_on: str
    currency: str
    note: str
    providers: tuple[Provider, ...]


def requests_for(files: int, size_bytes: int) -> int:
    """Return about how many write requests upload these files: one for each file, and one for every 8 MiB."""
    return files + size_bytes // PART_BYTES


def load_prices(path: Path = TABLE) -> Prices:
    """Return the price table of a JSON file. CloudArchiveError: it can't be read or is invalid."""
    try:
        data = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise CloudArchiveError(f"The table of prices {path} can't be read: {cause}.") from error
    try:
        if not isinstance(data, dict):
            raise ValueError("it must be an object with the name 'providers'")
        lines = data["providers"]
        return Prices(
            str(data["read_on"]), str(data.get("currency", "USD")), str(data.get("note", "")), _lines(lines)
        )
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CloudArchiveError(
            f"The table of prices {path} differs in form from the built-in one: {what}."
        ) from error


def _lines(found: Any) -> tuple[Provider, ...]:
    if not isinstance(found, list) or not found:
        raise ValueError("providers must be a list that is not empty")
    return tuple(_provider(line) for line in found)


def _provider(line: Any) -> Provider:
    def price(name: str) -> float:
        given = line[name]
        value = _number(given)
        if value is None or not 0 <= value < 1e6:
            raise ValueError(f"{name} is {given!r}, and must be a number from 0 to 1,000,000")
        return value

    if not isinstance(line, Mapping):
        raise ValueError(f"each provider must be an object, and one is {line!r}")
    given = line.get("gigabyte_bytes", 10**9)
    gigabyte = _number(given)
    if gigabyte not in (10**9, 2**30):
        raise ValueError(f"gigabyte_bytes is {given!r}, and must be {10**9} or {2**30}")
    return Provider(
        str(line["name"]),
        str(line.get("plan", "")),
        int(gigabyte),
        price("storage_gb_month"),
        price("writes_million"),
        price("reads_million"),
        price("egress_gb"),
        price("free_egress_times_stored") if "free_egress_times_stored" in line else 0.0,
    )


def _number(given: Any) -> float | None:
    """Return `given` as a number; None: it is not one."""
    try:
        return float(given)
    except (TypeError, ValueError):
        return None
