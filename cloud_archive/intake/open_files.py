"""Does any process have this file open for writing? Asked of the operating system, where it can tell.

Linux: a read lease is refused (EAGAIN) while the file is open for writing anywhere on this machine, this process
included, and granted the moment the last writer closes it. https://man7.org/linux/man-pages/man2/fcntl.2.html
Where a lease can't be had (another user's file) or proves nothing (network filesystems), /proc shows the files that
processes of this machine have open for writing or have locked, as far as this user may read it.
Windows: a file that no process has open has no writer; only for one in use, an open that shares no writing is tried,
which fails with a sharing violation while somebody writes.
Elsewhere nobody can tell, and callers fall back on waiting.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
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


PROC_SECONDS = 1.0


def has_writer(root: Path, path: str) -> bool | None:
    """Return whether anybody has the file `path` below `root` open for writing; None where the system can't tell.

    None also stands for a file that is gone, is no regular file, or can't be opened; it is never an error.
    The question itself leaves no trace: no close-after-write event, and no lock that outlives the call. For some
    microseconds a writer's open waits on Linux. On Windows a writer's open can meet a sharing violation only while
    another process reads the file.
    """
    if sys.platform == "win32":
        return _windows_writer(root / path)
    if sys.platform == "linux":
        answer = _lease_tells(root, path)
        return _proc_tells(root / path) if answer is None else answer
    return None


def _lease_tells(root: Path, path: str) -> bool | None:
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


def _proc_tells(path: Path) -> bool | None:
    """True where /proc shows a writer; its silence proves nothing, for not all of it is readable."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    return True if (found.st_dev, found.st_ino) in _written_files() else None


@functools.cache
def _proc_lock() -> threading.Lock:
    return threading.Lock()


_proc_seen: tuple[float, frozenset[tuple[int, int]]] = (float("-inf"), frozenset())


def _written_files() -> frozenset[tuple[int, int]]:
    """Device and inode of the files that processes write to; read at most once in `PROC_SECONDS`."""
    global _proc_seen
    with _proc_lock():
        if time.monotonic() - _proc_seen[0] > PROC_SECONDS:
            _proc_seen = (time.monotonic(), frozenset([*_opened_for_writing(), *_locked_for_writing()]))
        return _proc_seen[1]


def _opened_for_writing() -> Iterator[tuple[int, int]]:
    """From /proc/PID/fd, whose links have the modes that the files were opened with; proc_pid_fd(5)."""
    for process in _entries("/proc"):
        if not process.name.isdigit():
            continue
        for link in _entries(f"{process.path}/fd"):
            with contextlib.suppress(OSError):
                if link.stat(follow_symlinks=False).st_mode & stat.S_IWUSR:
                    found = link.stat()
                    if stat.S_ISREG(found.st_mode):
                        yield found.st_dev, found.st_ino


def _locked_for_writing() -> Iterator[tuple[int, int]]:
    """From /proc/locks, such as `1: POSIX  ADVISORY  WRITE 1234 08:01:131 0 EOF`; proc_locks(5)."""
    try:
        lines = Path("/proc/locks").read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if len(fields) < 6 or fields[1] == b"->" or fields[3] != b"WRITE":
            continue
        with contextlib.suppress(ValueError):
            major, minor, inode = fields[5].split(b":")
            yield os.makedev(int(major, 16), int(minor, 16)), int(inode)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


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
    if sys.platform != "win32":
        return None
    # https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew
    read_attributes, generic_read = 0x80, 0x80000000
    share_read, share_write, share_delete = 0x1, 0x2, 0x4
    sharing_violation, lock_violation = 32, 33
    # A handle that may only read attributes takes no part in sharing: it can be in nobody's way.
    handle = _windows_open(path, read_attributes, share_read | share_write | share_delete)
    if handle is None:
        return None
    try:
        users = _windows_users(handle)
    finally:
        ctypes.WinDLL("kernel32").CloseHandle(ctypes.c_void_p(handle))
    if users is not None and users <= {os.getpid()}:
        return False
    handle = _windows_open(path, generic_read, share_read | share_delete)
    if handle is None:
        return True if ctypes.get_last_error() in (sharing_violation, lock_violation) else None
    ctypes.WinDLL("kernel32").CloseHandle(ctypes.c_void_p(handle))
    return False


def _windows_open(path: Path, access: int, sharing: int) -> int | None:
    """A handle, or None; `ctypes.get_last_error` then tells why."""
    if sys.platform != "win32":
        return None
    open_existing = 3
    open_reparse_point = 0x00200000  # never through a link
    create = ctypes.WinDLL("kernel32", use_last_error=True).CreateFileW
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
    handle: int | None = create(str(path), access, sharing, None, open_existing, open_reparse_point, None)
    return None if handle in (None, ctypes.c_void_p(-1).value) else handle


def _windows_users(handle: int) -> set[int] | None:
    """The processes that have the file open, or None where the filesystem doesn't tell.

    FILE_PROCESS_IDS_USING_FILE_INFORMATION:
    https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/ne-ntifs-_file_information_class
    """
    if sys.platform != "win32":
        return None
    process_ids_using_file, most = 47, 1024
    word = ctypes.sizeof(ctypes.c_void_p)
    status_block = ctypes.create_string_buffer(2 * word)
    answer = ctypes.create_string_buffer(word * (1 + most))
    query = ctypes.WinDLL("ntdll").NtQueryInformationFile
    query.restype = ctypes.c_int32
    query.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int]
    if query(handle, status_block, answer, len(answer), process_ids_using_file) != 0:
        return None
    count = int.from_bytes(answer.raw[:4], sys.byteorder)
    numbers = (answer.raw[word * (1 + each) : word * (2 + each)] for each in range(count))
    return {int.from_bytes(number, sys.byteorder) for number in numbers}
