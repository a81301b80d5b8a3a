"""Parts of a file are read while they are sent, and hold memory only where they are read whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.errors import FileChanged, FileUnreadable, FileVanished
from cloud_archive.files import stat_version
from cloud_archive.upload.file_part import PIECE_BYTES, FilePart
from cloud_archive.upload.memory import ByteBudget
from cloud_archive.upload.outcome import Prepared
from cloud_archive.upload.source import opened, read_content
from tests.functional.archives import claim_of

SIZE = 2 * PIECE_BYTES + 1000
OFFSET, LENGTH = 500, SIZE - 1000
BYTES = os.urandom(SIZE)
PART = BYTES[OFFSET : OFFSET + LENGTH]


@pytest.fixture
def prepared(root: Path) -> Iterator[Prepared]:
    (root / "film.bin").write_bytes(BYTES)
    claim = claim_of(stat_version(root, "film.bin"))
    with opened(root, claim) as source:
        yield Prepared(root, claim, source, read_content(source, claim), "film.bin")


@pytest.fixture(params=["by offset", "by a handle of its own"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows each part has a handle of its own."""
    if request.param == "by a handle of its own":
        monkeypatch.delattr(os, "preadv", raising=False)
    elif not hasattr(os, "preadv"):
        pytest.skip("there is no such call on this system")


@pytest.mark.usefixtures("way")
def test_a_part_is_read_as_often_as_it_is_sent(prepared: Prepared) -> None:
    budget = ByteBudget()
    with FilePart(prepared, OFFSET, LENGTH, budget, hashed=True) as part:
        for _ in range(2):
            pieces = [bytes(piece) for piece in part]
            assert b"".join(pieces) == PART
            assert max(map(len, pieces)) == PIECE_BYTES
            assert part.sha256 == hashlib.sha256(PART).hexdigest()
        assert budget.held_bytes == 0
    assert len(part) == LENGTH


def test_a_part_that_is_read_whole_takes_room_until_its_end(prepared: Prepared) -> None:
    budget = ByteBudget()
    with FilePart(prepared, OFFSET, LENGTH, budget, hashed=True) as part:
        assert bytes(part) == PART
        assert bytes(part) is bytes(part)
        assert budget.held_bytes == LENGTH
        assert part.sha256 == hashlib.sha256(PART).hexdigest()
    assert budget.held_bytes == 0


def test_what_is_not_hashed_has_no_checksum(prepared: Prepared) -> None:
    with FilePart(prepared, OFFSET, LENGTH, ByteBudget(), hashed=False) as part:
        assert b"".join(map(bytes, part)) == bytes(part) == PART
        assert part.sha256 is None


@pytest.mark.usefixtures("way")
def test_a_part_that_was_cut_off_has_changed(prepared: Prepared, root: Path) -> None:
    os.truncate(root / "film.bin", PIECE_BYTES)
    with FilePart(prepared, OFFSET, LENGTH, ByteBudget(), hashed=True) as part:
        with pytest.raises(FileChanged):
            list(part)
        assert part.sha256 is None
        with pytest.raises(FileChanged):
            bytes(part)


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="a folder can't be opened as a file")
def test_a_file_that_the_system_fails_to_read_is_unreadable(prepared: Prepared) -> None:
    folder = os.open(prepared.root, os.O_RDONLY)
    os.dup2(folder, prepared.source.fileno())  # reading it fails, as reading a broken disk does
    os.close(folder)
    with FilePart(prepared, OFFSET, LENGTH, ByteBudget(), hashed=False) as part:
        with pytest.raises(FileUnreadable):
            list(part)
        with pytest.raises(FileUnreadable):
            bytes(part)


def test_a_file_that_is_deleted_before_a_part_opens_it_has_vanished(
    prepared: Prepared, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("preadv", "pread"):
        monkeypatch.delattr(os, name, raising=False)
    (root / "film.bin").rename(root / "other.bin")
    with FilePart(prepared, OFFSET, LENGTH, ByteBudget(), hashed=False) as part:
        with pytest.raises(FileVanished):
            list(part)
        with pytest.raises(FileVanished):
            bytes(part)
