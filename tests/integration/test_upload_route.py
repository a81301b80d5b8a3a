"""`POST /cloud-sync/upload` on a real engine: what is archived, and what never leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cloud_archive.api.server import build_application, serve
from cloud_archive.archive.engine import Engine
from cloud_archive.intake.settle_rules import QuietTimes
from tests.integration.archives import HOUR
from tests.quirks.server import Profile, QuirkServer
from tests.quirks.whole_stores import Swift
from tests.servers import S3Server

pytestmark = pytest.mark.store


@dataclass
class Daemon:
    """An engine behind its public listener; `root` is the watched directory."""

    root: Path
    server: S3Server
    url: str
    session: aiohttp.ClientSession
    engine: Engine

    async def upload(self, file_path: Any, **how: Any) -> tuple[int, dict[str, Any]]:
        how.setdefault("json", {"file_path": file_path})
        async with self.session.post(f"{self.url}/cloud-sync/upload", **how) as answer:
            return answer.status, await answer.json()


@pytest.fixture(params=["watching", "stopped"])
async def daemon(
    request: pytest.FixtureRequest, tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Daemon]:
    # The watcher waits for longer than any test, so that it archives no file before the test asks for it.
    quiet = partial(QuietTimes, closed_whole=HOUR, closed=HOUR, closed_incomplete=HOUR)
    monkeypatch.setattr("cloud_archive.archive.directory_watch.QuietTimes", quiet)
    environ = seaweedfs.environ(S3_PREFIX="out", CLOUD_ARCHIVE_SETTLE_SECONDS=f"{HOUR:.0f}")
    root = tmp_path / "output"
    (root / "sub").mkdir(parents=True)
    engine = Engine(root, state_base=tmp_path / "state", environ=environ)
    await asyncio.to_thread(engine.start, autostart=request.param == "watching")
    listener = await serve(build_application(engine, token=None))
    async with aiohttp.ClientSession() as session:
        yield Daemon(root, seaweedfs, f"http://127.0.0.1:{listener.port}", session, engine)
    await listener.close()
    await asyncio.to_thread(engine.close, 10)


async def test_a_relative_and_an_absolute_path_are_archived(daemon: Daemon) -> None:
    (daemon.root / "sub" / "a.png").write_bytes(b"a")
    (daemon.root / "b.png").write_bytes(b"b")
    assert (await daemon.upload("sub/a.png"))[0] == 200
    status, answer = await daemon.upload(str(daemon.root / "b.png"))
    assert (status, answer["success"], answer["file"]["s3_key"]) == (200, True, "out/b.png")
    assert daemon.server.objects() == {"out/sub/a.png": b"a", "out/b.png": b"b"}
    assert answer["message"] == "Archived b.png as out/b.png."
    status, again = await daemon.upload("b.png")
    assert (status, again["message"]) == (200, "Already archived as out/b.png.")
    assert len(daemon.server.keys()) == 2


async def test_nothing_outside_the_watched_directory_ever_leaves(daemon: Daemon, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_bytes(b"secret")
    (daemon.root / "link.png").symlink_to(secret)
    (daemon.root / "folder").symlink_to(tmp_path)
    for path in (
        "../secret.txt",
        str(secret),
        "link.png",
        "folder/secret.txt",
        "sub/../../secret.txt",
        "/etc/passwd",
    ):
        assert (await daemon.upload(path))[0] == 403, path
    assert daemon.server.keys() == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("missing.png", 404),
        ("sub", 400),
        ("", 400),
        ("nul\0.png", 400),
        (7, 400),
        (None, 400),
        ("x" * 5000, 404),
    ],
)
async def test_what_is_no_file_gets_its_own_answer(daemon: Daemon, path: Any, expected: int) -> None:
    status, answer = await daemon.upload(path)
    assert status == expected, answer
    assert answer["success"] is False
    assert answer["message"]


async def test_bodies_that_are_no_json_are_refused(daemon: Daemon) -> None:
    (daemon.root / "a.png").write_bytes(b"a")
    assert (await daemon.upload(None, json=None, data={"file_path": "a.png"}))[0] == 415
    text = {"Content-Type": "text/plain"}
    assert (await daemon.upload(None, json=None, data='{"file_path": "a.png"}', headers=text))[0] == 415
    assert (await daemon.upload(None, json=["a.png"]))[0] == 400
    assert (await daemon.upload(None, json=None))[0] == 400


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_another_site_cannot_ask(daemon: Daemon, headers: dict[str, str]) -> None:
    (daemon.root / "a.png").write_bytes(b"a")
    assert (await daemon.upload("a.png", headers=headers))[0] == 403


async def test_the_stores_refusal_comes_with_its_reason(tmp_path: Path, seaweedfs: S3Server) -> None:
    root = tmp_path / "output"
    root.mkdir()
    (root / "a.png").write_bytes(b"a")
    environ = seaweedfs.environ(S3_SECRET_ACCESS_KEY="planted-secret-value")
    engine = Engine(root, state_base=tmp_path / "state", environ=environ)
    await asyncio.to_thread(engine.start, autostart=False)
    listener = await serve(build_application(engine, token=None))
    async with aiohttp.ClientSession() as session:
        daemon = Daemon(root, seaweedfs, f"http://127.0.0.1:{listener.port}", session, engine)
        status, answer = await daemon.upload("a.png")
    await listener.close()
    await asyncio.to_thread(engine.close, 5)
    assert status == 502
    assert "secret key does not belong" in answer["message"]
    assert "planted-secret-value" not in str(answer)


@pytest.mark.parametrize("profile", [None, Swift(secret_is_right=False)], ids=["seaweedfs", "swift"])
async def test_wrong_credentials_are_named_once(
    profile: Profile | None, tmp_path: Path, seaweedfs: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "output"
    root.mkdir()
    for name in ("a.png", "b.png", "c.mp4"):
        (root / name).write_bytes(name.encode() * (2_000_000 if name == "c.mp4" else 1))
    environ = seaweedfs.environ(S3_SECRET_ACCESS_KEY="planted-secret-value")
    with contextlib.ExitStack() as stack:
        if profile is not None:
            quirks = stack.enter_context(QuirkServer(seaweedfs, profile))
            environ["S3_ENDPOINT_URL"] = quirks.url
        await _assert_named_once(root, environ, seaweedfs, caplog)


async def _assert_named_once(
    root: Path, environ: dict[str, str], server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(root, state_base=root.parent / "state", environ=environ)
    await asyncio.to_thread(engine.start, autostart=False)
    listener = await serve(build_application(engine, token=None))
    async with aiohttp.ClientSession() as session:
        daemon = Daemon(root, server, f"http://127.0.0.1:{listener.port}", session, engine)
        said = []
        for name in ("a.png", "a.png", "b.png", "c.mp4"):
            status, answer = await daemon.upload(name)
            assert status == 502
            said.append(answer["message"])
        async with session.get(f"{daemon.url}/cloud-sync/status") as answered:
            said.append("\n".join((await answered.json())["errors"]))
    await listener.close()
    await asyncio.to_thread(engine.close, 5)
    for text in said:
        for name in ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"):
            assert text.count(name) == 1, text
    assert "would be replaced" not in caplog.text
    assert server.keys() == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
async def test_a_pipe_is_no_file(daemon: Daemon) -> None:
    os.mkfifo(daemon.root / "pipe")
    assert (await daemon.upload("pipe"))[0] == 400
