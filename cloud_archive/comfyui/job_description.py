"""Describe a job of ComfyUI's history as JSON. ComfyUI's process loads this: standard library only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from ..redaction import redact, secret_values

_MAX_ERROR_CHARACTERS = 1000
_SEARCHED_CHARACTERS = 16 * 1024  # a search through a quoted picture would stop ComfyUI for seconds
_MAX_OUTPUTS = 10_001  # one more than the engine keeps, so that it reports that there are more
_END_MESSAGES = {
    "execution_success": "success",
    "execution_error": "error",
    "execution_interrupted": "interrupted",
}


def describe_job(job_id: str, entry: Any) -> dict[str, Any]:
    """Return a job's entry in the history as the JSON that the engine accepts.

    The entry's `extra_data` may hold the user's tokens, so only the client's id, the workflow and our own options are
    taken from it.
    """
    entry = _mapping(entry)
    queued = entry.get("prompt")
    queued = queued if isinstance(queued, (tuple, list)) else ()
    graph = _mapping(queued[2]) if len(queued) > 2 else {}
    extra = _mapping(queued[3]) if len(queued) > 3 else {}
    client_id = extra.get("client_id")
    messages = dict(_messages(entry.get("status")))
    status = _mapping(entry.get("status")).get("status_str")
    finished_at = time.time()
    started_at = _seconds(messages.get("execution_start", {}).get("timestamp"))
    for name, end_status in _END_MESSAGES.items():
        if name in messages:
            status = end_status
            ended_at = _seconds(messages[name].get("timestamp"))
            finished_at = finished_at if ended_at is None else ended_at
    return {
        "job_id": job_id,
        "client_id": client_id if isinstance(client_id, str) else None,
        "started_at": started_at,
        "finished_at": finished_at,
        "status": status if isinstance(status, str) else None,
        "prompt": graph or None,
        "workflow": _mapping(_mapping(extra.get("extra_pnginfo")).get("workflow")) or None,
        "error": _error(messages.get("execution_error", {})),
        "outputs": list(islice(_outputs(entry, graph, messages, cached=False), _MAX_OUTPUTS)),
        "cached_outputs": list(islice(_outputs(entry, graph, messages, cached=True), _MAX_OUTPUTS)),
        "options": extra.get("cloud_archive") or None,
    }


def _seconds(milliseconds: object) -> float | None:
    try:
        return milliseconds / 1000 if isinstance(milliseconds, (int, float)) else None
    except OverflowError:  # an integer beyond every float
        return None


def _error(message: Mapping[str, Any]) -> str | None:
    """Return which node failed and why, without its inputs and traceback."""
    node_type, node, exception_type, exception_message = (
        message.get(name) for name in ("node_type", "node_id", "exception_type", "exception_message")
    )
    if not isinstance(exception_type, str) and not isinstance(exception_message, str):
        return None
    where = f"{node_type} (node {node}): " if node_type else ""
    has_message = isinstance(exception_message, str) and exception_message.strip()
    what = exception_message if has_message else exception_type
    beginning = f"{where}{what}"[:_SEARCHED_CHARACTERS].strip()
    return redact(beginning, secret_values(os.environ))[:_MAX_ERROR_CHARACTERS]


def _outputs(
    entry: Mapping[str, Any],
    graph: Mapping[str, Any],
    messages: Mapping[str, Mapping[str, Any]],
    *,
    cached: bool,
) -> Iterator[dict[str, str]]:
    """Yield the files that this job wrote, each with the node of the graph that wrote it.

    Args:
        cached: instead, yield the files that an earlier job wrote and this job took from ComfyUI's cache. The
            history lists both kinds.
    """
    nodes = messages.get("execution_cached", {}).get("nodes")
    from_cache = {str(node) for node in nodes} if isinstance(nodes, (list, tuple, set)) else set()
    meta = _mapping(entry.get("meta"))
    for node, shown in _mapping(entry.get("outputs")).items():
        node = _node_of_graph(str(node), graph, _mapping(meta.get(node)))
        if (node in from_cache) is not cached:
            continue
        for values in _mapping(shown).values():
            for value in values if isinstance(values, (list, tuple)) else ():
                file = _mapping(value)
                filename, subfolder, kind = (file.get(name) for name in ("filename", "subfolder", "type"))
                if isinstance(filename, str) and filename and isinstance(kind, str):
                    folder = subfolder if isinstance(subfolder, str) else ""
                    folder = folder.replace("\\", "/") if os.sep == "\\" else folder
                    yield {"node": node, "filename": filename, "subfolder": folder, "type": kind}


def _node_of_graph(node: str, graph: Mapping[str, Any], meta: Mapping[str, Any]) -> str:
    """Return `node`, or if it is not in the graph, the node of the graph that expanded into it."""
    real = meta.get("real_node_id")
    return real if node not in graph and isinstance(real, str) else node


def _messages(status: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    messages = _mapping(status).get("messages")
    for message in messages if isinstance(messages, (list, tuple)) else ():
        if isinstance(message, (list, tuple)) and len(message) == 2 and isinstance(message[0], str):
            yield message[0], _mapping(message[1])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def unfinished_job(job_id: str, status: str) -> dict[str, Any]:
    """Return the answer about a job that the engine does not know yet; `status` is `queued` or `running`."""
    return {"job_id": job_id, "state": "running", "status": status, "files": [], "errors": []}
