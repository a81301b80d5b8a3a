"""What CLOUD_ARCHIVE_GALLERY lets pages see, and ZIPs, on a real engine over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import threading
import types
import uuid
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from cloud_archive.api.routes import GALLERY_HEADER, ROUTES, protect
from cloud_archive.api.server import build_application
from cloud_archive.archive.engine import Engine
from cloud_archive.catalog.limits import MAX_QUERY_CHARACTERS
from cloud_archive.comfyui.engine_client import EngineAnswer
from cloud_archive.comfyui.plugin import Plugin
from tests.filled import wait_until_filled
from tests.memory_store import MemoryStore
from tests.servers import wait_until
from tests.unit.catalog.cataloguing import png

from .archives import engine_on
from .callers import TOKEN, Caller, listening
from .jobs import output, passed_job
from .waiting import until

FACE = {GALLERY_HEADER: "1"}


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine with a file of its own and one that the catalog has from another machine."""
    store, root = MemoryStore(), tmp_path / "output"
    root.mkdir()
    setting = getattr(request, "param", "all")
    with engine_on(
        root, store, tmp_path / "state", CLOUD_ARCHIVE_MACHINE_NAME="pod-1", CLOUD_ARCHIVE_GALLERY=setting
    ) as engine:
        wait_until(lambda: engine.status().running, "running")
        (root / "a").mkdir()
        (root / "a" / "fox.png").write_bytes(png("a red fox", 1))
        (root / "fox.png").write_bytes(png("another fox", 2))
        wait_until(lambda: len(store.objects) == 2, "archived")
        catalog = engine.catalog()
        wait_until(lambda: catalog.search("fox", "name", "asc", 9, None).total == 2, "catalogued")
        wait_until_filled(engine)
        other = "INSERT INTO words (text) VALUES ('pod-2') ON CONFLICT DO NOTHING"
        catalog.database.change(lambda db: db.execute(other) and None)
        move = "UPDATE assets SET machine = (SELECT id FROM words WHERE text = 'pod-2') WHERE seed = ?"
        catalog.database.change(lambda db: db.execute(move, (2 - (1 << 63),)) and None)
        yield engine


def ids(engine: Engine) -> dict[str, str]:
    found = engine.catalog().search("", "name", "asc", 9, None).assets
    return {asset["machine"]: asset["id"] for asset in found}


@pytest.mark.parametrize("engine", ["own"], indirect=True)
async def test_own_shows_pages_what_this_machine_archived(engine: Engine) -> None:
    known = ids(engine)
    async with listening(build_application(engine, token=TOKEN), TOKEN) as caller:
        _, page = await caller.ask("GET", "/cloud-sync/assets?q=fox", headers=FACE)
        assert [asset["id"] for asset in page["assets"]] == [known["pod-1"]]
        _, facets = await caller.ask("GET", "/cloud-sync/facets", headers=FACE)
        assert [machine["name"] for machine in facets["machines"]] == ["pod-1"]
        longest = {"q": "fox " * (MAX_QUERY_CHARACTERS // 4)}
        _, page = await caller.ask("POST", "/cloud-sync/assets", headers=FACE, json=longest)
        assert [asset["id"] for asset in page["assets"]] == [known["pod-1"]]
        assert (await caller.ask("POST", "/cloud-sync/facets", headers=FACE, json=longest))[0] == 200
        for call in ("", "/content", "/thumbnail", "/workflow", "/prompt"):
            status, _ = await caller.ask("GET", f"/cloud-sync/assets/{known['pod-2']}{call}", headers=FACE)
            assert status == 404, call
        change = {"headers": FACE, "json": {"favorite": True}}
        assert (await caller.ask("PATCH", f"/cloud-sync/assets/{known['pod-2']}", **change))[0] == 404
        zipped = f"/cloud-sync/assets.zip?ids={known['pod-1']},{known['pod-2']}"
        assert (await caller.ask("GET", zipped, headers=FACE))[0] == 404
        shared = {"headers": FACE, "json": {"ids": list(known.values())}}
        assert (await caller.ask("POST", "/cloud-sync/share", **shared))[0] == 404
        # The command sends no gallery header, and sees everything.
        assert (await caller.ask("GET", "/cloud-sync/assets?q=fox"))[1]["total"] == 2


@pytest.mark.parametrize("engine", ["off"], indirect=True)
async def test_off_shows_pages_nothing(engine: Engine) -> None:
    known = ids(engine)
    async with listening(build_application(engine, token=TOKEN), TOKEN) as caller:
        for call in ("assets", "facets", f"assets/{known['pod-1']}", f"assets.zip?ids={known['pod-1']}"):
            status, body = await caller.ask("GET", f"/cloud-sync/{call}", headers=FACE)
            assert (status, body["message"]) == (
                403,
                "The library is turned off: CLOUD_ARCHIVE_GALLERY is off.",
            )
        shared = {"headers": FACE, "json": {"ids": [known["pod-1"]]}}
        assert (await caller.ask("POST", "/cloud-sync/share", **shared))[0] == 403


@pytest.mark.parametrize(
    ("engine", "names"),
    [("all", {"pod-1", "pod-2"}), ("own", {"pod-1"}), ("off", set())],
    indirect=["engine"],
)
async def test_a_job_shows_pages_no_other_files_of_the_catalog(engine: Engine, names: set[str]) -> None:
    database = engine.catalog().database
    database.change(lambda db: db.execute("INSERT INTO words (text) VALUES ('old')") and None)
    of_old = "UPDATE assets SET job = (SELECT id FROM words WHERE text = 'old')"
    database.change(lambda db: db.execute(of_old) and None)
    machines = {"a": "pod-1", "": "pod-2"}
    call = "/cloud-sync/jobs/old?urls=1"
    async with listening(build_application(engine, token=TOKEN), TOKEN) as caller:
        _, answer = await caller.ask("GET", call, headers=FACE)
        assert {machines[file["subfolder"]] for file in answer["files"]} == names
        if not names:
            assert answer["state"] == "unknown"
            assert "CLOUD_ARCHIVE_GALLERY is off" in answer["errors"][0]
        # The command sends no gallery header, and sees everything.
        assert len((await caller.ask("GET", call))[1]["files"]) == 2


@pytest.mark.parametrize("engine", ["own", "off"], indirect=True)
async def test_a_job_that_ran_here_shows_pages_its_files(engine: Engine) -> None:
    engine.add_jobs([passed_job("j", output("fox.png", subfolder="a"))])
    async with listening(build_application(engine, token=TOKEN), TOKEN) as caller:
        _, answer = await caller.ask("GET", "/cloud-sync/jobs/j?wait=60", headers=FACE)
        assert (answer["state"], [file["key"] for file in answer["files"]]) == ("complete", ["out/a/fox.png"])


async def test_a_zip_holds_every_file_under_a_name_of_its_own(engine: Engine) -> None:
    known = ids(engine)
    async with listening(build_application(engine, token=TOKEN), TOKEN) as caller:
        call = f"/cloud-sync/assets.zip?ids={','.join(known.values())}"
        async with caller.open("GET", call) as answer:
            assert answer.status == 200
            assert "cloud-archive.zip" in answer.headers["Content-Disposition"]
            archive = zipfile.ZipFile(io.BytesIO(await answer.read()))
    assert archive.testzip() is None
    assert sorted(archive.namelist()) == ["fox (1).png", "fox.png"]
    bodies = {archive.read(name) for name in archive.namelist()}
    assert bodies == {png("a red fox", 1), png("another fox", 2)}


@pytest.mark.parametrize("asked", ["", "x", ",".join(str(uuid.uuid4()) for _ in range(201))])
async def test_a_zip_of_nothing_or_too_much_is_refused(engine: Engine, asked: str) -> None:
    async with listening(build_application(engine, token=TOKEN), TOKEN) as caller:
        assert (await caller.ask("GET", f"/cloud-sync/assets.zip?ids={asked}"))[0] == 400


async def test_the_daemon_has_no_input_directory(engine: Engine) -> None:
    known = ids(engine)
    async with listening(build_application(engine, token=None)) as caller:
        status, body = await caller.ask("POST", f"/cloud-sync/assets/{known['pod-1']}/bring-back")
        assert status == 409
        assert "Only ComfyUI" in body["message"]


async def test_the_plugin_puts_an_asset_into_comfyuis_input_directory(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin's own handler, with the real engine behind it in place of the process that it would start."""
    directory = tmp_path / "input"
    directory.mkdir()
    folders = types.ModuleType("folder_paths")
    folders.get_input_directory = lambda: str(directory)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "folder_paths", folders)
    identity = ids(engine)["pod-2"]
    async with listening(build_application(engine, token=TOKEN), TOKEN) as behind:
        plugin = Plugin(FaceServer(), DirectClient(behind))  # type: ignore[arg-type]
        route = next(route for route in ROUTES if route.name == "bring_back")
        application = web.Application()
        application.router.add_route(route.method, route.path, protect(route, plugin._forwarder(route)))
        async with listening(application) as face:
            for _ in range(2):
                status, body = await face.ask("POST", f"/cloud-sync/assets/{identity}/bring-back")
                assert (status, body) == (200, {"name": "fox.png", "subfolder": "", "type": "input"})
            assert (await face.ask("POST", f"/cloud-sync/assets/{uuid.uuid4()}/bring-back"))[0] == 404
            evil = {"headers": {"Origin": "https://evil.example"}}
            assert (await face.ask("POST", f"/cloud-sync/assets/{identity}/bring-back", **evil))[0] == 403
    assert [path.name for path in directory.iterdir()] == ["fox.png"]
    assert (directory / "fox.png").read_bytes() == png("another fox", 2)


@pytest.mark.parametrize(
    "call", ["assets/{id}/content", "assets/{id}/thumbnail", "assets.zip?ids={id}", "events"]
)
async def test_a_head_request_to_comfyui_gets_the_headers_alone(engine: Engine, call: str) -> None:
    """ComfyUI routes HEAD to the handlers of GET. A body would be read as the answer to the next request."""
    async with listening(build_application(engine, token=TOKEN), TOKEN) as behind:
        plugin = Plugin(FaceServer(), DirectClient(behind))  # type: ignore[arg-type]
        application = web.Application()
        for route in ROUTES:
            if route.name in ("content", "thumbnail", "zip", "events"):
                application.router.add_get(route.path, protect(route, plugin._forwarder(route)))
        async with listening(application) as face:
            reader, writer = await asyncio.open_connection("127.0.0.1", face.port)
            path = f"/cloud-sync/{call.format(id=ids(engine)['pod-1'])}"
            writer.write(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            with contextlib.closing(writer):
                head, _, body = (await asyncio.wait_for(reader.read(), 60)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b""


async def test_a_share_whose_client_leaves_ends_and_leaves_no_copies(engine: Engine) -> None:
    store = engine.archiver().store
    assert isinstance(store, MemoryStore)
    begun, may_go_on = threading.Event(), threading.Event()

    def on_call(operation: str, key: str) -> None:
        if operation == "PutObject" and "/shares/" in key:
            begun.set()
            may_go_on.wait(60)

    def shared() -> list[str]:
        return [key for key in list(store.objects) if "/shares/" in key]

    store.on_call = on_call
    body = {"ids": list(ids(engine).values()), "strip_metadata": True, "album": "Foxes"}
    async with listening(build_application(engine, token=TOKEN), TOKEN) as caller:
        call = asyncio.ensure_future(caller.ask("POST", "/cloud-sync/share", json=body))
        assert await asyncio.to_thread(begun.wait, 60)
        call.cancel()
        await asyncio.wait([call])
        connections = caller.listener.connections
        await until(lambda: all(open.request is None for open in connections._open.values()))
        may_go_on.set()
        await until(lambda: store.count("DeleteObject") and not shared())
    assert store.count("DeleteObject") == 1, "the second file was not copied"


@pytest.mark.parametrize("call", ["assets", "facets"])
async def test_the_longest_query_reaches_the_engine_through_comfyuis_port(engine: Engine, call: str) -> None:
    """aiohttp, and so ComfyUI, takes 8,190 bytes of URL; a character of Chinese takes nine of them."""
    query = "狐" * MAX_QUERY_CHARACTERS
    async with listening(build_application(engine, token=TOKEN), TOKEN) as behind:
        plugin = Plugin(FaceServer(), DirectClient(behind))  # type: ignore[arg-type]
        application = web.Application()
        for route in ROUTES:
            if route.name == call:
                application.router.add_route(
                    route.method, route.path, protect(route, plugin._forwarder(route))
                )
        async with TestClient(TestServer(application)) as face:
            path = f"/cloud-sync/{call}"
            async with face.get(path, params={"q": query}) as answer:
                assert answer.status == 400, "the limit of the server itself"
            async with face.get(path, params={"q": "red"}) as answer:
                assert answer.status == 200
                expected = await answer.json()
            async with face.post(path, json={"q": "red"}) as answer:
                assert (answer.status, await answer.json()) == (200, expected)
            async with face.post(path, json={"q": query}) as answer:
                found = await answer.json()
                assert answer.status == 200
            assert (found.get("total", 0), found.get("days", [])) == (0, [])


class FaceServer:
    """The part of ComfyUI's server that the plugin needs when only its routes are called."""

    routes = ()


class DirectClient:
    """In place of an EngineClient: passes calls to a listener that runs already."""

    def __init__(self, behind: Caller) -> None:
        self._behind = behind

    async def status(self) -> dict[str, Any]:
        answer = await self.call("GET", "/cloud-sync/status")
        found: dict[str, Any] = answer.json()
        return found

    @asynccontextmanager
    async def open(
        self, method: str, path: str, *, query: Any = None, **_: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._behind.open(method, path, headers=FACE, params=query) as answer:
            yield answer

    async def call(
        self, method: str, path: str, *, json: Any = None, query: Any = None, **_: Any
    ) -> EngineAnswer:
        async with self._behind.open(method, path, headers=FACE, params=query, json=json) as answer:
            return EngineAnswer(answer.status, answer.headers["Content-Type"], await answer.read())
