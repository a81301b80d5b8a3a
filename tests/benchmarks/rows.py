"""Every row of the table, in its order."""

from __future__ import annotations

from tests.benchmarks import row_catalog, row_comfyui, row_engine, row_uploads, whole_process
from tests.benchmarks.figures import Row

ROWS: dict[str, Row] = {
    **row_uploads.ROWS,
    **whole_process.ROWS,
    **row_catalog.ROWS,
    **row_comfyui.ROWS,
    **row_engine.ROWS,
}
