"""What an export leaves in its directory, and says where it can't write."""

from __future__ import annotations

import re
import sys

import pytest

from cloud_archive.catalog import export
from cloud_archive.catalog.export import export_jsonl, export_parquet, parts_of_longer_export, run_sql
from cloud_archive.errors import CatalogError

from .cataloguing import Stage


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".parquet"])
def test_an_export_of_fewer_rows_names_the_parts_of_an_older_one_and_keeps_them(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("duckdb")
    monkeypatch.setattr(export, "PART_ROWS", 1)
    for name in ("a.bin", "b.bin", "c.bin"):
        stage.archive(name, name.encode())
    stage.fill()
    directory = stage.base / "export"

    def write() -> tuple[list[str], list[str]]:
        if suffix == ".parquet":
            files = export_parquet(stage.database, directory, stage.base / "scratch")
        else:
            files = export_jsonl(stage.database, directory)
        return [path.name for path in files], [path.name for path in parts_of_longer_export(files)]

    parts = [f"assets-{number:04}{suffix}" for number in (1, 2, 3)]
    assert write() == (parts, [])
    (directory / f"assets-mine{suffix}").touch()
    monkeypatch.setattr(export, "PART_ROWS", 100)
    assert write() == (parts[:1], parts[1:])
    assert sorted(path.name for path in directory.iterdir()) == [*parts, f"assets-mine{suffix}"]


def test_a_directory_for_temporary_files_may_have_any_name(stage: Stage) -> None:
    pytest.importorskip("duckdb")
    stage.archive("a.bin", b"a")
    stage.fill()
    scratch = stage.base / "it's [x]"
    scratch.mkdir()
    assert run_sql(stage.database, "SELECT name FROM assets", scratch) == (["name"], [("a.bin",)])
    assert len(export_parquet(stage.database, stage.base / "export", scratch)) == 1


def test_a_parquet_file_that_cannot_be_written_is_an_error_with_its_cause(stage: Stage) -> None:
    pytest.importorskip("duckdb")
    stage.archive("a.bin", b"a")
    stage.fill()
    (stage.base / "export/assets-0001.parquet").mkdir(parents=True)
    with pytest.raises(CatalogError, match=r"assets-0001\.parquet can't be written: IO Error"):
        export_parquet(stage.database, stage.base / "export", stage.base / "scratch")


def test_without_duckdb_the_error_says_which_python_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CatalogError, match=re.escape(f"Run: {sys.executable} -m pip install duckdb")):
        export.connect()
