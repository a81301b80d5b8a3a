"""What is stored of a job: how ComfyUI ran it, and the files that it wrote."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ..catalog.jobs import job_seconds
from ..files import caseless, real_path
from ..text import clean_text
from .options import JobOptions, parse_options

MAX_OUTPUTS = 10_000
_MAX_TEXT_CHARACTERS = 4096
_MAX_ERROR_CHARACTERS = 1000
_ASSUMED_SECONDS = 86_400.0  # how long a job ran at most, if ComfyUI does not say when it started

SUCCESS = "success"
PREVIEW = "ComfyUI wrote it to its temporary directory."
OUTSIDE = "It is not in the output directory."
_OTHERS = "The others are archived all the same; the status says when that is done."
_TOO_MANY = f"The job wrote more than {MAX_OUTPUTS:,} files: only the first {MAX_OUTPUTS:,} are listed here. {_OTHERS}"
_TOO_LONG = (
    "The names of the job's files are too long together: only {count:,} files are listed here. {others}"
)


class Output(NamedTuple):
    """A file that a job wrote.

    Attributes:
        number: its place among the job's files, from 0.
        node: the node of the graph that wrote it; None: not known.
        kind: the directory that it is in: `output`, `temp` or `input`.
        cached: an earlier job wrote it; this one took it from ComfyUI's cache.
        state: as stored: None while it can still change; else `archived`, `not_archived`, `skipped`, `pruned` or
            `vanished`. `Resolver.resolve` returns the present state, which may be any of docs/jobs.md.
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
        """The path relative to the watched directory; None: it is outside."""
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
        process: the id of the ComfyUI process that has it; empty if ComfyUI has finished it.
        status: of a finished job: `success`, `error`, `interrupted` or `removed`.
        started_at, finished_at: seconds since 1970.
        announced: its webhook was queued, or none is sent.
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


def with_relative_folders(jobs: Iterable[Mapping[str, Any]], root: Path) -> list[dict[str, Any]]:
    """Return jobs as passed on, with their outputs' subfolders relative to `root`, the watched directory, and with `/`.

    Like ComfyUI's `/view`, this accepts `.` and absolute paths, which many nodes give. A subfolder elsewhere stays.
    """
    bases = (root, root.resolve())
    as_listed = cache(_as_listed)  # a job may have thousands of outputs in one folder
    return [
        dict(job)
        | {
            name: [_with_relative_folder(output, bases, as_listed) for output in job[name]]
            for name in ("outputs", "cached_outputs")
            if isinstance(job.get(name), list)
        }
        for job in jobs
    ]


def _with_relative_folder(output: Any, bases: Iterable[Path], as_listed: Callable[[Path, str], str]) -> Any:
    subfolder = output.get("subfolder") if isinstance(output, Mapping) else None
    if not isinstance(subfolder, str) or output.get("type") not in (None, "output"):
        return output
    for base in bases:
        try:
            relative = os.path.relpath(base / subfolder, base).replace(os.sep, "/")
        except ValueError:  # on another drive of Windows
            continue
        if relative.split("/")[0] != "..":
            return {**output, "subfolder": "" if relative == "." else as_listed(base, relative)}
    return output


def _as_listed(base: Path, folder: str) -> str:
    """Return the folder as its parents list it: Windows and macOS find it in any case. Links are not resolved."""
    if sys.platform not in ("win32", "darwin"):
        return folder
    found = Path(real_path(base / folder))
    listed = "/".join(found.parts[len(found.parts) - folder.count("/") - 1 :])
    return listed if caseless(listed) == caseless(folder) else folder


def finished_job(job: Mapping[str, Any], now: float) -> JobRecord | None:
    """Return the record of a finished job as ComfyUI's process passes it on; None: it has no id.

    Args:
        now: seconds since 1970; used as the job's end if it does not say when it ended.
    """
    job_id = job.get("job_id")
    if not isinstance(job_id, str) or not job_id:
        return None
    finished_at = job_seconds(job.get("finished_at"))
    finished_at = now if finished_at is None else finished_at
    started_at = job_seconds(job.get("started_at"))
    if started_at is None:
        started_at = finished_at - _ASSUMED_SECONDS
    status = _text(job.get("status")) or SUCCESS  # some versions of ComfyUI do not keep it
    options, wrong = parse_options(job.get("options"))
    error = _text(job.get("error"))
    errors = wrong if status == SUCCESS else [_failure(status, error, job.get("prompt")), *wrong]
    outputs = list(islice(_outputs(job), MAX_OUTPUTS + 1))
    if len(outputs) > MAX_OUTPUTS:
        errors.append(_TOO_MANY)
    elif job.get("outputs_left_out") is True:
        errors.append(_TOO_LONG.format(count=len(outputs), others=_OTHERS))
    return JobRecord(
        job_id=clean_text(job_id),
        state="finished",
        status=status,
        started_at=min(started_at, finished_at),
        finished_at=finished_at,
        options=options,
        errors=tuple(errors),
        outputs=tuple(outputs[:MAX_OUTPUTS]),
    )


def _failure(status: str, error: str | None, prompt: Any) -> str:
    if status == "interrupted":
        return "The job was interrupted in ComfyUI."
    if not error:
        return "The job failed in ComfyUI."
    from ..catalog.secrets import drop_secrets_in_text  # loads what reads graphs, and most jobs succeed

    return f"The job failed in ComfyUI: {drop_secrets_in_text(error, prompt)[:_MAX_ERROR_CHARACTERS]}"


def _outputs(job: Mapping[str, Any]) -> Iterator[Output]:
    number = 0
    for name, cached in (("outputs", False), ("cached_outputs", True)):
        listed = job.get(name)
        for output in listed if isinstance(listed, list) else ():
            filename = _text(output.get("filename")) if isinstance(output, Mapping) else None
            if not filename:
                continue
            subfolder = _text(output.get("subfolder")) or ""
            kind = _text(output.get("type")) or "output"
            file = Output(number, _text(output.get("node")), filename, subfolder, kind, cached)
            yield file if file.path is not None else _not_archived(file)
            number += 1


def _not_archived(file: Output) -> Output:
    return file._replace(state="not_archived", reason=PREVIEW if file.kind == "temp" else OUTSIDE)


def _text(value: Any) -> str | None:
    return clean_text(value)[:_MAX_TEXT_CHARACTERS] if isinstance(value, str) else None
