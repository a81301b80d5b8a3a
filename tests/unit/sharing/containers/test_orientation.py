"""The orientation in an EXIF block of either byte order, and in broken ones."""

from __future__ import annotations

import struct

import pytest

from cloud_archive.catalog.source import BytesSource
from cloud_archive.sharing.containers.orientation import minimal_exif, read_orientation
from cloud_archive.sharing.containers.pieces import StripSource


def exif(order: str, *entries: tuple[int, int, int]) -> bytes:
    """A TIFF structure with these entries (tag, kind, value)."""
    head = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(entries))
    return head + b"".join(
        struct.pack(order + "HHIHH", tag, kind, 1, value, 0) for tag, kind, value in entries
    )


def read(data: bytes) -> int | None:
    return read_orientation(StripSource(BytesSource(data)), 0, len(data))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_both_byte_orders_are_read(order: str, prefix: bytes) -> None:
    assert read(prefix + exif(order, (0x010F, 3, 5), (0x0112, 3, 6))) == 6


@pytest.mark.parametrize("orientation", range(2, 9))
def test_what_is_written_is_read_again(orientation: int) -> None:
    assert read(minimal_exif(orientation)) == orientation


@pytest.mark.parametrize(
    "data",
    [
        exif("<", (0x0112, 3, 1)),
        exif("<", (0x0112, 3, 9)),
        exif("<", (0x0112, 4, 6)),
        exif("<", (0x010F, 3, 6)),
        exif("<"),
        exif("<", (0x0112, 3, 6))[:-4],
        b"XX" + exif("<", (0x0112, 3, 6))[2:],
        b"II*\0\xff\xff\xff\x7f",
        b"Exif\0\0",
        b"",
    ],
)
def test_an_upright_or_broken_block_has_none(data: bytes) -> None:
    assert read(data) is None
