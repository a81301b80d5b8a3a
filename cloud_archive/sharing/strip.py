"""Copy a file without the metadata that shows how it was made. Nothing is encoded again."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from typing import IO

from ..catalog.readers.read import ReadingFailed, read_facts
from ..catalog.source import BoundedSource, ByteSource, FileSource
from ..errors import StripRefused
from .containers.flac import strip_flac
from .containers.gif import strip_gif
from .containers.jpeg import strip_jpeg
from .containers.matroska import strip_matroska
from .containers.mp3 import strip_mp3
from .containers.mp4 import strip_mp4
from .containers.ogg import strip_ogg
from .containers.pieces import Piece, StripSource
from .containers.png import strip_png
from .containers.wav import strip_wav
from .containers.webp import strip_webp

_STRIPPERS: dict[str, Callable[[StripSource], Iterator[Piece]]] = {
    "png": strip_png,
    "webp": strip_webp,
    "jpeg": strip_jpeg,
    "gif": strip_gif,
    "mp4": strip_mp4,
    "mov": strip_mp4,
    "m4a": strip_mp4,
    "webm": strip_matroska,
    "mkv": strip_matroska,
    "flac": strip_flac,
    "mp3": strip_mp3,
    "ogg": strip_ogg,
    "opus": strip_ogg,
    "wav": strip_wav,
}
_NO_STRIPPER = (
    "its format is not supported; PNG, JPEG, WebP, GIF, MP4, MOV, WebM, MKV, FLAC, MP3, Ogg and WAV are"
)
_VERIFY_BASE_STEPS = 100_000
_VERIFY_BASE_BYTES = 16 * 1024 * 1024


def strip(source: ByteSource, target: IO[bytes], name: str) -> str:
    """Write a copy of `source` without prompt, workflow, EXIF, XMP, comments and tags; return its MIME type.

    Pixels and samples stay the same, bit by bit, with any watermark that a node hid in them. Colour profiles and the
    orientation of a picture are kept.

    Args:
        target: an empty file, opened for reading and writing (`w+b`). The copy is read again to check it; after an
            error the file is empty.
        name: the file's name, for messages.

    Raises:
        StripRefused: the format is not supported, the file is broken, the copy fails its check, or memory runs out.
        OSError, StoreError: the bytes can't be read or written now.
    """
    mime_type = None
    try:
        with contextlib.suppress(MemoryError):  # dropping it frees what its frames hold
            mime_type = _write_copy(source, target, name)
    finally:
        if mime_type is None:
            target.seek(0)
            target.truncate()
    if mime_type is None:
        raise StripRefused(name, "this machine has too little memory")
    return mime_type


def _write_copy(source: ByteSource, target: IO[bytes], name: str) -> str:
    facts = read_facts(BoundedSource(source))
    stripper = _STRIPPERS.get(facts.format) if facts else None
    if facts is None or stripper is None:
        raise StripRefused(name, _NO_STRIPPER)
    reader = StripSource(source)
    try:
        for piece in stripper(reader):
            for block in reader.blocks(piece):
                target.write(block)
    except (ValueError, IndexError, struct.error) as error:
        raise StripRefused(name, str(error)) from error
    target.flush()
    return _verify(target, name, facts.format)


def _verify(target: IO[bytes], name: str, format_name: str) -> str:
    """Read the copy with the catalog's readers, with limits that grow with its size, and return its MIME type.

    Raises:
        StripRefused: the copy still holds a text, is not recognised as its format, or can't be read to its end.
    """
    copy = FileSource(target)
    bounded = BoundedSource(
        copy, max_bytes=4 * copy.size + _VERIFY_BASE_BYTES, max_steps=copy.size + _VERIFY_BASE_STEPS
    )
    try:
        facts = read_facts(bounded, whole=True)
    except ReadingFailed as error:
        raise StripRefused(name, "the copy can't be read to its end, so it may still hold a text") from error
    if facts is None or facts.format != format_name:
        raise StripRefused(name, "the copy can't be read again")
    if facts.texts:
        raise StripRefused(name, f"the copy still holds the text {facts.texts[0][0]!r}")
    return facts.mime_type
