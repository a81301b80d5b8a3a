"""Make thumbnails in a child process, which starts when one is needed and ends when it has been idle for a while.

If a file crashes the decoder, or takes too long or too much memory, only its thumbnail and this child are lost.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

from ..child_process import start_child

logger = logging.getLogger("cloud_archive.catalog")

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_THUMBNAIL_BYTES = 512 * 1024
# For one file, then the child is killed. Long, because its priority is low and the file is not tried again.
FILE_SECONDS = 60.0
IDLE_SECONDS = 30.0  # without a file, then the child ends
_CHILD = Path(__file__).with_name("child.py")


def can_decode(kind: str) -> bool:
    """Return whether the libraries that decode this kind (`image`, `video`) are installed."""
    needed = {"image": ("PIL",), "video": ("PIL", "av")}.get(kind)
    return needed is not None and all(importlib.util.find_spec(name) is not None for name in needed)


class ThumbnailMaker:
    """Make thumbnails in one child for all threads, one file at a time."""

    def __init__(
        self,
        *,
        file_seconds: float = FILE_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        command: list[str] | None = None,
    ) -> None:
        self._file_seconds = file_seconds
        self._idle_seconds = idle_seconds
        self._command = command or [sys.executable, "-B", str(_CHILD)]
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._idle: threading.Timer | None = None
        self._closed = False

    def make(self, kind: str, data: bytes) -> bytes | None:
        """Return the WebP of a file's bytes; empty: it can't be decoded, or it broke a limit.

        None: the child can't be started, or the maker is closed.
        """
        if len(data) > MAX_FILE_BYTES or not can_decode(kind):
            return b""
        with self._lock:
            if self._closed:
                return None
            self._stop_idle_timer()
            try:
                child = self._running_child()
            except OSError as error:
                logger.info("No thumbnail can be made now: %s", error)
                return None
            if self._closed:  # `close` has seen no child to kill
                self._end()
                return None
            try:
                return self._ask(child, kind, data)
            except (OSError, ValueError, LookupError, TypeError) as error:
                logger.info("A thumbnail could not be made: %s", error)
                self._end()
                return None if self._closed else b""
            finally:
                self._start_idle_timer()

    def close(self) -> None:
        self._closed = True
        child = self._child
        if child is not None:
            with contextlib.suppress(OSError):
                child.kill()  # this also ends a `make` that waits for it
        with self._lock:
            self._stop_idle_timer()
            self._end()

    def _ask(self, child: subprocess.Popen[bytes], kind: str, data: bytes) -> bytes:
        assert child.stdin is not None
        assert child.stdout is not None
        killed = threading.Event()

        def kill() -> None:
            killed.set()
            child.kill()

        timer = threading.Timer(self._file_seconds, kill)
        timer.name = "cloud-archive-thumbnail-limit"
        timer.daemon = True
        timer.start()
        try:
            child.stdin.write(json.dumps({"kind": kind, "length": len(data)}).encode() + b"\n")
            child.stdin.write(data)
            child.stdin.flush()
            line = child.stdout.readline(1000)
            if not line:
                raise ValueError("the decoder crashed, or took more time or memory than one file may")
            length = json.loads(line)["length"]
            if type(length) is not int or not 0 <= length <= MAX_THUMBNAIL_BYTES:
                raise ValueError("the decoder's answer makes no sense")
            made = child.stdout.read(length)
            if len(made) != length:
                raise ValueError("the decoder ended within its answer")
            return made
        finally:
            timer.cancel()
            timer.join()
            if killed.is_set():  # maybe after its answer; the next file must not be sent to a dying child
                self._end()

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._end()
        self._child = start_child(self._command)
        return self._child

    def _start_idle_timer(self) -> None:
        if self._child is None or self._closed:
            return
        self._idle = threading.Timer(self._idle_seconds, self._end_when_idle)
        self._idle.name = "cloud-archive-thumbnail-idle"
        self._idle.daemon = True
        self._idle.start()

    def _stop_idle_timer(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _end_when_idle(self) -> None:
        with self._lock:
            if self._idle is threading.current_thread():
                self._idle = None
                self._end()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            child.wait(1.0)  # it ends with its input
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
