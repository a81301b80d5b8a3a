"""Wait until an engine's catalog is filled."""

from __future__ import annotations

from cloud_archive.archive.engine import Engine
from tests.servers import wait_until


def wait_until_filled(engine: Engine) -> None:
    """Return once the catalog holds every archived file, and has read or postponed it."""
    wait_until(lambda: engine.catalog().status()["state"] == "complete", "the catalog is filled")
