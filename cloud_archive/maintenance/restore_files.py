"""Restore one object to a file: download it, prove it, and give it a free name.

A file gets its name only when it is complete, and not if the object's own checksum contradicts it. No existing file is
replaced, and no symbolic link below the target is followed (`beneath`). An existing file is hashed, and counts as the
object only if the object's bytes are proven to be the same; metadata alone proves nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat as stat_module
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..beneath import Folder, open_folder
from ..errors import CloudArchiveError
from ..files import FileVersion, parse_timestamp_ns, to_relative
from ..keys import LAST_CONFLICT, MAX_CONFLICTS, conflict_key
from ..ledger.history import Restored, add_restored
from ..ledger.ledger import Ledger
from ..ledger.rows import FileState
from ..store.base import ObjectInfo, ObjectStore
from ..store.evidence import Digests, Verdict, compare, stated_sha256
from ..upload.source import part_size_or_zero
from .restore_versions import Version
from .retry import with_retries
from .safe_paths import local_parts

HASH_BYTES = 1024 * 1024
LEFTOVER_SECONDS = 3600.0
_PARTIAL = re.compile(r"\.[0-9a-f]{16}-?[0-9a-f]{8}\.part")  # older versions wrote the dash


class RestoreProblem(CloudArchiveError):
    """An object can't be restored."""


class _FolderMissing(FileNotFoundError):
    """A folder is missing; `parts` are the names with which it would be made."""

    def __init__(self, *parts: str) -> None:
        self.parts = parts
        super().__init__("/".join(parts))


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """The file of an object; in a dry run, the file it would get.

    Attributes:
        path: relative to the target.
        is_new: False if the file existed before.
        proven: False if the object has no checksum or ETag that proves the downloaded bytes.
        renamed: the file has another name than before, because that is taken or not valid here.
    """

    path: str
    is_new: bool
    proven: bool = True
    renamed: bool = False


class FilePlacer:
    """Restore objects to files. Thread-safe.

    Args:
        ledger, watched: the watched directory that the target is or lies in, and its ledger. Each file is recorded as
            archived before it appears.
    """

    def __init__(
        self, store: ObjectStore, target: Path, ledger: Ledger | None, watched: Path | None, *, windows: bool
    ) -> None:
        self._store, self._target, self._windows = store, target, windows
        self._ledger = ledger if watched is not None else None
        self._below = "" if watched is None or watched == target else f"{to_relative(watched, target)}/"
        self._swept: set[str] = set()
        self._swept_lock = threading.Lock()
        self.stopping = threading.Event()

    def plan(self, version: Version, *, beside: bool, taken: set[str]) -> PlacedFile:
        """Return the file that `restore` would write, without writing anything.

        Args:
            taken: paths that other versions would get; the path of this one is added.
        """
        placed = self._plan(version, beside=beside, taken=taken)
        taken.add(placed.path)
        return placed

    def _plan(self, version: Version, *, beside: bool, taken: set[str]) -> PlacedFile:
        parts = self._parts(version)
        names = list(_candidate_names(parts[-1], stated_sha256(version.info) or "", beside=beside))
        try:
            with self._folder(parts[:-1], make=False) as (folder, path):
                existing = self._same_file(folder, parts[-1], version.info, beside=beside)
                if existing is not None:
                    return self._placed(version, path + existing[0], is_new=False)
                free = (path + name for name in names if path + name not in taken and not folder.exists(name))
                return self._placed(version, next(free, path + names[-1]), is_new=True)
        except FileNotFoundError as missing:  # its folder does not exist yet
            folders = missing.parts if isinstance(missing, _FolderMissing) else parts[:-1]
            parent = "".join(f"{part}/" for part in folders)
            free = (parent + name for name in names if parent + name not in taken)
            return self._placed(version, next(free, parent + names[-1]), is_new=True)

    def restore(self, version: Version, *, beside: bool) -> PlacedFile:
        """Restore an object, unless its file exists.

        Args:
            beside: use a numbered name only, because the file's own name belongs to a newer version.

        Raises:
            RestoreProblem, StoreError, OSError: it could not be restored.
        """
        parts = self._parts(version)
        info = version.info
        with self._folder(parts[:-1], make=True) as (folder, path):
            existing = self._same_file(folder, parts[-1], info, beside=beside)
            if existing is not None:
                name, digests, stat = existing
                self._prove_object(info, digests, path + name, stat)
                self._record(version, path + name, stat, digests)
                return self._placed(version, path + name, is_new=False)
            return self._download_and_place(folder, path, parts[-1], version, beside=beside)

    def _parts(self, version: Version) -> tuple[str, ...]:
        parts = local_parts(version.path, windows=self._windows)
        if not parts:
            raise RestoreProblem("Its key contains no file name.")
        return parts

    def _placed(self, version: Version, path: str, *, is_new: bool, proven: bool = True) -> PlacedFile:
        return PlacedFile(path, is_new, proven, path != version.path)

    # --- existing files

    @contextmanager
    def _folder(self, parts: Sequence[str], *, make: bool) -> Iterator[tuple[Folder, str]]:
        """Open the folder of these parts, with its path ending in `/`. If a file or link has the name, use `name (1)`.

        Args:
            make: make missing folders.

        Raises:
            FileNotFoundError: `make` is False, and the target or (`_FolderMissing`) the folder is missing.
        """
        with contextlib.ExitStack() as opened:
            folder, path = opened.enter_context(open_folder(self._target)), ""
            for index, part in enumerate(parts):
                try:
                    name, folder = _enter_folder(folder, part, make=make)
                except _FolderMissing as missing:
                    entered = path.split("/")[:-1]
                    raise _FolderMissing(*entered, *missing.parts, *parts[index + 1 :]) from None
                opened.enter_context(folder)
                path += f"{name}/"
            yield folder, path

    def _same_file(
        self, folder: Folder, name: str, info: ObjectInfo, *, beside: bool
    ) -> tuple[str, Digests, os.stat_result] | None:
        """Return the file with the bytes that the object claims to hold, under its own or a numbered name."""
        stated = stated_sha256(info)
        for candidate in _candidate_names(name, stated or "", beside=beside):
            try:
                stat = folder.stat(candidate)
            except FileNotFoundError:
                return None
            if not stat_module.S_ISREG(stat.st_mode) or stat.st_size != info.size_bytes:
                continue
            hashed = _hash_file(folder, candidate, stat.st_size)
            if hashed is None:
                continue
            digests = hashed[0]
            same = stated is None and compare(info, digests.expected()) is Verdict.SAME
            if same or digests.sha256 == stated:
                return candidate, *hashed
        return None

    def _prove_object(self, info: ObjectInfo, digests: Digests, path: str, stat: os.stat_result) -> None:
        """Raise RestoreProblem unless the object has the bytes of the local file; its metadata is not enough."""
        known = self._known_etag(info, digests, path, stat)
        verdict = compare(info, digests.expected(known))
        if verdict is Verdict.UNDECIDED:
            verdict = with_retries(lambda: self._compare_bytes(info, digests))
        if verdict is Verdict.DIFFERENT:
            message = (
                "The object has other bytes than its metadata says, so it was replaced by another program or machine."
                f" The original bytes are in {path}, which stays as it is."
            )
            if self._ledger is not None:
                message += " Run `cloud-archive verify --repair` to archive the file again."
            raise RestoreProblem(message)

    def _known_etag(self, info: ObjectInfo, digests: Digests, path: str, stat: os.stat_result) -> str | None:
        """Return the ETag with which the ledger proves that the object has these bytes; None without proof."""
        if self._ledger is None:
            return None
        row = self._ledger.find(FileVersion.of_stat(self._below + path, stat))
        if row is None or row.state is not FileState.ARCHIVED:
            return None
        return row.etag if (row.key, row.sha256) == (info.key, digests.sha256) else None

    def _compare_bytes(self, info: ObjectInfo, digests: Digests) -> Verdict:
        downloaded = Digests(part_size_or_zero(info.size_bytes))
        with contextlib.closing(self._read(info)) as pieces:
            for piece in pieces:
                downloaded.update(piece)
        return Verdict.SAME if downloaded.sha256 == digests.sha256 else Verdict.DIFFERENT

    # --- downloading

    def _download_and_place(
        self, folder: Folder, path: str, name: str, version: Version, *, beside: bool
    ) -> PlacedFile:
        info = version.info
        self._remove_leftovers(path)
        # A hidden, temporary name is never archived. It is random, because another run may restore the same object.
        partial = f".{secrets.token_hex(12)}.part"
        try:
            digests = with_retries(lambda: self._download(info, folder, partial))
            proven = _check_digest(info, digests)
            moment = modified_ns(info)
            if moment is not None:
                folder.set_mtime(partial, moment)
            found, is_new = self._rename(folder, path, name, version, partial, digests, beside=beside)
        finally:
            with contextlib.suppress(FileNotFoundError):
                folder.unlink(partial)
        return self._placed(version, path + found, is_new=is_new, proven=proven)

    def _remove_leftovers(self, path: str) -> None:
        """Remove what a killed run left in this folder an hour ago or earlier; only once in this run."""
        with self._swept_lock:
            if path in self._swept:
                return
            self._swept.add(path)
        with open_folder(self._target, path.rstrip("/")) as folder, folder.entries() as entries:
            names = [entry.name for entry in entries if _PARTIAL.fullmatch(entry.name)]
        for name in names:
            with contextlib.suppress(OSError), open_folder(self._target, path.rstrip("/")) as folder:
                # Not the mtime, which a finished file already has from its object.
                if folder.stat(name).st_ctime < time.time() - LEFTOVER_SECONDS:
                    folder.unlink(name)

    def _download(self, info: ObjectInfo, folder: Folder, partial: str) -> Digests:
        digests = Digests(part_size_or_zero(info.size_bytes))
        with contextlib.suppress(FileNotFoundError):
            folder.unlink(partial)  # from the previous try
        with folder.create(partial) as file, contextlib.closing(self._read(info)) as pieces:
            for piece in pieces:
                file.write(piece)
                digests.update(piece)
            file.flush()
            os.fsync(file.fileno())
        if digests.size_bytes != info.size_bytes:
            raise RestoreProblem(f"The store sent {digests.size_bytes} bytes instead of {info.size_bytes}.")
        return digests

    def _read(self, info: ObjectInfo) -> Generator[bytes, None, None]:
        """Yield the object's bytes, and stop if there are more than it should have."""
        received = 0
        with contextlib.closing(self._store.read(info.key, info.size_bytes, etag=info.etag)) as pieces:
            for piece in pieces:
                if self.stopping.is_set():
                    raise RestoreProblem("Interrupted.")
                received += len(piece)
                if received > info.size_bytes:
                    raise RestoreProblem(f"The store sent more than the object's {info.size_bytes} bytes.")
                yield piece

    def _rename(
        self,
        folder: Folder,
        path: str,
        name: str,
        version: Version,
        partial: str,
        digests: Digests,
        *,
        beside: bool,
    ) -> tuple[str, bool]:
        """Rename the partial file to the first free name. Return the name, and False if an equal file has it."""
        for candidate in _candidate_names(name, digests.sha256, beside=beside):
            if not folder.exists(candidate):
                self._record(version, path + candidate, folder.stat(partial), digests)
                if folder.rename_new(partial, candidate):
                    return candidate, True
            existing = _hash_file(folder, candidate, version.info.size_bytes)
            if existing is not None and existing[0].sha256 == digests.sha256:
                self._record(version, path + candidate, existing[1], digests)
                return candidate, False
        raise RestoreProblem(f"{name} and its {MAX_CONFLICTS} numbered names are all taken by other files.")

    def _record(self, version: Version, path: str, stat: os.stat_result, digests: Digests) -> None:
        """Record the file as archived before it appears. Call this only with the digests of the object's own bytes.

        Raises:
            RestoreProblem: the ledger has other proven bytes for exactly this version.
        """
        if self._ledger is None:
            return
        info = version.info
        local = FileVersion.of_stat(self._below + path, stat)
        row = self._ledger.find(local)
        if (
            row is not None
            and row.state is FileState.ARCHIVED
            and row.key == info.key
            and row.sha256 != digests.sha256
        ):
            raise RestoreProblem(
                "The object has other bytes than were archived, so it was replaced by another program"
                " or machine. Nothing was restored from it."
            )
        archived_at = version.archived_at_ns / 1e9
        add_restored(self._ledger, [Restored(local, info.key, digests.sha256, info.etag, archived_at)])


def states_mtime(info: ObjectInfo) -> bool:
    return parse_timestamp_ns(info.metadata.get("mtime", "")) is not None


def modified_ns(info: ObjectInfo) -> int | None:
    """Return the file's mtime in nanoseconds since 1970, from the metadata, else the object's own time."""
    mtime_ns = parse_timestamp_ns(info.metadata.get("mtime", ""))
    if mtime_ns is not None or info.last_modified is None:
        return mtime_ns
    return int(info.last_modified.timestamp()) * 10**9


def _candidate_names(name: str, sha256: str, *, beside: bool) -> Iterator[str]:
    """Yield the names that a file may get, best first."""
    for number in range(int(beside), LAST_CONFLICT + 1 if sha256 else MAX_CONFLICTS + 1):
        yield conflict_key(name, number, sha256)


def _enter_folder(folder: Folder, part: str, *, make: bool) -> tuple[str, Folder]:
    """Open a folder, and return it with its name, which may be numbered."""
    for number in range(MAX_CONFLICTS + 1):
        name = conflict_key(part, number)
        if make:
            with contextlib.suppress(FileExistsError):
                folder.make(name)
        try:
            return name, folder.enter(name)
        except (FileNotFoundError, NotADirectoryError):
            if not make and not folder.exists(name):
                raise _FolderMissing(name) from None
    raise RestoreProblem(f"{part} and its numbered names are all taken by files.")


def _check_digest(info: ObjectInfo, digests: Digests) -> bool:
    """Return whether the object's own checksum or ETag proves the bytes. RestoreProblem: the checksum refutes them.

    An ETag may look like an MD5 without being one (KMS encryption), so it can't refute them.
    """
    stated = stated_sha256(info)
    if stated is None:
        return compare(info, digests.expected()) is Verdict.SAME
    if stated != digests.sha256:
        raise RestoreProblem("The bytes don't match the object's checksum. Nothing was restored.")
    return True


def _hash_file(folder: Folder, name: str, size_bytes: int) -> tuple[Digests, os.stat_result] | None:
    """Return the digests of a regular file, and its `stat` from before; None: other size, or unreadable."""
    digests = Digests(part_size_or_zero(size_bytes))
    try:
        with folder.open(name) as file:
            # A file that changes from now on is another version, which the ledger must not know.
            stat = os.fstat(file.fileno())
            if stat.st_size != size_bytes:
                return None
            while piece := file.read(HASH_BYTES):
                digests.update(piece)
    except OSError:
        return None
    return digests, stat
