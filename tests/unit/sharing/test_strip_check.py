"""The check of a stripped copy: it is read again, to its end, and holds no text."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator

import pytest

from cloud_archive.catalog.source import BytesSource
from cloud_archive.errors import StripRefused
from cloud_archive.sharing import strip as strip_module
from cloud_archive.sharing.containers.pieces import Piece, StripSource
from cloud_archive.sharing.strip import strip
from tests.unit.catalog import writers

from . import samples

PICTURE = samples.SAMPLES["palette_png"](samples.as_json("snow"))


def pass_on(source: StripSource) -> Iterator[Piece]:
    """Remove nothing."""
    yield source.span(0, source.size)


def test_refuses_a_copy_that_still_holds_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(strip_module._STRIPPERS, "png", pass_on)
    with tempfile.TemporaryFile() as target:
        with pytest.raises(StripRefused, match="still holds the text 'prompt'"):
            strip(BytesSource(writers.core_png()), target, "fox.png")
        assert target.seek(0, io.SEEK_END) == 0


@pytest.mark.parametrize(
    "chunks",
    [
        writers.png_chunk(b"tEXt", b"prompt\0" + bytes(3 * 1024 * 1024)),
        writers.png_chunk(b"zTXt", b"prompt\0\0no zlib"),
    ],
    ids=["text over the limit", "text that is broken"],
)
def test_refuses_a_copy_that_could_not_be_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, chunks: bytes
) -> None:
    """A text behind the fault would be missed."""
    monkeypatch.setitem(strip_module._STRIPPERS, "png", pass_on)
    hidden = PICTURE[:33] + chunks + writers.png_chunk(b"tEXt", b"workflow\0a secret") + PICTURE[33:]
    with tempfile.TemporaryFile() as target:
        with pytest.raises(StripRefused, match="the copy can't be read to its end"):
            strip(BytesSource(hidden), target, "fox.png")
        assert target.seek(0, io.SEEK_END) == 0


def test_refuses_a_copy_that_takes_too_many_bytes_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = writers.png_chunk(b"IDAT", bytes(9000))
    data = PICTURE[:33] + pixels * 2 + writers.png_chunk(b"IEND", b"")
    with tempfile.TemporaryFile() as target:
        strip(BytesSource(data), target, "fox.png")
    monkeypatch.setattr(strip_module, "_VERIFY_BASE_BYTES", 5000 - 4 * len(data))
    with (
        tempfile.TemporaryFile() as target,
        pytest.raises(StripRefused, match="the copy can't be read to its end"),
    ):
        strip(BytesSource(data), target, "fox.png")
