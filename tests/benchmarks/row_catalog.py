"""Measure what the catalog costs the archive: one image and a burst, with the catalog on and off, in turns."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.figures import Figure, Row, no_slower
from tests.benchmarks.stage import RunningEngine, engine, in_turn, seconds
from tests.servers import S3Server
from tests.unit.catalog import writers
from tests.unit.catalog.cataloguing import png

IMAGE_BYTES = 1_500_000
BURST_IMAGES = 100
ONE = "one 1.5 MB image with its graph, closed → confirmed, catalog on"
BURST = f"burst of {BURST_IMAGES} × 1.5 MB with their graphs, catalog on"
OFF = "the same, CLOUD_ARCHIVE_CATALOG=off"
_numbers = itertools.count()


def _image() -> bytes:
    """Return a PNG as ComfyUI writes it, as large as a real one: an ignored chunk before its end makes up the size.

    Bytes after the end would look like a file that is still being written.
    """
    number = next(_numbers)
    picture = png(f"a fox with the number {number}", number)
    filling = writers.png_chunk(b"raNd", os.urandom(IMAGE_BYTES - len(picture) - 12))
    return picture[:-12] + filling + picture[-12:]


def _until_read(running: RunningEngine, count: int) -> None:
    """Wait until the catalog is idle, so that its work falls into no other turn."""
    deadline = time.monotonic() + 600
    while running.call("GET", "assets?limit=1&q=seed:%3E%3D0")["total"] < count:
        assert time.monotonic() < deadline, "the catalog was not filled"
        time.sleep(0.2)


def _catalog(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    with ExitStack() as engines:
        archives: dict[str, RunningEngine] = {}
        for keeps in ("full", "off"):
            root = work / f"catalog-{keeps}"
            root.mkdir()
            archives[keeps] = engines.enter_context(
                engine(root, server.with_fresh_bucket(), CLOUD_ARCHIVE_CATALOG=keeps)
            )

        def turn(keeps: str, count: int) -> Callable[[], float]:
            running = archives[keeps]

            def measured() -> float:
                images = [_image() for _ in range(count)]
                folder = running.root / f"turn{next(_numbers)}"
                folder.mkdir()
                before = running.archived

                def archive() -> None:
                    for number, image in enumerate(images):
                        (folder / f"{number:03}.png").write_bytes(image)
                    running.until_archived(before + count, 0.001)

                took = seconds(archive)
                if keeps == "full":
                    _until_read(running, before + count)
                time.sleep(0.5)
                return took

            return measured

        turn("full", 1)(), turn("off", 1)()
        one_on, one_off = in_turn(max(4, rounds * 4), turn("full", 1), turn("off", 1))
        burst_on, burst_off = in_turn(rounds, turn("full", BURST_IMAGES), turn("off", BURST_IMAGES))
    return [no_slower(ONE, one_on, one_off, OFF, 1.05), no_slower(BURST, burst_on, burst_off, OFF, 1.05)]


ROWS: dict[str, Row] = {"catalog-on-off": Row((ONE, BURST), _catalog)}
