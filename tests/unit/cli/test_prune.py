"""What `prune` is asked to delete, and what it says."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cloud_archive.catalog.bucket.names import CatalogFolder
from cloud_archive.cli.app import main
from cloud_archive.cli.arguments import WrongUsage
from cloud_archive.cli.common import ledger_path
from cloud_archive.cli.prune import _MAX_SHOWN, _print_result, _rule
from cloud_archive.ledger.history import existing_ledger
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.maintenance.prune import PruneReport
from cloud_archive.maintenance.prune_plan import PruneCandidate, PrunePlan, PruneRule
from cloud_archive.store.evidence import md5_of
from tests.archived_rows import mark_archived
from tests.commands import FakeTerminal, run_command
from tests.functional.archives import added
from tests.memory_store import WRITTEN, Hanging, MemoryStore, refuse
from tests.unit.catalog.bucket.machines import NOW, NewMachine, edit, put, write

NAMES = ("out/a.png", "out/b.png", "out/c.png")
PRUNE = ("prune", "--older-than", "1h", "--yes", "--favorites")


def test_the_options_are_a_rule() -> None:
    assert _rule("30d", None, False) == PruneRule(30 * 86_400.0, None, False)
    assert _rule("off", "1GB", True) == PruneRule(None, 10**9, True)


@pytest.mark.parametrize(
    ("older_than", "keep_bytes", "words"),
    [(None, None, "--older-than AGE"), ("off", None, "keeps everything"), (None, "soon", "--keep-bytes")],
)
def test_options_that_say_nothing_are_wrong_usage(
    older_than: str | None, keep_bytes: str | None, words: str
) -> None:
    with pytest.raises(WrongUsage, match=words):
        _rule(older_than, keep_bytes, False)


def plan(count: int, **more: Any) -> PrunePlan:
    return PrunePlan([PruneCandidate(f"out/{number:03}.png", 10, 0.0) for number in range(count)], **more)


def lines(
    capsys: pytest.CaptureFixture[str],
    made: PrunePlan,
    report: PruneReport | None = None,
    prefix: str = "out",
) -> list[str]:
    _print_result(made, report, prefix, json=False)
    return capsys.readouterr().out.splitlines()


def test_a_dry_run_lists_the_first_objects_and_says_how_to_delete(capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(capsys, plan(_MAX_SHOWN + 5))
    assert found[1].endswith("10 B  out/000.png")
    assert found[_MAX_SHOWN + 1 :] == [
        "… and 5 more",
        "Would delete 25 objects (250 B) below out/.",
        "Would keep: 0 objects (0 B).",
        "Nothing was deleted. Add --yes to delete.",
    ]


def test_a_dry_run_without_candidates_offers_no_deletion(capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(0, kept_files=2, kept_bytes=3, favorite_files=1, favorite_bytes=1, foreign_files=4)
    assert lines(capsys, made, prefix="") == [
        "Would delete 0 objects (0 B) in the bucket.",
        "Would keep: 2 objects (3 B).",
        "Favourites stay: 1 favourite (1 B) would be deleted otherwise. Add --favorites to delete them too.",
        "Not written by Cloud Archive, so left alone: 4.",
    ]


def test_what_was_not_checked_or_not_tried_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    made, report = plan(3, unchecked=[("out/x.png", "Denied.")]), PruneReport(untried=2)
    _print_result(made, report, "out", json=True)
    out, err = capsys.readouterr()
    assert err.startswith("out/x.png: It could not be checked, so it was left alone: Denied.\nPrune ")
    assert '"unchecked_files": 1' in out


def test_a_deletion_is_summed_up_and_failures_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    report = PruneReport(deleted=1, deleted_bytes=10, failed=[("out/a\n.png", "No.")])
    _print_result(plan(2), report, "out", json=False)
    assert capsys.readouterr() == ("Deleted 1 object (10 B) below out/.\n", "out/a\\n.png: No.\n")
    _print_result(plan(2), report, "out", json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["dry_run"], found["files"], found["deleted"]) == (False, 2, 1)
    assert found["failed"] == [{"s3_key": "out/a\n.png", "cause": "No."}]


@pytest.mark.parametrize("more", [(), ("--yes",)], ids=["dry run", "deletion"])
def test_json_on_a_terminal_is_one_line_of_standard_output(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", out := FakeTerminal())
    monkeypatch.setattr(sys, "stderr", FakeTerminal())
    assert main(["prune", "--older-than", "1h", "--favorites", "--json", "--prefix", "out/", *more]) == 0
    assert json.loads(out.getvalue()).items() >= {"prefix": "out", "files": len(NAMES)}.items()


def test_without_a_place_for_a_copy_the_favourites_are_read_into_a_temporary_one(
    store: MemoryStore, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cloud_archive.catalog.bucket.copy.platform_state_directory", lambda: root / "a.file")
    (root / "a.file").touch()
    status, out, err = run_command(capsys, "prune", "--older-than", "1h", "--yes", root)
    assert (status, out, err) == (0, "Deleted 3 objects (3 B) below out/.\n", "")


@pytest.mark.parametrize("may_list", [True, False])
def test_favourites_in_the_catalog_of_an_archive_above_the_prefix_stay(
    store: MemoryStore, root: Path, capsys: pytest.CaptureFixture[str], may_list: bool
) -> None:
    write(store, [edit("out/b.png", NOW, favorite=True)], folder=CatalogFolder.of(""))

    def on_call(operation: str, key: str) -> None:
        if not may_list and key.startswith(".cloud-archive/"):
            refuse("AccessDenied", 403, key)

    store.on_call = on_call
    assert run_command(capsys, "prune", "--older-than", "1h", "--yes", root)[::2] == (0, "")
    assert list(store.bodies()) == (["out/b.png"] if may_list else [])


@pytest.fixture
def store(
    root: Path, monkeypatch: pytest.MonkeyPatch, own_state: None, settings_in_environment: None
) -> MemoryStore:
    """The command's bucket: three objects with rows in ledger and catalog, which are deleted one at a time."""
    made = MemoryStore()

    @contextmanager
    def bucket(settings: Any) -> Iterator[MemoryStore]:
        yield made

    monkeypatch.setenv("S3_PREFIX", "out")
    monkeypatch.setattr("cloud_archive.cli.prune.bucket", bucket)
    monkeypatch.setattr("cloud_archive.maintenance.prune.DELETE_BATCH", 1)
    monkeypatch.setattr("cloud_archive.maintenance.prune.INTERRUPTED_SECONDS", 60)
    ledger_path(root).parent.mkdir(parents=True)
    ledger = Ledger(ledger_path(root))
    ledger.open()
    for number, key in enumerate(NAMES):
        made.add(key, b"x", written=WRITTEN + number)
        claim = ledger.claim_version("test", added(ledger, root, key[4:], b"x"))
        assert claim is not None
        mark_archived(ledger, claim, key=key, sha256="00" * 32, etag=md5_of(b"x"), wrote=True)
    ledger.close()
    write(made, [put(key, WRITTEN) for key in NAMES])
    return made


def found_elsewhere(store: MemoryStore, base: Path) -> list[str]:
    """Return the keys that another machine finds in the bucket's catalog."""
    machine = NewMachine(base, store)
    machine.sync.sync()
    keys = [asset["key"] for asset in machine.found()]
    machine.database.close()
    return keys


def lock(backup: sqlite3.Connection) -> None:
    backup.execute("BEGIN IMMEDIATE")


def interrupt(backup: sqlite3.Connection) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("accident", "words"), [(lock, "locked by another program"), (interrupt, "stopped early")]
)
def test_what_was_deleted_before_an_accident_is_said_in_the_bucket(
    store: MemoryStore,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    accident: Callable[[sqlite3.Connection], None],
    words: str,
) -> None:
    def on_call(operation: str, key: str) -> None:
        if (operation, key) == ("HeadObject", "out/b.png"):
            store.on_call = lambda operation, key: None
            accident(backup)

    store.on_call = on_call
    monkeypatch.setattr("cloud_archive.ledger.database.BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(ledger_path(root), isolation_level=None, check_same_thread=False)) as backup:
        status, out, err = run_command(capsys, *PRUNE, root)
    assert (status, words in err) == (1, True), err
    assert "were not tried" in err
    assert out.splitlines()[-1] == "Deleted 1 object (1 B) below out/."
    assert [key for key in store.objects if ".cloud-archive/" not in key] == ["out/b.png", "out/c.png"]
    assert found_elsewhere(store, tmp_path) == ["out/b.png", "out/c.png"]


@pytest.mark.parametrize("deleted", [True, False])
def test_an_interrupted_deletion_counts_if_the_object_is_gone(
    store: MemoryStore, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], deleted: bool
) -> None:
    found: list[str] = []

    def on_call(operation: str, key: str) -> None:
        if (operation, key) == ("DeleteObject", "out/b.png"):
            if deleted:
                del store.objects[key]
            raise KeyboardInterrupt
        if operation == "ListObjectsV2" and ("DeleteObject", "out/b.png") in store.calls and not found:
            found.extend(states(root))

    store.on_call = on_call
    status, out, err = run_command(capsys, *PRUNE, root)
    assert (status, out) == (1, f"Deleted {'2 objects (2' if deleted else '1 object (1'} B) below out/.\n")
    assert ("out/b.png: Prune was interrupted" in err) != deleted
    assert found == ["pruned", "pruned", "archived"], "a kill now leaves no archived row without its object"
    assert states(root) == ["pruned", "pruned" if deleted else "archived", "archived"]
    assert found_elsewhere(store, tmp_path) == [*([] if deleted else ["out/b.png"]), "out/c.png"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_even_sent_twice_ends_it_as_ctrl_c_does(
    store: MemoryStore, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    if not hasattr(signal, name):
        pytest.skip("Windows has no such signal")
    number, missed = getattr(signal, name), list[int]()

    def on_call(operation: str, key: str) -> None:
        if (operation, key) == ("DeleteObject", "out/b.png"):
            signal.raise_signal(number)
        elif operation == "PutObject":
            signal.raise_signal(number)  # as `timeout` does, which sends it to the process and to its group

    def note(number: int, frame: object) -> None:
        missed.append(number)

    store.on_call = on_call
    before = signal.signal(number, note)
    try:
        status, out, _ = run_command(capsys, *PRUNE, root)
    finally:
        assert signal.signal(number, before) is note
    assert (status, out, missed) == (1, "Deleted 2 objects (2 B) below out/.\n", [])
    assert found_elsewhere(store, tmp_path) == ["out/c.png"]


def test_where_the_deletions_cannot_be_checked_the_stores_answers_count(
    store: MemoryStore, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def on_call(operation: str, key: str) -> None:
        if (operation, key) == ("DeleteObject", "out/b.png"):
            refuse("ReadTimeout", None, key)
        if (operation, key) == ("DeleteObject", "out/c.png"):
            refuse("KeyTooLongError", 400, key)
        if operation != "PutObject" and store.count("DeleteObject") == 3:
            refuse("AllAccessDisabled", 403, key)

    store.on_call = on_call
    status, out, err = run_command(capsys, *PRUNE, root)
    assert (status, out) == (1, "Deleted 1 object (1 B) below out/.\n")
    assert "out/b.png: The store did not answer, so the object may be deleted." in err
    assert "out/c.png: The object key is longer" in err
    assert states(root) == ["pruned", "pruned", "archived"], "no archived row may lack its object"
    store.on_call = lambda operation, key: None
    assert found_elsewhere(store, tmp_path) == ["out/b.png", "out/c.png"]


@pytest.mark.parametrize("moment", ["check", "record"])
def test_ctrl_c_after_the_last_deletion_hides_no_deletion(
    store: MemoryStore, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], moment: str
) -> None:
    def on_call(operation: str, key: str) -> None:
        is_check = operation == "ListObjectsV2" and store.count("DeleteObject") == 3
        is_record = operation == "PutObject"
        if is_check if moment == "check" else is_record:
            store.on_call = lambda operation, key: None
            raise KeyboardInterrupt

    store.on_call = on_call
    status, out, err = run_command(capsys, *PRUNE, root)
    assert (status, out) == (1, "Deleted 3 objects (3 B) below out/.\n")
    assert err.splitlines()[-1] == "Interrupted."
    assert ("the bucket's catalog may still list them: prune was interrupted." in err) == (moment == "record")
    assert found_elsewhere(store, tmp_path) == ([] if moment == "check" else list(NAMES))


def test_a_signal_that_the_process_ignores_ends_nothing(
    store: MemoryStore, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def on_call(operation: str, key: str) -> None:
        if (operation, key) == ("DeleteObject", "out/b.png"):
            signal.raise_signal(signal.SIGTERM)

    store.on_call = on_call
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        status, out, _ = run_command(capsys, *PRUNE, root)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (status, out) == (0, "Deleted 3 objects (3 B) below out/.\n")


def test_after_ctrl_c_a_store_that_hangs_delays_nothing(
    store: MemoryStore,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    hang: Hanging,
) -> None:
    interrupted = False

    def on_call(operation: str, key: str) -> None:
        nonlocal interrupted
        if (operation, key) == ("DeleteObject", "out/b.png"):
            interrupted = True
            raise KeyboardInterrupt
        if interrupted:
            hang(key)

    store.on_call = on_call
    monkeypatch.setattr("cloud_archive.maintenance.prune.INTERRUPTED_SECONDS", 0)
    status, out, err = run_command(capsys, *PRUNE, root)
    assert (status, out, hang.ended) == (1, "Deleted 1 object (1 B) below out/.\n", [])
    assert "out/b.png: The store did not answer, so the object may be deleted." in err
    assert "1 object was not tried" in err
    assert "the bucket's catalog may still list them: the store did not answer in time." in err
    assert states(root) == ["pruned", "pruned", "archived"], "no archived row may lack its object"


def states(root: Path) -> list[str]:
    """Return the states of the three rows."""
    with existing_ledger(ledger_path(root)) as ledger:
        return [row.state.word for row in reversed(ledger.rows())]


def test_what_is_archived_again_while_prune_runs_stays_in_the_catalog(
    store: MemoryStore, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def archive_again(operation: str, key: str) -> None:
        if (operation, key) == ("DeleteObject", "out/b.png"):
            store.add("out/a.png", b"y", written=time.time())
            write(store, [put("out/a.png", time.time(), machine="pod-2", sha256="cd" * 32)])

    store.on_call = archive_again
    status, out, _ = run_command(capsys, *PRUNE, root)
    assert (status, out) == (0, "Deleted 3 objects (3 B) below out/.\n")
    assert found_elsewhere(store, tmp_path) == ["out/a.png"]


@pytest.mark.parametrize("others_have_one", [True, False])
def test_without_a_catalog_of_its_own_it_tells_only_machines_that_have_one(
    store: MemoryStore,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    others_have_one: bool,
) -> None:
    monkeypatch.setenv("CLOUD_ARCHIVE_CATALOG", "off")
    if not others_have_one:
        store.objects = {key: store.objects[key] for key in NAMES}
    assert run_command(capsys, *PRUNE, root)[0] == 0
    assert bool(store.objects) == others_have_one
    assert found_elsewhere(store, tmp_path) == []


def test_without_a_directory_it_does_not_choose_between_archives(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = [SimpleNamespace(root=Path("first")), SimpleNamespace(root=Path("second"))]
    monkeypatch.setattr("cloud_archive.api.client.running_engines", lambda: engines)
    status, _, err = run_command(capsys, *PRUNE)
    assert (status, len(store.bodies())) == (2, 3)
    assert "Several archives are running: first, second. Give DIR" in err


def test_a_directory_that_is_misspelt_is_not_taken_for_one_without_a_ledger(
    store: MemoryStore, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run_command(capsys, *PRUNE, root.with_name("outptu"))
    assert (status, len(store.bodies())) == (2, 3)
    assert "outptu does not exist, and this user has archived nothing from it." in err
