"""Folders that are symbolic links half of the time: nothing outside may be read, written or removed.

Each round archives some files through the route's own call, frees them and restores them elsewhere, while another
process swaps their folders for links to folders outside that hold files of the same names, sizes and times.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloud_archive.archive.engine import Engine
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import RequestRefused
from cloud_archive.intake.open_files import has_writer
from cloud_archive.keys import PrefixTemplate
from cloud_archive.maintenance.free import Limits, LocalCleaner
from cloud_archive.maintenance.restore import restore
from cloud_archive.scope import KeyScope
from cloud_archive.store.s3 import S3Store
from tests.fork_server import PIPE, popen
from tests.servers import S3Server

PREFIX = "out"
OLD_SECONDS = 2 * 86_400
NAMES = ("d0/a.png", "d0/b.png", "d1/deeper/c.png")
SWAPPED = ("d0", "d1")
SWAPPER = """
import json, os, random, select, sys, time
from contextlib import suppress
dice = random.Random(int(sys.argv[1]))

def settle(folder, parked):
    if os.path.islink(folder):
        os.unlink(folder)
    if os.path.lexists(parked) and not os.path.lexists(folder):
        with suppress(OSError):  # a restore made the folder anew in between
            os.rename(parked, folder)

orders = open(0, "rb", buffering=0)  # so that select() sees each line that was not read
for line in orders:
    places = [(folder, os.path.join(os.path.dirname(folder), ".parked-" + os.path.basename(folder)), decoy)
              for folder, decoy in json.loads(line)]
    flips = 0
    while not select.select([orders], [], [], dice.uniform(0, 0.001))[0]:
        folder, parked, decoy = dice.choice(places)
        with suppress(OSError):  # likewise
            os.rename(folder, parked)
            os.symlink(decoy, folder)
            flips += 1
            if flips == 1:
                print("swapping", flush=True)
            time.sleep(dice.uniform(0, 0.001))
        settle(folder, parked)
    orders.readline()
    for folder, parked, _ in places:
        settle(folder, parked)
    print(flips, flush=True)
"""


@dataclass(slots=True)
class Swaps:
    """The result; the first four must be 0."""

    uploaded_outside: int = 0
    deleted_outside: int = 0
    written_outside: int = 0
    not_archived: int = 0
    rounds: int = 0
    flips: int = 0
    uploads: int = 0
    refused: int = 0
    freed: int = 0
    restored: int = 0
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        """Whether nothing outside was touched, and each file arrived once its folder was no longer swapped."""
        return not (
            self.uploaded_outside or self.deleted_outside or self.written_outside or self.not_archived
        )

    def lines(self) -> list[str]:
        return [
            f"{self.rounds} rounds in {self.seconds:.0f} s, {self.flips} swaps: uploaded from outside"
            f" {self.uploaded_outside}, deleted outside {self.deleted_outside}, written outside"
            f" {self.written_outside}, not archived {self.not_archived}",
            f"uploads asked for {self.uploads}, of these refused {self.refused}; freed {self.freed},"
            f" restored {self.restored}",
        ]


class Swapper:
    """The process that swaps folders, on order."""

    def __init__(self, seed: int) -> None:
        self._process = popen(
            [sys.executable, "-c", SWAPPER, str(seed)], env=dict(os.environ), stdin=PIPE, stdout=PIPE
        )
        self.flips = 0

    @contextmanager
    def swapping(self, folders: Sequence[tuple[Path, Path]]) -> Iterator[None]:
        """Swap each folder for a link to its counterpart and back, again and again; at the end all are folders.

        The block begins after the first swap.
        """
        assert self._process.stdout is not None
        self._send(json.dumps([(str(folder), str(decoy)) for folder, decoy in folders]))
        assert self._process.stdout.readline() == "swapping\n"
        try:
            yield
        finally:
            self._send("stop")
            self.flips += int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


class _World:
    """The watched directory, the target of restores, and folders outside of both."""

    def __init__(self, server: S3Server, directory: Path, seed: int) -> None:
        self.server, self.dice = server, random.Random(seed)
        self.root, self.outside, self.target = (
            directory / name for name in ("output", "outside", "restored")
        )
        for folder in (self.root, self.outside, self.target):
            folder.mkdir(parents=True)
        state = directory / "state"
        environ = server.environ(S3_PREFIX=PREFIX, CLOUD_ARCHIVE_CATALOG="off")
        self.engine = Engine(self.root, state_base=state, environ=environ, machine_wide=False)
        self.engine.start(autostart=True)
        self._store = S3Store(load_settings(environ))
        self._cleaner = LocalCleaner(
            self.engine.archiver().ledger,
            self._store,
            self.root,
            Limits(older_than_seconds=OLD_SECONDS / 2),
            has_writer=has_writer,
            clock=time.time,
        )
        self.swapper = Swapper(seed)
        self.found = Swaps()

    def close(self) -> None:
        self._store.close()
        self.engine.close(10)
        self.swapper.close()

    def round(self, number: int) -> None:
        name = f"r{number}"
        here, there = self.root / name, self.outside / name
        folders = [(here / folder, there / folder) for folder in SWAPPED]
        for path in NAMES:
            body = self.dice.randbytes(self.dice.randrange(300, 20_000))
            _write(here / path, body)
            _write(there / path, self.dice.randbytes(len(body)))
        with self.swapper.swapping(folders):
            for path in NAMES:
                self._upload(f"{name}/{path}")
        self._finish_uploads(name)
        for path in NAMES:
            shutil.copy2(here / path, there / path)  # what could be deleted instead of the archived file
        with self.swapper.swapping(folders):
            self._cleaner.run_once()
        self.found.freed += sum(not (here / path).exists() for path in NAMES)
        self.found.deleted_outside += sum(not (there / path).exists() for path in NAMES)
        self._restore(name, there)
        for folder in (here, there):
            shutil.rmtree(folder)
        self.found.rounds += 1

    def _finish_uploads(self, name: str) -> None:
        for path in NAMES:
            self.found.not_archived += not self._upload(f"{name}/{path}")
        mine = {(self.root / name / path).read_bytes() for path in NAMES}
        came = self.server.objects(f"{PREFIX}/{name}/")
        self.found.uploaded_outside += sum(body not in mine for body in came.values())

    def _restore(self, name: str, there: Path) -> None:
        before = _contents(there)
        for folder in SWAPPED:
            (self.target / folder).mkdir()
        with self.swapper.swapping([(self.target / folder, there / folder) for folder in SWAPPED]):
            restore(self._store, self.target, scope=KeyScope(PrefixTemplate(f"{PREFIX}/{name}")))
        self.found.written_outside += _contents(there) != before
        self.found.restored += sum(path.is_file() for path in self.target.rglob("*.png"))
        for entry in self.target.iterdir():
            shutil.rmtree(entry)

    def _upload(self, path: str) -> bool:
        self.found.uploads += 1
        with contextlib.suppress(RequestRefused):
            if self.engine.upload(path, 60).http_status == 200:
                return True
        self.found.refused += 1
        return False


def swaps(
    rounds: int,
    seed: int,
    server: S3Server,
    directory: Path,
    progress: Callable[[str], None] = lambda line: None,
) -> Swaps:
    """Play `rounds` rounds and return the result."""
    world = _World(server, directory, seed)
    began = time.monotonic()
    try:
        for number in range(rounds):
            world.round(number)
            world.found.flips, world.found.seconds = world.swapper.flips, time.monotonic() - began
            if number % 100 == 99:
                progress(world.found.lines()[0])
    finally:
        world.close()
    return world.found


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    moment = time.time_ns() // 10**9 * 10**9 - OLD_SECONDS * 10**9
    os.utime(path, ns=(moment, moment))


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
