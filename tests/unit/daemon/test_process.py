"""What a busy engine held is the system's again: threads hold bodies in a process of their own, and let them go."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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
def test_bodies_that_were_let_go_leave_nothing_behind() -> None:
    done = subprocess.run([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout) < 10_000_000, "of 64 MB that were held"
