"""The watched directory is missing or replaced; a rename stands for an unmounted volume."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from cloud_archive.cli.app import main
from cloud_archive.cli.ledger_view import read_ledger_view
from cloud_archive.errors import CloudArchiveError, RootReplaced, StoreError
from cloud_archive.ledger.history import existing_ledger
from cloud_archive.ledger.known_root import KnownRoot
from cloud_archive.ledger.ledger import KNOWN_ROOT, Ledger
from cloud_archive.maintenance.free import Limits, LocalCleaner
from cloud_archive.state import LEDGER_NAME
from cloud_archive.store.failures import explain
from tests.functional.archives import ENVIRON, archiving, engine_on
from tests.memory_store import MemoryStore
from tests.servers import wait_until

NATIVE = {"CLOUD_ARCHIVE_WATCH": "native"}

held = pytest.mark.skipif(os.name == "nt", reason="a removed directory keeps its name while it is watched")


def _archive(root: Path, store: MemoryStore, state: Path, *names: str) -> None:
    """Archive these files in a session of its own."""
    with engine_on(root, store, state, **NATIVE) as engine:
        wait_until(lambda: engine.status(scan=False).state.value == "idle", "the first scan")
        for name in names:
            (root / name).write_bytes(name.encode())
        assert engine.flush(60)


def _local_cleaner(root: Path, store: MemoryStore, ledger: Ledger) -> LocalCleaner:
    known = KnownRoot(root, ledger)
    return LocalCleaner(
        ledger,
        store,
        root,
        Limits(older_than_seconds=3600.0),
        has_writer=lambda root, path: False,
        clock=lambda: time.time() + 1e6,
        check_root=known.check,
    )


def _assert_nothing_is_freed(root: Path, store: MemoryStore, state: Path) -> None:
    with existing_ledger(state / LEDGER_NAME) as ledger:
        with pytest.raises(RootReplaced):
            _local_cleaner(root, store, ledger).run_once()
        assert all(row.freed_at is None for row in ledger.rows(limit=5))


@pytest.mark.parametrize("kind", [pytest.param("empty", marks=held), "missing"])
def test_waiting_files_do_not_count_as_gone_with_the_directory(tmp_path: Path, root: Path, kind: str) -> None:
    store, away = MemoryStore(), tmp_path / "away"

    def refuse(operation: str, key: str) -> None:
        raise StoreError(operation, key, explain("ConnectionRefused"))

    with engine_on(root, store, tmp_path / "state", **NATIVE) as engine:
        wait_until(lambda: engine.status(scan=False).state.value == "idle", "the first scan")
        store.on_call = refuse
        for number in range(3):
            (root / f"{number}.bin").write_bytes(b"%d" % number)
        ledger = engine.archiver().ledger

        def they_wait() -> bool:
            """The refusal of one may come before the others are tried."""
            totals = ledger.totals()
            return totals.waiting.files > 0 and totals.open.files == 3 and totals.uploading.files == 0

        wait_until(they_wait, "they wait")
        root.rename(away)
        if kind == "empty":
            root.mkdir()
        engine.retry()
        wait_until(lambda: all(row.code == "RootReplaced" for row in ledger.rows(limit=3)), "they were tried")
        store.on_call = lambda operation, key: None  # not before: an upload may be under way
        assert not engine.flush(0.5)
        status = engine.status()
        assert (status.vanished_files, status.safe_to_stop, status.pending_files) == (0, False, 3)
        wait_until(lambda: engine.status(scan=False).state.value == "retrying", "each waits for its next try")
        wanted = "is another directory now" if kind == "empty" else "is missing"
        assert any(wanted in error for error in status.errors), status.errors
        if kind == "empty":
            # Files that are written into it are archived under their usual keys.
            (root / "meanwhile.bin").write_bytes(b"meanwhile")
            wait_until(lambda: "out/meanwhile.bin" in store.bodies(), "it arrived")
            shutil.rmtree(root)
        away.rename(root)
        assert engine.flush(60), engine.status(scan=False)
        assert engine.status().errors == ()
    assert {f"out/{number}.bin" for number in range(3)} <= set(store.bodies())


def test_an_accepted_directory_becomes_the_known_one(tmp_path: Path, root: Path) -> None:
    store = MemoryStore()
    with engine_on(root, store, tmp_path / "state", **NATIVE) as engine:
        wait_until(lambda: engine.status(scan=False).state.value == "idle", "the first scan")
        (root / "a.bin").write_bytes(b"a")
        assert engine.flush(60)
        # Filled before it takes the root's name: an event for its file would tell of a new one.
        other = tmp_path / "other"
        other.mkdir()
        old = other / "of somebody else.bin"
        old.write_bytes(b"not ours")
        long_ago = time.time() - 1e6
        os.utime(old, (long_ago, long_ago))
        root.rename(tmp_path / "away")
        other.rename(root)
        assert not engine.status().safe_to_stop
        assert not engine.flush(1)
        assert set(store.bodies()) == {"out/a.bin"}
        engine.rescan(accept_root=True)
        assert engine.flush(60)
        assert set(store.bodies()) == {"out/a.bin", "out/of somebody else.bin"}


@held
def test_a_start_over_an_unmounted_directory_is_not_safe_until_it_is_mounted(
    tmp_path: Path, root: Path
) -> None:
    store, state, away = MemoryStore(), tmp_path / "state", tmp_path / "away"
    _archive(root, store, state, "a.bin", "b.bin")
    (root / "missed.bin").write_bytes(b"missed")
    root.rename(away)
    root.mkdir()
    with pytest.raises(RootReplaced):
        read_ledger_view(root, {**ENVIRON, "CLOUD_ARCHIVE_STATE_DIR": str(state)})
    _assert_nothing_is_freed(root, store, state)
    with engine_on(root, store, state, **NATIVE) as engine:
        wait_until(lambda: bool(engine.status(scan=False).errors), "the first scan")
        status = engine.status()
        assert (status.state.value, status.safe_to_stop, status.running) == ("retrying", False, True)
        assert any("holds none of the files" in error for error in status.errors)
        root.rmdir()
        # Another container: the directory has another device or inode.
        shutil.copytree(away, root)
        assert engine.flush(60), engine.status(scan=False)
        assert engine.status().errors == ()
    assert set(store.bodies()) == {"out/a.bin", "out/b.bin", "out/missed.bin"}


@pytest.mark.parametrize(("body", "is_known"), [(b"a.bin", True), (b"another picture", False)])
def test_a_file_of_the_same_name_and_size_identifies_the_directory(
    tmp_path: Path, root: Path, body: bytes, is_known: bool
) -> None:
    """A copy may have lost the times; ComfyUI begins an unmounted directory with the same names again."""
    state = tmp_path / "state"
    _archive(root, MemoryStore(), state, "a.bin", "b.bin")
    root.rename(tmp_path / "away")
    root.mkdir()
    (root / "a.bin").write_bytes(body)
    with existing_ledger(state / LEDGER_NAME) as ledger:
        assert (KnownRoot(root, ledger).find_problem() is None) is is_known


@held
@pytest.mark.parametrize("noticed", ["at a start", "while it runs"])
def test_files_written_into_another_directory_do_not_make_it_the_known_one(
    tmp_path: Path, root: Path, noticed: str
) -> None:
    store, state, away = MemoryStore(), tmp_path / "state", tmp_path / "away"
    _archive(root, store, state, "a.bin", "b.bin")
    if noticed == "at a start":
        root.rename(away)
        root.mkdir()
    with engine_on(root, store, state, **NATIVE) as engine:
        wait_until(lambda: engine.status(scan=False).state.value != "starting", "the first scan")
        if noticed == "while it runs":
            root.rename(away)
            root.mkdir()
        wait_until(lambda: not engine.status().safe_to_stop, "it is noticed")
        # ComfyUI numbers its files from 1 again, so even the name may be that of a known file.
        for name in ("a.bin", "c.bin"):
            (root / name).write_bytes(b"written meanwhile")
        wait_until(lambda: {"out/a (1).bin", "out/c.bin"} <= store.bodies().keys(), "they arrived")
    _assert_nothing_is_freed(root, store, state)
    with engine_on(root, store, state, **NATIVE) as engine:
        wait_until(lambda: bool(engine.status(scan=False).errors), "the first scan")
        assert not engine.status().safe_to_stop
        shutil.rmtree(root)
        away.rename(root)
        assert engine.flush(60), engine.status(scan=False)
        assert engine.status().errors == ()
    with existing_ledger(state / LEDGER_NAME) as ledger:
        KnownRoot(root, ledger).check()


def test_the_known_directory_may_be_emptied(tmp_path: Path, root: Path) -> None:
    store, state = MemoryStore(), tmp_path / "state"
    _archive(root, store, state, "a.bin")
    (root / "a.bin").unlink()
    _archive(root, store, state, "b.bin")
    (root / "b.bin").unlink()
    with existing_ledger(state / LEDGER_NAME) as ledger:
        ledger.remember(KNOWN_ROOT, None)  # as an earlier version left it
    _archive(root, store, state, "c.bin")
    assert len(store.bodies()) == 3


def test_free_records_nothing_once_the_directory_disappears_meanwhile(tmp_path: Path, root: Path) -> None:
    store, state = MemoryStore(), tmp_path / "state"
    _archive(root, store, state, "a.bin")
    with existing_ledger(state / LEDGER_NAME) as ledger:
        cleaner = _local_cleaner(root, store, ledger)
        real = cleaner._candidates

        def unmounted(now: float) -> object:
            for row in real(now):
                root.rename(tmp_path / "away")
                root.mkdir()
                yield row

        cleaner._candidates = unmounted  # type: ignore[assignment]
        with pytest.raises(RootReplaced):
            cleaner.run_once()
        assert all(row.freed_at is None for row in ledger.rows(limit=5))


def test_the_command_accepts_a_directory_while_nothing_runs(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    _archive(root, MemoryStore(), state, "a.bin")
    root.rename(tmp_path / "away")
    root.mkdir()
    monkeypatch.setenv("CLOUD_ARCHIVE_STATE_DIR", str(state))
    assert main(["status", str(root)]) == 1
    assert (
        "if it was emptied or is meant to be a new directory, run `cloud-archive rescan --accept-root`"
        in capsys.readouterr().err
    )
    assert main(["rescan", str(root)]) == 1
    capsys.readouterr()
    assert main(["rescan", str(root), "--accept-root", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["safe_to_stop"] is True
    assert main(["status", str(root)]) == 0


def test_a_stopped_archive_names_the_replaced_directory_and_accepts_it(tmp_path: Path, root: Path) -> None:
    store = MemoryStore()
    with engine_on(root, store, tmp_path / "state", **NATIVE) as engine:
        wait_until(lambda: engine.status(scan=False).state.value == "idle", "the first scan")
        (root / "a.bin").write_bytes(b"a")
        assert engine.flush(60)
        engine.stop_watching()
        wait_until(lambda: engine.status().safe_to_stop, "it has stopped")
        root.rename(tmp_path / "away")
        root.mkdir()
        status = engine.status()
        assert not status.safe_to_stop
        assert any("is another directory now" in error for error in status.errors)
        assert engine.rescan(accept_root=True) == f"Accepted {root}."
        wait_until(lambda: engine.status().safe_to_stop, "it is the known one")
        assert engine.status().errors == ()


def test_once_over_an_unmounted_directory_fails_with_the_cause(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    _archive(root, MemoryStore(), state, "a.bin")
    root.rename(tmp_path / "away")
    root.mkdir()
    for name, value in {**ENVIRON, "CLOUD_ARCHIVE_STATE_DIR": str(state)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")
    assert main(["watch", "--once", str(root)]) == 1
    out, err = capsys.readouterr()
    assert "holds none of the files that the archive knows" in err
    assert out == ""


def test_files_behind_a_symlinked_directory_arrive_by_events_under_their_plain_keys(tmp_path: Path) -> None:
    (tmp_path / "volume/output").mkdir(parents=True)
    link = tmp_path / "output"
    link.symlink_to(tmp_path / "volume/output")
    store = MemoryStore()
    with engine_on(link, store, tmp_path / "state", **NATIVE, CLOUD_ARCHIVE_RESCAN_SECONDS="0") as engine:
        wait_until(lambda: engine.status(scan=False).state.value == "idle", "the first scan")
        (link / "sub").mkdir()
        (link / "sub/a.bin").write_bytes(b"a")
        wait_until(lambda: set(store.bodies()) == {"out/sub/a.bin"}, "it arrives without a scan")
        assert engine.status().watched_directory == str(link)


def test_a_missing_directory_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.pipeline.KEEPER_SECONDS", 0.05)
    monkeypatch.setattr("cloud_archive.archive.reconcile.POLL_SECONDS", 0.02)
    with archiving(tmp_path / "output", MemoryStore()) as archiver:
        run = archiver.pipeline.watch
        assert run is not None
        wait_until(lambda: archiver.status(scan=False).state.value == "idle", "the first scan")
        archiver.root.rename(tmp_path / "away")
        wait_until(
            lambda: any("is missing" in error for error in archiver.status(scan=False).errors), "named"
        )
        scans = run.reconciler._done
        wait_until(lambda: run.watcher.polling, "it looks for the directory")
        run.reconciler.request()
        wait_until(lambda: run.reconciler._done > scans, "it looked again")
        assert sum("is missing" in record.getMessage() for record in caplog.records) == 1
        (tmp_path / "away").rename(archiver.root)
        (archiver.root / "a.bin").write_bytes(b"a")
        assert archiver.flush(60)
        assert archiver.status().errors == ()


@held
def test_a_replaced_directory_is_logged_once(
    tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with engine_on(root, MemoryStore(), tmp_path / "state", **NATIVE) as engine:
        wait_until(lambda: engine.status(scan=False).state.value == "idle", "the first scan")
        (root / "a.bin").write_bytes(b"a")
        assert engine.flush(60)
        root.rename(tmp_path / "away")
        root.mkdir()
        for _ in range(2):
            with pytest.raises(CloudArchiveError, match="is another directory now"):
                engine.rescan()
        assert sum("is another directory now" in record.getMessage() for record in caplog.records) == 1
