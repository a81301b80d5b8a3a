"""Notice that filesystems were mounted or unmounted."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable

ASSUMED_CHANGE_SECONDS = 60.0  # after this time a change is assumed, because some kernels report none


class MountEvents:
    """Ask Linux whether this process's mounts have changed: one system call, no reading. Not thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._descriptor: int | None = None
        self._poll: select.poll | None = None
        self._assume_at = 0.0
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                self._descriptor = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
                self._poll = select.poll()
                self._poll.register(self._descriptor, select.POLLERR | select.POLLPRI)  # proc_pid_mounts(5)

    def changed(self) -> bool:
        """Return whether mounts may have changed since the last call.

        Also True every `ASSUMED_CHANGE_SECONDS`, and always on a system that can't report changes.
        """
        now = self._clock()
        if self._poll is not None and now < self._assume_at and not self._poll.poll(0):
            return False
        self._assume_at = now + ASSUMED_CHANGE_SECONDS
        return True

    def close(self) -> None:
        """Close the file. After that `changed` always returns True."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = self._poll = None
