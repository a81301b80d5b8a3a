"""Files of every format that can be stripped, with one text wherever writers put prompts, workflows and tags."""

from __future__ import annotations

import io
import json
import struct
import tempfile
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import av
from PIL import Image, ImageCms, PngImagePlugin

from tests.unit.catalog.writers import png_chunk, saved

SIZE = (48, 32)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(turn: int = 0) -> Image.Image:
    gradient = Image.linear_gradient("L").resize(SIZE)
    return Image.merge("RGB", (gradient, gradient.rotate(90 + turn), gradient.rotate(180 + turn)))


def frames() -> list[Image.Image]:
    return [picture(30), picture(60)]


def exif(text: str, orientation: int = 6) -> Image.Exif:
    block = Image.Exif()
    block[0x0110] = f"prompt:{text}"
    block[0x010F] = f"workflow:{text}"
    block[0x0112] = orientation
    block.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-be")
    return block


def xmp(text: str) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
        f'<rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></dc:description></rdf:Description></rdf:RDF>'
        "</x:xmpmeta>"
    ).encode()


def _png_info(text: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", text)
    info.add_text("workflow", text, zip=True)
    info.add_itxt("parameters", text, zip=True)
    info.add(b"comf", b"prompt\0" + text.encode(), after_idat=True)
    info.add(b"tEXt", b"workflow\0" + text.encode(), after_idat=True)
    return info


def png(text: str) -> bytes:
    options = {"pnginfo": _png_info(text), "exif": exif(text), "icc_profile": PROFILE, "dpi": (300, 300)}
    data = saved(picture(), format="PNG", **options)
    return data[:33] + png_chunk(b"prVt", text.encode()) + data[33:] + text.encode()


def palette_png(text: str) -> bytes:
    image = picture().quantize(16)
    return saved(image, format="PNG", pnginfo=_png_info(text), transparency=3)


def animated_png(text: str) -> bytes:
    info = _png_info(text)
    return saved(picture(), format="PNG", pnginfo=info, save_all=True, duration=100, append_images=frames())


def webp(text: str) -> bytes:
    options = {"exif": exif(text), "xmp": xmp(text), "icc_profile": PROFILE}
    return saved(picture(), format="WEBP", **options)


def lossless_webp(text: str) -> bytes:
    image = picture()
    image.putalpha(Image.radial_gradient("L").resize(SIZE))
    return saved(image, format="WEBP", exif=exif(text, 1), lossless=True)


def animated_webp(text: str) -> bytes:
    return saved(
        picture(),
        format="WEBP",
        save_all=True,
        duration=100,
        append_images=frames(),
        exif=exif(text),
        xmp=xmp(text),
    )


def jpeg(text: str) -> bytes:
    options = {"exif": exif(text), "xmp": xmp(text), "comment": text.encode(), "icc_profile": PROFILE}
    return saved(picture(), format="JPEG", **options) + text.encode()


def progressive_jpeg(text: str) -> bytes:
    image = picture().convert("CMYK")
    data = saved(image, format="JPEG", progressive=True, comment=text.encode(), exif=exif(text, 1))
    photoshop = b"Photoshop 3.0\0" + text.encode()
    return data[:2] + b"\xff\xed" + struct.pack(">H", len(photoshop) + 2) + photoshop + data[2:]


def gif(text: str) -> bytes:
    data = saved(
        picture(),
        format="GIF",
        save_all=True,
        duration=100,
        loop=3,
        comment=text.encode(),
        append_images=frames(),
    )
    packet = b"\x21\xff\x0bXMP DataXMP" + xmp(text) + b"\1" + bytes(range(255, -1, -1)) + b"\0"
    return data[:-1] + packet + b"\x3b" + text.encode()


def _video(
    suffix: str, codec: str, text: str, *, names: tuple[str, ...] = (), audio_codec: str = "", **options: str
) -> bytes:
    """A video with the text in its container's tags and in the tags of its tracks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"video.{suffix}")
        with av.open(path, mode="w", options=options) as container:
            container.metadata.update(
                dict.fromkeys(names or ("prompt", "workflow", "title", "comment"), text)
            )
            stream: Any = container.add_stream(codec, rate=Fraction(10, 1))
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            stream.metadata.update({"title": text, "handler_name": text})
            audio: Any = (
                container.add_stream(audio_codec, rate=48000, layout="stereo") if audio_codec else None
            )
            for image in (picture(), *frames()):
                container.mux(stream.encode(_frame(image)))
            container.mux(stream.encode(None))
            if audio:
                _encode_audio(container, audio, 48000)
        return path.read_bytes()


def _frame(image: Image.Image) -> Any:
    untyped: Any = av.VideoFrame
    return untyped.from_image(image)


@lru_cache
def _wave(rate: int) -> bytes:
    """A quarter of a second of stereo audio. A hundred samples hold the same one."""
    return b"".join(struct.pack("<ff", (i % 97) / 97 - 0.5, (i % 53) / 53 - 0.5) for i in range(rate // 4))


def _encode_audio(container: Any, stream: Any, rate: int) -> None:
    frame = av.AudioFrame(format="flt", layout="stereo", samples=rate // 4)
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    frame.planes[0].update(_wave(rate))
    resampler = av.AudioResampler(format=stream.format, layout="stereo", rate=rate)
    fifo = av.AudioFifo()
    block: Any
    for part in resampler.resample(frame):
        fifo.write(part)
    size = stream.codec_context.frame_size or 1024
    while (block := fifo.read(size)) or (block := fifo.read(0, partial=True)):
        container.mux(stream.encode(block))
    container.mux(stream.encode(None))


def mp4(text: str) -> bytes:
    data = _video("mp4", "mpeg4", text, audio_codec="aac", movflags="use_metadata_tags")
    data += struct.pack(">I4sQ", 1, b"uuid", 16 + len(text)) + text.encode()
    return data + struct.pack(">I4s", 0, b"udta") + text.encode()


def faststart_mp4(text: str) -> bytes:
    return _video("mp4", "libx264", text, movflags="use_metadata_tags+faststart")


def fragmented_mp4(text: str) -> bytes:
    return _video("mp4", "mpeg4", text, movflags="use_metadata_tags+frag_keyframe+empty_moov")


def flac_mp4(text: str) -> bytes:
    """iTunes' tags, and FLAC audio with a comment among its head's blocks."""
    data = _video("mp4", "mpeg4", text, audio_codec="flac")
    return data + struct.pack(">I4s", 8 + len(text), b"uuid") + text.encode()


def mov(text: str) -> bytes:
    return _video("mov", "mpeg4", text, names=("comment", "title"), audio_codec="pcm_s16le")


def m4a(text: str) -> bytes:
    return audio_file("m4a", "aac", text)


def webm(text: str) -> bytes:
    return _video("webm", "libvpx", text, audio_codec="libopus")


def mkv(text: str) -> bytes:
    return _video("mkv", "mpeg4", text, audio_codec="flac")


def live_mkv(text: str) -> bytes:
    """Segment and clusters without a size, as programs write them that can't go back."""
    return _video("mkv", "ffv1", text, live="1")


def audio_file(suffix: str, codec: str, text: str, rate: int = 48000, **options: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"audio.{suffix}")
        with av.open(path, mode="w", options=options) as container:
            container.metadata.update(dict.fromkeys(("prompt", "workflow", "title", "comment"), text))
            stream: Any = container.add_stream(
                codec, rate=rate, layout="stereo", options={"strict": "experimental"}
            )
            stream.metadata.update({"prompt": text, "workflow": text})
            _encode_audio(container, stream, rate)
        return path.read_bytes()


def _ape(text: str) -> bytes:
    item = struct.pack("<II", len(text), 0) + b"prompt\0" + text.encode()
    sizes = struct.pack("<III", 2000, len(item) + 32, 1)
    return (
        b"APETAGEX"
        + sizes
        + struct.pack("<I8x", 0xA0000000)
        + item
        + b"APETAGEX"
        + sizes
        + struct.pack("<I8x", 0x80000000)
    )


def _id3v1(text: str) -> bytes:
    return b"TAG" + text.encode()[:30].ljust(125, b"\0")


def mp3(text: str) -> bytes:
    lyrics = b"LYRICSBEGININD0000211" + text.encode()
    lyrics += f"{len(lyrics):06}LYRICS200".encode()
    return audio_file("mp3", "libmp3lame", text) + _ape(text) + lyrics + _id3v1(text)


def plain_mp3(text: str) -> bytes:
    return audio_file("mp3", "libmp3lame", text, rate=22050, id3v2_version="3", write_xing="0") + _id3v1(text)


def flac(text: str) -> bytes:
    return audio_file("flac", "flac", text) + _ape(text) + _id3v1(text)


def flac_behind_id3(text: str) -> bytes:
    tag = audio_file("mp3", "libmp3lame", text)
    length = 10 + ((tag[6] << 21) | (tag[7] << 14) | (tag[8] << 7) | tag[9])
    return tag[:length] + audio_file("flac", "flac", text)


def opus(text: str) -> bytes:
    return audio_file("opus", "libopus", text)


def ogg_vorbis(text: str) -> bytes:
    return audio_file("ogg", "vorbis", text)


def ogg_flac(text: str) -> bytes:
    return audio_file("ogg", "flac", text)


def mka_vorbis(text: str) -> bytes:
    return audio_file("mka", "vorbis", text)


def wav(text: str) -> bytes:
    data = audio_file("wav", "pcm_s16le", text)
    body = text.encode().ljust(602 + len(text) % 2, b"\0")
    extra = b"bext" + struct.pack("<I", len(body)) + body + bytes(len(body) & 1)
    return data[:4] + struct.pack("<I", len(data) - 8 + len(extra)) + data[8:] + extra


SAMPLES: dict[str, Callable[[str], bytes]] = {
    maker.__name__: maker
    for maker in (
        png,
        palette_png,
        animated_png,
        webp,
        lossless_webp,
        animated_webp,
        jpeg,
        progressive_jpeg,
        gif,
        mp4,
        faststart_mp4,
        fragmented_mp4,
        flac_mp4,
        mov,
        m4a,
        webm,
        mkv,
        live_mkv,
        mka_vorbis,
        mp3,
        plain_mp3,
        flac,
        flac_behind_id3,
        opus,
        ogg_vorbis,
        ogg_flac,
        wav,
    )
}
PICTURES = list(SAMPLES)[:9]


def as_json(text: str) -> str:
    """A small graph in API format that holds the text."""
    return json.dumps({"6": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["4", 1]}}})


def media(data: bytes) -> tuple[list[Any], list[Any]]:
    """Return the packets of every track, and the decoded frames."""
    packets: list[Any] = []
    decoded: list[Any] = []
    with av.open(io.BytesIO(data)) as container:
        for packet in container.demux():
            packets.append((packet.stream.index, packet.pts, packet.dts, bytes(packet)))
            for frame in cast("list[Any]", packet.decode()):
                if hasattr(frame, "to_image"):
                    decoded.append((frame.pts, frame.to_image().tobytes()))
                else:
                    planes = [bytes(plane) for plane in frame.planes]
                    decoded.append((frame.pts, frame.samples, planes))
    return packets, decoded


def pixels(data: bytes) -> list[Any]:
    """Return the decoded frames of a picture with their timing, and its colour profile and orientation."""
    with Image.open(io.BytesIO(data)) as image:
        found: list[Any] = [image.info.get(name) for name in ("icc_profile", "loop", "transparency")]
        found.append(image.getexif().get(0x0112, 1))
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            found.append(
                (image.mode, image.size, image.info.get("duration"), image.convert("RGBA").tobytes())
            )
    return found
