"""Under which key may the bucket hold a file already? Asked after a ledger was lost.

With a prefix that changes (a date, a session) a file would get another key today than it got then, and its bytes would
arrive a second time. So the bucket is listed once, and the keys that end in a file's path and have its size are looked
at before it is sent. Only what fits a file that is here is remembered, so that memory follows the directory, not the
bucket. Whether the bytes are the same, the upload finds out.
"""

from __future__ import annotations

import contextlib
import logging
import posixpath
import threading
from collections.abc import Callable, Iterable

from ..errors import KeyRejected, StoreError
from ..files import FileVersion
from ..keys import HASH_DIGITS, MAX_NAME_BYTES, conflict_family, object_key, strip_conflict
from ..scope import KeyScope
from ..store.base import ObjectStore

logger = logging.getLogger("cloud_archive.bucket_index")

_MOST = 20  # keys looked at for one file
_MARK_BYTES = len(" ()") + max(HASH_DIGITS)  # what a conflict number takes of a name at the most


class BucketIndex:
    """Lists the bucket when it is first asked.

    Args:
        scope: the keys of this archive.
        local_files: the files that are here now.
    """

    def __init__(
        self, store: ObjectStore, scope: KeyScope, local_files: Callable[[], Iterable[FileVersion]]
    ) -> None:
        self._store = store
        self._scope = scope
        self._local_files = local_files
        self._lock = threading.Lock()
        self._keys: dict[tuple[str, int], list[str]] | None = None

    def candidates(self, path: str, size_bytes: int) -> list[str]:
        """Return the keys that end in this path, or in a conflict name of it, and have this size.

        Raises:
            StoreError: the bucket could not be listed, in a way that may pass.
        """
        tail = object_key("", path)
        with self._lock:
            if self._keys is None:
                self._keys = self._list()
            found = self._keys.get((conflict_family(posixpath.basename(tail)), size_bytes), [])
        return [key for key in found if _is_named(key, tail)][:_MOST]

    def _list(self) -> dict[tuple[str, int], list[str]]:
        keys: dict[tuple[str, int], list[str]] = {}
        for version in self._local_files():
            with contextlib.suppress(KeyRejected):  # too long for a key: it is not there
                name = posixpath.basename(object_key("", version.path))
                keys[conflict_family(name), version.size_bytes] = []
        count = 0
        try:
            for info in self._store.list(self._scope.listing_prefix):
                if not self._scope.holds(info.key):
                    continue
                family = conflict_family(posixpath.basename(info.key))
                if (fits := keys.get((family, info.size_bytes))) is not None:
                    fits.append(info.key)
                    count += 1
        except StoreError as error:
            if error.failure.transient:
                raise
            logger.warning("What the bucket holds already can't be found out: %s", error)
        logger.info("%d objects in the bucket may be files that are here", count)
        return keys


def _is_named(key: str, tail: str) -> bool:
    """Return whether `key` ends in `tail`, or in a conflict name of it."""
    if f"/{key}".endswith(f"/{tail}"):
        return True
    folder, _, name = key.rpartition("/")
    tail_folder, _, tail_name = tail.rpartition("/")
    plain = strip_conflict(name)
    if plain is None or not f"/{folder}".endswith(f"/{tail_folder}" if tail_folder else ""):
        return False
    shortened = len(tail_name.encode()) > MAX_NAME_BYTES - _MARK_BYTES and conflict_family(
        plain
    ) == conflict_family(tail_name)
    return plain == tail_name or shortened
