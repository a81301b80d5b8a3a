"""The steps on a real store: archive, contested names, a kill in a multipart upload, verify, restore, prune.

Every step runs the command as a process of its own, and reads the bucket with a client that shares nothing with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.quirks.races import MACHINES, race
from tests.real_stores.conditions import count_double_accepts
from tests.servers import S3Server, plain_client

PACKAGE_ROOT = Path(__file__).parents[2]
PREFIX = "out"
SMALL_FILES = 200
LARGE_FILES = 3
LARGE_BYTES = 20 * 1024 * 1024 + 7
KILLED_BYTES = 64 * 1024 * 1024
KILLED_RATE = "8MB/s"
PARTS_BEFORE_KILL = 2
PAIRS = 100
COMMAND_SECONDS = 300.0


@dataclass
class Scenario:
    """One run of all steps on one store.

    Attributes:
        lines: the result of each step, in words.
        failures: the checks that failed.
    """

    server: S3Server
    work: Path
    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A server closes connections that were idle during a step; a second attempt opens a new one.
        keys = self.server.access_key_id, self.server.secret_access_key
        self.server.client = plain_client(self.server.endpoint, *keys, attempts=3)

    def run(self, names: int) -> None:
        """Run every step; one that fails does not keep the others from running."""
        steps: list[tuple[str, Callable[[], str]]] = [
            ("check", self.check),
            ("archive", self.archive),
            ("conditions", lambda: count_double_accepts(self.server.with_fresh_bucket(), PAIRS)),
            ("race", lambda: self.contest(names)),
            ("kill", self.kill),
            ("verify", self.verify),
            ("restore", self.restore),
            ("prune", self.prune),
        ]
        for name, step in steps:
            began = time.monotonic()
            try:
                found = step()
            except Exception as error:
                found = f"FAILED: {type(error).__name__}: {error}"
                self.failures.append(f"{name}: {found}")
            self.lines.append(f"{name}: {found} ({time.monotonic() - began:.1f} s)")
            print(self.lines[-1], flush=True)

    # --- tools

    @property
    def root(self) -> Path:
        return self.work / "output"

    def environ(self, **extra: str) -> dict[str, str]:
        plain = {
            name: value for name, value in os.environ.items() if not name.startswith(("S3_", "R2_", "AWS_"))
        }
        settings = {
            "S3_PREFIX": PREFIX,
            "CLOUD_ARCHIVE_SETTLE_SECONDS": "0.3",
            "CLOUD_ARCHIVE_STATE_DIR": str(self.work / "state"),
        }
        return plain | self.server.environ(**settings) | extra

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cloud_archive", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=PACKAGE_ROOT,
            env=self.environ(**extra),
        )

    def command(self, *arguments: str, status: int | None = 0, **extra: str) -> tuple[str, str]:
        process = self.start(*arguments, **extra)
        out, errors = process.communicate(timeout=COMMAND_SECONDS)
        if status is not None and process.returncode != status:
            said = f"{out[-600:]} {errors[-600:]}"
            raise AssertionError(
                f"{' '.join(arguments)} ended with {process.returncode}, not {status}: {said}"
            )
        return out, errors

    def ours(self) -> dict[str, bytes]:
        """Return key to bytes of every output in the bucket."""
        found = self.server.objects(f"{PREFIX}/")
        return {key: body for key, body in found.items() if not key.startswith(f"{PREFIX}/.cloud-archive/")}

    def unfinished(self) -> list[dict[str, Any]]:
        found = self.server.client.list_multipart_uploads(Bucket=self.server.bucket)
        return [dict(upload) for upload in found.get("Uploads", [])]

    def files(self) -> dict[str, bytes]:
        return {
            f"{PREFIX}/{path.relative_to(self.root).as_posix()}": path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
        }

    # --- steps

    def check(self) -> str:
        steps = {
            step["name"]: step for step in json.loads(self.command("check", "--json")[0].splitlines()[-1])
        }
        assert all(step["ok"] is not False for step in steps.values()), steps
        return steps["create-only"]["cause"] or "the store refuses to overwrite"

    def archive(self) -> str:
        for number in range(SMALL_FILES):
            path = self.root / f"day {number % 4}" / f"image_{number:05}_ü.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(1000 + 37 * number))
        for number in range(LARGE_FILES):
            (self.root / f"film_{number}.mp4").write_bytes(os.urandom(LARGE_BYTES))
        files = self.files()
        taken = f"{PREFIX}/day 0/image_00000_ü.png"
        self.server.put(taken, b"of somebody else")
        began = time.monotonic()
        out, errors = self.command("watch", str(self.root), "--once")
        seconds = time.monotonic() - began
        expected = {**files, taken: b"of somebody else", taken.replace("_ü.", "_ü (1)."): files[taken]}
        assert out.splitlines()[-1] == f"Complete: {len(files)}/{len(files)}", out
        _same(self.ours(), expected)
        warnings = [line for line in errors.splitlines() if "WARNING" in line or "ERROR" in line]
        assert not warnings, warnings
        return f"{len(files)} files, {SMALL_FILES} small and {LARGE_FILES} of 20 MiB, in {seconds:.1f} s, no warning"

    def contest(self, names: int) -> str:
        server = self.server.with_fresh_bucket()
        work = self.work / "race"
        work.mkdir()
        lost = race(server, server.environ(), work, names)
        return f"{lost} of {MACHINES * names} contents under {names} contested names lost"

    def kill(self) -> str:
        film = self.root / "killed.mp4"
        film.write_bytes(body := os.urandom(KILLED_BYTES))
        process = self.start("watch", str(self.root), "--once", CLOUD_ARCHIVE_MAX_BANDWIDTH=KILLED_RATE)
        try:
            parts = self._wait_for_parts(process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        out, errors = self.command("watch", str(self.root), "--once")
        resumed = re.search(r"continues with (\d+) of (\d+) parts", errors + out)
        assert self.server.read(f"{PREFIX}/killed.mp4") == body
        left = self.unfinished()
        assert not left, left
        went_on = f"went on with {resumed[1]} of {resumed[2]} parts" if resumed else "began again"
        return f"killed after {parts} parts, {went_on}, whole, no upload left behind"

    def _wait_for_parts(self, process: subprocess.Popen[str]) -> int:
        client, bucket = self.server.client, self.server.bucket
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            for upload in self.unfinished():
                with contextlib.suppress(client.exceptions.ClientError):
                    parts = client.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                    if (count := len(parts.get("Parts", []))) >= PARTS_BEFORE_KILL:
                        return count
            time.sleep(0.1)
        raise AssertionError(
            f"no upload had {PARTS_BEFORE_KILL} parts; the command ended with {process.poll()}"
        )

    def verify(self) -> str:
        verified = json.loads(self.command("verify", str(self.root), "--json")[0].splitlines()[-1])
        deep = json.loads(self.command("verify", str(self.root), "--deep", "--json")[0].splitlines()[-1])
        assert (verified["sound"], deep["sound"]) == (True, True), (verified, deep)
        missing, other = f"{PREFIX}/day 1/image_00001_ü.png", f"{PREFIX}/day 2/image_00002_ü.png"
        self.server.client.delete_object(Bucket=self.server.bucket, Key=missing)
        self.server.put(other, b"other bytes")
        _, errors = self.command("verify", str(self.root), status=1)
        assert "missing from the bucket" in errors, errors
        assert "different in the bucket" in errors, errors
        self.command("verify", str(self.root), "--repair", status=1)
        self.command("watch", str(self.root), "--once")
        again = json.loads(self.command("verify", str(self.root), "--json")[0].splitlines()[-1])
        assert again["sound"], again
        requests = verified["requests"]
        return (
            f"{verified['checked']} files with {requests['list']} listings and {requests['head']} HEADs, all read back"
            " with --deep; a deleted and a replaced object were found and archived again"
        )

    def restore(self) -> str:
        target = self.work / "restored"
        out, _ = self.command("restore", "--to", str(target), "--json")
        report = json.loads(out.splitlines()[-1])
        assert not report["failed"], report
        wrong_time = 0
        for path in self.root.rglob("*"):
            if path.is_file():
                there = target / path.relative_to(self.root)
                assert there.read_bytes() == path.read_bytes(), there
                wrong_time += there.stat().st_mtime_ns != path.stat().st_mtime_ns
        assert not wrong_time, f"{wrong_time} files came back with another mtime"
        return f"{report['restored']} files, all with their bytes and times"

    def prune(self) -> str:
        foreign = f"{PREFIX}/of another program.bin"
        self.server.put(foreign, b"theirs")
        expected = {
            key
            for key, body in self.ours().items()
            if body in (b"theirs", b"of somebody else", b"other bytes")
        }
        out, _ = self.command("prune", str(self.root), "--older-than", "1s", "--yes", "--json")
        report = json.loads(out.splitlines()[-1])
        assert set(self.ours()) == expected, set(self.ours()) ^ expected
        return f"{report['deleted']} objects deleted, what other programs wrote stays ({len(expected)})"


def _same(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    wrong = Counter(
        "missing" if key not in found else "of nobody" if key not in expected else "different"
        for key in found.keys() | expected.keys()
        if found.get(key) != expected.get(key)
    )
    assert not wrong, dict(wrong)


@contextlib.contextmanager
def work_directory() -> Iterator[Path]:
    """A directory with a short path (sockets have at most 107 characters in theirs), removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="ca-") as directory:
        yield Path(directory)
