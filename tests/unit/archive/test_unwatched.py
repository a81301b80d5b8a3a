"""The count of the files that are not archived, while nothing watches the directory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive import unwatched as module
from cloud_archive.archive.unarchived import FoundFile
from cloud_archive.archive.unwatched import count_unarchived
from cloud_archive.errors import CloudArchiveError
from cloud_archive.files import SkipReason, stat_version
from cloud_archive.intake.selection import Selection
from cloud_archive.intake.walk import walk
from cloud_archive.ledger.ledger import Ledger
from tests.archived_rows import mark_archived
from tests.functional.archives import archiving
from tests.memory_store import MemoryStore


def write(root: Path, *names: str, body: bytes = b"x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(body)


def test_it_counts_what_is_to_be_archived_what_is_old_and_what_is_left_out(
    root: Path, ledger: Ledger
) -> None:
    write(root, "new.png", "old.png", ".hidden", ".cache/x")
    ledger.add_to_baseline([stat_version(root, "old.png").fingerprint])
    tally = count_unarchived(root, Selection(), ledger)
    assert (tally.unseen, tally.baseline, tally.skipped_files) == (1, 1, 2)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no change time")
def test_a_file_that_was_touched_since_it_was_archived_counts_as_unseen(root: Path, ledger: Ledger) -> None:
    write(root, "a.png")
    version = stat_version(root, "a.png")
    ledger.add([version])
    claim = ledger.claim("test")
    assert claim is not None
    mark_archived(ledger, claim, key="out/a.png", sha256="0" * 64, etag=None, read=version)
    assert count_unarchived(root, Selection(), ledger).unseen == 0
    (root / "a.png").unlink()
    write(root, "a.png", body=b"y")
    os.utime(root / "a.png", ns=(version.mtime_ns, version.mtime_ns))
    assert count_unarchived(root, Selection(), ledger).unseen == 1


@pytest.mark.parametrize("path", ["dark", "dark/a.png"])  # a folder, or one file in it
def test_what_cannot_be_read_makes_the_count_fail(
    path: str, root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(
        root: Path, wants: object, on_error: Callable[[str, str], None], **_: object
    ) -> Iterator[FoundFile]:
        on_error(path, "Permission denied")
        yield from ()

    monkeypatch.setattr(module, "walk", unreadable)
    with pytest.raises(CloudArchiveError, match=rf"^{path} can't be scanned: Permission denied\.$"):
        count_unarchived(root, Selection(), ledger)


def test_a_directory_that_cannot_be_read_is_named(root: Path, ledger: Ledger) -> None:
    missing = root / "missing"
    with pytest.raises(CloudArchiveError, match=re.escape(f"{missing} can't be scanned: ")):
        count_unarchived(missing, Selection(), ledger)


def test_what_an_engine_has_scanned_is_counted_without_a_look_up(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "a.png", "b.png", ".hidden")
    with archiving(root, MemoryStore()) as archiver:
        assert archiver.flush(60)
        watch = archiver.pipeline.watch
        assert watch is not None
        watch.reconciler.now(60)  # the first scan that finds nothing new
        archiver.pause()
        with monkeypatch.context() as patched:
            patched.setattr(module, "look_up", lambda *_, **__: pytest.fail("a look-up"))
            tally = archiver.pipeline.count_unarchived(60)
        assert (tally.unseen, dict(tally.skipped)) == (0, {SkipReason.HIDDEN: 1})
        write(root, "c.png")
        assert archiver.pipeline.count_unarchived(60).unseen == 1


def test_a_count_ends_when_its_time_is_up(root: Path) -> None:
    write(root, "a.png")
    with archiving(root, MemoryStore()) as archiver:
        assert archiver.flush(60)
        archiver.pause()
        with pytest.raises(CloudArchiveError, match="interrupted"):
            archiver.pipeline.count_unarchived(-1)
        assert archiver.safety.safe_to_stop(60)


def test_a_count_ends_when_watching_starts_because_that_scans(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "a.png")
    with archiving(root, MemoryStore()) as archiver:
        assert archiver.flush(60)
        archiver.pause()

        def starting(*arguments: Any, **options: Any) -> Iterator[FoundFile]:
            archiver.start()
            yield from walk(*arguments, **options)

        monkeypatch.setattr(module, "walk", starting)
        with pytest.raises(CloudArchiveError, match="interrupted"):
            archiver.pipeline.count_unarchived(60)


@pytest.mark.parametrize("include", [(), ("*.png",)])
def test_a_folder_that_moves_during_the_count_makes_it_fail(
    root: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, include: tuple[str, ...]
) -> None:
    write(root, "a/x.png", "b/x.png")
    first, last = (path.partition("/")[0] for path, _ in walk(root))

    def moving(*arguments: Any, **options: Any) -> Iterator[FoundFile]:
        for found in walk(*arguments, **options):
            if found[0] == f"{first}/x.png" and (root / last).exists():
                (root / last).rename(root / first / "moved")
            yield found

    monkeypatch.setattr(module, "walk", moving)
    with pytest.raises(CloudArchiveError, match=f"{last} was moved or removed during the scan"):
        count_unarchived(root, Selection(include), ledger)
