"""Make jobs as the plugin sends them to the engine, and follow what the engine makes of them."""

from __future__ import annotations

import threading
import time
from typing import Any

from cloud_archive.archive.engine import Engine
from tests.memory_store import MemoryStore
from tests.servers import wait_until

PROCESS = "p" * 32
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


def states(answer: dict[str, Any]) -> dict[str, str]:
    return {file["name"]: file["state"] for file in answer["files"]}


def wait_for_job(engine: Engine, job_id: str) -> dict[str, Any]:
    """Wait until the job is over, and return its answer."""
    wait_until(lambda: engine.job(job_id)["state"] in ("complete", "failed"), "the job is over")
    return engine.job(job_id)


def hold(store: MemoryStore) -> threading.Event:
    """Hold up uploads until the returned event is set."""
    go = threading.Event()

    def wait(operation: str, key: str) -> None:
        if operation == "PutObject":
            go.wait(60)

    store.on_call = wait
    return go
