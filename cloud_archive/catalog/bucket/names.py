"""Names below the reserved folder: unique without a coordinator, and sorted by their writers' clocks.

v1/segments/2026-11-25/{ulid}-{machine}.jsonl.gz
v1/packs/2026-11-25/{ulid}-{machine}.pack
v1/months/2026-11/{ulid}.jsonl.gz
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from ...keys import VERSION_FOLDER, PrefixTemplate

SEGMENTS, PACKS, MONTHS = "segments", "packs", "months"
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # https://github.com/ulid/spec
_MAX_MACHINE = 40
_ULID = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
_MACHINE = f"[A-Za-z0-9._-]{{1,{_MAX_MACHINE}}}"
_DAY = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_MONTH = r"[0-9]{4}-(?:0[1-9]|1[0-2])"
_SEGMENT = re.compile(rf"{SEGMENTS}/({_DAY})/({_ULID})-({_MACHINE})\.jsonl\.gz")
_PACK = re.compile(rf"{PACKS}/({_DAY})/({_ULID})-({_MACHINE})\.pack")
_MONTH_FILE = re.compile(rf"{MONTHS}/({_MONTH})/({_ULID})\.jsonl\.gz")


def new_ulid(now: float | None = None) -> str:
    """Return 48 bits of time in milliseconds and 80 random bits, as 26 characters that sort by time."""
    milliseconds = int((time.time() if now is None else now) * 1000) & ((1 << 48) - 1)
    number = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def ulid_time(ulid: str) -> float:
    """Return the time of a ULID, in seconds since 1970.

    >>> ulid_time(new_ulid(1795608000.5))
    1795608000.5
    """
    milliseconds = 0
    for sign in ulid[:10]:
        milliseconds = milliseconds << 5 | _ALPHABET.index(sign)
    return milliseconds / 1000


def machine_part(machine: str) -> str:
    """Return a machine's name as file names hold it.

    >>> machine_part("Büro PC/1")
    'B-ro-PC-1'
    """
    return re.sub(r"[^A-Za-z0-9._-]", "-", machine)[:_MAX_MACHINE] or "machine"


class FileName(NamedTuple):
    """The name of a segment or of a month file, below the version's folder.

    Attributes:
        kind: SEGMENTS or MONTHS.
        period: the day or month, in UTC.
        machine: the machine that wrote a segment, as `machine_part` spells it; empty for a month file.
    """

    kind: str
    period: str
    ulid: str
    text: str
    machine: str = ""

    @property
    def month(self) -> str:
        """Such as `2026-11`."""
        return self.period[:7]

    @property
    def order(self) -> tuple[str, int, str]:
        """Return a sort key. The greatest is read first: newer months; within one, month files before segments."""
        return self.month, self.kind == MONTHS, self.ulid


def parse_name(text: str) -> FileName | None:
    """Return the parts of a name below the version's folder; None: it is neither a segment nor a month file."""
    for kind, pattern in ((SEGMENTS, _SEGMENT), (MONTHS, _MONTH_FILE)):
        match = pattern.fullmatch(text)
        if match:
            return FileName(kind, match[1], match[2], text, *match.groups()[2:])
    return None


def is_pack_name(text: object) -> bool:
    """Return whether `text` is a pack's name below the version's folder."""
    return isinstance(text, str) and _PACK.fullmatch(text) is not None


def utc_day(now: float) -> str:
    return datetime.fromtimestamp(now, timezone.utc).date().isoformat()


def last_days(now: float, before: int) -> Iterator[str]:
    """Yield the days from tomorrow (a clock may be ahead) to `before` days ago, newest first."""
    today = datetime.fromtimestamp(now, timezone.utc).date()
    for offset in range(1, -before - 1, -1):
        yield (today + timedelta(days=offset)).isoformat()


class CatalogFolder(NamedTuple):
    """Where the catalog of one archive lies in its bucket.

    Attributes:
        head: the folder that all keys of the archive begin with; empty, or ends in `/`.
        base: the folder of this version's files, ends in `/`.
    """

    head: str
    base: str

    @classmethod
    def of(cls, prefix: str) -> CatalogFolder:
        """Return the folder for an archive with this prefix, a valid template."""
        template = PrefixTemplate.parse(prefix)
        return cls(template.static_head, template.reserved_folder + VERSION_FOLDER)

    def key(self, name: str) -> str:
        return self.base + name

    def name(self, key: str) -> str:
        """Return the name of a key below the version's folder; empty: it lies elsewhere."""
        return key[len(self.base) :] if key.startswith(self.base) else ""

    def holds_output(self, key: str) -> bool:
        """Return whether `key` can be an archived file's: below the archive's folder, and not in the reserved one."""
        reserved = self.base.removesuffix(VERSION_FOLDER)
        return key.startswith(self.head) and len(key) > len(self.head) and not key.startswith(reserved)


def new_names(machine: str, now: float) -> tuple[str, str]:
    stem = f"{utc_day(now)}/{new_ulid(now)}-{machine_part(machine)}"
    return f"{SEGMENTS}/{stem}.jsonl.gz", f"{PACKS}/{stem}.pack"


def new_month_name(month: str, now: float) -> str:
    """Return the name of a new month file of `month`, such as `2026-11`."""
    return f"{MONTHS}/{month}/{new_ulid(now)}.jsonl.gz"
