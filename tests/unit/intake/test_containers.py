"""What a container says about its end: complete files look complete, and no shorter beginning of one does."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cloud_archive.intake.containers import ContainerState, inspect_container


def _inspect(data: bytes, name: str = "a.bin") -> ContainerState:
    return inspect_container(io.BytesIO(data), name, len(data))


def _image(kind: str, size: int = 40, **options: object) -> bytes:
    image = Image.effect_noise((size, size), 80).convert("P" if kind == "GIF" else "RGB")
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _animated_gif() -> bytes:
    frames = [Image.effect_noise((30, 30), 50 + i).convert("P") for i in range(3)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], comment=b";;\x00;")
    return out.getvalue()


def _jpeg_with_thumbnail() -> bytes:
    thumbnail = _image("JPEG", 16)
    body = b"Exif\0\0" + thumbnail
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(body) + 2) + body + _image("JPEG")[2:]


def _box(kind: bytes, body: bytes = b"", *, wide: bool = False) -> bytes:
    if wide:
        return struct.pack(">I4sQ", 1, kind, len(body) + 16) + body
    return struct.pack(">I4s", len(body) + 8, kind) + body


FTYP = _box(b"ftyp", b"isom\0\0\2\0isomiso2")
MOOV = _box(b"moov", _box(b"mvhd", bytes(100)))
MDAT = _box(b"mdat", bytes(range(256)))
RIFF = b"RIFF" + struct.pack("<I", 4 + 8 + 64) + b"WAVE" + b"data" + struct.pack("<I", 64) + bytes(64)
EBML = b"\x1a\x45\xdf\xa3\x84webm"
SEGMENT = b"\x18\x53\x80\x67"
MATROSKA = EBML + SEGMENT + b"\x01" + (300).to_bytes(7, "big") + bytes(300)

WHOLE: dict[str, bytes] = {
    "png": _image("PNG"),
    "jpeg": _image("JPEG"),
    "progressive jpeg": _image("JPEG", progressive=True),
    "jpeg with a thumbnail": _jpeg_with_thumbnail(),
    "gif": _image("GIF"),
    "animated gif": _animated_gif(),
    "webp": _image("WEBP"),
    "wav": RIFF,
    "mp4": FTYP + _box(b"free") + MDAT + MOOV,
    "faststart mp4": FTYP + MOOV + MDAT,
    "large mp4": FTYP + _box(b"mdat", bytes(300), wide=True) + MOOV,
    "fragmented mp4 with its index": FTYP + MOOV + (_box(b"moof") + MDAT) * 3 + _box(b"mfra"),
    "avif": _image("AVIF"),
    "matroska": MATROSKA,
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_looks_whole(name: str) -> None:
    assert _inspect(WHOLE[name]) is ContainerState.COMPLETE


@pytest.mark.parametrize("name", WHOLE)
def test_no_beginning_of_a_whole_file_looks_whole(name: str) -> None:
    data = WHOLE[name]
    for length in range(len(data)):
        assert _inspect(data[:length]) is not ContainerState.COMPLETE, length


@pytest.mark.parametrize("name", WHOLE)
def test_the_first_half_of_a_whole_file_looks_incomplete(name: str) -> None:
    data = WHOLE[name]
    if name != "fragmented mp4 with its index":
        assert _inspect(data[: len(data) // 2]) is ContainerState.INCOMPLETE


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ContainerState.UNKNOWN),
        (b"\x89PN", ContainerState.UNKNOWN),
        (b"no container at all", ContainerState.UNKNOWN),
        (b"fLaC" + bytes(100), ContainerState.UNKNOWN),
        (b"ID3\x04" + bytes(100), ContainerState.UNKNOWN),
        # ffmpeg's placeholder while it writes; with the index first it may also be meant
        (FTYP + struct.pack(">I4s", 0, b"mdat") + bytes(99), ContainerState.INCOMPLETE),
        (FTYP + MOOV + struct.pack(">I4s", 0, b"mdat") + bytes(99), ContainerState.UNKNOWN),
        (FTYP + MDAT, ContainerState.INCOMPLETE),
        # each fragment's end looks like the end
        (FTYP + MOOV + _box(b"moof") + MDAT, ContainerState.UNKNOWN),
        (FTYP + MOOV + _box(b"moof") + MDAT[:-1], ContainerState.INCOMPLETE),
        (EBML + SEGMENT + b"\x01" + b"\xff" * 7 + bytes(300), ContainerState.UNKNOWN),
        (MATROSKA + b"more", ContainerState.UNKNOWN),
        (b"RIFF\xff\xff\xff\xffWAVE" + bytes(100), ContainerState.UNKNOWN),
        # the header of an audio file is filled in when it is closed
        (b"RIFF" + struct.pack("<I", 36) + RIFF[8:] + bytes(4000), ContainerState.INCOMPLETE),
        (b"RIFF" + struct.pack("<I", 75) + RIFF[8:-1], ContainerState.COMPLETE),
        (b"RIFF" + struct.pack("<I", 75) + RIFF[8:], ContainerState.COMPLETE),
        (WHOLE["gif"] + b"x", ContainerState.UNKNOWN),
    ],
)
def test_what_is_in_between_is_judged_with_care(data: bytes, expected: ContainerState) -> None:
    assert _inspect(data) is expected


def test_a_few_bytes_of_what_the_name_promises_look_incomplete() -> None:
    assert _inspect(b"\x89PN", "a.PNG") is ContainerState.INCOMPLETE
    assert _inspect(b"GIF", "a.gif") is ContainerState.INCOMPLETE
    assert _inspect(b"abc", "a.png") is ContainerState.UNKNOWN


def test_the_signature_decides_and_not_the_name() -> None:
    assert _inspect(WHOLE["jpeg"], "a.png") is ContainerState.COMPLETE
    assert _inspect(WHOLE["jpeg"][:-9], "a.png") is ContainerState.INCOMPLETE
    assert _inspect(b"plain text, longer than a signature", "a.png") is ContainerState.UNKNOWN


@pytest.mark.parametrize("flags", [0, 4])
def test_ogg_is_whole_only_with_its_end_flag_and_page(flags: int) -> None:
    page = b"OggS\0" + bytes([flags]) + bytes(20) + bytes([2, 255, 45]) + b"\x01" * 300
    data = b"OggS\0\x02" + bytes(20) + b"\x01\x05" + b"abcde" + page
    assert _inspect(data) is (ContainerState.COMPLETE if flags else ContainerState.UNKNOWN)
    assert _inspect(data[:-1]) is ContainerState.INCOMPLETE


class _Counting(io.BytesIO):
    reads = 0
    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reads += 1
        self.bytes_read += len(data)
        return data


def test_a_look_at_a_large_file_reads_little() -> None:
    png = _Counting(b"\x89PNG\r\n\x1a\n" + bytes(30_000_000))
    assert inspect_container(png, "a.png", 30_000_008) is ContainerState.INCOMPLETE
    assert png.bytes_read < 100
    gif = _Counting(b"GIF89a" + bytes(30_000_000) + b";")
    assert inspect_container(gif, "a.gif", 30_000_007) is ContainerState.UNKNOWN
    assert gif.bytes_read < 100
    boxes = FTYP + MOOV + (_box(b"moof") + _box(b"mdat")) * 100_000
    many = _Counting(boxes)
    assert inspect_container(many, "a.mp4", len(boxes)) is ContainerState.UNKNOWN
    assert many.reads < 5000


HEADS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF", b"\x1a\x45\xdf\xa3", b"OggS\0"]
HEADS += [FTYP, b"\0\0\0\x08ftyp", b"\0\0\0\x01ftyp", b"GIF8", EBML + SEGMENT]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(HEADS), st.binary(max_size=300), st.integers(-20, 20))
def test_no_bytes_make_it_raise(head: bytes, rest: bytes, wrong_by: int) -> None:
    data = head + rest
    assert inspect_container(io.BytesIO(data), "a.png", max(0, len(data) + wrong_by)) in ContainerState


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_a_whole_file_with_bytes_changed_does_not_make_it_raise(name: str, data: st.DataObject) -> None:
    changed = bytearray(WHOLE[name])
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, min(200, len(changed) - 1)))] = data.draw(st.integers(0, 255))
    assert _inspect(bytes(changed)) in ContainerState
