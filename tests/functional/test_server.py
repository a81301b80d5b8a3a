"""The engine's server on a real aiohttp, with a stand-in for the engine."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from cloud_archive.api.events import HEARTBEAT_SECONDS
from cloud_archive.api.job_arguments import MAX_JOBS
from cloud_archive.api.routes import JOBS_PATH, MAX_JOBS_BODY_BYTES
from cloud_archive.api.server import Listener, build_application, serve
from cloud_archive.errors import CloudArchiveError, RequestRefused, StoreError
from cloud_archive.handshake import PROOF_HEADER, NotTheEngine, sign_call
from cloud_archive.store.failures import explain

from .fake_engine import CHECKED, FakeEngine, FakeUploadAnswer
from .waiting import until

TOKEN = "t" * 43


class Caller:
    """A client of one listener; it signs its calls if it has a token."""

    def __init__(self, session: aiohttp.ClientSession, listener: Listener, token: str | None) -> None:
        self.session = session
        self.port = listener.port
        self.listener = listener
        self.token = token

    def open(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        signed = sign_call(self.token, method, path).headers if self.token else {}
        url = f"http://127.0.0.1:{self.port}{path}"
        return self.session.request(method, url, headers={**signed, **(headers or {})}, **more)

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with self.open(method, path, **more) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def listening(application: web.Application, token: str | None = None) -> AsyncIterator[Caller]:
    listener = await serve(application)
    try:
        timeout = aiohttp.ClientTimeout(total=120)  # a busy machine stalls for long
        async with aiohttp.ClientSession(timeout=timeout) as session:
            yield Caller(session, listener, token)
    finally:
        await listener.close()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def private(engine: FakeEngine) -> AsyncIterator[Caller]:
    application = build_application(engine.facade, token=TOKEN, heartbeat_seconds=0.05)
    async with listening(application, TOKEN) as caller:
        yield caller


@pytest.fixture
async def public(engine: FakeEngine) -> AsyncIterator[Caller]:
    async with listening(
        build_application(engine.facade, token=None, allowed_hosts=["nas.local:80"])
    ) as caller:
        yield caller


@pytest.mark.parametrize(
    "given",
    [
        "",
        TOKEN,
        f"Bearer {TOKEN}",
        "Cloud-Archive ä",
        "Cloud-Archive " + "0" * 32 + " " + "0" * 64,
        sign_call(TOKEN + "x", "GET", "/cloud-sync/status").headers["Authorization"],
        sign_call(TOKEN, "POST", "/cloud-sync/status").headers["Authorization"],
        sign_call(TOKEN, "GET", "/engine/other").headers["Authorization"],
    ],
)
@pytest.mark.parametrize("path", ["/cloud-sync/status", "/engine/health", "/cloud-sync/events", "/nothing"])
async def test_the_private_listener_answers_only_with_the_token(
    private: Caller, given: str, path: str
) -> None:
    async with private.open("GET", path, headers={"Authorization": given}) as answer:
        assert answer.status == 401
        assert (await answer.json())["success"] is False
        assert PROOF_HEADER not in answer.headers


@pytest.mark.parametrize("path", ["/cloud-sync/status", "/engine/health", "/cloud-sync/events", "/nothing"])
async def test_every_answer_of_the_private_listener_proves_the_engine(private: Caller, path: str) -> None:
    signed = sign_call(TOKEN, "GET", path)
    async with private.open("GET", path, headers=signed.headers) as answer:
        signed.check_answer(answer.headers.get(PROOF_HEADER))
        with pytest.raises(NotTheEngine):
            sign_call(TOKEN, "GET", path).check_answer(answer.headers.get(PROOF_HEADER))


async def test_the_private_listener_has_no_dashboard_and_the_public_one_no_engine_routes(
    private: Caller, public: Caller, engine: FakeEngine
) -> None:
    assert (await private.ask("GET", "/"))[0] == 404
    for path in ("/engine/health", "/engine/handover", "/engine/shutdown", JOBS_PATH):
        assert (await public.ask("POST", path))[0] == 404
    assert engine.calls == []


@pytest.mark.parametrize("name", ["start", "stop", "rescan", "retry"])
async def test_orders_answer_with_success_message_and_status(
    private: Caller, engine: FakeEngine, name: str
) -> None:
    status, content = await private.ask("POST", f"/cloud-sync/{name}")
    assert (status, content["success"], content["status"]["state"]) == (200, True, "idle")
    assert content["message"]
    assert engine.calls == [(name,)]


@pytest.mark.parametrize(
    ("name", "expected"), [("start", 500), ("stop", 500), ("rescan", 500), ("retry", 500)]
)
async def test_an_order_that_cannot_be_carried_out_says_why(
    private: Caller, engine: FakeEngine, name: str, expected: int
) -> None:
    engine.error = CloudArchiveError("S3_BUCKET is not set.")
    status, content = await private.ask("POST", f"/cloud-sync/{name}")
    assert (status, content["success"], content["message"]) == (expected, False, "S3_BUCKET is not set.")
    assert content["status"]["state"] == "idle"


async def test_jobs_reach_the_engine_also_where_their_graphs_are_large(
    private: Caller, engine: FakeEngine
) -> None:
    jobs = [{"job_id": "a", "prompt": {"1": "x" * 1_000_000}}, {"job_id": "b", "prompt": {}}]
    assert await private.ask("POST", JOBS_PATH, json={"jobs": jobs}) == (200, {"success": True})
    assert engine.calls == [("jobs", jobs)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"jobs": {}}, 400),
        ({"jobs": [1]}, 400),
        ({"jobs": [{"job_id": ""}]}, 400),
        ({"jobs": [{"job_id": 7}]}, 400),
        ({"jobs": [{"job_id": "a"}] * (MAX_JOBS + 1)}, 400),
    ],
    ids=["none", "no-list", "no-object", "empty-id", "number-id", "too-many"],
)
async def test_what_holds_no_jobs_is_refused(
    private: Caller, engine: FakeEngine, body: dict[str, Any], status: int
) -> None:
    answered, content = await private.ask("POST", JOBS_PATH, json=body)
    assert (answered, content["success"], engine.calls) == (status, False, [])


async def test_more_than_16_mib_of_jobs_are_refused(private: Caller, engine: FakeEngine) -> None:
    body = io.BytesIO(b" " * (MAX_JOBS_BODY_BYTES + 1))
    status, _ = await private.ask("POST", JOBS_PATH, data=body, headers={"Content-Type": "application/json"})
    assert (status, engine.calls) == (413, [])


async def test_flush_answers_200_or_504_with_what_remains(private: Caller, engine: FakeEngine) -> None:
    status, content = await private.ask("POST", "/cloud-sync/flush", json={"timeout_seconds": 1.5})
    assert (status, content["success"]) == (200, True)
    assert engine.calls == [("flush", pytest.approx(1.5, abs=1))]
    engine.safe = False
    engine.content = {
        **engine.content,
        "pending_files": 3,
        "pending_bytes": 41,
        "errors": ["No such bucket."],
    }
    status, content = await private.ask("POST", "/cloud-sync/flush")
    assert (status, content["success"]) == (504, False)
    assert "3 pending (41 B)" in content["message"]
    assert "No such bucket." in content["message"]
    assert content["status"]["pending_files"] == 3


@pytest.mark.parametrize(("http_status", "success"), [(200, True), (202, True), (502, False)])
async def test_upload_answers_as_the_engine_says(
    private: Caller, engine: FakeEngine, http_status: int, success: bool
) -> None:
    engine.answer = FakeUploadAnswer(http_status, "So it is.", {"file_name": "a.png"})
    status, content = await private.ask("POST", "/cloud-sync/upload", json={"file_path": "a.png"})
    assert status == http_status
    assert content == {"success": success, "message": "So it is.", "file": {"file_name": "a.png"}}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RequestRefused(403, "It lies outside."), 403),
        (StoreError("PutObject", "k", explain("NoSuchBucket")), 502),
        (KeyError("a bug"), 500),
    ],
)
async def test_upload_answers_an_error_with_its_status(
    private: Caller, engine: FakeEngine, error: Exception, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    engine.error = error
    with caplog.at_level(logging.ERROR, "cloud_archive"):
        status, content = await private.ask("POST", "/cloud-sync/upload", json={"file_path": "a"})
    assert (status, content["success"]) == (expected, False)
    assert ("Traceback" in caplog.text) is (expected == 500)


async def test_sixteen_waiting_uploads_do_not_hold_up_the_status(private: Caller, engine: FakeEngine) -> None:
    engine.gate = threading.Event()
    uploads = [
        asyncio.ensure_future(private.ask("POST", "/cloud-sync/upload", json={"file_path": str(number)}))
        for number in range(20)
    ]
    try:
        await until(lambda: len(engine.calls) == 16)
        status, _ = await asyncio.wait_for(private.ask("GET", "/cloud-sync/status"), 60)
        assert status == 200
        assert not any(upload.done() for upload in uploads)
    finally:
        engine.gate.set()
    assert {status for status, _ in await asyncio.gather(*uploads)} == {200}


async def test_files_and_check_return_what_the_engine_returns(private: Caller, engine: FakeEngine) -> None:
    status, content = await private.ask("GET", "/cloud-sync/files?state=failed&q=x&limit=5&cursor=c")
    assert (status, content) == (200, {"files": [{"file_name": "a.png"}], "next_cursor": "next"})
    assert engine.calls == [("files", "failed", "x", 5, "c")]
    assert await private.ask("POST", "/cloud-sync/check") == (200, CHECKED)
    assert await private.ask("GET", "/cloud-sync/check") == (200, CHECKED)
    assert engine.calls[1:] == [("check",), ("last_check",)]


async def test_a_check_that_somebody_gave_up_goes_on_for_the_others(
    private: Caller, engine: FakeEngine
) -> None:
    engine.gate = threading.Event()
    first = asyncio.ensure_future(private.ask("POST", "/cloud-sync/check"))
    second = asyncio.ensure_future(private.ask("POST", "/cloud-sync/check"))
    await until(lambda: engine.calls == [("check",)] * 2)
    first.cancel()
    await asyncio.wait({first})
    engine.checked.set_result(CHECKED)
    assert await second == (200, CHECKED)


async def test_metrics_are_prometheus_text_or_501_with_the_command(
    private: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with private.open("GET", "/cloud-sync/metrics") as answer:
        assert await answer.text() == "cloud_archive_up 1\n"
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    monkeypatch.setattr("cloud_archive.api.server.importlib.util.find_spec", lambda name: None)
    status, content = await private.ask("GET", "/cloud-sync/metrics")
    assert status == 501
    assert "pip install prometheus-client" in content["message"]


async def test_health_handover_and_shutdown_are_for_the_private_listener(engine: FakeEngine) -> None:
    asked = threading.Event()
    application = build_application(engine.facade, token=TOKEN, on_shutdown=asked.set)
    async with listening(application, TOKEN) as caller:
        status, content = await caller.ask("GET", "/engine/health")
        assert (status, content["ok"]) == (200, True)
        assert (await caller.ask("POST", "/engine/handover"))[1]["success"] is True
        assert (await caller.ask("POST", "/engine/shutdown"))[0] == 202
        assert asked.is_set()


async def test_unknown_paths_and_methods_are_json_too(private: Caller) -> None:
    assert (await private.ask("GET", "/nothing"))[0] == 404
    assert (await private.ask("PUT", "/cloud-sync/status"))[0] == 405


# --- the event stream


async def read_until(answer: aiohttp.ClientResponse, start: bytes) -> bytes:
    while True:
        line = await asyncio.wait_for(answer.content.readline(), 60)
        assert line, "the stream ended"
        if line.startswith(start):
            return line[len(start) :]


async def read_event(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await read_until(answer, b"data: "))
    return found


async def test_the_stream_begins_with_the_status_and_goes_on_with_each_change(
    private: Caller, engine: FakeEngine
) -> None:
    async with private.open("GET", "/cloud-sync/events") as answer:
        assert answer.content_type == "text/event-stream"
        assert (await read_event(answer))["state"] == "idle"
        engine.push(state="uploading")
        assert (await read_event(answer))["state"] == "uploading"


async def test_the_heartbeat_of_an_idle_stream_is_the_status_of_that_moment(
    private: Caller, engine: FakeEngine
) -> None:
    async with private.open("GET", "/cloud-sync/events") as answer:
        await read_event(answer)
        engine.content = {**engine.content, "uploaded_files": 7}  # the change is not pushed
        assert (await read_event(answer))["uploaded_files"] == 7


async def test_the_heartbeat_of_an_archive_at_rest_is_sent_without_making_a_status(
    private: Caller, engine: FakeEngine
) -> None:
    engine.content = {**engine.content, "safe_to_stop": True}
    async with private.open("GET", "/cloud-sync/events") as answer:
        first = await read_event(answer)
        assert [await read_event(answer) for _ in range(5)] == [first] * 5
        assert engine.heartbeats == 0
        engine.push(skipped_files=3)
        while (await read_event(answer))["skipped_files"] != 3:
            pass
        assert (await read_event(answer))["skipped_files"] == 3, "the newest one is repeated"
        assert engine.heartbeats == 0


async def test_a_heartbeat_is_made_anew_once_something_has_happened(
    private: Caller, engine: FakeEngine
) -> None:
    engine.content = {**engine.content, "safe_to_stop": True}
    async with private.open("GET", "/cloud-sync/events") as answer:
        await read_event(answer)
        engine.unchanged = False
        engine.content = {**engine.content, "safe_to_stop": False}
        while (await read_event(answer))["safe_to_stop"]:
            pass
        assert engine.heartbeats > 0


async def test_a_heartbeat_of_an_archive_at_rest_is_made_anew_from_time_to_time(
    private: Caller, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.api.events.REBUILD_SECONDS", 0.0)
    engine.content = {**engine.content, "safe_to_stop": True}
    async with private.open("GET", "/cloud-sync/events") as answer:
        await read_event(answer)
        engine.content = {**engine.content, "uploaded_files": 7}  # the change is not pushed
        while (await read_event(answer))["uploaded_files"] != 7:
            pass


async def test_one_subscription_serves_all_streams(private: Caller, engine: FakeEngine) -> None:
    async with (
        private.open("GET", "/cloud-sync/events") as first,
        private.open("GET", "/cloud-sync/events") as second,
    ):
        await read_event(first), await read_event(second)
        assert len(engine.callbacks) == 1
        engine.push(uploaded_files=7)
        for answer in (first, second):
            while (await read_event(answer))["uploaded_files"] != 7:
                pass


async def test_flush_does_not_claim_that_everything_is_archived_where_older_files_are_left_alone(
    private: Caller, engine: FakeEngine
) -> None:
    engine.content = {**engine.content, "baseline_files": 5}
    status, content = await private.ask("POST", "/cloud-sync/flush", json={"timeout_seconds": 1})
    assert status == 200
    assert content["message"] == (
        "Safe to stop: everything since the first start is in the bucket; 5 older files are not."
    )


def test_a_heartbeat_comes_at_least_every_five_seconds() -> None:
    assert HEARTBEAT_SECONDS <= 5


async def test_a_stream_that_is_closed_is_unsubscribed(private: Caller, engine: FakeEngine) -> None:
    async with private.open("GET", "/cloud-sync/events") as answer:
        await read_event(answer)
        assert len(engine.callbacks) == 1
    await until(lambda: not engine.callbacks)


async def test_a_slow_client_gets_the_newest_status_and_is_dropped_in_the_end(
    private: Caller, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.api.events.SLOW_CLIENT_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", private.port, limit=1)
    try:
        signed = sign_call(TOKEN, "GET", "/cloud-sync/events").headers["Authorization"]
        head = f"GET /cloud-sync/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {signed}\r\n\r\n"
        writer.write(head.encode())
        await reader.read(1)
        padding = "x" * 1_000_000

        def dropped() -> bool:
            engine.push(watching=padding)
            return not engine.callbacks

        await until(dropped)
    finally:
        writer.close()


async def test_the_server_stops_while_streams_are_open(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.api.server._SHUTDOWN_SECONDS", 3600.0)
    async with listening(build_application(engine.facade, token=TOKEN), TOKEN) as caller:
        async with caller.open("GET", "/cloud-sync/events") as answer:
            await read_event(answer)
            await asyncio.wait_for(caller.listener.close(), 60)
            assert await answer.content.read() in (b"", b"\n")
        assert engine.callbacks == []


# --- the public listener


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:9", "127.8.8.8", "[::1]:9", "nas.local"]
)
async def test_the_public_listener_answers_to_its_own_names(public: Caller, host: str) -> None:
    assert (await public.ask("GET", "/cloud-sync/status", headers={"Host": host}))[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.168.1.5", "", "[", "localhost.evil", "2130706433"]
)
async def test_the_public_listener_refuses_other_names(public: Caller, host: str) -> None:
    for path in ("/", "/cloud-sync/status", "/cloud-sync/events"):
        status, content = await public.ask("GET", path, headers={"Host": host})
        assert (status, content["success"]) == (403, False)


async def test_a_server_on_every_address_answers_to_addresses_but_not_to_names(engine: FakeEngine) -> None:
    async with listening(
        build_application(engine.facade, token=None, allowed_hosts=["0.0.0.0:80"])
    ) as caller:
        for host, expected in (("192.168.1.5:80", 200), ("[fe80::1]", 200), ("evil.example", 403)):
            assert (await caller.ask("GET", "/cloud-sync/status", headers={"Host": host}))[0] == expected


async def test_the_dashboard_is_served_with_a_strict_policy_and_nothing_else_is(
    public: Caller, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "web" / "panel").mkdir(parents=True)
    (tmp_path / "secret.js").write_text("no")
    (tmp_path / "web" / "index.html").write_text("<title>page</title>")
    (tmp_path / "web" / "panel" / "a.b.js").write_text("export {}")
    (tmp_path / "web" / ".hidden.js").write_text("no")
    (tmp_path / "web" / "notes.txt").write_text("no")
    monkeypatch.setattr("cloud_archive.api.dashboard.__file__", str(tmp_path / "api" / "dashboard.py"))
    async with listening(build_application(FakeEngine().facade, token=None)) as caller:
        base = f"http://127.0.0.1:{caller.port}"
        for path, kind in (("/", "text/html"), ("/panel/a.b.js", "text/javascript")):
            async with caller.session.get(base + path) as answer:
                assert (answer.status, answer.content_type) == (200, kind)
                policy = answer.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'")
                assert "unsafe" not in policy
                assert answer.headers["Cache-Control"] == "no-store"
        for path in (
            "/.hidden.js",
            "/notes.txt",
            "/../secret.js",
            "/%2e%2e/secret.js",
            "/panel/..%2f..%2fsecret.js",
            "/nothing.js",
        ):
            async with caller.session.get(URL(base + path, encoded=True)) as answer:
                assert answer.status == 404, path
