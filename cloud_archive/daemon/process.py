"""Priority, limit of open files, signals, parent and memory of this process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

OPEN_FILES = 4096
PARENT_CHECK_SECONDS = 2.0  # between two checks, on systems that don't report the end of a process
NICE = 10
# Larger blocks get their own mapping, and go back to the system when freed. Blocks of 1 MiB, which hashing uses, are
# below it, because they would be mapped again each time.
MMAP_THRESHOLD_BYTES = 1024 * 1024 + 64 * 1024
_M_MMAP_THRESHOLD = -3  # https://man7.org/linux/man-pages/man3/mallopt.3.html


def lower_priority() -> None:
    """Lower this process's priority, so that ComfyUI comes first."""
    with contextlib.suppress(OSError, AttributeError, ImportError):
        if sys.platform == "win32":
            import ctypes

            below_normal = 0x00004000  # BELOW_NORMAL_PRIORITY_CLASS
            kernel = ctypes.WinDLL("kernel32")
            # By default ctypes cuts a handle to 32 bits.
            kernel.GetCurrentProcess.restype = ctypes.c_void_p
            kernel.SetPriorityClass.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
            kernel.SetPriorityClass(kernel.GetCurrentProcess(), below_normal)
        else:
            os.nice(NICE)
            if os.getsid(0) == os.getpid():
                # With autogroups a nice value counts only within its session. This process leads a session of its
                # own, so lower the session's priority too: https://man7.org/linux/man-pages/man7/sched.7.html
                Path("/proc/self/autogroup").write_text(str(NICE), encoding="ascii")


def raise_open_files_limit() -> None:
    """Raise the limit of open files to what 64 workers may need; macOS allows 256 by default."""
    if sys.platform == "win32":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def end_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end a daemon; SIGBREAK is Ctrl-Break on Windows."""
    names = ("SIGTERM", "SIGINT", "SIGBREAK")
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


@contextlib.contextmanager
def handle_signals(stop: Callable[[], None], signals: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Call `stop` for each of these signals while the block runs."""
    before = {number: signal.signal(number, lambda *_: stop()) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def wait_for_parents_end() -> None:
    """Return once the parent has ended. Not for Windows."""
    parent = os.getppid()
    descriptor = _open_process(parent)
    if descriptor is None:
        while os.getppid() == parent:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(PARENT_CHECK_SECONDS)
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        # Otherwise the parent had ended before `_open_process`, and its id may belong to another process.
        if os.getppid() == parent:
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _open_process(process_id: int) -> int | None:
    """Return a descriptor that becomes readable when that process ends (Linux 5.3); None on other systems."""
    try:
        return os.pidfd_open(process_id)
    except (AttributeError, OSError):
        return None


def finish_loading(*, serves: bool) -> None:
    """End the pause of garbage collection that `__main__` began, limit glibc's memory, and become a batch process.

    Other threads that run already stay as they are.

    Args:
        serves: load the HTTP server first.
    """
    if serves:
        import aiohttp.web  # noqa: F401
    if not gc.isenabled():
        gc.freeze()  # what was loaded stays, so collections need not examine it
        gc.enable()
    limit_glibc_memory()
    if sys.platform == "linux":
        # Otherwise each answer of the store would interrupt what runs, which costs us and other programs time.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def limit_glibc_memory() -> None:
    """Make glibc return freed upload bodies to the system; no-op with another C library.

    By default glibc raises its mmap threshold after the first body of 8 MiB. Later bodies then come from arenas, which
    keep their memory: an idle engine with 64 workers kept 320 MB, after it had held 48 MiB of bodies while busy.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError, ImportError):
            import ctypes

            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
