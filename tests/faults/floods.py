"""A daemon that may open 1,024 descriptors, while thousands of connections to it never finish a request.

Each round opens connections that send nothing, half a head, half a body, or that read no answer, to the public and to
the private port. The last 2,000 of them stay open. Meanwhile one file is written and the status is asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.api.client import LocalEngine, running_engine
from cloud_archive.api.connections import ConnectionLimits
from cloud_archive.demo.seaweedfs import free_ports
from cloud_archive.errors import EngineUnavailable
from tests.servers import S3Server, wait_until

DESCRIPTORS = 1024
HELD = 2000
EACH_ROUND = 200
ANSWER_SECONDS = 1.0
RETRY_SECONDS = 0.05
PREFIX = "out"
HEAD = b"GET /cloud-sync/status HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BODY = (
    b"POST /cloud-sync/start HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: 60000\r\n\r\n{"
)
# The command with another limit for a request's head, in seconds (its first argument).
_WITH_LIMIT = """
import sys
from dataclasses import replace
from cloud_archive.api.connections import ConnectionLimits
limits, seconds = ConnectionLimits.for_this_process(), float(sys.argv.pop(1))
ConnectionLimits.for_this_process = lambda: replace(limits, head_seconds=seconds)
from cloud_archive.cli.app import main
sys.exit(main(sys.argv[1:]))
"""
KINDS = (b"", b"GET", HEAD, BODY, HEAD + b"\r\n", (HEAD + b"\r\n") * 20)


@dataclass(slots=True)
class Floods:
    """The result of a run.

    Attributes:
        refused: calls that were answered with 503 and made again, since a third of the connections ask for the status.
        slow: answers that took longer than `ANSWER_SECONDS` with all refusals before them, as some do on a busy
            machine.
        differing: keys that are missing, unexpected, or hold other bytes.
        log_bytes: size of the daemon's log.
    """

    rounds: int = 0
    opened: int = 0
    refused: int = 0
    slow: int = 0
    slowest_seconds: float = 0.0
    differing: Sequence[str] = ()
    log_bytes: int = 0
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        """Whether every file arrived, answers were in time, and the log stayed small."""
        in_time = self.slow <= self.rounds / 100
        return not self.differing and in_time and self.log_bytes < 1000 * self.rounds

    def lines(self) -> list[str]:
        return [
            f"{self.rounds} rounds in {self.seconds:.0f} s, {self.opened} connections that never finished",
            f"differing objects: {len(self.differing)} {list(self.differing[:5])}",
            f"answers over {ANSWER_SECONDS:g} s: {self.slow}, the slowest {self.slowest_seconds:.2f} s",
            f"refused calls: {self.refused}",
            f"log: {self.log_bytes} bytes",
        ]


def call(port: int, method: str, path: str, body: Any = None) -> Any:
    """Call the daemon's public port."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@contextmanager
def room_for_descriptors() -> Iterator[None]:
    """Let this process open as many connections as a flood holds. Raises OSError if the system forbids it."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * HELD + 500
    if before[1] != resource.RLIM_INFINITY and before[1] < wanted:
        raise OSError(f"this process may not open {wanted} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], wanted), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def daemon(
    root: Path, server: S3Server, log: Path, *, head_seconds: float = ConnectionLimits(1, 1).head_seconds
) -> Iterator[tuple[int, LocalEngine]]:
    """Run a daemon with few descriptors on `root`; yield its public port and a client of its private one.

    Args:
        head_seconds: how long a connection may take for a request's head.
    """
    import resource

    (port,) = free_ports(1)
    where = {"CLOUD_ARCHIVE_STATE_DIR": str(root.parent / "state")}
    environ = server.environ(S3_PREFIX=PREFIX, CLOUD_ARCHIVE_SETTLE_SECONDS="0.2", **where)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _WITH_LIMIT, str(head_seconds)),
                *("watch", str(root), "--serve", f"127.0.0.1:{port}"),
            ],
            env={**os.environ, **environ},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)),
        )
    try:
        wait_until(lambda: running_engine(root, where) is not None, "the daemon runs", 60)
        engine = running_engine(root, where)
        assert engine is not None
        wait_until(lambda: engine.status()["state"] == "idle", "it watches", 60)
        yield port, engine
    finally:
        process.terminate()
        process.wait(60)


def open_one(port: int, kind: bytes) -> socket.socket:
    """Open a connection that never finishes its request, or reads no answer."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=60)
    with contextlib.suppress(OSError):
        sock.sendall(kind)
    return sock


def _is_answered(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except (urllib.error.HTTPError, EngineUnavailable):  # 503: too many calls wait already
        return False
    return True


def floods(
    rounds: int, seed: int, server: S3Server, directory: Path, progress: Callable[[str], None]
) -> Floods:
    """Run `rounds` rounds of connections, a file and two calls each. `progress` takes lines to show."""
    dice, found = random.Random(seed), Floods()
    root, log = directory / "output", directory / "daemon.log"
    root.mkdir(parents=True)
    expected: dict[str, bytes] = {}
    held: deque[socket.socket] = deque()
    began = time.monotonic()
    with room_for_descriptors(), daemon(root, server, log) as (port, engine):
        ports = (port, engine._info.port)
        for number in range(rounds):
            for _ in range(EACH_ROUND):
                held.append(open_one(dice.choice(ports), dice.choice(KINDS)))
                if len(held) > HELD:
                    held.popleft().close()
            found.opened += EACH_ROUND
            name, content = f"{number:04}.png", dice.randbytes(dice.randrange(1, 50_000))
            (root / name).write_bytes(content)
            expected[f"{PREFIX}/{name}"] = content
            for ask in (lambda: call(port, "GET", "/cloud-sync/status"), engine.status):
                asked = time.monotonic()
                while not _is_answered(ask) and time.monotonic() - asked <= ANSWER_SECONDS:
                    found.refused += 1
                    time.sleep(RETRY_SECONDS)
                took = time.monotonic() - asked
                found.slow += took > ANSWER_SECONDS
                found.slowest_seconds = max(found.slowest_seconds, took)
            found.rounds += 1
            if number % 100 == 99:
                progress(f"{number + 1} rounds, slowest answer {found.slowest_seconds:.2f} s")
        with contextlib.suppress(pytest.fail.Exception):
            wait_until(lambda: engine.status()["safe_to_stop"], "everything arrives", 60)
        for sock in held:
            sock.close()
    found.differing = server.differing(expected)
    found.log_bytes = log.stat().st_size
    found.seconds = time.monotonic() - began
    return found
