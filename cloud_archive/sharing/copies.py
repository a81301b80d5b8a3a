"""Put a copy of an archived file into a share; the copy holds no prompt, workflow or tags."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..catalog.source import FileSource
from ..errors import StoreError
from ..store.base import ObjectStore
from ..store.failures import explain
from ..text import safe_file_name
from .folder import ShareFolder, scratch_directory
from .strip import strip


def put_stripped_copy(store: ObjectStore, folder: ShareFolder, asset: Mapping[str, Any]) -> tuple[str, str]:
    """Put a stripped copy of an archived object into the share; return the copy's key and MIME type.

    The object is downloaded and compared with its recorded size, and with its checksum if one is known, so that the
    copy shows what was archived. The object itself never changes.

    Raises:
        StripRefused: its format is not supported, or the file is broken.
        StoreError: the object can't be read or holds other bytes than were archived, or the copy can't be written.
        KeyRejected: the copy's key would be too long.
        CloudArchiveError: the directory for temporary files can't hold the object and its copy.
    """
    name = safe_file_name(asset["name"])
    with scratch_directory() as directory:
        original, copies = directory / "original", directory / "copy"
        copies.mkdir()
        _download(store, asset, original)
        with original.open("rb") as source, (copies / name).open("w+b") as target:
            mime_type = strip(FileSource(source), target, asset["name"])
        original.unlink()
        return folder.put(copies, name), mime_type


def _download(store: ObjectStore, asset: Mapping[str, Any], target: Path) -> None:
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        for piece in store.read(asset["key"], asset["size"]):
            digest.update(piece)
            size += len(piece)
            file.write(piece)
    if size != asset["size"] or asset["sha256"] not in (None, digest.hexdigest()):
        raise StoreError("GetObject", asset["key"], explain("Unproven"))
