"""How an engine's process loads and keeps memory, and that it notices its parent's end."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from cloud_archive import terminal
from cloud_archive.daemon.process import _open_process, end_signals, handle_signals, lower_priority

HOLD = """
import sys, threading
from pathlib import Path
from cloud_archive.daemon.process import limit_glibc_memory

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def hold(all_hold):
    for _ in range(3):
        body = bytearray(4_000_000)
        body[::4096] = bytes(len(body[::4096]))
        all_hold.wait(60)
        del body
        all_hold.wait(60)

limit_glibc_memory()
before = resident_bytes()
all_hold = threading.Barrier(16)
threads = [threading.Thread(target=hold, args=(all_hold,)) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(resident_bytes() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_the_memory_of_freed_bodies_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout) < 10_000_000, "of 64 MB that were held"


LOAD = """
import gc, sys
from cloud_archive.daemon.process import finish_loading

serves, paused = (word == "yes" for word in sys.argv[1:])
if paused:
    gc.disable()
frozen = gc.get_freeze_count()  # Python 3.12 begins with some
finish_loading(serves=serves)
print("aiohttp.web" in sys.modules, gc.isenabled(), gc.get_freeze_count() > frozen)
"""


def _load(*, serves: bool, paused: bool) -> str:
    words = ["yes" if word else "no" for word in (serves, paused)]
    done = subprocess.run([sys.executable, "-c", LOAD, *words], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def test_only_a_process_that_serves_loads_the_http_server() -> None:
    assert _load(serves=False, paused=False) == "False True False"
    assert _load(serves=True, paused=False) == "True True False"


def test_garbage_is_collected_once_all_is_loaded_and_what_is_loaded_never() -> None:
    assert _load(serves=False, paused=True) == "False True True"


class Function:
    """A function of a DLL. As `ctypes` does, it cuts integers to 32 bits unless its types are set."""

    restype: Any = ctypes.c_int
    argtypes: Any = ()

    def __init__(self, call: Callable[..., int]) -> None:
        self._call = call

    def __call__(self, *given: int) -> Any:
        types = self.argtypes or [ctypes.c_int] * len(given)
        received = [kind(each).value for kind, each in zip(types, given, strict=True)]
        return self.restype(self._call(*received)).value


def test_windows_gets_the_whole_handle_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    this_process = ctypes.c_void_p(-1).value
    assert this_process is not None
    lowered: list[tuple[int, int]] = []

    def set_priority(handle: int, priority: int) -> int:
        lowered.append((handle, priority))
        return 1

    kernel = SimpleNamespace(
        GetCurrentProcess=Function(lambda: this_process), SetPriorityClass=Function(set_priority)
    )
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "WinDLL", lambda name: kernel, raising=False)
    lower_priority()
    assert lowered == [(this_process, 0x4000)]


CHILD = """
import asyncio, os, sys
from cloud_archive.daemon import process
if sys.argv[1] == "polling":
    process._open_process = lambda number: None
    process.PARENT_CHECK_SECONDS = 0.05

async def main():
    waiting = asyncio.ensure_future(process.wait_for_parents_end())
    await asyncio.sleep(0)  # it has noted its parent
    print("ready", flush=True)
    await waiting
    print("gone", flush=True)

asyncio.run(main())
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe tells on Windows")
@pytest.mark.parametrize("how", ["event", "polling"])
def test_a_parents_end_is_noticed(how: str) -> None:
    if how == "event" and _open_process(os.getpid()) is None:
        pytest.skip("this system does not tell")
    command = [sys.executable, "-c", PARENT, CHILD, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        assert parent.stdout.readline() == "gone\n"


def test_ctrl_break_of_windows_ends_gracefully(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(signal, "SIGBREAK"):
        monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    ctrl_break: signal.Signals = getattr(signal, "SIGBREAK")  # noqa: B009 - other systems don't define it
    calls: list[bool] = []
    before = signal.signal(ctrl_break, lambda *_: None)  # so that a failure does not kill this process
    try:
        with handle_signals(lambda: calls.append(True), end_signals()):
            signal.raise_signal(ctrl_break)
        assert calls == [True]
        with pytest.raises(KeyboardInterrupt), terminal.interrupt_on_signals():
            signal.raise_signal(ctrl_break)
    finally:
        signal.signal(ctrl_break, before)
