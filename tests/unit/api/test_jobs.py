"""A call about a job: how long it waits, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from aiohttp.test_utils import make_mocked_request

from cloud_archive.api import jobs as jobs_module
from cloud_archive.api.jobs import JobHandlers
from cloud_archive.api.lanes import Lanes
from cloud_archive.archive.engine import Engine
from cloud_archive.catalog.catalog import Catalog


class JobEngine:
    """An engine that gives these answers one after another, the last one again and again."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.callbacks: list[Callable[[], None]] = []
        self.subscribing, self.may_subscribe = threading.Event(), threading.Event()
        self.may_subscribe.set()
        self.unsubscribed = threading.Event()

    def watch_job(self, job_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        self.subscribing.set()
        self.may_subscribe.wait(60)
        self.callbacks.append(callback)

        def unsubscribe() -> None:
            self.callbacks.clear()
            self.unsubscribed.set()

        return unsubscribe

    def catalog(self) -> Catalog:
        catalog = types.SimpleNamespace(gallery_setting="all", machine="pod-1")
        return cast(Catalog, catalog)

    def job(self, job_id: str, *, urls: bool, only_machine: Callable[[], str | None]) -> dict[str, Any]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        for callback in self.callbacks:
            callback()  # it has changed again
        return {"state": state, "urls": urls}


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes()
    yield lanes
    lanes.close()


async def answer(engine: JobEngine, lanes: Lanes, *, wait: float = 60.0, urls: int = 0) -> dict[str, Any]:
    arguments = {"prompt_id": "j", "wait": wait, "urls": urls}
    handlers = JobHandlers(cast(Engine, engine), lanes, public=False)
    response = await handlers.job(make_mocked_request("GET", "/cloud-sync/jobs/j"), arguments)
    assert engine.callbacks == []
    found: dict[str, Any] = json.loads(cast(bytes, response.body))
    return found


async def test_a_call_waits_until_the_job_is_over(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "UNKNOWN_SECONDS", 60.0)
    engine = JobEngine("unknown", "running", "uploading", "complete")
    assert (await answer(engine, lanes))["state"] == "complete"


@pytest.mark.parametrize("state", ["unknown", "running", "failed"])
async def test_a_call_that_does_not_wait_is_answered_at_once(lanes: Lanes, state: str) -> None:
    assert await answer(JobEngine(state), lanes, wait=0) == {"state": state, "urls": False}


async def test_links_are_made_for_the_last_answer_only(lanes: Lanes) -> None:
    assert await answer(JobEngine("running", "complete"), lanes, urls=1) == {
        "state": "complete",
        "urls": True,
    }


async def test_a_call_that_is_cancelled_while_it_subscribes_stays_no_subscriber(lanes: Lanes) -> None:
    engine = JobEngine("running")
    engine.may_subscribe.clear()
    call = asyncio.ensure_future(answer(engine, lanes))
    await asyncio.to_thread(engine.subscribing.wait, 60)
    call.cancel()
    await asyncio.wait([call])
    engine.may_subscribe.set()
    assert await asyncio.to_thread(engine.unsubscribed.wait, 60)
    assert engine.callbacks == []
