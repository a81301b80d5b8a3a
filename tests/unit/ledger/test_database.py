"""The database: commits, schema, damage."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.errors import LedgerDamaged, LedgerError, LedgerTooNew
from cloud_archive.files import FileVersion
from cloud_archive.ledger.history import archived_by_time
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.schema import MIGRATIONS, SCHEMA_VERSION
from tests.archived_rows import mark_archived

from .ledger_helpers import Clock, archive, claimed, version


def test_what_was_committed_is_there_after_the_process_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite3"
    first = Ledger(path)
    first.open()
    first.add([version("a.png")])
    second = Ledger(path)  # the first is still open, as after a kill
    second.open()
    assert second.totals().pending.files == 1
    second.close()
    first.close()


def test_a_database_without_a_thread_for_its_changes_is_closed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "l.sqlite3")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="thread"):
            ledger.open()
    with pytest.raises(LedgerError, match="closed"):
        ledger.totals()
    ledger.close()
    ledger.open()
    assert ledger.add([version("a")]) == 1
    ledger.close()


def test_calls_after_close_say_so(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite3")
    ledger.open()
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.add([version("a")])
    with pytest.raises(LedgerError, match="closed"):
        ledger.totals()


def test_one_change_that_fails_does_not_take_its_group_along(ledger: Ledger) -> None:
    ledger.add([version("a"), version("b")])
    lost = claimed(ledger)
    ledger.release_all(retry_failed=False)
    errors: list[BaseException] = []
    start = threading.Barrier(9)

    def fail() -> None:
        start.wait()
        try:
            ledger.mark_vanished(lost)
        except LedgerError as error:
            errors.append(error)

    def succeed(number: int) -> None:
        start.wait()
        ledger.add([version(f"good-{number}")])

    threads = [threading.Thread(target=fail)] + [
        threading.Thread(target=succeed, args=(n,)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 1
    assert ledger.totals().pending.files == 10


def test_a_newer_schema_is_refused_in_plain_words(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(LedgerTooNew, match="newer version of Cloud Archive"):
        Ledger(path).open()


@pytest.mark.parametrize("damage", ["garbage", "page"])
def test_a_damaged_ledger_is_recognised(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "l.sqlite3"
    ledger = Ledger(path)
    ledger.open()
    ledger.add([version(f"{n}.png") for n in range(2000)])
    ledger.close()
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        data[:4096] = b"\xff" * 4096
    else:
        for start in range(8 * 4096, len(data) - 4096, 8 * 4096):
            data[start : start + 64] = b"\x55" * 64
    path.write_bytes(data)
    with pytest.raises(LedgerDamaged, match="damaged"):
        Ledger(path).open()


def test_a_ledger_in_memory_works_alike(clock: Clock) -> None:
    ledger = Ledger(None, clock=clock)
    ledger.open()
    ledger.add([version("a.png")])
    archive(ledger, claimed(ledger))
    assert ledger.totals().archived.files == 1
    ledger.close()


def test_a_ledger_of_the_first_schema_is_brought_forward_with_all_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as first:
        for statement in MIGRATIONS[0]:
            first.execute(statement)
        first.execute("PRAGMA user_version = 1")
        first.execute("INSERT INTO baseline VALUES (?)", (version("old.png").fingerprint,))
        first.commit()
    ledger = Ledger(path)
    ledger.open()
    assert ledger.unknown([version("old.png"), version("new.png")]) == [version("new.png")]
    ledger.add([version("new.png")])
    ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as now:
        assert now.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION


def test_a_new_ledger_is_made_in_one_commit(tmp_path: Path) -> None:
    import cloud_archive.ledger.database as module

    statements: list[str] = []
    with contextlib.closing(Ledger(tmp_path / "l.sqlite3").connect()) as connection:
        connection.set_trace_callback(statements.append)
        module._prepare(connection, tmp_path / "l.sqlite3")
        connection.set_trace_callback(None)
        assert connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
    assert statements.count("COMMIT") == 1, "each is an fsync, and waits for a busy disk"


def test_a_claim_waits_for_no_fsync_and_the_first_byte_waits_for_that_of_its_attempt(ledger: Ledger) -> None:
    statements: list[str] = []
    ledger.change(lambda db: db.set_trace_callback(statements.append))

    def modes() -> list[str]:
        """Return the synchronous mode of each commit since the last call."""
        found = [each.partition("=")[2] for each in statements if each.startswith("PRAGMA synchronous")]
        statements.clear()
        return found

    ledger.add([version("a.png"), version("b.png")])
    assert modes() == ["FULL"]
    claim = claimed(ledger)
    ledger.claim_several("me", most=9, among=1, size_bytes=1)
    assert modes() == ["NORMAL", "NORMAL"]
    ledger.record_attempt(claim, sha256="00" * 32, base_key="k", key="k")
    mark_archived(ledger, claim, key="k", sha256="00" * 32, etag=None, wrote=True)
    assert modes() == ["FULL", "FULL"]


def test_long_queries_do_not_hold_the_connection_that_the_status_reads_with(ledger: Ledger) -> None:
    ledger.add([version("a.png")])
    archive(ledger, claimed(ledger))
    with ledger._reader_lock:  # another thread's query could not get it either
        assert [row.version.path for row in ledger.rows(query="A.PNG")] == ["a.png"]
        assert sum(slot.files for slot in archived_by_time(ledger)) == 1


def test_an_unexpected_error_of_the_writer_thread_reaches_the_caller_and_ends_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cloud_archive.ledger.database as module

    real = module._commit
    calls = iter([True])

    def breaks_once(*args: Any) -> None:
        if next(calls, False):
            raise MemoryError
        real(*args)

    monkeypatch.setattr(module, "_commit", breaks_once)
    with ThreadPoolExecutor(1) as executor, pytest.raises(LedgerError):
        executor.submit(ledger.remember, "a", "b").result(60)
    ledger.remember("c", "d")
    assert ledger.recall("c") == "d"


def test_a_full_disk_is_named(ledger: Ledger) -> None:
    ledger.change(lambda db: db.execute("PRAGMA max_page_count=30") and None)
    with pytest.raises(LedgerError, match="disk is full"):
        ledger.add([FileVersion("x" * 200 + str(n), 1, n) for n in range(5000)])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not say which error it is")
def test_a_disk_without_room_for_shared_memory_is_full(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    ledger = Ledger(path)
    ledger.open()
    ledger.close()
    script = f"""
import resource
from pathlib import Path
from cloud_archive.errors import LedgerError
from cloud_archive.ledger.history import existing_ledger

resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # an -shm file has 32 KiB
try:
    with existing_ledger(Path({str(path)!r})) as ledger:
        ledger.totals()
except LedgerError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == f"The ledger {path} can't be written: the disk is full. Free some space.\n", (
        done.stderr
    )


def test_two_processes_that_make_the_ledger_at_once_both_have_it(tmp_path: Path) -> None:
    import cloud_archive.ledger.database as module

    path = tmp_path / "ledger.sqlite3"
    first, second = Ledger(path), Ledger(path)
    connection = second.connect()

    class Late:
        """A connection that has read the schema's version before the other process migrates it."""

        def __init__(self) -> None:
            self.told = False

        def execute(self, sql: str, *rest: Any) -> Any:
            found = connection.execute(sql, *rest)
            if sql == "PRAGMA user_version" and not self.told:
                self.told = True
                old = found.fetchone()
                first.open()
                return Answer(old)
            return found

    class Answer:
        def __init__(self, row: Any) -> None:
            self.row = row

        def fetchone(self) -> Any:
            return self.row

    late: Any = Late()
    module._prepare(late, path)
    connection.close()
    first.close()
