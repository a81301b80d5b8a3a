"""What tests of the filler share: a job, and the assets that a search finds."""

from __future__ import annotations

from typing import Any

from cloud_archive.catalog.search import search

from . import writers
from .cataloguing import Stage, graph


def found(stage: Stage, query: str = "") -> list[dict[str, Any]]:
    with stage.database.reading() as db:
        return search(db, query, sort="name", order="asc").assets


def job(seed: int = 7, prompt: str = "from the job", filename: str = "a.png", **more: Any) -> dict[str, Any]:
    return {
        "job_id": "job-1",
        "client_id": "c",
        "finished_at": 1_700_000_001.0,
        "status": "success",
        "prompt": graph(prompt, seed),
        "workflow": writers.WORKFLOW,
        "outputs": [{"node": "9", "filename": filename, "subfolder": "", "type": "output"}],
        "options": {},
    } | more
