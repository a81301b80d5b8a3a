"""Transactions: committed at the end, rolled back after any error."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cloud_archive.catalog.database import CatalogDatabase
from cloud_archive.ledger.ledger import Ledger
from cloud_archive.ledger.transactions import transaction

NORMAL, FULL = 1, 2


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(tmp_path / "some.sqlite3", isolation_level=None)
    made.execute("PRAGMA synchronous=NORMAL")
    made.execute("CREATE TABLE t (a)")
    yield made
    made.close()


def rows(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


def synchronous(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA synchronous").fetchone()[0])


def test_what_was_done_is_committed(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        connection.execute("INSERT INTO t VALUES (1)")
    assert (rows(connection), connection.in_transaction) == (1, False)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_any_error_undoes_it(connection: sqlite3.Connection, error: type[BaseException]) -> None:
    def fail() -> None:
        with transaction(connection, durable=True):
            connection.execute("INSERT INTO t VALUES (1)")
            raise error

    with pytest.raises(error):
        fail()
    assert (rows(connection), connection.in_transaction) == (0, False)
    assert synchronous(connection) == NORMAL


def test_durable_waits_for_the_disk_and_only_in_this_transaction(connection: sqlite3.Connection) -> None:
    with transaction(connection, durable=True):
        assert synchronous(connection) == FULL
    assert synchronous(connection) == NORMAL


@pytest.mark.parametrize("make", [Ledger, CatalogDatabase])
def test_a_new_database_is_opened_although_another_process_prepares_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: type[Ledger | CatalogDatabase]
) -> None:
    path = tmp_path / "new.sqlite3"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda _seconds: other.close())
    monkeypatch.setattr("cloud_archive.ledger.transactions.time", clock)
    database = make(path)
    database.open()
    database.close()
