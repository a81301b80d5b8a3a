"""Walk the watched directory and the folders in it, and detect network filesystems and mounts.

"Watched directory" is the root; everything in it that holds files is a "folder".
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
import stat
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from ..beneath import open_folder
from ..files import FileVersion, SkipReason, clock_tick_ns, real_path

_log = logging.getLogger("cloud_archive.watcher")

# Filesystems where other machines (or the host of a virtual one) change files without an event here: inotify(7) reports
# only changes through this kernel. All FUSE filesystems count, except fuseblk, which is a local disk (NTFS).
# fakeowner covers Docker Desktop's shares: https://github.com/docker/desktop-feedback/issues/626
# fmt: off
_NETWORK_FILESYSTEMS = frozenset(
    (
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "9p", "ceph", "lustre",
        "beegfs", "gpfs", "ocfs2", "gfs2", "orangefs", "pvfs2", "vboxsf", "vmhgfs", "prl_fs",
        "drvfs", "virtiofs", "hgfs", "fuse", "fakeowner",
    )
)
# fmt: on

# FAT has no inodes: Linux invents the numbers, and forgets them.
_WITHOUT_INODES = frozenset(("vfat", "msdos", "exfat"))

# Here a folder has two links, and one more for each folder in it, or one link if there are too many for that. On others
# (btrfs, overlay, FAT, FUSE) the number of links says nothing.
_COUNTING_FILESYSTEMS = frozenset(("ext2", "ext3", "ext4", "xfs", "tmpfs"))


def every_folder(path: str) -> bool:
    """Return True: scan every folder."""
    return True


def _ignore_error(path: str, reason: str) -> None:
    _log.debug("can't read %r: %s", path, reason)


def _ignore_skipped(path: str, reason: SkipReason) -> None:
    pass


def _ignore_vanished(path: str) -> None:
    pass


def scan(
    root: Path,
    wants_folder: Callable[[str], bool] = every_folder,
    on_error: Callable[[str, str], None] = _ignore_error,
    *,
    below: str = "",
) -> Iterator[FileVersion]:
    """Yield every regular file below `root`, without following links.

    Args:
        wants_folder: called with the relative path of each folder; False skips everything in it.
        on_error: called with the relative path (`""` for the root) and the system's reason if a folder or file
            can't be read. The scan continues.
        below: scan only this folder; the paths stay relative to `root`.
    """
    of_stat = FileVersion.of_stat
    for path, found in walk(root, wants_folder, on_error, below=below):
        yield of_stat(path, found)


def walk(
    root: Path,
    wants_folder: Callable[[str], bool] = every_folder,
    on_error: Callable[[str, str], None] = _ignore_error,
    *,
    on_skipped: Callable[[str, SkipReason], None] = _ignore_skipped,
    on_vanished: Callable[[str], None] = _ignore_vanished,
    below: str = "",
    again: bool = True,
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the relative path and the `stat` result of every regular file; like `scan`, but faster.

    A file that changes meanwhile may come once more.

    Args:
        on_skipped: called with the relative path of each link, pipe, socket and device, and of each folder that is
            left out (ending in `/`).
        on_vanished: called with the relative path of each file and folder (ending in `/`) that was gone before it could
            be read.
        again: at the end, list each folder again that has changed since it was listed: a file that was not listed yet
            may have been moved there.
    """
    walker = _Walker(root, wants_folder, on_error, on_skipped, on_vanished, again)
    yield from walker.list_folders([below])
    if again:
        yield from walker.list_folders(walker.changed_folders())


class _Listing:
    """What a folder held when it was listed; eight bytes for each entry.

    Attributes:
        times_ns: see `_times_ns`.
    """

    def __init__(self, times_ns: tuple[int, int] | None, earlier: _Listing | None) -> None:
        self.times_ns = times_ns
        self._hashes: array[int] = array("q")
        self._earlier = frozenset(() if earlier is None else earlier._hashes)

    def add(self, *entry: object) -> bool:
        """Add what identifies an entry. Return False if the earlier listing held it."""
        each = hash(entry)
        self._hashes.append(each)
        return each not in self._earlier


class _Walker:
    """Lists folders for `walk`, whose arguments it takes."""

    def __init__(
        self,
        root: Path,
        wants_folder: Callable[[str], bool],
        on_error: Callable[[str, str], None],
        on_skipped: Callable[[str, SkipReason], None],
        on_vanished: Callable[[str], None],
        again: bool,
    ) -> None:
        self._root = root
        self._wants_folder = wants_folder
        self._on_error = on_error
        self._on_skipped = on_skipped
        self._on_vanished = on_vanished
        self._again = again
        self._listings: dict[str, _Listing] = {}

    def changed_folders(self) -> list[str]:
        """Return the listed folders that have changed since, or may have."""
        return [
            folder
            for folder, listing in self._listings.items()
            if listing.times_ns is None or listing.times_ns != _times_ns(self._root, folder)
        ]

    def list_folders(self, folders: list[str]) -> Iterator[tuple[str, os.stat_result]]:
        """List these folders and those in them. Leave out what an earlier listing of the same folder held."""
        while folders:
            folder = folders.pop()
            inner: list[str] = []
            try:
                yield from self._list(folder, inner)
            except (FileNotFoundError, NotADirectoryError) as error:
                if not folder:
                    self._on_error("", error.strerror or str(error))
                elif folder not in self._listings:
                    self._on_vanished(folder + "/")
            except OSError as error:
                self._on_error(folder, error.strerror or str(error))
            folders += inner

    def _list(self, folder: str, inner: list[str]) -> Iterator[tuple[str, os.stat_result]]:
        """List one folder. `inner` gets the folders in it that are to be listed."""
        prefix = f"{folder}/" if folder else ""
        listing: _Listing | None = None
        if self._again:
            listing = _Listing(_times_ns(self._root, folder), self._listings.get(folder))
        with open_folder(self._root, folder) as opened, opened.entries() as entries:
            for entry in entries:
                name = entry.name
                try:
                    if entry.is_file(follow_symlinks=False):
                        found = entry.stat(follow_symlinks=False)
                        if listing is None or listing.add(name, found.st_size, found.st_mtime_ns):
                            yield prefix + name, found
                    elif listing is None or listing.add(name, entry.is_dir(follow_symlinks=False)):
                        inner += self._inner_folder(entry, prefix + name)
                except (FileNotFoundError, NotADirectoryError):
                    self._on_vanished(prefix + name)
                except OSError as error:
                    self._on_error(prefix + name, error.strerror or str(error))
        if listing is not None:
            self._listings[folder] = listing

    def _inner_folder(self, entry: os.DirEntry[str], path: str) -> tuple[str, ...]:
        """Return the path if this is a folder to be listed; otherwise report what it is, and return nothing."""
        if not entry.is_dir(follow_symlinks=False):
            self._on_skipped(path, SkipReason.LINK if entry.is_symlink() else SkipReason.NOT_A_FILE)
        elif not self._wants_folder(path):
            self._on_skipped(path + "/", SkipReason.HIDDEN)
        elif _is_junction(entry):
            self._on_skipped(path, SkipReason.LINK)
        else:
            return (path,)
        return ()


def _times_ns(root: Path, folder: str) -> tuple[int, int] | None:
    """Return mtime and ctime of a folder; None if they are unknown, or may stay the same when it changes again."""
    try:
        found = os.stat(os.path.join(root, folder))  # noqa: PTH116, PTH118 - faster than pathlib
    except OSError:
        return None
    times_ns, now_ns = (found.st_mtime_ns, found.st_ctime_ns), time.time_ns()
    return None if any(abs(now_ns - each) < clock_tick_ns(each) for each in times_ns) else times_ns


def _is_junction(entry: os.DirEntry[str]) -> bool:
    """Return whether a folder is a junction, which links to another place (Windows)."""
    if sys.platform != "win32":
        return False
    tag = entry.stat(follow_symlinks=False).st_reparse_tag
    return tag == stat.IO_REPARSE_TAG_MOUNT_POINT


def network_filesystem(root: Path, mounts: str | None = None) -> str | None:
    """Return the kind of network filesystem that holds `root`, such as `nfs4`; None for a local or an unknown one.

    `mounts` is the text of `/proc/self/mountinfo`; default: read it (Linux only).
    """
    try:
        place = real_path(root)
        if mounts is not None or sys.platform == "linux":
            kind = _mounted_kind(place, _mountinfo() if mounts is None else mounts)
            return kind if kind in _NETWORK_FILESYSTEMS or kind.startswith("fuse.") else None
        if sys.platform == "win32":
            drive = os.path.splitdrive(place)[0]
            remote = 4  # DRIVE_REMOTE of GetDriveTypeW
            is_remote = drive.startswith("\\\\") or (
                ctypes.windll.kernel32.GetDriveTypeW(drive + "\\") == remote
            )
            return "network drive" if is_remote else None
        if sys.platform == "darwin":
            # struct statfs of sys/mount.h: f_flags at 64 (MNT_LOCAL 0x1000), f_fstypename[16] at 72.
            libc = ctypes.CDLL(None)
            statfs = getattr(libc, "statfs$INODE64", None) or libc.statfs
            buffer = ctypes.create_string_buffer(4096)
            if statfs(os.fsencode(place), buffer) == 0:
                local = int.from_bytes(buffer.raw[64:68], sys.byteorder) & 0x1000
                return None if local else buffer.raw[72:88].split(b"\0")[0].decode("ascii", "replace")
    except (OSError, ValueError, AttributeError):
        _log.debug("The filesystem of %s is unknown.", root, exc_info=True)
    return None


def stable_inodes(root: Path) -> bool:
    """Return whether a file below `root` keeps its inode number, so that a new number means a new file."""
    if os.name == "nt" or network_filesystem(root) is not None:
        return False
    if sys.platform != "linux":
        return True
    try:
        return _mounted_kind(os.path.realpath(root), _mountinfo()) not in _WITHOUT_INODES
    except OSError:
        return False


def link_counts_include_folders(root: str) -> bool:
    """Return whether `root` is on one of `_COUNTING_FILESYSTEMS`."""
    with contextlib.suppress(OSError):
        return _mounted_kind(os.path.realpath(root), _mountinfo()) in _COUNTING_FILESYSTEMS
    return False


def _mountinfo() -> str:
    return Path("/proc/self/mountinfo").read_bytes().decode("utf-8", "surrogateescape")


def _mounted_kind(place: str, mounts: str) -> str:
    best, kind = -1, ""
    for point, _, rest in _mounts(mounts):
        fields = rest.split(" ")
        inside = point == "/" or place == point or place.startswith(point + "/")
        if inside and len(point) >= best:  # a later mount at the same place covers the earlier
            # WSL 2 mounts a Windows drive as 9p, with this option.
            is_drive = fields[0] == "9p" and "aname=drvfs" in rest
            best, kind = len(point), "drvfs" if is_drive else fields[0]
    return kind


def _mounts(mounts: str) -> Iterator[tuple[str, str, str]]:
    """Yield mount point, mount id, and filesystem type with what follows it; proc_pid_mountinfo(5)."""
    for line in mounts.split("\n"):
        fields, _, rest = line.partition(" - ")
        parts = fields.split(" ")
        if len(parts) >= 5 and len(rest.split(" ")) >= 3:
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), parts[4])
            yield point, parts[0], rest


def mounts_below(place: str, mounts: str | None = None) -> frozenset[tuple[str, str]]:
    """Return (mount point, mount id) of each filesystem mounted below a resolved path; empty if that is unknown."""
    if mounts is None:
        try:
            mounts = _mountinfo()
        except OSError:
            return frozenset()
    inside = place.rstrip("/") + "/"
    if inside not in mounts and "\\" not in mounts:
        return frozenset()  # the usual case
    return frozenset((point, mount) for point, mount, _ in _mounts(mounts) if point.startswith(inside))
