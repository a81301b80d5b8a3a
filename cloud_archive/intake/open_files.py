"""Does any process have this file open for writing? Asked of the operating system, where it can tell.

Linux: a read lease is refused (EAGAIN) while the file is open for writing anywhere on this machine, this process
included, and granted the moment the last writer closes it. https://man7.org/linux/man-pages/man2/fcntl.2.html
Windows: an open that shares no writing fails with a sharing violation while somebody writes.
Elsewhere, and on filesystems whose answer would be a guess, nobody can tell, and callers fall back on waiting.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import signal
import sys
from pathlib import Path

from ..beneath import open_file

# f_type of the local filesystems whose leases tell the truth (linux/magic.h and the filesystems' own headers).
# A list of what is trusted, not of what is not: NFSv4 and CIFS answer EAGAIN for want of a delegation or oplock,
# with no writer anywhere (nfs4_setlease, cifs_setlease), and such a file would never be archived; FUSE grants a
# lease whatever other machines do.
_LEASES_TELL = frozenset(
    {
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0x01021994,  # tmpfs
        0x858458F6,  # ramfs
        0xF2F52010,  # f2fs
        0x794C7630,  # overlayfs: writers through the same mount
        0x2FC12FC1,  # zfs
        0xCA451A4E,  # bcachefs
        0x2011BAB0,  # exfat
        0x4D44,  # vfat
        0x7366746E,  # ntfs3
        0x3153464A,  # jfs
        0x52654973,  # reiserfs
        0x3434,  # nilfs2
        0x482B,  # hfsplus
    }
)


def has_writer(root: Path, path: str) -> bool | None:
    """Return whether anybody has the file `path` below `root` open for writing; None where the system can't tell.

    None also stands for a file that is gone, is no regular file, or can't be opened; it is never an error.
    The question itself leaves no trace: no close-after-write event, and no lock that outlives the call. For some
    microseconds a writer's open waits on Linux, and meets a sharing violation on Windows.
    """
    if sys.platform == "win32":
        return _windows_writer(root / path)
    if sys.platform == "linux":
        return _linux_writer(root, path)
    return None


def _linux_writer(root: Path, path: str) -> bool | None:
    if sys.platform != "linux":
        return None
    import fcntl

    try:
        file = open_file(root, path)
    except BlockingIOError:
        return True  # somebody holds a write lease, as a file server does for a client that writes
    except (OSError, ValueError):
        return None
    descriptor = file.fileno()
    try:
        if not _leases_tell(descriptor):
            return None
        # A writer that opens the file while we hold the lease makes the kernel signal us. The default, SIGIO,
        # would end the process; SIGURG is ignored unless asked for.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        # EACCES: not the owner's file and no CAP_LEASE; EINVAL: the filesystem has no leases.
        return True if error.errno == errno.EAGAIN else None
    else:
        return False
    finally:
        file.close()


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _leases_tell(descriptor: int) -> bool:
    """Whether the file lies on a filesystem whose leases are to be believed."""
    if sys.platform != "linux":
        return False
    # struct statfs is at most 120 bytes; f_type is its first word, 4 bytes on s390x, else a long.
    buffer = ctypes.create_string_buffer(512)
    try:
        if _libc().fstatfs(descriptor, buffer) != 0:
            return False
    except (OSError, AttributeError):
        return False
    size = 4 if os.uname().machine.startswith("s390") else ctypes.sizeof(ctypes.c_long)
    return int.from_bytes(buffer.raw[:size], sys.byteorder) & 0xFFFFFFFF in _LEASES_TELL


def _windows_writer(path: Path) -> bool | None:
    # https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew
    generic_read, share_read, share_delete, open_existing = 0x80000000, 0x1, 0x4, 3
    open_reparse_point = 0x00200000  # never through a link
    sharing_violation, lock_violation = 32, 33
    if sys.platform != "win32":
        return None
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    create = kernel.CreateFileW
    create.restype = ctypes.c_void_p
    create.argtypes = [
        ctypes.c_wchar_p,
        ctypes.c_uint32,
        ctypes.c_uint32,
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_uint32,
        ctypes.c_void_p,
    ]
    kernel.CloseHandle.argtypes = [ctypes.c_void_p]
    handle = create(
        str(path),
        generic_read,
        share_read | share_delete,
        None,
        open_existing,
        open_reparse_point,
        None,
    )
    if handle in (None, ctypes.c_void_p(-1).value):
        return True if ctypes.get_last_error() in (sharing_violation, lock_violation) else None
    kernel.CloseHandle(handle)
    return False
