"""Find which objects are versions of one file, and which version is the newest.

A key shows its file's path, unless a conflict number or `%XX` changed the name; then the metadata holds the path. Only
a HEAD can tell whether `cat (1).png` is a version of `cat.png` or a file of that name. So keys that may be versions of
one file form a family.
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
    """An object as a version of a file.

    Attributes:
        path: the file's path, relative to the scope's head.
        archived_at_ns: nanoseconds since 1970; 0: unknown.
        is_guess: an older release of Cloud Archive wrote the object, so its number may belong to the file's name.
    """

    info: ObjectInfo
    path: str
    archived_at_ns: int
    is_guess: bool = False


def has_number(key: str) -> bool:
    """Return whether the key may be a numbered version of another one."""
    return strip_conflict(key.rpartition("/")[2]) is not None


def family_key(key: str) -> str:
    """Return a text that all keys of one family share."""
    folder, slash, name = key.rpartition("/")
    return folder + slash + keys.conflict_family(name)


def version_of(info: ObjectInfo, head: str, rows: Sequence[FileRow] = ()) -> Version:
    """Return which version of which file an object is.

    Args:
        info: the answer to a HEAD.
        head: the scope's head; see `KeyScope`.
        rows: the ledger's rows with this key.
    """
    tail = info.key[len(head) :]
    path_text = info.metadata.get("path")
    if path_text is None and rows:
        path_text = quote(os.fsencode(rows[-1].version.path))
    moments = [parse_timestamp_ns(info.metadata.get("archived-at", ""))]
    # A version whose bytes an object already held was archived without an upload; only the ledger knows when.
    moments += [int(row.archived_at * 1e9) for row in rows if row.archived_at is not None]
    known = [moment for moment in moments if moment is not None]
    if not known and info.last_modified is not None:
        known = [int(info.last_modified.timestamp()) * 10**9]
    unsure = path_text is None and "archived-at" not in info.metadata and "archive-token" in info.metadata
    path = object_path(tail, path_text) if path_text is not None else tail
    return Version(info, path, max(known, default=0), unsure and has_number(info.key))


def newest_first(versions: Iterable[Version]) -> list[list[Version]]:
    """Return the versions of each path, newest first; equal times are ordered by key, the longest first."""
    by_path: dict[str, list[Version]] = {}
    for version in versions:
        by_path.setdefault(version.path, []).append(version)
    for same_path in by_path.values():
        same_path.sort(key=lambda one: (one.archived_at_ns, len(one.info.key), one.info.key), reverse=True)
    return list(by_path.values())
