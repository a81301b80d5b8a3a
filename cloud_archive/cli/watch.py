"""`watch`: the daemon; with `--once`, archive the existing files and exit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .arguments import DIRECTORY_VARIABLE
from .options import Json, directory_path, seconds_up_to
from .watching import GRACE_SECONDS, run_watch


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("watch", short_help="Archive new files in DIR; --once: the existing files.")(watch)


def watch(
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            parser=directory_path,
            help=f"The directory to watch; default: {DIRECTORY_VARIABLE}.",
            show_default=False,
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Archive the existing files, then exit.")] = False,
    serve: Annotated[
        str | None,
        typer.Option("--serve", metavar="HOST:PORT", help="Serve the dashboard and the HTTP API there."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="F", help="With --serve: every request needs the token in F's first line."
        ),
    ] = None,
    log_file: Annotated[
        Path | None, typer.Option("--log-file", metavar="F", help="Also log to F, rotated at 1 MB.")
    ] = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="Write log lines as JSON.")] = False,
    grace: Annotated[
        float,
        typer.Option(
            "--grace",
            metavar="SECONDS",
            parser=seconds_up_to(86_400),
            show_default=False,
            help="On stop, how long to go on uploading; default: 30.",
        ),
    ] = GRACE_SECONDS,
    json: Json = False,
) -> None:
    """Archive everything that is written into DIR, until SIGTERM or Ctrl-C.

    Files that were there before archiving began are archived only with CLOUD_ARCHIVE_BACKFILL=all, which is the default
    with --once. Exit status 0: all files that are to be archived are in the bucket; 1: some are not, and standard error
    says why.
    """
    raise typer.Exit(
        run_watch(
            directory,
            once=once,
            serve=serve,
            token_file=token_file,
            log_file=log_file,
            log_json=log_json,
            grace=grace,
            json=json,
        )
    )
