"""Files written at test time by the libraries that ComfyUI and its node packs use, as those nodes call them."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import wave
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from PIL import Image, PngImagePlugin

PROMPT: dict[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 2**64 - 1,
            "steps": 20,
            "cfg": 7.5,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "fox_v1.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 48, "batch_size": 1}},
    "6": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "ein Fuchs im Schnee, 雪の中の狐", "clip": ["4", 1]},
    },
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "fox", "images": ["8", 0]}},
}
WORKFLOW: dict[str, Any] = {
    "version": 0.4,
    "nodes": [{"id": 6, "type": "CLIPTextEncode", "mode": 0, "inputs": [], "widgets_values": ["ein Fuchs"]}],
    "links": [],
    "extra": {},
}
PARAMETERS = (
    "a fox in snow <lora:winter:0.8>\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7.5, Seed: 42, Size: 64x48, Model: fox_v1"
)
SIZE = (64, 48)


def picture(color: str = "red") -> Image.Image:
    return Image.new("RGB", SIZE, color)


def saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def core_png() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(PROMPT))
    info.add_text("workflow", json.dumps(WORKFLOW))
    return saved(picture(), format="PNG", pnginfo=info)


def compressed_png() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(PROMPT), zip=True)
    info.add_itxt("workflow", json.dumps(WORKFLOW, ensure_ascii=False), zip=True)
    return saved(picture(), format="PNG", pnginfo=info)


def png_with_late_texts() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add(b"tEXt", b"prompt\0" + json.dumps(PROMPT).encode(), after_idat=True)
    info.add(b"tEXt", b"workflow\0" + json.dumps(WORKFLOW).encode(), after_idat=True)
    return saved(picture(), format="PNG", pnginfo=info)


def core_animated_png() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add(b"comf", b"prompt\0" + json.dumps(PROMPT).encode("latin-1"), after_idat=True)
    info.add(b"comf", b"workflow\0" + json.dumps(WORKFLOW).encode("latin-1"), after_idat=True)
    return saved(
        picture(),
        format="PNG",
        pnginfo=info,
        save_all=True,
        duration=100,
        append_images=[picture("blue"), picture("green")],
    )


def parameters_png() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", PARAMETERS)
    return saved(picture(), format="PNG", pnginfo=info)


def core_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{json.dumps(PROMPT)}"
    exif[0x010F] = f"workflow:{json.dumps(WORKFLOW)}"
    return exif


def core_animated_webp() -> bytes:
    return saved(
        picture(),
        format="WEBP",
        save_all=True,
        duration=100,
        append_images=[picture("blue"), picture("green")],
        exif=core_exif(),
    )


def still_webp() -> bytes:
    return saved(picture(), format="WEBP", exif=core_exif())


def lossless_webp() -> bytes:
    return saved(picture(), format="WEBP", exif=core_exif(), lossless=True)


def jpeg() -> bytes:
    return saved(picture(), format="JPEG", exif=core_exif())


def avif() -> bytes:
    return saved(picture(), format="AVIF", exif=core_exif())


def tiff() -> bytes:
    return saved(
        picture(), format="TIFF", tiffinfo={270: json.dumps({"prompt": PROMPT, "workflow": WORKFLOW})}
    )


def user_comment(text: str, order: str = "utf-16-be") -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode(order)
    return exif


def jpeg_with_user_comment() -> bytes:
    return saved(picture(), format="JPEG", exif=user_comment(PARAMETERS))


def webp_with_user_comment() -> bytes:
    return saved(picture(), format="WEBP", exif=user_comment(PARAMETERS, "utf-16-le"))


def xmp() -> bytes:
    text = json.dumps({"prompt": PROMPT, "workflow": WORKFLOW}).replace("&", "&amp;").replace("<", "&lt;")
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt><rdf:li xml:lang="x-default">'
        f"{text}</rdf:li></rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
        '<?xpacket end="w"?>'
    ).encode()


def jpeg_with_xmp() -> bytes:
    return saved(picture(), format="JPEG", xmp=xmp())


def webp_with_xmp() -> bytes:
    return saved(picture(), format="WEBP", xmp=xmp())


def gif() -> bytes:
    comment = json.dumps({"prompt": PROMPT, "workflow": WORKFLOW}).encode()
    return saved(
        picture(),
        format="GIF",
        save_all=True,
        duration=100,
        comment=comment,
        append_images=[picture("blue"), picture("green")],
    )


def metadata() -> dict[str, str]:
    return {"prompt": json.dumps(PROMPT), "workflow": json.dumps(WORKFLOW)}


def video(format_name: str, codec: str, tags: dict[str, str], options: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format=format_name, options=options or {}) as container:
        _write_video(container, codec, tags)
    return buffer.getvalue()


def _write_video(container: Any, codec: str, tags: dict[str, str]) -> None:
    container.metadata.update(tags)
    stream = container.add_stream(codec, rate=Fraction(10, 1))
    stream.width, stream.height, stream.pix_fmt = SIZE[0], SIZE[1], "yuv420p"
    for color in ("red", "green", "blue"):
        frame = av.VideoFrame(*SIZE, "rgb24")
        frame.planes[0].update(picture(color).resize((frame.planes[0].line_size // 3, SIZE[1])).tobytes())
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def core_mp4() -> bytes:
    return video("mp4", "mpeg4", metadata(), {"movflags": "use_metadata_tags"})


def faststart_mp4() -> bytes:
    """`moov` before the pixels; the writer reopens the file to move it, so this one needs a path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")
        with av.open(path, mode="w", options={"movflags": "use_metadata_tags+faststart"}) as container:
            _write_video(container, "mpeg4", metadata())
        return path.read_bytes()


def helper_suite_mp4() -> bytes:
    """Older Video Helper Suites write one `comment` with both graphs, each encoded as a string."""
    return video("mp4", "mpeg4", {"comment": json.dumps(metadata())})


def helper_suite_mov() -> bytes:
    return video("mov", "mpeg4", {"comment": json.dumps({"prompt": PROMPT, "workflow": WORKFLOW})})


def audio(format_name: str, codec: str, rate: int, tags: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format=format_name) as container:
        container.metadata.update(tags)
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        frame = av.AudioFrame(format="flt", layout="mono", samples=rate)
        frame.sample_rate, frame.pts = rate, 0
        frame.planes[0].update(bytes(rate * 4))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def ogg_vorbis() -> bytes:
    """After RFC 3533 and "Vorbis I": the head's page, the comments' pages, and a page that ends the stream."""

    def page(number: int, granule: int, lacing: bytes, body: bytes) -> bytes:
        head = struct.pack("<4sBBqIIIB", b"OggS", 0, 0, granule, 7, number, 0, len(lacing))
        return head + lacing + body

    head = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 1, 44100, 0, 0, 0, 0xB8, 1)
    entries = [f"{name.upper()}={text}".encode() for name, text in metadata().items()]
    comments = b"\x03vorbis" + struct.pack("<I4sI", 4, b"test", len(entries))
    comments += b"".join(struct.pack("<I", len(entry)) + entry for entry in entries) + b"\1"
    full, rest = divmod(len(comments), 255)
    pages = [page(0, 0, bytes([len(head)]), head)]
    split = 2 * 255
    pages.append(page(1, -1, b"\xff\xff", comments[:split]))
    pages.append(page(2, 0, b"\xff" * (full - 2) + bytes([rest]), comments[split:]))
    return b"".join([*pages, page(3, 44100, b"\1", b"\0")])


def mp3() -> bytes:
    return audio("mp3", "libmp3lame", 44100, metadata())


def wav_with_info() -> bytes:
    return audio("wav", "pcm_s16le", 44100, {"comment": json.dumps({"prompt": PROMPT, "workflow": WORKFLOW})})


def wav_with_id3() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(bytes(88200))
    tag = mp3()
    length = 10 + ((tag[6] << 21) | (tag[7] << 14) | (tag[8] << 7) | tag[9])
    body = buffer.getvalue() + b"id3 " + struct.pack("<I", length) + tag[:length] + bytes(length & 1)
    return body[:4] + struct.pack("<I", len(body) - 8) + body[8:]


def latent() -> bytes:
    header = {
        "latent_tensor": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "__metadata__": metadata(),
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(4)


def glb() -> bytes:
    asset = {"version": "2.0", "generator": "ComfyUI", "extras": metadata()}
    text = json.dumps({"asset": asset, "buffers": [{"byteLength": 4}]}).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", 4, b"BIN\0") + bytes(4)
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def exr() -> bytes:
    """After "OpenEXR File Layout": name, type, size and value of each attribute, then a zero."""

    def attribute(name: bytes, kind: bytes, value: bytes) -> bytes:
        return name + b"\0" + kind + b"\0" + struct.pack("<I", len(value)) + value

    window = struct.pack("<iiii", 0, 0, SIZE[0] - 1, SIZE[1] - 1)
    texts = b"".join(attribute(name.encode(), b"string", text.encode()) for name, text in metadata().items())
    return b"v/1\x01\x02\0\0\0" + attribute(b"dataWindow", b"box2i", window) + texts + b"\0" + bytes(64)


def svg() -> bytes:
    body = json.dumps({"prompt": PROMPT, "workflow": WORKFLOW}, indent=4)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE[0]}" height="{SIZE[1]}">\n'
        f"  <metadata><![CDATA[\n{body}\n    ]]></metadata>\n<rect/></svg>"
    ).encode()


def jxl() -> bytes:
    """After ISO/IEC 18181-2: a container with an Exif box before the codestream."""

    def box(kind: bytes, payload: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(payload), kind) + payload

    # small=1, height 48 = (5 + 1) * 8 (5 bits), ratio 3 = 4:3
    bits = 1 | 5 << 1 | 3 << 6
    stream = b"\xff\x0a" + bits.to_bytes(14, "little")
    exif = bytes(4) + core_exif().tobytes().removeprefix(b"Exif\0\0")
    return (
        b"\0\0\0\x0cJXL \r\n\x87\n"
        + box(b"ftyp", b"jxl \0\0\0\0jxl ")
        + box(b"Exif", exif)
        + box(b"jxlc", stream)
    )


GRAPH_WRITERS: dict[str, Callable[[], bytes]] = {
    writer.__name__: writer
    for writer in (
        core_png,
        compressed_png,
        png_with_late_texts,
        core_animated_png,
        core_animated_webp,
        still_webp,
        lossless_webp,
        jpeg,
        avif,
        tiff,
        jpeg_with_xmp,
        webp_with_xmp,
        gif,
        core_mp4,
        faststart_mp4,
        helper_suite_mp4,
        helper_suite_mov,
        ogg_vorbis,
        mp3,
        wav_with_info,
        wav_with_id3,
        latent,
        glb,
        exr,
        svg,
        jxl,
    )
} | {
    "fragmented_mp4": lambda: video(
        "mp4", "mpeg4", metadata(), {"movflags": "use_metadata_tags+frag_keyframe+empty_moov"}
    ),
    "mov": lambda: video("mov", "mpeg4", metadata(), {"movflags": "use_metadata_tags"}),
    "core_webm": lambda: video("webm", "libvpx-vp9", metadata()),
    "mkv": lambda: video("matroska", "mpeg4", metadata()),
    "flac": lambda: audio("flac", "flac", 44100, metadata()),
    "opus": lambda: audio("opus", "libopus", 48000, metadata()),
    "ogg_flac": lambda: audio("ogg", "flac", 44100, metadata()),
}
PARAMETER_WRITERS: dict[str, Callable[[], bytes]] = {
    writer.__name__: writer for writer in (parameters_png, jpeg_with_user_comment, webp_with_user_comment)
}


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
