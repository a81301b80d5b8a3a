"""Fifty mixed files, and the objects that are in the bucket before them: the same task for each dialect.

| how many | what | must become |
| --- | --- | --- |
| 36 | small, new | the object of that name |
| 1 | 300 kB, new | the same, as a multipart upload of one part |
| 5 | small, the key taken by other bytes of another length | `name (1)` |
| 3 | small, the key taken by other bytes of the same length | `name (1)` |
| 1 | 5 MiB and a bit, the key taken by other bytes of the same length | `name (1)`, in two parts |
| 4 | small, the key taken by the same bytes | nothing more |

Multipart uploads begin at 100 kB here (`early_parts`): how a dialect answers them depends on no size.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloud_archive.upload import source as content
from tests.servers import S3Server

PREFIX = "out"
PROBE_KEY = f"{PREFIX}/.cloud-archive/check"
SINGLE_PUT_BYTES = 100_000
PART_BYTES = 5 * 1024 * 1024  # no part but the last may be smaller
ONE_PART_BYTES = 300_000
TWO_PARTS_BYTES = PART_BYTES + 70_000


@contextmanager
def early_parts() -> Iterator[None]:
    """Let multipart uploads begin at 100 kB, with parts of 5 MiB, the smallest part size of S3."""
    before = content.SINGLE_PUT_BYTES, content.MIN_PART_BYTES
    content.SINGLE_PUT_BYTES, content.MIN_PART_BYTES = SINGLE_PUT_BYTES, PART_BYTES
    try:
        yield
    finally:
        content.SINGLE_PUT_BYTES, content.MIN_PART_BYTES = before


@dataclass(frozen=True, slots=True)
class Batch:
    """The files and the earlier objects; names are relative, without the prefix.

    Attributes:
        files: written into the watched directory.
        existing: objects that another program wrote before.
    """

    files: dict[str, bytes]
    existing: dict[str, bytes]

    def expected(self, *, equal_again: bool = False) -> dict[str, bytes]:
        """Return key to bytes of everything that the bucket must hold afterwards.

        Args:
            equal_again: equal bytes arrive a second time under another name, because the archive may not read
                what is there.
        """
        found = {f"{PREFIX}/{name}": body for name, body in (self.files | self.existing).items()}
        for name, body in self.files.items():
            if name in self.existing and (equal_again or self.existing[name] != body):
                stem, dot, suffix = name.rpartition(".")
                found[f"{PREFIX}/{stem} (1){dot}{suffix}"] = body
        return found

    def write_objects(self, server: S3Server) -> None:
        """Put the earlier objects: not through the dialect, and without our metadata."""
        for name, body in self.existing.items():
            server.put(f"{PREFIX}/{name}", body)

    def write_files(self, root: Path) -> None:
        """Write the files as ComfyUI does, into new directories."""
        for name, body in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)


def make_batch(seed: int = 5) -> Batch:
    """Return the fifty files; equal seeds give equal files."""
    dice = random.Random(seed)
    files, existing = {}, {}
    for number in range(36):
        files[f"day {number % 4}/new_{number:05}_.png"] = dice.randbytes(1 + dice.randrange(20_000))
    files["films/new.mp4"] = dice.randbytes(ONE_PART_BYTES)
    for number in range(5):
        name = f"ComfyUI_{number:05}_.png"
        files[name], existing[name] = dice.randbytes(4000 + number), dice.randbytes(700)
    for number in range(3):
        name = f"same length {number}.webp"
        files[name], existing[name] = dice.randbytes(3000), dice.randbytes(3000)
    files["films/taken.mp4"], existing["films/taken.mp4"] = (
        dice.randbytes(TWO_PARTS_BYTES),
        dice.randbytes(TWO_PARTS_BYTES),
    )
    for number in range(4):
        name = f"equal/{number}.json"
        files[name] = existing[name] = dice.randbytes(2000 + number)
    assert len(files) == 50
    return Batch(files, existing)
