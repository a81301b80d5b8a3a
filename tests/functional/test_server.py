"""The engine's server on a real aiohttp, with a stand-in for the engine."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from cloud_archive.api.job_arguments import MAX_JOBS
from cloud_archive.api.routes import JOBS_PATH, MAX_JOBS_BODY_BYTES
from cloud_archive.api.server import build_application
from cloud_archive.archive.engine import Engine
from cloud_archive.errors import CloudArchiveError, RequestRefused, StoreError
from cloud_archive.handshake import PROOF_HEADER, NotTheEngine, sign_call
from cloud_archive.store.failures import explain
from tests.functional.callers import TOKEN, Caller, listening

from .fake_engine import CHECKED, FakeEngine, FakeUploadAnswer
from .waiting import until


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
    private: Caller, public: Caller, fake_engine: FakeEngine
) -> None:
    assert (await private.ask("GET", "/"))[0] == 404
    for path in ("/engine/health", "/engine/handover", "/engine/shutdown", JOBS_PATH):
        assert (await public.ask("POST", path))[0] == 404
    assert fake_engine.calls == []


@pytest.mark.parametrize("name", ["start", "stop", "rescan", "retry"])
async def test_orders_answer_with_success_message_and_status(
    private: Caller, fake_engine: FakeEngine, name: str
) -> None:
    status, content = await private.ask("POST", f"/cloud-sync/{name}")
    assert (status, content["success"], content["status"]["state"]) == (200, True, "idle")
    assert content["message"]
    assert fake_engine.calls == [(name,)]


@pytest.mark.parametrize("name", ["start", "stop", "rescan", "retry", "flush"])
async def test_an_order_that_cannot_be_carried_out_says_why(
    private: Caller, fake_engine: FakeEngine, name: str
) -> None:
    fake_engine.error = CloudArchiveError("S3_BUCKET is not set.")
    status, content = await private.ask("POST", f"/cloud-sync/{name}")
    assert (status, content["success"], content["message"]) == (500, False, "S3_BUCKET is not set.")
    assert content["status"]["state"] == "idle"


async def test_jobs_reach_the_engine_also_where_their_graphs_are_large(
    private: Caller, fake_engine: FakeEngine
) -> None:
    jobs = [{"job_id": "a", "prompt": {"1": "x" * 1_000_000}}, {"job_id": "b", "prompt": {}}]
    assert await private.ask("POST", JOBS_PATH, json={"jobs": jobs}) == (200, {"success": True})
    assert fake_engine.calls == [("jobs", jobs)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"jobs": {}},
        {"jobs": [1]},
        {"jobs": [{"job_id": ""}]},
        {"jobs": [{"job_id": 7}]},
        {"jobs": [{"job_id": "a"}] * (MAX_JOBS + 1)},
    ],
    ids=["none", "no-list", "no-object", "empty-id", "number-id", "too-many"],
)
async def test_what_holds_no_jobs_is_refused(
    private: Caller, fake_engine: FakeEngine, body: dict[str, Any]
) -> None:
    status, content = await private.ask("POST", JOBS_PATH, json=body)
    assert (status, content["success"], fake_engine.calls) == (400, False, [])


async def test_more_than_16_mib_of_jobs_are_refused(private: Caller, fake_engine: FakeEngine) -> None:
    body = io.BytesIO(b" " * (MAX_JOBS_BODY_BYTES + 1))
    status, _ = await private.ask("POST", JOBS_PATH, data=body, headers={"Content-Type": "application/json"})
    assert (status, fake_engine.calls) == (413, [])


async def test_flush_does_not_claim_that_everything_is_archived_where_older_files_are_left_alone(
    private: Caller, fake_engine: FakeEngine
) -> None:
    fake_engine.content |= {"safe_to_stop": True, "baseline_files": 5}
    status, content = await private.ask("POST", "/cloud-sync/flush", json={"timeout_seconds": 60})
    assert status == 200
    assert content["message"] == ("Safe to stop: everything is in the bucket except 5 older files.")


async def test_flush_answers_200_or_504_with_what_remains(private: Caller, fake_engine: FakeEngine) -> None:
    fake_engine.content["safe_to_stop"] = True
    status, content = await private.ask("POST", "/cloud-sync/flush", json={"timeout_seconds": 600})
    assert (status, content["success"]) == (200, True)
    assert fake_engine.calls == [("flush", pytest.approx(600, abs=60))]
    fake_engine.safe = False
    fake_engine.content = {
        **fake_engine.content,
        "safe_to_stop": False,
        "pending_files": 3,
        "pending_bytes": 41,
        "errors": ["No such bucket."],
    }
    status, content = await private.ask("POST", "/cloud-sync/flush")
    assert (status, content["success"]) == (504, False)
    assert "3 pending (41 B)" in content["message"]
    assert "No such bucket." in content["message"]
    assert content["status"]["pending_files"] == 3


async def test_a_flush_goes_on_where_a_file_comes_before_its_status(
    private: Caller, fake_engine: FakeEngine
) -> None:
    def file_comes_and_is_archived() -> None:
        fake_engine.content["safe_to_stop"] = len(fake_engine.ended) > 1

    fake_engine.on_flush = file_comes_and_is_archived
    status, content = await private.ask("POST", "/cloud-sync/flush", json={"timeout_seconds": 600})
    assert (status, content["status"]["safe_to_stop"], fake_engine.ended) == (200, True, ["flush", "flush"])


async def test_a_flush_is_not_safe_where_its_status_is_not(private: Caller, fake_engine: FakeEngine) -> None:
    fake_engine.content["pending_files"] = 1
    status, content = await private.ask("POST", "/cloud-sync/flush", json={"timeout_seconds": 0})
    assert (status, content["message"]) == (504, "Not yet safe to stop: 1 pending (0 B) left.")


@pytest.mark.parametrize(("http_status", "success"), [(200, True), (202, True), (502, False)])
async def test_upload_answers_as_the_engine_says(
    private: Caller, fake_engine: FakeEngine, http_status: int, success: bool
) -> None:
    fake_engine.answer = FakeUploadAnswer(http_status, "So it is.", {"file_name": "a.png"})
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
    private: Caller,
    fake_engine: FakeEngine,
    error: Exception,
    expected: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake_engine.error = error
    with caplog.at_level(logging.ERROR, "cloud_archive"):
        status, content = await private.ask("POST", "/cloud-sync/upload", json={"file_path": "a"})
    assert (status, content["success"]) == (expected, False)
    assert ("Traceback" in caplog.text) is (expected == 500)


async def test_sixteen_waiting_uploads_do_not_hold_up_the_status(
    private: Caller, fake_engine: FakeEngine
) -> None:
    fake_engine.gate = threading.Event()
    uploads = [
        asyncio.ensure_future(private.ask("POST", "/cloud-sync/upload", json={"file_path": str(number)}))
        for number in range(20)
    ]
    try:
        await until(lambda: len(fake_engine.calls) == 16)
        status, _ = await asyncio.wait_for(private.ask("GET", "/cloud-sync/status"), 60)
        assert status == 200
        assert not any(upload.done() for upload in uploads)
    finally:
        fake_engine.gate.set()
    assert {status for status, _ in await asyncio.gather(*uploads)} == {200}


async def test_files_and_check_return_what_the_engine_returns(
    private: Caller, fake_engine: FakeEngine
) -> None:
    status, content = await private.ask("GET", "/cloud-sync/files?state=failed&q=x&limit=5&cursor=c")
    assert (status, content) == (200, {"files": [{"file_name": "a.png"}], "next_cursor": "next"})
    assert fake_engine.calls == [("files", "failed", "x", 5, "c")]
    assert await private.ask("POST", "/cloud-sync/check") == (200, CHECKED)
    assert await private.ask("GET", "/cloud-sync/check") == (200, CHECKED)
    assert fake_engine.calls[1:] == [("check",), ("last_check",)]


async def test_a_check_that_somebody_gave_up_goes_on_for_the_others(
    private: Caller, fake_engine: FakeEngine
) -> None:
    fake_engine.gate = threading.Event()
    first = asyncio.ensure_future(private.ask("POST", "/cloud-sync/check"))
    second = asyncio.ensure_future(private.ask("POST", "/cloud-sync/check"))
    await until(lambda: fake_engine.calls == [("check",)] * 2)
    first.cancel()
    await asyncio.wait({first})
    fake_engine.checked.set_result(CHECKED)
    assert await second == (200, CHECKED)


async def test_metrics_are_prometheus_text(private: Caller) -> None:
    async with private.open("GET", "/cloud-sync/metrics") as answer:
        assert await answer.text() == "cloud_archive_up 1\n"
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("counts", "command"), [(True, "pip install prometheus-client"), (False, "--serve HOST:PORT")]
)
async def test_without_metrics_the_answer_is_501_with_the_command_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: bool, command: str
) -> None:
    if counts:
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
    engine = Engine(tmp_path, state_base=tmp_path / "state", environ={}, counts_metrics=counts)
    async with listening(build_application(engine, token=TOKEN), TOKEN) as caller:
        status, content = await caller.ask("GET", "/cloud-sync/metrics")
    assert status == 501
    assert command in content["message"]


async def test_health_handover_and_shutdown_are_for_the_private_listener(fake_engine: FakeEngine) -> None:
    asked = threading.Event()
    application = build_application(fake_engine.facade, token=TOKEN, on_shutdown=asked.set)
    async with listening(application, TOKEN) as caller:
        status, content = await caller.ask("GET", "/engine/health")
        assert (status, content["ok"], content["will_replace_ledger"]) == (200, True, False)
        assert (await caller.ask("POST", "/engine/handover"))[1]["success"] is True
        assert (await caller.ask("POST", "/engine/shutdown"))[0] == 202
        assert asked.is_set()


async def test_unknown_paths_and_methods_are_json_too(private: Caller) -> None:
    assert (await private.ask("GET", "/nothing"))[0] == 404
    assert (await private.ask("PUT", "/cloud-sync/status"))[0] == 405


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


async def test_a_server_on_every_address_answers_to_addresses_but_not_to_names(
    fake_engine: FakeEngine,
) -> None:
    async with listening(
        build_application(fake_engine.facade, token=None, allowed_hosts=["0.0.0.0:80"])
    ) as caller:
        for host, expected in (("192.168.1.5:80", 200), ("[fe80::1]", 200), ("evil.example", 403)):
            assert (await caller.ask("GET", "/cloud-sync/status", headers={"Host": host}))[0] == expected


async def test_the_dashboard_is_served_with_a_strict_policy_and_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
