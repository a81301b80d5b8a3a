"""Calls about a job on ComfyUI's port, while the engine behind it ends and starts again."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from cloud_archive.comfyui import plugin as comfy
from cloud_archive.comfyui.engine_client import EngineAnswer, EngineClient
from cloud_archive.comfyui.plugin import Plugin
from cloud_archive.errors import EngineUnavailable

from .small_comfyui import SmallPromptServer
from .waiting import until

pytestmark = pytest.mark.usefixtures("at_exit")


class ScriptedClient(EngineClient):
    """Returns the given answers in turn, and the last one from then on."""

    def __init__(self, *answers: tuple[int, str] | None) -> None:
        self.answers = list(answers)
        self.queries: list[dict[str, str]] = []
        self.paths: list[str] = []

    async def call(self, method: str, path: str, *, query: Any = None, **_: Any) -> EngineAnswer:
        self.paths.append(path)
        self.queries.append(query)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if found is None:
            raise EngineUnavailable("The engine ended.")
        http_status, state = found
        status = "interrupted" if state == "failed" else None
        answer = {"job_id": "j", "state": state, "status": status}
        return EngineAnswer(http_status, "application/json", json.dumps(answer).encode())

    async def stop(self) -> None:
        pass


class Capture:
    """A job capture that reports the given place of every prompt, and whether the engine knows it."""

    def __init__(self, place: str, is_passed_on: bool) -> None:
        self.place, self.is_passed_on = place, is_passed_on

    def pass_on(self, prompt_id: str, timeout_seconds: float) -> tuple[str, bool]:
        return self.place, self.is_passed_on

    def stop(self, timeout_seconds: float) -> None:
        pass


class ComfyServer(TestServer):
    """Like ComfyUI's server, this does not cancel a handler whose client goes away."""

    async def _make_runner(self, **given: Any) -> Any:
        return await super()._make_runner(**given | {"handler_cancellation": False})


@asynccontextmanager
async def serve_client(
    client: ScriptedClient,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    *middlewares: Any,
    is_passed_on: bool = False,
) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    monkeypatch.setattr(comfy, "_ASK_AGAIN_SECONDS", 0.01)
    prompt_server = SmallPromptServer()
    plugin = Plugin(prompt_server, client=client)
    plugin.install()
    plugin._jobs = Capture(place, is_passed_on)  # type: ignore[assignment]
    prompt_server.app.on_startup.clear()
    prompt_server.add_routes()
    prompt_server.app.middlewares.extend(middlewares)
    async with TestClient(ComfyServer(prompt_server.app)) as opened:
        yield opened


async def test_a_wait_goes_on_beyond_an_engine_that_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ScriptedClient(None, (500, "x"), (200, "unknown"), (200, "complete"))
    async with (
        serve_client(client, "finished", monkeypatch) as opened,
        opened.get("/cloud-sync/jobs/j?wait=30&urls=1") as answer,
    ):
        assert (answer.status, (await answer.json())["state"]) == (200, "complete")
    assert len(client.queries) == 4
    assert {query["urls"] for query in client.queries} == {"1"}
    assert all(0 < float(query["wait"]) <= 30 for query in client.queries)


@pytest.mark.parametrize(
    ("place", "is_passed_on", "state"),
    [("queued", False, "complete"), ("finished", False, "complete"), ("finished", True, "failed")],
)
async def test_a_wait_goes_on_for_a_job_that_was_cut_off_and_is_queued_again(
    place: str, is_passed_on: bool, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ScriptedClient((200, "failed"), (200, "complete"))
    async with (
        serve_client(client, place, monkeypatch, is_passed_on=is_passed_on) as opened,
        opened.get("/cloud-sync/jobs/j?wait=30") as answer,
    ):
        assert (answer.status, (await answer.json())["state"]) == (200, state)


@pytest.mark.parametrize(
    ("place", "given", "status", "state"),
    [
        ("", (200, "unknown"), 200, "unknown"),
        ("running", (200, "unknown"), 200, "running"),
        ("queued", (200, "unknown"), 200, "running"),
        ("running", None, 503, None),
        ("finished", (200, "uploading"), 200, "uploading"),
        ("queued", (200, "failed"), 200, "running"),
        ("finished", (200, "failed"), 200, "failed"),
    ],
)
async def test_a_call_that_does_not_wait_asks_once(
    place: str, given: tuple[int, str] | None, status: int, state: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ScriptedClient(given)
    async with serve_client(client, place, monkeypatch) as opened, opened.get("/cloud-sync/jobs/j") as answer:
        assert (answer.status, (await answer.json()).get("state")) == (status, state)
    assert len(client.queries) == 1


async def test_calls_that_wait_for_the_capture_leave_comfyuis_threads_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ComfyUI's server reads files in the loop's default threads: pictures, its page."""
    waits, go = threading.Event(), threading.Event()

    def pass_on(*_: Any) -> tuple[str, bool]:
        waits.set()
        go.wait(60)
        return "finished", False

    monkeypatch.setattr(Capture, "pass_on", pass_on)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with serve_client(ScriptedClient(None), "finished", monkeypatch) as opened:
        call = asyncio.ensure_future(opened.get("/cloud-sync/jobs/j"))
        try:
            await until(waits.is_set)
            await asyncio.wait_for(asyncio.to_thread(lambda: None), 30)
        finally:
            go.set()
            (await call).close()


async def test_a_wait_ends_when_its_client_leaves_while_there_is_no_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = ScriptedClient(None)
    ended = asyncio.Event()

    @web.middleware
    async def notice_end(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            found: web.StreamResponse = await handler(request)
            return found
        finally:
            ended.set()

    async with serve_client(client, "running", monkeypatch, notice_end) as opened:
        call = asyncio.ensure_future(opened.get("/cloud-sync/jobs/j?wait=3600"))
        await until(lambda: len(client.paths) > 2)
        call.cancel()
        await asyncio.wait_for(ended.wait(), 30)


async def test_an_id_that_a_client_chose_stays_one_part_of_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ScriptedClient((200, "complete"))
    path = "/cloud-sync/jobs/order%207%2F%C3%A4%20100%25"
    async with (
        serve_client(client, "finished", monkeypatch) as opened,
        opened.get(URL(path, encoded=True)) as answer,
        opened.get(URL("/cloud-sync/jobs/%2E%2E", encoded=True)) as refused,
    ):
        assert (answer.status, refused.status) == (200, 400)
    assert client.paths == [path]


async def test_an_unknown_job_is_not_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ScriptedClient((200, "unknown"))
    async with (
        serve_client(client, "", monkeypatch) as opened,
        opened.get("/cloud-sync/jobs/j?wait=30") as answer,
    ):
        assert (await answer.json())["state"] == "unknown"
    assert len(client.queries) == 1
