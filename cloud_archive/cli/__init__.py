"""The commands, one module each. Each has `register(app)`; the order here is the order in `--help`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .check import register as register_check
from .compact import register as register_compact
from .demo import register as register_demo
from .free import register as register_free
from .prune import register as register_prune
from .report import register as register_report
from .restore import register as register_restore
from .status import register as register_running
from .upload import register as register_upload
from .verify import register as register_verify
from .watch import register as register_watch

if TYPE_CHECKING:
    import typer

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
)


def register_all(app: typer.Typer) -> None:
    """Add every command to the application."""
    for register in _REGISTER:
        register(app)
