"""The state of ComfyUI's queue goes to the engine: at once, and once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cloud_archive.comfyui.job_capture import JobCapture
from cloud_archive.errors import CloudArchiveError, RequestRefused
from tests.functional.capturing import Setting, ids

from .fake_engine import FakeEngine
from .prompt_queue import PromptQueue, outputs
from .waiting import until


async def test_an_accepted_queue_ends_a_row_of_failures(setting: Setting) -> None:
    class Recovering(FakeEngine):
        def add_jobs(self, jobs: list[dict[str, Any]], queue: dict[str, Any] | None = None) -> None:
            if self.error is not None:
                raise self.error
            super().add_jobs(jobs, queue)

    setting.queue.put("q")
    async with setting.engine(Recovering(error=CloudArchiveError("no"))) as engine:
        await setting.until(lambda: setting.capture.failures)
        engine.error = None
        setting.capture.wake(at_once=True)
        await setting.until(lambda: engine.queues)
        await until(lambda: not setting.capture.failures)


async def test_a_queue_that_the_engine_refuses_is_posted_once(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    posts: list[list[str]] = []

    class Refusing(FakeEngine):
        def add_jobs(self, jobs: list[dict[str, Any]], queue: dict[str, Any] | None = None) -> None:
            if queue is not None:
                posts.append(queue["queued"])
                if "bad" in queue["queued"]:
                    raise RequestRefused(400, "The queue is no queue.")

    setting.queue.put("bad")
    async with setting.engine(Refusing()):
        await setting.until(lambda: posts)
        await until(lambda: caplog.records)
        for _ in range(3):  # as if time passed, and the engine said that its state changed
            setting.capture.wake(at_once=True)
            await asyncio.to_thread(setting.capture.pass_on, "bad", 0.1)
        assert posts == [["bad"]]
        setting.queue.remove("bad")
        await setting.until(lambda: posts == [["bad"], []])
        setting.queue.put("good")
        await setting.until(lambda: posts == [["bad"], [], ["good"]])
    (warning,) = caplog.records
    assert warning.getMessage() == "The engine refused the state of ComfyUI's queue: The queue is no queue."


def queue_reports(engine: FakeEngine) -> list[tuple[list[str], list[str]]]:
    """Return the queue states that the engine received, (running, queued), without repetitions."""
    told = [(queue["running"], queue["queued"]) for queue in engine.queues]
    return [one for number, one in enumerate(told) if number == 0 or one != told[number - 1]]


async def test_the_engine_hears_what_is_queued_and_running(setting: Setting) -> None:
    async with setting.engine() as engine:
        await setting.until(lambda: queue_reports(engine) == [([], [])])
        setting.queue.put("j")
        setting.queue.put("k")
        setting.capture.expect()  # as ComfyUI does when a prompt arrives; nothing else wakes it from here on
        await until(lambda: queue_reports(engine)[-1] == ([], ["j", "k"]))
        setting.queue.start("j")
        await until(lambda: queue_reports(engine)[-1] == (["j"], ["k"]))
        setting.queue.finish("j", outputs("a.png"))
        await until(lambda: ids(engine) == ["j"] and queue_reports(engine)[-1] == ([], ["k"]))
        setting.queue.remove("k")
        await until(lambda: queue_reports(engine)[-1] == ([], []))
        (process,) = {queue["process"] for queue in engine.queues}
    async with setting.engine() as second:  # which knows nothing
        setting.queue.put("l")
        await setting.until(lambda: queue_reports(second)[-1:] == [([], ["l"])])
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


async def test_an_engine_hears_of_the_end_of_a_job_before_it_misses_it_in_the_queue(setting: Setting) -> None:
    order: list[str] = []

    class Ordered(FakeEngine):
        def add_jobs(self, jobs: list[dict[str, Any]], queue: dict[str, Any] | None = None) -> None:
            order.append("jobs" if queue is None else f"{len(queue['running'])} running")
            super().add_jobs(jobs, queue)

    setting.queue.put("j")
    setting.queue.start("j")
    async with setting.engine(Ordered()) as engine:
        await setting.until(lambda: order == ["1 running"])
        setting.queue.finish("j", outputs("a.png"))
        await setting.until(lambda: queue_reports(engine)[-1] == ([], []))
    assert order == ["1 running", "jobs", "0 running"]


async def test_a_call_about_a_job_waits_until_the_engine_knows_it(setting: Setting) -> None:
    async with setting.engine() as engine:
        setting.queue.put("j")
        await asyncio.to_thread(setting.capture.pass_on, "j", 60)
        assert queue_reports(engine)[-1] == ([], ["j"])
        setting.queue.start("j")
        setting.queue.finish("j", outputs("a.png"))
        await asyncio.to_thread(setting.capture.pass_on, "j", 60)
        assert ids(engine) == ["j"]
        await asyncio.to_thread(setting.capture.pass_on, "nobody", 60)
