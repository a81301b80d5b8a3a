"""Open, create, move and remove files below a root folder without following a symbolic link below it.

A path such as `a/b/c.png` is walked one part at a time from an open root, so that a folder that is replaced by a
symbolic link at any moment leads nowhere. The root itself may be a symbolic link: it is the user's choice.

    with open_file(root, "a/b/c.png") as file: ...
    with open_folder(root, "a/b") as folder:
        folder.unlink("c.png")

POSIX: `openat` and its relatives with `O_NOFOLLOW`. Windows has none of these: there each folder is held open, so that
nobody can rename it or a folder above it, and its final path must be the one below the root.

All functions raise OSError; FileNotFoundError or NotADirectoryError where a symbolic link, or nothing, is in the way.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

_ALWAYS = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_BINARY", "O_NOINHERIT"))
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# A pipe without a writer must not hold up its opener.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _NOFOLLOW | _ALWAYS
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _ALWAYS
_DIRECTORY = getattr(os, "O_DIRECTORY", 0) | _ALWAYS
# O_PATH (Linux) needs no right to read the folder and raises no inotify event.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | _DIRECTORY
_SEPARATORS = ("/", "\\", ":") if os.name == "nt" else ("/",)
# Step by step, longer paths could be walked; other programs could not open what lies there.
_LONGEST_PATH = 4096
_LINK_ERRORS = (errno.ELOOP, getattr(errno, "EMLINK", errno.ELOOP))  # FreeBSD answers EMLINK


class Folder(ABC):
    """A folder at or below a root, open until it is closed. Names are single parts of a path."""

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Let go of the folder; a second call does nothing."""

    @abstractmethod
    def enter(self, name: str) -> Folder:
        """Open the folder `name` in this one."""

    @abstractmethod
    def make(self, name: str) -> None:
        """Make the folder `name`. Raises FileExistsError where anything has that name."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open the regular file `name` for reading, without a buffer."""

    @abstractmethod
    def create(self, name: str, mode: int = 0o666) -> BinaryIO:
        """Create the file `name` for writing. Raises FileExistsError where anything has that name."""

    @abstractmethod
    def stat(self, name: str) -> os.stat_result:
        """Return what `name` is: of a symbolic link, the link itself."""

    @abstractmethod
    def set_mtime(self, name: str, mtime_ns: int) -> None:
        """Set the time of last modification and access."""

    @abstractmethod
    def rename_new(self, name: str, new_name: str) -> bool:
        """Rename within the folder without replacing anything; False where `new_name` is taken."""

    @abstractmethod
    def unlink(self, name: str) -> None:
        """Remove the file or symbolic link `name`."""

    @abstractmethod
    def entries(self) -> Any:
        """Return a context manager with the `os.DirEntry` iterator of the folder; use each entry inside it only."""

    def exists(self, name: str) -> bool:
        """Whether anything has the name, a dangling symbolic link included."""
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True


class PosixFolder(Folder):
    """A folder by its descriptor. Where it was renamed meanwhile, it is still the same folder."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def of_root(cls, root: str | Path) -> PosixFolder:
        """Open the root, which may be a symbolic link."""
        return cls(os.open(root, _PASS))

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def enter(self, name: str) -> PosixFolder:
        return PosixFolder(self._open(name, _PASS | _NOFOLLOW))

    def make(self, name: str) -> None:
        os.mkdir(_plain(name), dir_fd=self._descriptor)

    def open(self, name: str) -> BinaryIO:
        return _regular(self._open(name, _READ), name)

    def create(self, name: str, mode: int = 0o666) -> BinaryIO:
        return os.fdopen(self._open(name, _CREATE, mode), "wb")

    def stat(self, name: str) -> os.stat_result:
        return os.stat(_plain(name), dir_fd=self._descriptor, follow_symlinks=False)

    def set_mtime(self, name: str, mtime_ns: int) -> None:
        times = (mtime_ns, mtime_ns)
        os.utime(_plain(name), ns=times, dir_fd=self._descriptor, follow_symlinks=False)

    def rename_new(self, name: str, new_name: str) -> bool:
        here = self._descriptor
        try:
            os.link(_plain(name), _plain(new_name), src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError:  # a filesystem without hard links
            try:
                self.create(new_name, 0o644).close()
            except FileExistsError:
                return False
            os.replace(name, new_name, src_dir_fd=here, dst_dir_fd=here)
        else:
            self.unlink(name)
        return True

    def unlink(self, name: str) -> None:
        os.unlink(_plain(name), dir_fd=self._descriptor)

    @contextmanager
    def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        descriptor = os.open(".", os.O_RDONLY | _DIRECTORY, dir_fd=self._descriptor)
        try:
            with os.scandir(descriptor) as found:
                yield found
        finally:
            os.close(descriptor)

    def _open(self, name: str, flags: int, mode: int = 0o666) -> int:
        return _open(_plain(name), flags, mode, self._descriptor)


class Kernel(Protocol):
    """What `HeldFolder` asks of Windows; see `windows_handles`."""

    def hold(self, path: Path) -> int:
        """Open a folder or file, symbolic links followed, so that nobody can rename or remove it."""

    def release(self, handle: int) -> None:
        """Close a held folder."""

    def final_path(self, handle: int) -> Path:
        """Return where a held folder really is. Raises OSError where the filesystem can't say."""

    def final_path_of_file(self, descriptor: int) -> Path:
        """Return where an open file really is. Raises OSError where the filesystem can't say."""


class HeldFolder(Folder):
    """A folder by its path, held open: nobody can rename it or a folder above it as long as it is.

    On the few filesystems that don't tell final paths (some RAM disks), links are recognised by a look at them.
    """

    def __init__(self, kernel: Kernel, path: Path, handle: int, final: Path | None) -> None:
        self._kernel, self._path, self._final = kernel, path, final
        self._handle: int | None = handle

    @classmethod
    def of_root(cls, root: str | Path, kernel: Kernel | None = None) -> HeldFolder:
        """Hold the root, which may be a symbolic link."""
        kernel, path = kernel or _windows_kernel(), Path(root)
        handle = _hold(kernel, path)
        try:
            return cls(kernel, path, handle, kernel.final_path(handle))
        except OSError:
            return cls(kernel, path, handle, None)

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self._kernel.release(handle)

    def enter(self, name: str) -> HeldFolder:
        path = self._at(name)
        inner = HeldFolder(self._kernel, path, _hold(self._kernel, path), self._expected(name))
        try:
            if self._final is None:
                _refuse_link(path, name)
            else:
                self._compare(self._kernel.final_path(inner._handle or 0), name)
        except BaseException:
            inner.close()
            raise
        return inner

    def make(self, name: str) -> None:
        self._at(name).mkdir()

    def open(self, name: str) -> BinaryIO:
        return _regular(self._opened(name, _READ), name)

    def create(self, name: str, mode: int = 0o666) -> BinaryIO:
        return os.fdopen(self._opened(name, _CREATE, mode), "wb")

    def stat(self, name: str) -> os.stat_result:
        return self._at(name).lstat()

    def set_mtime(self, name: str, mtime_ns: int) -> None:
        _refuse_link(self._at(name), name)
        os.utime(self._at(name), ns=(mtime_ns, mtime_ns))

    def rename_new(self, name: str, new_name: str) -> bool:
        try:
            self._at(name).rename(self._at(new_name))  # Windows refuses a name that is taken
        except FileExistsError:
            return False
        return True

    def unlink(self, name: str) -> None:
        self._at(name).unlink()

    @contextmanager
    def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        with os.scandir(self._path) as found:
            self.close()  # the listing is open; its reader may be slow and must not keep anybody from a rename
            yield found

    def _at(self, name: str) -> Path:
        return self._path / _plain(name)

    def _expected(self, name: str) -> Path | None:
        return None if self._final is None else self._final / name

    def _opened(self, name: str, flags: int, mode: int = 0o666) -> int:
        path = self._at(name)
        if self._final is None and not flags & os.O_EXCL:
            _refuse_link(path, name)
        # Links are followed, as Windows does in any case: the final path tells.
        descriptor = _open(path, flags & ~_NOFOLLOW, mode)
        try:
            if self._final is not None:
                self._compare(self._kernel.final_path_of_file(descriptor), name)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _compare(self, final: Path, name: str) -> None:
        if final != self._expected(name):  # Windows paths compare without regard to case
            raise _in_the_way("a link", name)


def open_folder(root: Path, path: str = "") -> Folder:
    """Open the folder `path`, relative to `root` and with `/`; the root itself where it is empty.

    An absolute path is walked from the top of its drive, for files that a user names by hand; what is recorded of a
    watched directory is never absolute.
    """
    start, path = _from_top(root, path)
    if len(path) > _LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    folder: Folder = _FOLDER.of_root(start)
    try:
        for part in path.split("/") if path else ():
            inner = folder.enter(part)
            folder.close()
            folder = inner
    except BaseException:
        folder.close()
        raise
    return folder


def open_file(root: Path, path: str) -> BinaryIO:
    """Open the regular file `path` below `root` for reading, without a buffer and without waiting for anybody."""
    root, path = _from_top(root, path)
    folder, _, name = path.rpartition("/")
    with open_folder(root, folder) as opened:
        return opened.open(name)


def stat_file(root: Path, path: str) -> os.stat_result:
    """Return what `path` below `root` is: of a symbolic link, the link itself."""
    root, path = _from_top(root, path)
    folder, _, name = path.rpartition("/")
    with open_folder(root, folder) as opened:
        return opened.stat(name)


def _from_top(root: Path, path: str) -> tuple[Path, str]:
    if not os.path.isabs(path):  # noqa: PTH117 - a test of a text, made for each file
        return root, path
    anchor = Path(path).anchor
    return Path(anchor), path[len(anchor) :]


def _open(name: str | Path, flags: int, mode: int = 0o666, folder: int | None = None) -> int:
    try:
        return os.open(name, flags, mode, dir_fd=folder)
    except OSError as error:
        if error.errno in _LINK_ERRORS:
            raise _in_the_way("a symbolic link", str(name)) from error
        raise


def _plain(name: str) -> str:
    if name in ("", ".", "..") or any(sign in name for sign in _SEPARATORS):
        raise _in_the_way("not a plain name", name)
    return name


def _regular(descriptor: int, name: str) -> BinaryIO:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _in_the_way("no regular file", name)
    return os.fdopen(descriptor, "rb", buffering=0)


def _refuse_link(path: Path, name: str) -> None:
    found = path.lstat()
    junction = getattr(found, "st_reparse_tag", 0) == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
    if stat.S_ISLNK(found.st_mode) or junction:
        raise _in_the_way("a link", name)


def _in_the_way(what: str, name: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, f"This is {what}", name)


def _hold(kernel: Kernel, path: Path) -> int:
    handle = kernel.hold(path)
    if path.is_dir():
        return handle
    kernel.release(handle)
    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def _windows_kernel() -> Kernel:
    if sys.platform == "win32":
        from .windows_handles import WindowsKernel

        return WindowsKernel()
    raise NotImplementedError("only Windows has handles with final paths")


_FOLDER: type[PosixFolder] | type[HeldFolder] = PosixFolder if os.open in os.supports_dir_fd else HeldFolder
