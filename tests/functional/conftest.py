"""Fixtures of several files here: engines, callers of their servers, and a pipeline of watcher and settle thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.api.server import build_application
from cloud_archive.archive.engine import Engine
from cloud_archive.comfyui import job_capture
from tests.functional.callers import TOKEN, Caller, listening
from tests.functional.capturing import Capturing
from tests.functional.watched import Pipeline
from tests.memory_store import MemoryStore
from tests.servers import wait_until

from .archives import engine_on
from .fake_engine import FakeEngine


@pytest.fixture
def pipeline(root: Path) -> Iterator[Pipeline]:
    pipeline = Pipeline(root)
    pipeline.start()
    yield pipeline
    pipeline.stop()


@pytest.fixture
def fake_engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def private(fake_engine: FakeEngine) -> AsyncIterator[Caller]:
    application = build_application(fake_engine.facade, token=TOKEN, heartbeat_seconds=0.05)
    async with listening(application, TOKEN) as caller:
        yield caller


@pytest.fixture
async def public(fake_engine: FakeEngine) -> AsyncIterator[Caller]:
    async with listening(
        build_application(fake_engine.facade, token=None, allowed_hosts=["nas.local:80"])
    ) as caller:
        yield caller


@pytest.fixture
def at_exit(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The functions that would run at the interpreter's exit."""
    registered: list[Any] = []
    monkeypatch.setattr("cloud_archive.comfyui.plugin.atexit.register", registered.append)
    return registered


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def engine(root: Path, store: MemoryStore, state: Path) -> Iterator[Engine]:
    with engine_on(root, store, state) as engine:
        wait_until(lambda: engine.status().running, "running")
        yield engine


@pytest.fixture
async def caller(engine: Engine) -> AsyncIterator[Caller]:
    async with listening(build_application(engine, token=TOKEN), TOKEN) as caller:
        yield caller


@pytest.fixture
def capturing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Capturing]:
    monkeypatch.setattr(job_capture, "_JOB_PAUSE_SECONDS", 0)
    made = Capturing()
    yield made
    made.capture.stop(60)
