"""What the demonstration writes, the way ComfyUI and its plugins do, and what it remembers of it.

The SHA-256 of each version is noted here as it is written, so that the comparison at the end owes nothing to the
archive.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .media import comfy_image, film_head, film_size_patch, film_tail, picture, png

FILM_FRAMES = 56
FILM_WIDTH, FILM_HEIGHT = 320, 192
FILM_FRAME_SECONDS = 0.07  # about 4 s in all
SAMPLE_SECONDS = 10.0  # between two images while the demonstration stays open
MOST_SAMPLES = 360  # an hour of them: the disk is somebody's


@dataclass(frozen=True, slots=True)
class Written:
    """One version of one file, as it was written; the path is relative to the output directory."""

    path: str
    sha256: str
    size_bytes: int


class Outputs:
    """Writes into a directory until it is done or `ending` is set.

    Args:
        root: stands for ComfyUI's output directory.
        is_archived: whether the archive has this very version, for the file that is replaced after that.
        ending: to stop early.
    """

    def __init__(
        self, root: Path, *, is_archived: Callable[[Written], bool], ending: threading.Event
    ) -> None:
        self._root = root
        self._is_archived = is_archived
        self._ending = ending
        self._seeds = random.Random()  # noqa: S311 - pictures
        self._lock = threading.Lock()
        self._written: list[Written] = []
        self._samples = 0
        self.error: OSError | None = None
        self.done = threading.Event()

    @property
    def written(self) -> tuple[Written, ...]:
        """Every version that was written to its end."""
        with self._lock:
            return tuple(self._written)

    def run(self) -> None:
        """All that the demonstration shows; takes about six seconds."""
        try:
            film = threading.Thread(target=self._film, name="demo-film", daemon=True)
            film.start()
            self._image("ComfyUI_00001_.png")
            first = self._image("preview/ComfyUI_temp_00001_.png", 512)
            self._image("ComfyUI_00002_.png")
            self._image("portraits/2026/ComfyUI_00001_.png", 640)
            self._renamed("upscaled/ComfyUI_00001_.png")
            self._image("ComfyUI_00003_.png")
            # The same name again with other bytes, once the first ones are safe: both are kept.
            self._wait_for(lambda: self._is_archived(first))
            self._image(first.path, 512)
            film.join()
        except OSError as error:
            self.error = error
        finally:
            self.done.set()

    def sample(self) -> None:
        """One more image, while the demonstration stays open."""
        if self._samples < MOST_SAMPLES:
            self._samples += 1
            self._image(f"samples/ComfyUI_{self._samples:05}_.png", 512)

    # --- ways of writing

    def _image(self, path: str, pixels: int = 768) -> Written:
        """Written in one go, as SaveImage does."""
        body = self._body(pixels)
        target = self._target(path)
        target.write_bytes(body)
        self._ending.wait(0.3)
        return self._note(path, body)

    def _renamed(self, path: str) -> None:
        """Written under a temporary name, and renamed when it is whole."""
        body = self._body(768)
        target = self._target(path)
        part = target.with_name(target.name + ".part")
        with part.open("wb") as file:
            for start in range(0, len(body), len(body) // 4):
                file.write(body[start : start + len(body) // 4])
                self._ending.wait(0.1)
        part.replace(target)
        self._note(path, body)

    def _film(self) -> None:
        """Grows frame by frame; what a player needs comes last. Nobody may take it before that."""
        target = self._target("video/clip_00001.mp4")
        seed = self._seeds.randrange(1 << 32)
        sizes: list[int] = []
        try:
            with target.open("wb", buffering=0) as file:
                file.write(film_head())
                for number in range(FILM_FRAMES):
                    pixels = picture(FILM_WIDTH, FILM_HEIGHT, seed, number / 16)
                    frame = png(FILM_WIDTH, FILM_HEIGHT, pixels)
                    file.write(frame)
                    sizes.append(len(frame))
                    if self._ending.wait(FILM_FRAME_SECONDS):
                        break
                file.write(film_tail(sizes, FILM_WIDTH, FILM_HEIGHT))
                position, patch = film_size_patch(sizes)
                file.seek(position)
                file.write(patch)
            self._note("video/clip_00001.mp4", target.read_bytes())
        except OSError as error:
            self.error = error

    def _body(self, pixels: int) -> bytes:
        return comfy_image(self._seeds.randrange(1 << 48), pixels, pixels)

    def _target(self, path: str) -> Path:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _note(self, path: str, body: bytes) -> Written:
        found = Written(path, hashlib.sha256(body).hexdigest(), len(body))
        with self._lock:
            self._written.append(found)
        return found

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        while not condition() and not self._ending.wait(0.05):
            pass
