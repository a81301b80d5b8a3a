"""Jobs as ComfyUI ran them, passed on by the plugin: which prompt wrote which file."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from .describe import Job
from .packed import pack_graphs, unpack_graphs
from .recipes import clean_text
from .secrets import drop_secrets

_CLOCK_TOLERANCE_SECONDS = 5.0  # a file is written before its job ends; the two clocks may differ
_LONGEST_JOB_SECONDS = 86_400.0
_MAX_OUTPUTS = 10_000
_MAX_TEXT = 4096


def add_jobs(db: sqlite3.Connection, jobs: Sequence[Mapping[str, Any]]) -> int:
    """Store jobs, and have the files that they wrote read again; a job that is no such object is left out.

    Returns:
        How many were stored.
    """
    return sum(_add_job(db, job) for job in jobs)


def _add_job(db: sqlite3.Connection, job: Mapping[str, Any]) -> bool:
    job_id, prompt = job.get("job_id"), job.get("prompt")
    if not isinstance(job_id, str) or not job_id or not isinstance(prompt, Mapping):
        return False
    workflow = job.get("workflow")
    finished_at = _seconds(job.get("finished_at"))
    if finished_at is None:
        return False
    job_id = clean_text(job_id)[:_MAX_TEXT]
    graphs = pack_graphs(
        drop_secrets(dict(prompt)), drop_secrets(dict(workflow)) if isinstance(workflow, Mapping) else None
    )
    options = job.get("options")
    db.execute(
        "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?)",
        (
            job_id,
            _text(job.get("client_id")),
            finished_at,
            _text(job.get("status")),
            graphs,
            json.dumps(drop_secrets(dict(options)) if isinstance(options, Mapping) else {}),
        ),
    )
    db.execute("DELETE FROM outputs WHERE job_id = ?", (job_id,))
    outputs = job.get("outputs")
    for output in outputs[:_MAX_OUTPUTS] if isinstance(outputs, list) else ():
        _add_output(db, job_id, finished_at, output)
    return True


def _add_output(db: sqlite3.Connection, job_id: str, finished_at: float, output: Any) -> None:
    if not isinstance(output, Mapping) or not isinstance(output.get("filename"), str):
        return
    subfolder = (_text(output.get("subfolder")) or "").replace("\\", "/").strip("/")
    name = clean_text(output["filename"])
    path = f"{subfolder}/{name}" if subfolder else name
    kind = _text(output.get("type")) or "output"
    db.execute(
        "INSERT OR REPLACE INTO outputs (path, finished_at, job_id, node, type) VALUES (?, ?, ?, ?, ?)",
        (path, finished_at, job_id, _text(output.get("node")), kind),
    )
    if kind != "output":
        return
    since, until = finished_at - _LONGEST_JOB_SECONDS, finished_at + _CLOCK_TOLERANCE_SECONDS
    for hidden in (0, 1):  # as the index begins
        db.execute(
            "UPDATE assets SET reader = 0, next_try = NULL WHERE hidden = ? AND created BETWEEN ? AND ? AND name = ?",
            (hidden, int(since * 1e9), int(until * 1e9), name),
        )


def job_of(db: sqlite3.Connection, path: str, mtime_ns: int) -> Job | None:
    """Return the job that wrote the file `path`: of those that name it, the first that ended after it was written."""
    found = db.execute(
        "SELECT o.job_id, o.node, j.graphs FROM outputs o JOIN jobs j ON j.job_id = o.job_id"
        " WHERE o.path = ? AND o.type = 'output' AND o.finished_at >= ? ORDER BY o.finished_at LIMIT 1",
        (clean_text(path), mtime_ns / 1e9 - _CLOCK_TOLERANCE_SECONDS),
    ).fetchone()
    if found is None:
        return None
    job_id, node, graphs = found
    prompt, workflow = unpack_graphs(graphs)
    return Job(job_id, prompt or {}, workflow, node)


def _text(value: Any) -> str | None:
    return clean_text(value)[:_MAX_TEXT] if isinstance(value, str) else None


def _seconds(value: Any) -> float | None:
    """Return a time as seconds since 1970: the job's is a number (seconds or milliseconds), or ISO 8601."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value) / 1000 if value > 1e11 else float(value)
