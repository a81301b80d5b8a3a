"""The catalog's routes on a real engine with a store in memory, over HTTP."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, web

from cloud_archive.api.server import build_application
from cloud_archive.archive.engine import Engine
from cloud_archive.catalog.bucket.names import new_names
from cloud_archive.catalog.bucket.segment import encode
from tests.filled import wait_until_filled
from tests.memory_store import MemoryStore, refuse
from tests.servers import wait_until
from tests.unit.catalog import writers
from tests.unit.catalog.cataloguing import graph, png

from .archives import engine_on
from .callers import TOKEN, Caller, listening

FOX = png("a red fox", 2**64 - 1)
FOX_NAME = "fox_00001_.png"


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, store: MemoryStore) -> Iterator[Engine]:
    tmp_path = tmp_path_factory.mktemp("archive")
    root = tmp_path / "output"
    root.mkdir()
    with engine_on(root, store, tmp_path / "state", CLOUD_ARCHIVE_MACHINE_NAME="pod-1") as engine:
        wait_until(lambda: engine.status().running, "running")
        (root / "sub").mkdir()
        (root / "sub" / FOX_NAME).write_bytes(FOX)
        (root / "page.html").write_bytes(b"<script>alert(1)</script>")
        wait_until(lambda: len(store.objects) == 2, "archived")
        wait_until(lambda: all(search_assets(engine, name) for name in ("fox", "page")), "catalogued")
        wait_until_filled(engine)
        yield engine


def search_assets(engine: Engine, query: str) -> list[dict[str, Any]]:
    return engine.catalog().search(query, "created_at", "desc", 10, None).assets


@contextmanager
def fox_away(engine: Engine) -> Iterator[None]:
    """Move the local file away while the block runs."""
    path = engine.root / "sub" / FOX_NAME
    aside = engine.root.parent / FOX_NAME
    path.rename(aside)
    yield
    aside.rename(path)


@pytest.fixture
async def caller(engine: Engine) -> AsyncIterator[Caller]:
    async with listening(build_application(engine, token=TOKEN), TOKEN) as caller:
        yield caller


async def fox_path(caller: Caller) -> str:
    status, body = await caller.ask("GET", "/cloud-sync/assets?q=fox")
    assert (status, body["total"], body["has_more"], body["next_cursor"]) == (200, 1, False, None)
    return f"/cloud-sync/assets/{body['assets'][0]['id']}"


async def test_search_and_one_asset(caller: Caller) -> None:
    path = await fox_path(caller)
    status, asset = await caller.ask("GET", path)
    assert (status, asset["name"], asset["path"]) == (200, FOX_NAME, f"sub/{FOX_NAME}")
    assert (asset["machine"], asset["metadata"]["seed"]) == ("pod-1", 2**64 - 1)
    status, body = await caller.ask("GET", "/cloud-sync/assets?limit=1&sort=name")
    assert (status, body["total"], len(body["assets"]), body["has_more"]) == (200, 2, 1, True)
    _, more = await caller.ask("GET", f"/cloud-sync/assets?limit=1&sort=name&after={body['next_cursor']}")
    assert {body["assets"][0]["name"], more["assets"][0]["name"]} == {FOX_NAME, "page.html"}


@pytest.mark.parametrize(
    "query", ["fox" + " " * 3992 + "-zzzz", " ".join(["fox", *(f"-z{number}" for number in range(299))])]
)
async def test_the_library_can_ask_for_a_day_of_the_longest_query(caller: Caller, query: str) -> None:
    status, counts = await caller.ask("POST", "/cloud-sync/facets", json={"q": query})
    assert status == 200
    (day,) = counts["days"]
    of_day = f"since:{day['name']} until:{day['name']} {query}"
    status, body = await caller.ask("POST", "/cloud-sync/assets", json={"q": of_day})
    assert (status, body["total"]) == (200, 1)
    assert (await caller.ask("POST", "/cloud-sync/facets", json={"q": f"{query} -more"}))[0] == 400


async def test_graphs(caller: Caller) -> None:
    path = await fox_path(caller)
    assert await caller.ask("GET", f"{path}/prompt") == (200, graph("a red fox", 2**64 - 1))
    assert await caller.ask("GET", f"{path}/workflow") == (200, writers.WORKFLOW)
    _, page = await caller.ask("GET", "/cloud-sync/assets?q=page")
    assert (await caller.ask("GET", f"/cloud-sync/assets/{page['assets'][0]['id']}/prompt"))[0] == 404


async def test_facets(caller: Caller) -> None:
    status, body = await caller.ask("GET", "/cloud-sync/facets?q=fox")
    assert status == 200
    assert body["models"] == [{"name": "fox_v1.safetensors", "count": 1}]
    lists = {"models", "loras", "samplers", "machines", "types", "tags", "days"}
    assert set(body) == lists | {"unread", "loading", "trouble"}
    assert body["trouble"] is None
    while body["loading"] is not None:  # true until the bucket was listed once
        assert body["loading"]["total"] == body["loading"]["searched"] > 0
        await asyncio.sleep(0.02)
        _, body = await caller.ask("GET", "/cloud-sync/facets")


@pytest.mark.parametrize("call", ["", "/content", "/thumbnail", "/prompt", "/workflow", "zip"])
async def test_a_head_request_gets_the_headers_alone(caller: Caller, call: str) -> None:
    path = await fox_path(caller)
    path = f"/cloud-sync/assets.zip?ids={path.rpartition('/')[2]}" if call == "zip" else path + call
    for _ in range(2):  # a body would be read as the next answer
        async with caller.open("GET", path) as whole, caller.open("HEAD", path) as head:
            assert (head.status, await head.read()) == (200, b"")
            for name in ("Content-Type", "Content-Length", "Accept-Ranges"):
                assert head.headers.get(name) == whole.headers.get(name)


async def test_thumbnails(caller: Caller) -> None:
    """A WebP of the picture; an icon where there is no picture."""
    page = (await caller.ask("GET", "/cloud-sync/assets?q=page"))[1]["assets"][0]["id"]
    for path, content_type, starts, kept in (
        (await fox_path(caller), "image/webp", b"RIFF", "private, max-age=3600"),
        (f"/cloud-sync/assets/{page}", "image/svg+xml", b"<svg", "no-store"),
    ):
        async with caller.open("GET", f"{path}/thumbnail") as answer:
            body = await answer.read()
            assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
            assert body.startswith(starts)
            assert "sandbox" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Cache-Control"] == kept


async def fetch_content(caller: Caller, path: str, **headers: str) -> tuple[int, bytes, Any]:
    async with caller.open("GET", f"{path}/content", headers=headers) as answer:
        return answer.status, await answer.read(), answer.headers


@pytest.mark.parametrize("local", [True, False])
async def test_content_from_disk_and_from_the_bucket(
    caller: Caller, engine: Engine, store: MemoryStore, local: bool
) -> None:
    path = await fox_path(caller)
    read = ("GetObject", f"out/sub/{FOX_NAME}")
    before = store.calls.count(read)
    with nullcontext() if local else fox_away(engine):
        status, body, headers = await fetch_content(caller, path)
        assert (status, body) == (200, FOX)
        assert (headers["Content-Type"], headers["Accept-Ranges"]) == ("image/png", "bytes")
        assert headers["X-Content-Type-Options"] == "nosniff"
        for asked, expected in (
            ("bytes=2-5", FOX[2:6]),
            ("bytes=-4", FOX[-4:]),
            ("bytes=5-", FOX[5:]),
            ("bytes=0-", FOX),
        ):
            status, body, headers = await fetch_content(caller, path, Range=asked)
            assert (status, body) == (206, expected)
            assert headers["Content-Range"].endswith(f"/{len(FOX)}")
        # Content has no ETag, so what such a client has of it may be of another version.
        part_of = {"Range": "bytes=2-5", "If-Range": '"an-etag"'}
        assert (await fetch_content(caller, path, **part_of))[:2] == (200, FOX)
        status, _, headers = await fetch_content(caller, path, Range="bytes=999999-")
        assert (status, headers["Content-Range"]) == (416, f"bytes */{len(FOX)}")
    assert (store.calls.count(read) > before) == (not local)


@pytest.mark.parametrize("call", ["/cloud-sync/assets/{id}/content", "/cloud-sync/assets.zip?ids={id}"])
@pytest.mark.parametrize(
    ("fault", "logged"), [(ConnectionResetError("left"), False), (OSError("disk"), True)]
)
async def test_an_answer_that_breaks_off_is_logged_unless_the_client_left(
    caller: Caller,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
    fault: OSError,
    logged: bool,
) -> None:
    path = call.format(id=(await fox_path(caller)).rpartition("/")[2])

    async def write(answer: web.StreamResponse, data: bytes) -> None:
        raise fault

    monkeypatch.setattr(web.StreamResponse, "write", write)
    with pytest.raises(ClientError):
        async with caller.open("GET", path) as answer:
            await answer.read()
    assert ("was not sent completely" in caplog.text) is logged


async def test_a_file_from_the_archive_is_never_run_as_a_page(caller: Caller) -> None:
    _, body = await caller.ask("GET", "/cloud-sync/assets?q=page")
    _, _, headers = await fetch_content(caller, f"/cloud-sync/assets/{body['assets'][0]['id']}")
    assert headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in headers["Content-Security-Policy"]


async def test_another_site_cannot_read_contents(caller: Caller) -> None:
    path = await fox_path(caller)
    status, _, _ = await fetch_content(caller, path, **{"Sec-Fetch-Site": "cross-site"})
    assert status == 403


async def test_an_object_that_somebody_else_deleted_is_gone_once_it_is_asked_for(tmp_path: Path) -> None:
    store = MemoryStore()
    with engine_on(tmp_path / "output", store, tmp_path / "state") as engine:
        wait_until(lambda: engine.status().running, "running")
        file = tmp_path / "output" / FOX_NAME
        file.write_bytes(FOX)
        wait_until(lambda: len(search_assets(engine, "fox")) == 1, "in the catalog")
        wait_until_filled(engine)
        async with listening(build_application(engine, token=TOKEN), TOKEN) as caller:
            path = await fox_path(caller)
            file.unlink()
            store.objects.pop(f"out/{FOX_NAME}")
            store.on_call = lambda operation, key: (
                refuse("SlowDown", 503, key) if operation == "HeadObject" else None
            )
            assert (await fetch_content(caller, path))[0] == 502  # that it is gone can't be found out now
            store.on_call = lambda operation, key: None
            assert (await fetch_content(caller, path))[0] == 404
            assert (await caller.ask("GET", path))[0] == 404
            assert (await caller.ask("GET", "/cloud-sync/assets"))[1]["total"] == 0
            # The ledger's row does not bring it back.
            engine.catalog()._filler._swept_at = None  # type: ignore[union-attr]
            engine.catalog()._filler.wake()  # type: ignore[union-attr]
            wait_until_filled(engine)
            assert (await caller.ask("GET", path))[0] == 404


async def test_edits_are_kept_and_found(caller: Caller) -> None:
    path = await fox_path(caller)
    changes = {"tags": ["best", " dark wood "], "favorite": True, "rating": 5, "note": "print it"}
    status, asset = await caller.ask("PATCH", path, json=changes)
    assert (status, asset["tags"], asset["rating"]) == (200, ["best", "dark wood"], 5)
    for query in ("tag:best", 'tag:"dark wood"', "is:favorite", "rating:>=4"):
        _, body = await caller.ask("GET", f"/cloud-sync/assets?q={query.replace(' ', '%20')}")
        assert body["total"] == 1, query
    await caller.ask("PATCH", path, json={"hidden": True, "tags": []})
    assert (await caller.ask("GET", "/cloud-sync/assets?q=fox"))[1]["total"] == 0
    _, asset = await caller.ask("GET", path)
    assert (asset["hidden"], asset["tags"], asset["note"]) == (True, [], "print it")
    assert (await caller.ask("PATCH", path, json={"hidden": False}))[0] == 200


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("sort=colour", "sort"),
        ("order=up", "order"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("after=x", "after"),
        ("q=colour:red", "colour"),
        ("q=rating:many", "q"),
        ("q=" + "x" * 4035, "q"),
    ],
)
async def test_a_bad_parameter_is_named(caller: Caller, query: str, named: str) -> None:
    status, body = await caller.ask("GET", f"/cloud-sync/assets?{query}")
    assert status == 400
    assert named in body["message"]


@pytest.mark.parametrize(
    ("query", "beginning"), [("after=x", "after must be"), ("q=rating:after", 'q: "rating:after"')]
)
async def test_a_message_begins_with_the_name_of_the_wrong_parameter(
    caller: Caller, query: str, beginning: str
) -> None:
    _, body = await caller.ask("GET", f"/cloud-sync/assets?{query}")
    assert body["message"].startswith(beginning)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, "tags"),
        ({"colour": 1}, "colour"),
        ({"rating": 6}, "rating"),
        ({"rating": True}, "rating"),
        ({"favorite": 1}, "favorite"),
        ({"note": None}, "note"),
        ({"tags": "best"}, "tags"),
        ({"tags": [""]}, "tags"),
        ({"tags": ["x" * 101]}, "tags"),
    ],
)
async def test_a_bad_edit_is_named(caller: Caller, changes: dict[str, Any], named: str) -> None:
    status, body = await caller.ask("PATCH", await fox_path(caller), json=changes)
    assert status == 400
    assert named in body["message"]


async def test_a_query_of_the_longest_kind_fits_into_an_url(caller: Caller) -> None:
    """Each of these characters takes nine bytes there."""
    status, body = await caller.ask("GET", f"/cloud-sync/assets?q={'狐' * 4000}")
    assert (status, body["total"]) == (200, 0)


@pytest.mark.parametrize("identity", ["x", "00000000-0000-4000-8000-000000000000"])
@pytest.mark.parametrize("part", ["", "/content", "/thumbnail", "/workflow", "/prompt"])
async def test_an_unknown_asset_is_404(caller: Caller, identity: str, part: str) -> None:
    assert (await caller.ask("GET", f"/cloud-sync/assets/{identity}{part}"))[0] == 404


@pytest.mark.parametrize(("mode", "graphs"), [("full", 1), ("fields", 0)])
def test_what_the_catalog_keeps(tmp_path: Path, mode: str, graphs: int) -> None:
    root, store = tmp_path / "output", MemoryStore()
    with engine_on(root, store, tmp_path / "state", CLOUD_ARCHIVE_CATALOG=mode) as engine:
        wait_until(lambda: engine.status().running, "running")
        (root / FOX_NAME).write_bytes(FOX)
        wait_until(lambda: bool(search_assets(engine, '"red fox"')), "catalogued")
        identity = search_assets(engine, "fox")[0]["id"]
        assert engine.catalog().graphs(uuid.UUID(identity))[0] == graph("a red fox", 2**64 - 1)
        (path,) = tmp_path.rglob("catalog.sqlite3")
        assert os.name == "nt" or path.stat().st_mode & 0o077 == 0
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM graphs").fetchone() == (graphs,)
    db.close()


async def test_a_catalog_that_is_off_says_so(tmp_path: Path) -> None:
    with engine_on(
        tmp_path / "out", MemoryStore(), tmp_path / "state", CLOUD_ARCHIVE_CATALOG="off"
    ) as engine:
        engine.add_jobs([])
        async with listening(build_application(engine, token=TOKEN), TOKEN) as caller:
            status, body = await caller.ask("GET", "/cloud-sync/assets")
    assert (status, "CLOUD_ARCHIVE_CATALOG" in body["message"]) == (503, True)
    assert not list(tmp_path.rglob("catalog.sqlite3"))  # noqa: ASYNC240 - the test waits for nothing here


async def test_jobs_reach_the_catalog(caller: Caller, engine: Engine) -> None:
    job = {
        "job_id": "job-1",
        "client_id": "c",
        "finished_at": 4_000_000_000.0,
        "status": "success",
        "prompt": graph("what the job says", 3),
        "workflow": None,
        "outputs": [{"node": "9", "filename": FOX_NAME, "subfolder": "sub", "type": "output"}],
        "options": {},
    }
    # A clock far ahead: at the job's end the file is older than a day, so the catalog does not look for it again.
    status, _ = await caller.ask("POST", "/engine/jobs", json={"jobs": [job]})
    assert status == 200
    job |= {"finished_at": time.time(), "job_id": "job-2"}
    assert (await caller.ask("POST", "/engine/jobs", json={"jobs": [job]}))[0] == 200
    await asyncio.get_running_loop().run_in_executor(
        None, lambda: wait_until(lambda: bool(search_assets(engine, "job:job-2")), "read again")
    )
    assert search_assets(engine, "job:job-2")[0]["metadata"]["prompt"] == "what the job says"


@pytest.mark.parametrize(("gallery", "total"), [("all", 2), ("off", 1)])
async def test_a_search_has_other_machines_rows_read_unless_the_gallery_is_off(
    tmp_path: Path, gallery: str, total: int
) -> None:
    store = MemoryStore()
    row = {"op": "put", "clock": 1.0, "machine": "pod-2", "key": "out/other.png", "size": 1}
    name, _ = new_names("pod-2", time.time())
    store.add(f"out/.cloud-archive/v1/{name}", encode([row], machine="pod-2", now=1.0))
    environ = {"CLOUD_ARCHIVE_MACHINE_NAME": "pod-1", "CLOUD_ARCHIVE_GALLERY": gallery}
    with engine_on(tmp_path / "output", store, tmp_path / "state", **environ) as engine:
        wait_until(lambda: engine.status().running, "running")
        (tmp_path / "output" / FOX_NAME).write_bytes(FOX)
        wait_until(lambda: engine.status().archived_files == 1, "archived")
        async with listening(build_application(engine, token=TOKEN), TOKEN) as caller:
            body: Any = {}
            for _ in range(1200):  # the first search has the others' rows read
                _, body = await caller.ask("GET", "/cloud-sync/assets")
                if body["total"] == total:
                    break
                await asyncio.sleep(0.05)
            assert body["total"] == total
    listed = [key for operation, key in store.calls if operation == "ListObjectsV2"]
    assert bool([key for key in listed if ".cloud-archive/v1/" in key]) is (gallery != "off")
