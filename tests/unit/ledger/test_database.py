"""The ledger's database: its writer thread, and errors of SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.errors import LedgerError
from cloud_archive.files import FileVersion
from cloud_archive.ledger.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.open()
    yield ledger
    ledger.close()


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
        executor.submit(ledger.remember, "a", "b").result(5)
    ledger.remember("c", "d")
    assert ledger.recall("c") == "d"


def test_a_full_disk_is_named(ledger: Ledger) -> None:
    ledger.change(lambda db: db.execute("PRAGMA max_page_count=30") and None)
    with pytest.raises(LedgerError, match="disk is full"):
        ledger.add([FileVersion("x" * 200 + str(n), 1, n) for n in range(5000)])


def test_two_processes_that_make_the_ledger_at_once_both_have_it(tmp_path: Path) -> None:
    import cloud_archive.ledger.database as module

    path = tmp_path / "ledger.sqlite3"
    first, second = Ledger(path), Ledger(path)
    connection = second.connect()

    class Late:
        """Its answer about the version is older than what the other one made of it."""

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
