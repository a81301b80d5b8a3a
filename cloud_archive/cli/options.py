"""Declare arguments that several commands take."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from .arguments import DIRECTORY_VARIABLE


def directory_path(text: str) -> Path:
    """Return the path of a directory that was given.

    Raises:
        typer.BadParameter: the text is empty, as a shell variable that is not set. It would mean the current directory.
    """
    return _path(text, "directory")


def file_path(text: str) -> Path:
    """Return the path of a file that was given. Raises as `directory_path`."""
    return _path(text, "file")


def _path(text: str, what: str) -> Path:
    if not text:
        raise typer.BadParameter(f"It is empty: give a {what}.")
    return Path(text)


Directory = Annotated[
    Path | None,
    typer.Argument(
        metavar="DIR",
        parser=directory_path,
        help=f"The watched directory; default: {DIRECTORY_VARIABLE}, else that of the only archive that runs.",
        show_default=False,
    ),
]
CatalogDirectory = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        parser=directory_path,
        help=f"The watched directory; default: {DIRECTORY_VARIABLE}, else the bucket's own catalog.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer with JSON, as the last line.")]


def seconds_up_to(most: float) -> Callable[[str], float]:
    """Return the parser of an option that takes seconds from 0 to `most`; it raises typer.BadParameter."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            if 0 <= (seconds := float(text)) <= most:
                return seconds
        raise typer.BadParameter(f"Give a number of seconds from 0 to {most:.0f}.")

    return parse
