"""`--serve`: with a token, all but the page's own files need it; without one it warns if others can reach it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cloud_archive.api.routes import ROUTES
from cloud_archive.api.server import Listener, build_application, serve
from cloud_archive.cli.app import main
from cloud_archive.cli.arguments import WrongUsage, is_loopback_host, read_token
from cloud_archive.cli.watching import _open_to
from cloud_archive.config.settings import load_settings
from tests.functional.archives import ENVIRON

from .fake_engine import FakeEngine

TOKEN = "a-token-of-somebody"


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    application = build_application(FakeEngine().facade, token=None, bearer=TOKEN, allowed_hosts=["nas"])
    listener = await serve(application)
    yield listener
    await listener.close()


async def ask(listener: Listener, method: str, path: str, headers: Mapping[str, str]) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{listener.port}{path}", headers=headers) as answer,
    ):
        return answer.status


@pytest.mark.parametrize(
    "given", ["", "Bearer", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer ä"]
)
async def test_no_call_is_answered_without_the_token(listener: Listener, given: str) -> None:
    calls = [(route.method, route.path.replace("{id}", "0" * 32)) for route in ROUTES]
    calls += [("GET", "/nothing"), ("POST", "/")]
    for method, path in calls:
        assert await ask(listener, method, path, {"Authorization": given}) == 401, path


async def test_a_refusal_names_the_scheme_as_http_wants_it(listener: Listener) -> None:
    url = f"http://127.0.0.1:{listener.port}/cloud-sync/status"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        body = await answer.json()
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert body == {
        "success": False,
        "message": "This server asks for its token: send it as Authorization: Bearer TOKEN.",
    }


@pytest.mark.parametrize("host", ["127.0.0.1", "pod-8189.proxy.example", "evil.example"])
async def test_a_call_with_the_token_is_answered_under_any_host_name(listener: Listener, host: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": host}
    assert await ask(listener, "GET", "/cloud-sync/status", headers) == 200
    assert await ask(listener, "GET", "/nothing", headers) == 404


@pytest.mark.parametrize("given", [f"bearer {TOKEN}", f"Bearer   {TOKEN}"])
async def test_the_scheme_may_have_any_case_and_several_spaces(listener: Listener, given: str) -> None:
    assert await ask(listener, "GET", "/cloud-sync/status", {"Authorization": given}) == 200


async def test_the_page_itself_needs_no_token(listener: Listener) -> None:
    for path in ("/", "/dashboard.js", "/dashboard.css", "/panel/dom.js", "/icon.svg", "/favicon.ico"):
        assert await ask(listener, "GET", path, {}) in (200, 204), path


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("nas.local", False),
        ("localhost.evil", False),
    ],
)
def test_addresses_that_others_reach(host: str, loopback: bool) -> None:
    assert is_loopback_host(host) is loopback


def test_the_warning_says_who_can_reach_it() -> None:
    assert "everybody who reaches port 80 of this machine" in _open_to("0.0.0.0", 80, has_token=False)
    assert "everybody who reaches nas.local:80" in _open_to("nas.local", 80, has_token=False)
    assert "everybody who reaches [fd00::5]:80" in _open_to("fd00::5", 80, has_token=False)
    assert "\n" not in _open_to("::", 80, has_token=False)


@pytest.mark.parametrize(
    ("arguments", "token", "warned"),
    [
        (["--serve", "127.0.0.1:0"], None, False),
        (["--serve", "0.0.0.0:0"], None, True),
        (["--serve", "0.0.0.0:0"], TOKEN, False),
        (["--serve", "0.0.0.0:0", "--token-file", "FILE"], None, False),
    ],
)
def test_the_daemon_warns_once_where_others_reach_it_without_a_token(
    root: Path,
    tmp_path: Path,
    own_state: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    token: str | None,
    warned: bool,
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    for name, value in (ENVIRON | {"S3_ENDPOINT_URL": "http://127.0.0.1:9"}).items():
        monkeypatch.setenv(name, value)
    if token is not None:
        monkeypatch.setenv("CLOUD_ARCHIVE_SERVE_TOKEN", token)
    given: list[Any] = []
    build = build_application

    def recorded(engine: Any, **how: Any) -> Any:
        given.append(how.get("bearer"))
        return build(engine, **how)

    monkeypatch.setattr("cloud_archive.api.server.build_application", recorded)
    words = [str(tmp_path / "token") if word == "FILE" else word for word in arguments]
    assert main(["watch", str(root), "--once", *words]) == 0
    said = capsys.readouterr().err
    assert said.count("No token is set: everybody who reaches port") == warned
    assert said.count("WARNING") >= (arguments[1] != "127.0.0.1:0")
    assert ("over plain http, so the token can be read" in said) is (given[1] is not None)
    assert given == [None, TOKEN if token or "FILE" in arguments else None]
    assert TOKEN not in said


@pytest.mark.parametrize("content", [None, b"", b"\n", b"two words\n", b"\xff\xfe", "schlüssel".encode()])
def test_a_file_without_a_token_is_wrong_usage(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WrongUsage, match="--token-file"):
        read_token(path)


def test_the_token_is_a_secret() -> None:
    settings = load_settings(ENVIRON | {"CLOUD_ARCHIVE_SERVE_TOKEN": TOKEN})
    assert TOKEN not in repr(settings)
    assert TOKEN in settings.secrets()
