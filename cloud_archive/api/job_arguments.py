"""Check the arguments of calls about jobs. Loaded into ComfyUI's process: standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import RequestRefused

MAX_JOBS = 1000  # in one body
MAX_QUEUED = 1000
MAX_WAIT_SECONDS = 3600.0
_MAX_ID_CHARACTERS = 200


def job_arguments(prompt_id: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Return prompt_id, wait and urls of a call. RequestRefused: 400, names what is wrong."""
    # ComfyUI takes any text as an id that a client chose. HTTP clients remove the path segments "." and "..".
    fits = 1 <= len(prompt_id) <= _MAX_ID_CHARACTERS and prompt_id.isprintable()
    if not fits or prompt_id in (".", ".."):
        raise RequestRefused(
            400, f"A prompt id has 1 to {_MAX_ID_CHARACTERS} printable characters, and is not . or .. alone."
        )
    try:
        seconds = float(query.get("wait") or 0)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_WAIT_SECONDS:  # false for NaN
        raise RequestRefused(400, f"wait must be a number of seconds from 0 to {MAX_WAIT_SECONDS:.0f}.")
    urls = query.get("urls") or "0"
    if urls not in ("0", "1"):
        raise RequestRefused(400, "urls must be 0 or 1.")
    return {"prompt_id": prompt_id, "wait": seconds, "urls": int(urls)}


def captured_jobs_arguments(body: Mapping[str, object]) -> dict[str, Any]:
    """Return the finished jobs and the queue that ComfyUI's process sends. RequestRefused: 400, names what is wrong."""
    jobs = body.get("jobs")
    if not isinstance(jobs, list) or len(jobs) > MAX_JOBS:
        raise RequestRefused(400, f"jobs must be a list of {MAX_JOBS} jobs at most.")
    for job in jobs:
        job_id = job.get("job_id") if isinstance(job, dict) else None
        if not isinstance(job_id, str) or not job_id:
            raise RequestRefused(400, "Each job must be an object whose job_id is a non-empty text.")
    queue = body.get("queue")
    return {"jobs": jobs, "queue": None if queue is None else _queue(queue)}


def _queue(queue: object) -> dict[str, Any]:
    found = queue if isinstance(queue, dict) else {}
    process, running, queued = (found.get(name) for name in ("process", "running", "queued"))
    if not isinstance(process, str) or not _are_ids(running) or not _are_ids(queued):
        raise RequestRefused(400, "queue must name its process, and list the ids of running and queued jobs.")
    return {"process": process, "running": running, "queued": queued}


def _are_ids(ids: object) -> bool:
    return (
        isinstance(ids, list) and len(ids) <= MAX_QUEUED and all(isinstance(one, str) and one for one in ids)
    )
