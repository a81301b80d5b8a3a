"""Make images and a video for the demo, with the standard library only.

Dropping an image onto ComfyUI opens its workflow. The video is an MP4 with PNG frames.
"""

from __future__ import annotations

import json
import math
import random
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

_SUBJECTS = (
    "dunes at dusk, long shadows",
    "northern lights over a fjord",
    "silk in the wind, studio light",
    "a coral reef seen from above",
    "terraced fields in the morning fog",
)


def make_prompt(seed: int) -> dict[str, Any]:
    """Return a text-to-image graph in ComfyUI's API format; `["4", 0]` is a link to the first output of node 4."""
    numbers = {"seed": seed, "steps": 20, "cfg": 7.0}
    method = {"sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    nodes: list[tuple[str, dict[str, Any]]] = [
        ("KSampler", {**numbers, **method, **links}),
        ("CheckpointLoaderSimple", {"ckpt_name": "model.safetensors"}),
        ("EmptyLatentImage", {"width": 768, "height": 768, "batch_size": 1}),
        ("CLIPTextEncode", {"text": _SUBJECTS[seed % len(_SUBJECTS)], "clip": ["4", 1]}),
        ("CLIPTextEncode", {"text": "blurry, text, watermark", "clip": ["4", 1]}),
        ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        ("SaveImage", {"filename_prefix": "ComfyUI", "images": ["8", 0]}),
    ]
    return {str(number): {"class_type": kind, "inputs": what} for number, (kind, what) in enumerate(nodes, 3)}


# The names of each node class's outputs, which are also their types.
_OUTPUTS: Mapping[str, Sequence[str]] = {
    "CheckpointLoaderSimple": ("MODEL", "CLIP", "VAE"),
    "CLIPTextEncode": ("CONDITIONING",),
    "EmptyLatentImage": ("LATENT",),
    "KSampler": ("LATENT",),
    "VAEDecode": ("IMAGE",),
    "SaveImage": (),
}


def make_workflow(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """Return the graph of `make_prompt` as a workflow, the format that ComfyUI's frontend opens."""
    nodes: dict[int, dict[str, Any]] = {}
    links: list[list[Any]] = []
    for order, (number, node) in enumerate(prompt.items()):
        kind = node["class_type"]
        widgets = [value for value in node["inputs"].values() if not isinstance(value, list)]
        place = {"pos": [60 + 360 * (order % 3), 80 + 320 * (order // 3)], "size": [300, 200]}
        state = {"flags": {}, "order": order, "mode": 0, "properties": {"Node name for S&R": kind}}
        outputs = [{"name": name, "type": name, "links": []} for name in _OUTPUTS[kind]]
        slots = {"inputs": [], "outputs": outputs}
        if kind == "KSampler":
            widgets.insert(1, "randomize")  # the frontend's own widget after `seed`
        nodes[int(number)] = {
            "id": int(number),
            "type": kind,
            **place,
            **state,
            **slots,
            "widgets_values": widgets,
        }
    for number, node in prompt.items():
        target = nodes[int(number)]
        for name, value in node["inputs"].items():
            if isinstance(value, list):
                source, slot, link = nodes[int(value[0])], value[1], len(links) + 1
                kind = source["outputs"][slot]["type"]
                links.append([link, source["id"], slot, target["id"], len(target["inputs"]), kind])
                target["inputs"].append({"name": name, "type": kind, "link": link})
                source["outputs"][slot]["links"].append(link)
    last = {"last_node_id": max(nodes), "last_link_id": len(links), "version": 0.4}
    return {"nodes": list(nodes.values()), "links": links, "groups": [], "config": {}, "extra": {}, **last}


# --- images


def render_picture(width: int, height: int, seed: int, moment: float = 0.0) -> bytes:
    """Return an image as rows of RGB bytes: a wave per colour, chosen by `seed` and moved by `moment` (seconds)."""
    chance = random.Random(seed)  # noqa: S311 - not for security
    waves: list[tuple[bytes, int, float, float, float]] = []
    for _ in range(3):
        period = chance.randrange(width // 2, width)
        centre, swing = chance.randrange(90, 170), chance.randrange(50, 85)
        phase = chance.random() * math.tau
        line = bytes(
            int(centre + swing * math.sin(math.tau * x / period + phase)) for x in range(width + 2 * period)
        )
        waves.append((line, period, chance.uniform(-0.6, 0.6), chance.uniform(0.1, 0.5), chance.random() * 6))
    grain_mask = int.from_bytes(b"\x03" * (3 * width), "big")
    rows: list[bytes] = []
    for y in range(height):
        row = bytearray(3 * width)
        for channel, (line, period, slope, bend, phase) in enumerate(waves):
            shift = slope * y + bend * period * math.sin(y / height * 4 + phase + moment)
            start = int(shift + 40 * moment) % period
            row[channel::3] = line[start : start + width]
        # Noise, as samplers leave it; without it the file would be tiny.
        grain = int.from_bytes(chance.randbytes(3 * width), "big") & grain_mask
        rows.append((int.from_bytes(row, "big") ^ grain).to_bytes(3 * width, "big"))
    return b"".join(rows)


def encode_png(width: int, height: int, pixels: bytes, text: Mapping[str, str] | None = None) -> bytes:
    """Return a PNG file (https://www.w3.org/TR/png-3/) with `text` in tEXt chunks before the pixels, as Pillow does."""
    stride = 3 * width
    lines = b"".join(b"\0" + pixels[y * stride : (y + 1) * stride] for y in range(height))
    chunks = [_png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    for name, value in (text or {}).items():
        chunks.append(_png_chunk(b"tEXt", name.encode("latin-1") + b"\0" + value.encode("latin-1")))
    chunks += [_png_chunk(b"IDAT", zlib.compress(lines, 4)), _png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_comfyui_image(seed: int, width: int = 768, height: int = 768) -> bytes:
    """Return an image file as ComfyUI's SaveImage writes it."""
    prompt = make_prompt(seed)
    text = {"prompt": json.dumps(prompt), "workflow": json.dumps(make_workflow(prompt))}
    return encode_png(width, height, render_picture(width, height, seed), text)


# --- a video: the boxes of ISO 14496-12, and QuickTime's sample entry `png `

FRAMES_PER_SECOND = 16
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def video_head() -> bytes:
    """Return the bytes before the frames. Like ffmpeg, it leaves the size of `mdat` 0 until the end."""
    return _box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso2mp41") + struct.pack(">I", 0) + b"mdat"


def video_tail(sizes: Sequence[int], width: int, height: int) -> bytes:
    """Return `moov`, which players need and encoders write last.

    Args:
        sizes: the sizes of the frames in bytes, in order.
    """
    count, duration = len(sizes), len(sizes) * 1000 // FRAMES_PER_SECOND
    version_and_flags = struct.pack(">I", 0)
    offset = len(video_head())
    entry = _box(
        b"png ",
        bytes(6) + struct.pack(">H", 1) + bytes(16),
        struct.pack(">HHIIIH", width, height, 0x480000, 0x480000, 0, 1),
        bytes(32) + struct.pack(">Hh", 24, -1),
    )
    table = _box(
        b"stbl",
        _box(b"stsd", version_and_flags, struct.pack(">I", 1), entry),
        _box(b"stts", version_and_flags, struct.pack(">III", 1, count, 1)),
        _box(b"stsc", version_and_flags, struct.pack(">IIII", 1, 1, count, 1)),
        _box(b"stsz", version_and_flags, struct.pack(">II", 0, count), struct.pack(f">{count}I", *sizes)),
        _box(b"stco", version_and_flags, struct.pack(">II", 1, offset)),
    )
    reference = _box(b"dref", version_and_flags, struct.pack(">I", 1), _box(b"url ", struct.pack(">I", 1)))
    media = _box(
        b"mdia",
        _box(b"mdhd", version_and_flags, struct.pack(">IIIIHH", 0, 0, FRAMES_PER_SECOND, count, 0x55C4, 0)),
        _box(b"hdlr", version_and_flags, bytes(4), b"vide", bytes(12), b"VideoHandler\0"),
        _box(b"minf", _box(b"vmhd", struct.pack(">I", 1), bytes(8)), _box(b"dinf", reference), table),
    )
    header = struct.pack(">IIIII", 0, 0, 1, 0, duration) + bytes(16) + _MATRIX
    track = _box(
        b"trak",
        _box(b"tkhd", struct.pack(">I", 3), header, struct.pack(">II", width << 16, height << 16)),
        media,
    )
    movie = struct.pack(">IIIIIH", 0, 0, 1000, duration, 0x10000, 0x100) + bytes(10) + _MATRIX + bytes(24)
    return _box(b"moov", _box(b"mvhd", version_and_flags, movie, struct.pack(">I", 2)), track)


def video_size_patch(sizes: Sequence[int]) -> tuple[int, bytes]:
    """Return the position of `mdat`'s size, and the bytes to write there."""
    return len(video_head()) - 8, struct.pack(">I", 8 + sum(sizes))
