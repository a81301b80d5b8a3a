"""What the checks before every handler let through, and what they refuse."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from cloud_archive.api.routes import MAX_BODY_BYTES, ROUTES, Arguments, bare_status, protect
from cloud_archive.archive.status import State, Status
from cloud_archive.errors import CloudArchiveError, EngineUnavailable, RequestRefused, StoreError
from cloud_archive.store.failures import explain

Client = TestClient[web.Request, web.Application]

posix = pytest.mark.skipif(os.name == "nt", reason="there it is a name")


class Recorder:
    """A handler that notes its arguments, or raises."""

    def __init__(self) -> None:
        self.heard: list[Arguments] = []
        self.error: Exception | None = None

    async def handle(self, _: web.Request, arguments: Arguments) -> web.StreamResponse:
        self.heard.append(arguments)
        if self.error is not None:
            raise self.error
        return web.json_response({"success": True})


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def client(recorder: Recorder) -> AsyncIterator[Client]:
    application = web.Application(client_max_size=100 * 1024 * 1024)  # as ComfyUI's
    for route in ROUTES:
        application.router.add_route(route.method, route.path, protect(route, recorder.handle))
    async with TestClient(TestServer(application)) as opened:
        yield opened


def own(client: Client) -> str:
    return f"{client.host}:{client.port}"


async def upload(client: Client, body: Any, **headers: str) -> int:
    data = body if isinstance(body, (bytes, str)) else json.dumps(body)
    sent = {"Content-Type": "application/json", **headers}
    async with client.post("/cloud-sync/upload", data=data, headers=sent) as answer:
        content = await answer.json()
        assert answer.status == 200 or (content["success"] is False and content["message"])
        return answer.status


def test_the_table_holds_every_call_of_the_contract() -> None:
    assert {(route.method, route.path) for route in ROUTES} == {
        ("GET", "/cloud-sync/status"),
        ("POST", "/cloud-sync/start"),
        ("POST", "/cloud-sync/stop"),
        ("POST", "/cloud-sync/upload"),
        ("POST", "/cloud-sync/rescan"),
        ("POST", "/cloud-sync/retry"),
        ("POST", "/cloud-sync/backfill"),
        ("POST", "/cloud-sync/flush"),
        ("GET", "/cloud-sync/files"),
        ("POST", "/cloud-sync/check"),
        ("GET", "/cloud-sync/check"),
        ("GET", "/cloud-sync/metrics"),
        ("GET", "/cloud-sync/events"),
        ("GET", "/cloud-sync/report"),
        ("GET", "/cloud-sync/assets"),
        ("POST", "/cloud-sync/assets"),
        ("POST", "/cloud-sync/facets"),
        ("GET", "/cloud-sync/assets/{id}"),
        ("PATCH", "/cloud-sync/assets/{id}"),
        ("GET", "/cloud-sync/assets/{id}/content"),
        ("GET", "/cloud-sync/assets/{id}/thumbnail"),
        ("GET", "/cloud-sync/assets/{id}/workflow"),
        ("GET", "/cloud-sync/assets/{id}/prompt"),
        ("GET", "/cloud-sync/facets"),
        ("POST", "/cloud-sync/assets/{id}/bring-back"),
        ("GET", "/cloud-sync/assets.zip"),
        ("POST", "/cloud-sync/share"),
        ("GET", "/cloud-sync/jobs/{prompt_id}"),
    }
    asks_the_store_or_waits = {
        "/cloud-sync/events",
        "/cloud-sync/assets",
        "/cloud-sync/facets",
        "/cloud-sync/assets/{id}/content",
        "/cloud-sync/assets/{id}/thumbnail",
        "/cloud-sync/assets/{id}/workflow",
        "/cloud-sync/assets/{id}/prompt",
        "/cloud-sync/assets.zip",
        "/cloud-sync/jobs/{prompt_id}",
    }
    for route in ROUTES:
        assert route.same_site_only == (route.method != "GET" or route.path in asks_the_store_or_waits), (
            route.path
        )


def test_the_bare_status_has_every_field_of_a_real_one() -> None:
    real = Status(running=False, session_id="", state=State.IDLE).to_json()
    assert set(bare_status("unavailable")) == set(real)
    assert bare_status("unavailable", "why")["errors"] == ["why"]


@pytest.mark.parametrize("route", [route for route in ROUTES if route.same_site_only], ids=lambda r: r.name)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Origin", "null"),
        ("Origin", "https://evil.example"),
        ("Origin", "http://127.0.0.1:1"),
        ("Origin", "file://"),
        ("Origin", "http://127.0.0.1.evil.example"),
        ("Origin", "http://[bad"),
        ("Origin", ""),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "Cross-Site"),
        ("Sec-Fetch-Site", "same-site"),
    ],
)
async def test_a_request_from_another_site_is_refused(
    client: Client, recorder: Recorder, route: Any, name: str, value: str
) -> None:
    path = route.path.replace("{id}", "0" * 32).replace("{prompt_id}", "p")
    async with client.request(route.method, path, headers={name: value}) as answer:
        assert answer.status == 403
        assert (await answer.json())["success"] is False
    assert recorder.heard == []


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://{own}", "{own}"),
        ("https://comfy.example", "comfy.example"),
        ("https://comfy.example", "comfy.example:443"),
        ("http://COMFY.example:80", "comfy.example"),
        ("http://[::1]:8188", "[::1]:8188"),
    ],
)
async def test_a_page_of_our_own_may_call(client: Client, origin: str, host: str) -> None:
    headers = {"Origin": origin.format(own=own(client)), "Host": host.format(own=own(client))}
    headers["Sec-Fetch-Site"] = "same-origin"
    async with client.post("/cloud-sync/start", headers=headers) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("host", ["comfy.example:8443", "[", "user@comfy.example", "example"])
async def test_an_origin_with_another_host_or_port_is_refused(client: Client, host: str) -> None:
    headers = {"Origin": "https://comfy.example", "Host": host}
    async with client.post("/cloud-sync/start", headers=headers) as answer:
        assert answer.status == 403


@pytest.mark.parametrize("path", ["start", "stop", "rescan", "retry", "flush", "check"])
async def test_a_plain_post_without_a_body_works(client: Client, path: str) -> None:
    async with client.post(f"/cloud-sync/{path}", skip_auto_headers=["Content-Type"]) as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/plain; application/json",
        "application/octet-stream",
        "text/json",
    ],
)
@pytest.mark.parametrize("body", [b"", b'{"file_path": "a.png"}'])
async def test_a_form_or_text_body_is_no_json(
    client: Client, recorder: Recorder, kind: str, body: bytes
) -> None:
    if not body and kind == "application/octet-stream":
        return  # what aiohttp's client sends with no body at all
    assert await upload(client, body, **{"Content-Type": kind}) == 415
    async with client.post("/cloud-sync/start", data=body, headers={"Content-Type": kind}) as answer:
        assert answer.status == 415
    assert recorder.heard == []


async def test_no_body_with_the_type_that_some_clients_add_works(client: Client) -> None:
    for kind in ("application/octet-stream", "application/json"):
        async with client.post("/cloud-sync/start", headers={"Content-Type": kind}) as answer:
            assert answer.status == 200


async def test_a_body_without_a_type_is_refused(client: Client) -> None:
    async with client.post(
        "/cloud-sync/upload", data=b'{"file_path": "a"}', skip_auto_headers=["Content-Type"]
    ) as answer:
        assert answer.status == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 60_000,
        b"9" * 5000,
        [],
        "text",
        None,
        {},
        {"file_path": None},
        {"file_path": 1},
        {"file_path": ["a"]},
        {"file_path": ""},
        {"file_path": "  "},
        {"file_path": "a\0b"},
        pytest.param(b'{"file_path": "\\ud800"}', marks=posix),
    ],
)
async def test_a_bad_upload_body_is_400(client: Client, recorder: Recorder, body: Any) -> None:
    assert await upload(client, json.dumps(body) if not isinstance(body, bytes) else body) == 400
    assert recorder.heard == []


async def test_a_file_name_that_is_no_utf8_comes_through(client: Client, recorder: Recorder) -> None:
    assert await upload(client, b'{"file_path": "a\\udcff \xf0\x9f\x98\x80.png"}') == 200
    assert recorder.heard == [{"file_path": "a\udcff 😀.png"}]


async def test_a_body_may_have_64_kib_and_no_more(client: Client) -> None:
    frame = len(json.dumps({"file_path": ""}))
    assert await upload(client, {"file_path": "a" * (MAX_BODY_BYTES - frame)}) == 200
    assert await upload(client, {"file_path": "a" * (MAX_BODY_BYTES - frame + 1)}) == 413


@pytest.mark.parametrize(
    "seconds", [b"-1", b"3601", b"true", b"null", b"NaN", b"Infinity", b'"60"', b"[]", b"1e999"]
)
async def test_a_bad_timeout_is_400(client: Client, recorder: Recorder, seconds: bytes) -> None:
    body = b'{"timeout_seconds": ' + seconds + b"}"
    headers = {"Content-Type": "application/json"}
    async with client.post("/cloud-sync/flush", data=body, headers=headers) as answer:
        assert answer.status == 400
        assert "timeout_seconds" in (await answer.json())["message"]
    assert recorder.heard == []


@pytest.mark.parametrize(
    ("body", "seconds"), [({}, 60.0), ({"timeout_seconds": 0}, 0.0), ({"timeout_seconds": 3600}, 3600.0)]
)
async def test_a_good_timeout_comes_through(
    client: Client, recorder: Recorder, body: dict[str, float], seconds: float
) -> None:
    async with client.post("/cloud-sync/flush", json=body) as answer:
        assert answer.status == 200
    assert recorder.heard == [{"timeout_seconds": seconds}]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "limit=-1",
        "limit=1.5",
        "limit=" + "9" * 5000,
        "state=lost",
        "state=retrying,given_up",
        "state=pending,skipped",
        "q=" + "a" * 1025,
        "cursor=" + "a" * 1025,
    ],
)
async def test_a_bad_query_for_files_is_400(client: Client, recorder: Recorder, query: str) -> None:
    async with client.get(f"/cloud-sync/files?{query}") as answer:
        assert answer.status == 400
        assert query.partition("=")[0] in (await answer.json())["message"]
    assert recorder.heard == []


@pytest.mark.parametrize("query", ["by=week", "last=0", "last=1001", "last=x", "last=" + "9" * 5000])
async def test_a_bad_query_for_a_report_is_400(client: Client, recorder: Recorder, query: str) -> None:
    async with client.get(f"/cloud-sync/report?{query}") as answer:
        assert answer.status == 400
        assert query.partition("=")[0] in (await answer.json())["message"]
    assert recorder.heard == []


async def test_the_query_for_files_comes_through(client: Client, recorder: Recorder) -> None:
    async with client.get("/cloud-sync/files") as answer:
        assert answer.status == 200
    async with client.get(
        "/cloud-sync/files", params={"state": "failed", "q": "ä b", "limit": "500", "cursor": "c"}
    ):
        pass
    assert recorder.heard == [
        {"state": None, "q": "", "limit": 100, "cursor": None},
        {"state": "failed", "q": "ä b", "limit": 500, "cursor": "c"},
    ]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestRefused(404, "There is no such file."), 404),
        (StoreError("PutObject", "k", explain("AccessDenied")), 502),
        (EngineUnavailable("The engine is away."), 503),
        (CloudArchiveError("It can't."), 500),
        (web.HTTPRequestEntityTooLarge(1, 2), 413),
        (RuntimeError("S3CRET in a traceback"), 500),
        (ConnectionResetError("by the engine's own call"), 500),
    ],
)
async def test_every_failure_is_a_sentence_without_a_traceback(
    client: Client, recorder: Recorder, error: Exception, status: int
) -> None:
    recorder.error = error
    async with client.post("/cloud-sync/retry") as answer:
        assert answer.status == status
        text = await answer.text()
        assert "Traceback" not in text
        assert "S3CRET" not in text
        assert json.loads(text)["success"] is False


async def test_a_read_needs_no_origin_check(client: Client) -> None:
    async with client.get("/cloud-sync/status", headers={"Origin": "https://evil.example"}) as answer:
        assert answer.status == 200
        assert "Access-Control-Allow-Origin" not in answer.headers
