"""Count the contents that are lost when two machines write the same names at the same moment.

python -m tests.quirks.races [NAMES]
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloud_archive.config.settings import load_settings
from cloud_archive.files import FileVersion
from cloud_archive.store.s3 import S3Store
from cloud_archive.upload.uploader import Uploader
from tests.functional.archives import claim_of
from tests.journal import MemoryJournal
from tests.quirks.server import QuirkServer
from tests.quirks.whole_stores import S3rver, Swift
from tests.servers import S3Server, running_seaweedfs

MACHINES = 2
SIDE_BY_SIDE = 16  # names that are contested at the same time
PREFIX = "out"


def race(server: S3Server, environ: Mapping[str, str], work: Path, names: int) -> int:
    """Let two machines write different bytes under each of `names` names. Returns how many contents are lost.

    Args:
        environ: the settings for `server`, or for a dialect in front of it.
    """
    settings = load_settings({**environ, "S3_PREFIX": PREFIX})
    stores = [S3Store(settings) for _ in range(MACHINES)]
    uploaders = [
        Uploader(store, work / str(number), make_key=lambda path: f"{PREFIX}/{path}", session_id=str(number))
        for number, store in enumerate(stores)
    ]
    lanes = [threading.Barrier(MACHINES) for _ in range(SIDE_BY_SIDE)]

    def run(machine: int, lane: int) -> None:
        root = work / str(machine)
        root.mkdir(exist_ok=True)
        for number in range(lane, names, SIDE_BY_SIDE):
            path = root / f"{number}.png"
            path.write_bytes(content_of(number, machine))
            claim = claim_of(FileVersion.of_stat(path.name, path.stat()), f"{machine}-{number}")
            lanes[lane].wait(120)
            uploaders[machine].upload(claim, MemoryJournal(), lambda _sent: None)

    with ThreadPoolExecutor(MACHINES * SIDE_BY_SIDE) as pool:
        runs = [
            pool.submit(run, machine, lane) for lane in range(SIDE_BY_SIDE) for machine in range(MACHINES)
        ]
    for each in runs:
        each.result()
    for store in stores:
        store.close()
    there = set(server.objects(f"{PREFIX}/").values())
    return len(
        {content_of(number, machine) for number in range(names) for machine in range(MACHINES)} - there
    )


def content_of(number: int, machine: int) -> bytes:
    """Return the bytes that one machine writes under one name."""
    return f"{number} of machine {machine}".encode()


def main(names: int) -> int:
    """Print the losses on a store where only Complete is create-only, and on one without create-only writes."""
    with tempfile.TemporaryDirectory() as directory, running_seaweedfs(Path(directory) / "store") as started:
        for profile in (Swift(), S3rver()):
            work = Path(directory) / type(profile).__name__
            work.mkdir()
            server = started.with_fresh_bucket()
            with QuirkServer(server, profile) as quirks:
                lost = race(server, server.environ(S3_ENDPOINT_URL=quirks.url), work, names)
            print(f"{type(profile).__name__}: {lost} of {MACHINES * names} contents lost", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
