"""Jobs over HTTP: waiting, links, and calls that are refused."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.api import jobs as api_jobs
from cloud_archive.archive.engine import Engine
from tests.functional.jobs import PROCESS, hold
from tests.memory_store import MemoryStore
from tests.servers import wait_until

from .callers import Caller
from .jobs import output, passed_job


async def test_waiting_ends_with_the_last_proof_and_holds_no_thread(
    caller: Caller, engine: Engine, root: Path, store: MemoryStore
) -> None:
    go = hold(store)
    names = [f"{number}.png" for number in range(60)]  # more than the server has threads for such calls
    for name in names:
        (root / name).write_bytes(name.encode())
    await asyncio.to_thread(engine.add_jobs, [passed_job(name, output(name)) for name in names])
    waits = [asyncio.create_task(caller.ask("GET", f"/cloud-sync/jobs/{name}?wait=300")) for name in names]
    done, _ = await asyncio.wait(waits, timeout=0.5)
    assert not done
    status, body = await caller.ask("GET", f"/cloud-sync/jobs/{names[0]}")
    assert (status, body["state"]) == (200, "uploading")
    go.set()
    # Long before their time is up.
    for status, body in await asyncio.wait_for(asyncio.gather(*waits), 60):
        assert (status, body["state"]) == (200, "complete")


async def test_an_answer_does_not_wait_for_what_is_noted_of_other_jobs(
    caller: Caller, engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a.png").write_bytes(b"1")
    await asyncio.to_thread(wait_until, lambda: engine.status().archived_files == 1, "archived")
    monkeypatch.setattr("cloud_archive.jobs.jobs.Jobs._refresh", lambda self, job_id: None)
    await asyncio.to_thread(engine.add_jobs, [], {"process": PROCESS, "running": ["j"], "queued": []})
    wait = asyncio.create_task(caller.ask("GET", "/cloud-sync/jobs/j?wait=300"))
    await asyncio.wait([wait], timeout=0.2)
    await asyncio.to_thread(engine.add_jobs, [passed_job("j", output("a.png"))])
    assert (await asyncio.wait_for(wait, 60))[1]["state"] == "complete"


async def test_waiting_for_a_job_that_is_only_announced_a_moment_later(
    caller: Caller, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_jobs, "UNKNOWN_SECONDS", 60.0)
    wait = asyncio.create_task(caller.ask("GET", "/cloud-sync/jobs/j?wait=60"))
    await asyncio.wait([wait], timeout=0.2)
    await asyncio.to_thread(engine.add_jobs, [], {"process": PROCESS, "running": [], "queued": ["j"]})
    await asyncio.to_thread(engine.add_jobs, [passed_job("j")])
    assert (await wait)[1]["state"] == "complete"


async def test_a_wait_for_an_unknown_job_and_a_wait_whose_time_is_up(
    caller: Caller, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_jobs, "UNKNOWN_SECONDS", 0.1)
    assert (await caller.ask("GET", "/cloud-sync/jobs/nobody?wait=19"))[1]["state"] == "unknown"
    await asyncio.to_thread(engine.add_jobs, [], {"process": PROCESS, "running": ["j"], "queued": []})
    assert (await caller.ask("GET", "/cloud-sync/jobs/j?wait=0.2"))[1]["state"] == "running"


async def test_a_wait_whose_time_is_up_answers_the_state_at_that_moment(
    caller: Caller, engine: Engine, root: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = hold(store)

    async def wait_in_vain(changed: asyncio.Event, deadline: float) -> bool:
        go.set()
        await asyncio.to_thread(wait_until, lambda: engine.status().archived_files == 1, "archived")
        return False

    monkeypatch.setattr(api_jobs, "_wait_for_change", wait_in_vain)
    (root / "a.png").write_bytes(b"1")
    await asyncio.to_thread(engine.add_jobs, [passed_job("j", output("a.png"))])
    assert (await caller.ask("GET", "/cloud-sync/jobs/j?wait=300"))[1]["state"] == "complete"


async def test_too_many_calls_that_wait_are_refused(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_jobs, "MAX_WAITING", 0)
    assert (await caller.ask("GET", "/cloud-sync/jobs/j?wait=1"))[0] == 503
    assert (await caller.ask("GET", "/cloud-sync/jobs/j"))[0] == 200


async def test_only_calls_that_wait_count_as_waiting(
    caller: Caller, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_jobs, "MAX_WAITING", 1)
    asked, go, job = threading.Event(), threading.Event(), engine.job

    def slow_job(job_id: str, **options: Any) -> dict[str, Any]:
        asked.set()
        go.wait(60)
        return job(job_id, **options)

    monkeypatch.setattr(engine, "job", slow_job)
    first = asyncio.create_task(caller.ask("GET", "/cloud-sync/jobs/j"))
    await asyncio.to_thread(asked.wait, 60)
    second = asyncio.create_task(caller.ask("GET", "/cloud-sync/jobs/j?wait=0.1"))
    await asyncio.wait([second], timeout=0.2)
    go.set()
    assert [(await call)[0] for call in (first, second)] == [200, 200]


async def test_links_come_only_when_they_are_asked_for(caller: Caller, engine: Engine, root: Path) -> None:
    (root / "a.png").write_bytes(b"1")
    await asyncio.to_thread(engine.add_jobs, [passed_job("j", output("a.png"), output("p.png", kind="temp"))])
    _, body = await caller.ask("GET", "/cloud-sync/jobs/j?wait=60")
    assert (body["state"], "url" in body["files"][0]) == ("complete", False)
    _, body = await caller.ask("GET", "/cloud-sync/jobs/j?urls=1")
    picture, preview = body["files"]
    assert "Signature" in picture["url"]
    assert picture["expires_at"] > time.strftime("%Y-%m-%d", time.gmtime())
    assert "url" not in preview
    async with caller.open(
        "GET", "/cloud-sync/jobs/j?urls=1", headers={"Sec-Fetch-Site": "cross-site"}
    ) as answer:
        assert answer.status == 403


@pytest.mark.parametrize(
    "path", ["x" * 201, "j?wait=-1", "j?wait=x", "j?wait=nan", "j?wait=4000", "j?urls=yes"]
)
async def test_a_bad_call_is_400(caller: Caller, path: str) -> None:
    async with caller.open("GET", f"/cloud-sync/jobs/{path}") as answer:
        assert answer.status == 400


async def test_an_id_may_be_any_text_that_a_client_chose(caller: Caller, engine: Engine) -> None:
    await asyncio.to_thread(engine.add_jobs, [passed_job("order 7/ä 100%")])
    status, body = await caller.ask("GET", "/cloud-sync/jobs/order%207%2F%C3%A4%20100%25?wait=60")
    assert (status, body["job_id"], body["state"]) == (200, "order 7/ä 100%", "complete")


@pytest.mark.parametrize(
    "queue",
    [
        [],
        {},
        {"process": 1, "running": [], "queued": []},
        {"process": "p", "running": [1], "queued": []},
        {"process": "p", "running": [], "queued": [""]},
        {"process": "p", "running": [], "queued": ["x"] * 1001},
    ],
)
async def test_a_queue_of_another_shape_is_refused(caller: Caller, queue: Any) -> None:
    assert (await caller.ask("POST", "/engine/jobs", json={"jobs": [], "queue": queue}))[0] == 400
