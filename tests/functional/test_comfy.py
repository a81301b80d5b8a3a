"""The plugin in a small ComfyUI: its start, its routes and its log."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from cloud_archive.api.routes import ROUTES, bare_status
from cloud_archive.comfyui import plugin as comfy
from cloud_archive.comfyui.engine_client import EngineClient
from cloud_archive.comfyui.job_capture import JobCapture
from cloud_archive.comfyui.plugin import Plugin, state_directory
from tests.functional.small_comfyui import SmallPromptServer

from .prompt_queue import outputs
from .waiting import engines, until

SCRIPT = Path(__file__).parent / "fake_engine_process.py"

pytestmark = pytest.mark.usefixtures("at_exit")


@pytest.fixture
async def prompt_server() -> SmallPromptServer:
    return SmallPromptServer()


@pytest.fixture
async def running(
    prompt_server: SmallPromptServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """ComfyUI with the plugin; the engine is the tests' stand-in, in a process of its own."""
    folder_paths = types.ModuleType("folder_paths")
    folder_paths.get_output_directory = lambda: str(tmp_path / "late")  # type: ignore[attr-defined]
    folder_paths.get_user_directory = lambda: str(tmp_path / "user")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "folder_paths", folder_paths)
    command = [sys.executable, str(SCRIPT), "normal", str(tmp_path / "journal")]
    monkeypatch.setattr("cloud_archive.comfyui.engine_client.engine_command", lambda: command)
    Plugin(prompt_server).install()
    prompt_server.add_routes()
    async with TestClient(TestServer(prompt_server.app)) as client:
        yield client
    await until(lambda: not engines())


async def test_routes_and_their_api_twins_reach_the_engine(
    running: TestClient[web.Request, web.Application], prompt_server: SmallPromptServer, tmp_path: Path
) -> None:
    await until(lambda: prompt_server.sent and prompt_server.sent[-1][1]["state"] == "idle")
    assert prompt_server.sent[-1][0] == "cloud-sync.status"
    orders = json.loads((tmp_path / "journal").read_text().splitlines()[0])["orders"]
    assert orders["root"] == str(tmp_path / "late")
    assert orders["state_base"] == str(tmp_path / "user" / "__cloud_archive")
    for prefix in ("", "/api"):
        async with running.get(f"{prefix}/cloud-sync/status") as answer:
            assert (answer.status, (await answer.json())["state"]) == (200, "idle")
        body = {"file_path": "a.png"}
        async with running.post(f"{prefix}/cloud-sync/upload", json=body) as answer:
            assert (answer.status, (await answer.json())["message"]) == (200, "Archived.")
        async with running.post(f"{prefix}/cloud-sync/stop") as answer:
            assert (answer.status, (await answer.json())["success"]) == (200, True)
        async with running.get(f"{prefix}/cloud-sync/files?state=failed&q=ä") as answer:
            assert (answer.status, (await answer.json())["next_cursor"]) == (200, "next")
        async with running.get(f"{prefix}/cloud-sync/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")


async def test_a_new_engine_watches_or_not_as_the_user_last_said(
    running: TestClient[web.Request, web.Application], prompt_server: SmallPromptServer, tmp_path: Path
) -> None:
    session = ""

    def another_is_idle() -> bool:
        last = prompt_server.sent[-1][1] if prompt_server.sent else bare_status("starting")
        return bool(last["state"] == "idle" and last["session_id"] != session)

    for call in ("stop", "start"):
        await until(another_is_idle)
        session = (await (await running.post(f"/cloud-sync/{call}")).json())["status"]["session_id"]
        psutil.Process(int(session)).kill()
    await until(another_is_idle)
    notes = map(json.loads, (tmp_path / "journal").read_text().splitlines())
    assert [note["orders"]["autostart"] for note in notes if "orders" in note] == [None, False, True]


async def until_event(stream: aiohttp.ClientResponse, state: str) -> dict[str, Any]:
    """Read server-sent events until one holds this state, and return it."""
    async for line in stream.content:
        if line.startswith(b"data:"):
            status: dict[str, Any] = json.loads(line[5:])
            if status["state"] == state:
                return status
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_the_event_stream_shows_the_engines_state_and_its_end(
    running: TestClient[web.Request, web.Application], prompt_server: SmallPromptServer, prefix: str
) -> None:
    async with running.get(f"{prefix}/cloud-sync/events") as stream:
        assert (stream.status, stream.content_type) == (200, "text/event-stream")
        idle = await asyncio.wait_for(until_event(stream, "idle"), 60)
        psutil.Process(int(idle["session_id"])).kill()
        down = await asyncio.wait_for(until_event(stream, "unavailable"), 60)
        assert any(down["errors"] == status["errors"] for _, status in prompt_server.sent)
        await asyncio.wait_for(until_event(stream, "idle"), 60)


async def test_the_event_stream_gives_the_cause_while_no_engine_runs_and_ends_with_comfyui(
    prompt_server: SmallPromptServer, tmp_path: Path
) -> None:
    client = EngineClient(tmp_path, None, on_status=lambda _: None)  # never started
    plugin = Plugin(prompt_server, client=client)
    plugin.install()
    prompt_server.app.on_startup.clear()
    prompt_server.add_routes()
    async with TestClient(TestServer(prompt_server.app)) as opened:
        async with opened.get("/cloud-sync/events") as stream:
            status = await asyncio.wait_for(until_event(stream, "unavailable"), 60)
            assert status["errors"] == ["The engine has not been started."]
            plugin._on_status(bare_status("standby"))
            await asyncio.wait_for(until_event(stream, "standby"), 60)
            await plugin._on_shutdown(prompt_server.app)
            assert b"data:" not in await asyncio.wait_for(stream.content.read(), 60)
        async with opened.get("/cloud-sync/events", headers={"Origin": "https://evil.example"}) as refused:
            assert refused.status == 403


async def test_finished_jobs_reach_the_engine_and_the_loop_only_wakes_their_thread(
    running: TestClient[web.Request, web.Application], prompt_server: SmallPromptServer, tmp_path: Path
) -> None:
    calls: set[str] = set()

    def record(frame: types.FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.endswith("job_capture.py"):
            calls.add(frame.f_code.co_name)

    def jobs() -> list[str]:
        notes = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
        return [job["job_id"] for note in notes for job in note.get("jobs", ())]

    await until(lambda: prompt_server.sent and prompt_server.sent[-1][1]["state"] == "idle")  # has a journal
    sys.setprofile(record)  # this thread's calls only
    try:
        prompt_server.prompt_queue.finish("job-1", outputs("a.png"))
        await until(lambda: jobs() == ["job-1"])
        prompt_server.prompt_queue.finish("job-2", outputs("b.png"))
        # Both may come with a wake from before `record`, so wait for one that it saw.
        await until(lambda: jobs() == ["job-1", "job-2"] and calls)
    finally:
        sys.setprofile(None)
    assert calls == {"wake"}
    assert threading.get_ident() not in prompt_server.prompt_queue.readers


async def test_no_job_is_kept_for_an_engine_that_is_not_configured(
    prompt_server: SmallPromptServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Started(NoClient):
        def start(self) -> None:
            pass

    woken: list[bool] = []
    monkeypatch.setattr(JobCapture, "wake", lambda capture, *, at_once: woken.append(at_once))
    plugin = Plugin(prompt_server, client=Started())
    plugin.start()
    plugin._on_status(bare_status("not_configured"))
    assert woken == []
    for state in ("starting", "standby", "idle", "uploading"):
        plugin._on_status(bare_status(state))
    assert woken == [False, False, True, False], "asked again at once as soon as it archives"


async def test_a_job_that_finished_just_before_the_end_still_reaches_the_engine(
    running: TestClient[web.Request, web.Application],
    prompt_server: SmallPromptServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cloud_archive.comfyui.plugin.LAST_JOBS_SECONDS", 60.0)
    await until(lambda: prompt_server.prompt_queue.readers)
    state = ""
    while state != "idle":  # until the engine is up
        async with running.get("/cloud-sync/status") as answer:
            state = (await answer.json())["state"]
    prompt_server.prompt_queue.finish("last", outputs("a.png"))
    await running.close()
    assert '"last"' in (tmp_path / "journal").read_text()


async def test_bad_requests_are_refused_before_the_engine_is_asked(prompt_server: SmallPromptServer) -> None:
    Plugin(prompt_server, client=NoClient()).install()
    prompt_server.app.on_startup.clear()
    prompt_server.add_routes()
    async with TestClient(TestServer(prompt_server.app)) as client:
        for path in ("/cloud-sync/upload", "/api/cloud-sync/upload"):
            async with client.post(path, json={}) as answer:
                assert answer.status == 400
            async with client.post(path, data={"file_path": "a"}) as answer:
                assert answer.status == 415
            async with client.post(path, json={"file_path": "a"}, headers={"Origin": "null"}) as answer:
                assert answer.status == 403


class NoClient(EngineClient):
    """A client that must not be called."""

    def __init__(self) -> None:
        pass

    async def call(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the engine was asked")

    async def stop(self) -> None:
        pass


class HangingClient(NoClient):
    """A client whose engine never answers."""

    def __init__(self) -> None:
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()

    async def call(self, *_: Any, **__: Any) -> Any:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


async def test_a_call_whose_client_is_gone_is_cancelled(
    prompt_server: SmallPromptServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.comfyui.plugin._CLIENT_CHECK_SECONDS", 0.05)
    engine = HangingClient()
    Plugin(prompt_server, client=engine).install()
    prompt_server.app.on_startup.clear()
    prompt_server.add_routes()
    async with TestClient(TestServer(prompt_server.app)) as client:
        call = asyncio.ensure_future(
            client.post("/cloud-sync/flush", json={"timeout_seconds": 3600}).__aenter__()
        )
        await asyncio.wait_for(engine.begun.wait(), 60)
        assert not engine.cancelled.is_set()
        call.cancel()
        await asyncio.wait_for(engine.cancelled.wait(), 60)


async def test_without_an_engine_every_call_is_answered_with_the_cause(
    prompt_server: SmallPromptServer, tmp_path: Path
) -> None:
    client = EngineClient(tmp_path, None, on_status=lambda _: None)  # never started
    Plugin(prompt_server, client=client).install()
    prompt_server.app.on_startup.clear()
    prompt_server.add_routes()
    bodies = {
        "upload": {"file_path": "a"},
        "edit_asset": {"rating": 1},
        "share": {"ids": ["0" * 32]},
    }
    async with TestClient(TestServer(prompt_server.app)) as opened:
        for route in ROUTES:
            if route.name == "events":
                continue
            path = route.path.replace("{id}", "0" * 32).replace("{prompt_id}", "p")
            path += f"?ids={'0' * 32}" if route.name == "zip" else ""
            async with opened.request(route.method, path, json=bodies.get(route.name)) as answer:
                content = await answer.json()
            if route.name == "status":
                assert (answer.status, content["state"]) == (200, "unavailable")
                continue
            assert answer.status == (500 if route.name in ("start", "stop") else 503)
            assert content["success"] is False
            assert content["message"] == "The engine has not been started."
            assert content["status"]["errors"] == [content["message"]]


async def test_a_second_copy_of_the_plugin_stays_off(
    prompt_server: SmallPromptServer, caplog: pytest.LogCaptureFixture
) -> None:
    Plugin(prompt_server).install()
    Plugin(prompt_server).install()
    prompt_server.add_routes()  # with the routes of both, aiohttp would raise here
    assert "installed twice" in caplog.text
    ours = [hook for hook in prompt_server.app.on_startup if isinstance(getattr(hook, "__self__", 0), Plugin)]
    assert len(ours) == 1


async def test_trouble_at_start_is_one_sentence_and_comfyui_starts(
    prompt_server: SmallPromptServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = types.ModuleType("folder_paths")  # knows no directory
    monkeypatch.setitem(sys.modules, "folder_paths", broken)
    Plugin(prompt_server).install()
    prompt_server.add_routes()
    async with (
        TestClient(TestServer(prompt_server.app)) as client,
        client.get("/cloud-sync/status") as answer,
    ):
        status = await answer.json()
    assert (status["state"], len(caplog.records)) == ("unavailable", 1)
    assert status["errors"] == [caplog.records[0].getMessage()]


def test_install_never_raises(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = types.ModuleType("server")
    broken.PromptServer = object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "server", broken)
    comfy.install()
    assert len(caplog.records) == 1
    assert "Cloud Archive is off" in caplog.text


async def test_an_application_that_takes_no_start_hook_starts_the_engine_from_the_loop(
    prompt_server: SmallPromptServer,
) -> None:
    started = asyncio.Event()

    class Started(NoClient):
        def start(self) -> None:
            started.set()

    del prompt_server.app
    Plugin(prompt_server, client=Started()).install()
    await asyncio.wait_for(started.wait(), 60)


def test_the_state_lives_in_the_system_user_directory(tmp_path: Path) -> None:
    newer = types.SimpleNamespace(get_system_user_directory=lambda name: str(tmp_path / f"__{name}"))
    older = types.SimpleNamespace(get_user_directory=lambda: str(tmp_path))
    assert state_directory(newer) == state_directory(older) == tmp_path / "__cloud_archive"
