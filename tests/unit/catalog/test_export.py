"""What an export says where it can't write."""

from __future__ import annotations

import pytest

from cloud_archive.catalog.export import export_parquet
from cloud_archive.errors import CatalogError

from .cataloguing import Stage


def test_a_parquet_file_that_cannot_be_written_is_an_error_with_its_cause(stage: Stage) -> None:
    pytest.importorskip("duckdb")
    stage.archive("a.bin", b"a")
    stage.fill()
    (stage.base / "export/assets-0001.parquet").mkdir(parents=True)
    with pytest.raises(CatalogError, match=r"assets-0001\.parquet can't be written: IO Error"):
        export_parquet(stage.database, stage.base / "export", stage.base / "scratch")
