"""Jobs as ComfyUI ran them, passed on by the plugin: which prompt wrote which file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..text import clean_text, parse_time
from .compressed import compress_facts, compress_graphs, decompress_facts, decompress_graphs
from .describe import Job, job_facts
from .schema import MAX_CLOCK

CLOCK_TOLERANCE_SECONDS = 5.0  # how far the clocks of disk and ComfyUI may differ
USUAL_DIFFERENCE_SECONDS = 1.0  # of these clocks; a network share's may be ahead
_MAX_JOB_SECONDS = 86_400.0
_MAX_TEXT_CHARACTERS = 4096


class _File(NamedTuple):
    """One output of a job. `path`: relative to the directory that `kind` names (`output`, `temp` or `input`)."""

    path: str
    node: str | None
    kind: str


def add_jobs(
    db: sqlite3.Connection,
    jobs: Sequence[Mapping[str, Any]],
    *,
    keep_graphs: bool = True,
    machine: str | None = None,
) -> None:
    """Store jobs, and mark the files that they wrote as unread. A job without an id or a time is left out.

    Args:
        keep_graphs: False: only what a graph says of each file is stored.
        machine: the machine that ran them; files that another machine archived are not theirs. None: all files may be.
    """
    for job in jobs:
        _add_job(db, job, keep_graphs, machine)


def _add_job(db: sqlite3.Connection, job: Mapping[str, Any], keep_graphs: bool, machine: str | None) -> None:
    job_id, finished_at = job.get("job_id"), job_seconds(job.get("finished_at"))
    if not isinstance(job_id, str) or not job_id or finished_at is None:
        return
    # It loads what reads graphs, and most processes pass on no job.
    from .secrets import drop_secrets, drop_secrets_in_both

    job_id = clean_text(job_id)[:_MAX_TEXT_CHARACTERS]
    given = (job.get("prompt"), job.get("workflow"))
    prompt, workflow = drop_secrets_in_both(
        *(dict(graph) if isinstance(graph, Mapping) else None for graph in given)
    )
    options = job.get("options")
    db.execute(
        "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?)",
        (
            job_id,
            _text(job.get("client_id")),
            finished_at,
            _text(job.get("status")),
            compress_graphs(prompt, workflow) if keep_graphs and prompt is not None else None,
            json.dumps(drop_secrets(dict(options)) if isinstance(options, Mapping) else {}),
        ),
    )
    outputs = job.get("outputs")
    files = [file for file in map(_file, outputs if isinstance(outputs, list) else ()) if file is not None]
    db.execute("DELETE FROM outputs WHERE job_id = ?", (job_id,))
    db.executemany(
        "INSERT OR REPLACE INTO outputs (path, finished_at, job_id, node, type) VALUES (?, ?, ?, ?, ?)",
        [(file.path, finished_at, job_id, file.node, file.kind) for file in files],
    )
    if paths := [file.path for file in files if file.kind == "output"]:
        _mark_unread(db, paths, finished_at, machine)
    if prompt is not None and not keep_graphs:
        _keep_facts(db, job_id, prompt, workflow)


def _keep_facts(db: sqlite3.Connection, job_id: str, prompt: dict[str, Any], workflow: Any) -> None:
    known: dict[str | None, bytes | None] = {}
    outputs = db.execute("SELECT path, node FROM outputs WHERE job_id = ? AND type = 'output'", (job_id,))
    for path, node in outputs.fetchall():
        if node not in known:  # one node made all its files in the same way
            facts = job_facts(Job(job_id, prompt, workflow, node), path.rpartition("/")[2])
            known[node] = None if facts is None else compress_facts(facts)
        db.execute("UPDATE outputs SET facts = ? WHERE job_id = ? AND path = ?", (known[node], job_id, path))


def drop_job_graphs(db: sqlite3.Connection, limit: int) -> int:
    """Replace the graphs of up to `limit` jobs with what they say of the files. Return for how many."""
    found = db.execute(
        "SELECT job_id, graphs FROM jobs WHERE graphs IS NOT NULL LIMIT ?", (limit,)
    ).fetchall()
    for job_id, graphs in found:
        prompt, workflow = decompress_graphs(graphs)
        if prompt is not None:
            _keep_facts(db, job_id, prompt, workflow)
        db.execute("UPDATE jobs SET graphs = NULL WHERE job_id = ?", (job_id,))
    return len(found)


def _file(output: Any) -> _File | None:
    if not isinstance(output, Mapping) or not isinstance(output.get("filename"), str):
        return None
    subfolder = _text(output.get("subfolder"))
    name = clean_text(output["filename"])
    path = f"{subfolder}/{name}" if subfolder else name
    return _File(path, _text(output.get("node")), _text(output.get("type")) or "output")


def _mark_unread(
    db: sqlite3.Connection, paths: Sequence[str], finished_at: float, machine: str | None
) -> None:
    since, until = finished_at - _MAX_JOB_SECONDS, finished_at + CLOCK_TOLERANCE_SECONDS
    of_machine = "" if machine is None else " AND machine = (SELECT id FROM words WHERE text = ?)"
    names = json.dumps([path.rpartition("/")[2] for path in paths]), json.dumps(paths)
    values = names if machine is None else (*names, clean_text(machine))
    for hidden in (0, 1):  # the index begins with it
        db.execute(
            "UPDATE assets SET reader = 0, next_try = NULL WHERE hidden = ? AND created BETWEEN ? AND ?"
            # The path is stored where the key has another name.
            " AND (name IN (SELECT value FROM json_each(?)) OR path IN (SELECT value FROM json_each(?)))"
            f"{of_machine}",
            (hidden, int(since * 1e9), int(until * 1e9), *values),
        )


def job_of(db: sqlite3.Connection, path: str, mtime_ns: int) -> Job | None:
    """Return the job that wrote the file `path`: of those that name it, the one that ended nearest to its mtime.

    One that ended more than a second before the mtime counts only if there is no other.
    """
    found = _output_of(db, path, mtime_ns, "o.job_id, o.node, j.graphs, o.facts")
    if found is None:
        return None
    job_id, node, graphs, facts = found
    prompt, workflow = (None, None) if graphs is None else decompress_graphs(graphs)
    return Job(job_id, prompt, workflow, node, None if facts is None else decompress_facts(facts))


def job_id_of(db: sqlite3.Connection, path: str, mtime_ns: int) -> str | None:
    """Return the id of the job that `job_of` returns, without unpacking its graphs."""
    found = _output_of(db, path, mtime_ns, "o.job_id")
    return None if found is None else found[0]


def _output_of(db: sqlite3.Connection, path: str, mtime_ns: int, columns: str) -> Any:
    mtime = mtime_ns / 1e9
    return db.execute(
        f"SELECT {columns} FROM outputs o JOIN jobs j ON j.job_id = o.job_id"
        " WHERE o.path = ? AND o.type = 'output' AND o.finished_at >= ?"
        " ORDER BY o.finished_at < ?, abs(o.finished_at - ?) LIMIT 1",
        (clean_text(path), mtime - CLOCK_TOLERANCE_SECONDS, mtime - USUAL_DIFFERENCE_SECONDS, mtime),
    ).fetchone()


def _text(value: Any) -> str | None:
    return clean_text(value)[:_MAX_TEXT_CHARACTERS] if isinstance(value, str) else None


def job_seconds(value: Any) -> float | None:
    """Return a job's time (ISO 8601, or a number of seconds or milliseconds) as seconds since 1970; else None."""
    try:
        if isinstance(value, str):
            seconds = parse_time(value).timestamp()
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            seconds = value / 1000 if value > 1e11 else float(value)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if abs(seconds) < MAX_CLOCK else None
