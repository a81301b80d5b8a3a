"""Build the JSON about a job that `GET /cloud-sync/jobs/{prompt_id}` answers and the webhook sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .records import SUCCESS, JobRecord, Output
from .resolve import OPEN_STATES, RECOVERABLE_STATES

_FAILED_STATES = (*RECOVERABLE_STATES, "vanished")
UNKNOWN = "No job with this id is known here: ComfyUI has not queued it, or it ran while Cloud Archive was not running."


def job_state(job: JobRecord, outputs: Sequence[Output]) -> str:
    """Return `running`, `uploading`, `complete` or `failed`."""
    if job.state != "finished":
        return "running"
    if any(output.state in OPEN_STATES for output in outputs):
        return "uploading"
    failed = job.status != SUCCESS or any(output.state in _FAILED_STATES for output in outputs)
    return "failed" if failed else "complete"


def job_json(job: JobRecord, outputs: Sequence[Output]) -> dict[str, Any]:
    """Return the answer about a job; docs/jobs.md describes its fields."""
    files = [_file_json(output) for output in outputs]
    troubles = [
        f"{file['name']}: {file['reason']}"
        for file in files
        if file["state"] in (*_FAILED_STATES, "retrying") and file.get("reason")
    ]
    return {
        "job_id": job.job_id,
        "state": job_state(job, outputs),
        "status": job.status if job.state == "finished" else job.state,
        "files": files,
        "errors": [*job.errors, *troubles],
    }


def unknown_json(job_id: str) -> dict[str, Any]:
    return {"job_id": job_id, "state": "unknown", "status": None, "files": [], "errors": [UNKNOWN]}


def unsearched_json(job_id: str, reason: str) -> dict[str, Any]:
    """Return the answer about a job that is not in the list of jobs, if the catalog was not searched for it."""
    missing = "No job with this id is in the list of jobs here, and the catalog was not searched."
    return unknown_json(job_id) | {"errors": [f"{missing} {reason}"]}


def catalog_queries(job_id: str) -> tuple[str, str]:
    """Return the queries that find a job's files in the catalog: the visible ones, and the hidden ones.

    >>> catalog_queries('6f0c"1')
    ('job:"6f0c""1"', 'job:"6f0c""1" is:hidden')
    """
    quoted = job_id.replace('"', '""')
    return f'job:"{quoted}"', f'job:"{quoted}" is:hidden'


def catalog_json(job_id: str, assets: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the answer about a job of which only the catalog knows files; `unknown_json` if it knows none.

    Args:
        assets: what `catalog_queries` find, in any order; the answer begins with the oldest. A search ignores case, so
            files of other jobs among them are left out.
    """
    files = [
        {
            "name": asset["name"],
            "subfolder": asset["path"].rpartition("/")[0],
            "node": None,
            "key": asset["key"],
            "sha256": asset["sha256"],
            "size": asset["size"],
            "state": "archived",
        }
        for asset in sorted(assets, key=lambda asset: str(asset["created_at"]))
        if asset["job_id"] == job_id
    ]
    if not files:
        return unknown_json(job_id)
    return {"job_id": job_id, "state": "complete", "status": None, "files": files, "errors": []}


def is_final(answer: Mapping[str, Any]) -> bool:
    """Return whether the job and all its files are over, so that waiting longer is pointless."""
    return answer["state"] in ("complete", "failed")


def _file_json(output: Output) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": output.name,
        "subfolder": output.subfolder,
        "node": output.node,
        "key": output.key,
        "sha256": output.sha256,
        "size": output.size_bytes,
        "state": output.state or "pending",
    }
    if output.cached:
        shown["cached"] = True
    if output.reason:
        shown["reason"] = output.reason
    return shown
