"""`docs/examples/run_job.py`, unchanged, against the plugin in a small ComfyUI and a real engine."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import time
import types
import urllib.request
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from cloud_archive.comfyui.plugin import Plugin
from tests.functional.prompt_queue import outputs
from tests.functional.small_comfyui import SmallPromptServer
from tests.functional.waiting import engines, until
from tests.servers import S3Server

from .archives import Archive

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "run_job.py"
PICTURE = b"\x89PNG picture"
RUN_SECONDS = 300  # an engine that starts slowly on a busy machine is ended after 30 s, and after 60 s again


class Worker(SmallPromptServer):
    """A ComfyUI that takes prompts and runs each in a thread, as `main.py` does."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.handlers: list[Any] = []
        self.prompts: list[dict[str, Any]] = []

    def add_on_prompt_handler(self, handler: Any) -> None:
        self.handlers.append(handler)

    async def prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        for handler in self.handlers:
            body = handler(body)
        prompt_id = str(uuid.uuid4())
        self.prompts.append(body)
        self.prompt_queue.put(prompt_id)
        threading.Thread(target=self.run, args=(prompt_id, body)).start()
        return web.json_response({"prompt_id": prompt_id})

    def run(self, prompt_id: str, body: dict[str, Any]) -> None:
        began = time.time()
        self.prompt_queue.start(prompt_id)
        name = f"{prompt_id}.png"
        time.sleep(0.3)  # it computes
        (self.root / name).write_bytes(PICTURE + name.encode())
        self.prompt_queue.finish(
            prompt_id,
            outputs(name) | outputs("p.png", node="3", kind="temp"),
            extra=body.get("extra_data"),
            milliseconds=int(max(began, time.time()) * 1000),
        )


@pytest.fixture
async def worker(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Worker, str]]:
    archive = Archive(tmp_path, seaweedfs)
    for name, value in archive.environ.items():
        monkeypatch.setenv(name, value)
    folder_paths = types.ModuleType("folder_paths")
    folder_paths.get_output_directory = lambda: str(archive.root)  # type: ignore[attr-defined]
    folder_paths.get_user_directory = lambda: str(tmp_path / "user")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "folder_paths", folder_paths)
    monkeypatch.setattr("cloud_archive.comfyui.plugin.atexit.register", lambda _: None)
    comfy = Worker(archive.root)
    Plugin(comfy).install()
    comfy.add_routes()
    comfy.app.router.add_post("/prompt", comfy.prompt)
    async with TestClient(TestServer(comfy.app)) as client:
        yield comfy, str(client.make_url("")).rstrip("/")
    await until(lambda: not engines())


async def run_script(*arguments: str, environ: dict[str, str]) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        *arguments,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_script_of_the_page_runs_a_job_and_prints_links_that_work(
    worker: tuple[Worker, str], tmp_path: Path
) -> None:
    comfy, url = worker
    workflow = tmp_path / "workflow_api.json"
    workflow.write_text(json.dumps({"9": {"class_type": "SaveImage", "inputs": {}}}))
    status, out, err = await run_script(str(workflow), environ={"COMFYUI_URL": url})
    assert (status, err) == (0, "")
    job = json.loads(out)
    picture, preview = job["files"]
    assert (job["state"], picture["state"], preview["state"]) == ("complete", "archived", "not_archived")

    def read() -> bytes:
        with urllib.request.urlopen(picture["url"], timeout=60) as answer:
            return bytes(answer.read())

    assert (await asyncio.to_thread(read)).startswith(PICTURE)
    assert comfy.prompts[0]["extra_data"] == {"cloud_archive": {}}


async def wait_for_start(session: ClientSession) -> None:
    """Wait for the start as step 1 of the page does."""
    verified = False
    while not verified:
        async with session.get("/cloud-sync/status") as answer:
            verified = (await answer.json())["connection_verified"]


async def test_twenty_jobs_of_a_headless_client_each_get_their_own_answer(
    worker: tuple[Worker, str],
) -> None:
    _, url = worker
    async with ClientSession(url) as session:
        await wait_for_start(session)

        async def job() -> dict[str, Any]:
            async with session.post("/prompt", json={"prompt": {}}) as answer:
                prompt_id = (await answer.json())["prompt_id"]
            async with session.get(f"/cloud-sync/jobs/{prompt_id}?wait={RUN_SECONDS}") as answer:
                found: dict[str, Any] = await answer.json()
            assert found["job_id"] == prompt_id
            return found

        found = await asyncio.gather(*(job() for _ in range(20)))
    assert [one for one in found if one["state"] != "complete"] == []
    assert len({one["files"][0]["sha256"] for one in found}) == 20


def flush_of_the_page(url: str) -> str:
    """Return the command before `docker stop`: the part of the Docker variant that needs no Docker."""
    page = (SCRIPT.parents[1] / "api-workers.md").read_text("utf-8")
    (line,) = (line.strip() for line in page.splitlines() if line.startswith("    curl "))
    command, stop = line.split(" && ")
    (container,) = re.findall(r"docker run .*--name (\S+)", page)
    assert stop == f"docker stop {container}"
    return command.replace("http://127.0.0.1:8188", url)


async def run_shell(command: str) -> tuple[int | None, bytes]:
    process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    return process.returncode, out


async def test_the_flush_of_the_page_stops_no_container_that_is_not_safe_to_stop(
    worker: tuple[Worker, str],
) -> None:
    comfy, url = worker
    async with ClientSession(url) as session:
        await wait_for_start(session)
    with (comfy.root / "late.png").open("wb", buffering=0) as file:
        file.write(PICTURE[:-1])
        code, _ = await run_shell(flush_of_the_page(url).replace("3600", "1"))
    assert code


async def test_the_flush_of_the_page_answers_once_everything_is_in_the_bucket(
    worker: tuple[Worker, str],
) -> None:
    comfy, url = worker
    async with ClientSession(url) as session:
        await wait_for_start(session)
    (comfy.root / "late.png").write_bytes(PICTURE)
    code, out = await run_shell(flush_of_the_page(url))
    answer = json.loads(out)
    assert code == 0
    assert answer["success"], answer["message"]
    assert answer["status"]["safe_to_stop"]
    assert [upload["file_name"] for upload in answer["status"]["recent_uploads"]] == ["late.png"]
