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
import re
import threading
from collections.abc import Callable, Iterable

from .errors import KeyRejected, StoreError
from .files import FileVersion
from .keys import object_key
from .store import ObjectStore

logger = logging.getLogger("cloud_archive.bucket_index")

_NUMBERED = re.compile(r"(.+) \([1-9][0-9]{0,2}\)")  # what `keys.conflict_key` makes of a name
_MOST = 20  # keys looked at for one file


class BucketIndex:
    """Lists the bucket when it is first asked.

    Args:
        head: what every key of this archive begins with.
        local_files: the files that are here now.
    """

    def __init__(
        self, store: ObjectStore, head: str, local_files: Callable[[], Iterable[FileVersion]]
    ) -> None:
        self._store = store
        self._head = head
        self._local_files = local_files
        self._lock = threading.Lock()
        self._keys: dict[tuple[str, int], list[str]] | None = None

    def candidates(self, path: str, size_bytes: int) -> list[str]:
        """Keys that end in this path, or in a numbered name of it, and have this size.

        Raises:
            StoreError: the bucket could not be listed, in a way that may pass.
        """
        tail = object_key("", path)
        with self._lock:
            if self._keys is None:
                self._keys = self._list()
            found = self._keys.get((posixpath.basename(tail), size_bytes), [])
        return [key for key in found if _ends_in(key, tail) or _ends_in(_plain(key), tail)][:_MOST]

    def _list(self) -> dict[tuple[str, int], list[str]]:
        keys: dict[tuple[str, int], list[str]] = {}
        for version in self._local_files():
            with contextlib.suppress(KeyRejected):  # too long for a key: it is not there
                keys[posixpath.basename(object_key("", version.path)), version.size_bytes] = []
        count = 0
        try:
            for info in self._store.list(self._head):
                for name in {posixpath.basename(info.key), posixpath.basename(_plain(info.key))}:
                    if (fits := keys.get((name, info.size_bytes))) is not None:
                        fits.append(info.key)
                        count += 1
        except StoreError as error:
            if error.failure.passing:
                raise
            logger.warning("What the bucket holds already cannot be found out: %s", error)
        logger.info("%d objects in the bucket may be files that are here", count)
        return keys


def _ends_in(key: str, tail: str) -> bool:
    return key == tail or key.endswith("/" + tail)


def _plain(key: str) -> str:
    """The key without a conflict number."""
    stem, extension = posixpath.splitext(key)
    numbered = _NUMBERED.fullmatch(stem)
    return numbered[1] + extension if numbered else key
