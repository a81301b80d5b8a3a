"""How a service ends."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.daemon.service import Service


class EndlessEngine:
    """An engine whose uploads don't end: it uses all of the time that it is given, by a clock of its own."""

    handed_over = False
    state_directory = remainder = None

    def __init__(self) -> None:
        self.passed = 0.0
        self.on_begin: Any = None
        self.on_standby: Any = None

    def start(self, *, autostart: bool | None) -> None: ...

    def wait_for_handover(self) -> None: ...

    def stop_draining(self) -> None: ...

    def drain(self, seconds: float) -> bool:
        self.passed += seconds
        return False

    def close(self, seconds: float) -> list[str]:
        self.passed += 2 * seconds  # for uploads, and once more for the catalog
        return ["a.png"]


@pytest.mark.parametrize("grace", [1.0, 3.0, 10.0, 30.0, 300.0])
async def test_uploads_that_do_not_end_leave_some_of_the_grace_for_the_end(grace: float) -> None:
    engine = EndlessEngine()
    service = Service(cast(Engine, engine), token="t", grace_seconds=grace, listen_after_seconds=3600)
    service.stop()
    assert await service.run(lambda *_: None) == ["a.png"]
    assert 0.66 * grace <= engine.passed < grace
