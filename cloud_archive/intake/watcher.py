"""What the filesystem tells: `scan()` of a tree, and hints from the system's own events.

Yields paths and decides nothing. Events are hints, the scan is the truth: whatever may have been missed is said
through `on_lost`, and somebody scans. The only module that imports watchdog.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import queue
import re
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from ..files import FileVersion, HintKind

_log = logging.getLogger("cloud_archive.watcher")

WatchMode = Literal["auto", "native", "poll"]

# Only what is used: it keeps the kernel's queue short. Close events exist on Linux; elsewhere a modification is the
# only sign that a file was written anew.
_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent if sys.platform == "linux" else FileModifiedEvent,
]
_KINDS: dict[str, HintKind] = {
    "created": HintKind.CREATED,
    "modified": HintKind.CREATED,
    "closed": HintKind.CLOSED,
    "moved": HintKind.MOVED,
}
_MECHANISMS = {"linux": "inotify", "darwin": "FSEvents", "win32": "ReadDirectoryChangesW"}
# What inotify_add_watch answers at a limit, rather than about one directory; inotify(7).
_LIMITS = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_RETRY_SECONDS = 60.0
_MOST_DARK = 1000

# Filesystems whose files other machines (or the host of this virtual one) write without an event here; inotify(7):
# "reports only events that a user-space program triggers through the filesystem API", so nothing remote. Every FUSE
# filesystem counts (sshfs, rclone, mergerfs, Docker Desktop's shares): what happens behind it is not told.
# fuseblk is a local disk (NTFS), overlay is local too. fakeowner is what Docker Desktop lays over its shares:
# https://github.com/docker/desktop-feedback/issues/626
# fmt: off
_REMOTE = frozenset(
    (
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "9p", "ceph", "lustre",
        "beegfs", "gpfs", "ocfs2", "gfs2", "orangefs", "pvfs2", "vboxsf", "vmhgfs", "prl_fs",
        "drvfs", "virtiofs", "hgfs", "fuse", "fakeowner",
    )
)
# fmt: on


def _everything(path: str) -> bool:
    return True


def _ignore_error(path: str, reason: str) -> None:
    _log.debug("cannot read %r: %s", path, reason)


def scan(
    root: Path,
    wants_directory: Callable[[str], bool] = _everything,
    on_error: Callable[[str, str], None] = _ignore_error,
    *,
    below: str = "",
) -> Iterator[FileVersion]:
    """Every regular file below `root`, in one pass.

    Links are not followed, neither to files nor to directories; pipes, sockets and devices are no files. What
    vanishes on the way is passed over. Memory does not grow with the number of files.

    Args:
        root: the watched directory.
        wants_directory: asked with the relative path of each directory; False leaves out all that is in it.
        on_error: told the relative path (`""` for the root itself) and the system's reason where a directory or
            file cannot be looked at; the scan goes on. A path longer than the system takes is such a reason.
        below: start in this directory instead, still yielding paths relative to `root`.
    """
    of_stat = FileVersion.of_stat
    for path, found in walk(root, wants_directory, on_error, below=below):
        yield of_stat(path, found)


def walk(
    root: Path,
    wants_directory: Callable[[str], bool] = _everything,
    on_error: Callable[[str, str], None] = _ignore_error,
    *,
    below: str = "",
) -> Iterator[tuple[str, os.stat_result]]:
    """As `scan`, for a million files of which nearly all are known: relative paths, and what `stat` says of each."""
    folders = [(str(root / below) if below else str(root), f"{below}/" if below else "")]
    while folders:
        folder, prefix = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        if entry.is_file(follow_symlinks=False):
                            yield prefix + entry.name, entry.stat(follow_symlinks=False)
                        elif entry.is_dir(follow_symlinks=False):
                            path = prefix + entry.name
                            if wants_directory(path) and not _is_junction(entry):
                                folders.append((entry.path, path + "/"))
                    except (FileNotFoundError, NotADirectoryError):
                        continue
                    except OSError as error:
                        on_error(prefix + entry.name, error.strerror or str(error))
        except (FileNotFoundError, NotADirectoryError) as error:
            if not prefix:
                on_error("", error.strerror or str(error))
        except OSError as error:
            on_error(prefix[:-1], error.strerror or str(error))


def _is_junction(entry: os.DirEntry[str]) -> bool:
    """Whether a Windows directory is a link to another place."""
    if sys.platform != "win32":
        return False
    tag = entry.stat(follow_symlinks=False).st_reparse_tag
    return tag == stat.IO_REPARSE_TAG_MOUNT_POINT


def network_filesystem(root: Path, mounts: str | None = None) -> str | None:
    """The kind of filesystem below `root` where events cannot be relied on, such as `nfs4`; None for local ones.

    Args:
        root: an existing directory.
        mounts: the text of `/proc/self/mountinfo`, read where not given (Linux only).
    """
    try:
        place = os.path.realpath(root)
        if mounts is not None or sys.platform == "linux":
            if mounts is None:
                raw = Path("/proc/self/mountinfo").read_bytes()
                mounts = raw.decode("utf-8", "surrogateescape")
            kind = _mounted_kind(place, mounts)
            return kind if kind in _REMOTE or kind.startswith("fuse.") else None
        if sys.platform == "win32":
            drive = os.path.splitdrive(place)[0]
            remote = 4  # DRIVE_REMOTE, GetDriveTypeW
            far = drive.startswith("\\\\") or (ctypes.windll.kernel32.GetDriveTypeW(drive + "\\") == remote)
            return "network drive" if far else None
        if sys.platform == "darwin":
            # struct statfs of sys/mount.h: f_flags at 64 (MNT_LOCAL 0x1000), f_fstypename[16] at 72.
            libc = ctypes.CDLL(None)
            statfs = getattr(libc, "statfs$INODE64", None) or libc.statfs
            buffer = ctypes.create_string_buffer(4096)
            if statfs(os.fsencode(place), buffer) == 0:
                local = int.from_bytes(buffer.raw[64:68], sys.byteorder) & 0x1000
                return None if local else buffer.raw[72:88].split(b"\0")[0].decode("ascii", "replace")
    except (OSError, ValueError, AttributeError):
        _log.debug("cannot tell the filesystem of %s", root, exc_info=True)
    return None


def _mounted_kind(place: str, mounts: str) -> str:
    """Return the filesystem type of the innermost mount above `place`."""
    best, kind = -1, ""
    for point, _, rest in _mounts(mounts):
        after = rest.split(" ")
        inside = point == "/" or place == point or place.startswith(point + "/")
        if inside and len(point) >= best:  # of two on one place, the later covers the earlier
            # A Windows drive in WSL 2 is a 9p mount that says so in its options.
            drive = after[0] == "9p" and "aname=drvfs" in rest
            best, kind = len(point), "drvfs" if drive else after[0]
    return kind


def _mounts(mounts: str) -> Iterator[tuple[str, str, str]]:
    """Yield mount point, mount id, and filesystem type with what follows it; proc_pid_mountinfo(5)."""
    for line in mounts.split("\n"):
        fields, _, rest = line.partition(" - ")
        parts = fields.split(" ")
        if len(parts) >= 5 and len(rest.split(" ")) >= 3:
            point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), parts[4])
            yield point, parts[0], rest


def mounts_below(place: str, mounts: str | None = None) -> frozenset[tuple[str, str]]:
    """Return (mount point, mount id) of each filesystem that is mounted below `place`; empty where none can be seen.

    Args:
        place: a directory, without symlinks.
        mounts: the text of `/proc/self/mountinfo`; default: read it (Linux only).
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_bytes().decode("utf-8", "surrogateescape")
        except OSError:
            return frozenset()
    inside = place.rstrip("/") + "/"
    if inside not in mounts and "\\" not in mounts:
        return frozenset()  # asked every few seconds: nearly always there is none
    return frozenset((point, name) for point, name, _ in _mounts(mounts) if point.startswith(inside))


class Watcher:
    """Turns the system's events below one directory into hints.

    Args:
        root: the watched directory, which may be a symlink; it may be missing for a while.
        mode: `native` = the system's events; `poll` = none; `auto` = native, but not on network filesystems.
        on_hint: called with a relative path and how it came to notice; from several threads, must be quick.
        on_lost: called with a reason when events may have been missed, so that somebody scans at once.
        wants_directory: asked before a directory that is new is looked into; see `scan`.

    Polling has no thread here: whoever reads `polling` scans on a schedule of its own. Call `check` every few
    seconds. `start`, `stop` and `check` may be called from any thread.
    """

    def __init__(
        self,
        root: Path,
        *,
        mode: WatchMode,
        on_hint: Callable[[str, HintKind], None],
        on_lost: Callable[[str], None],
        wants_directory: Callable[[str], bool] = _everything,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = Path(os.path.abspath(root))  # noqa: PTH100  resolve() would follow links
        self._place = str(self._root)  # where it really is, since watches are set
        self._mounts: frozenset[tuple[str, str]] = frozenset()  # the filesystems mounted below it
        self._mode = mode
        self._on_hint = on_hint
        self._on_lost = on_lost
        self._wants_directory = wants_directory
        self._clock = clock
        self._lock = threading.RLock()
        self._running = False
        self._setting_up = False
        self._observer: Any = None
        self._subtrees: _Subtrees | None = None
        self._identity: tuple[int, int] | None = None
        self._why_polling: str | None = "not started"
        self._why_blind: str | None = None  # native, but part of the tree has no watch
        self._retry_at: float | None = None
        self._dark: set[str] = set()  # directories without a watch for want of permission

    @property
    def polling(self) -> bool:
        """Whether events do not come, or not from everywhere, so that scans must take their place."""
        return self._why_polling is not None or self._why_blind is not None

    @property
    def description(self) -> str:
        """What is in use and why, as the status shows it."""
        if self._why_polling is not None:
            return f"polling: {self._why_polling}"
        native = f"native events ({_MECHANISMS.get(sys.platform, 'kqueue')})"
        return native if self._why_blind is None else f"{native} and polling: {self._why_blind}"

    def start(self) -> None:
        """Begin. Never fails: where native events cannot be had it polls, and `description` says why."""
        with self._lock:
            if not self._running:
                self._running = True
                self._watch()

    def stop(self, timeout_seconds: float) -> None:
        """End; hints may come until this returns, none after it unless the time ran out."""
        with self._lock:
            self._running = False
            self._unwatch(timeout_seconds)
            self._why_polling, self._why_blind, self._retry_at = "stopped", None, None

    def check(self) -> None:
        """See whether events still come, and make them come again where they do not.

        Notices a root that is gone, back or another one, a filesystem that was mounted or unmounted below it, and a
        thread that died, and tries again after a limit.
        """
        with self._lock:
            if not self._running:
                return
            identity = _identity(self._root)
            if identity != self._identity:
                gone = "the watched directory is gone"
                reason = gone if identity is None else "the watched directory is another one now"
            elif mounts_below(self._place) != self._mounts:
                reason = "a filesystem was mounted or unmounted in the watched directory"
            elif self._observer is not None and (dead := self._dead_thread()):
                reason = f"the thread {dead} had ended"
            elif self._retry_at is not None and self._clock() >= self._retry_at:
                reason = "watching was tried again"
            elif any(os.access(each, os.R_OK) for each in tuple(self._dark)):
                reason = "a directory can be watched now"
            else:
                return
            self._unwatch(5.0)
            self._watch()
        self._lost(reason)

    def _dead_thread(self) -> str | None:
        """The name of a thread that should run and does not; watchdog's own helpers included."""
        threads: list[threading.Thread] = [self._observer, *self._observer.emitters]
        for thread in tuple(threads):
            threads += [each for each in vars(thread).values() if isinstance(each, threading.Thread)]
        if self._subtrees is not None:
            threads.append(self._subtrees)
        if not self._observer.emitters:
            return "emitter"
        return next((each.name for each in threads if not each.is_alive()), None)

    def _watch(self) -> None:
        """Set up native watching, or say why not. With the lock held."""
        self._why_polling = self._why_blind = self._retry_at = None
        self._dark.clear()
        self._identity = _identity(self._root)
        # inotify sets no watch through a symlink. Windows follows it by itself, and resolving turns drives into shares.
        self._place = str(self._root) if sys.platform == "win32" else os.path.realpath(self._root)
        self._mounts = mounts_below(self._place)
        if self._mode == "poll":
            self._why_polling = "CLOUD_ARCHIVE_WATCH=poll"
        elif self._identity is None:
            self._why_polling = "the watched directory is missing"
        elif self._mode == "auto" and (network := network_filesystem(self._root)):
            self._why_polling = f"{network} filesystem"
        if self._why_polling is not None:
            return
        observer: Any = None
        subtrees = _Subtrees(self._look_into)
        self._setting_up = True
        try:
            observer = _new_observer()
            _listen_for_losses(observer, self._blind, self._overflowed)
            handler = _Handler(self._place, self._on_hint, subtrees, self._lost)
            subtrees.start()
            observer.schedule(handler, self._place, recursive=True, event_filter=_EVENTS)
            observer.start()
        except Exception as error:
            # Watch and instance limits, permissions, a system without the mechanism: all end in polling.
            reason = error.strerror if isinstance(error, OSError) else None
            self._why_polling = reason or str(error) or type(error).__name__
            self._retry_at = self._clock() + _RETRY_SECONDS
            _log.warning("native watching cannot be set up: %s", self._why_polling)
            subtrees.end()
            if observer is not None:
                _end(observer, 5.0)
            return
        finally:
            self._setting_up = False
        self._observer, self._subtrees = observer, subtrees

    def _unwatch(self, timeout_seconds: float) -> None:
        observer, self._observer = self._observer, None
        subtrees, self._subtrees = self._subtrees, None
        if subtrees is not None:
            subtrees.end()
        if observer is not None:
            _end(observer, timeout_seconds)
        if subtrees is not None and subtrees is not threading.current_thread():
            subtrees.join(timeout_seconds)

    def _look_into(self, path: str, kind: HintKind, ended: threading.Event) -> None:
        """Hint what is in a directory that is new: files in it may never have an event of their own."""
        try:
            if not self._wants_directory(path):
                return
            for found in scan(self._root, self._wants_directory, self._cannot_look, below=path):
                if ended.is_set():
                    return
                self._on_hint(found.path, kind)
        except Exception:
            _log.exception("could not look into %r", path)
            self._lost(f"a new directory could not be looked into: {path}")

    def _cannot_look(self, path: str, reason: str) -> None:
        place = str(self._root / path)
        if not os.access(place, os.R_OK) and len(self._dark) < _MOST_DARK:
            self._dark.add(place)
        self._lost(f"{path} cannot be looked into: {reason}")

    def _overflowed(self) -> None:
        self._lost("the system's event queue overflowed")

    def _blind(self, path: str, error: OSError) -> None:
        """A directory got no watch. Called from watchdog's thread, perhaps under its locks."""
        if error.errno in _LIMITS:
            # Not under our lock: check() may hold it while it waits for the thread that calls this.
            self._why_blind = error.strerror or str(error)
            self._retry_at = self._clock() + _RETRY_SECONDS
        elif error.errno in (errno.EACCES, errno.EPERM) and len(self._dark) < _MOST_DARK:
            self._dark.add(path)
        _log.debug("no watch on %r: %s", path, error)
        if not self._setting_up:  # else whoever set it up scans anyway
            self._lost(f"a directory could not be watched: {error.strerror or error}")

    def _lost(self, reason: str) -> None:
        try:
            self._on_lost(reason)
        except Exception:
            _log.exception("could not report lost events")


class _Handler(FileSystemEventHandler):
    """Called by the observer's thread for each event, and never raises: an exception would end that thread."""

    def __init__(
        self,
        place: str,
        on_hint: Callable[[str, HintKind], None],
        subtrees: _Subtrees,
        lost: Callable[[str], None],
    ) -> None:
        self._prefix = place.rstrip(os.sep) + os.sep
        self._on_hint = on_hint
        self._subtrees = subtrees
        self._lost = lost

    def dispatch(self, event: FileSystemEvent) -> None:
        try:
            # Synthetic ones stand for the content of a directory that was moved; that is scanned here anyway.
            if not event.is_synthetic:
                self._handle(event)
        except Exception:
            _log.exception("an event could not be handled")
            self._lost("an event could not be handled")

    def _handle(self, event: FileSystemEvent) -> None:
        kind = _KINDS.get(event.event_type)
        place = os.fsdecode((event.dest_path if kind is HintKind.MOVED else event.src_path) or "")
        if kind is None or not place.startswith(self._prefix):
            return  # moved out of the tree, or the root itself
        path = place[len(self._prefix) :]
        if os.sep != "/":
            path = path.replace(os.sep, "/")
        if event.is_directory:
            self._subtrees.put(path, kind)
        else:
            self._on_hint(path, kind)


class _Subtrees(threading.Thread):
    """Looks into new directories, so that the observer's thread goes on handling events meanwhile."""

    def __init__(self, look_into: Callable[[str, HintKind, threading.Event], None]) -> None:
        super().__init__(name="cloud-archive-new-directories", daemon=True)
        self._look_into = look_into
        self._paths: queue.SimpleQueue[tuple[str, HintKind] | None] = queue.SimpleQueue()
        self._ended = threading.Event()

    def put(self, path: str, kind: HintKind) -> None:
        self._paths.put((path, kind))

    def end(self) -> None:
        self._ended.set()
        self._paths.put(None)

    def run(self) -> None:
        while (item := self._paths.get()) is not None and not self._ended.is_set():
            self._look_into(*item, self._ended)


def _identity(root: Path) -> tuple[int, int] | None:
    """Device and inode of the watched directory, or None where it is missing."""
    try:
        found = root.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def _new_observer() -> Any:
    # On Linux only the "full" observer tells a file that was moved in from outside from one that was created.
    if sys.platform == "linux":
        from watchdog.observers.inotify import InotifyObserver

        observer: Any = InotifyObserver(generate_full_events=True)
    else:
        observer = Observer()
    observer.name = "cloud-archive-observer"
    return observer


def _end(observer: Any, timeout_seconds: float) -> None:
    """Stop and join; watchdog's own stop() waits without a limit, for threads and for a handler at work."""
    deadline = time.monotonic() + timeout_seconds

    def stop() -> None:
        try:
            observer.stop()
        except Exception:
            _log.debug("the observer did not stop cleanly", exc_info=True)

    stopper = threading.Thread(target=stop, name="cloud-archive-observer-stop", daemon=True)
    stopper.start()
    stopper.join(timeout_seconds)
    if observer.is_alive() and observer is not threading.current_thread():
        observer.join(max(0.0, deadline - time.monotonic()))


def _listen_for_losses(
    observer: Any, blind: Callable[[str, OSError], None], overflowed: Callable[[], None]
) -> None:
    """Hear of what watchdog keeps to itself: the queue's overflow, and directories that got no watch.

    watchdog 7.1 (`InotifyFD.handle_event`, `InotifyWatchGroup._add_callback`) logs the one and swallows the other.
    Older versions have no such place (5 and 6 drop both silently); there the regular scan has to do.
    """
    reader = getattr(observer, "_inotify_fd", None)
    handle_event = getattr(reader, "handle_event", None)
    add_callback = getattr(reader, "add_callback", None)
    if reader is None or handle_event is None or add_callback is None:
        return

    def handle(event: Any) -> None:
        handle_event(event)
        if getattr(event, "is_queue_overflow", False):
            overflowed()  # after watchdog set its watches anew: what appears from now on has events again

    def add(path: bytes, mask: Any, callback: Any, id_: Any) -> Any:
        try:
            if not hasattr(reader, "_get_or_create_watch"):
                return add_callback(path, mask, callback, id_)
            # As `InotifyFD._add_callback` does, but for its warning: a directory nested in a new one is added
            # twice in the ordinary course, and each time 7.1 writes out all its watches in a RuntimeWarning,
            # megabytes of it in a large tree (and where warnings are errors, its thread ends).
            with reader._lock:
                watch = reader._get_or_create_watch(path, mask)
                watch.callbacks[id_] = callback
                return watch.wd
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                blind(os.fsdecode(path), error)
            raise

    reader.handle_event = handle
    reader.add_callback = add
