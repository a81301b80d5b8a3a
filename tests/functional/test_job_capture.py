"""Finished jobs go from ComfyUI's history to the engine's real server; the engine behind it is a stand-in."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from cloud_archive.comfyui import job_capture
from cloud_archive.comfyui.job_capture import MAX_JOB_BYTES, MAX_UNSENT_BYTES, JobCapture
from cloud_archive.errors import CatalogError, CloudArchiveError, RequestRefused
from tests.functional.capturing import SECRET, Capturing, ids, jobs

from .fake_engine import FakeEngine
from .prompt_queue import GRAPH, PromptQueue, outputs
from .waiting import until


async def test_a_headless_job_arrives_with_its_graph_and_its_files(capturing: Capturing) -> None:
    capturing.queue.finish("j", outputs("a_00001_.png", "a_00002_.png", subfolder="x/y"))
    async with capturing.engine() as engine:
        await capturing.until(lambda: engine.calls)
    assert jobs(engine) == [
        {
            "job_id": "j",
            "client_id": None,
            "started_at": 1_775_046_895.6,
            "finished_at": 1_775_046_896.5,
            "status": "success",
            "prompt": GRAPH,
            "workflow": None,
            "error": None,
            "outputs": [
                {"node": "2", "filename": "a_00001_.png", "subfolder": "x/y", "type": "output"},
                {"node": "2", "filename": "a_00002_.png", "subfolder": "x/y", "type": "output"},
            ],
            "cached_outputs": [],
            "options": None,
        }
    ]


async def test_a_job_of_a_client_brings_its_workflow_and_options_and_none_of_its_tokens(
    capturing: Capturing, caplog: pytest.LogCaptureFixture
) -> None:
    workflow = {"nodes": [], "version": 0.4}
    extra = {
        "client_id": "c",
        "extra_pnginfo": {"workflow": workflow},
        "cloud_archive": {"note": "x"},
        "auth_token_comfy_org": SECRET,
    }
    graph = {**GRAPH, "3": {"class_type": "Ask", "inputs": {"api_key": SECRET}}}
    with caplog.at_level(logging.DEBUG):
        capturing.queue.finish("j", outputs("a.png"), extra=extra, graph=graph)
        async with capturing.engine() as engine:
            await capturing.until(lambda: engine.calls)
    (job,) = jobs(engine)
    assert (job["client_id"], job["workflow"]) == ("c", workflow)
    assert job["options"] == {"note": "x"}
    assert job["prompt"] == graph  # the engine drops secrets before it stores anything
    assert json.dumps(job).count(SECRET) == 1
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("end", "status"), [("execution_error", "error"), ("execution_interrupted", "interrupted")]
)
async def test_a_job_that_failed_arrives_with_what_it_wrote(
    capturing: Capturing, end: str, status: str
) -> None:
    capturing.queue.finish("j", outputs("a.png"), end=end)
    async with capturing.engine() as engine:
        await capturing.until(lambda: engine.calls)
    (job,) = jobs(engine)
    assert (job["status"], [output["filename"] for output in job["outputs"]]) == (status, ["a.png"])


async def test_files_from_the_cache_belong_to_the_job_that_wrote_them(capturing: Capturing) -> None:
    preview = outputs("p.png", node="3", kind="temp")
    capturing.queue.finish("first", outputs("a.png"))
    capturing.queue.finish("again", {**outputs("a.png"), **preview}, cached=["1", "2"])
    async with capturing.engine() as engine:
        await capturing.until(lambda: len(ids(engine)) == 2)
    assert [[output["filename"] for output in job["outputs"]] for job in jobs(engine)] == [
        ["a.png"],
        ["p.png"],
    ]
    assert [[output["filename"] for output in job["cached_outputs"]] for job in jobs(engine)] == [
        [],
        ["a.png"],
    ]


async def test_a_job_is_passed_on_once_and_each_new_one_as_it_comes(capturing: Capturing) -> None:
    async with capturing.engine() as engine:
        for number in range(20):
            capturing.queue.finish(str(number), outputs("a.png"))
            await capturing.until(lambda number=number: ids(engine)[-1:] == [str(number)])
    assert ids(engine) == [str(number) for number in range(20)]


async def test_a_history_that_is_cleared_while_no_engine_runs_loses_no_job(capturing: Capturing) -> None:
    capturing.queue.finish("j", outputs("a.png"))
    await capturing.until(lambda: capturing.capture.unsent_bytes)
    capturing.queue.wipe_history()
    capturing.queue.finish("k", outputs("b.png"))
    async with capturing.engine() as engine:
        await capturing.until(lambda: len(ids(engine)) == 2)
    assert ids(engine) == ["j", "k"]


@pytest.mark.parametrize(
    "error",
    [
        CloudArchiveError("The disk is full."),
        CatalogError("The catalog is closed."),
        RequestRefused(501, "No."),
    ],
    ids=["500", "503", "501"],
)
async def test_the_next_engine_gets_what_the_last_one_did_not_confirm(
    capturing: Capturing, error: CloudArchiveError
) -> None:
    async with capturing.engine() as confirms:
        capturing.queue.finish("confirmed", outputs("a.png"))
        await capturing.until(lambda: confirms.calls and not capturing.capture.unsent_bytes)
    async with capturing.engine(FakeEngine(error=error)):
        capturing.queue.finish("j", outputs("b.png"))
        await capturing.until(lambda: capturing.capture.failures)
    async with capturing.engine() as last:
        await capturing.until(lambda: last.calls)
        capturing.queue.finish("k", outputs("c.png"))
        await capturing.until(lambda: len(ids(last)) == 2)
    assert ids(last) == ["j", "k"]


async def test_an_engine_that_fails_is_left_alone_until_its_state_changes(
    capturing: Capturing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_capture, "_FIRST_BACKOFF_SECONDS", 3600.0)
    monkeypatch.setattr(job_capture, "_LONGEST_BACKOFF_SECONDS", 3600.0)
    capturing.queue.finish("j", outputs("a.png"))
    async with capturing.engine(FakeEngine(error=CloudArchiveError("no"))) as engine:
        await capturing.until(lambda: capturing.capture._retry_at)
        readings = 0

        def read_on() -> bool:
            nonlocal readings
            readings += 1
            return readings > 20

        await capturing.until(read_on)
        assert len(engine.calls) == 1
        engine.error = None
        capturing.capture.wake(at_once=True)
        await capturing.until(lambda: ids(engine) == ["j", "j"])


async def test_a_change_of_state_during_a_call_that_fails_ends_the_backoff(
    capturing: Capturing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_capture, "_FIRST_BACKOFF_SECONDS", 3600.0)
    monkeypatch.setattr(job_capture, "_LONGEST_BACKOFF_SECONDS", 3600.0)

    class Starting(FakeEngine):
        def add_jobs(self, jobs: list[dict[str, Any]], queue: dict[str, Any] | None = None) -> None:
            if not self.calls:
                capturing.capture.wake(at_once=True)
                self.calls.append(("jobs", []))
                raise CloudArchiveError("no")
            super().add_jobs(jobs, queue)

    capturing.queue.finish("j", outputs("a.png"))
    async with capturing.engine(Starting()) as engine:
        await capturing.until(lambda: ids(engine) == ["j"])


async def test_one_job_that_the_engine_refuses_does_not_hold_up_the_others(
    capturing: Capturing, caplog: pytest.LogCaptureFixture
) -> None:
    class Picky(FakeEngine):
        def add_jobs(self, jobs: list[dict[str, Any]], queue: dict[str, Any] | None = None) -> None:
            if any(job["job_id"] == "bad" for job in jobs):
                raise RequestRefused(400, "The graph is no graph.")
            super().add_jobs(jobs, queue)

    for job_id in ("a", "bad", "b"):
        capturing.queue.finish(job_id, outputs("a.png"))
    async with capturing.engine(Picky()) as engine:
        await capturing.until(lambda: ids(engine) == ["a", "b"])
        capturing.queue.finish("c", outputs("c.png"))
        await capturing.until(lambda: ids(engine) == ["a", "b", "c"])
    (warning,) = caplog.records
    assert warning.getMessage() == "The engine refused job bad: The graph is no graph."


async def test_a_history_of_2000_jobs_arrives_once_and_in_order(capturing: Capturing) -> None:
    for number in range(2000):
        capturing.queue.finish(str(number), outputs("a.png"))
    async with capturing.engine() as engine:
        await capturing.until(lambda: len(ids(engine)) >= 2000)
        assert len(engine.calls) <= 40  # in batches
        capturing.queue.finish("new", outputs("b.png"))
        await capturing.until(lambda: ids(engine)[-1] == "new")
    assert ids(engine) == [*map(str, range(2000)), "new"]


async def test_jobs_that_wait_for_an_engine_take_bounded_memory_and_all_arrive(capturing: Capturing) -> None:
    graph = {**GRAPH, "3": {"class_type": "Note", "inputs": {"text": "x" * 1_000_000}}}
    for number in range(40):
        capturing.queue.finish(str(number), outputs("a.png"), graph=graph)
    await capturing.until(lambda: capturing.capture.unsent_bytes >= MAX_UNSENT_BYTES)
    assert capturing.capture.unsent_bytes < MAX_UNSENT_BYTES + 1_100_000
    async with capturing.engine() as engine:
        await capturing.until(lambda: len(ids(engine)) >= 40 and not capturing.capture.unsent_bytes)
    assert ids(engine) == [str(number) for number in range(40)]


async def test_a_job_that_is_too_large_or_no_json_arrives_without_its_graphs(capturing: Capturing) -> None:
    big = {"nodes": ["x" * MAX_JOB_BYTES]}
    capturing.queue.finish("big", outputs("a.png"), extra={"extra_pnginfo": {"workflow": big}})
    capturing.queue.finish("odd", outputs("b.png"), graph={"1": object()})
    async with capturing.engine() as engine:
        await capturing.until(lambda: len(ids(engine)) == 2)
    assert [(job["workflow"], job["prompt"], len(job["outputs"])) for job in jobs(engine)] == [
        (None, GRAPH, 1),
        (None, None, 1),
    ]


async def test_a_history_of_another_shape_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    queue = PromptQueue()
    queue.get_history = lambda **_: 1 / 0  # type: ignore[assignment, method-assign]
    broken = JobCapture(queue, lambda: None, pause_seconds=0.01)
    broken.start()

    def warned() -> object:
        broken.wake()
        return caplog.records

    await until(warned)
    broken.stop(60)
    (warning,) = caplog.records
    assert "can't read this ComfyUI's history (ZeroDivisionError)" in warning.getMessage()


async def test_why_a_job_failed_is_passed_on_without_a_secret(
    capturing: Capturing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", SECRET)
    message = {
        "node_id": "2",
        "node_type": "SaveImage",
        "exception_type": "OSError",
        "exception_message": f"no room for {SECRET}",
        "current_inputs": {"images": ["x"]},
        "traceback": ["File secret.py"],
    }
    capturing.queue.finish("j", {}, end="execution_error", end_message=message)
    async with capturing.engine() as engine:
        await capturing.until(lambda: ids(engine))
    (job,) = jobs(engine)
    assert job["error"] == "SaveImage (node 2): no room for ***"
