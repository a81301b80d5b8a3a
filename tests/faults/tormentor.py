"""Write files in all the ways that ComfyUI and its extensions do, and record the truth about them.

The order of actions is drawn from a seed; slow writers run beside them in threads of their own.
"""

from __future__ import annotations

import math
import os
import random
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.truth import Truth, sha256_of

SMALLEST_BYTES = 300
LARGEST_BYTES = 24 * 1024 * 1024
_SUFFIXES = (".png", ".png", ".png", ".mp4", ".webp", ".json", ".flac", ".bin")
OLDER = "older"  # a folder that no action touches
_FOLDERS = ("", "", "portraits", "video", "video/2026-11-21", "a b/ü")


def content(dice: random.Random, size_bytes: int, suffix: str) -> bytes:
    """Return bytes that a format check takes for a complete PNG or MP4; noise under every other suffix."""
    if suffix == ".png":
        noise = dice.randbytes(max(8, size_bytes - 57))
        header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
        chunks = [_chunk(b"IHDR", header), _chunk(b"IDAT", noise), _chunk(b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    if suffix == ".mp4":
        noise = dice.randbytes(max(8, size_bytes - 48))
        boxes = [(b"ftyp", b"isom\x00\x00\x02\x00isom"), (b"moov", b"\x00" * 12), (b"mdat", noise)]
        return b"".join(struct.pack(">I", len(data) + 8) + name + data for name, data in boxes)
    return b"noise " + dice.randbytes(size_bytes - 6)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def size(dice: random.Random, largest_bytes: int = LARGEST_BYTES) -> int:
    """Return a random size: mostly pictures, some clips, a few up to 24 MB; log-uniform in each class."""
    low, high = dice.choices(
        [(SMALLEST_BYTES, 200_000), (200_000, 3_000_000), (9_000_000, LARGEST_BYTES)], [72, 24, 4]
    )[0]
    high = min(high, largest_bytes)
    low = min(low, high)
    return int(math.exp(dice.uniform(math.log(low), math.log(high))))


class Tormentor:
    """Changes the files of one directory at random.

    Args:
        root: an existing directory, empty or with files that `truth` has.
        seed: of all random choices.
        largest_bytes: the size limit of a file.
        pause_seconds: the mean time between two actions.
        longest_write_seconds: the longest time that a slow writer keeps its file open.
        may_go_on: called before each action; False skips it.
    """

    def __init__(
        self,
        root: Path,
        *,
        seed: int,
        largest_bytes: int = LARGEST_BYTES,
        pause_seconds: float = 0.1,
        longest_write_seconds: float = 4.0,
        may_go_on: Callable[[], bool] = lambda: True,
    ) -> None:
        self.root = root
        self.truth = Truth()
        self.done: Counter[str] = Counter()
        self._dice = random.Random(seed)
        self._largest_bytes = largest_bytes
        self._pause_seconds = pause_seconds
        self._longest_write_seconds = longest_write_seconds
        self._may_go_on = may_go_on
        self._number = 0
        self._busy: set[str] = set()
        self._linked: set[str] = set()
        self._lock = threading.Lock()
        self._acting = threading.Lock()
        self._stopping = threading.Event()
        self._writers: list[threading.Thread] = []
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="tormentor", daemon=True)
        self._actions: dict[Callable[[], object], int] = {
            self.write: 30,
            self.write_slowly: 10,
            self.write_aside_and_rename: 12,
            self.write_then_append: 6,
            self.burst_in_a_new_folder: 3,
            self.video: 3,
            self.delete: 4,
            self.replace: 6,
            self.rewrite: 4,
            self.touch: 4,
            self.hard_link: 3,
            self.rename: 4,
            self.rename_folder: 1,
        }

    def start(self) -> None:
        """Start the actions in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End after the action under way, and wait for the slow writers.

        Raises:
            AssertionError: something failed in a thread, or the disk does not hold what the truth says.
        """
        self._stopping.set()
        self._thread.join(60)
        self.join()
        assert not self._failed, self._failed
        held = {
            path.relative_to(self.root).as_posix(): sha256_of(path.read_bytes())
            for path in self.root.rglob("*")
            if path.is_file() and path.parent.name != OLDER
        }
        assert held == self.truth.present

    def join(self) -> None:
        """Wait for the slow writers."""
        for writer in self._writers:
            writer.join(60)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let nothing be written while the block runs."""
        with self._acting:
            self.join()
            yield

    def step(self) -> None:
        """Do the next action of the seed."""
        action = self._dice.choices([*self._actions], [*self._actions.values()])[0]
        action()
        self.done[action.__name__] += 1

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._dice.expovariate(1 / self._pause_seconds)):
                with self._acting:
                    if self._may_go_on():
                        self.step()
        except BaseException as error:
            self._failed.append(error)

    # -- choices ------------------------------------------------------------------------------------------------

    def _name(self, folder: str | None = None, suffix: str | None = None) -> str:
        self._number += 1
        chosen = self._dice.choice(_FOLDERS) if folder is None else folder
        ending = self._dice.choice(_SUFFIXES) if suffix is None else suffix
        return f"{chosen}/ComfyUI_{self._number:05}_{ending}".lstrip("/")

    def _content(self, path: str) -> bytes:
        return content(self._dice, size(self._dice, self._largest_bytes), Path(path).suffix)

    def _existing(self, *, alone: bool = False) -> str | None:
        """Choose a file that no thread is writing; `alone`: one without a second hard link."""
        with self._lock:
            free = [
                path
                for path in sorted(self.truth.present)
                if path not in self._busy and not (alone and path in self._linked)
            ]
        return self._dice.choice(free) if free else None

    def _local(self, path: str) -> Path:
        local = self.root / path
        local.parent.mkdir(parents=True, exist_ok=True)
        return local

    def _beside(self, path: str, work: Callable[[], None]) -> None:
        """Run `work` in a thread; meanwhile no other action uses `path`."""

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self._failed.append(error)
            finally:
                with self._lock:
                    self._busy.discard(path)

        with self._lock:
            self._busy.add(path)
        writer = threading.Thread(target=run, name=f"writer {path}", daemon=True)
        self._writers = [old for old in self._writers if old.is_alive()] + [writer]
        writer.start()

    # -- actions ------------------------------------------------------------------------------------------------

    def write(self, path: str | None = None) -> str:
        """Write a file at once, as PIL does."""
        path = path or self._name()
        data = self._content(path)
        self.truth.will_hold(path, sha256_of(data))
        self._local(path).write_bytes(data)
        self.truth.holds(path, sha256_of(data))
        return path

    def write_slowly(self) -> None:
        """Write pieces with pauses into an open file, as ffmpeg does. Some pauses outlast the settling."""
        path = self._name()
        data, pieces = self._content(path), self._dice.randint(2, 6)
        pauses = [self._dice.random() ** 2 * self._longest_write_seconds / pieces for _ in range(pieces)]
        self._beside(path, lambda: self._write_pieces(path, data, pauses))

    def _write_pieces(self, path: str, data: bytes, pauses: list[float]) -> None:
        self.truth.will_hold(path, sha256_of(data))
        step = len(data) // len(pauses) + 1
        with self._local(path).open("wb", buffering=0) as stream:
            for number, pause in enumerate(pauses):
                stream.write(data[number * step : (number + 1) * step])
                time.sleep(pause)
        self.truth.holds(path, sha256_of(data))

    def write_aside_and_rename(self) -> None:
        """Write under a temporary name, then rename to the final one."""
        path = self._name()
        data = self._content(path)
        local = self._local(path)
        self.truth.will_hold(path, sha256_of(data))
        aside = local.with_name(f".{local.name}.part")
        aside.write_bytes(data)
        aside.rename(local)
        self.truth.holds(path, sha256_of(data))

    def write_then_append(self) -> None:
        """Write a complete file that grows once more, when it may be archived already."""
        path = self._name(suffix=".json")
        first, more = self._content(path), self._dice.randbytes(self._dice.randint(1, 50_000))
        pause = self._dice.uniform(0.1, 3)
        self.truth.will_hold(path, sha256_of(first))

        def work() -> None:
            local = self._local(path)
            local.write_bytes(first)
            self._stopping.wait(pause)
            self.truth.will_hold(path, sha256_of(first + more))
            with local.open("ab", buffering=0) as stream:
                stream.write(more)
            self.truth.holds(path, sha256_of(first + more))

        self._beside(path, work)

    def burst_in_a_new_folder(self) -> None:
        """Write files into a directory right after it was made."""
        folder = f"batch {self._number}/{self._dice.randrange(10**6)}"
        for _ in range(self._dice.randint(3, 12)):
            self.write(self._name(folder=folder))

    def video(self) -> None:
        """Write as Video Helper Suite does: a frame, a silent clip, one with audio; maybe delete the silent one."""
        stem = self._name(folder="video", suffix="")
        self.write(f"{stem}.png")
        silent = self.write(f"{stem}.mp4")
        self.write(f"{stem}-audio.mp4")
        if self._dice.random() < 0.5:
            self._remove(silent)

    def _remove(self, path: str) -> None:
        self.truth.gone(path)
        (self.root / path).unlink()

    def delete(self) -> None:
        """Delete a file, archived or not."""
        if path := self._existing():
            self._remove(path)

    def replace(self) -> None:
        """Rename another file over an existing one."""
        if path := self._existing():
            data = self._content(path)
            self.truth.will_hold(path, sha256_of(data))
            aside = (self.root / path).with_name(f".{self._number}.tmp")
            aside.write_bytes(data)
            aside.replace(self.root / path)
            self._linked.discard(path)
            self.truth.holds(path, sha256_of(data))

    def rewrite(self) -> None:
        """Truncate an existing file and write it anew."""
        if path := self._existing(alone=True):
            data = self._content(path)
            self.truth.will_hold(path, sha256_of(data))
            (self.root / path).write_bytes(data)
            self.truth.holds(path, sha256_of(data))

    def touch(self) -> None:
        """Change an mtime only: the same bytes must not become a second object."""
        if path := self._existing():
            offset = self._dice.choice([0.0, -3600.0, 3600.0])
            os.utime(self.root / path, (time.time() + offset, time.time() + offset))

    def hard_link(self) -> None:
        """Make a hard link, which the archive treats as a file of its own."""
        if old := self._existing():
            path = self._name(suffix=Path(old).suffix)
            sha = self.truth.present[old]
            self.truth.will_hold(path, sha)
            local = self._local(path)
            local.hardlink_to(self.root / old)
            self._linked |= {old, path}
            self.truth.holds(path, sha)

    def rename(self) -> None:
        """Rename a file."""
        if old := self._existing():
            self._move(old, self._name(suffix=Path(old).suffix))

    def _move(self, old: str, path: str) -> None:
        sha = self.truth.present[old]
        self.truth.will_hold(path, sha)
        self.truth.gone(old)
        (self.root / old).rename(self._local(path))
        self._carry_link(old, path)
        self.truth.holds(path, sha)

    def _carry_link(self, old: str, path: str) -> None:
        if old in self._linked:
            self._linked.add(path)
            self._linked.discard(old)

    def rename_folder(self) -> None:
        """Rename a directory with everything in it."""
        inside = sorted(path for path in self.truth.present if path.startswith("batch "))
        if not inside:
            return
        folder = self._dice.choice(inside).split("/")[0]
        with self._lock:
            if any(path.startswith(folder + "/") for path in self._busy):
                return
        self._number += 1
        target = f"batch moved {self._number}"
        moved = {p: target + p.removeprefix(folder) for p in inside if p.startswith(folder + "/")}
        must = self.truth.present
        for old, path in moved.items():
            self.truth.will_hold(path, must[old])
            self.truth.gone(old)
        (self.root / folder).rename(self.root / target)
        for old, path in moved.items():
            self._carry_link(old, path)
            self.truth.holds(path, must[old])
