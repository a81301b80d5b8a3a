"""The child that decodes segments says what decoding here says, and its end costs nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.catalog.bucket import sync
from cloud_archive.catalog.bucket.decoding import MAX_TEXT_BYTES, SegmentDecoder
from cloud_archive.catalog.bucket.segment import Decoded, SegmentError
from tests.memory_store import MemoryStore

from .machines import NewMachine, month_body, put, write
from .test_segment import HEADER, PUT, packed, read


@pytest.fixture
def decoder() -> Iterator[SegmentDecoder]:
    decoder = SegmentDecoder()
    yield decoder
    decoder.close()


def test_it_finds_what_decoding_here_finds(decoder: SegmentDecoder) -> None:
    rows = [PUT, PUT | {"key": "\u00e9", "loras": [{"name": "x", "strength": 0.5}], "has_prompt": True}]
    body = month_body(rows, ["a", "b"])
    for one in (body, packed(HEADER, b"null", PUT)):
        assert decoder.decode(one) == read(one)
    for bad in (b"no gzip", packed(PUT), packed({"op": "header", "version": 2}, PUT)):
        with pytest.raises(SegmentError) as told:
            decoder.decode(bad)
        with pytest.raises(SegmentError) as error:
            read(bad)
        assert (str(told.value), told.value.newer) == (str(error.value), error.value.newer)


def test_what_holds_more_than_fits_is_left_to_the_caller_and_can_be_streamed(decoder: SegmentDecoder) -> None:
    rows = [
        PUT | {"prompt": "x" * 900_000, "size": number} for number in range(MAX_TEXT_BYTES // 900_000 + 2)
    ]
    body = month_body(rows, ["a"])
    assert decoder.decode(body) is None
    assert decoder.decode(packed(HEADER, PUT)) is not None
    found = Decoded()
    assert list(decoder.stream(body, found)) == rows
    assert (found.rows, found.replaces) == (len(rows), ["a"])
    with pytest.raises(SegmentError):
        list(decoder.stream(b"no gzip", Decoded()))
    # Who stops in the midst leaves no answer behind that the next one would take for its own.
    begun = decoder.stream(body, Decoded())
    assert next(begun) == rows[0]
    begun.close()
    assert decoder.decode(packed(HEADER, PUT)) is None
    assert list(decoder.stream(body, Decoded())) == rows


@pytest.mark.parametrize("ahead", [-1, 4096])
@pytest.mark.parametrize("text", ["", "import sys; sys.stdin.buffer.read(8); sys.stdout.write('1234')"])
def test_a_child_that_ends_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, ahead: int
) -> None:
    monkeypatch.setattr(sync, "_MAX_AHEAD_BYTES", ahead)
    monkeypatch.setattr(sync, "MANY_BYTES", 0)
    monkeypatch.setattr(sync, "SegmentDecoder", lambda: SegmentDecoder([sys.executable, "-c", text]))
    store = MemoryStore()
    for number in range(3):
        write(store, [put(f"out/{number}.png")])
    other = NewMachine(tmp_path, store)
    assert other.sync.sync().files == 3
    assert len(other.found()) == 3
    other.database.close()


def test_the_child_ends_with_its_parent() -> None:
    decoder = SegmentDecoder()
    assert decoder.decode(packed(HEADER, PUT)) is not None
    child = decoder._child
    assert child is not None
    assert child.stdin is not None
    child.stdin.close()  # what the system does when the parent is killed
    assert child.wait(60) == 0
    decoder.close()
