"""Find the keys under which the bucket may hold a file already, after the ledger was lost.

If the prefix has changed since (a date, a session), a file gets another key than before, and its bytes would be
uploaded a second time. So the bucket is listed once, and a file is compared with the objects of its size whose keys end
in its path before it is sent. Only keys that may be those of a local file are kept in memory.
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

_MAX_KEYS = 20  # returned for one file
_MAX_CONFLICT_BYTES = len(" ()") + max(HASH_DIGITS)  # the most that a conflict number adds to a name


class BucketIndex:
    """List bucket and local files at the first call, and find keys by a file's path and size. Thread-safe."""

    def __init__(
        self, store: ObjectStore, scope: KeyScope, local_files: Callable[[], Iterable[FileVersion]]
    ) -> None:
        self._store = store
        self._scope = scope
        self._local_files = local_files
        self._lock = threading.Lock()
        self._keys: dict[tuple[str, int], list[str]] | None = None

    def candidates(self, path: str, size_bytes: int) -> list[str]:
        """Return up to 20 keys that end in this path, or in a conflict name of it, and whose objects have this size.

        Raises StoreError if the bucket can't be listed, but a retry may help. If a retry can't help, the keys that were
        listed before the error are used.
        """
        tail = object_key("", path)
        with self._lock:
            if self._keys is None:
                self._keys = self._list()
            found = self._keys.get((conflict_family(posixpath.basename(tail)), size_bytes), [])
        return [key for key in found if _is_named(key, tail)][:_MAX_KEYS]

    def _list(self) -> dict[tuple[str, int], list[str]]:
        keys: dict[tuple[str, int], list[str]] = {}
        for version in self._local_files():
            with contextlib.suppress(KeyRejected):  # too long for a key, so it was never archived
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
            logger.warning("Files may be uploaded again, because the bucket can't be listed: %s", error)
        logger.info("%d objects in the bucket may hold local files", count)
        return keys


def _is_named(key: str, tail: str) -> bool:
    if f"/{key}".endswith(f"/{tail}"):
        return True
    folder, _, name = key.rpartition("/")
    tail_folder, _, tail_name = tail.rpartition("/")
    plain = strip_conflict(name)
    if plain is None or not f"/{folder}".endswith(f"/{tail_folder}" if tail_folder else ""):
        return False
    if plain == tail_name:
        return True
    is_long = len(tail_name.encode()) > MAX_NAME_BYTES - _MAX_CONFLICT_BYTES  # a conflict name shortens it
    return is_long and conflict_family(plain) == conflict_family(tail_name)
