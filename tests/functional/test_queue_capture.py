"""The state of ComfyUI's queue goes to the engine: at once, and once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cloud_archive.comfyui.job_capture import JobCapture
from cloud_archive.errors import CloudArchiveError, RequestRefused
from tests.functional.capturing import Capturing, ids

from .fake_engine import FakeEngine
from .prompt_queue import PromptQueue, outputs
from .waiting import until


async def test_an_accepted_queue_ends_a_row_of_failures(capturing: Capturing) -> None:
    class Recovering(FakeEngine):
        def add_jobs(self, jobs: list[dict[str, Any]], queue: dict[str, Any] | None = None) -> None:
            if self.error is not None:
                raise self.error
            super().add_jobs(jobs, queue)

    capturing.queue.put("q")
    async with capturing.engine(Recovering(error=CloudArchiveError("no"))) as engine:
        await capturing.until(lambda: capturing.capture.failures)
        engine.error = None
        capturing.capture.wake(at_once=True)
        await capturing.until(lambda: engine.queues)
        await until(lambda: not capturing.capture.failures)


async def test_a_queue_that_the_engine_refuses_is_posted_once(
    capturing: Capturing, caplog: pytest.LogCaptureFixture
) -> None:
    posts: list[list[str]] = []

    class Refusing(FakeEngine):
        def add_jobs(self, jobs: list[dict[str, Any]], queue: dict[str, Any] | None = None) -> None:
            if queue is not None:
                posts.append(queue["queued"])
                if "bad" in queue["queued"]:
                    raise RequestRefused(400, "The queue is no queue.")

    capturing.queue.put("bad")
    async with capturing.engine(Refusing()):
        await capturing.until(lambda: posts)
        await until(lambda: caplog.records)
        for _ in range(3):  # as if time passed, and the engine said that its state changed
            capturing.capture.wake(at_once=True)
            await asyncio.to_thread(capturing.capture.pass_on, "bad", 0.1)
        assert posts == [["bad"]]
        capturing.queue.remove("bad")
        await capturing.until(lambda: posts == [["bad"], []])
        capturing.queue.put("good")
        await capturing.until(lambda: posts == [["bad"], [], ["good"]])
    (warning,) = caplog.records
    assert warning.getMessage() == "The engine refused the state of ComfyUI's queue: The queue is no queue."


def queue_reports(engine: FakeEngine) -> list[tuple[list[str], list[str]]]:
    """Return the queue states that the engine received, (running, queued), without repetitions."""
    told = [(queue["running"], queue["queued"]) for queue in engine.queues]
    return [one for number, one in enumerate(told) if number == 0 or one != told[number - 1]]


async def test_the_engine_hears_what_is_queued_and_running(capturing: Capturing) -> None:
    async with capturing.engine() as engine:
        await capturing.until(lambda: queue_reports(engine) == [([], [])])
        capturing.queue.put("j")
        capturing.queue.put("k")
        capturing.capture.expect()  # as ComfyUI does when a prompt arrives; nothing else wakes it from here on
        await until(lambda: queue_reports(engine)[-1] == ([], ["j", "k"]))
        capturing.queue.start("j")
        await until(lambda: queue_reports(engine)[-1] == (["j"], ["k"]))
        capturing.queue.finish("j", outputs("a.png"))
        await until(lambda: ids(engine) == ["j"] and queue_reports(engine)[-1] == ([], ["k"]))
        capturing.queue.remove("k")
        await until(lambda: queue_reports(engine)[-1] == ([], []))
        (process,) = {queue["process"] for queue in engine.queues}
    async with capturing.engine() as second:  # which knows nothing
        capturing.queue.put("l")
        await capturing.until(lambda: queue_reports(second)[-1:] == [([], ["l"])])
        assert {queue["process"] for queue in second.queues} == {process}


def test_while_a_job_runs_one_pause_lies_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a second pause, an answer about a job would come twice as late."""
    steps: list[str] = []

    class Wake(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            steps.append("wait")
            return super().wait(timeout)

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            steps.append("pause")
            return super().wait(0)

    capture = JobCapture(PromptQueue(), lambda: None, pause_seconds=60)
    monkeypatch.setattr(capture, "_wake", Wake())
    monkeypatch.setattr(capture, "_stopping", Stopping())
    looks = 0

    def look() -> None:
        nonlocal looks
        steps.append("look")
        looks += 1
        capture._queue = (("j",), ()) if looks < 4 else ((), ())
        if looks == 4:
            capture._stopping.set()
            capture.wake()

    monkeypatch.setattr(capture, "_pass_on_news", look)
    capture.wake()
    capture._run()
    assert steps == ["wait", *["look", "pause"] * 4, "wait", "look", "pause"]


async def test_an_engine_hears_of_the_end_of_a_job_before_it_misses_it_in_the_queue(
    capturing: Capturing,
) -> None:
    order: list[str] = []

    class Ordered(FakeEngine):
        def add_jobs(self, jobs: list[dict[str, Any]], queue: dict[str, Any] | None = None) -> None:
            order.append("jobs" if queue is None else f"{len(queue['running'])} running")
            super().add_jobs(jobs, queue)

    capturing.queue.put("j")
    capturing.queue.start("j")
    async with capturing.engine(Ordered()) as engine:
        await capturing.until(lambda: order == ["1 running"])
        capturing.queue.finish("j", outputs("a.png"))
        await capturing.until(lambda: queue_reports(engine)[-1] == ([], []))
    assert order == ["1 running", "jobs", "0 running"]


async def test_a_call_about_a_job_waits_until_the_engine_knows_it(capturing: Capturing) -> None:
    async def pass_on(job_id: str, timeout_seconds: float) -> tuple[str, bool]:
        return await asyncio.to_thread(capturing.capture.pass_on, job_id, timeout_seconds)

    capturing.queue.put("j")
    assert await pass_on("j", 0) == ("queued", False)
    async with capturing.engine() as engine:
        assert await pass_on("j", 60) == ("queued", True)
        assert queue_reports(engine)[-1] == ([], ["j"])
        capturing.queue.start("j")
        capturing.queue.finish("j", outputs("a.png"))
        assert await pass_on("j", 60) == ("finished", True)
        assert ids(engine) == ["j"]
        assert await pass_on("nobody", 60) == ("", True)
