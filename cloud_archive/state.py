"""Find, make and lock the state directory, and find running engines.

    engine.json            port, process and token of the running engine (mode 0600)
    engine.lock            held by the engine that archives
    prune.lock             held by `prune --yes`
    engine.log             the engine's log, rotated; an engine that stands by writes standby.log
    ledger.sqlite3         the ledger
    ledger.began           the time of the first start, so that a missing ledger is noticed
    ledger.other           a folder with a copy of another ledger, during a first start
    catalog.sqlite3        the catalog
    thumbnails.sqlite3     cached thumbnails
    jobs.sqlite3           jobs of ComfyUI, and the webhooks to be sent
    watched_directory      the id of the watched directory that has claimed this directory
    *.damaged-*            a database that could not be used, with the time in its name

The state directory is `CLOUD_ARCHIVE_STATE_DIR` if that is set, else inside ComfyUI its system user directory. A second
watched directory that uses the same one gets a folder inside it. Without either, each watched directory has a folder in
the platform's state directory; if that can't be written, `.cloud-archive-state` in the watched directory.

A pointer file in the platform's state directory, named after the watched directory's id, says where its state directory
is, so that every command finds it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import platformdirs
from filelock import BaseFileLock, FileLock, Timeout

from .beneath import open_folder
from .errors import CloudArchiveError
from .files import real_path
from .private_files import NotPrivate, find_foreign_access, make_private_directory, write_private

logger = logging.getLogger("cloud_archive.state")

LEDGER_NAME = "ledger.sqlite3"
BEGAN_NAME = "ledger.began"
LOG_NAME = "engine.log"
STANDBY_LOG_NAME = "standby.log"
FALLBACK_NAME = ".cloud-archive-state"
_ENGINE_NAME = "engine.json"
_LOCK_NAME = "engine.lock"
_PRUNE_LOCK_NAME = "prune.lock"
OWNER_NAME = "watched_directory"
_LOCK_TEST_SECONDS = 0.05  # much longer than `engine_lock_is_held` holds a free lock


class EngineInfo(NamedTuple):
    """How to call an engine: its port on loopback, and the token that calls need."""

    pid: int
    port: int
    token: str
    watched_directory: str
    version: str

    def __repr__(self) -> str:
        return f"EngineInfo(pid={self.pid}, port={self.port}, watched_directory={self.watched_directory!r})"


def _root_id(root: Path) -> str:
    """Return the id of a watched directory: a hash of its real path."""
    real = os.path.normcase(real_path(root))
    return hashlib.sha256(os.fsencode(real)).hexdigest()[:12]


def _folder_name(root: Path) -> str:
    word = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(real_path(root)).name).strip("-")[:40] or "root"
    return f"{word}-{_root_id(root)}"


def platform_state_directory() -> Path:
    """Return the platform's state directory for this program. Raises OSError if this user has no home directory."""
    try:
        path = platformdirs.user_state_path("cloud-archive", appauthor=False)
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, "This user has no home directory") from error
    if not path.is_absolute():
        raise FileNotFoundError(errno.ENOENT, "This user has no home directory")
    return path


def find_state_directory(root: Path, base: Path | None) -> Path:
    """Return the state directory of `root`, without making anything.

    Args:
        base: CLOUD_ARCHIVE_STATE_DIR, or ComfyUI's system user directory. None = the state directory of the last engine
            for `root`. If that is not known, the folder in the platform's state directory, or `.cloud-archive-state` in
            `root` if only that can be entered or this user has no home directory.
    """
    if base is None:
        return _last_state_directory(root) or _default_directory(root)
    try:
        owner = (base / OWNER_NAME).read_text("utf-8", "replace").strip()
    except OSError:
        return base
    return base if owner == _root_id(root) else base / _folder_name(root)


def _default_directory(root: Path) -> Path:
    fallback = root / FALLBACK_NAME
    try:
        usual = platform_state_directory() / _folder_name(root)
    except OSError:
        return fallback
    # Not `Path.is_dir`, which raises an error if `root` can't be entered.
    if os.access(usual, os.X_OK) or not os.path.isdir(fallback):  # noqa: PTH112
        return usual
    with contextlib.suppress(OSError):
        if find_foreign_access(fallback, root_trusts_owner=True):
            return usual  # anybody may have prepared a ledger there
    return fallback


def make_state_directory(root: Path, base: Path | None, *, keep_mode: bool = False) -> Path:
    """Make the state directory with mode 0700, and return it. Claim `base` for `root`, if it is free.

    Raises CloudArchiveError if it can't be made, or if other users may change it.

    Args:
        base: see `find_state_directory`. None = the folder in the platform's state directory, or `.cloud-archive-state`
            in `root` if that can't be used.
        keep_mode: keep the mode of an existing `base`, because the user chose it.
    """
    if base is not None:
        _make_private(base, keep_mode=keep_mode)
        with contextlib.suppress(OSError):
            _claim(base, root)
        directory = find_state_directory(root, base)
        if directory != base:
            _make_private(directory)
        return directory
    directory = _default_directory(root)
    try:
        _make_private(directory)
        # Keep a directory that holds a ledger, even if it is read-only. (`Path.exists` raises an error if it can't be
        # entered.)
        if os.access(directory, os.W_OK) or os.path.exists(directory / LEDGER_NAME):  # noqa: PTH110
            return directory
    except CloudArchiveError:
        if directory.name == FALLBACK_NAME:
            raise
    _make_private(root / FALLBACK_NAME)
    return root / FALLBACK_NAME


def sibling_state_directories(state_directory: Path) -> list[Path]:
    """Return the state directories that share a place with this one and have a ledger, last used first.

    That place is CLOUD_ARCHIVE_STATE_DIR, ComfyUI's system user directory, or the platform's state directory. Leaves
    out those that other users may change; root accepts any owner.
    """
    place = state_directory.parent
    found: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        claimed = (place / OWNER_NAME).is_file()
        if not claimed and place != platform_state_directory():
            return []
        for each in [*([place] if claimed else []), *place.iterdir()]:
            with contextlib.suppress(OSError):
                used = (each / LEDGER_NAME).stat().st_mtime
                if each != state_directory and not find_foreign_access(each, root_trusts_owner=True):
                    found.append((used, each))
    return [each for _, each in sorted(found, reverse=True)]


def _claim(base: Path, root: Path) -> None:
    """Claim `base` for `root`, unless it is claimed already."""
    with open_folder(base) as folder:
        if folder.exists(OWNER_NAME):
            return
        fresh = f"{OWNER_NAME}.{secrets.randbelow(10**12)}.new"
        with folder.create(fresh, 0o600) as file:
            file.write(f"{_root_id(root)}\n".encode())
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave an empty claim
        if not folder.rename_new(fresh, OWNER_NAME):
            folder.unlink(fresh)


def _make_private(directory: Path, *, keep_mode: bool = False) -> None:
    try:
        make_private_directory(directory, keep_mode=keep_mode)
    except NotPrivate as error:
        raise CloudArchiveError(
            f"The state directory {directory} is not safe: {error}. Set CLOUD_ARCHIVE_STATE_DIR to a directory"
            f" that doesn't exist yet, such as {directory / 'cloud-archive'}; it is made for you alone."
        ) from error
    except OSError as error:
        raise CloudArchiveError(
            f"The state directory {directory} can't be made: {error.strerror}."
            " Set CLOUD_ARCHIVE_STATE_DIR to a directory that can be written."
        ) from error


class DirectoryLock:
    """Allow one engine per watched directory on this machine. When the process ends, the system releases the lock.

    It consists of two locks. The one in the state directory protects the ledger. The other, named after the watched
    directory's id, keeps out engines with another state directory.

    Args:
        machine_wide: take the second lock too. False: write nothing outside the state directory.

    Attributes:
        unlocked: no lock could be made; archiving then continues without one.
    """

    def __init__(self, state_directory: Path, root: Path, *, machine_wide: bool = True) -> None:
        self.unlocked = False
        # Not thread-local, because one thread may start the engine and another one stop it.
        self._locks = [FileLock(state_directory / _LOCK_NAME, mode=0o600, thread_local=False)]
        if not machine_wide:
            return
        with contextlib.suppress(OSError):
            path = lock_folder() / f"{_root_id(root)}.lock"
            self._locks.append(FileLock(path, mode=0o600, thread_local=False))

    def acquire(self) -> bool:
        """Take both locks. Return False, and hold neither, if another engine holds one.

        A lock that can't be made (a read-only disk) is skipped.
        """
        taken: list[BaseFileLock] = []
        for lock in self._locks:
            try:
                lock.acquire(_LOCK_TEST_SECONDS, poll_interval=0.01)
            except Timeout:
                for held in taken:
                    held.release()
                return False
            except (OSError, NotImplementedError) as error:
                logger.warning("Archiving continues without the lock %s: %s", lock.lock_file, error)
                continue
            taken.append(lock)
        self.unlocked = not taken
        return True

    def release(self) -> None:
        """Release both locks."""
        for lock in self._locks:
            lock.release()


def engine_lock_is_held(state_directory: Path) -> bool:
    """Return whether an engine holds the lock in this state directory; True also if it can't be tried."""
    path = state_directory / _LOCK_NAME
    if not path.exists():
        return False  # filelock may remove the file of a lock that is released
    lock = FileLock(path, mode=0o600, thread_local=False)
    try:
        lock.acquire(_LOCK_TEST_SECONDS, poll_interval=0.01)
    except (Timeout, OSError, NotImplementedError):
        return True
    lock.release()
    return False


@contextlib.contextmanager
def prune_lock(state_directory: Path, wait_seconds: float = 0.0) -> Iterator[bool]:
    """Hold the lock of `prune --yes` in this state directory. Yield False if another process holds it after this time.

    A lock that can't be made (a filesystem without locks) counts as held, as in `DirectoryLock`.
    """
    lock = FileLock(state_directory / _PRUNE_LOCK_NAME, mode=0o600, thread_local=False)
    try:
        lock.acquire(max(wait_seconds, _LOCK_TEST_SECONDS), poll_interval=0.01)
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        logger.info("Continuing without the lock %s: %s", lock.lock_file, error)
    try:
        yield True
    finally:
        lock.release()


def lock_folder() -> Path:
    """Return a folder for locks that no other user can write to. Raises OSError if there is none."""
    for folder in possible_lock_folders():
        try:
            make_private_directory(folder, keep_mode=False)
        except NotPrivate as error:
            logger.warning("%s is not used for locks: %s", folder, error)
            continue
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise OSError("no folder for locks")


def possible_lock_folders() -> list[Path]:
    """Return the folders of which `lock_folder` takes the first usable one; some may not exist."""
    folders = [shared_lock_folder()]
    with contextlib.suppress(OSError):
        folders.insert(0, platform_state_directory() / "locks")
    return folders


def shared_lock_folder() -> Path:
    """Return this user's folder for locks in the system's temporary directory."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"cloud-archive-locks-{user}"


def _pointer_path(root: Path) -> Path:
    # Only in the user's own state directory, so that no other user can redirect our calls.
    return platform_state_directory() / "locks" / f"{_root_id(root)}.state"


def _read_pointer(pointer: Path) -> Path | None:
    try:
        directory = Path(pointer.read_text("utf-8", "surrogateescape").strip())
    except (OSError, ValueError):
        return None
    return directory if directory.is_absolute() else None  # after a power cut the file may be empty


def _last_state_directory(root: Path) -> Path | None:
    with contextlib.suppress(OSError):
        directory = _read_pointer(_pointer_path(root))
        if directory is not None and directory.is_dir():
            return directory
    return None


def known_state_directories() -> list[Path]:
    """Return the last state directory of each watched directory of this user on this machine; some may be gone."""
    with contextlib.suppress(OSError):
        pointers = sorted((platform_state_directory() / "locks").glob("*.state"))
        return [directory for each in pointers if (directory := _read_pointer(each)) is not None]
    return []


def registered_engines() -> list[EngineInfo]:
    """Return the last engine of each state directory of this user; some of them may have ended."""
    return [info for each in known_state_directories() if (info := read_engine_info(each)) is not None]


def write_engine_info(state_directory: Path, info: EngineInfo, *, machine_wide: bool = True) -> None:
    """Write engine.json, so that other processes of this user find the engine. Raises OSError.

    With `machine_wide` also write the pointer, for processes that don't know the state directory.
    """
    write_private(state_directory / _ENGINE_NAME, json.dumps(info._asdict()))
    if not machine_wide:
        return
    with contextlib.suppress(OSError, ValueError):
        write_private(_pointer_path(Path(info.watched_directory)), str(state_directory))


def read_engine_info(state_directory: Path) -> EngineInfo | None:
    """Return the last engine of this state directory, which may have ended.

    None: engine.json is missing or can't be read, or other users could have written it. Root accepts any owner.
    """
    try:
        if find_foreign_access(state_directory, root_trusts_owner=True):
            return None
        fields = json.loads((state_directory / _ENGINE_NAME).read_text("utf-8"))
        return EngineInfo(**fields)
    except (OSError, ValueError, TypeError):
        return None


def remove_engine_info(state_directory: Path, pid: int) -> None:
    """Remove engine.json if it is that of process `pid`."""
    info = read_engine_info(state_directory)
    if info is not None and info.pid == pid:
        with contextlib.suppress(OSError):
            (state_directory / _ENGINE_NAME).unlink()
