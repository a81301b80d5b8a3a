"""How a file's bytes are divided, and what their type is."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from cloud_archive.errors import FileChanged, FileUnreadable
from cloud_archive.files import stat_version
from cloud_archive.upload.memory import BUDGET_BYTES
from cloud_archive.upload.source import content_type, has_changed, opened, part_size_for, read_content
from tests.functional.archives import claim_of

MEBIBYTE = 1024 * 1024
GIGABYTE = 10**9


@pytest.mark.parametrize(
    ("size_bytes", "part_bytes"),
    [
        (9 * MEBIBYTE, 8 * MEBIBYTE),
        (8000 * MEBIBYTE, 8 * MEBIBYTE),
        (8000 * MEBIBYTE + 1, 9 * MEBIBYTE),
        (48_000 * MEBIBYTE, 48 * MEBIBYTE),
        (48_000 * MEBIBYTE + 1, 48 * MEBIBYTE),
        (480 * GIGABYTE, 48 * MEBIBYTE),
    ],
)
def test_a_part_fits_the_memory_budget(size_bytes: int, part_bytes: int) -> None:
    assert part_size_for(size_bytes) == part_bytes <= BUDGET_BYTES
    assert -(-size_bytes // part_bytes) <= 10_000


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.PNG", "image/png"),
        ("a.html", "text/html"),
        ("a", "application/octet-stream"),
        ("workflow.json.gz", "application/gzip"),
        ("drawing.svgz", "application/gzip"),
        ("points.tar.xz", "application/octet-stream"),
    ],
)
def test_the_type_is_that_of_the_bytes(name: str, media_type: str) -> None:
    """A compressed file must not be shown as what it holds: the object has no Content-Encoding."""
    assert content_type(name) == media_type


class ShortReads:
    """A file of a network filesystem whose reads return three bytes at the most."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = cast(Any, source)

    def read(self, size: int) -> bytes:
        return bytes(self._source.read(min(size, 3)))

    def readinto(self, buffer: memoryview) -> int:
        return int(self._source.readinto(buffer[:3]))

    def fileno(self) -> int:
        return int(self._source.fileno())


def test_a_small_file_is_read_whole_although_each_read_is_short(root: Path) -> None:
    (root / "a.bin").write_bytes(b"0123456789")
    claim = claim_of(stat_version(root, "a.bin"))
    with opened(root, claim) as source:
        content = read_content(cast(BinaryIO, ShortReads(source)), claim)
    assert content.body == b"0123456789"
    assert content.sha256 == hashlib.sha256(b"0123456789").hexdigest()


def test_a_file_that_ends_early_has_changed(root: Path) -> None:
    (root / "a.bin").write_bytes(b"0123456789")
    claim = claim_of(stat_version(root, "a.bin"))
    with opened(root, claim) as source:
        (root / "a.bin").write_bytes(b"0123")
        with pytest.raises(FileChanged):
            read_content(source, claim)


def test_a_file_that_a_network_filesystem_has_lost_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a.bin").write_bytes(b"0123456789")
    claim = claim_of(stat_version(root, "a.bin"))

    def lost(_: int) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with opened(root, claim) as source:
        monkeypatch.setattr("cloud_archive.upload.source.os.fstat", lost)
        for call in (lambda: read_content(source, claim), lambda: has_changed(source, claim)):
            with pytest.raises(FileUnreadable, match=f"can't be read: {os.strerror(errno.ESTALE)}"):
                call()
        monkeypatch.undo()
