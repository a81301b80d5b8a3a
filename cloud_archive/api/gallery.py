"""Decide which assets a caller may see, and make a ZIP of several."""

from __future__ import annotations

import uuid
import zipfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ..errors import CloudArchiveError, RequestRefused
from ..text import parse_time, safe_file_name
from .routes import GALLERY_HEADER

if TYPE_CHECKING:
    from ..catalog.catalog import Catalog

_OFF = "The library is turned off: CLOUD_ARCHIVE_GALLERY is off."
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first moment that a ZIP can hold


class GalleryScope:
    """Which assets a caller may see, by CLOUD_ARCHIVE_GALLERY.

    Args:
        setting: `all`, `own` or `off`.
        machine: this machine's name.
    """

    def __init__(self, setting: str, machine: str) -> None:
        self._setting = setting
        self._machine = machine

    @property
    def shows_others(self) -> bool:
        """Whether the caller may see what other machines archived."""
        return self._setting == "all"

    def only_machine(self) -> str | None:
        """Return the only machine whose files the caller may see; None: any machine's. RequestRefused: 403."""
        self._refuse_off()
        return self._machine if self._setting == "own" else None

    def check(self, asset: dict[str, Any]) -> dict[str, Any]:
        """Return the asset. RequestRefused: 403, the gallery is off; 404, it is another machine's."""
        self._refuse_off()
        if self._setting == "own" and (asset.get("machine") or "").lower() != self._machine.lower():
            raise RequestRefused(404, f"There is no asset {asset['id']}.")
        return asset

    def _refuse_off(self) -> None:
        if self._setting == "off":
            raise RequestRefused(403, _OFF)


def scope_of(request: web.Request, catalog: Catalog, *, public: bool) -> GalleryScope:
    """Return what the caller may see. Only pages are limited: the command sees everything.

    Args:
        public: this is the public listener, where every caller counts as a page. On the private one pages come through
            ComfyUI's process, which adds GALLERY_HEADER.
    """
    if public or GALLERY_HEADER in request.headers:
        return GalleryScope(catalog.gallery_setting, catalog.machine)
    return GalleryScope("all", "")


class _Sink:
    """The file that a ZIP is written to; `take` returns what was written since the last call."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """No-op: `zipfile` asks for it."""

    def close(self) -> None:
        """No-op: `zipfile` asks for it."""

    def take(self) -> bytes:
        found = b"".join(self._pieces)
        self._pieces.clear()
        return found


def zip_pieces(catalog: Catalog, assets: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    """Yield a ZIP of these assets, not compressed. One piece of a file is in memory at a time.

    An asset whose first piece can't be read is named in `errors.txt` at the end of the ZIP.

    Raises:
        CloudArchiveError, OSError: a later piece of an asset can't be read, or is missing.
    """
    sink, problems = _Sink(), []
    taken: set[str] = set()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for asset in assets:
            identity = uuid.UUID(asset["id"])
            pieces = catalog.pieces(identity, range(asset["size"])) if asset["size"] else iter(())
            try:
                piece = next(pieces, b"")
            except (CloudArchiveError, OSError) as error:
                problems.append(f"{asset['key']}: {error}")
                continue
            entry = zipfile.ZipInfo(_free_name(asset["name"], taken), _zip_time(asset["created_at"]))
            entry.external_attr = 0o644 << 16
            entry.file_size = missing_bytes = asset["size"]  # by which `zipfile` chooses the format
            with archive.open(entry, "w") as file:
                while piece:
                    file.write(piece)
                    missing_bytes -= len(piece)
                    yield sink.take()
                    piece = next(pieces, b"")
            if missing_bytes > 0:
                raise OSError(f"{asset['key']} ended early")
            yield sink.take()
        if problems:
            archive.writestr(_free_name("errors.txt", taken), "\n".join(problems))
    yield sink.take()


def _free_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number if it is taken in any upper or lower case, and add it to `taken`."""
    clean = safe_file_name(name)
    stem, dot, ending = clean.rpartition(".")
    wanted, number = clean, 0
    while wanted.lower() in taken:
        number += 1
        wanted = f"{stem} ({number}).{ending}" if dot else f"{clean} ({number})"
    taken.add(wanted.lower())
    return wanted


def _zip_time(created_at: str) -> tuple[int, int, int, int, int, int]:
    try:
        local = parse_time(created_at).astimezone()
    except (ValueError, OSError, OverflowError):
        return _EARLIEST
    moment = (local.year, local.month, local.day, local.hour, local.minute, local.second)
    return moment if 1980 <= local.year <= 2107 else _EARLIEST
