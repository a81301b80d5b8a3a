"""Threads for calls that block: one kind of call never waits for another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from cloud_archive.api.lanes import Lanes
from cloud_archive.errors import RequestRefused


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    made = Lanes({"slow": 1, "quick": 1})
    yield made
    made.close()


async def test_a_busy_lane_holds_up_no_other(lanes: Lanes) -> None:
    go = threading.Event()
    slow = asyncio.ensure_future(lanes.run("slow", lambda: go.wait(60), 60))
    await asyncio.sleep(0)  # it has its thread
    assert await lanes.run("quick", lambda: "answered", 60) == "answered"
    assert not slow.done()
    go.set()
    assert await slow is True


async def test_too_many_calls_are_refused_with_503(lanes: Lanes) -> None:
    go = threading.Event()
    calls = [asyncio.ensure_future(lanes.run("slow", lambda: go.wait(60), 60)) for _ in range(6)]
    done, running = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    (refused,) = done
    error = refused.exception()
    assert isinstance(error, RequestRefused)
    assert error.status == 503
    go.set()
    await asyncio.wait(running)


async def test_a_call_whose_time_is_up_is_refused_with_504_and_one_that_waited_never_runs(
    lanes: Lanes,
) -> None:
    go, ran = threading.Event(), threading.Event()
    slow = asyncio.ensure_future(lanes.run("slow", lambda: go.wait(60), 60))
    await asyncio.sleep(0)  # it has its thread
    with pytest.raises(RequestRefused) as refused:
        await lanes.run("slow", ran.set, 0.05)
    assert refused.value.status == 504
    go.set()
    await slow
    assert await lanes.run("slow", lambda: "next", 60) == "next"
    assert not ran.is_set()
