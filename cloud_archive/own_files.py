"""Know which files in a watched directory belong to this program, so that they are never archived.

Another process may begin to log into the watched directory at any time. Before that it notes its log in a list that
all processes of this user read.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from .files import real_path
from .private_files import find_foreign_access, open_private
from .state import (
    BEGAN_NAME,
    OWNER_NAME,
    known_state_directories,
    lock_folder,
    platform_state_directory,
    possible_lock_folders,
    shared_lock_folder,
)

logger = logging.getLogger("cloud_archive.state")

# The files of a state directory.
_OWN_NAMES = re.compile(
    r"(engine\.(json|lock|\d+\.new)|prune\.lock|(engine|standby)\.log(\.\d+)?|ledger\.began"
    rf"|(ledger|catalog|jobs)\.(sqlite3.*|damaged-.*)|thumbnails\.sqlite3.*|{OWNER_NAME})(\.\d+\.new)?",
    re.DOTALL,
)
# One of these is in every state directory. They tell it from a folder of other files.
_MARKERS = (BEGAN_NAME, OWNER_NAME)
_LOGS_NAME = "logs.jsonl"  # the list, in the folder for locks
_MAX_LOGS = 100


def note_own_file(path: Path) -> None:
    """Let every process of this user know that this is a log, or a token, of ours. Call this before a log is made."""
    try:
        notes = lock_folder() / _LOGS_NAME
        known, place = _noted_logs(notes), real_path(path)
        if place in known:
            return
        if len(known) >= _MAX_LOGS:
            notes.unlink()  # running engines have read it by now
        with open(notes, "a", encoding="utf-8", opener=open_private) as file:
            file.write(json.dumps(place) + "\n")
    except OSError as error:
        logger.debug("The log %s can't be noted: %s", path, error)


def _noted_logs(notes: Path) -> list[str]:
    found: list[str] = []
    with contextlib.suppress(OSError):
        for line in notes.read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(str(json.loads(line)))
    return found


def is_state_file(path: Path) -> bool:
    """Return whether `path` is a file of a state directory, also of one that no archive uses any more."""
    return _OWN_NAMES.fullmatch(path.name) is not None and any(
        os.path.isfile(path.with_name(marker))  # noqa: PTH113 - `Path.is_file` may raise an error
        for marker in _MARKERS
    )


class OwnFiles:
    """The paths in a watched directory that belong to this program. Safe to use from any thread.

    They are state directories (also of other archives), lock files, and logs with their rotations.

    Args:
        state_directory: the one of this archive.
        log_files: files that this program logs to.
    """

    def __init__(self, root: Path, state_directory: Path, log_files: Iterable[Path] = ()) -> None:
        self._root = real_path(root)
        self._folders: set[str] = set()
        self._files: set[str] = set()
        self._in_root = False  # the watched directory is a state directory too
        folders = [state_directory, shared_lock_folder()]
        if (state_directory.parent / OWNER_NAME).is_file():
            # It belongs to the first of several archives with one CLOUD_ARCHIVE_STATE_DIR.
            folders.append(state_directory.parent)
        with contextlib.suppress(OSError):
            folders.append(platform_state_directory())
        for folder in (*folders, *known_state_directories()):
            path = self._relative(folder)
            if path == ".":
                self._in_root = True
            elif path is not None:
                self._folders.add(path)
        self._add_files(log_files)
        # The lists of noted logs, each with its size and mtime when it was read.
        self._notes: dict[Path, tuple[int, int]] = {
            folder / _LOGS_NAME: (0, 0) for folder in possible_lock_folders()
        }
        self.refresh()

    def refresh(self) -> None:
        """Include the logs that other processes have noted since."""
        for notes, known in self._notes.items():
            with contextlib.suppress(OSError):
                found = notes.stat()
                state = (found.st_size, found.st_mtime_ns)
                if state != known and not find_foreign_access(notes.parent):
                    self._add_files(map(Path, _noted_logs(notes)))
                    self._notes[notes] = state  # last: until then, other threads must read the list too

    def _add_files(self, files: Iterable[Path]) -> None:
        found = {self._relative(file) for file in files}
        self._files |= {path for path in found if path is not None}

    def _relative(self, place: Path) -> str | None:
        try:
            path = os.path.relpath(real_path(place), self._root)
        except ValueError:
            return None  # another drive on Windows
        path = _comparable(path)
        return None if path == ".." or path.startswith("../") else path

    def __contains__(self, path: object) -> bool:
        """Return whether `path`, relative to the watched directory and as its folder lists it, is one of them."""
        path = str(path)
        if _OWN_NAMES.fullmatch(path, path.rfind("/") + 1) and is_state_file(Path(self._root, path)):
            return True
        if not (self._folders or self._files or self._in_root):
            return False  # the usual case, and a scan asks for every file
        path = _comparable(path)
        if path in self._files or re.sub(r"\.\d+\Z", "", path) in self._files:
            return True
        if self._in_root and "/" not in path and _OWN_NAMES.fullmatch(path):
            return True
        return any(path == folder or path.startswith(folder + "/") for folder in self._folders)


def _comparable(path: str) -> str:
    return os.path.normcase(path).replace(os.sep, "/")
