"""Make jobs as the plugin sends them to the engine."""

from __future__ import annotations

import time
from typing import Any

GRAPH = {"9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "a"}}}


def output(name: str, *, subfolder: str = "", node: str = "9", kind: str = "output") -> dict[str, str]:
    return {"node": node, "filename": name, "subfolder": subfolder, "type": kind}


def passed_job(job_id: str, *outputs: dict[str, str], **more: Any) -> dict[str, Any]:
    """Return a job that has just finished and took a second."""
    now = time.time()
    return {
        "job_id": job_id,
        "client_id": None,
        "started_at": now - 1,
        "finished_at": now,
        "status": "success",
        "error": None,
        "prompt": GRAPH,
        "workflow": None,
        "outputs": list(outputs),
        "cached_outputs": [],
        "options": None,
    } | more
