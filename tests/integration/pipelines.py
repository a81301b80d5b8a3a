"""Archive a directory in this process, and wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_archive.archive.engine import Engine
from cloud_archive.archive.status import Status
from tests.servers import S3Server, wait_until


@contextmanager
def archiving(
    root: Path, server: S3Server, state: Path, *, autostart: bool = True, **environ: str
) -> Iterator[Engine]:
    """Run an engine on `root` as a process runs it."""
    settings = {"S3_PREFIX": "out", "CLOUD_ARCHIVE_SETTLE_SECONDS": "0.3", **environ}
    root.mkdir(exist_ok=True)
    engine = Engine(root, state_base=state, environ=server.environ(**settings))
    engine.start(autostart=autostart)
    try:
        yield engine
    finally:
        engine.close(60)


def flush_all(engine: Engine, seconds: float = 60.0) -> Status:
    """Wait until everything is in the bucket; return the status."""
    assert engine.flush(seconds), engine.status().to_json()
    return engine.status()


def wait_until_safe(engine: Engine) -> Status:
    """Return the first status that is safe to stop; after a flush, a late event may put that off for a moment."""
    return wait_for_status(engine, lambda status: status.safe_to_stop, "it is safe to stop")


def wait_for_status(
    engine: Engine, condition: Callable[[Status], bool], what: str, seconds: float = 60.0
) -> Status:
    found: list[Status] = []

    def holds() -> bool:
        found[:] = [engine.status()]
        return condition(found[0])

    wait_until(holds, what, seconds)
    return found[0]
