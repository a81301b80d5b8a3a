"""Write sample outputs as ComfyUI and its plugins do, and record their checksums independently of the archive."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .media import encode_png, make_comfyui_image, render_picture, video_head, video_size_patch, video_tail

VIDEO_FRAMES = 56
VIDEO_WIDTH, VIDEO_HEIGHT = 320, 192
VIDEO_FRAME_SECONDS = 0.07  # about 4 s in all
SAMPLE_SECONDS = 10.0  # between two images while the demo stays open
MAX_SAMPLES = 360  # one hour, to spare the user's disk


@dataclass(frozen=True, slots=True)
class WrittenVersion:
    """A version of a file that was written; the path is relative to the output directory."""

    path: str
    sha256: str
    size_bytes: int


class Outputs:
    """Writes sample outputs.

    Args:
        root: the directory that plays ComfyUI's output directory.
        is_archived: returns whether exactly this version is archived. A file is not replaced before that.
        ending: set it to write the remaining files without pauses, and a shorter video.
    """

    def __init__(
        self, root: Path, *, is_archived: Callable[[WrittenVersion], bool], ending: threading.Event
    ) -> None:
        self._root = root
        self._is_archived = is_archived
        self._ending = ending
        self._seeds = random.Random()  # noqa: S311 - not for security
        self._lock = threading.Lock()
        self._written: list[WrittenVersion] = []
        self._samples = 0
        self.error: OSError | None = None
        self.done = threading.Event()

    @property
    def written(self) -> tuple[WrittenVersion, ...]:
        with self._lock:
            return tuple(self._written)

    def run(self) -> None:
        """Write everything, and set `done`, and `error` if it failed."""
        try:
            video = threading.Thread(target=self._write_video, name="demo-video", daemon=True)
            video.start()
            self._write_image("ComfyUI_00001_.png")
            first = self._write_image("preview/ComfyUI_temp_00001_.png", 512)
            self._write_image("ComfyUI_00002_.png")
            self._write_image("portraits/2026/ComfyUI_00001_.png", 640)
            self._write_and_rename("upscaled/ComfyUI_00001_.png")
            self._write_image("ComfyUI_00003_.png")
            # The same name with other bytes; the bucket keeps both, because the first version is archived.
            self._wait_for(lambda: self._is_archived(first))
            self._write_image(first.path, 512)
            video.join()
        except OSError as error:
            self.error = error
        finally:
            self.done.set()

    def sample(self) -> None:
        """Write one more image, `MAX_SAMPLES` at most."""
        if self._samples < MAX_SAMPLES:
            self._samples += 1
            self._write_image(f"samples/ComfyUI_{self._samples:05}_.png", 512)

    # --- ways of writing

    def _write_image(self, path: str, pixels: int = 768) -> WrittenVersion:
        """Write as SaveImage does."""
        body = self._make_image(pixels)
        target = self._make_folder_for(path)
        target.write_bytes(body)
        self._ending.wait(0.3)
        return self._record(path, body)

    def _write_and_rename(self, path: str) -> None:
        body = self._make_image(768)
        target = self._make_folder_for(path)
        part = target.with_name(target.name + ".part")
        with part.open("wb") as file:
            for start in range(0, len(body), len(body) // 4):
                file.write(body[start : start + len(body) // 4])
                self._ending.wait(0.1)
        part.replace(target)
        self._record(path, body)

    def _write_video(self) -> None:
        """Write a video frame by frame, with `moov` last, before which it must not be archived."""
        target = self._make_folder_for("video/clip_00001.mp4")
        seed = self._seeds.randrange(1 << 32)
        sizes: list[int] = []
        try:
            with target.open("wb", buffering=0) as file:
                file.write(video_head())
                for number in range(VIDEO_FRAMES):
                    pixels = render_picture(VIDEO_WIDTH, VIDEO_HEIGHT, seed, number / 16)
                    frame = encode_png(VIDEO_WIDTH, VIDEO_HEIGHT, pixels)
                    file.write(frame)
                    sizes.append(len(frame))
                    if self._ending.wait(VIDEO_FRAME_SECONDS):
                        break
                file.write(video_tail(sizes, VIDEO_WIDTH, VIDEO_HEIGHT))
                position, patch = video_size_patch(sizes)
                file.seek(position)
                file.write(patch)
            self._record("video/clip_00001.mp4", target.read_bytes())
        except OSError as error:
            self.error = error

    def _make_image(self, pixels: int) -> bytes:
        return make_comfyui_image(self._seeds.randrange(1 << 48), pixels, pixels)

    def _make_folder_for(self, path: str) -> Path:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _record(self, path: str, body: bytes) -> WrittenVersion:
        version = WrittenVersion(path, hashlib.sha256(body).hexdigest(), len(body))
        with self._lock:
            self._written.append(version)
        return version

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        while not condition() and not self._ending.wait(0.05):
            pass
