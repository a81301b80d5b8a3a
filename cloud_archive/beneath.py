"""Open, create, move and remove files below a root folder without following a symbolic link below it.

A path such as `a/b/c.png` is opened one part at a time, starting at an open root, so that nobody can redirect it by
replacing a folder with a symbolic link. The root itself may be a symbolic link, because the user chose it.

    with open_file(root, "a/b/c.png") as file: ...
    with open_folder(root, "a/b") as folder:
        folder.unlink("c.png")

On POSIX this uses `openat` and related calls with `O_NOFOLLOW`. Windows has no such calls. There each folder is held
open, so that it and its parents can't be renamed, and its final path must lie below the root.

All raise OSError: FileNotFoundError or NotADirectoryError if a part is missing, a link or no plain name.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from .windows_handles import rename_once_closed

_ALWAYS = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_BINARY", "O_NOINHERIT"))
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# O_NONBLOCK, so that opening a pipe without a writer does not block.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _NOFOLLOW | _ALWAYS
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _ALWAYS
_DIRECTORY = getattr(os, "O_DIRECTORY", 0) | _ALWAYS
# O_PATH (Linux) needs no right to read the folder and raises no inotify event.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | _DIRECTORY
_NOT_IN_NAMES = re.compile(r"[/\0\\:]" if os.name == "nt" else r"[/\0]")
# Opening part by part would allow longer paths, but other programs could not open them.
_LONGEST_PATH = 4096
_LINK_ERRORS = (errno.ELOOP, getattr(errno, "EMLINK", errno.ELOOP))  # FreeBSD answers EMLINK


class Folder(ABC):
    """An open folder at or below a root. Each `name` is a single part of a path."""

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the folder; a second call does nothing."""

    @abstractmethod
    def enter(self, name: str) -> Folder:
        """Open the folder `name` in this one."""

    @abstractmethod
    def make(self, name: str) -> None:
        """Make the folder `name`. Raises FileExistsError if the name is taken."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open the regular file `name` for reading, without a buffer."""

    @abstractmethod
    def create(self, name: str, mode: int = 0o666) -> BinaryIO:
        """Create the file `name` for writing. Raises FileExistsError if the name is taken."""

    @abstractmethod
    def stat(self, name: str) -> os.stat_result:
        """Return the `stat` result of `name`; of a symbolic link, that of the link."""

    @abstractmethod
    def set_mtime(self, name: str, mtime_ns: int) -> None:
        """Set the times of last modification and access, in nanoseconds since 1970."""

    @abstractmethod
    def rename_new(self, name: str, new_name: str) -> bool:
        """Rename within the folder. Return False, and change nothing, if `new_name` is taken."""

    @abstractmethod
    def unlink(self, name: str) -> None:
        """Remove the file or symbolic link `name`."""

    @abstractmethod
    def entries(self) -> Any:
        """Return a context manager for the folder's `os.DirEntry` iterator; use the entries only inside it."""

    def exists(self, name: str) -> bool:
        """Return whether the name is taken, even by a dangling symbolic link."""
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True


class PosixFolder(Folder):
    """A folder with an open descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def of_root(cls, root: str | Path) -> PosixFolder:
        """Open the root, which may be a symbolic link."""
        return cls(os.open(root, _PASS))

    @classmethod
    def in_root(cls, root: Path, name: str) -> PosixFolder:
        """Open a folder in the root, in one call: O_NOFOLLOW concerns only the last part of a path."""
        return cls(_open(f"{root}/{_check_name(name)}", _PASS | _NOFOLLOW))

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def enter(self, name: str) -> PosixFolder:
        return PosixFolder(self._open(name, _PASS | _NOFOLLOW))

    def make(self, name: str) -> None:
        os.mkdir(_check_name(name), dir_fd=self._descriptor)

    def open(self, name: str) -> BinaryIO:
        return _open_regular(self._open(name, _READ), name)

    def create(self, name: str, mode: int = 0o666) -> BinaryIO:
        return os.fdopen(self._open(name, _CREATE, mode), "wb")

    def stat(self, name: str) -> os.stat_result:
        return os.stat(_check_name(name), dir_fd=self._descriptor, follow_symlinks=False)

    def set_mtime(self, name: str, mtime_ns: int) -> None:
        os.utime(_check_name(name), ns=(mtime_ns, mtime_ns), dir_fd=self._descriptor, follow_symlinks=False)

    def rename_new(self, name: str, new_name: str) -> bool:
        here = self._descriptor
        try:
            names = _check_name(name), _check_name(new_name)
            os.link(*names, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError:  # a filesystem without hard links
            try:
                self.create(new_name, 0o644).close()
            except FileExistsError:
                return False
            try:
                os.replace(name, new_name, src_dir_fd=here, dst_dir_fd=here)
            except BaseException:
                self.unlink(new_name)
                raise
        else:
            self.unlink(name)
        return True

    def unlink(self, name: str) -> None:
        os.unlink(_check_name(name), dir_fd=self._descriptor)

    @contextmanager
    def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        descriptor = os.open(".", os.O_RDONLY | _DIRECTORY, dir_fd=self._descriptor)
        try:
            with os.scandir(descriptor) as entries:
                yield entries
        finally:
            os.close(descriptor)

    def _open(self, name: str, flags: int, mode: int = 0o666) -> int:
        return _open(_check_name(name), flags, mode, self._descriptor)


class Kernel(Protocol):
    """The Windows calls that `HeldFolder` needs; see `windows_handles`."""

    def root_path(self, root: str | Path) -> Path:
        """Return the path in the form that has no limit of 259 characters."""

    def hold(self, path: Path) -> int:
        """Open a folder or file, following links, so that nobody can rename or remove it."""

    def release(self, handle: int) -> None:
        """Close a handle that `hold` returned."""

    def open_file(self, path: Path) -> int:
        """Open a file for reading, following links, so that others can rename and remove it. Return its descriptor."""

    def final_path(self, handle: int) -> Path:
        """Return the real path. Raises OSError if the filesystem can't tell."""

    def final_path_of_file(self, descriptor: int) -> Path:
        """Return the real path. Raises OSError if the filesystem can't tell."""


class HeldFolder(Folder):
    """A folder that is held open by its path, so that it and its parents can't be renamed.

    A few filesystems (some RAM disks) don't know final paths. There each part is checked for being a link.
    """

    def __init__(self, kernel: Kernel, path: Path, handle: int, final: Path | None) -> None:
        self._kernel, self._path, self._final = kernel, path, final
        self._handle: int | None = handle

    @classmethod
    def of_root(cls, root: str | Path, kernel: Kernel | None = None) -> HeldFolder:
        """Hold the root, which may be a symbolic link."""
        kernel = kernel or _windows_kernel()
        path = kernel.root_path(root)
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
        path = self._at(name)
        if self._final is None:
            _refuse_link(path, name)
        return _open_regular(self._checked(self._kernel.open_file(path), name), name)

    def create(self, name: str, mode: int = 0o666) -> BinaryIO:
        return os.fdopen(self._checked(_open(self._at(name), _CREATE, mode), name), "wb")

    def stat(self, name: str) -> os.stat_result:
        return self._at(name).lstat()

    def set_mtime(self, name: str, mtime_ns: int) -> None:
        _refuse_link(self._at(name), name)
        os.utime(self._at(name), ns=(mtime_ns, mtime_ns))

    def rename_new(self, name: str, new_name: str) -> bool:
        try:
            # Windows refuses a name that is taken.
            rename_once_closed(lambda: self._at(name).rename(self._at(new_name)))
        except FileExistsError:
            return False
        return True

    def unlink(self, name: str) -> None:
        self._at(name).unlink()

    @contextmanager
    def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        with os.scandir(self._path) as entries:
            self.close()  # reading may take long, and a held folder can't be renamed
            yield entries

    def _at(self, name: str) -> Path:
        return self._path / _check_name(name)

    def _expected(self, name: str) -> Path | None:
        return None if self._final is None else self._final / name

    def _checked(self, descriptor: int, name: str) -> int:
        """Return the descriptor; close it if the file lies elsewhere, because Windows has followed a link to it."""
        try:
            if self._final is not None:
                self._compare(self._kernel.final_path_of_file(descriptor), name)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _compare(self, final: Path, name: str) -> None:
        if final != self._expected(name):  # Windows paths compare without case
            raise _refusal("a link", name)


def open_folder(root: Path, path: str = "") -> Folder:
    """Open the folder `path`, relative to `root` and with `/`; an empty path is the root.

    An absolute path, which only a user names, is opened from the top of its drive.
    """
    start, path = _split_absolute(root, path)
    if len(path) > _LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    parts = path.split("/") if path else []
    in_one = parts and _FOLDER is PosixFolder
    folder: Folder = PosixFolder.in_root(start, parts.pop(0)) if in_one else _FOLDER.of_root(start)
    try:
        for part in parts:
            inner = folder.enter(part)
            folder.close()
            folder = inner
    except BaseException:
        folder.close()
        raise
    return folder


def open_file(root: Path, path: str) -> BinaryIO:
    """Open the regular file `path` below `root` for reading, without a buffer and without blocking."""
    root, path = _split_absolute(root, path)
    folder, _, name = path.rpartition("/")
    if not folder and _FOLDER is PosixFolder:  # in one call, as `PosixFolder.in_root` does
        return _open_regular(_open(f"{root}/{_check_name(name)}", _READ), name)
    with open_folder(root, folder) as opened:
        return opened.open(name)


def stat_file(root: Path, path: str) -> os.stat_result:
    """Return the `stat` result of `path` below `root`; of a symbolic link, that of the link."""
    root, path = _split_absolute(root, path)
    folder, _, name = path.rpartition("/")
    if not folder and _FOLDER is PosixFolder:
        return os.lstat(f"{root}/{_check_name(name)}")
    with open_folder(root, folder) as opened:
        return opened.stat(name)


def _split_absolute(root: Path, path: str) -> tuple[Path, str]:
    # Asked several times for each file. `isabs` is faster than pathlib.
    if not (path.startswith("/") if os.name == "posix" else os.path.isabs(path)):  # noqa: PTH117
        return root, path
    anchor = Path(path).anchor
    return Path(anchor), path[len(anchor) :]


def _open(name: str | Path, flags: int, mode: int = 0o666, folder: int | None = None) -> int:
    try:
        return os.open(name, flags, mode, dir_fd=folder)
    except OSError as error:
        if error.errno in _LINK_ERRORS:
            raise _refusal("a symbolic link", str(name)) from error
        raise


def _check_name(name: str) -> str:
    if name in ("", ".", "..") or _NOT_IN_NAMES.search(name):
        raise _refusal("not a plain name", name)
    return name


def _open_regular(descriptor: int, name: str) -> BinaryIO:
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _refusal("not a regular file", name)
        return os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def _refuse_link(path: Path, name: str) -> None:
    result = path.lstat()
    junction = getattr(result, "st_reparse_tag", 0) == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
    if stat.S_ISLNK(result.st_mode) or junction:
        raise _refusal("a link", name)


def _refusal(what: str, name: str) -> FileNotFoundError:
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
