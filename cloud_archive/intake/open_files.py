"""Ask the operating system whether any process has a file open for writing.

Linux: the kernel refuses a read lease (EAGAIN) while any process of this machine, this one included, has the file
open for writing. https://man7.org/linux/man-pages/man2/fcntl.2.html If a lease is impossible (another user's file) or
proves nothing (network filesystems), /proc lists the files that processes write to or have locked, as far as this
user may read it.

Windows: a file that no other process has open has no writer. If one has it open, or Windows can't tell, we try to open
it without sharing write access, which fails with a sharing violation while a process writes.

Other systems can't tell.
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

from ..beneath import open_file, stat_file

# f_type of the local filesystems whose leases are reliable (linux/magic.h and the filesystems' own headers). NFSv4 and
# CIFS may answer EAGAIN without any writer (nfs4_setlease, cifs_setlease). FUSE grants a lease while other machines
# write.
_RELIABLE_LEASES = frozenset(
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
"""How long a reading of /proc is reused."""


def has_writer(root: Path, path: str) -> bool | None:
    """Return whether any process has the file `path` below `root` open for writing; None if the system can't tell.

    None also means a file that is gone, is not a regular file, or can't be opened. Never raises. On Windows the check
    can make a writer's open fail with a sharing violation, but only if another process has the file open already or
    Windows can't tell.
    """
    if sys.platform == "win32":
        return _windows_writer(root / path)
    if sys.platform == "linux":
        answer = _check_lease(root, path)
        return _check_proc(root, path) if answer is None else answer
    return None


def _check_lease(root: Path, path: str) -> bool | None:
    if sys.platform != "linux":
        return None
    import fcntl

    try:
        file = open_file(root, path)
    except BlockingIOError:
        return True  # another process holds a write lease, such as a file server for its client
    except (OSError, ValueError):
        return None
    descriptor = file.fileno()
    try:
        if not _has_reliable_leases(descriptor):
            return None
        # The kernel signals us if a writer opens the file meanwhile. The default, SIGIO, would end the process; SIGURG
        # is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        # EACCES: not our file and no CAP_LEASE. EINVAL: the filesystem has no leases.
        return True if error.errno == errno.EAGAIN else None
    else:
        return False
    finally:
        file.close()


def _check_proc(root: Path, path: str) -> bool | None:
    """Return True if /proc shows a writer, else None, because not all of /proc is readable."""
    try:
        file = stat_file(root, path)
    except (OSError, ValueError):
        return None
    return True if (file.st_dev, file.st_ino) in _written_files() else None


@functools.cache
def _proc_lock() -> threading.Lock:
    return threading.Lock()


_proc_snapshot: tuple[float, frozenset[tuple[int, int]]] = (float("-inf"), frozenset())


def _written_files() -> frozenset[tuple[int, int]]:
    """Return device and inode of the files that processes write to; read at most once in `PROC_SECONDS`."""
    global _proc_snapshot
    with _proc_lock():
        if time.monotonic() - _proc_snapshot[0] > PROC_SECONDS:
            _proc_snapshot = (time.monotonic(), frozenset([*_opened_for_writing(), *_locked_for_writing()]))
        return _proc_snapshot[1]


def _opened_for_writing() -> Iterator[tuple[int, int]]:
    """Yield files from /proc/PID/fd. Each link has the mode that its file was opened with; proc_pid_fd(5)."""
    for process in _entries("/proc"):
        if not process.name.isdigit():
            continue
        for link in _entries(f"{process.path}/fd"):
            with contextlib.suppress(OSError):
                if link.stat(follow_symlinks=False).st_mode & stat.S_IWUSR:
                    file = link.stat()
                    if stat.S_ISREG(file.st_mode):
                        yield file.st_dev, file.st_ino


def _locked_for_writing() -> Iterator[tuple[int, int]]:
    """Yield files from /proc/locks, such as `1: POSIX  ADVISORY  WRITE 1234 08:01:131 0 EOF`; proc_locks(5)."""
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


def _has_reliable_leases(descriptor: int) -> bool:
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
    return int.from_bytes(buffer.raw[:size], sys.byteorder) & 0xFFFFFFFF in _RELIABLE_LEASES


def _windows_writer(path: Path) -> bool | None:
    if sys.platform != "win32":
        return None
    # https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew
    read_attributes, generic_read = 0x80, 0x80000000
    share_read, share_write, share_delete = 0x1, 0x2, 0x4
    sharing_violation, lock_violation = 32, 33
    # A handle that may only read attributes is ignored when Windows checks sharing, so it blocks no other program.
    handle = _windows_open(path, read_attributes, share_read | share_write | share_delete)
    if handle is None:
        return None
    try:
        processes = _windows_processes(handle)
    finally:
        ctypes.WinDLL("kernel32").CloseHandle(ctypes.c_void_p(handle))
    if processes is not None and processes <= {os.getpid()}:
        return False
    handle = _windows_open(path, generic_read, share_read | share_delete)
    if handle is None:
        return True if ctypes.get_last_error() in (sharing_violation, lock_violation) else None
    ctypes.WinDLL("kernel32").CloseHandle(ctypes.c_void_p(handle))
    return False


def _windows_open(path: Path, access: int, sharing: int) -> int | None:
    """Return a handle, or None; then `ctypes.get_last_error` holds the error."""
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


def _windows_processes(handle: int) -> set[int] | None:
    """Return the ids of the processes that have the file open; None if the filesystem can't tell.

    FILE_PROCESS_IDS_USING_FILE_INFORMATION:
    https://learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/ne-ntifs-_file_information_class
    """
    if sys.platform != "win32":
        return None
    process_ids_using_file, max_processes = 47, 1024
    word = ctypes.sizeof(ctypes.c_void_p)
    status_block = ctypes.create_string_buffer(2 * word)
    answer = ctypes.create_string_buffer(word * (1 + max_processes))
    query = ctypes.WinDLL("ntdll").NtQueryInformationFile
    query.restype = ctypes.c_int32
    query.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int]
    if query(handle, status_block, answer, len(answer), process_ids_using_file) != 0:
        return None
    count = int.from_bytes(answer.raw[:4], sys.byteorder)
    numbers = (answer.raw[word * (1 + each) : word * (2 + each)] for each in range(count))
    return {int.from_bytes(number, sys.byteorder) for number in numbers}
