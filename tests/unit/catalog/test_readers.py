"""Readers: real writers' files, reads from a bucket, and files made to hurt."""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from cloud_archive.beneath import open_file
from cloud_archive.catalog.readers.facts import FileFacts
from cloud_archive.catalog.readers.read import read_facts
from cloud_archive.catalog.source import BoundedSource, BytesSource, FileSource

from . import writers
from .counting import count_calls

PICTURES = ("png", "webp", "jpeg", "gif", "avif", "tiff", "exr", "svg", "jxl", "mp4", "mov", "webm", "mkv")
AUDIO_SECONDS = {"flac": 1.0, "opus": 1.0, "ogg": 1.0, "wav": 1.0, "mp3": 1.045}
MOVING = {"core_animated_png", "core_animated_webp", "gif", "core_mp4", "faststart_mp4", "mov"}


def facts_of(data: bytes) -> FileFacts:
    facts = read_facts(BoundedSource(BytesSource(data)))
    assert facts is not None
    return facts


@pytest.mark.parametrize("version", [2, 3, 4])
def test_reads_every_text_of_an_id3_tag_with_unsynchronisation(version: int) -> None:
    def frame(name: str, text: str) -> bytes:
        decoded = b"\1" + name.encode("utf-16") + b"\0\0" + text.encode("utf-16")
        body = decoded.replace(b"\xff", b"\xff\0")
        if version == 2:
            return b"TXX" + len(decoded).to_bytes(3, "big") + body
        # Version 4 counts the bytes as they are in the file, in 7 bits each.
        length = len(decoded) if version == 3 else len(body) // 128 * 256 + len(body) % 128
        return b"TXXX" + struct.pack(">IH", length, 0) + body

    texts = {"prompt": "a red fox", "workflow": "ÿ" * 90}
    frames = b"".join(frame(name, text) for name, text in texts.items())
    head = b"ID3" + bytes([version, 0, 0x80]) + bytes([0, 0, len(frames) // 128, len(frames) % 128])
    assert dict(facts_of(head + frames + b"\xff\xfb\x90\0").texts) == texts


class BucketSource:
    """A source that counts its reads, as a bucket would bill them."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self.reads: list[tuple[int, int]] = []
        self._data = data

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return self._data[offset : offset + length]


@pytest.mark.parametrize("name", writers.GRAPH_WRITERS)
def test_reads_both_graphs_of_each_writer(name: str) -> None:
    facts = facts_of(writers.GRAPH_WRITERS[name]())
    everything = " ".join(text for _, text in facts.texts)
    plain = everything.replace('\\"', '"')
    assert str(2**64 - 1) in plain
    assert '"ckpt_name": "fox_v1.safetensors"' in plain
    assert '"widgets_values"' in plain
    if facts.format in PICTURES:
        assert (facts.width, facts.height) == writers.SIZE
    if facts.format in AUDIO_SECONDS:
        assert facts.duration_seconds == AUDIO_SECONDS[facts.format]
    if name in MOVING:
        assert facts.duration_seconds == 0.3


@pytest.mark.parametrize("name", writers.PARAMETER_WRITERS)
def test_reads_parameters_of_each_writer(name: str) -> None:
    assert writers.PARAMETERS in [text for _, text in facts_of(writers.PARAMETER_WRITERS[name]()).texts]


@pytest.mark.parametrize("name", writers.GRAPH_WRITERS)
def test_reads_the_same_through_ranged_reads(name: str) -> None:
    data = writers.GRAPH_WRITERS[name]()
    bucket = BucketSource(data)
    facts = read_facts(BoundedSource(bucket, block_bytes=64 * 1024, max_reads=24))
    assert facts == facts_of(data)
    assert len(bucket.reads) <= 6


def test_reads_a_large_png_from_a_bucket_with_few_requests() -> None:
    noise = Image.frombytes("RGB", (900, 900), random.Random(1).randbytes(900 * 900 * 3))
    info = PngImagePlugin.PngInfo()
    info.add(b"comf", b"prompt\0" + json.dumps(writers.PROMPT).encode(), after_idat=True)
    data = writers.saved(noise, format="PNG", pnginfo=info, compress_level=0)
    assert len(data) > 1_500_000
    bucket = BucketSource(data)
    facts = read_facts(BoundedSource(bucket, block_bytes=64 * 1024, max_reads=24))
    assert facts is not None
    assert facts.texts == (("prompt", json.dumps(writers.PROMPT)),)
    assert len(bucket.reads) <= 24


def test_reads_a_large_animation_from_a_bucket_with_few_requests() -> None:
    frames = [Image.effect_noise((160, 160), 90).convert("RGB") for _ in range(40)]
    data = writers.saved(
        frames[0],
        format="WEBP",
        save_all=True,
        append_images=frames[1:],
        exif=writers.core_exif(),
        method=0,
        quality=95,
    )
    bucket = BucketSource(data)
    facts = read_facts(BoundedSource(bucket, block_bytes=64 * 1024, max_reads=24))
    assert facts is not None
    assert [name for name, _ in facts.texts] == ["make", "model"]
    assert sum(length for _, length in bucket.reads) < len(data) + 1024 * 1024


def test_reads_a_large_animated_png_from_a_bucket() -> None:
    frames = [
        Image.frombytes("RGB", (160, 160), random.Random(n).randbytes(160 * 160 * 3)) for n in range(40)
    ]
    info = PngImagePlugin.PngInfo()
    info.add(b"comf", b"prompt\0" + json.dumps(writers.PROMPT).encode(), after_idat=True)
    data = writers.saved(
        frames[0], format="PNG", save_all=True, append_images=frames[1:], duration=100, pnginfo=info
    )
    local = facts_of(data)
    assert (local.mime_type, local.duration_seconds) == ("image/apng", 4.0)
    facts = read_facts(BoundedSource(BucketSource(data), block_bytes=64 * 1024, max_reads=24))
    assert facts == local._replace(duration_seconds=None)


@pytest.mark.parametrize("length", [65_536, 65_537, 200_000])
def test_reads_a_comment_of_a_mov_whose_length_does_not_fit_its_field(length: int) -> None:
    text = "fox " * (length // 4) + "x" * (length % 4)
    assert ("comment", text.strip()) in facts_of(writers.video("mov", "mpeg4", {"comment": text})).texts


def test_reads_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "fox.png").write_bytes(writers.core_png())
    with open_file(tmp_path, "fox.png") as file:
        facts = read_facts(BoundedSource(FileSource(file)))
    assert facts is not None
    assert [name for name, _ in facts.texts] == ["prompt", "workflow"]


def test_keeps_what_stands_before_the_fault() -> None:
    data = writers.png_with_late_texts()
    cut = data.index(b"workflow\0") + 20
    assert [name for name, _ in facts_of(data[:cut]).texts] == ["prompt"]


def test_an_error_of_the_source_is_not_taken_for_no_metadata() -> None:
    class Failing:
        size = 1000

        def read_at(self, offset: int, length: int) -> bytes:
            raise OSError("input/output error")

    with pytest.raises(OSError, match="input/output"):
        read_facts(BoundedSource(Failing()))


def test_unknown_files_have_no_facts() -> None:
    assert read_facts(BoundedSource(BytesSource(b""))) is None
    assert read_facts(BoundedSource(BytesSource(b"just a text"))) is None


def hostile_files() -> dict[str, bytes]:
    signature = b"\x89PNG\r\n\x1a\n" + writers.png_chunk(
        b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    )
    bomb = zlib.compress(bytes(50_000_000))
    box = struct.pack(">I4s", 8, b"free")
    nested = b""
    for _ in range(3000):
        nested = struct.pack(">I4s", len(nested) + 8, b"moov") + nested
    page = struct.pack("<4sBBqIIIB", b"OggS", 0, 0, 0, 7, 0, 0, 255) + b"\xff" * 255 + bytes(255 * 255)
    tag = b"TXXX" + b"\x00\x7f\x7f\x7f\0\0" + b"\1" + b"ab" * 500_000
    return {
        "png zTXt bomb": signature + writers.png_chunk(b"zTXt", b"prompt\0\0" + bomb) * 30,
        "png iTXt of spaces": signature
        + writers.png_chunk(b"iTXt", b"p\0\1\0\0\0" + zlib.compress(b" " * 3_000_000)) * 400,
        "png of empty chunks": signature + writers.png_chunk(b"IDAT", b"") * 200_000,
        "png long text": signature + writers.png_chunk(b"tEXt", b"prompt\0" + b"[" * 11_000_000),
        "png many texts": signature + writers.png_chunk(b"tEXt", b"prompt\0" + b"x" * 200_000) * 60,
        "mp4 of empty boxes": b"\0\0\0\x10ftypisom\0\0\0\0" + box * 500_000,
        "mp4 nested": b"\0\0\0\x10ftypisom\0\0\0\0" + nested,
        "gif of empty blocks": b"GIF89a\1\0\1\0\0\0\0" + b"\x21\xf9\0" * 1_000_000,
        "gif comment": b"GIF89a\1\0\1\0\0\0\0\x21\xfe" + (b"\xff" + b"x" * 255) * 40_000,
        "ogg without end": page * 100,
        "matroska of voids": b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff" + b"\xec\x80" * 1_000_000,
        "id3 long name": b"ID3\4\0\0\x7f\x7f\x7f\x7f" + tag * 3,
        "id3 decoded": b"ID3\3\0\x80\x7f\x7f\x7f\x7f" + (tag + b"\xff\0" * 500_000) * 7,
        "glb of brackets": struct.pack("<4sII", b"glTF", 2, 3_000_020)
        + struct.pack("<I4s", 3_000_000, b"JSON")
        + b"[" * 3_000_000,
        "safetensors of objects": struct.pack("<Q", 2_999_999) + b"{" + b'"a":{},' * 428_571 + b"}",
        "jpeg of segments": b"\xff\xd8" + b"\xff\xfe\xff\xff" * 500_000,
        "svg unclosed": b"<svg " + b"<" * 3_000_000,
        "jpeg xmp": b"\xff\xd8"
        + (b"\xff\xe1\xff\xff" + b"http://ns.adobe.com/xap/1.0/\0" + b"<a:b c" * 10_900).ljust(65537, b" ")
        * 100,
        "webp frames": b"RIFF\0\0\0\0WEBP" + (b"ANMF\x10\0\0\0" + bytes(16)) * 500_000,
        "exif entries": b"II*\0\x08\0\0\0"
        + b"\xff\xff"
        + struct.pack("<HHII", 0x9286, 7, 2_900_000, 100) * 256
        + bytes(2_900_000),
        "wav chunks": b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 1_000_000,
    }


HOSTILE = hostile_files()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_costs_a_bounded_number_of_calls_and_16_mb(name: str) -> None:
    """A call takes about 0.1 microseconds: 250,000 are 25 ms on a quiet machine, and the same on a busy one."""
    source = BytesSource(HOSTILE[name])
    tracemalloc.start()
    try:
        read_facts(BoundedSource(source))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16_000_000
    assert count_calls(lambda: read_facts(BoundedSource(source))) < 250_000


def test_only_so_much_xmp_is_looked_through() -> None:
    """Finding tags costs more for each byte than anything else that a reader does."""
    source = BucketSource(HOSTILE["jpeg xmp"])
    read_facts(BoundedSource(source))
    assert sum(length for _, length in source.reads) < 1_000_000


SEEDS = [writer() for writer in (*writers.GRAPH_WRITERS.values(), *writers.PARAMETER_WRITERS.values())]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_file_never_raises(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 8))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 8, bytes(8)]))
        if data.draw(st.booleans()):
            damaged[position : position + len(piece)] = piece
        else:
            damaged[position:position] = piece
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    read_facts(BoundedSource(BytesSource(bytes(damaged))))
    read_facts(BoundedSource(BytesSource(bytes(damaged)), block_bytes=512, max_reads=24))


MAGICS = [seed[:16] for seed in SEEDS]


@settings(max_examples=100, deadline=None)
@given(magic=st.sampled_from(MAGICS), rest=st.binary(max_size=600))
def test_random_bytes_never_raise(magic: bytes, rest: bytes) -> None:
    read_facts(BoundedSource(BytesSource(magic + rest)))
