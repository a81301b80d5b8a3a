"""Reading a source for a stripper: exact, in a window, and with a limit on the number of reads."""

from __future__ import annotations

import pytest

from cloud_archive.catalog.source import BytesSource
from cloud_archive.sharing.containers import pieces
from cloud_archive.sharing.containers.pieces import (
    Piece,
    Span,
    StripSource,
    Unstrippable,
    Zeros,
    total_length,
)

DATA = bytes(range(256)) * 1024


class Counted(BytesSource):
    """A source that counts its reads."""

    reads = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return super().read_at(offset, length)


def test_small_reads_share_a_window() -> None:
    source = Counted(DATA)
    reader = StripSource(source)
    assert b"".join(reader.read(offset, 16) for offset in range(0, 64 * 1024, 16)) == DATA[: 64 * 1024]
    assert source.reads == 1
    assert reader.read(100_000, 4) == DATA[100_000:100_004]
    assert reader.read(0, 4) == DATA[:4]
    assert source.reads == 3


def test_a_read_is_exact_or_refused() -> None:
    reader = StripSource(BytesSource(DATA))
    assert reader.read(len(DATA) - 2, 2) == DATA[-2:]
    assert reader.up_to(len(DATA) - 2, 9) == DATA[-2:]
    assert reader.number(1, 3) == 0x010203
    for start, length in ((len(DATA) - 2, 3), (len(DATA) + 1, 0)):
        with pytest.raises(Unstrippable, match="ends early"):
            reader.read(start, length)
    with pytest.raises(Unstrippable, match="ends early"):
        StripSource(BytesSource(b"fox")).read(-1, 1)
    for span in ((3, 2), (-1, 2), (0, len(DATA) + 1)):
        with pytest.raises(Unstrippable, match="ends early"):
            reader.span(*span)


def test_a_long_read_and_too_many_reads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    large = StripSource(BytesSource(bytes(2 * 1024 * 1024)))
    with pytest.raises(Unstrippable, match="too long"):
        large.read(0, 1024 * 1024 + 1)
    monkeypatch.setattr(pieces, "_BASE_READS", 3)
    reader = StripSource(BytesSource(bytes(64)))
    for _ in range(3 + 64 // 32):
        reader.read(0, 1)
    with pytest.raises(Unstrippable, match="too many small parts"):
        reader.read(0, 1)


def test_pieces_become_blocks_of_a_megabyte_at_most() -> None:
    data = bytes(range(250)) * 10_000
    reader = StripSource(BytesSource(data))
    made: list[Piece] = [b"head", Span(10, 2_000_000), Zeros(1_500_000)]
    blocks = [list(reader.blocks(piece)) for piece in made]
    assert [b"".join(found) for found in blocks] == [b"head", data[10:2_000_010], bytes(1_500_000)]
    assert max(len(block) for found in blocks for block in found) == 1024 * 1024
    assert total_length(made) == 4 + 2_000_000 + 1_500_000
    assert (reader.span(3, 7), reader.blank(3, 7)) == (Span(3, 4), Zeros(4))


def test_a_source_that_becomes_shorter_is_refused() -> None:
    class Short(BytesSource):
        def read_at(self, offset: int, length: int) -> bytes:
            return super().read_at(offset, length)[:-1]

    reader = StripSource(Short(DATA))
    with pytest.raises(Unstrippable, match="ends early"):
        list(reader.blocks(Span(0, 10)))
    with pytest.raises(Unstrippable, match="ends early"):
        reader.read(0, len(DATA))
