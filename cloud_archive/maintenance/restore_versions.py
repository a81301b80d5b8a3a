"""Which objects are versions of one file, and which of them is the newest.

A key says its file's path, except where a conflict number or `%XX` changed the name; then the metadata says it.
Whether `cat (1).png` is a version of `cat.png` or a file of that name only a HEAD can tell, so keys that could be
versions of one file are put together as a family, and looked at together.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from .. import keys
from ..files import parse_timestamp_ns
from ..keys import object_path, strip_conflict
from ..ledger.rows import FileRow
from ..store.base import ObjectInfo


@dataclass(frozen=True, slots=True)
class Version:
    """One object as a version of a file.

    Attributes:
        path: the file's, relative to the folder that all keys are in.
        archived_at: nanoseconds since 1970.
        is_guess: an older version of Cloud Archive wrote the object, and nothing tells whether its number is part of
            the file's name.
    """

    info: ObjectInfo
    path: str
    archived_at: int
    is_guess: bool = False


def has_number(key: str) -> bool:
    """Return whether the key may be a numbered version of another one."""
    return strip_conflict(key.rpartition("/")[2]) is not None


def family_key(key: str) -> str:
    """Return what all keys share that may be versions of one file."""
    folder, slash, name = key.rpartition("/")
    return folder + slash + keys.conflict_family(name)


def version_of(info: ObjectInfo, head: str, rows: Sequence[FileRow] = ()) -> Version:
    """Return which version of which file an object is.

    Args:
        info: from a HEAD.
        head: the folder that all keys are in.
        rows: what the ledger knows of the key.
    """
    tail = info.key[len(head) :]
    noted = info.metadata.get("path")
    if noted is None and rows:
        noted = quote(os.fsencode(rows[-1].version.path))
    moments = [parse_timestamp_ns(info.metadata.get("archived-at", ""))]
    # Bytes that came back later were found at the key of an earlier version: only the ledger knows that moment.
    moments += [int(row.archived_at * 1e9) for row in rows if row.archived_at is not None]
    known = [moment for moment in moments if moment is not None]
    if not known and info.last_modified is not None:
        known = [int(info.last_modified.timestamp()) * 10**9]
    unsure = noted is None and "archived-at" not in info.metadata and "archive-token" in info.metadata
    path = object_path(tail, noted) if noted is not None else tail
    return Version(info, path, max(known, default=0), unsure and has_number(info.key))


def newest_first(versions: Iterable[Version]) -> list[list[Version]]:
    """Return the versions by path, each path's newest first; of two with one time the one with the later name."""
    by_path: dict[str, list[Version]] = {}
    for version in versions:
        by_path.setdefault(version.path, []).append(version)
    order: list[list[Version]] = []
    for found in by_path.values():
        found.sort(key=lambda one: (one.archived_at, len(one.info.key), one.info.key), reverse=True)
        order.append(found)
    return order
