"""docs/analytics.md declares the fields of the format, and DuckDB sees the assets that a machine sees."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloud_archive.catalog.export import COLUMNS, asset_rows, connect, export_jsonl, run_sql
from cloud_archive.errors import CatalogError

from .machines import FOLDER, REBUILT, ROWS, NewMachine, write
from .query_engines import (
    athena_table,
    duckdb_assets,
    duckdb_columns,
    latest_query,
    spark_view,
    trino_table,
)
from .test_compaction import filled

PAGE = Path(__file__).parents[4] / "docs" / "analytics.md"
BASE = "comfyui-outputs/.cloud-archive/v1/"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("duckdb", duckdb_assets("segments/*/*.jsonl.gz")),
        ("latest", latest_query()),
        ("spark", spark_view("my-outputs", BASE)),
        ("trino", trino_table("my-outputs", BASE)),
        ("athena", athena_table("my-outputs", BASE)),
    ],
)
def test_the_page_declares_the_fields_of_the_format(name: str, text: str) -> None:
    found = re.search(
        rf"<!-- {name} -->\n```(?:sql|python)\n(.*?)\n```\n<!-- /{name} -->",
        PAGE.read_text("utf-8"),
        re.DOTALL,
    )
    assert found is not None
    assert found[1] == text


def test_duckdb_over_segments_sees_what_a_machine_sees(tmp_path: Path) -> None:
    store = filled(5)
    write(store, [*ROWS, *REBUILT])
    for key, stored in store.objects.items():
        file = tmp_path / "bucket" / FOLDER.name(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(stored.body)
    query = duckdb_assets(f"{tmp_path}/bucket/segments/*/*.jsonl.gz")
    seen = (
        connect().execute(f"SELECT key, prompt, sha256, rating, note FROM ({query}) ORDER BY key").fetchall()
    )
    other = NewMachine(tmp_path, store)
    other.sync.sync()
    names = ("key", "prompt", "sha256", "rating", "note")
    expected = sorted(tuple(row[name] for name in names) for row in asset_rows(other.database))
    assert expected
    assert seen == expected
    # The plain query for the other engines finds the same, without edits.
    table = f"read_json('{tmp_path}/bucket/segments/*/*.jsonl.gz', columns = {duckdb_columns()})"
    latest = connect().execute(f"SELECT key, prompt, sha256 FROM ({latest_query(table)}) ORDER BY key")
    assert latest.fetchall() == [row[:3] for row in expected]
    # The same through `catalog sql` and an export.
    columns, rows = run_sql(
        other.database, "SELECT key, rating FROM assets ORDER BY key", tmp_path / "scratch"
    )
    assert (columns, rows) == (["key", "rating"], [(row[0], row[3]) for row in expected])
    assert [file.name for file in export_jsonl(other.database, tmp_path / "out")] == ["assets-0001.jsonl.gz"]
    assert list(next(asset_rows(other.database))) == list(COLUMNS)
    with pytest.raises(CatalogError, match="DuckDB"):
        run_sql(other.database, "SELECT nothing_of_that_name FROM assets", tmp_path / "scratch2")
    other.database.close()
