"""The state directory: where it is, who holds it, and how a running engine is found.

    engine.json            port, process and token of the running engine (mode 0600)
    engine.lock            held by the engine that archives
    engine.log             its log, rotated
    ledger.sqlite3         the ledger
    watched_directory      whose state this is

A pointer by the watched directory's real path, in the platform's state directory, tells every command where that is.

Inside ComfyUI it is ComfyUI's system user directory, or `CLOUD_ARCHIVE_STATE_DIR`; a second watched directory that
comes with the same one gets a folder of its own inside. Outside, one folder per watched directory in the
platform's state directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
from filelock import BaseFileLock, FileLock, Timeout

from .errors import CloudArchiveError

logger = logging.getLogger("cloud_archive.state")

LEDGER_NAME = "ledger.sqlite3"
LOG_NAME = "engine.log"
_ENGINE_NAME = "engine.json"
_OWNER_NAME = "watched_directory"


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Where a running engine listens (loopback), and the token that it asks for."""

    pid: int
    port: int
    token: str
    watched_directory: str
    version: str

    def __repr__(self) -> str:
        return f"EngineInfo(pid={self.pid}, port={self.port}, watched_directory={self.watched_directory!r})"


def _mark(root: Path) -> str:
    """A short name for a watched directory: the same for every spelling of the same directory."""
    real = os.path.normcase(os.path.realpath(root))
    return hashlib.sha256(os.fsencode(real)).hexdigest()[:12]


def _folder_name(root: Path) -> str:
    word = re.sub(r"[^A-Za-z0-9_-]+", "-", root.resolve().name).strip("-")[:40] or "root"
    return f"{word}-{_mark(root)}"


def platform_base() -> Path:
    """The platform's state directory for this program (XDG_STATE_HOME on Linux)."""
    return platformdirs.user_state_path("cloud-archive", appauthor=False)


def find_state_directory(root: Path, base: Path | None) -> Path:
    """The state directory of `root`, without making or claiming anything.

    Args:
        base: ComfyUI's or CLOUD_ARCHIVE_STATE_DIR; None = where the last engine for `root` had it, else the
            platform's.
    """
    if base is None:
        return _pointed_to(root) or platform_base() / _folder_name(root)
    try:
        owner = (base / _OWNER_NAME).read_text("utf-8").strip()
    except OSError:
        return base
    return base if owner == _mark(root) else base / _folder_name(root)


def make_state_directory(root: Path, base: Path | None) -> Path:
    """Make the state directory with mode 0700, and claim it for `root`.

    Raises:
        CloudArchiveError: it cannot be made or written.
    """
    if base is not None:
        _make_private(base)
        with contextlib.suppress(FileExistsError, OSError):
            descriptor = os.open(base / _OWNER_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(_mark(root) + "\n")
    directory = platform_base() / _folder_name(root) if base is None else find_state_directory(root, base)
    _make_private(directory)
    return directory


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            directory.chmod(0o700)
    except OSError as error:
        raise CloudArchiveError(
            f"The state directory {directory} cannot be made: {error.strerror}."
            " Set CLOUD_ARCHIVE_STATE_DIR to a directory that can be written."
        ) from error


class DirectoryLock:
    """One engine per watched directory on this machine; the system lets go of it when the process ends.

    Two locks: one in the state directory guards the ledger, one by the watched directory's real path keeps two
    engines with different state directories apart.

    Args:
        machine_wide: take the second one too; without, nothing is written outside the state directory.
    """

    def __init__(self, state_directory: Path, root: Path, *, machine_wide: bool = True) -> None:
        # Not by thread, as is filelock's default: the thread that ends an engine is not the one that started it.
        self.unlocked = False  # whether it was acquired without a single lock that could be made
        self._locks = [FileLock(state_directory / "engine.lock", thread_local=False)]
        if not machine_wide:
            return
        with contextlib.suppress(OSError):
            self._locks.append(FileLock(_lock_folder() / f"{_mark(root)}.lock", thread_local=False))

    def acquire(self) -> bool:
        """Take both, or neither; does not wait. A lock that cannot be made (a read-only disk) holds up nobody."""
        taken: list[BaseFileLock] = []
        for lock in self._locks:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                for held in taken:
                    held.release()
                return False
            except (OSError, NotImplementedError) as error:
                logger.warning("Archiving goes on without the lock %s: %s", lock.lock_file, error)
                continue
            taken.append(lock)
        self.unlocked = not taken
        return True

    def release(self) -> None:
        """Let go."""
        for lock in self._locks:
            lock.release()


def _lock_folder() -> Path:
    for folder in (platform_base() / "locks", Path(tempfile.gettempdir()) / "cloud-archive-locks"):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise OSError("no folder for locks")


def _pointer(root: Path) -> Path:
    # Only in the user's own state directory: whoever could plant one elsewhere would get our token's answers.
    return platform_base() / "locks" / f"{_mark(root)}.state"


def _pointed_to(root: Path) -> Path | None:
    try:
        found = Path(_pointer(root).read_text("utf-8", "surrogateescape").strip())
    except (OSError, ValueError):
        return None
    return found if found.is_absolute() and found.is_dir() else None


def running_engines() -> list[EngineInfo]:
    """What engines of this user have written; one of them may be gone."""
    found: list[EngineInfo] = []
    with contextlib.suppress(OSError):
        for pointer in sorted((platform_base() / "locks").glob("*.state")):
            with contextlib.suppress(OSError, ValueError):
                info = read_engine_info(Path(pointer.read_text("utf-8", "surrogateescape").strip()))
                if info is not None:
                    found.append(info)
    return found


def write_engine_info(state_directory: Path, info: EngineInfo, *, machine_wide: bool = True) -> None:
    """Let other processes of this user find the engine; mode 0600, replaced in one step.

    Args:
        machine_wide: also for those that do not know the state directory.
    """
    target = state_directory / _ENGINE_NAME
    fresh = target.with_suffix(f".{info.pid}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(info), file)
    fresh.replace(target)
    if not machine_wide:
        return
    with contextlib.suppress(OSError, ValueError):
        _pointer(Path(info.watched_directory)).write_text(str(state_directory), "utf-8", "surrogateescape")


def read_engine_info(state_directory: Path) -> EngineInfo | None:
    """The engine that was last seen here; it may be gone."""
    try:
        found = json.loads((state_directory / _ENGINE_NAME).read_text("utf-8"))
        return EngineInfo(**found)
    except (OSError, ValueError, TypeError):
        return None


def remove_engine_info(state_directory: Path, pid: int) -> None:
    """Remove it, where it is still this process's."""
    info = read_engine_info(state_directory)
    if info is not None and info.pid == pid:
        with contextlib.suppress(OSError):
            (state_directory / _ENGINE_NAME).unlink()
