"""File versions: a relative path, and what distinguishes one version of a file from the next.

Paths are relative to the watched directory and use `/`, also on Windows. Bytes that are not UTF-8 are kept with
`surrogateescape`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat as stat_module
import struct
import sys
import unicodedata
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from .beneath import open_file, stat_file
from .errors import FileUnreadable, FileVanished

_SIGNED_64_END = 1 << 63
UNSURE_NS = -1
"""The change time stored for a file that may change again without new timestamps, so that it must be hashed."""
_TICK_NS = 20_000_000
_COARSE_TICK_NS = 2_000_000_000
_HASH_BYTES = 1024 * 1024


class HintKind(Enum):
    """The kind of event that revealed a file."""

    CREATED = "created"
    CLOSED = "closed"
    MOVED = "moved"
    SCANNED = "scanned"
    IN_NEW_FOLDER = "in new folder"  # scanned there; it may have been closed before the folder was watched
    WRITTEN = "written"  # on a system without close events

    @property
    def is_write(self) -> bool:
        """Whether a program wrote to the file or moved it there, so that its bytes may be new."""
        return self in (HintKind.CLOSED, HintKind.MOVED, HintKind.WRITTEN)


class SkipReason(Enum):
    """Why the archive leaves a file out."""

    HIDDEN = "hidden"
    TEMPORARY = "temporary"
    EXCLUDED = "excluded"
    NOT_INCLUDED = "not_included"
    LINK = "link"
    NOT_A_FILE = "not_a_file"
    EMPTY = "empty"
    OWN = "own"

    @property
    def sentence(self) -> str:
        """The reason, for users."""
        return _SKIP_SENTENCES[self]


_SKIP_SENTENCES = {
    SkipReason.HIDDEN: "Its name, or that of its folder, begins with a dot, or it is a hidden file of Windows.",
    SkipReason.TEMPORARY: "Its name ends in .part, .tmp or ~, as those of unfinished files do.",
    SkipReason.EXCLUDED: "CLOUD_ARCHIVE_EXCLUDE leaves it out.",
    SkipReason.NOT_INCLUDED: "No pattern of CLOUD_ARCHIVE_INCLUDE matches it.",
    SkipReason.LINK: "It is a symbolic link; links are not followed.",
    SkipReason.NOT_A_FILE: "It is not a regular file.",
    SkipReason.EMPTY: "It is empty.",
    SkipReason.OWN: "It belongs to Cloud Archive itself.",
}


class FileVersion(NamedTuple):
    """One version of a file. Path, size and mtime identify it; the rest shows whether the file was touched since.

    Attributes:
        changed_ns: the change time (ctime), which no system call sets; the mtime if the system has none; 0 = unknown;
            `UNSURE_NS` = the file must be hashed.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    device: int = 0
    inode: int = 0
    changed_ns: int = 0

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def fingerprint(self) -> int:
        """A signed 64-bit hash of path, size and mtime, by which the ledger finds a version.

        A new version has the fingerprint of one of a million rows with a probability of about 5e-14.
        """
        return fingerprint(self.path, self.size_bytes, self.mtime_ns)

    @property
    def touched_ns(self) -> int:
        return max(self.mtime_ns, self.changed_ns)

    @property
    def ctime_offset(self) -> int | None:
        """`changed_ns` minus the mtime, as the ledger stores it: 0 for most files; None = unknown."""
        return signed64(self.changed_ns - self.mtime_ns) if self.changed_ns else None

    def has_same_size_and_mtime(self, other: FileVersion) -> bool:
        return self.size_bytes == other.size_bytes and self.mtime_ns == other.mtime_ns

    def as_read_at(self, moment: float) -> FileVersion:
        """Return the version to store for a file that was read at `moment`, in seconds since 1970.

        If its mtime or change time is within a clock tick of that moment, the file may change again without new
        timestamps, and the version gets `UNSURE_NS`. Programs set the mtime back, so it alone is not enough.
        """
        now_ns, times_ns = int(moment * 1e9), (self.mtime_ns, self.changed_ns)
        unsure = any(abs(now_ns - time_ns) < clock_tick_ns(time_ns) for time_ns in times_ns)
        return self._replace(changed_ns=UNSURE_NS) if unsure else self

    @classmethod
    def of_stat(cls, path: str, result: os.stat_result) -> FileVersion:
        mtime_ns = within_64_bits(result.st_mtime_ns)
        # On Windows st_ctime is the time of creation.
        changed_ns = mtime_ns if os.name == "nt" else within_64_bits(result.st_ctime_ns)
        return cls(path, result.st_size, mtime_ns, result.st_dev, result.st_ino, changed_ns)


def within_64_bits(nanoseconds: int) -> int:
    """Return the time, or the nearest one that a signed 64-bit integer can hold (up to the year 2262)."""
    return max(-_SIGNED_64_END, min(nanoseconds, _SIGNED_64_END - 1))


def signed64(number: int) -> int:
    """Return the lowest 64 bits of a number as a signed integer, as SQLite stores them.

    Inodes of ZFS use all 64 bits, those of ReFS 128.
    """
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >= _SIGNED_64_END else number


def clock_tick_ns(time_ns: int) -> int:
    """Return how far apart two writes must be to get different timestamps, in nanoseconds.

    Linux uses the time of its last tick, up to 10 ms ago. Whole seconds may come from a filesystem that stores nothing
    finer: some network filesystems store whole seconds, FAT even ones.
    """
    return _COARSE_TICK_NS if time_ns % 10**9 == 0 else _TICK_NS


def fingerprints(files: Sequence[tuple[str, os.stat_result]]) -> tuple[int, ...]:
    """Return the fingerprint of each file, given by path and `stat` result; faster than `fingerprint`."""
    blake2b = hashlib.blake2b
    digests = b"".join(
        [
            blake2b(
                f"{stat.st_size}/{ns if -_SIGNED_64_END <= ns < _SIGNED_64_END else within_64_bits(ns)}/{path}".encode(
                    "utf-8", "surrogatepass"
                ),
                digest_size=8,
            ).digest()
            for path, stat in files
            for ns in (stat.st_mtime_ns,)
        ]
    )
    return struct.unpack(f">{len(files)}q", digests)


def fingerprint(path: str, size_bytes: int, mtime_ns: int) -> int:
    """See `FileVersion.fingerprint`."""
    text = f"{size_bytes}/{mtime_ns}/{path}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)


def format_timestamp_ns(nanoseconds: int) -> str:
    """Return a time in nanoseconds since 1970 as decimal seconds with nine digits; negative before 1970."""
    whole, fraction = divmod(abs(nanoseconds), 10**9)
    return f"{'-' if nanoseconds < 0 else ''}{whole}.{fraction:09d}"


def directory_identity(directory: Path) -> tuple[int, int] | None:
    """Return device and inode of a directory, following symlinks; None if there is no directory."""
    try:
        result = directory.stat()
    except OSError:
        return None
    return (result.st_dev, result.st_ino) if stat_module.S_ISDIR(result.st_mode) else None


_TIME = re.compile(r"(-?[0-9]{1,11})(?:\.([0-9]{1,9})[0-9]*)?")


def parse_timestamp_ns(text: str) -> int | None:
    """Return decimal seconds since 1970 as nanoseconds; None if the text is no such number."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    fraction = int((match.group(2) or "").ljust(9, "0"))
    whole = int(match.group(1)) * 10**9
    return whole - fraction if match.group(1).startswith("-") else whole + fraction


def real_path(path: str | Path) -> str:
    """Return the absolute path without symlinks, with each name as its folder lists it. For comparisons.

    macOS finds a name in any case and any Unicode form, and `os.path.realpath` keeps the one that was given there. On
    Windows it keeps the prefix of `\\\\?\\C:\\out`.
    """
    real = os.path.realpath(path)
    if os.name == "nt":
        real = re.sub(r"\A\\\\\?\\(?:UNC(\\)|(?=[A-Za-z]:))", r"\1\1", real)
    return str(_as_listed(Path(real))) if sys.platform == "darwin" else real


def _as_listed(path: Path) -> Path:
    if not path.name:
        return path
    folder = _as_listed(path.parent)
    given = folder / path.name
    with contextlib.suppress(OSError):
        alike = [each for each in folder.iterdir() if caseless(each.name) == caseless(path.name)]
        if given not in alike:
            return next((each for each in alike if each.samefile(given)), given)
    return given


def caseless(name: str) -> str:
    """Return `name` in one case and one Unicode form. For comparisons."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def to_relative(root: Path, local: Path) -> str:
    """Return the path of `local` relative to `root`, with `/`. Raises ValueError if it is not below `root`."""
    return local.relative_to(root).as_posix()


def stat_version(root: Path, path: str) -> FileVersion:
    """Return the current version of a regular file. Follows no symbolic link below `root`.

    Raises:
        FileVanished: the file is missing, or not a regular file.
        FileUnreadable: the system refuses access.
    """
    try:
        result = stat_file(root, path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileVanished(path) from error
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    if not stat_module.S_ISREG(result.st_mode):
        raise FileVanished(path)
    return FileVersion.of_stat(path, result)


def hash_file(
    root: Path, path: str, *, stopping: Callable[[], bool] = lambda: False
) -> tuple[FileVersion, str] | None:
    """Return the version of a regular file below `root`, and its SHA-256 in hexadecimal.

    None: it changed meanwhile, or `stopping`, which is called after each MiB, returned True. Raises FileVanished or
    FileUnreadable.
    """
    digest = hashlib.sha256()
    try:
        with open_file(root, path) as file:
            before = FileVersion.of_stat(path, os.fstat(file.fileno()))
            while piece := file.read(_HASH_BYTES):
                digest.update(piece)
                if stopping():
                    return None
            unchanged = FileVersion.of_stat(path, os.fstat(file.fileno())) == before
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileVanished(path) from error
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    return (before, digest.hexdigest()) if unchanged else None
