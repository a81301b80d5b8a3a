"""What is kept of a job: the prompt as ComfyUI ran it, and the files that it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..catalog.jobs import job_seconds
from ..text import clean_text
from .options import JobOptions, parse_options

MAX_OUTPUTS = 10_000
_MAX_TEXT = 4096
_MAX_ERROR = 1000

SUCCESS = "success"
PREVIEW = "ComfyUI wrote it to its temporary directory."
OUTSIDE = "It is not in the output directory."


class Output(NamedTuple):
    """A file that a job wrote.

    Attributes:
        number: its place in the job.
        cached: an earlier job wrote it; this one took it from ComfyUI's cache.
        state: None while it is open; else `archived`, `not_archived`, `skipped`, `pruned` or `vanished`.
        reason: why it is not archived.
    """

    number: int
    node: str | None
    name: str
    subfolder: str
    kind: str
    cached: bool = False
    state: str | None = None
    key: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    reason: str | None = None

    @property
    def path(self) -> str | None:
        """The path relative to the watched directory; None: it lies elsewhere."""
        parts = [part for part in (*self.subfolder.split("/"), *self.name.split("/")) if part]
        if self.kind != "output" or not parts or ".." in parts or "." in parts:
            return None
        if self.subfolder.startswith("/") or self.name.startswith("/"):
            return None
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job.

    Attributes:
        state: `queued`, `running` or `finished` in ComfyUI.
        process: the ComfyUI process that has it; empty where that is not known.
        status: of a finished job: `success`, `error`, `interrupted` or `removed`.
        started_at, finished_at: seconds since 1970.
        announced: its webhook is queued, or there is none to send.
    """

    job_id: str
    state: str
    process: str = ""
    status: str | None = None
    started_at: float = 0.0
    finished_at: float | None = None
    options: JobOptions = field(default_factory=JobOptions)
    errors: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = ()
    announced: bool = False


def finished_job(job: Mapping[str, Any], now: float) -> JobRecord | None:
    """Return the record of a job as ComfyUI's process passes it on; None: it is no such object.

    Args:
        now: seconds since 1970; when it finished, where it does not say.
    """
    job_id = job.get("job_id")
    if not isinstance(job_id, str) or not job_id:
        return None
    finished_at = job_seconds(job.get("finished_at"))
    finished_at = now if finished_at is None else finished_at
    started_at = job_seconds(job.get("started_at"))
    status = _text(job.get("status")) or SUCCESS  # a ComfyUI that does not keep it
    options, wrong = parse_options(job.get("options"))
    error = _text(job.get("error"))
    errors = [*wrong]
    if status != SUCCESS:
        errors.insert(0, _failure(status, error))
    return JobRecord(
        job_id=clean_text(job_id),
        state="finished",
        status=status,
        started_at=min(started_at if started_at is not None else finished_at - 86_400.0, finished_at),
        finished_at=finished_at,
        options=options,
        errors=tuple(errors),
        outputs=tuple(_outputs(job)),
    )


def _failure(status: str, error: str | None) -> str:
    if status == "interrupted":
        return "The job was interrupted in ComfyUI."
    return f"The job failed in ComfyUI: {error[:_MAX_ERROR]}" if error else "The job failed in ComfyUI."


def _outputs(job: Mapping[str, Any]) -> list[Output]:
    found: list[Output] = []
    for name, cached in (("outputs", False), ("cached_outputs", True)):
        listed = job.get(name)
        for output in listed if isinstance(listed, list) else ():
            if not isinstance(output, Mapping) or len(found) >= MAX_OUTPUTS:
                continue
            filename = _text(output.get("filename"))
            if not filename:
                continue
            subfolder = (_text(output.get("subfolder")) or "").replace("\\", "/")
            kind = _text(output.get("type")) or "output"
            one = Output(len(found), _text(output.get("node")), filename, subfolder, kind, cached)
            found.append(one if one.path is not None else _elsewhere(one))
    return found


def _elsewhere(one: Output) -> Output:
    reason = PREVIEW if one.kind == "temp" else OUTSIDE
    return Output(
        one.number, one.node, one.name, one.subfolder, one.kind, one.cached, "not_archived", reason=reason
    )


def _text(value: Any) -> str | None:
    return clean_text(value)[:_MAX_TEXT] if isinstance(value, str) else None
