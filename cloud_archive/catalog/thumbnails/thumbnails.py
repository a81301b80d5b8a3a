"""Return an asset's thumbnail: from the cache, from its pack, or made from the file; else an icon."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ...errors import StoreError
from ...store.base import ObjectStore
from ..reading import open_same_file
from ..schema import KINDS
from .cache import CACHE_NAME, ThumbnailCache
from .icons import ICON_TYPE, icon
from .maker import MAX_FILE_BYTES, MAX_THUMBNAIL_BYTES, ThumbnailMaker, can_decode

logger = logging.getLogger("cloud_archive.catalog")

MAX_OBJECT_BYTES = 32 * 1024 * 1024  # a larger object is not read from the bucket for its thumbnail
_WEBP_TYPE = "image/webp"


class PicturedAsset(NamedTuple):
    """What is needed to make an asset's thumbnail.

    Attributes:
        identity: its id, 16 bytes.
        kind: its place in KINDS.
        packed: (key of the pack, offset, length) of its thumbnail in the bucket; None: it has none there.
    """

    identity: bytes
    key: str
    path: str
    size_bytes: int
    mtime_ns: int
    sha256: bytes | None
    kind: int
    packed: tuple[str, int, int] | None = None

    @property
    def version(self) -> str:
        """What identifies the file's bytes: their SHA-256, or size and mtime."""
        return self.sha256.hex() if self.sha256 else f"{self.size_bytes}-{self.mtime_ns}"


class Thumbnail(NamedTuple):
    """The bytes of a picture, and their MIME type."""

    data: bytes
    mime_type: str

    @property
    def is_icon(self) -> bool:
        return self.mime_type == ICON_TYPE


class Thumbnails:
    """Thumbnails of one catalog. Safe to use from any thread; every method may block."""

    def __init__(
        self,
        cache_directory: Path,
        root: Path | None,
        store: ObjectStore,
        *,
        cache: ThumbnailCache | None = None,
        maker: ThumbnailMaker | None = None,
    ) -> None:
        self._root = root
        self._store = store
        self._cache = cache or ThumbnailCache(cache_directory / CACHE_NAME)
        self._maker = maker or ThumbnailMaker()

    def open(self) -> None:
        self._cache.open()

    def close(self) -> None:
        self._maker.close()
        self._cache.close()

    def cached(self, asset: PicturedAsset) -> bytes | None:
        """Return what the cache holds: see `ThumbnailCache.get`."""
        return self._cache.get(asset.identity, asset.version)

    def make_local(self, asset: PicturedAsset) -> None:
        """Make the thumbnail of a file on disk if the cache lacks it."""
        kind = KINDS[asset.kind]
        if kind not in ("image", "video") or not can_decode(kind) or self.cached(asset) is not None:
            return
        data = self._local_bytes(asset)
        made = None if data is None else self._maker.make(kind, data)
        if made is not None:
            self._cache.put(asset.identity, asset.version, made)

    def thumbnail(self, asset: PicturedAsset) -> Thumbnail:
        """Return the thumbnail, or an icon of the file's kind. A store or a file that fails is no error."""
        kind = KINDS[asset.kind]
        found = self._cache.get(asset.identity, asset.version)
        if found is None:
            found = self._from_pack(asset)
        if found is None and kind in ("image", "video") and can_decode(kind):
            data = self._local_bytes(asset)
            if data is None:
                data = self._object_bytes(asset)
            if data is not None:
                found = self._maker.make(kind, data)
                if found is not None:
                    self._cache.put(asset.identity, asset.version, found)
        return Thumbnail(found, _WEBP_TYPE) if found else Thumbnail(icon(kind), ICON_TYPE)

    def _from_pack(self, asset: PicturedAsset) -> bytes | None:
        if asset.packed is None:
            return None
        key, offset, length = asset.packed
        if not 0 < length <= MAX_THUMBNAIL_BYTES:
            return None
        found = self._read(
            lambda: self._store.read(key, length, byte_range=range(offset, offset + length)), key
        )
        if found is None or len(found) < length or not is_webp(found[:length]):
            return None
        self._cache.put(asset.identity, asset.version, found[:length])
        return found[:length]

    def _local_bytes(self, asset: PicturedAsset) -> bytes | None:
        if asset.size_bytes > MAX_FILE_BYTES:
            return None
        file = open_same_file(self._root, asset.path, asset.size_bytes, asset.mtime_ns)
        if file is None:
            return None
        with contextlib.suppress(OSError), file:
            data = file.read(asset.size_bytes)
            now = os.fstat(file.fileno())
            # The file may be cut or written again while it is read.
            if len(data) == now.st_size == asset.size_bytes and now.st_mtime_ns == asset.mtime_ns:
                return data
        return None

    def _object_bytes(self, asset: PicturedAsset) -> bytes | None:
        if not 0 < asset.size_bytes <= MAX_OBJECT_BYTES:
            return None
        found = self._read(lambda: self._store.read(asset.key, asset.size_bytes), asset.key)
        return found if found is not None and len(found) == asset.size_bytes else None

    def _read(self, begin: Callable[[], Iterable[bytes]], key: str) -> bytes | None:
        try:
            return b"".join(begin())
        except StoreError as error:
            logger.info("No thumbnail from %s: %s", key, error)
            return None


def is_webp(data: bytes) -> bool:
    """Return whether these bytes begin as a WebP does; a pack may be a stranger's."""
    return len(data) >= 16 and data[:4] == b"RIFF" and data[8:12] == b"WEBP"
