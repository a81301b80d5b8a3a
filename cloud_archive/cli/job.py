"""`job`: what happened to the files of one ComfyUI job."""

from __future__ import annotations

import contextlib
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlencode

import typer

from ..errors import CloudArchiveError, JobsError, RequestRefused
from ..terminal import EXIT_FAILED, format_table, print_error, print_json, print_line
from ..text import format_bytes, make_printable
from .arguments import WrongUsage
from .asset_source import newest_assets
from .catalog_choice import bucket_catalog, bucket_settings, catalog_root, load_copy
from .catalog_view import DatabaseAssets
from .common import bucket, check_exists, ledger_of, ledger_path, settings_now
from .options import CatalogDirectory, Json, seconds_up_to

if TYPE_CHECKING:
    from ..api.client import LocalEngine
    from ..config.settings import Settings

_MAX_WAIT_SECONDS = 86_400.0
_ONE_CALL_SECONDS = 60.0
_MARGIN_SECONDS = 30.0  # how much longer than its wait a call may take
_NOT_IN_BUCKET = (
    "The bucket's catalog has no file of this job. An engine writes its rows there some minutes after the uploads: on"
    " the machine where the job ran, give --dir to ask the engine itself."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("job", short_help="Show what happened to the files of one ComfyUI job.")(job)


def job(
    prompt_id: Annotated[str, typer.Argument(metavar="PROMPT_ID", help="The id that POST /prompt answered.")],
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            parser=seconds_up_to(_MAX_WAIT_SECONDS),
            show_default=False,
            help="If an archive runs for DIR: wait until each file is proven or has failed; default: 0.",
        ),
    ] = 0.0,
    urls: Annotated[bool, typer.Option("--urls", help="Also print links to the files.")] = False,
    directory: CatalogDirectory = None,
    json: Json = False,
) -> None:
    """Show the state of a job, and the files that it wrote, each with its key.

    Without a directory, the answer comes from the bucket's catalog. Exit status 0: the job is complete; 1: it is not.
    """
    from ..api.client import running_engine
    from ..api.job_arguments import job_arguments

    try:
        job_arguments(prompt_id, {})
    except RequestRefused as refusal:
        raise WrongUsage(f"PROMPT_ID {prompt_id!r}: {refusal}") from None
    settings = bucket_settings(directory)
    if settings is not None:
        answer = _from_bucket(settings, prompt_id, urls)
    else:
        root = catalog_root(directory)
        engine = running_engine(root)
        answer = (
            _from_state(root, prompt_id, urls)
            if engine is None
            else _from_engine(engine, prompt_id, wait, urls)
        )
    if json:
        print_json(answer)
    else:
        _show(answer)
    for error in answer["errors"]:
        print_error(make_printable(error))
    if answer["state"] != "complete":
        raise typer.Exit(EXIT_FAILED)


def _from_engine(engine: LocalEngine, prompt_id: str, wait: float, urls: bool) -> dict[str, Any]:
    """Return the engine's answer."""
    deadline = time.monotonic() + wait
    while True:
        left = min(_ONE_CALL_SECONDS, max(0.0, deadline - time.monotonic()))
        query = urlencode({"wait": f"{left:.3f}", "urls": int(urls)})
        response = engine.call(
            "GET",
            f"/cloud-sync/jobs/{quote(prompt_id, safe='')}?{query}",
            timeout_seconds=left + _MARGIN_SECONDS,
        )
        if response.status != 200:
            raise CloudArchiveError(response.message)
        if response.body["state"] in ("complete", "failed", "unknown") or time.monotonic() >= deadline:
            return dict(response.body)


def _from_bucket(settings: Settings, prompt_id: str, urls: bool) -> dict[str, Any]:
    """Return the answer from the bucket's catalog, which knows archived files only."""
    from ..archive.job_answers import add_links
    from ..jobs.answers import catalog_json, catalog_queries
    from ..jobs.records import MAX_OUTPUTS

    with bucket_catalog(settings) as opened:
        load_copy(opened)
        source = DatabaseAssets(opened.database)
        found = [newest_assets(source, query, MAX_OUTPUTS)["assets"] for query in catalog_queries(prompt_id)]
        answer = catalog_json(prompt_id, chain.from_iterable(found))
        if answer["state"] == "unknown":
            answer["errors"] = [_NOT_IN_BUCKET]
        if urls:
            add_links(opened.store, answer["files"])
    return answer


def _from_state(root: Path, prompt_id: str, urls: bool) -> dict[str, Any]:
    """Return the answer from the state that the last engine left."""
    from ..archive.job_answers import add_links
    from ..intake.selection import Selection
    from ..jobs.answers import unsearched_json
    from ..jobs.jobs import Jobs
    from ..jobs.store import JOBS_NAME, JobStore

    check_exists(root)
    path = ledger_path(root).with_name(JOBS_NAME)
    if not path.is_file():
        raise JobsError(f"There is no list of jobs at {path}: this user has recorded no job of {root}.")
    store = JobStore(path, read_only=True)
    store.open()
    with contextlib.closing(store), ledger_of(root, needed=True) as ledger:
        assert ledger is not None
        answer = Jobs(store, root, ledger, Selection()).answer(prompt_id) or unsearched_json(
            prompt_id, "`cloud-archive search job:ID` searches it."
        )
    if urls:
        with bucket(settings_now()) as bucket_store:
            add_links(bucket_store, answer["files"])
    return answer


def _show(answer: dict[str, Any]) -> None:
    if answer["files"]:
        for line in format_table([_cells(file) for file in answer["files"]]):
            print_line(line)
    for file in answer["files"]:
        if "url" in file:
            print_line(f"{make_printable(file['name'])}, until {file['expires_at']}:")
            print_line(file["url"])
    print_line(f"Job {make_printable(answer['job_id'])}: {answer['state']}")


def _cells(file: dict[str, Any]) -> list[str]:
    size = "" if file["size"] is None else format_bytes(file["size"])
    name = "/".join(filter(None, (file["subfolder"], file["name"])))
    return [make_printable(cell) for cell in (name, file["state"], size, file["key"] or "")]
