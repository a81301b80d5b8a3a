"""Connect an engine's catalog with the bucket's: one thread writes to it, one follows what other machines write.

The modules that read are imported for the first pass: a command that archives one file ends before that.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...config.settings import Settings
from ...errors import CatalogError, StoreError
from ...store.base import ObjectStore
from ..database import CatalogDatabase
from ..rows import asset_file
from ..thumbnails.thumbnails import Thumbnails
from .follower import Follower
from .names import CatalogFolder
from .packs import MAX_GRAPHS_BYTES, unzip_graphs
from .tables import packed_of
from .writer import STOP_SECONDS, SegmentWriter

if TYPE_CHECKING:
    from .sync import CatalogSync


class BucketLink:
    """The two threads. Stop them before the catalog is closed.

    Args:
        database: returns the open catalog; CatalogError: there is none.
        may_go_on: returns whether nothing uploads and no stop was requested.
    """

    def __init__(
        self,
        database: Callable[[], CatalogDatabase],
        store: ObjectStore,
        settings: Settings,
        thumbnails: Thumbnails,
        may_go_on: Callable[[], bool],
    ) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._may_go_on = may_go_on
        self.folder = CatalogFolder.of(settings.prefix)
        full = settings.catalog == "full"
        self.writer = SegmentWriter(
            database,
            store,
            self.folder,
            machine=settings.machine_name,
            keep_graphs=full,
            thumbnails=thumbnails if full else None,
            may_write=may_go_on,
        )
        self._unmerged: dict[str, int] = {}  # see compact_crowded_months
        self._follower: Follower | None = None
        if settings.gallery != "off":
            self._follower = Follower(self._make_sync, may_read=may_go_on, on_pass=self._compact)

    def start(self) -> None:
        self.writer.start()
        if self._follower is not None:
            self._follower.start()

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """End the threads, and wait up to `timeout_seconds` for that. Unwritten rows stay queued."""
        deadline = time.monotonic() + timeout_seconds
        for only_signal in (True, False):  # signal both first, so that they end at the same time
            self.writer.stop(0.0 if only_signal else max(0.0, deadline - time.monotonic()))
            if self._follower is not None:
                self._follower.stop(0.0 if only_signal else max(0.0, deadline - time.monotonic()))

    def note_viewer(self) -> None:
        """Follow other machines more closely for a while, because somebody views the catalog."""
        if self._follower is not None:
            self._follower.note_viewer()

    def other_machines(self) -> tuple[int | None, str | None]:
        """Return `left_rows()` and `trouble` of the follower; None for both if the gallery is off."""
        return (
            (None, None) if self._follower is None else (self._follower.left_rows(), self._follower.trouble)
        )

    def unwritten(self) -> int:
        """Return how many rows the bucket does not hold yet, up to 100,000; 0 also if the catalog can't be read."""
        with contextlib.suppress(CatalogError):
            return self.writer.unwritten()
        return 0

    def graphs(self, identity: uuid.UUID) -> tuple[dict[str, Any] | None, dict[str, Any] | None] | None:
        """Return the prompt graph and the workflow that a pack holds; None: none does, or it can't be read."""
        with self._database().reading() as db:
            packed = packed_of(db, identity)
        if packed is None or not 0 < packed[1][1] <= MAX_GRAPHS_BYTES:
            return None
        return read_graphs(self._store, self.folder.key(packed[0]), *packed[1])

    def note_missing(self, identity: uuid.UUID) -> bool:
        """Remove an asset if its object is gone: see `rebuild.forget_missing`. Return whether it was removed."""
        from ..rebuild import forget_missing

        with self._database().reading() as db:
            found = asset_file(db, identity.bytes)
        settings = self._settings
        if found is None or not forget_missing(
            self._database(), self._store, settings.bucket, found.key, settings.machine_name
        ):
            return False
        self.writer.wake()
        return True

    def status(self) -> dict[str, Any]:
        """Return what `catalog status` shows of the bucket."""
        from .sync import file_troubles

        with self._database().reading() as db:
            troubles = file_troubles(db)
        found: dict[str, Any] = {
            "unwritten": self.writer.unwritten(),
            "write_trouble": self.writer.trouble,
            "file_troubles": troubles,
        }
        if self._follower is not None:
            found["others"] = self._follower.status()
        return found

    def _make_sync(self) -> CatalogSync:
        from .sync import CatalogSync

        return CatalogSync(self._database, self._store, self.folder, self._settings.bucket)

    def _compact(self) -> None:
        from .compaction import compact_crowded_months

        if self._may_go_on():
            compact_crowded_months(
                self._store, self.folder, self._settings, self._database(), self._may_go_on, self._unmerged
            )


def read_graphs(
    store: ObjectStore, key: str, offset: int, length: int
) -> tuple[dict[str, Any] | None, dict[str, Any] | None] | None:
    """Return the graphs at this place of a pack; None: it can't be read, or holds none."""
    try:
        data = b"".join(store.read(key, length, byte_range=range(offset, offset + length)))
        return unzip_graphs(data[:length])
    except (StoreError, ValueError):
        return None
