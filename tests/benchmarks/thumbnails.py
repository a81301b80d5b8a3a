"""Measure the thumbnails a second that the child process makes of pictures and videos as ComfyUI writes them.

`python -m tests.benchmarks thumbnails [FILES]`. The child's start and its first file are not counted.
"""

from __future__ import annotations

import io
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

from PIL import Image

from cloud_archive.catalog.thumbnails.maker import ThumbnailMaker

SIDE = 1024
FRAMES = 48


def main(files: int = 100) -> int:
    """Make `files` thumbnails of each kind of file, and print the figures. Returns the exit status."""
    print("| file | thumbnails a second | CPU each | size |", "|---|---|---|---|", sep="\n")
    makers: dict[str, tuple[str, Callable[[], bytes]]] = {
        f"PNG of {SIDE} x {SIDE}": ("image", lambda: picture("PNG")),
        f"JPEG of {SIDE} x {SIDE}": ("image", lambda: picture("JPEG")),
        f"WebP of {SIDE} x {SIDE}": ("image", lambda: picture("WEBP")),
        f"MP4 of 512 x 512, {FRAMES} frames": ("video", video),
    }
    for name, (kind, write) in makers.items():
        data = write()
        start_cpu, *_ = _make_thumbnails(kind, data, 1)
        cpu, took, sizes = _make_thumbnails(kind, data, files + 1)
        if not all(sizes):
            print(f"{name}: no thumbnail")
            return 1
        print(
            f"| {name}, {len(data) / 1e6:.1f} MB | {files / took:.0f} | {(cpu - start_cpu) / files * 1000:.0f} ms"
            f" | {statistics.mean(sizes) / 1000:.0f} kB |",
            flush=True,
        )
    return 0


def _make_thumbnails(kind: str, data: bytes, count: int) -> tuple[float, float, list[int]]:
    """Make `count` thumbnails in a new child; returns its CPU seconds, the seconds after the first, and the sizes."""
    before = _children_cpu()
    maker = ThumbnailMaker()
    sizes = [len(maker.make(kind, data) or b"")]
    began = time.perf_counter()
    sizes += [len(maker.make(kind, data) or b"") for _ in range(count - 1)]
    took = time.perf_counter() - began
    maker.close()
    return _children_cpu() - before, took, sizes


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def scene() -> Image.Image:
    """Return a picture with details of every size, as photographs and generated images have."""
    return Image.merge("RGB", [_band() for _ in range(3)])


def _band() -> Image.Image:
    band = Image.effect_noise((4, 4), 200).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    for side in (16, 64, 256, SIDE):
        finer = Image.effect_noise((side, side), 120).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        band = Image.blend(band, finer, 0.2)
    return band


def picture(form: str) -> bytes:
    """Return the scene as an image file of this format."""
    written = io.BytesIO()
    scene().save(written, form)
    return written.getvalue()


def video() -> bytes:
    """Return a video of the moving scene."""
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
