"""`restore`: files from the bucket into a directory, on a machine that knows nothing of the archive too.

What is needed comes from the objects themselves: the key gives the path, their metadata the SHA-256, the time of
last modification and the session. A file appears under its name only when it is whole and proven, so that a run that
was killed is simply run again: what is there already is recognised and not fetched a second time.

Nothing that is there is ever replaced (a different file keeps its name, the restored one becomes `name (1)`), and
nothing is written outside the target, neither by a key (`safe_paths`) nor through a symbolic link in it.

In a watched directory each file is in the ledger as archived before it appears there, so that it is not uploaded
again, whether an engine runs or not.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat as stat_module
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

from ..errors import CloudArchiveError, KeyRejected, StoreError
from ..files import FileVersion, to_relative
from ..keys import MAX_CONFLICTS, conflict_key
from ..ledger.history import Restored, add_restored
from ..ledger.ledger import Ledger
from ..store.s3 import ObjectInfo, ObjectStore
from .retry import patiently
from .safe_paths import local_parts

HASH_BYTES = 1024 * 1024
CLOCK_SLACK_SECONDS = 86_400.0  # by which the clocks of store and archive may differ, before a HEAD decides
LEFTOVER_SECONDS = 3600.0
MOST_KEPT = 10_000
_MD5 = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"(-?[0-9]{1,11})(?:\.([0-9]{1,9})[0-9]*)?")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which objects come back.

    Attributes:
        patterns: gitignore-style, over the path below the prefix; none wants all.
        since, until: seconds since 1970, of the file's last modification where the object tells it, else of the
            object's; `since` included, `until` not.
        session: only what this session archived.
    """

    patterns: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    session: str | None = None

    def spec(self) -> GitIgnoreSpec | None:
        """The patterns, compiled.

        Raises:
            ValueError: one of them is none.
        """
        return GitIgnoreSpec.from_lines(self.patterns) if self.patterns else None


class Fate(Enum):
    """What became of one object."""

    RESTORED = "restored"
    ALREADY = "already there"
    SKIPPED = "not wanted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Item:
    """One object and what became of it.

    Attributes:
        path: where it is (or, in a dry run, would be), relative to the target.
        proven: a checksum that came with the object equals that of the bytes on the disk.
    """

    key: str
    fate: Fate
    size_bytes: int = 0
    path: str = ""
    proven: bool = True
    cause: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `--json` shows it."""
        return {
            "s3_key": self.key,
            "result": self.fate.value,
            "path": self.path,
            "size_bytes": self.size_bytes,
            "proven": self.proven,
            "cause": self.cause,
        }


@dataclass(slots=True)
class RestoreReport:
    """Counts of objects; `items` names at most 10,000 of what was restored or failed."""

    restored: int = 0
    already: int = 0
    skipped: int = 0
    failed: int = 0
    renamed: int = 0
    unproven: int = 0
    restored_bytes: int = 0
    dry_run: bool = False
    items: list[Item] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As `--json` shows it."""
        names = (
            "dry_run",
            "restored",
            "restored_bytes",
            "already",
            "skipped",
            "failed",
            "renamed",
            "unproven",
        )
        return {name: getattr(self, name) for name in names} | {
            "files": [item.to_json() for item in self.items]
        }


def restore(
    store: ObjectStore,
    target: Path,
    *,
    prefix: str,
    wanted: Wanted | None = None,
    ledger: Ledger | None = None,
    watched: Path | None = None,
    dry_run: bool = False,
    workers: int = 8,
    windows: bool = os.name == "nt",
    on_item: Callable[[Item, RestoreReport], None] = lambda item, report: None,
) -> RestoreReport:
    """Bring objects back.

    Args:
        target: made where it is missing (not in a dry run).
        prefix: only keys below it; what follows it is the path. Empty: the whole bucket.
        ledger: of `watched`, to know restored files in it as archived.
        watched: the watched directory, where `target` is it or lies in it.
        dry_run: look and compare, write nothing.
        on_item: called on the caller's thread for each object but the unwanted.

    Raises:
        CloudArchiveError: the target cannot be written, or its disk is full.
        StoreError: the bucket cannot be listed.
        ValueError: a pattern is none.
    """
    head = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    spec = (wanted or Wanted()).spec()
    if not dry_run:
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CloudArchiveError(f"{target} cannot be made: {error.strerror}.") from error
    report = RestoreReport(dry_run=dry_run)
    one = _Restorer(store, target, head, wanted or Wanted(), ledger, watched, dry_run, windows)

    def done(item: Item) -> None:
        _count(report, item, one.plain_path(item.key))
        if item.fate is not Fate.SKIPPED:
            on_item(item, report)

    with ThreadPoolExecutor(workers, thread_name_prefix="cloud-archive-restore") as pool:
        under_way: set[Future[Item]] = set()
        try:
            for info in store.list(head):
                if not one.may_be_wanted(info, spec):
                    report.skipped += 1
                    continue
                under_way.add(pool.submit(one.bring, info))
                if len(under_way) >= workers * 4:
                    finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in finished:
                        done(future.result())
            for future in list(under_way):
                done(future.result())
        except BaseException:
            one.stopping.set()
            for future in under_way:
                future.cancel()
            raise
    return report


def _count(report: RestoreReport, item: Item, plain: str) -> None:
    if item.fate is Fate.SKIPPED:
        report.skipped += 1
        return
    if item.fate is Fate.ALREADY:
        report.already += 1
        return
    if item.fate is Fate.FAILED:
        report.failed += 1
    else:
        report.restored += 1
        report.restored_bytes += item.size_bytes
        report.renamed += item.path != plain
        report.unproven += not item.proven
    if len(report.items) < MOST_KEPT:
        report.items.append(item)


class _Restorer:
    """Brings one object at a time per calling thread."""

    def __init__(
        self,
        store: ObjectStore,
        target: Path,
        head: str,
        wanted: Wanted,
        ledger: Ledger | None,
        watched: Path | None,
        dry_run: bool,
        windows: bool,
    ) -> None:
        self._store, self._target, self._head = store, target, head
        self._wanted, self._ledger, self._watched = wanted, ledger, watched
        self._dry_run, self._windows = dry_run, windows
        self._real_target = Path(os.path.realpath(target))
        self.stopping = threading.Event()

    def plain_path(self, key: str) -> str:
        """The path that a key gets where nothing is in its way."""
        return "/".join(local_parts(key[len(self._head) :], windows=self._windows))

    def may_be_wanted(self, info: ObjectInfo, spec: GitIgnoreSpec | None) -> bool:
        """What the listing alone can tell."""
        path = info.key[len(self._head) :]
        if path.endswith("/") or not self.plain_path(info.key):
            return False  # the mark that consoles write for a folder
        if spec is not None and not spec.match_file(path):
            return False
        since, written = self._wanted.since, info.last_modified
        return since is None or written is None or written.timestamp() + CLOCK_SLACK_SECONDS >= since

    def bring(self, info: ObjectInfo) -> Item:
        """One object, whatever happens; only a full disk and a store that is away end the whole run."""
        if self.stopping.is_set():
            return Item(info.key, Fate.SKIPPED)
        try:
            seen = patiently(lambda: self._store.head(info.key))
            if seen is None:
                return Item(info.key, Fate.FAILED, cause="It was deleted meanwhile.")
            if not self._is_wanted(seen):
                return Item(info.key, Fate.SKIPPED)
            return self._bring(seen)
        except StoreError as error:
            return Item(info.key, Fate.FAILED, info.size_bytes, cause=str(error))
        except (KeyRejected, ValueError) as error:
            return Item(info.key, Fate.FAILED, info.size_bytes, cause=str(error))
        except OSError as error:
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
                raise CloudArchiveError(
                    f"The disk of {self._target} is full. What came is kept: free some space and run it again."
                ) from error
            return Item(info.key, Fate.FAILED, info.size_bytes, cause=f"{error.strerror or error}.")

    def _is_wanted(self, info: ObjectInfo) -> bool:
        wanted = self._wanted
        if wanted.session is not None and info.metadata.get("archive-session") != wanted.session:
            return False
        if wanted.since is None and wanted.until is None:
            return True
        moment = modified_ns(info)
        if moment is None:
            return False
        seconds = moment / 1e9
        return (wanted.since is None or seconds >= wanted.since) and (
            wanted.until is None or seconds < wanted.until
        )

    def _bring(self, info: ObjectInfo) -> Item:
        parts = local_parts(info.key[len(self._head) :], windows=self._windows)
        stated = _stated_sha256(info)
        if self._dry_run:
            place, known = self._look_ahead(parts, info, stated)
            return Item(info.key, Fate.ALREADY if known else Fate.RESTORED, info.size_bytes, place)
        folder = self._folder(parts[:-1])
        if stated is not None:
            there = self._same_file(folder, parts[-1], info, stated)
            if there is not None:
                self._remember(there, info, stated)
                return Item(info.key, Fate.ALREADY, info.size_bytes, self._shown(there))
        return self._fetch(folder, parts[-1], info, stated)

    # --- what is there

    def _folder(self, parts: Sequence[str], *, make: bool = True) -> Path:
        """The directory for these parts. A file in its place, or a link that leads out, is gone round: `name (1)`."""
        folder = self._target
        for part in parts:
            for number in range(MAX_CONFLICTS + 1):
                candidate = folder / conflict_key(part, number)
                if make:
                    with contextlib.suppress(FileExistsError):
                        candidate.mkdir()
                if not os.path.lexists(candidate) or self._leads_inside(candidate):
                    folder = candidate
                    break
            else:
                raise ValueError(f"{part} and its numbered names are all taken by files.")
        return folder

    def _leads_inside(self, folder: Path) -> bool:
        if not folder.is_dir():
            return False
        if not folder.is_symlink() and not getattr(folder, "is_junction", bool)():
            return True
        real = Path(os.path.realpath(folder))
        return real == self._real_target or self._real_target in real.parents

    def _same_file(self, folder: Path, name: str, info: ObjectInfo, sha256: str) -> Path | None:
        """The file that holds these bytes already, under its own name or a numbered one."""
        for number in range(MAX_CONFLICTS + 1):
            candidate = folder / conflict_key(name, number)
            try:
                found = candidate.lstat()
            except FileNotFoundError:
                return None
            if not stat_module.S_ISREG(found.st_mode) or found.st_size != info.size_bytes:
                continue
            # To the nanosecond and the byte: our own work of an earlier run.
            if found.st_mtime_ns == modified_ns(info) and found.st_mtime_ns % 1000:
                return candidate
            if _sha256_of(candidate) == sha256:
                return candidate
        return None

    def _look_ahead(self, parts: Sequence[str], info: ObjectInfo, sha256: str | None) -> tuple[str, bool]:
        folder = self._folder(parts[:-1], make=False)
        if sha256 is not None:
            there = self._same_file(folder, parts[-1], info, sha256)
            if there is not None:
                return self._shown(there), True
        for number in range(MAX_CONFLICTS + 1):
            candidate = folder / conflict_key(parts[-1], number)
            if not os.path.lexists(candidate):
                return self._shown(candidate), False
        raise ValueError(f"{parts[-1]} and its numbered names are all taken.")

    def _shown(self, local: Path) -> str:
        return to_relative(self._target, local)

    # --- fetching

    def _fetch(self, folder: Path, name: str, info: ObjectInfo, stated: str | None) -> Item:
        mark = hashlib.sha256(f"{info.key}/{info.etag}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        _remove_leftovers(folder, mark)
        # Hidden and unfinished, so that no archive takes it; this run's own, for another may fetch the same.
        partial = folder / f".{mark}-{secrets.token_hex(4)}.part"
        try:
            sha256, md5 = patiently(lambda: self._download(info, partial))
            proof = _proof(info, stated, sha256, md5)
            if proof is False:
                raise ValueError(
                    "The bytes that came are not those that its checksum names. Nothing was kept."
                )
            moment = modified_ns(info)
            if moment is not None:
                os.utime(partial, ns=(moment, moment))
            place = self._place(partial, folder, name, replace(info, sha256=sha256), sha256)
        finally:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()
        fate = Fate.RESTORED if place[1] else Fate.ALREADY
        return Item(info.key, fate, info.size_bytes, self._shown(place[0]), proven=bool(proof))

    def _download(self, info: ObjectInfo, partial: Path) -> tuple[str, str]:
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        size_bytes = 0
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()  # of the try before
        with partial.open("xb") as file:
            for piece in self._store.read(info.key):
                if self.stopping.is_set():
                    raise ValueError("Interrupted.")
                file.write(piece)
                sha256.update(piece)
                md5.update(piece)
                size_bytes += len(piece)
            file.flush()
            os.fsync(file.fileno())
        if size_bytes != info.size_bytes:
            raise ValueError(f"{size_bytes} bytes came, and it has {info.size_bytes}.")
        return sha256.hexdigest(), md5.hexdigest()

    def _place(
        self, partial: Path, folder: Path, name: str, info: ObjectInfo, sha256: str
    ) -> tuple[Path, bool]:
        """Give it the first name that is free; (where it is, whether it is new)."""
        there = self._same_file(folder, name, info, sha256)
        if there is not None:
            self._remember(there, info, sha256)
            return there, False
        for number in range(MAX_CONFLICTS + 1):
            final = folder / conflict_key(name, number)
            if os.path.lexists(final):
                continue
            self._remember(final, info, sha256, partial)
            if _move_new(partial, final):
                return final, True
        raise ValueError(f"{name} and its {MAX_CONFLICTS} numbered names are all taken by other files.")

    def _remember(self, final: Path, info: ObjectInfo, sha256: str, partial: Path | None = None) -> None:
        """Let the ledger know the file as archived, before it appears."""
        if self._ledger is None or self._watched is None:
            return
        try:
            path = to_relative(self._watched, final)
        except ValueError:
            return
        version = FileVersion.of_stat(path, (partial or final).lstat())
        add_restored(self._ledger, [Restored(version, info.key, sha256, info.etag)])


def modified_ns(info: ObjectInfo) -> int | None:
    """When the file was last modified, in nanoseconds since 1970: as its archive noted it, else the object's time.

    The metadata is `seconds.nanoseconds`, as rclone writes it too.
    """
    match = _TIME.fullmatch(info.metadata.get("mtime", ""))
    if match is not None:
        fraction = int((match.group(2) or "").ljust(9, "0"))
        whole = int(match.group(1)) * 10**9
        return whole - fraction if match.group(1).startswith("-") else whole + fraction
    return None if info.last_modified is None else int(info.last_modified.timestamp()) * 10**9


def _stated_sha256(info: ObjectInfo) -> str | None:
    for found in (info.checksum_sha256, info.sha256):
        if found is not None and _SHA256.fullmatch(found):
            return found
    return None


def _proof(info: ObjectInfo, stated: str | None, sha256: str, md5: str) -> bool | None:
    """Whether a checksum that came with the object fits the bytes; None: none came.

    An ETag may be an MD5 or something that only looks like one (objects encrypted with KMS), so it can only prove.
    """
    if stated is not None:
        return stated == sha256
    return True if info.etag is not None and _MD5.fullmatch(info.etag) and info.etag == md5 else None


def _sha256_of(local: Path) -> str | None:
    digest = hashlib.sha256()
    try:
        with local.open("rb") as file:
            for piece in _pieces(file):
                digest.update(piece)
    except OSError:
        return None
    return digest.hexdigest()


def _pieces(file: Any) -> Iterator[bytes]:
    while piece := file.read(HASH_BYTES):
        yield piece


def _remove_leftovers(folder: Path, mark: str) -> None:
    """What a run that was killed left of this object; a run that is at it now wrote to its own not long ago."""
    for leftover in folder.glob(f".{mark}-*.part"):
        with contextlib.suppress(OSError):
            if leftover.lstat().st_mtime < time.time() - LEFTOVER_SECONDS:
                leftover.unlink()


def _move_new(partial: Path, final: Path) -> bool:
    """Rename without ever replacing; False where the name was taken in between."""
    if os.name == "nt":
        try:
            partial.rename(final)  # refuses a name that is taken
        except FileExistsError:
            return False
        return True
    try:
        os.link(partial, final)
        partial.unlink()
        return True
    except FileExistsError:
        return False
    except OSError:  # a filesystem without hard links
        try:
            os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            return False
        partial.replace(final)
        return True
