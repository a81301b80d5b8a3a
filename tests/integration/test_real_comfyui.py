"""Jobs of a real ComfyUI on the CPU, driven by a client without a websocket.

They are skipped unless COMFYUI_DIR is set: see `real_comfyui`.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.servers import S3Server, wait_until

from .real_comfyui import ComfyUI, running_comfyui

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]


@pytest.fixture
def comfyui(tmp_path: Path, seaweedfs: S3Server) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path, seaweedfs) as running:
        yield running


def proofs(job: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(file["name"], file["state"], str(file["sha256"])) for file in job["files"]]


def test_jobs_of_a_headless_client(comfyui: ComfyUI) -> None:
    ids = [comfyui.queue(color) for color in range(20)]
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(comfyui.wait, ids))
    for job in answers:
        picture, preview = sorted(job["files"], key=lambda file: str(file["node"]), reverse=True)
        assert (job["state"], picture["state"], preview["state"]) == ("complete", "archived", "not_archived")
        assert (picture["node"], preview["node"]) == ("9", "12")
        assert len(job["errors"]) == 1, "the unknown option is named"
        assert "cloud_archive.bucket" in job["errors"][0]
    assert len({file["sha256"] for job in answers for file in job["files"] if file["sha256"]}) == 20

    # Cached: ComfyUI writes nothing new.
    again = comfyui.wait(comfyui.queue(19))
    assert (again["state"], {file.get("cached") for file in again["files"]}) == ("complete", {True})

    # The engine is killed in the middle.
    more = [comfyui.queue(100 + number, batch=4, size=512) for number in range(5)]
    with ThreadPoolExecutor(5) as threads:
        waiting = [threads.submit(comfyui.wait, prompt_id) for prompt_id in more]
        comfyui.engine().kill()
        for future in waiting:
            job = future.result()
            assert (job["state"], len(job["files"])) == ("complete", 8)
    before = {prompt_id: proofs(comfyui.wait(prompt_id)) for prompt_id in [*ids, *more]}

    # ComfyUI is killed while it computes.
    running = comfyui.queue(200, batch=400, size=512)
    queued = comfyui.queue(201)
    wait_until(lambda: comfyui.ask(f"/cloud-sync/jobs/{running}")["status"] == "running", "it runs")
    assert comfyui.ask(f"/cloud-sync/jobs/{queued}")["status"] == "queued"
    comfyui.kill()
    comfyui.start()
    wait_until(
        lambda: comfyui.ask(f"/cloud-sync/jobs/{running}")["state"] == "failed",
        "it is known to be cut off",
        90,
    )
    for prompt_id in (running, queued):
        assert comfyui.ask(f"/cloud-sync/jobs/{prompt_id}")["status"] == "interrupted"
    assert {prompt_id: proofs(comfyui.wait(prompt_id)) for prompt_id in before} == before


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_comfyuis_port_sends_events(comfyui: ComfyUI, prefix: str) -> None:
    def states(answer: Iterable[bytes]) -> Iterator[str]:
        return (json.loads(line[5:])["state"] for line in answer if line.startswith(b"data:"))

    url = f"http://127.0.0.1:{comfyui.port}{prefix}/cloud-sync/events"
    with urllib.request.urlopen(url, timeout=60) as answer:  # an event comes at least every 5 s
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert next(state for state in states(answer) if state in ("idle", "unavailable")) == "idle"
        comfyui.engine().kill()
        assert next(state for state in states(answer) if state != "idle") == "unavailable"
        assert next(state for state in states(answer) if state == "idle")
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=60) as answer:
        assert (answer.status, answer.read()) == (200, b"")


def test_a_job_describes_files_that_carry_nothing(tmp_path: Path, seaweedfs: S3Server) -> None:
    """A client without a websocket, and `--disable-metadata`: only ComfyUI's history knows how a file was made."""
    secret = "sk-" + "proj-Ab12Cd34Ef56Gh78Ij90"
    with running_comfyui(tmp_path, seaweedfs, "--disable-metadata") as comfyui:
        graph = {
            "1": {
                "class_type": "EmptyImage",
                "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 7},
            },
            "2": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": f"a lynx at dusk {secret}"}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "lynx"}},
        }
        workflow = {"nodes": [{"id": 2, "type": "PrimitiveStringMultiline", "widgets_values": ["a lynx"]}]}
        options = {"extra_pnginfo": {"workflow": workflow}, "cloud_archive": {"tags": ["headless"]}}
        prompt_id = str(comfyui.ask("/prompt", {"prompt": graph, "extra_data": options})["prompt_id"])
        job = comfyui.wait(prompt_id)
        assert (job["state"], [file["node"] for file in job["files"]]) == ("complete", ["9"])
        (written,) = (comfyui.base / "output").iterdir()
        assert b"tEXt" not in written.read_bytes()

        def found() -> list[dict[str, Any]]:
            return list(comfyui.ask("/cloud-sync/assets?q=%22a+lynx+at+dusk%22+tag:headless")["assets"])

        wait_until(lambda: any(one["has_prompt"] for one in found()), "the catalog has read the job", 90)
        (asset,) = found()
        assert (asset["name"], asset["job_id"], asset["width"], asset["height"]) == (
            written.name,
            prompt_id,
            64,
            32,
        )
        assert (asset["metadata"]["source"], asset["has_workflow"], asset["tags"]) == (
            "job",
            True,
            ["headless"],
        )
        kept = comfyui.ask(f"/cloud-sync/assets/{asset['id']}/prompt")
        assert kept["1"] == graph["1"]
        assert secret not in json.dumps(kept)
