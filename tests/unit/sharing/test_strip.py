"""Stripped copies: nothing of the prompt is left, and pixels and samples are what they were."""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import subprocess
import tempfile
import tracemalloc
from pathlib import Path

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cloud_archive.catalog.readers.read import read_facts
from cloud_archive.catalog.source import BoundedSource, BytesSource, FileSource
from cloud_archive.errors import StripRefused
from cloud_archive.sharing.strip import strip
from tests.unit.catalog import writers
from tests.unit.catalog.counting import count_calls

from . import samples

SECRET = "zebrafish-in-the-snow"
TEXT = samples.as_json(SECRET)
SEEDS = {name: make(TEXT) for name, make in samples.SAMPLES.items()}
ROUNDS = 8


def stripped(data: bytes) -> bytes:
    with tempfile.TemporaryFile() as target:
        strip(BytesSource(data), target, "fox.dat")
        target.seek(0)
        return target.read()


def holds(data: bytes, word: str) -> bool:
    return any(word.encode(encoding) in data for encoding in ("utf-8", "utf-16-le", "utf-16-be"))


def without_tags_behind_the_audio(data: bytes) -> bytes:
    """PyAV takes tags behind the audio for audio."""
    return data.partition(b"APETAGEX")[0]


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_removes_every_text_and_keeps_pixels_and_samples(name: str) -> None:
    data = SEEDS[name]
    assert holds(data, SECRET)
    copy = stripped(data)
    assert not holds(copy, SECRET)
    if name in samples.PICTURES:
        assert samples.pixels(copy) == samples.pixels(data)
    else:
        assert samples.media(copy) == samples.media(without_tags_behind_the_audio(data))


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_a_copy_is_stripped_to_itself(name: str) -> None:
    copy = stripped(SEEDS[name])
    assert stripped(copy) == copy


# QuickTime's own texts have 16 bits for their length.
@pytest.mark.parametrize("name", [name for name in samples.SAMPLES if name not in (*samples.PICTURES, "mov")])
def test_removes_long_texts(name: str) -> None:
    """A workflow of 200 kB takes several pages in Ogg, and 64-bit sizes elsewhere."""
    data = samples.SAMPLES[name](samples.as_json(SECRET * 10_000))
    copy = stripped(data)
    assert not holds(copy, SECRET)
    assert samples.media(copy) == samples.media(without_tags_behind_the_audio(data))


@pytest.mark.parametrize("name", writers.GRAPH_WRITERS)
def test_strips_what_the_writers_of_comfyui_write_or_refuses_it(name: str) -> None:
    data = writers.GRAPH_WRITERS[name]()
    facts = read_facts(BoundedSource(BytesSource(data)))
    assert facts is not None
    if facts.format in ("avif", "tiff", "safetensors", "glb", "exr", "svg", "jxl") or name == "ogg_vorbis":
        with pytest.raises(StripRefused):
            stripped(data)
        return
    copy = stripped(data)
    assert b"ckpt_name" not in copy
    assert b"CLIPTextEncode" not in copy


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """More than 200 files of all formats, each with a random prompt, stripped. Returns file names and prompts."""
    folder = tmp_path_factory.mktemp("copies")
    choose = random.Random(21)
    secrets: dict[str, str] = {}
    for number in range(ROUNDS):
        for name, make in samples.SAMPLES.items():
            secret = "".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=14))
            filling = "".join(choose.choices("fox snow <lora:winter:0.8>, 狐 ", k=choose.randrange(300)))
            data = make(samples.as_json(f"{filling} {secret} {filling}"))
            assert holds(data, secret)
            file_name = f"{name}-{number}.{_suffix(data)}"
            with (folder / file_name).open("w+b") as target:
                strip(BytesSource(data), target, file_name)
            secrets[file_name] = secret
    assert len(secrets) >= 200
    return folder, secrets


def _suffix(data: bytes) -> str:
    facts = read_facts(BoundedSource(BytesSource(data)))
    assert facts is not None
    return facts.format


def test_no_byte_of_the_prompts_is_left(copies: tuple[Path, dict[str, str]]) -> None:
    folder, secrets = copies
    for name, secret in secrets.items():
        data = (folder / name).read_bytes()
        assert not holds(data, secret), name
        assert b"class_type" not in data, name
        assert b"CLIPTextEncode" not in data, name


def test_our_readers_pillow_and_pyav_find_no_text(copies: tuple[Path, dict[str, str]]) -> None:
    folder, secrets = copies
    harmless = {"language", "encoder", "handler_name", "major_brand", "minor_version", "compatible_brands"}
    for name in secrets:
        with (folder / name).open("rb") as file:
            facts = read_facts(BoundedSource(FileSource(file)))
        assert facts is not None
        assert facts.texts == ()
        if name.partition("-")[0] in samples.PICTURES:
            with Image.open(folder / name) as image:
                image.load()
                assert not set(image.info) & {"prompt", "workflow", "parameters", "comment", "xmp"}
                assert set(image.getexif()) <= {0x0112}
        else:
            with av.open(folder / name) as container:
                tags = dict(container.metadata)
                for stream in container.streams:
                    tags.update(stream.metadata)
            found = {key: value for key, value in tags.items() if value.strip() and key.lower() != "duration"}
            assert {key.lower() for key in found} <= harmless | {"vendor_id"}, (name, found)


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
def test_exiftool_finds_no_trace(copies: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    folder, secrets = copies
    report = _run("exiftool", "-json", "-a", "-u", "-ee3", "-G1", "-r", str(folder))
    assert len(json.loads(report)) == len(secrets)
    for secret in secrets.values():
        assert secret not in report
    lowered = report.lower()
    assert "class_type" not in lowered
    assert "workflow" not in lowered
    (tmp_path / "fox.png").write_bytes(SEEDS["png"])
    assert SECRET in _run("exiftool", "-json", "-a", "-u", str(tmp_path))


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="ffprobe is not installed")
def test_ffprobe_finds_no_trace(copies: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """One ffprobe for each file costs too much, so it reads one of each kind; ffmpeg lists what all of them hold."""
    folder, secrets = copies
    (tmp_path / "fox.mp4").write_bytes(SEEDS["mp4"])
    assert SECRET in _ffprobe(tmp_path / "fox.mp4")
    reports = [_ffprobe(folder / name) for name in secrets if name.partition("-")[2].startswith("0")]
    assert len(reports) == len(samples.SAMPLES)
    assert all(json.loads(report)["streams"] for report in reports)
    inputs = [argument for name in secrets for argument in ("-i", str(folder / name))]
    listing = subprocess.run(["ffmpeg", "-hide_banner", *inputs], capture_output=True, text=True, timeout=120)
    assert listing.stderr.count("\nInput #") + listing.stderr.startswith("Input #") == len(secrets)
    for report in (*reports, listing.stderr):
        assert not any(secret in report for secret in secrets.values())
        assert "class_type" not in report
        assert "workflow" not in report


def _ffprobe(path: Path) -> str:
    return _run(
        "ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams", "-show_chapters", str(path)
    )


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["JPEG", "WEBP", "PNG"])
def test_keeps_only_an_orientation_that_matters(format_name: str, orientation: int) -> None:
    data = writers.saved(samples.picture(), format=format_name, exif=samples.exif(TEXT, orientation))
    with Image.open(io.BytesIO(stripped(data))) as image:
        assert dict(image.getexif()) == ({0x0112: orientation} if orientation > 1 else {})


@pytest.mark.parametrize(
    "data", [b"", b"a fox in snow", b"%PDF-1.7 a fox", b"\x7fELF" + bytes(100), b"PK\3\4" + bytes(100)]
)
def test_refuses_formats_that_it_does_not_know(data: bytes) -> None:
    with tempfile.TemporaryFile() as target, pytest.raises(StripRefused) as refusal:
        strip(BytesSource(data), target, "maps/fox.bin")
    assert refusal.value.path == "maps/fox.bin"
    assert "its format is not supported" in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("mp4", b"soun", b"text"),
        ("mov", b"soun", b"tmcd"),
        ("webm", b"\x83\x81\x02", b"\x83\x81\x11"),
        ("mkv", b"\x83\x81\x02", b"\x83\x81\x21"),
    ],
)
def test_refuses_tracks_of_text_or_data(name: str, old: bytes, new: bytes) -> None:
    assert old in SEEDS[name]
    with pytest.raises(StripRefused, match="a track of text or data"):
        stripped(SEEDS[name].replace(old, new))


@pytest.mark.parametrize("marker", [b"\xff\xde", b"\xff\xdf"])
def test_refuses_a_segment_of_hierarchical_jpeg_which_may_hold_any_text(marker: bytes) -> None:
    data = SEEDS["jpeg"]
    segment = marker + struct.pack(">H", 2 + len(SECRET)) + SECRET.encode()
    with pytest.raises(StripRefused, match="an unknown segment"):
        stripped(data[:2] + segment + data[2:])


def test_refuses_what_points_to_another_file() -> None:
    data = SEEDS["mov"]
    outside = data.replace(b"\0\0\0\x0curl \0\0\0\1", b"\0\0\0\x0curl \0\0\0\0")
    assert outside != data
    with pytest.raises(StripRefused, match="in another file"):
        stripped(outside)


@pytest.mark.parametrize("name", ["png", "webp", "jpeg", "gif", "m4a", "webm", "opus", "ogg_flac", "wav"])
def test_refuses_a_file_that_ends_early_and_leaves_nothing(name: str) -> None:
    data = stripped(SEEDS[name])
    with tempfile.TemporaryFile() as target:
        with pytest.raises(StripRefused, match="can't be removed"):
            strip(BytesSource(data[:-10]), target, "fox")
        assert target.seek(0, io.SEEK_END) == 0


def test_refuses_a_png_whose_checksum_is_wrong() -> None:
    data = bytearray(stripped(SEEDS["png"]))
    data[data.index(b"IDAT") + 8] ^= 1
    with pytest.raises(StripRefused, match="checksum"):
        stripped(bytes(data))


def test_an_error_of_the_source_passes_and_leaves_nothing() -> None:
    class FailingSource(BytesSource):
        def read_at(self, offset: int, length: int) -> bytes:
            if offset > 100_000:
                raise OSError("the disk is gone")
            return super().read_at(offset, length)

    chunk = writers.png_chunk(b"IDAT", bytes(90_000))
    data = SEEDS["palette_png"][:33] + chunk * 4
    with tempfile.TemporaryFile() as target:
        with pytest.raises(OSError, match="the disk is gone"):
            strip(FailingSource(data), target, "fox.png")
        assert target.seek(0, io.SEEK_END) == 0


HOSTILE = {
    "png chunks": SEEDS["png"][:33] + writers.png_chunk(b"tRNS", b"") * 100_000,
    "png length": SEEDS["png"][:33] + struct.pack(">I4s", 2**31, b"IDAT") + bytes(100),
    "webp chunks": b"RIFF" + struct.pack("<I", 1_200_004) + b"WEBP" + b"ANIM\0\0\0\0" * 150_000,
    "jpeg fill": SEEDS["jpeg"][:2] + b"\xff\xda\0\x02" + b"\xff" * 8_000_000,
    "jpeg scans": SEEDS["jpeg"][:2] + b"\xff\xda\0\2" * 500_000,
    "jpeg before the scan": SEEDS["jpeg"][:2] + b"\xff" * 2_000_000,
    "gif blocks": SEEDS["gif"][:13] + b"\x21\xfe" + b"\1a" * 1_000_000,
    "mp4 boxes": SEEDS["mp4"][:32] + struct.pack(">I4s", 1_600_008, b"moov") + b"\0\0\0\x08junk" * 200_000,
    "mp4 zero": SEEDS["mp4"][:32] + bytes(1_000_000),
    "mkv elements": SEEDS["mkv"][:40] + b"\xec\x80" * 1_000_000,
    "ogg pages": SEEDS["opus"][:47] * 20_000,
    "mp3 tags": b"ID3\4\0\0\0\0\0\0" * 100_000,
    "flac blocks": b"fLaC" + b"\1\0\0\0" * 500_000,
    "wav chunks": b"RIFF\xff\xff\xff\x7fWAVE" + b"fmt \0\0\0\0" * 150_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_and_costs_little(name: str) -> None:
    """A file may take 100,000 reads and one more for each 32 bytes; each read may take some calls of functions."""
    source = CountingSource(HOSTILE[name])

    def refuse() -> None:
        with tempfile.TemporaryFile() as target, pytest.raises(StripRefused):
            strip(source, target, "fox")

    assert count_calls(refuse) < 20 * (100_000 + source.size // 32)
    assert source.read_bytes < 1_000_000 + 2 * source.size


class CountingSource(BytesSource):
    read_bytes = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return super().read_at(offset, length)


def test_a_large_file_is_never_in_memory_as_a_whole() -> None:
    class Movie(BytesSource):
        """An MP4 whose pixels take 200 MB."""

        def __init__(self) -> None:
            super().__init__(SEEDS["faststart_mp4"])
            self.start = self.size + 8
            self.size += 200_000_000

        def read_at(self, offset: int, length: int) -> bytes:
            if offset >= self.start:
                return bytes(min(length, self.size - offset))
            head = SEEDS["faststart_mp4"] + struct.pack(">I4s", 200_000_000, b"mdat")
            return head[offset : offset + length].ljust(min(length, self.size - offset), b"\0")

    tracemalloc.start()
    try:
        with tempfile.TemporaryFile() as target:
            assert strip(Movie(), target, "fox.mp4") == "video/mp4"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


def stripped_or_refused(data: bytes) -> None:
    with tempfile.TemporaryFile() as target:
        try:
            strip(BytesSource(data), target, "fox")
        except StripRefused:
            assert target.seek(0, io.SEEK_END) == 0


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_file_is_stripped_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(list(SEEDS.values()))))
    head = data.draw(st.sampled_from([64, 1024, len(damaged)]))
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, min(head, len(damaged)) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 8, bytes(8)]))
        if data.draw(st.booleans()):
            damaged[position : position + len(piece)] = piece
        else:
            damaged[position:position] = piece
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    stripped_or_refused(bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(magic=st.sampled_from([seed[:48] for seed in SEEDS.values()]), rest=st.binary(max_size=600))
def test_random_bytes_behind_a_known_beginning_are_stripped_or_refused(magic: bytes, rest: bytes) -> None:
    stripped_or_refused(magic + rest)
