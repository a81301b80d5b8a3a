"""The directory and its state at another path: what waited is archived there. Real ledgers, a store in memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.errors import StoreError
from cloud_archive.files import UNSURE_NS, stat_version
from cloud_archive.ledger.ledger import COMPARE_WITH_BUCKET, FIRST_START, Ledger
from cloud_archive.ledger.moved_root import continue_after_move
from cloud_archive.ledger.recovery import open_ledger
from cloud_archive.own_files import is_state_file
from cloud_archive.state import BEGAN_NAME, LEDGER_NAME, make_state_directory, platform_state_directory
from cloud_archive.store.failures import explain
from tests.functional.archives import engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until


def _refuse(operation: str, key: str) -> None:
    raise StoreError(operation, key, explain("ConnectionRefused"))


def _write(path: Path, moment: float = 1e9) -> None:
    """Write a file with an mtime long before any start."""
    path.write_bytes(path.name.encode())
    os.utime(path, (moment, moment))


def _wait_until_idle(engine: Engine) -> None:
    wait_until(lambda: engine.status(scan=False).state.value == "idle", "it is idle")


def _archive_a_part(store: MemoryStore, root: Path, state: Path) -> None:
    """Leave one file from before the first start, one that is archived, one that waits, and one never seen."""
    root.mkdir(parents=True)
    _write(root / "older.bin")
    with engine_on(root, store, state) as engine:
        _wait_until_idle(engine)
        (root / "archived.bin").write_bytes(b"archived")
        assert engine.flush(60)
        store.on_call = _refuse
        _write(root / "waits.bin")
        wait_until(lambda: engine.archiver().ledger.totals().waiting.files == 1, "it was tried")
    store.on_call = lambda operation, key: None
    _write(root / "unseen.bin")


def _archived_at_start(store: MemoryStore, root: Path, state: Path, **environ: str) -> list[str]:
    """Return the keys that a start at this path adds, and that a second one leaves as they are."""
    before = store.bodies().keys()
    for _ in range(2):
        with engine_on(root, store, state, **environ) as engine:
            _wait_until_idle(engine)
            assert engine.flush(60)
            older = engine.status().baseline_files
            added = sorted(store.bodies().keys() - before)
            assert older == len(list(root.glob("*.bin"))) - len(added)
    return added


@pytest.mark.parametrize("inside", [False, True])
def test_what_waited_is_archived_where_the_directory_went_with_its_state(
    tmp_path: Path, inside: bool
) -> None:
    store, volume, mounted = MemoryStore(), tmp_path / "workspace", tmp_path / "runpod-volume"
    state = Path("output/state" if inside else "state")
    _archive_a_part(store, volume / "output", volume / state)
    shutil.copytree(volume / state, tmp_path / "kept")
    volume.rename(mounted)
    added = _archived_at_start(store, mounted / "output", mounted / state)
    assert added == ["out/unseen.bin", "out/waits.bin"]
    assert (mounted / state / LEDGER_NAME).read_bytes() == (tmp_path / "kept" / LEDGER_NAME).read_bytes()
    # Back at the first path, and then again at the second one, each ledger goes on.
    mounted.rename(volume)
    (volume / "output/back.bin").write_bytes(b"back")
    with engine_on(volume / "output", store, volume / state) as engine:
        assert engine.flush(60)
    volume.rename(mounted)
    (mounted / "output/there.bin").write_bytes(b"there")
    with engine_on(mounted / "output", store, mounted / state) as engine:
        assert engine.flush(60)
    assert sorted(store.bodies()) == [
        f"out/{name}.bin" for name in ("archived", "back", "there", "unseen", "waits")
    ]


def test_uploads_that_the_end_before_a_move_interrupted_are_aborted(tmp_path: Path) -> None:
    store, old, new, state = MemoryStore(), tmp_path / "old", tmp_path / "new", tmp_path / "state"
    _archive_a_part(store, old, state)
    begun, given_up = (
        store.create_multipart(f"out/{name}.bin", content_type="", metadata={}) for name in ("waits", "b")
    )
    with contextlib.closing(sqlite3.connect(state / LEDGER_NAME)) as db, db:
        db.execute("UPDATE files SET key = 'out/waits.bin', upload_id = ? WHERE state < 3", (begun,))
        db.execute("INSERT INTO abandoned VALUES ('out/b.bin', ?)", (given_up,))
    old.rename(new)
    with engine_on(new, store, state):
        wait_until(lambda: not store.uploads, "both are aborted")


def test_a_directory_that_moved_without_its_platform_state_is_continued(tmp_path: Path) -> None:
    store, old, new = MemoryStore(), tmp_path / "old", tmp_path / "new"
    place = platform_state_directory()
    _archive_a_part(store, old, place / "old-0123456789ab")
    old.rename(new)
    assert _archived_at_start(store, new, place / "new-0123456789ab") == ["out/unseen.bin", "out/waits.bin"]


def test_a_directory_whose_archived_files_were_deleted_before_it_moved_is_continued(tmp_path: Path) -> None:
    store, old, new, state = MemoryStore(), tmp_path / "old", tmp_path / "new", tmp_path / "state"
    _archive_a_part(store, old, state)
    (old / "archived.bin").unlink()
    old.rename(new)
    assert _archived_at_start(store, new, state) == ["out/unseen.bin", "out/waits.bin"]


def test_a_directory_that_moved_before_anything_was_archived_is_continued(tmp_path: Path) -> None:
    store, old, new, state = MemoryStore(), tmp_path / "old", tmp_path / "new", tmp_path / "state"
    old.mkdir()
    _write(old / "older.bin")
    _write(old / "older too.bin")
    with engine_on(old, store, state) as engine:
        _wait_until_idle(engine)
    _write(old / "unseen.bin")
    old.rename(new)
    assert _archived_at_start(store, new, state) == ["out/unseen.bin"]


def test_a_copy_and_its_original_archive_what_waited_once(tmp_path: Path) -> None:
    """A copy may be the first half of a move, and the original may be on another machine."""
    store, old, new, state = MemoryStore(), tmp_path / "old", tmp_path / "new", tmp_path / "state"
    _archive_a_part(store, old, state)
    shutil.copytree(old, new)
    with engine_on(old, store, state) as engine:
        _wait_until_idle(engine)
        store.on_call = _refuse
        _write(old / "later.bin")
        shutil.copy2(old / "later.bin", new)
        wait_until(lambda: engine.archiver().ledger.totals().waiting.files == 1, "it was tried")
        store.on_call = lambda operation, key: None
        with engine_on(new, store, state) as copy:  # reads a ledger that is in use
            assert copy.flush(60)
            assert copy.status().baseline_files == 4
        assert engine.flush(60)
    names = ("archived", "later", "unseen", "waits")
    assert sorted(store.bodies()) == [f"out/{name}.bin" for name in names]


def test_another_directory_with_the_same_state_directory_begins_anew(tmp_path: Path) -> None:
    store, old, new, state = MemoryStore(), tmp_path / "old", tmp_path / "new", tmp_path / "state"
    _archive_a_part(store, old, state)
    shutil.rmtree(old)
    new.mkdir()
    for name in ("older", "archived", "waits", "unseen"):
        _write(new / f"{name}.bin", 1e9 + 1)
    _write(new / "waits.bin")  # one file alone may have been copied
    assert _archived_at_start(store, new, state) == []


def test_a_trial_with_a_copied_file_makes_no_old_file_new(tmp_path: Path) -> None:
    """Programs that copy a file keep its mtime, as on Windows and macOS."""
    store, trial, real, state = MemoryStore(), tmp_path / "trial", tmp_path / "real", tmp_path / "state"
    trial.mkdir()
    real.mkdir()
    for number in range(4):
        _write(real / f"{number}.bin")
    with engine_on(trial, store, state) as engine:
        _wait_until_idle(engine)
        shutil.copy2(real / "1.bin", trial)
        assert engine.flush(60)
    assert sorted(store.bodies()) == ["out/1.bin"]
    assert _archived_at_start(store, real, state) == []


def test_files_that_are_copied_after_the_first_start_are_new(tmp_path: Path) -> None:
    """The first one looks like a move. The other directory may have another bucket, which has none of them."""
    store, other_bucket = MemoryStore(), MemoryStore()
    root, favourites, state = tmp_path / "root", tmp_path / "favourites", tmp_path / "state"
    root.mkdir()
    favourites.mkdir()
    with engine_on(root, store, state) as engine:
        _wait_until_idle(engine)
        for number in range(3):
            _write(root / f"{number}.bin")
        assert engine.flush(60)
    shutil.copy2(root / "0.bin", favourites)
    assert _archived_at_start(other_bucket, favourites, state) == []
    shutil.copy2(root / "1.bin", favourites)
    assert _archived_at_start(other_bucket, favourites, state) == ["out/1.bin"]


def test_hidden_and_temporary_files_hide_no_move(tmp_path: Path) -> None:
    store, old, new, state = MemoryStore(), tmp_path / "old", tmp_path / "new", tmp_path / "state"
    _archive_a_part(store, old, state)
    (old / ".thumbs").mkdir()
    for number in range(5):
        _write(old / f".thumbs/{number}.png")
        _write(old / f"{number}.png.tmp")
    old.rename(new)
    assert _archived_at_start(store, new, state) == ["out/unseen.bin", "out/waits.bin"]


def test_with_backfill_all_everything_is_compared_after_a_move(tmp_path: Path) -> None:
    store, old, new, state = MemoryStore(), tmp_path / "old", tmp_path / "new", tmp_path / "state"
    _archive_a_part(store, old, state)
    old.rename(new)
    with engine_on(new, store, state, CLOUD_ARCHIVE_BACKFILL="all") as engine:
        assert engine.flush(60)
        assert engine.status().already_archived_files == 1
    assert sorted(store.bodies()) == [f"out/{name}.bin" for name in ("archived", "older", "unseen", "waits")]


def _old_and_new_ledger(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Make a state directory with a ledger of 2,000 archived files and one that waits. Return it, old and new root."""
    old, new, state = tmp_path / "old", tmp_path / "new", tmp_path / "state"
    old.mkdir()
    for number in range(2000):
        _write(old / f"{number}.bin")
    _write(old / "waits.bin")
    make_state_directory(old, state)
    with _ledger(state) as ledger:
        ledger.add(stat_version(old, f"{number}.bin") for number in range(2000))
        ledger.change(lambda db: db.execute("UPDATE files SET state = 3, archived_at = 1") and None)
        ledger.add([stat_version(old, "waits.bin")])
        ledger.remember(FIRST_START, "2")
    old.rename(new)
    return state, new, make_state_directory(new, state)


@contextmanager
def _ledger(state: Path) -> Iterator[Ledger]:
    ledger = Ledger(state / LEDGER_NAME)
    ledger.open()
    try:
        yield ledger
    finally:
        ledger.close()


def _change_much(state: Path) -> None:
    with _ledger(state) as ledger:
        ledger.change(lambda db: db.execute("UPDATE files SET key = printf('%0500d', id)") and None)


def _baseline_files(ledger: Ledger) -> int:
    return int(ledger.read("SELECT count(*) FROM baseline")[0][0])


def test_a_ledger_that_changes_while_it_is_copied_is_copied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, root, here = _old_and_new_ledger(tmp_path)
    whole_copy, copies = shutil.copyfile, []

    def torn_copy(source: Path, target: Path) -> None:
        copies.append(source.name)
        assert is_state_file(target)  # no archive may take it for an output
        if len(copies) > 1:
            whole_copy(source, target)
            return
        with source.open("rb") as reader, target.open("wb") as writer:
            writer.write(reader.read(source.stat().st_size // 2))
            _change_much(source.parent)
            writer.write(reader.read())

    monkeypatch.setattr(shutil, "copyfile", torn_copy)
    with _ledger(here) as ledger:
        assert continue_after_move(ledger, root, here) == []
        assert _baseline_files(ledger) == 2000
        assert ledger.recall(FIRST_START) == "2"
    assert copies.count(LEDGER_NAME) == 2
    assert not [each.name for each in here.iterdir() if each.is_dir()]


def test_an_archived_file_that_was_to_be_hashed_again_is_new_after_a_move(tmp_path: Path) -> None:
    """Its bytes may have changed in the moment of its upload, without new timestamps."""
    store, old, new, state = MemoryStore(), tmp_path / "old", tmp_path / "new", tmp_path / "state"
    _archive_a_part(store, old, state)
    with _ledger(state) as ledger:  # as if it was written within a tick of the clock
        ledger.change(
            lambda db: (
                db.execute("UPDATE files SET ctime_offset = ? - mtime_ns WHERE state = 3", (UNSURE_NS,))
                and None
            )
        )
    times = (old / "archived.bin").stat()
    (old / "archived.bin").write_bytes(b"ARCHIVED")
    os.utime(old / "archived.bin", ns=(times.st_atime_ns, times.st_mtime_ns))
    old.rename(new)
    added = _archived_at_start(store, new, state)
    assert added == ["out/archived (1).bin", "out/unseen.bin", "out/waits.bin"]


def test_a_kill_after_any_commit_leaves_no_half_continued_ledger(tmp_path: Path) -> None:
    """What says that the baseline is complete comes last, and in one commit."""
    state, root, here = _old_and_new_ledger(tmp_path)
    with _ledger(state) as ledger:
        ledger.remember(COMPARE_WITH_BUCKET, "3")
    begun: list[set[str]] = []
    with _ledger(here) as ledger:

        def note_names() -> None:
            with contextlib.closing(ledger.connect()) as db:
                begun.append({name for (name,) in db.execute("SELECT name FROM meta")})

        ledger.on_commit = note_names
        continue_after_move(ledger, root, here)
    names = {FIRST_START, COMPARE_WITH_BUCKET}
    assert {frozenset(each & names) for each in begun} == {frozenset(), frozenset(names)}


def test_a_first_start_whose_own_ledger_cannot_be_used_continues_in_memory(tmp_path: Path) -> None:
    _, root, here = _old_and_new_ledger(tmp_path)
    (here / LEDGER_NAME).mkdir()
    ledger, _, _ = open_ledger(here, root=root)
    try:
        assert ledger.path is None
        assert _baseline_files(ledger) == 2000
        # After a kill, the next start compares what is younger than the first start at the earlier path.
        assert (here / BEGAN_NAME).read_text("utf-8") == "2.0\n"
    finally:
        ledger.close()


def test_a_copy_that_a_kill_left_behind_is_removed(tmp_path: Path) -> None:
    _, root, here = _old_and_new_ledger(tmp_path)
    with _ledger(here) as ledger:
        continue_after_move(ledger, root, here)
        (here / "ledger.other").mkdir()
        (here / "ledger.other" / LEDGER_NAME).write_bytes(b"copied in part")
        continue_after_move(ledger, root, here)
    assert not (here / "ledger.other").exists()


@pytest.mark.parametrize(
    ("fault", "cause"),
    [("damaged", "file is not a database"), ("newer", "it was written by a newer version of Cloud Archive")],
)
def test_an_unreadable_ledger_of_another_path_is_named_in_the_status(
    tmp_path: Path, fault: str, cause: str
) -> None:
    store, old, new, state = MemoryStore(), tmp_path / "old", tmp_path / "new", tmp_path / "state"
    _archive_a_part(store, old, state)
    old.rename(new)
    if fault == "damaged":
        (state / LEDGER_NAME).write_bytes(b"no database" * 1000)
    else:
        with contextlib.closing(sqlite3.connect(state / LEDGER_NAME)) as db:
            db.execute("PRAGMA user_version = 999")
    with engine_on(new, store, state) as engine:
        _wait_until_idle(engine)
        (sentence,) = engine.status().errors
        assert sentence.startswith(f"The ledger in {state} can't be read: {cause}.")
        assert "CLOUD_ARCHIVE_BACKFILL=all" in sentence
    assert _archived_at_start(store, new, state) == []
    with engine_on(new, store, state, CLOUD_ARCHIVE_BACKFILL="all") as engine:
        assert engine.flush(60)
    assert "out/waits.bin" in store.bodies()


def test_unreadable_ledgers_are_no_matter_to_an_empty_directory_and_one_notice_to_another(
    tmp_path: Path,
) -> None:
    place = make_state_directory(tmp_path / "first", tmp_path / "state")
    for number in range(30):
        (place / f"{number}").mkdir(mode=0o700)
        (place / f"{number}" / LEDGER_NAME).write_bytes(b"no database" * 1000)
        os.utime(place / f"{number}" / LEDGER_NAME, (number, number))
    root = tmp_path / "root"
    root.mkdir()
    (root / "empty").touch()
    here = make_state_directory(root, tmp_path / "state")
    with _ledger(here) as ledger:
        assert continue_after_move(ledger, root, here) == []
        _write(root / "older.bin")
        (sentence,) = continue_after_move(ledger, root, here)
    assert sentence.startswith(f"The ledger in {place / '29'} can't be read: ")
