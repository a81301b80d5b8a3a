"""Many machines archive into one bucket and are killed; a new machine must find every object exactly once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from cloud_archive.api.client import running_engine
from cloud_archive.catalog.bucket.compaction import compact_month, delete_replaced, months_in
from cloud_archive.catalog.bucket.copy import BucketCatalog, opened_catalog
from cloud_archive.catalog.bucket.names import CatalogFolder, parse_name
from cloud_archive.catalog.bucket.segment import Decoded, decode
from cloud_archive.catalog.export import asset_rows
from cloud_archive.config.settings import Settings, load_settings
from cloud_archive.errors import CloudArchiveError
from cloud_archive.store.probe import probe_key
from cloud_archive.store.s3 import S3Store
from tests.fork_server import Forked, popen
from tests.servers import S3Server
from tests.unit.catalog.cataloguing import png

PACKAGE_ROOT = Path(__file__).parents[2]
PREFIX = "out"


@dataclass(slots=True)
class Figures:
    """The result of a run; `problems` has a line for each problem."""

    machines: int
    kills: int = 0
    objects: int = 0
    segments: int = 0
    rows: int = 0
    rows_again: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        return not self.problems

    def lines(self) -> list[str]:
        return [
            f"{self.machines} machines, {self.kills} kills, {self.objects} objects in {self.seconds:.0f} s;"
            f" {self.segments} segments with {self.rows} rows, {self.rows_again} of them written again after a kill:"
            f" {len(self.problems)} problems",
            *self.problems[:50],
        ]


class Machine:
    """One archiver with a directory and a state of its own."""

    def __init__(self, number: int, base: Path, server: S3Server) -> None:
        self.name = f"pod-{number}"
        self.root = base / f"root{number}"
        self.root.mkdir(parents=True)
        self._log = base / f"{self.name}.log"
        self._environ = (
            os.environ
            | server.environ(
                S3_PREFIX=PREFIX,
                CLOUD_ARCHIVE_MACHINE_NAME=self.name,
                CLOUD_ARCHIVE_SETTLE_SECONDS="0.1",
                CLOUD_ARCHIVE_STATE_DIR=str(base / f"state{number}"),
                CLOUD_ARCHIVE_BACKFILL="all",
            )
            | {"PYTHONPATH": str(PACKAGE_ROOT)}
        )
        self._process: Any = None
        self._ended = threading.Event()
        self._flushing = threading.Thread(target=self._flush, name=f"flush-{self.name}")
        self.prompts: dict[str, str] = {}

    def start(self, *more: str) -> None:
        with self._log.open("a") as log:
            arguments = [sys.executable, "-m", "cloud_archive", "watch", *more, str(self.root)]
            self._process = popen(arguments, env=self._environ, stdout=log, stderr=log)

    def flush_all_the_time(self) -> None:
        """Flush segments again and again until `finish`, so that kills hit their writing."""
        self._flushing.start()

    def _flush(self) -> None:
        while not self._ended.wait(0.05):
            with contextlib.suppress(CloudArchiveError, OSError):
                engine = running_engine(self.root, self._environ)
                if engine is not None:
                    engine.call("POST", "/cloud-sync/flush", {"timeout_seconds": 5})

    def write(self, dice: random.Random, count: int) -> None:
        for _ in range(count):
            number = len(self.prompts)
            name = f"{self.name}/fox_{number:05}_.png" if number % 3 else f"same_{number:05}_.png"
            prompt = f"fox {number} of {self.name} {dice.getrandbits(40):x}"
            body = png(prompt, number)
            path = self.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(body)
            self.prompts[sha256(body).hexdigest()] = prompt

    def kill(self) -> None:
        process: Forked = self._process
        process.send_signal(signal.SIGKILL)
        process.wait(60)

    def finish(self) -> str:
        """Run `watch --once`; return what went wrong, if anything."""
        self._ended.set()
        self._flushing.join(60)
        self.start("--once")
        status = self._process.wait(300)
        return "" if status == 0 else f"{self.name} ended with {status}: {self._log.read_text()[-500:]}"


def catalog_machines(
    machines: int,
    kills: int,
    files: int,
    seed: int,
    server: S3Server,
    directory: Path,
    *,
    round_seconds: float = 2.0,
) -> Figures:
    """Let `machines` archive, kill each after `files` new files, `kills` + 1 times, and check the bucket.

    Args:
        round_seconds: in which each machine is killed once.
    """
    dice = random.Random(seed)
    began = time.monotonic()
    all_machines = [Machine(number, directory, server) for number in range(machines)]
    figures = Figures(machines)
    for machine in all_machines:
        machine.start()
        machine.flush_all_the_time()
    for _ in range(kills):
        for machine in dice.sample(all_machines, machines):
            machine.write(dice, files)
            # Not a wait for anything: the pause draws the moment of the kill.
            time.sleep(dice.uniform(0.0, 2 * round_seconds) / machines)
            machine.kill()
            figures.kills += 1
            machine.start()
    for machine in all_machines:
        machine.write(dice, files)
        machine.kill()
        figures.kills += 1
    for machine in all_machines:
        figures.problems += filter(None, [machine.finish()])
    objects = server.objects(PREFIX)
    objects.pop(probe_key(PREFIX), None)  # a machine that was killed amid its probe leaves that object behind
    prompts = {digest: prompt for machine in all_machines for digest, prompt in machine.prompts.items()}
    names = {digest: machine.name for machine in all_machines for digest in machine.prompts}
    figures.objects = len(objects)
    settings = load_settings(server.environ(S3_PREFIX=PREFIX))
    figures.rows, figures.rows_again = written_rows(server)
    figures.problems += compare_assets(
        "a new machine", settings, directory / "new machine", objects, prompts, names
    )
    figures.segments = compact_by_two(settings)
    for delete in (False, True):
        if delete:
            compact_by_two(settings, delete=True)
        place = directory / f"after-{delete}"
        figures.problems += compare_assets("after compaction", settings, place, objects, prompts, names)
    figures.seconds = time.monotonic() - began
    return figures


def written_rows(server: S3Server) -> tuple[int, int]:
    """Return how many rows all segments have, and how many of them are repetitions."""
    folder = CatalogFolder.of(PREFIX)
    keys = [
        row["key"]
        for key, body in server.objects(folder.base).items()
        if parse_name(folder.name(key)) is not None
        for row in decode([body], Decoded(), size_bytes=len(body))
    ]
    return len(keys), len(keys) - len(set(keys))


def compare_assets(
    who: str,
    settings: Settings,
    place: Path,
    objects: dict[str, bytes],
    prompts: dict[str, str],
    names: dict[str, str],
) -> list[str]:
    """Return how the assets that a machine with an empty state finds differ from the objects."""
    store = S3Store(settings)
    try:
        with opened_catalog(place / "catalog.sqlite3", store, settings) as opened:
            problems = [f"{who}: {trouble}" for trouble in opened.make_sync().sync().troubles]
            found = _assets(opened)
    finally:
        store.close()
    keys = Counter(asset["key"] for asset in found)
    problems += [f"{who}: {key} is there {count} times" for key, count in keys.items() if count > 1]
    problems += [f"{who}: {key} has no row" for key in sorted(objects.keys() - keys.keys())]
    problems += [f"{who}: {key} has a row and no object" for key in sorted(keys.keys() - objects.keys())]
    for asset in found:
        body = objects.get(asset["key"])
        if body is None:
            continue
        digest = sha256(body).hexdigest()
        said = (asset["sha256"], asset["size"], asset["prompt"], asset["machine"])
        if said != (digest, len(body), prompts.get(digest), names.get(digest)):
            problems.append(f"{who}: {asset['key']} is described as {said}")
    return problems


def _assets(opened: BucketCatalog) -> list[dict[str, Any]]:
    return list(asset_rows(opened.database))


def compact_by_two(settings: Settings, *, delete: bool = False) -> int:
    """Compact in two threads at once, each with a store of its own; returns how many segments there were."""
    folder = CatalogFolder.of(settings.prefix)
    ready = threading.Barrier(2)
    errors: list[BaseException] = []
    counts: list[int] = []

    def one(name: str) -> None:
        store = S3Store(settings)
        try:
            listed = months_in(store, folder)
            counts.append(sum(map(len, listed.values())))
            ready.wait(60)
            for files in listed.values():
                for result in compact_month(store, folder, name, files, now=time.time()):
                    if delete:
                        delete_replaced(store, folder, result)
        except BaseException as error:
            errors.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=one, args=(name,), name=name) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    if errors:
        raise errors[0]
    return max(counts)
