"""Make directories and files that only this user can access, and refuse those that other users can change.

Owners and modes are not checked on Windows, where access lists protect a user's folders.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import tempfile
from pathlib import Path

from .windows_handles import rename_once_closed

logger = logging.getLogger("cloud_archive.state")

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class NotPrivate(Exception):
    """Other users can change a directory, or a file is a symbolic link; the message is the end of a sentence."""


def make_private_directory(directory: Path, *, keep_mode: bool) -> None:
    """Make the directory and missing parents with mode 0700, or check an existing directory.

    Args:
        keep_mode: keep the mode of an existing directory, because the user made it. False: set mode 0700 if this
            user owns it.

    Raises:
        NotPrivate: neither this user nor root owns it, or other users may write to it.
        OSError: it can't be made.
    """
    missing = [parent for parent in directory.parents if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(mode=0o700, exist_ok=True)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        if not directory.is_dir():
            raise
    if os.name == "nt":
        return
    found = directory.stat()
    if not keep_mode and found.st_uid == os.getuid():
        with contextlib.suppress(OSError):
            directory.chmod(0o700)
            found = directory.stat()
    cause = find_foreign_access(directory)
    if cause:
        raise NotPrivate(cause)
    if _foreign_access(found, os.getuid()):
        logger.warning("The filesystem of %s doesn't protect files from other users.", directory)


def find_foreign_access(directory: Path, *, root_trusts_owner: bool = False) -> str:
    """Return who can change an existing directory beside this user and root, as the end of a sentence. Raises OSError.

    Empty if nobody can, or if owner and mode mean nothing on its filesystem. With `root_trusts_owner` root accepts any
    owner.
    """
    if os.name == "nt":
        return ""
    found = directory.stat()
    user = os.getuid()
    cause = _foreign_access(found, found.st_uid if root_trusts_owner and user == 0 else user)
    return "" if cause and _modes_are_meaningless(directory, found) else cause


def _foreign_access(found: os.stat_result, user: int) -> str:
    if found.st_uid not in (0, user):
        return f"another user owns it (uid {found.st_uid})"
    if found.st_mode & _OTHERS_MAY_WRITE:
        return f"other users may write to it (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""


def _modes_are_meaningless(directory: Path, found: os.stat_result) -> bool:
    """Return whether a new directory has the same foreign owner or open mode.

    This is so on Windows drives in WSL, on CIFS and FAT (every mode is 0777), and on NFS that maps users.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".cloud-archive-", dir=directory) as probe:
            ours = Path(probe).stat()
    except OSError:
        return False
    foreign = found.st_uid not in (0, os.getuid())
    open_to_others = found.st_mode & _OTHERS_MAY_WRITE
    return not (
        (foreign and ours.st_uid != found.st_uid) or (open_to_others and not ours.st_mode & _OTHERS_MAY_WRITE)
    )


def create_private(path: Path) -> int:
    """Create the file with mode 0600, and return its descriptor. Raises FileExistsError if the name is taken."""
    return os.open(path, _CREATE, 0o600)


def make_private_database(path: Path) -> None:
    """Create an empty file for SQLite with mode 0600, or remove the rights of other users from an existing database.

    Raises NotPrivate if it or one of SQLite's other files is a symbolic link, which SQLite would follow. Any other
    error is ignored: SQLite meets the same fault, and explains it better.
    """
    for suffix in ("", "-wal", "-shm", "-journal"):  # SQLite gives these the mode of the first
        file = path.with_name(path.name + suffix)
        with contextlib.suppress(OSError):
            if file.is_symlink():
                raise NotPrivate(f"{file.name} is a symbolic link, which is not followed; remove it")
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)
    with contextlib.suppress(OSError):
        os.close(create_private(path))


def database_bytes(path: Path) -> int:
    """Return the size of an SQLite database with its write-ahead log; a missing file counts as empty."""
    size_bytes = 0
    for file in (path, path.with_name(f"{path.name}-wal")):
        with contextlib.suppress(OSError):
            size_bytes += file.stat().st_size
    return size_bytes


def database_uri(path: Path, query: str) -> str:
    """Return a URI for `sqlite3.connect(…, uri=True)`, such as `file:///x/ledger.sqlite3?mode=ro`."""
    # `as_uri` writes a Windows share as `file://server/share`, and SQLite refuses a server there.
    # https://www.sqlite.org/uri.html
    uri = re.sub(r"\Afile://(?!/)", "file:////", path.resolve().as_uri())
    return f"{uri}?{query}"


def write_private(path: Path, text: str) -> None:
    """Write the text to a file with mode 0600, replacing it atomically. Raises OSError."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)  # left by a process that was killed
    with os.fdopen(create_private(fresh), "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    rename_once_closed(lambda: fresh.replace(path))


def open_private(path: str, flags: int) -> int:
    """Open a file for `open(…, opener=open_private)`: a new one gets mode 0600, and a link is not followed (POSIX)."""
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
    return os.open(path, flags, 0o600)
