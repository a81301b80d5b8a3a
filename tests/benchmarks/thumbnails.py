"""Thumbnails a second: what the child process makes of pictures and videos as ComfyUI writes them.

`python -m tests.benchmarks thumbnails [FILES]`. The first file of each kind starts the child and is not counted.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from typing import Any

from PIL import Image

from cloud_archive.catalog.thumbnails.maker import ThumbnailMaker

SIDE = 1024
FRAMES = 48


def main(files: int = 100) -> int:
    """Make so many thumbnails of each kind of file, and print the figures. Returns the exit status."""
    makers: dict[str, tuple[str, Callable[[], bytes]]] = {
        f"PNG of {SIDE} x {SIDE}": ("image", lambda: picture("PNG")),
        f"JPEG of {SIDE} x {SIDE}": ("image", lambda: picture("JPEG")),
        f"WebP of {SIDE} x {SIDE}": ("image", lambda: picture("WEBP")),
        f"MP4 of 512 x 512, {FRAMES} frames": ("video", video),
    }
    maker = ThumbnailMaker()
    for name, (kind, write) in makers.items():
        data = write()
        sizes = [len(maker.make(kind, data) or b"")]
        began = time.perf_counter()
        sizes += [len(maker.make(kind, data) or b"") for _ in range(files)]
        took = time.perf_counter() - began
        if not all(sizes):
            print(f"{name}: no thumbnail")
            return 1
        print(
            f"{name}, {len(data) / 1e6:.2f} MB: {files / took:.0f} a second,"
            f" {statistics.mean(sizes) / 1000:.1f} kB each",
            flush=True,
        )
    maker.close()
    return 0


def scene() -> Image.Image:
    """A picture with detail of every size, as photographs and what samplers make of noise have it."""
    return Image.merge("RGB", [_band() for _ in range(3)])


def _band() -> Image.Image:
    band = Image.effect_noise((4, 4), 200).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    for side in (16, 64, 256, SIDE):
        finer = Image.effect_noise((side, side), 120).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        band = Image.blend(band, finer, 0.2)
    return band


def picture(form: str) -> bytes:
    """The scene in this format."""
    written = io.BytesIO()
    scene().save(written, form)
    return written.getvalue()


def video() -> bytes:
    """The scene, moving."""
    import av

    written = io.BytesIO()
    with av.open(written, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=16)
        stream.width, stream.height, stream.pix_fmt = 512, 512, "yuv420p"
        whole = scene()
        for number in range(FRAMES):
            make_frame: Any = av.VideoFrame.from_image
            moved = whole.crop((number, number, number + 512, number + 512))
            container.mux(stream.encode(make_frame(moved)))
        container.mux(stream.encode())
    return written.getvalue()
