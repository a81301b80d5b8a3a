"""What a file is to the archive: a relative path and the signature that tells one version from the next.

Paths are kept as the filesystem gives them (`surrogateescape` for bytes that are no UTF-8), relative to the
watched directory, and always with `/` between their parts, on Windows too.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat as stat_module
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from .beneath import open_file, stat_file
from .errors import FileUnreadable, FileVanished

_FAR_NS = 1 << 63
UNSURE_NS = -1
"""In place of a change time: the file can be written to without a trace, so only its bytes tell what it holds."""
_TICK_NS = 20_000_000
_COARSE_TICK_NS = 2_000_000_000
_HASH_BYTES = 1024 * 1024


class HintKind(Enum):
    """How a file came to notice, which decides how much waiting proves that it is complete."""

    CREATED = "created"
    CLOSED = "closed"
    MOVED = "moved"
    SCANNED = "scanned"
    WRITTEN = "written"  # written to, on a system that does not tell when a file is closed

    @property
    def is_write(self) -> bool:
        """Whether a program wrote to the file or put it there, so that its bytes may be new."""
        return self in (HintKind.CLOSED, HintKind.MOVED, HintKind.WRITTEN)


class SkipReason(Enum):
    """Why the archive leaves a file out: a word for programs, and a sentence for people."""

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
        """The reason in words."""
        return _SKIP_SENTENCES[self]


_SKIP_SENTENCES = {
    SkipReason.HIDDEN: "Its name, or that of its folder, begins with a dot.",
    SkipReason.TEMPORARY: "Its name ends in .part, .tmp or ~, as those of unfinished files do.",
    SkipReason.EXCLUDED: "CLOUD_ARCHIVE_EXCLUDE leaves it out.",
    SkipReason.NOT_INCLUDED: "No pattern of CLOUD_ARCHIVE_INCLUDE matches it.",
    SkipReason.LINK: "It is a symbolic link; links are not followed.",
    SkipReason.NOT_A_FILE: "It is not a regular file.",
    SkipReason.EMPTY: "It is empty.",
    SkipReason.OWN: "It belongs to Cloud Archive itself.",
}


@dataclass(frozen=True, slots=True)
class FileVersion:
    """One version of one file: `(path, size_bytes, mtime_ns)` names it, the rest tells whether it was touched since.

    Attributes:
        changed_ns: when the system last changed the file or its attributes (ctime). No program can set it. The
            mtime where the system keeps none; 0 = not known; `UNSURE_NS` = the bytes must be hashed.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    device: int = 0
    inode: int = 0
    changed_ns: int = 0

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def fingerprint(self) -> int:
        """A signed 64-bit hash of path, size and mtime: how the ledger knows a version without reading its row.

        Two versions share one with a probability of about 5e-14 in a ledger of a million rows.
        """
        return fingerprint(self.path, self.size_bytes, self.mtime_ns)

    @property
    def touched_ns(self) -> int:
        """When it was last written to or changed, by its own timestamps."""
        return max(self.mtime_ns, self.changed_ns)

    @property
    def ctime_offset(self) -> int | None:
        """`changed_ns` as the ledger keeps it: minus the mtime, so 0 for most files; None = not known."""
        return signed64(self.changed_ns - self.mtime_ns) if self.changed_ns else None

    def has_same_size_and_mtime(self, other: FileVersion) -> bool:
        """Whether size and mtime are equal."""
        return self.size_bytes == other.size_bytes and self.mtime_ns == other.mtime_ns

    def as_read_at(self, moment: float) -> FileVersion:
        """The version to remember of a file that was read at this moment, in seconds since 1970.

        A file written to within the clock's tick of that moment may be written to again in the same tick, which
        leaves all its timestamps as they are: then its change time is `UNSURE_NS`.
        """
        unsure = abs(int(moment * 1e9) - self.mtime_ns) < clock_tick_ns(self.mtime_ns)
        return replace(self, changed_ns=UNSURE_NS) if unsure else self

    @classmethod
    def of_stat(cls, path: str, found: os.stat_result) -> FileVersion:
        """The version that `found` describes."""
        mtime_ns = within_64_bits(found.st_mtime_ns)
        # On Windows st_ctime is the time of creation, and says nothing here.
        changed_ns = mtime_ns if os.name == "nt" else within_64_bits(found.st_ctime_ns)
        return cls(path, found.st_size, mtime_ns, found.st_dev, found.st_ino, changed_ns)


def within_64_bits(nanoseconds: int) -> int:
    """The time, or the nearest that SQLite's integers hold: they reach to the year 2262."""
    return max(-_FAR_NS, min(nanoseconds, _FAR_NS - 1))


def signed64(number: int) -> int:
    """The number's lowest 64 bits as SQLite's integers, which have a sign.

    Inodes of ReFS and ZFS use all 64 bits (ReFS: 128, cut here).
    """
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >= _FAR_NS else number


def clock_tick_ns(mtime_ns: int) -> int:
    """How far apart two writes are at least that leave different modification times, in nanoseconds.

    Linux stamps files with the time of its last tick, up to 10 ms ago; FAT, and some network filesystems, with whole
    seconds, FAT with even ones only.
    """
    return _COARSE_TICK_NS if mtime_ns % 10**9 == 0 else _TICK_NS


def fingerprints(found: Sequence[tuple[str, os.stat_result]]) -> tuple[int, ...]:
    """`fingerprint` for each of many paths and what `stat` says of them, in three quarters of the time."""
    blake2b = hashlib.blake2b
    digests = b"".join(
        [
            blake2b(
                f"{stat.st_size}/{within_64_bits(stat.st_mtime_ns)}/{path}".encode("utf-8", "surrogatepass"),
                digest_size=8,
            ).digest()
            for path, stat in found
        ]
    )
    return struct.unpack(f">{len(found)}q", digests)


def fingerprint(path: str, size_bytes: int, mtime_ns: int) -> int:
    """See `FileVersion.fingerprint`."""
    text = f"{size_bytes}/{mtime_ns}/{path}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)


def format_timestamp_ns(nanoseconds: int) -> str:
    """A time in nanoseconds since 1970 as decimal seconds with nine digits; before 1970 with a minus sign."""
    whole, fraction = divmod(abs(nanoseconds), 10**9)
    return f"{'-' if nanoseconds < 0 else ''}{whole}.{fraction:09d}"


def directory_identity(directory: Path) -> tuple[int, int] | None:
    """Return device and inode of a directory, symlinks followed; None where there is none."""
    try:
        found = directory.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat_module.S_ISDIR(found.st_mode) else None


_TIME = re.compile(r"(-?[0-9]{1,11})(?:\.([0-9]{1,9})[0-9]*)?")


def parse_timestamp_ns(text: str) -> int | None:
    """Return what `format_timestamp_ns` wrote, in nanoseconds since 1970; None for anything else."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    fraction = int((match.group(2) or "").ljust(9, "0"))
    whole = int(match.group(1)) * 10**9
    return whole - fraction if match.group(1).startswith("-") else whole + fraction


def to_local(root: Path, path: str) -> Path:
    """The file below `root` that the relative `path` names."""
    return root / path


def to_relative(root: Path, local: Path) -> str:
    """`local` relative to `root`, with `/`.

    Raises:
        ValueError: `local` is not below `root`.
    """
    return local.relative_to(root).as_posix()


def stat_version(root: Path, path: str) -> FileVersion:
    """Return the version that a regular file is now.

    Raises:
        FileVanished: nothing is there, or no regular file; no symbolic link below `root` is followed.
        FileUnreadable: the system refuses the access.
    """
    try:
        found = stat_file(root, path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileVanished(path) from error
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    if not stat_module.S_ISREG(found.st_mode):
        raise FileVanished(path)
    return FileVersion.of_stat(path, found)


def hash_file(
    root: Path, path: str, *, stopping: Callable[[], bool] = lambda: False
) -> tuple[FileVersion, str] | None:
    """Hash a regular file below `root`.

    Args:
        stopping: asked after each mebibyte; True ends the hashing.

    Returns:
        The file as it was meanwhile, and its SHA-256 in hexadecimal; None where it changed, or `stopping` was True.

    Raises:
        FileVanished, FileUnreadable: see `stat_version`.
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
