"""Set up the engine's process: priority, open files, signals, memory."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

OPEN_FILES = 4096
NICE = 10
# What is larger is mapped by itself, and gone when it is freed. Above the pieces of 1 MiB in which files are hashed,
# whose pages would be fetched anew each time.
MAPPED_FROM_BYTES = 1024 * 1024 + 64 * 1024
_M_MMAP_THRESHOLD = -3  # https://man7.org/linux/man-pages/man3/mallopt.3.html


def lower_priority() -> None:
    """Nice 10, as a session of its own too; on Windows below normal: ComfyUI comes first."""
    with contextlib.suppress(OSError, AttributeError, ImportError):
        if sys.platform == "win32":
            import ctypes

            below_normal = 0x00004000  # BELOW_NORMAL_PRIORITY_CLASS
            kernel = ctypes.windll.kernel32
            kernel.SetPriorityClass(kernel.GetCurrentProcess(), below_normal)
        else:
            os.nice(NICE)
            if os.getsid(0) == os.getpid():
                # Where the kernel shares out processor time by session, a niceness counts within a session only, and
                # this process has one of its own (https://man7.org/linux/man-pages/man7/sched.7.html, autogroup).
                Path("/proc/self/autogroup").write_text(str(NICE), encoding="ascii")


def allow_open_files() -> None:
    """As many as 64 workers may need; macOS allows a process 256 unless it asks for more."""
    if sys.platform == "win32":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextlib.contextmanager
def handling_signals(stop: Callable[[], None], signals: tuple[signal.Signals, ...]) -> Any:
    """Call `stop` for each of these signals while the block runs."""
    before = {number: signal.signal(number, lambda *_: stop()) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def give_freed_memory_back() -> bool:
    """Let glibc return freed bodies to the system. False where the C library is another one.

    glibc keeps an arena for each few threads and raises its mmap threshold by itself: after the first body of 8 MiB
    all others come from arenas, which keep what they once had (64 workers: 320 MB kept after 48 MiB of bodies).
    """
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError, AttributeError, ImportError):
        import ctypes

        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES))
    return False
