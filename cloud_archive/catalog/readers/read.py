"""Choose the reader by a file's first bytes; a broken file yields what was found before the fault."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import partial

from ..source import BoundedSource
from .avif import read_avif
from .exr import read_exr
from .facts import FactsBuilder, FileFacts
from .flac import read_flac
from .gif import read_gif
from .glb import read_glb
from .id3 import read_mp3, tag_length
from .jpeg import read_jpeg
from .jxl import CODESTREAM, CONTAINER, read_jxl
from .matroska import read_matroska
from .mp4 import read_mp4
from .ogg import read_ogg
from .png import SIGNATURE, read_png
from .safetensors import read_safetensors
from .svg import read_svg
from .tiff import read_tiff
from .wav import read_wav
from .webp import read_webp

READER_VERSION = 1
"""To increase when a reader or the graph reading finds more, so that files are read again. If the catalog holds
a file's graphs, only these are read."""

_Reader = Callable[[BoundedSource, FactsBuilder], None]
# What a parser raises over broken bytes. A source's own errors (disk, network) are not among them.
_BROKEN = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    struct.error,
    zlib.error,
)


class ReadingFailed(ValueError):
    """A reader met a fault or a limit, so it may have missed a text."""


def read_facts(source: BoundedSource, *, whole: bool = False) -> FileFacts | None:
    """Return what the file's container says, up to the first fault or limit; None: no reader knows it.

    Raises:
        ReadingFailed: a reader met a fault or a limit, and `whole` is set.
        OSError, StoreError: the bytes can't be read now.
    """
    try:
        found = _choose(source)
    except _BROKEN:
        return None
    if found is None:
        return None
    reader, facts = found
    try:
        reader(source, facts)
    except _BROKEN as error:
        if whole:
            raise ReadingFailed(str(error)) from error
    return facts.build()


def _choose(source: BoundedSource) -> tuple[_Reader, FactsBuilder] | None:
    head = source.read(0, 64)
    for magic, reader, name, mime_type in _MAGICS:
        if head.startswith(magic):
            return reader, FactsBuilder(name, mime_type)
    if head[:4] in (b"RIFF", b"RF64", b"BW64"):
        if head[8:12] == b"WEBP":
            return read_webp, FactsBuilder("webp", "image/webp")
        return (read_wav, FactsBuilder("wav", "audio/wav")) if head[8:12] == b"WAVE" else None
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _choose_iso(head)
    if head[:3] == b"ID3":
        tag_end = tag_length(head)
        if source.read(tag_end, 4) == b"fLaC":
            return partial(read_flac, start=tag_end), FactsBuilder("flac", "audio/flac")
        return read_mp3, FactsBuilder("mp3", "audio/mpeg")
    if head[:1] == b"\xff" and len(head) > 2 and head[1] & 0xE6 == 0xE2 and head[2] >> 4 != 15:
        return read_mp3, FactsBuilder("mp3", "audio/mpeg")
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < source.size:
        return read_safetensors, FactsBuilder("safetensors", "application/octet-stream")
    if head.lstrip()[:5] in (b"<?xml", b"<svg ", b"<svg>") or b"<svg" in head:
        return read_svg, FactsBuilder("svg", "image/svg+xml")
    return None


def _choose_iso(head: bytes) -> tuple[_Reader, FactsBuilder]:
    brand = head[8:12] if head[4:8] == b"ftyp" else b"qt  "
    if brand in (b"avif", b"avis"):
        return read_avif, FactsBuilder("avif", "image/avif")
    if brand in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return read_avif, FactsBuilder("heif", "image/heif")
    if brand == b"qt  ":
        return read_mp4, FactsBuilder("mov", "video/quicktime")
    if brand.startswith(b"M4A"):
        return read_mp4, FactsBuilder("m4a", "audio/mp4")
    return read_mp4, FactsBuilder("mp4", "video/mp4")


_MAGICS: tuple[tuple[bytes, _Reader, str, str], ...] = (
    (SIGNATURE, read_png, "png", "image/png"),
    (b"\xff\xd8\xff", read_jpeg, "jpeg", "image/jpeg"),
    (b"GIF8", read_gif, "gif", "image/gif"),
    (b"\x1a\x45\xdf\xa3", read_matroska, "mkv", "video/x-matroska"),
    (b"fLaC", read_flac, "flac", "audio/flac"),
    (b"OggS", read_ogg, "ogg", "audio/ogg"),
    (b"glTF", read_glb, "glb", "model/gltf-binary"),
    (b"v/1\x01", read_exr, "exr", "image/x-exr"),
    (CODESTREAM, read_jxl, "jxl", "image/jxl"),
    (CONTAINER, read_jxl, "jxl", "image/jxl"),
    (b"II*\0", read_tiff, "tiff", "image/tiff"),
    (b"MM\0*", read_tiff, "tiff", "image/tiff"),
)
