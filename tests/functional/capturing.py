"""A history, the capture that reads it, and an engine that may be away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cloud_archive.api.server import build_application, serve
from cloud_archive.comfyui.job_capture import JobCapture
from tests.listeners import stop_accepting

from .callers import TOKEN
from .fake_engine import FakeEngine
from .prompt_queue import PromptQueue
from .waiting import until

SECRET = "sk-0123456789abcdef0123456789abcdef"


class Capturing:
    """A history, the capture that reads its jobs, and the engine that runs at the moment."""

    def __init__(self) -> None:
        self.queue = PromptQueue()
        self.address: tuple[int, str] | None = None
        self.capture = JobCapture(self.queue, lambda: self.address, pause_seconds=0.01)
        self.capture.start()

    @asynccontextmanager
    async def engine(self, engine: FakeEngine | None = None) -> AsyncIterator[FakeEngine]:
        """Run an engine that takes calls while the block runs."""
        engine = engine or FakeEngine()
        listener = await serve(build_application(engine.facade, token=TOKEN))
        self.address = (listener.port, TOKEN)
        try:
            yield engine
        finally:
            self.address = None
            await stop_accepting(listener.runner)
            await listener.close()

    async def until(self, condition: Any) -> None:
        """Wait until `condition()` is true, and wake the capture meanwhile as an engine's events do."""

        def wake_and_check() -> object:
            self.capture.wake()
            return condition()

        await until(wake_and_check)


def jobs(engine: FakeEngine) -> list[dict[str, Any]]:
    return [job for call in engine.calls for job in call[1]]


def ids(engine: FakeEngine) -> list[str]:
    return [job["job_id"] for job in jobs(engine)]
