"""One object into a file: fetch it, prove it, give it a name that is free.

A file appears under its name only when it is whole and proven. Nothing that is there is replaced, and no symbolic link
below the target is followed (`beneath`). A file that is there already is hashed, and counts as the object only where
the object's bytes are proven to be the same: metadata proves nothing.
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
from ..upload.source import upload_part_bytes
from .restore_versions import Version
from .retry import with_retries
from .safe_paths import local_parts

HASH_BYTES = 1024 * 1024
LEFTOVER_SECONDS = 3600.0
_PARTIAL = re.compile(r"\.[0-9a-f]{16}(?:-?[0-9a-f]{8})\.part")


class RestoreProblem(CloudArchiveError):
    """This object is not restored; the text says why."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an object's file is, or in a dry run would be.

    Attributes:
        path: relative to the target.
        is_new: False: it was there.
        proven: a checksum that came with the object equals that of the bytes on the disk.
        renamed: not under the name that the file had.
    """

    path: str
    is_new: bool
    proven: bool = True
    renamed: bool = False


class FilePlacer:
    """Brings one object at a time per calling thread.

    Args:
        target: the directory that the files go to.
        ledger, watched: of the watched directory that the target is or lies in; its ledger knows each file as archived
            before it appears.
        windows: by the rules of Windows for names.
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

    def plan(self, version: Version, *, beside: bool, taken: set[str]) -> Placed:
        """Return where `bring` would put it, without writing anything.

        Args:
            taken: paths that other versions would get; this one's is added.
        """
        placed = self._plan(version, beside=beside, taken=taken)
        taken.add(placed.path)
        return placed

    def _plan(self, version: Version, *, beside: bool, taken: set[str]) -> Placed:
        parts = self._parts(version)
        names = list(_names(parts[-1], stated_sha256(version.info) or "", beside=beside))
        try:
            with self._folder(parts[:-1], make=False) as (folder, path):
                found = self._same_file(folder, parts[-1], version.info, beside=beside)
                if found is not None:
                    return self._placed(version, path + found[0], is_new=False)
                free = (path + name for name in names if path + name not in taken and not folder.exists(name))
                return self._placed(version, next(free, path + names[-1]), is_new=True)
        except FileNotFoundError:  # a folder is still to be made
            above = "".join(f"{part}/" for part in parts[:-1])
            free = (above + name for name in names if above + name not in taken)
            return self._placed(version, next(free, above + names[-1]), is_new=True)

    def bring(self, version: Version, *, beside: bool) -> Placed:
        """Bring an object back, unless its file is there.

        Args:
            beside: only under a numbered name: the file's own belongs to a newer version.

        Raises:
            RestoreProblem, StoreError, OSError: it could not be brought back; nothing is left of it.
        """
        parts = self._parts(version)
        info = version.info
        with self._folder(parts[:-1], make=True) as (folder, path):
            found = self._same_file(folder, parts[-1], info, beside=beside)
            if found is not None:
                name, digests = found
                there = folder.stat(name)
                self._prove_object(info, digests, path + name, there)
                self._remember(version, path + name, there, digests)
                return self._placed(version, path + name, is_new=False)
            return self._fetch(folder, path, parts[-1], version, beside=beside)

    def _parts(self, version: Version) -> tuple[str, ...]:
        parts = local_parts(version.path, windows=self._windows)
        if not parts:
            raise RestoreProblem("Its key names no file.")
        return parts

    def _placed(self, version: Version, path: str, *, is_new: bool, proven: bool = True) -> Placed:
        return Placed(path, is_new, proven, path != "/".join(self._parts(version)))

    # --- what is there

    @contextmanager
    def _folder(self, parts: Sequence[str], *, make: bool) -> Iterator[tuple[Folder, str]]:
        """The folder for these parts, and its path with a slash. A file or link in its place is gone round: `name (1)`.

        Raises:
            FileNotFoundError: not `make`, and there is none.
        """
        with contextlib.ExitStack() as opened:
            folder, path = opened.enter_context(open_folder(self._target)), ""
            for part in parts:
                name, folder = _enter(folder, part, make=make)
                opened.enter_context(folder)
                path += f"{name}/"
            yield folder, path

    def _same_file(
        self, folder: Folder, name: str, info: ObjectInfo, *, beside: bool
    ) -> tuple[str, Digests] | None:
        """The file that has the bytes which the object says it has, under its own name or a numbered one."""
        stated = stated_sha256(info)
        for candidate in _names(name, stated or "", beside=beside):
            try:
                found = folder.stat(candidate)
            except FileNotFoundError:
                return None
            if not stat_module.S_ISREG(found.st_mode) or found.st_size != info.size_bytes:
                continue
            digests = _digests_of(folder, candidate, found.st_size)
            if digests is None:
                continue
            if digests.sha256 == stated or (
                stated is None and compare(info, digests.expected()) is Verdict.SAME
            ):
                return candidate, digests
        return None

    def _prove_object(self, info: ObjectInfo, digests: Digests, path: str, there: os.stat_result) -> None:
        """Make sure that the object has the bytes of the local file, not only its metadata.

        Raises:
            RestoreProblem: it has others.
        """
        known = self._known_etag(info, digests, path, there)
        verdict = compare(info, digests.expected(known))
        if verdict is Verdict.UNDECIDED:
            verdict = with_retries(lambda: self._compare_bytes(info, digests))
        if verdict is Verdict.DIFFERENT:
            raise RestoreProblem(
                f"The object has other bytes than its metadata says: those are in {path}, which stays as it is."
                " Somebody replaced the object. Run `cloud-archive verify --repair` to archive the file again."
            )

    def _known_etag(self, info: ObjectInfo, digests: Digests, path: str, there: os.stat_result) -> str | None:
        """Return the ETag with which the ledger has proven that the object has these bytes; None: it has not."""
        if self._ledger is None:
            return None
        row = self._ledger.find(FileVersion.of_stat(self._below + path, there))
        if row is None or row.state is not FileState.ARCHIVED:
            return None
        return row.etag if (row.key, row.sha256) == (info.key, digests.sha256) else None

    def _compare_bytes(self, info: ObjectInfo, digests: Digests) -> Verdict:
        came = Digests(upload_part_bytes(info.size_bytes))
        with contextlib.closing(self._read(info)) as pieces:
            for piece in pieces:
                came.update(piece)
        return Verdict.SAME if came.sha256 == digests.sha256 else Verdict.DIFFERENT

    # --- fetching

    def _fetch(self, folder: Folder, path: str, name: str, version: Version, *, beside: bool) -> Placed:
        info = version.info
        self._remove_leftovers(path)
        # Hidden and unfinished, so that no archive takes it; this run's own, for another may fetch the same.
        partial = f".{secrets.token_hex(12)}.part"
        try:
            digests = with_retries(lambda: self._download(info, folder, partial))
            proven = _check(info, digests)
            moment = modified_ns(info)
            if moment is not None:
                folder.set_mtime(partial, moment)
            found, is_new = self._place(folder, path, name, version, partial, digests, beside=beside)
        finally:
            with contextlib.suppress(FileNotFoundError):
                folder.unlink(partial)
        return self._placed(version, path + found, is_new=is_new, proven=proven)

    def _remove_leftovers(self, path: str) -> None:
        """Once in each folder: what a run that was killed left. Another run that is at it wrote not long ago."""
        with self._swept_lock:
            if path in self._swept:
                return
            self._swept.add(path)
        with open_folder(self._target, path.rstrip("/")) as folder, folder.entries() as entries:
            names = [entry.name for entry in entries if _PARTIAL.fullmatch(entry.name)]
        for name in names:
            with contextlib.suppress(OSError), open_folder(self._target, path.rstrip("/")) as folder:
                # Not the mtime: that of a file which is about to get its name is already the one of its object.
                if folder.stat(name).st_ctime < time.time() - LEFTOVER_SECONDS:
                    folder.unlink(name)

    def _download(self, info: ObjectInfo, folder: Folder, partial: str) -> Digests:
        digests = Digests(upload_part_bytes(info.size_bytes))
        with contextlib.suppress(FileNotFoundError):
            folder.unlink(partial)  # of the try before
        with folder.create(partial) as file, contextlib.closing(self._read(info)) as pieces:
            for piece in pieces:
                file.write(piece)
                digests.update(piece)
            file.flush()
            os.fsync(file.fileno())
        if digests.size_bytes != info.size_bytes:
            raise RestoreProblem(f"{digests.size_bytes} bytes came, and it has {info.size_bytes}.")
        return digests

    def _read(self, info: ObjectInfo) -> Generator[bytes, None, None]:
        """The object's bytes, never more than it should have."""
        came = 0
        with contextlib.closing(self._store.read(info.key, info.size_bytes, etag=info.etag)) as pieces:
            for piece in pieces:
                if self.stopping.is_set():
                    raise RestoreProblem("Interrupted.")
                came += len(piece)
                if came > info.size_bytes:
                    raise RestoreProblem(f"More bytes came than the {info.size_bytes} that it has.")
                yield piece

    def _place(
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
        """Give it the first name that is free; (the name, whether it is new)."""
        for candidate in _names(name, digests.sha256, beside=beside):
            if not folder.exists(candidate):
                self._remember(version, path + candidate, folder.stat(partial), digests)
                if folder.rename_new(partial, candidate):
                    return candidate, True
            there = _digests_of(folder, candidate, version.info.size_bytes)
            if there is not None and there.sha256 == digests.sha256:
                self._remember(version, path + candidate, folder.stat(candidate), digests)
                return candidate, False
        raise RestoreProblem(f"{name} and its {MAX_CONFLICTS} numbered names are all taken by other files.")

    def _remember(self, version: Version, path: str, found: os.stat_result, digests: Digests) -> None:
        """Let the ledger know the file as archived, before it appears. Only after the object's bytes were proven.

        Raises:
            RestoreProblem: the ledger has proven other bytes for this very version of the file.
        """
        if self._ledger is None:
            return
        info = version.info
        local = FileVersion.of_stat(self._below + path, found)
        row = self._ledger.find(local)
        if (
            row is not None
            and row.state is FileState.ARCHIVED
            and row.key == info.key
            and row.sha256 != digests.sha256
        ):
            raise RestoreProblem(
                "The object has other bytes than were archived there. Somebody replaced it, and nothing was kept of it."
            )
        archived_at = version.archived_at / 1e9
        add_restored(self._ledger, [Restored(local, info.key, digests.sha256, info.etag, archived_at)])


def modified_ns(info: ObjectInfo) -> int | None:
    """When the file was last modified, in nanoseconds since 1970: as its archive noted it, else the object's time."""
    noted = parse_timestamp_ns(info.metadata.get("mtime", ""))
    if noted is not None or info.last_modified is None:
        return noted
    return int(info.last_modified.timestamp()) * 10**9


def _names(name: str, sha256: str, *, beside: bool) -> Iterator[str]:
    """The names that a file may get, best first."""
    for number in range(int(beside), LAST_CONFLICT + 1 if sha256 else MAX_CONFLICTS + 1):
        yield conflict_key(name, number, sha256)


def _enter(folder: Folder, part: str, *, make: bool) -> tuple[str, Folder]:
    for number in range(MAX_CONFLICTS + 1):
        name = conflict_key(part, number)
        if make:
            with contextlib.suppress(FileExistsError):
                folder.make(name)
        try:
            return name, folder.enter(name)
        except (FileNotFoundError, NotADirectoryError):
            if not make and not folder.exists(name):
                raise FileNotFoundError(name) from None
    raise RestoreProblem(f"{part} and its numbered names are all taken by files.")


def _check(info: ObjectInfo, digests: Digests) -> bool:
    """Whether a checksum that came with the object proves the bytes; False: none came.

    An ETag may be an MD5 or something that only looks like one (objects encrypted with KMS), so it can only prove.

    Raises:
        RestoreProblem: one came, and the bytes are others.
    """
    stated = stated_sha256(info)
    if stated is None:
        return compare(info, digests.expected()) is Verdict.SAME
    if stated != digests.sha256:
        raise RestoreProblem("The bytes that came are not those that its checksum names. Nothing was kept.")
    return True


def _digests_of(folder: Folder, name: str, size_bytes: int) -> Digests | None:
    """Of a regular file; None where it has another size or cannot be read."""
    digests = Digests(upload_part_bytes(size_bytes))
    try:
        with folder.open(name) as file:
            if os.fstat(file.fileno()).st_size != size_bytes:
                return None
            while piece := file.read(HASH_BYTES):
                digests.update(piece)
    except OSError:
        return None
    return digests
