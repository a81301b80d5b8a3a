"""A process whose children each make one attempt and die at a commit: `python -m tests.faults.mortal`.

A child is a fork of a process that has everything loaded, so that a SIGKILL costs 20 ms and not a start of Python. It
reads a line of JSON for each child, and answers with its process id at once and its exit status at the end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tests.fork_server import PIPE, popen

if TYPE_CHECKING:
    from tests.faults.world import Knowing


class Mortals:
    """The caller's side: orders one child at a time."""

    def __init__(self, environ: Mapping[str, str], known: str) -> None:
        self._process = popen(
            [sys.executable, "-m", "tests.faults.mortal", known],
            env=os.environ | environ,
            stdin=PIPE,
            stdout=PIPE,
        )
        self._one = threading.Lock()

    def __enter__(self) -> Mortals:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def attempt(
        self,
        base: Path,
        prefix: str,
        *,
        die: tuple[str, str] | None = None,
        knowing: Knowing = "all",
        workers: int = 2,
        rename: bool = True,
        meanwhile: Callable[[int], None] = lambda pid: None,
    ) -> int:
        """Make one attempt in a child. Returns its exit status, negative if a signal ended it.

        Args:
            die: the commit at which it dies, and `before` or `after`; None: it does not die.
            knowing: see `Stores.make`.
            workers, rename: see `World`.
            meanwhile: called with the child's process id while it works.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._one:
            world = {"base": str(base), "prefix": prefix, "workers": workers, "rename": rename}
            print(json.dumps(world | {"die": die, "knowing": knowing}), file=self._process.stdin, flush=True)
            pid = int(self._process.stdout.readline())
            meanwhile(pid)
            return int(self._process.stdout.readline())


def _child(wanted: dict[str, Any], stores: Any) -> None:
    from tests.faults.world import World

    die = wanted["die"]

    def trip(step: str, when: str) -> None:
        if [step, when] == die:
            os.kill(os.getpid(), signal.SIGKILL)

    store = stores.make(knowing=wanted["knowing"], prefix=wanted["prefix"])
    world = World(
        Path(wanted["base"]),
        wanted["prefix"],
        store,
        trip=trip,
        workers=wanted["workers"],
        rename=wanted["rename"],
    )
    world.attempt()
    world.tidy()
    world.close()


def main() -> None:
    from cloud_archive.store.base import Capabilities
    from tests.faults.world import Stores, small_parts

    stores = Stores(os.environ)
    stores.known = Capabilities.from_json(json.loads(sys.argv[1]))
    with small_parts():
        for line in sys.stdin:
            pid = os.fork()
            if pid == 0:
                try:
                    _child(json.loads(line), stores)
                except BaseException as error:
                    print(error, file=sys.stderr, flush=True)
                    os._exit(1)
                os._exit(0)
            print(pid, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
