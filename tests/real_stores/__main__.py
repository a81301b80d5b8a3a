"""Run the archive on a real Ceph or Swift: python -m tests.real_stores ceph|swift|seaweedfs [--names 1000] [--install]

Ceph and Swift are Debian's packages; `--install` installs them with apt-get where they are missing (as root). They
listen on 127.0.0.1 only, keep their data in a temporary directory, and end with this program.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path

from tests.real_stores.ceph import running_ceph
from tests.real_stores.daemons import CannotRun
from tests.real_stores.scenario import Scenario, work_directory
from tests.real_stores.swift import running_swift
from tests.servers import S3Server, running_seaweedfs


@contextlib.contextmanager
def _seaweedfs(directory: Path, *, install: bool = False) -> Iterator[tuple[S3Server, str]]:
    with running_seaweedfs(directory) as server:
        yield server, "SeaweedFS"


STORES: dict[str, Callable[..., AbstractContextManager[tuple[S3Server, str]]]] = {
    "ceph": running_ceph,
    "swift": running_swift,
    "seaweedfs": _seaweedfs,
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of this program's arguments."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("store", choices=STORES)
    found.add_argument("--names", type=int, default=1000, help="contested names; default: 1000")
    found.add_argument("--install", action="store_true", help="install Debian's packages (as root)")
    return found


def main(store: str, names: int, *, install: bool) -> int:
    """Run the scenario on one store and print what it found; the exit status."""
    with work_directory() as directory:
        try:
            with STORES[store](directory / "store", install=install) as (server, version):
                print(f"{version}, {date.today().isoformat()}", flush=True)
                scenario = Scenario(server.with_fresh_bucket(), directory / "work")
                scenario.work.mkdir()
                scenario.run(names)
        except CannotRun as error:
            print(f"{store} can't run here: {error}", file=sys.stderr)
            return 2
    for failure in scenario.failures:
        print(f"Failed: {failure}", file=sys.stderr)
    return 1 if scenario.failures else 0


if __name__ == "__main__":
    chosen = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end with this program
    sys.exit(main(chosen.store, chosen.names, install=chosen.install))
