"""The parser of `cloud-archive`, built from the commands in this package.

A command imports most of what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from .. import __version__
from ..terminal import print_line
from .catalog import register as register_catalog
from .check import register as register_check
from .compact import register as register_compact
from .demo import register as register_demo
from .free import register as register_free
from .job import register as register_job
from .prune import register as register_prune
from .report import register as register_report
from .restore import register as register_restore
from .search import register as register_search
from .share import register as register_share
from .start import exit_status
from .status import register as register_running
from .typer_classes import CommandGroup
from .upload import register as register_upload
from .verify import register as register_verify
from .watch import register as register_watch

# In the order of `--help`.
_REGISTER = (
    register_demo,
    register_watch,
    register_upload,
    register_check,
    register_running,
    register_verify,
    register_restore,
    register_report,
    register_prune,
    register_free,
    register_compact,
    register_search,
    register_share,
    register_job,
    register_catalog,
)


def build_app() -> typer.Typer:
    """Return the application with every command."""
    app = CommandGroup(
        name="cloud-archive",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_common)
    for register in _REGISTER:
        register(app)
    return app


@functools.cache
def _command() -> Callable[..., object]:
    """Return the application as a function, built once, because building it takes a tenth of a second."""
    return typer.main.get_command(build_app())


def _version(wanted: bool) -> None:
    if wanted:
        print_line(f"cloud-archive {__version__}")
        raise typer.Exit


def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Archives everything ComfyUI generates to S3 or S3-compatible storage, and proves it.

    Settings come from environment variables (S3_BUCKET, S3_ENDPOINT_URL, …). Exit status: 0 all done,
    1 something failed, 2 wrong usage or settings.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status.

    Args:
        arguments: without the program's name; default: this process's.
    """
    words = None if arguments is None else list(arguments)
    return exit_status(lambda: _command()(args=words, prog_name="cloud-archive"))
