"""`check`: the connection to the store, step by step, each with its cause and cure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from ..terminal import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, print_error, print_json, print_line
from ..text import make_printable
from .common import notice_if_silent
from .options import Json

if TYPE_CHECKING:
    from ..maintenance.check import CheckStep


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check", short_help="Test the connection step by step.")(check)


def check(json: Json = False) -> None:
    """Test settings, network, access key and rights in turn. Each failure has its cause and its cure.

    Exit status 0: files can be archived; 1: they can't; 2: the settings are wrong.
    """
    from ..config.settings import load_settings
    from ..maintenance.check import has_no_failure, run_check

    with notice_if_silent():
        steps = run_check(lambda: load_settings(os.environ))
    for step in steps:
        _show(step, listed=not json)
    if json:
        print_json([step.to_json() for step in steps])
    elif has_no_failure(steps):
        warned = any(step.ok and step.cure for step in steps)
        print_line(
            "Files can be archived; see the warnings above."
            if warned
            else "Everything works: files can be archived."
        )
    if has_no_failure(steps):
        raise typer.Exit(EXIT_DONE)
    raise typer.Exit(EXIT_USAGE if steps[0].ok is False else EXIT_FAILED)


def _show(step: CheckStep, *, listed: bool) -> None:
    """Print a step that succeeded to standard output, one that failed to standard error."""
    message = f" [{step.message}]" if step.message else ""
    words = make_printable(f"{step.cause} {step.cure}".strip() + message)
    mark = {True: "warn" if step.cure else "ok", False: "FAILED", None: "-"}[step.ok]
    line = f"{mark:<7} {step.name:<16} {words}".rstrip()
    if step.ok is False:
        print_error(line)
    elif listed:
        print_line(line)
