"""A process like ComfyUI's: a thread that computes, an event loop, and the plugin's client with its engine.

python -m tests.benchmarks.comfyui_process ROOT STATE STAGED PHASE_SECONDS

STAGED holds one folder for each round; each is moved into ROOT after an idle phase, and measured while it is uploaded.
Prints one JSON line a round: {"idle": [turns a second, lag p99 in ms], "busy": [the same]}.
"""

from __future__ import annotations

import array
import asyncio
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloud_archive.comfyui.engine_client import EngineClient

LOOK_SECONDS = 0.01  # between two measurements of the event loop's lag


def small_operations() -> tuple[str, Callable[[], object]]:
    """Return a function that does many small operations, as a sampler does; with numpy if it is installed."""
    try:
        import numpy
    except ImportError:
        numbers = array.array("d", range(256))
        return "hashlib and array", lambda: (hashlib.sha256(numbers.tobytes()).digest(), numbers[::-1])
    matrix = numpy.random.default_rng(1).random((48, 48), dtype=numpy.float32)

    def turn() -> object:
        product = matrix @ matrix
        product += matrix
        return numpy.tanh(product).sum()

    return "numpy", turn


class Measured:
    """Counts the turns of the computing thread, and measures the event loop's lag."""

    def __init__(self, turn: Callable[[], object]) -> None:
        self._turn = turn
        self._turns = 0
        self._lags: list[float] = []
        threading.Thread(target=self._compute, daemon=True).start()

    def _compute(self) -> None:
        while True:
            self._turn()
            self._turns += 1

    async def during(self, seconds: float, until: Callable[[], bool] = lambda: False) -> list[float]:
        """Return [turns a second, the loop's lag in ms at the 99th percentile] of a phase."""
        begin, turns, lags = time.perf_counter(), self._turns, list[float]()
        while time.perf_counter() - begin < seconds and not until():
            asked = time.perf_counter()
            await asyncio.sleep(LOOK_SECONDS)
            lags.append(time.perf_counter() - asked - LOOK_SECONDS)
        rate = (self._turns - turns) / (time.perf_counter() - begin)
        return [rate, sorted(lags)[int(len(lags) * 0.99)] * 1000]


async def main(root: Path, state: Path, staged: list[Path], phase_seconds: float) -> None:
    """Run the rounds."""
    last: dict[str, Any] = {}
    told = asyncio.Event()

    def on_status(status: dict[str, Any]) -> None:
        last.update(status)
        told.set()

    client = EngineClient(root, state, on_status=on_status)
    client.start()

    async def reached(count: int) -> None:
        while last.get("uploaded_files", -1) < count or last.get("state") not in ("idle", "uploading"):
            told.clear()
            await told.wait()

    await reached(0)
    measured = Measured(small_operations()[1])
    done = 0
    for folder in staged:
        count = len(os.listdir(folder))  # noqa: PTH208 - nothing else wants the loop yet
        await asyncio.sleep(1.0)
        idle = await measured.during(phase_seconds)
        folder.rename(root / folder.name)
        await reached(done + 1)
        whole = done + count
        busy = await measured.during(phase_seconds, lambda whole=whole: last["uploaded_files"] >= whole)  # type: ignore[misc]
        done = whole
        await reached(done)
        print(json.dumps({"idle": idle, "busy": busy}), flush=True)
    await client.stop()


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:4]]
    asyncio.run(main(given[0], given[1], sorted(given[2].iterdir()), float(sys.argv[4])))
