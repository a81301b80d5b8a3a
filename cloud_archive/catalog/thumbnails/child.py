"""The child process that decodes pictures, which anybody may have made. It imports nothing of this package.

A request on standard input is a JSON line `{"kind": "image|video", "length": N}`, then N bytes of the file. The answer
is a JSON line `{"length": N}`, then N bytes of WebP; N is 0 if the file gives no thumbnail. After a file that needs too
much memory, it ends without an answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import struct
import sys
from typing import Any

MAX_SIDE = 320
QUALITY = 75
MAX_PIXELS = 200_000_000
MEMORY_BYTES = 3 * 1024**3  # of address space: a video decoder's threads reserve much more than they use


def limit_memory() -> None:
    """Limit this process's memory, if the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # This process writes to its pipes only.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def make_thumbnail(kind: str, data: bytes) -> bytes:
    """Return a WebP of at most MAX_SIDE pixels a side. It may raise anything."""
    picture = _video_frame(data) if kind == "video" else _picture(data)
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    written = io.BytesIO()
    picture.save(written, "WEBP", quality=QUALITY)
    return written.getvalue()


def _picture(data: bytes) -> Any:
    from PIL import Image, ImageOps

    # Pillow raises above twice this number.
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
    picture: Any = Image.open(io.BytesIO(data))
    picture.draft("RGB", (MAX_SIDE, MAX_SIDE))
    if picture.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        picture = _to_8_bits(picture)
    with contextlib.suppress(SyntaxError, ValueError, TypeError, LookupError, struct.error):  # broken EXIF
        picture = ImageOps.exif_transpose(picture)
    has_alpha = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
    return picture.convert("RGBA" if has_alpha else "RGB")


def _to_8_bits(picture: Any) -> Any:
    low, high = picture.convert("F").getextrema()
    scale = 255.0 / (high - low) if high > low else 1.0
    return picture.convert("F").point(lambda value: value * scale - low * scale).convert("L")


def _video_frame(data: bytes) -> Any:
    import av

    with av.open(io.BytesIO(data), mode="r") as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            if frame.width * frame.height > MAX_PIXELS:
                break
            return frame.to_image()
    raise ValueError("no frame")


def main() -> None:
    """Answer requests until standard input ends."""
    # Import nothing from this file's folder, nor from the current directory, which may hold anything.
    sys.path[:] = [place for place in sys.path if place not in ("", sys.path[0])]
    limit_memory()
    wanted, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # so that no decoder writes into the answers
    while line := wanted.readline(1000):
        asked = json.loads(line)
        data = wanted.read(asked["length"])
        try:
            made = make_thumbnail(asked["kind"], data)
        except MemoryError:
            return
        except Exception:
            made = b""
        answers.write(json.dumps({"length": len(made)}).encode() + b"\n" + made)
        answers.flush()


if __name__ == "__main__":
    main()
