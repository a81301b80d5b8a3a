"""What `catalog compact`, `export` and `sql` accept and print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.catalog.bucket.compaction import Compacted
from cloud_archive.catalog.database import CatalogDatabase, open_catalog
from cloud_archive.cli import catalog_bucket_commands
from cloud_archive.cli.app import main
from cloud_archive.cli.arguments import WrongUsage
from cloud_archive.cli.catalog_bucket_commands import writable_catalog
from cloud_archive.cli.catalog_view import catalog_path
from tests.memory_store import MemoryStore

pytestmark = pytest.mark.usefixtures("own_state")


@pytest.fixture
def configured(settings_in_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_archive.store.s3.S3Store", lambda _: MemoryStore())


@pytest.fixture
def compacted(configured: None, monkeypatch: pytest.MonkeyPatch) -> list[Compacted]:
    """What the compaction of two months returns; a test fills it."""
    results: list[Compacted] = []
    package = "cloud_archive.catalog.bucket.compaction"

    def delete(store: object, folder: object, result: Compacted) -> None:
        result.deleted = len(result.replaced)

    monkeypatch.setattr(f"{package}.months_in", lambda *_: {"2026-03": [], "2026-04": []})
    monkeypatch.setattr(f"{package}.compact_month", lambda *_, **__: results[:1] and [results.pop(0)])
    monkeypatch.setattr(f"{package}.delete_replaced", delete)
    return results


def test_each_new_file_is_named_and_the_old_ones_stay(
    capsys: pytest.CaptureFixture[str], compacted: list[Compacted]
) -> None:
    assert main(["catalog", "compact"]) == 0
    assert capsys.readouterr().out == "Nothing to compact.\n"
    compacted += [Compacted("2026-03"), Compacted("2026-04", "months/x", ["a", "b"], rows=1200)]
    assert main(["catalog", "compact"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2026-04: merged 2 catalog files into one with 1,200 rows.",
        "The merged files stay in the bucket. Add --delete to delete them.",
    ]


def test_with_delete_the_merged_files_go(
    capsys: pytest.CaptureFixture[str], compacted: list[Compacted]
) -> None:
    compacted += [Compacted("2026-04", "months/x", ["a", "b"], rows=1)]
    assert main(["catalog", "compact", "--delete"]) == 0
    assert capsys.readouterr().out == (
        "2026-04: merged 2 catalog files into one with 1 row, and deleted 2 of them.\n"
    )


def test_files_that_can_not_be_read_are_failures(
    capsys: pytest.CaptureFixture[str], compacted: list[Compacted]
) -> None:
    compacted += [Compacted("2026-04", "months/x", ["a"], left_out=[("b\n", "It is damaged.")])]
    assert main(["catalog", "compact", "--json"]) == 1
    out, err = capsys.readouterr()
    assert err == "b\\n: It is damaged.\n"
    row = {"month": "2026-04", "name": "months/x", "rows": 0, "replaced": 1, "deleted": 0}
    assert json.loads(out) == {"files": [row]}


@pytest.mark.parametrize("month", ["2026", "2026-13", "04-2026", ""])
def test_a_month_is_written_in_one_way(
    capsys: pytest.CaptureFixture[str], compacted: list[Compacted], month: str
) -> None:
    assert main(["catalog", "compact", "--month", month]) == 2
    assert "give a month, such as 2026-04." in capsys.readouterr().err
    assert main(["catalog", "compact", "--month", "2026-04"]) == 0


@pytest.mark.parametrize("options", [[], ["--jsonl", "--parquet"]])
def test_an_export_has_one_format(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str]
) -> None:
    assert main(["catalog", "export", str(tmp_path), *options]) == 2
    assert capsys.readouterr().err == "Give either --jsonl or --parquet.\n"


def test_parts_of_a_longer_export_are_named_and_stay(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @contextmanager
    def catalog_of(_: object) -> Iterator[CatalogDatabase]:
        database, _aside = open_catalog(tmp_path / "catalog.sqlite3")
        yield database
        database.close()

    monkeypatch.setattr(catalog_bucket_commands, "catalog_of", catalog_of)
    export = ["catalog", "export", str(tmp_path / "export"), "--jsonl"]
    assert main(export) == 0
    assert capsys.readouterr() == (f"Wrote {tmp_path / 'export' / 'assets-0001.jsonl.gz'}\n", "")
    (tmp_path / "export" / "assets-0002.jsonl.gz").write_bytes(b"mine")
    assert main([*export, "--json"]) == 1
    err = capsys.readouterr().err
    assert "assets-0002.jsonl.gz is of an earlier, longer export: delete it, or its rows count twice." in err
    assert (tmp_path / "export" / "assets-0002.jsonl.gz").read_bytes() == b"mine"


def test_a_long_table_is_cut_and_json_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def catalog_of(_: object) -> Iterator[None]:
        yield None

    rows: list[tuple[Any, ...]] = [("a\n", None), *[(number, date(2026, 4, 1)) for number in range(1000)]]
    monkeypatch.setattr(catalog_bucket_commands, "catalog_of", catalog_of)
    monkeypatch.setattr("cloud_archive.catalog.export.run_sql", lambda *_: (["name", "day"], rows))
    assert main(["catalog", "sql", "SELECT 1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:3]] == [["name", "day"], ["a\\n"], ["0", "2026-04-01"]]
    assert (len(lines), lines[-1]) == (1002, "… and 1 more rows; --json prints all.")
    assert main(["catalog", "sql", "SELECT 1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == 1001
    assert found["rows"][1] == [0, "2026-04-01"], "what JSON lacks is text"


def test_nested_values_and_numbers_that_json_lacks_are_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    day = date(2026, 4, 1)
    row = ([day, 1], {"day": day}, {day: None}, float("inf"))
    monkeypatch.setattr(catalog_bucket_commands, "catalog_of", lambda _: nullcontext())
    monkeypatch.setattr("cloud_archive.catalog.export.run_sql", lambda *_: (list("abcd"), [row]))
    assert main(["catalog", "sql", "SELECT 1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["rows"] == [[["2026-04-01", 1], {"day": "2026-04-01"}, {"2026-04-01": None}, "inf"]]


@pytest.mark.usefixtures("configured")
def test_a_misspelt_directory_gets_no_catalog(tmp_path: Path) -> None:
    said = "wrong does not exist, and this user has archived nothing from it"
    with pytest.raises(WrongUsage, match=said), writable_catalog(tmp_path / "wrong"):
        pytest.fail("it is open")
    assert not catalog_path(tmp_path / "wrong").exists()


def test_without_a_directory_and_a_bucket_nothing_can_be_written() -> None:
    with pytest.raises(WrongUsage, match="No directory was given"), writable_catalog(None):
        pytest.fail("it is open")
