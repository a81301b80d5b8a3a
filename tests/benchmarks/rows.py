"""The rows of the table. Each takes a store and a directory, and gives figures."""

from __future__ import annotations

import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.stage import (
    MEGABYTE,
    Figure,
    RunningEngine,
    bare_pool,
    engine,
    in_turn,
    rclone,
    s5cmd,
    seconds,
    write_files,
)
from tests.plugin_loading import load_plugins, make_plugins
from tests.servers import S3Server

Row = Callable[[S3Server, Path, int], list[Figure]]
IMAGE_BYTES = 1_500_000
_numbers = itertools.count()


def _png(size_bytes: int) -> bytes:
    """Bytes that look like a whole PNG of this size."""
    head, tail = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB\x60\x82"
    return head + os.urandom(size_bytes - len(head) - len(tail)) + tail


def _uploaded(running: RunningEngine, count: int, write: Callable[[], None]) -> float:
    """Seconds from the end of `write` until `count` more files are confirmed, as the engine pushes it."""
    before = int(running.call("GET", "status")["uploaded_files"])
    done = threading.Event()

    def listen() -> None:
        for status in running.events():
            if status["uploaded_files"] >= before + count:
                done.set()
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    write()
    begin = time.perf_counter()
    assert done.wait(300)
    return time.perf_counter() - begin


def _in_bucket(server: S3Server, key: str) -> float:
    """Seconds until the object is there, looked for every 5 ms."""
    begin = time.perf_counter()
    while True:
        found = server.client.list_objects_v2(Bucket=server.bucket, Prefix=key, MaxKeys=1)
        if found.get("KeyCount"):
            return time.perf_counter() - begin
        time.sleep(0.005)


def one_image(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    """Last byte closed to confirmed, against the usual size poll of 0.5 s × 3."""
    root = work / "one"
    root.mkdir()
    with engine(root, server) as running:
        (root / "warm.png").write_bytes(_png(IMAGE_BYTES))
        running.call("POST", "flush", {"timeout_seconds": 30})

        def ours() -> float:
            name = f"image{next(_numbers)}.png"
            (root / name).write_bytes(_png(IMAGE_BYTES))
            return _in_bucket(server, f"ours/{name}")

        found = [ours() for _ in range(max(5, rounds))]
    path = root / "peer.png"
    path.write_bytes(_png(IMAGE_BYTES))

    def poll() -> None:
        sizes: list[int] = []
        while len(sizes) < 3 or len(set(sizes[-3:])) > 1:
            sizes.append(path.stat().st_size)
            time.sleep(0.5)
        server.put("peer/one.png", path.read_bytes())

    return [
        Figure("one 1.5 MB image", statistics.median(found), seconds(poll), "size poll 0.5 s × 3", "≤ 0.3 s")
    ]


def burst(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    """100 images written at once, against a bare boto3 pool over the same files."""
    root = work / "burst"
    root.mkdir()
    images = [_png(IMAGE_BYTES) for _ in range(100)]
    with engine(root, server) as running:

        def ours() -> float:
            folder = f"b{next(_numbers)}"
            (root / folder).mkdir()

            def write() -> None:
                for number, image in enumerate(images):
                    (root / folder / f"{number:03}.png").write_bytes(image)

            begin = time.perf_counter()
            _uploaded(running, 100, write)
            return time.perf_counter() - begin

        def peer() -> float:
            folder = work / f"p{next(_numbers)}"
            folder.mkdir()
            begin = time.perf_counter()
            for number, image in enumerate(images):
                (folder / f"{number:03}.png").write_bytes(image)
            bare_pool(server, sorted(folder.iterdir()), f"peer/{folder.name}")
            return time.perf_counter() - begin

        mine, theirs = in_turn(rounds, ours, peer)
    return [Figure("burst of 100 × 1.5 MB", mine, theirs, "bare boto3, 8 threads", "≤ 3 s, ≤ peer + 0.5 s")]


def _backlog(
    name: str,
    count: int,
    size_bytes: int,
    goal: str,
    peer: Callable[[S3Server, Path, str], float],
    peer_name: str,
) -> Row:
    def row(server: S3Server, work: Path, rounds: int) -> list[Figure]:
        root = work / "backlog"
        write_files(root, count, size_bytes)
        memory: list[int] = []

        def ours() -> float:
            fresh = server.with_fresh_bucket()
            with engine(
                root, fresh, CLOUD_ARCHIVE_BACKFILL="all", CLOUD_ARCHIVE_AUTOSTART="false"
            ) as running:
                begin = time.perf_counter()
                running.call("POST", "start")
                while running.call("GET", "status")["uploaded_files"] < count:
                    memory.append(running.memory.memory_info().rss)
                    time.sleep(0.05)
                return time.perf_counter() - begin

        mine, theirs = in_turn(rounds, ours, lambda: peer(server.with_fresh_bucket(), root, "peer"))
        return [
            Figure(name, mine, theirs, peer_name, goal),
            Figure(f"  memory meanwhile ({name})", max(memory) / MEGABYTE, 150, "150 MB", "≤ 1.0", "MB"),
        ]

    return row


def idle(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    """An engine with nothing to do."""
    root = work / "idle"
    root.mkdir()
    with engine(root, server) as running:
        (root / "a.png").write_bytes(_png(1000))
        running.call("POST", "flush", {"timeout_seconds": 30})
        process = running.memory
        before, begin = process.cpu_times(), time.perf_counter()
        time.sleep(10)
        after, span = process.cpu_times(), time.perf_counter() - begin
        used = (after.user + after.system - before.user - before.system) / span * 100
        return [
            Figure("idle engine: memory", process.memory_info().rss / MEGABYTE, 90, "90 MB", "≤ 1.0", "MB"),
            Figure("idle engine: CPU", used, 0.1, "0.1 %", "≤ 1.0", "%"),
        ]


def plugin(server: S3Server, work: Path, rounds: int) -> list[Figure]:
    """The plugin's import as ComfyUI times it, against a plugin that does nothing."""
    folders = make_plugins(work)
    load_plugins(folders)  # compiles
    found = [load_plugins(folders) for _ in range(max(5, rounds))]
    ours, base = (
        statistics.median(one[name] * 1000 for one in found) for name in ("seconds", "base_seconds")
    )
    return [Figure("the plugin's import", ours, base, "a plugin that does nothing", "+ ≤ 30 ms", "ms")]


ROWS: dict[str, Row] = {
    "one": one_image,
    "burst": burst,
    "images": _backlog("backlog of 400 × 1.5 MB", 400, IMAGE_BYTES, "≤ 1.05", s5cmd, "s5cmd, 16 workers"),
    "small": _backlog("backlog of 3,000 × 20 KB", 3000, 20_000, "≤ 1.0", rclone, "rclone copy, 8 transfers"),
    "large": _backlog("one file of 1 GB", 1, 1_000_000_000, "≤ 1.05", s5cmd, "s5cmd, 16 workers"),
    "idle": idle,
    "plugin": plugin,
}
