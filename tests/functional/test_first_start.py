"""Which files count as older and which as new, and that a scan alone finds all. Real files, a store in memory."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.archive.reconcile import Reconciler
from cloud_archive.archive.workers import WorkerPool
from cloud_archive.errors import StoreError
from cloud_archive.files import HintKind
from cloud_archive.intake.selection import Selection
from cloud_archive.intake.settle_queue import SettleQueue
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.store.failures import explain
from tests.functional.archives import ENVIRON, archiving, engine_on, wait_for_watches
from tests.memory_store import MemoryStore
from tests.servers import wait_until


def _first_scan(root: Path, ledger: Ledger, started_at: float, backfill: str = "missed") -> list[str]:
    hinted: list[str] = []
    Reconciler(
        root,
        ledger,
        Selection(),
        on_new=hinted.append,
        on_doubts=lambda doubts: None,
        on_done=lambda: None,
        backfill=backfill,
        interval_seconds=0,
        polling=lambda: True,
        started_at=started_at,
    )._scan({})
    return sorted(hinted)


@pytest.mark.parametrize(
    ("after_ns", "is_new"),
    [(1_745_000_000, True), (1_250_000_000, False), (0, True), (-1_000_000_000_000, False)],
)
def test_a_file_of_the_moment_of_the_start_is_new_also_with_coarse_timestamps(
    tmp_path: Path, root: Path, after_ns: int, is_new: bool
) -> None:
    second = int(time.time()) + 3600  # later than the change time, which can't be set
    started_at, modified_ns = second + 1.75, second * 10**9 + after_ns
    (root / "a.bin").write_bytes(b"a")
    os.utime(root / "a.bin", ns=(modified_ns, modified_ns))
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.open()
    try:
        assert _first_scan(root, ledger, started_at) == (["a.bin"] if is_new else [])
    finally:
        ledger.close()


@pytest.mark.parametrize("backfill", ["missed", "all", "none"])
def test_each_backfill_setting_archives_what_it_says(tmp_path: Path, root: Path, backfill: str) -> None:
    """Old: from before the first start. Missed: from between two starts."""
    hour_ago = time.time() - 3600

    def write(name: str, moment: float) -> None:
        (root / name).write_bytes(name.encode())
        os.utime(root / name, (moment, moment))

    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.open()
    try:
        write("old.bin", hour_ago)
        assert _first_scan(root, ledger, time.time()) == []
        write("missed.bin", hour_ago - 1)
        taken = {"missed": ["missed.bin"], "all": ["missed.bin", "old.bin"], "none": []}
        assert _first_scan(root, ledger, time.time(), backfill) == taken[backfill]
        write("new.bin", time.time() + 1)
        assert "new.bin" in _first_scan(root, ledger, time.time(), backfill)
    finally:
        ledger.close()


def test_scans_alone_find_every_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are set up, but none arrives and no error says so."""

    def deaf(run: object, path: str, kind: HintKind) -> None: ...

    monkeypatch.setattr("cloud_archive.archive.directory_watch.DirectoryWatch._on_hint", deaf)
    store = MemoryStore()
    with archiving(root, store, CLOUD_ARCHIVE_WATCH="native", CLOUD_ARCHIVE_RESCAN_SECONDS="1") as archiver:
        wait_until(lambda: archiver.status(scan=False).state.value == "idle", "the first scan")
        wait_for_watches(archiver)
        for number in range(50):
            path = root / f"{number % 5}/{number % 3}/{number}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"%d" % number)
        # No status and no flush here: either would scan the directory by itself.
        wait_until(lambda: len(store.bodies()) == 50, "they arrived")


def test_a_clock_that_jumps_while_the_archive_runs_hides_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    jump = [0.0]
    real = time.time

    def refuse(operation: str, key: str) -> None:
        refused.set()
        raise StoreError(operation, key, explain("ConnectionRefused"))

    def clock() -> float:
        return real() + jump[0]

    monkeypatch.setattr(time, "time", clock)
    for stage, name in ((Ledger, "clock"), (WorkerPool, "wall_clock"), (SettleQueue, "wall_clock")):
        defaults: Any = vars(stage)["__init__"].__kwdefaults__
        monkeypatch.setitem(defaults, name, clock)
    with archiving(root, store, CLOUD_ARCHIVE_RESCAN_SECONDS="1") as archiver:
        wait_until(lambda: archiver.status(scan=False).state.value == "idle", "the first scan")
        # Its retry is set by a clock that is years ahead and is then corrected.
        refused = threading.Event()
        jump[0] = 1_000_000_000.0
        store.on_call = refuse
        (root / "put off.bin").write_bytes(b"put off")
        assert refused.wait(60)
        wait_until(lambda: archiver.ledger.totals().waiting.files == 1, "it is put off")
        jump[0] = 0.0
        store.on_call = lambda operation, key: None
        assert archiver.flush(60), archiver.status(scan=False)
        for number, seconds in enumerate((0.0, -1_700_000_000.0, 1_000_000_000.0, -3600.0)):
            jump[0] = seconds
            path = root / f"{number}.bin"
            path.write_bytes(b"%d" % number)
            os.utime(path, (max(0.0, real() + seconds), max(0.0, real() + seconds)))
            assert archiver.flush(60), archiver.status(scan=False)
    assert sorted(store.bodies()) == [*(f"out/{number}.bin" for number in range(4)), "out/put off.bin"]


def test_a_pod_cloned_with_its_ledger_loses_nothing_and_doubles_nothing(tmp_path: Path, root: Path) -> None:
    store, state = MemoryStore(), tmp_path / "state"
    with engine_on(root, store, state) as engine:
        wait_until(lambda: engine.status(scan=False).state.value == "idle", "the first scan")
        (root / "archived.bin").write_bytes(b"archived")
        assert engine.flush(60)
    (root / "pending.bin").write_bytes(b"written while nothing ran")
    clone_root, clone_state = tmp_path / "clone", tmp_path / "clone-state"
    shutil.copytree(root, clone_root)
    shutil.copytree(state, clone_state)
    (clone_state / "watched_directory").unlink()  # in a pod of its own the path would be the same
    with engine_on(root, store, state) as one, engine_on(clone_root, store, clone_state) as other:
        writers = [
            threading.Thread(target=_write, args=(engine.root, mark))
            for engine, mark in ((one, b"one"), (other, b"other"))
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert one.flush(60)
        assert other.flush(60)
        assert one.archiver().ledger.totals().archived.files == 12
        assert other.archiver().ledger.totals().archived.files == 12
    wanted = [b"archived", b"written while nothing ran"]
    wanted += [b"%s %d" % (mark, number) for mark in (b"one", b"other") for number in range(10)]
    assert sorted(store.bodies().values()) == sorted(wanted)


def _write(root: Path, mark: bytes) -> None:
    for number in range(10):
        (root / f"ComfyUI_{number:05}_.bin").write_bytes(b"%s %d" % (mark, number))


@pytest.mark.parametrize("autostart", ["true", "false"])
def test_the_store_is_got_ready_before_the_first_upload(tmp_path: Path, autostart: str) -> None:
    """Else the first image of a session waits until a thousand modules of the SDK are imported."""
    store = MemoryStore()
    ready = threading.Event()
    store.warm_up = ready.set  # type: ignore[assignment, method-assign]
    with engine_on(tmp_path / "output", store, tmp_path / "state", CLOUD_ARCHIVE_AUTOSTART=autostart):
        assert ready.wait(60)
    assert set(store.calls) <= {("GetObject", store.probe_key)}, (
        "only the request that verifies the connection"
    )


def test_a_file_that_comfyui_wrote_before_its_engine_was_ready_is_new(tmp_path: Path, root: Path) -> None:
    """On a fresh pod a client may queue a prompt as soon as ComfyUI answers."""
    (root / "old.png").write_bytes(b"old")
    comfyui_started_at = time.time() + 0.5  # later than the change time, which can't be set
    wait_until(lambda: time.time() > comfyui_started_at + 0.5, "ComfyUI has started")
    (root / "new.png").write_bytes(b"new")
    modified_ns = int(comfyui_started_at * 1e9) + 1_234_567  # by more than a tick before the engine's start
    os.utime(root / "new.png", ns=(modified_ns, modified_ns))
    store = MemoryStore()
    engine = Engine(
        root,
        state_base=tmp_path / "state",
        environ=ENVIRON,
        parent_started_at=comfyui_started_at,
        make_store=lambda *_, **__: store,
        machine_wide=False,
    )
    engine.start(autostart=True)
    try:
        wait_until(lambda: engine.status().safe_to_stop, "everything is archived")
        assert (set(store.objects), engine.status().baseline_files) == ({"out/new.png"}, 1)
    finally:
        engine.close(60)
