"""`demo`: archive sample outputs to an S3 server on this machine, without an account or settings."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from ..terminal import EXIT_USAGE, print_error
from .options import Json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", short_help="See it work, without an account.")(demo)


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Exit once everything is archived; status 0 on success.")
    ] = False,
    json: Json = False,
) -> None:
    """See it work: archives sample outputs to an S3 server of its own, with a live table and the dashboard.

    Nothing needs to be set up, none of your settings is used, and nothing leaves this machine.
    """
    from ..demo.demo import explain_missing_store, run_demo

    missing = explain_missing_store()
    if missing:
        print_error(missing)
        raise typer.Exit(EXIT_USAGE)
    from .logs import logging_to_stderr

    with logging_to_stderr(level=logging.WARNING, environ={}):
        raise typer.Exit(run_demo(once=once, json=json))
