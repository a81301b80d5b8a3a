"""The catalog with a real store: the command, the rebuild from the bucket, and calls through ComfyUI's plugin."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from cloud_archive.api.client import LocalEngine, running_engine
from cloud_archive.comfyui.plugin import Plugin
from tests.commands import read_json, run_command
from tests.filled import wait_until_filled
from tests.functional.small_comfyui import SmallPromptServer
from tests.servers import wait_until
from tests.unit.catalog import writers
from tests.unit.catalog.cataloguing import graph, png

from .archives import Archive

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]

FOX = png("a red fox", 2**64 - 1)
START_SECONDS = (
    300  # an engine that starts slowly on a busy machine is ended after 30 s, and after 60 s again
)
FILES = {
    "sub/fox_00001_.png": FOX,
    "cat_00001_.png": png("a black cat", 2, "cat.safetensors"),
    "plain.txt": b"x",
}


@pytest.fixture
def archive(archive: Archive) -> Archive:
    for path, body in FILES.items():
        archive.write(path, body)
    return archive


@pytest.fixture
def filled(archive: Archive) -> Iterator[Archive]:
    with archive.running() as engine:
        wait_until(lambda: len(archive.server.objects()) == len(FILES), "archived")
        wait_until(lambda: engine.catalog().status()["assets"] == len(FILES), "in the catalog")
        wait_until(lambda: engine.catalog().status()["unread"] == 0, "read")
        yield archive


def test_the_command_finds_and_shows(
    filled: Archive, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = read_json(capsys, "search", "red", "fox")
    assert set(found) == {"assets", "total", "has_more", "next_cursor"}
    assert [asset["key"] for asset in found["assets"]] == ["out/sub/fox_00001_.png"]
    assert read_json(capsys, "search", "--limit", "1")["has_more"] is True
    status, out, _ = run_command(capsys, "search", "model:cat")
    assert (status, "cat.safetensors" in out, out.splitlines()[-1]) == (0, True, "1 file found.")
    for name in ("out/sub/fox_00001_.png", "sub/fox_00001_.png", found["assets"][0]["id"]):
        assert read_json(capsys, "show", name)["metadata"]["seed"] == 2**64 - 1
    file = tmp_path / "workflow.json"
    status, out, _ = run_command(
        capsys, "show", "sub/fox_00001_.png", "--workflow", str(file), "--prompt", "-"
    )
    assert status == 0
    assert json.loads(file.read_text()) == writers.WORKFLOW
    assert '"a red fox"' in out
    status, out, _ = run_command(capsys, "show", "sub/fox_00001_.png")
    assert (status, "a red fox" in out) == (0, True)
    status, _, err = run_command(capsys, "search", "colour:red")
    assert (status, "model" in err, "colour" in err) == (2, True, True)
    assert run_command(capsys, "show", "nothing.png")[0] == 1
    found = read_json(capsys, "catalog", "status")
    assert (found["assets"], found["unread"]) == (len(FILES), 0)
    found = read_json(capsys, "report", "--by", "model")
    assert {row["model"]: row["files"] for row in found["rows"]} == {
        "fox_v1.safetensors": 1,
        "cat.safetensors": 1,
        "(none known)": 1,
    }


@pytest.fixture
def daemon(archive: Archive) -> Iterator[LocalEngine]:
    """Run a daemon in a process of its own until its catalog has every file."""
    environ = {**os.environ, **archive.environ, "CLOUD_ARCHIVE_BACKFILL": "all"}
    process = subprocess.Popen(
        [sys.executable, "-m", "cloud_archive", "watch", str(archive.root)],
        env=environ,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: running_engine(archive.root) is not None, "the daemon runs", 60)
        engine = running_engine(archive.root)
        assert engine is not None

        def is_filled() -> bool:
            totals = []
            for query in ("", "seed:>=0"):  # all files, and those that were read
                answer = engine.call("GET", f"/cloud-sync/assets?q={query}")
                totals.append(answer.body["total"] if answer.status == 200 else 0)
            return totals == [len(FILES), 2]

        wait_until(is_filled, "the catalog is filled", 60)
        yield engine
    finally:
        process.terminate()
        process.wait(60)


def test_the_command_asks_the_engine_where_one_runs(
    daemon: LocalEngine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_opened(*_: object, **__: object) -> None:
        raise AssertionError("the file was opened beside the engine")

    monkeypatch.setattr("cloud_archive.cli.search.catalog_of", not_opened)
    found = read_json(capsys, "search", "red", "fox")
    assert [asset["key"] for asset in found["assets"]] == ["out/sub/fox_00001_.png"]
    assert len(read_json(capsys, "search", "--limit", "1000")["assets"]) == len(FILES)
    for name in ("out/sub/fox_00001_.png", "sub/fox_00001_.png", found["assets"][0]["id"]):
        assert read_json(capsys, "show", name)["metadata"]["seed"] == 2**64 - 1
    assert '"a red fox"' in run_command(capsys, "show", "sub/fox_00001_.png", "--prompt", "-")[1]
    status, _, err = run_command(capsys, "search", "colour:red")
    assert (status, "model" in err, "colour" in err, "q:" in err) == (2, True, True, False)
    assert run_command(capsys, "show", "nothing.png")[0] == 1


def test_the_catalog_is_rebuilt_from_the_bucket(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    archive.archive_all()
    assert run_command(capsys, "search", "fox")[0] == 1  # there is no catalog
    for path in FILES:
        (archive.root / path).unlink()
    planned = read_json(capsys, "catalog", "rebuild", "--dry-run")
    assert (planned["listed"], planned["to_add"]) == (len(FILES), len(FILES))
    status, out, _ = run_command(capsys, "catalog", "rebuild")
    assert status == 0
    assert "requests" in out.splitlines()[0]
    (fox,) = read_json(capsys, "search", '"red fox"')["assets"]
    assert (fox["path"], fox["size"], fox["width"]) == ("sub/fox_00001_.png", len(FOX), 8)
    assert fox["created_at"] != ""
    assert read_json(capsys, "catalog", "rebuild")["added"] == 0
    rebuilt = read_json(capsys, "search")["assets"]
    # The engine knows more (machine), and finds the same files once.
    with archive.running() as engine:
        wait_until_filled(engine)
    assert [asset["id"] for asset in read_json(capsys, "search")["assets"]] == [one["id"] for one in rebuilt]


async def test_comfyui_passes_everything_through(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder_paths = types.ModuleType("folder_paths")
    folder_paths.get_output_directory = lambda: str(archive.root)  # type: ignore[attr-defined]
    folder_paths.get_user_directory = lambda: str(tmp_path / "user")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "folder_paths", folder_paths)
    monkeypatch.setenv("CLOUD_ARCHIVE_BACKFILL", "all")
    monkeypatch.setattr("cloud_archive.comfyui.plugin.atexit.register", lambda _: None)
    prompt_server = SmallPromptServer()
    Plugin(prompt_server).install()
    prompt_server.add_routes()
    large = os.urandom(3_000_000)
    archive.write("large.bin", large)
    async with TestClient(TestServer(prompt_server.app)) as client:

        async def ask(method: str, path: str, **more: Any) -> tuple[int, Any]:
            async with client.request(method, path, **more) as answer:
                return answer.status, await answer.json()

        assets: list[dict[str, Any]] = []
        deadline = time.monotonic() + START_SECONDS
        while len(assets) != len(FILES) + 1 or not all(
            a["has_prompt"] for a in assets if "0001" in a["name"]
        ):
            assert time.monotonic() < deadline, assets
            await asyncio.sleep(0.2)
            _, body = await ask("GET", "/api/cloud-sync/assets?q=&sort=name")
            assets = body.get("assets", [])
        assert [asset["name"] for asset in assets] == [
            "cat_00001_.png",
            "fox_00001_.png",
            "large.bin",
            "plain.txt",
        ]
        cat, fox, big, _ = (f"/cloud-sync/assets/{asset['id']}" for asset in assets)
        assert (await ask("GET", f"{fox}/prompt"))[1] == graph("a red fox", 2**64 - 1)
        assert (await ask("GET", "/cloud-sync/facets?q=cat"))[1]["models"][0]["name"] == "cat.safetensors"
        assert (await ask("GET", "/cloud-sync/assets?limit=0"))[0] == 400
        async with client.get(f"{cat}/thumbnail") as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (200, "image/webp")
            assert (await answer.read()).startswith(b"RIFF")
        assert (await ask("PATCH", cat, json={"rating": 5}))[1]["rating"] == 5
        assert (await ask("PATCH", cat, json={"rating": 5}, headers={"Origin": "http://evil.example"}))[
            0
        ] == 403
        for local in (True, False):
            if not local:
                (archive.root / "large.bin").unlink()
            async with client.get(f"{big}/content") as answer:
                assert (answer.status, await answer.read()) == (200, large)
            part = {"Range": "bytes=1000000-1999999"}
            async with client.get(f"{big}/content", headers={**part, "If-Range": '"an-etag"'}) as answer:
                assert (answer.status, await answer.read()) == (200, large)
            async with client.get(f"{big}/content", headers=part) as answer:
                assert (answer.status, await answer.read()) == (206, large[1_000_000:2_000_000])
                assert answer.headers["Content-Range"] == f"bytes 1000000-1999999/{len(large)}"
