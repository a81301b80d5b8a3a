"""`watch`: the daemon, and with `--once` the command that archives the existing files and ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Directory, Json, seconds_up_to
from .watching import GRACE_SECONDS, run_watch


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("watch", short_help="Archive new files in DIR; --once: the existing files.")(watch)


def watch(
    directory: Directory = None,
    once: Annotated[bool, typer.Option("--once", help="Archive the existing files, then exit.")] = False,
    serve: Annotated[
        str | None,
        typer.Option("--serve", metavar="HOST:PORT", help="Show the dashboard and /cloud-sync there."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="F", help="With --serve: its first line is the token that calls need."
        ),
    ] = None,
    log_file: Annotated[
        Path | None, typer.Option("--log-file", metavar="F", help="Log there too; it is rotated at 1 MB.")
    ] = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log lines are JSON.")] = False,
    grace: Annotated[
        float,
        typer.Option(
            "--grace",
            metavar="SECONDS",
            callback=seconds_up_to(86_400),
            show_default=False,
            help="How long uploads in progress may take at the end; default: 30.",
        ),
    ] = GRACE_SECONDS,
    json: Json = False,
) -> None:
    """Archive everything that is written into DIR, until SIGTERM or Ctrl-C.

    Exit status 0: everything is in the bucket; 1: something remains, each named with its cause.
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
