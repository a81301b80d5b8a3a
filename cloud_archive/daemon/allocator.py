"""Memory that was freed goes back to the system.

glibc's allocator keeps an arena for each few threads, and raises by itself the size from which memory is taken from
the system directly: after the first body of 8 MiB all others come from the arenas, which keep what they once had.
Sixty-four workers left an engine at 320 MB that held 48 MiB of bodies while it was busy, and none any more.
"""

from __future__ import annotations

import sys
from contextlib import suppress

# What is larger is mapped by itself, and gone when it is freed. Above the pieces of 1 MiB in which files are hashed,
# whose pages would be fetched anew each time.
MAPPED_FROM_BYTES = 1024 * 1024 + 64 * 1024
_M_MMAP_THRESHOLD = -3  # https://man7.org/linux/man-pages/man3/mallopt.3.html


def give_freed_memory_back() -> bool:
    """Set this process's allocator up; False where it is another one, which is left as it is."""
    if sys.platform != "linux":
        return False
    with suppress(OSError, AttributeError, ImportError):
        import ctypes

        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES))
    return False
