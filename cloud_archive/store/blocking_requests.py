"""Make blocking requests on Linux, and end their connections if an answer fills the memory.

obstore's blocking calls take two thirds of the CPU of its asynchronous ones, because no other thread needs the
interpreter lock for them. But nothing can cancel them, and obstore reads an error's body whole, whatever its size. So a
thread measures the memory while requests are under way.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from . import guarded_requests
from .guarded_requests import CHECK_SECONDS, AnswerTooLarge, Cancelled

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Request:
    """A request under way; `cause` says why its connection was ended."""

    port: int
    bytes_before: int
    cause: Exception | None = None


class BlockingRequests:
    """Make requests that block their threads. Thread-safe.

    Args:
        memory_bytes: returns the memory that this process holds.
        max_growth_bytes: by how much it may grow during a request; default: `guarded_requests.MAX_GROWTH_BYTES`.
    """

    def __init__(
        self, memory_bytes: Callable[[], int] | None = None, max_growth_bytes: int | None = None
    ) -> None:
        self._memory_bytes = memory_bytes or guarded_requests.resident_bytes
        self._max_growth_bytes = max_growth_bytes or guarded_requests.MAX_GROWTH_BYTES
        self._lock = threading.Lock()
        self._under_way: set[_Request] = set()
        self._bytes_now = 0  # while `_busy` is set: at most about `CHECK_SECONDS` ago
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()  # of the thread

    def run(self, request: Callable[[], T], *, port: int) -> T:
        """Call `request`, and return its result.

        Args:
            port: of the store. All of this process's connections to such a port are ended if the memory grows too much.

        Raises:
            AnswerTooLarge, Cancelled: see there.
            Exception: what the request raises.
        """
        under_way = _Request(port, self._bytes_now if self._busy.is_set() else self._memory_bytes())
        self._under_way.add(under_way)
        if not self._busy.is_set():
            self._wake(under_way.bytes_before)
        try:
            return request()
        except Exception:
            if under_way.cause is not None:
                raise under_way.cause from None
            raise
        finally:
            self._under_way.discard(under_way)

    def close(self) -> None:
        """End the connections of the requests that are under way, and the thread. The next `run` starts a new one."""
        with self._lock:
            thread, self._thread = self._thread, None
            busy, self._busy = self._busy, threading.Event()
            self._closing.set()
            busy.set()
        self._end(tuple(self._under_way), Cancelled())
        if thread is not None:
            thread.join()

    def _wake(self, bytes_now: int) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._busy, self._closing = threading.Event(), threading.Event()
                self._thread = threading.Thread(
                    target=self._watch,
                    args=(self._busy, self._closing),
                    name="cloud-archive-memory",
                    daemon=True,
                )
                self._thread.start()
            self._bytes_now = bytes_now
            self._busy.set()

    def _watch(self, busy: threading.Event, closing: threading.Event) -> None:
        while busy.wait() and not closing.wait(CHECK_SECONDS):
            # Before the next two lines look: what comes later sets it again.
            busy.clear()
            if closing.is_set():
                return
            requests = tuple(self._under_way)
            if not requests:
                continue
            self._bytes_now = self._memory_bytes()
            busy.set()
            most = self._bytes_now - self._max_growth_bytes
            self._end([each for each in requests if each.bytes_before < most], AnswerTooLarge())

    @staticmethod
    def _end(requests: tuple[_Request, ...] | list[_Request], cause: Exception) -> None:
        for request in requests:
            request.cause = cause
        for port in {request.port for request in requests}:
            end_connections(port)


def end_connections(port: int) -> None:
    """Shut down each TCP connection of this process to such a port, on whatever host."""
    try:
        names = os.listdir("/proc/self/fd")  # noqa: PTH208 - only numbers are needed
    except OSError:
        return  # no descriptor is free; the next check tries again
    for name in names:
        with contextlib.suppress(OSError):  # closed meanwhile, or not connected
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as connection:
                is_internet = connection.family in (socket.AF_INET, socket.AF_INET6)
                if is_internet and connection.getpeername()[1] == port:
                    connection.shutdown(socket.SHUT_RDWR)
