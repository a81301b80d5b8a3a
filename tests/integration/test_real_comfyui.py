"""Jobs of a real ComfyUI on the CPU, driven by a client without a websocket.

It needs a ComfyUI and the Python that runs it, which no package index offers as one: COMFYUI_DIR names the folder of
`main.py`, COMFYUI_PYTHON its Python (default: this one). Without the first variable the test is skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloud_archive.demo.seaweedfs import free_ports
from cloud_archive.state import LEDGER_NAME
from tests.servers import S3Server, wait_until

from .archives import Archive

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]

COMFYUI_DIR = os.environ.get("COMFYUI_DIR", "")
REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 180.0


class ComfyUI:
    """One process of ComfyUI with the plugin, in a base directory of its own."""

    def __init__(self, base: Path, environ: dict[str, str], *arguments: str) -> None:
        self.base = base
        self.arguments = arguments
        self.environ = environ
        (self.port,) = free_ports(1)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        python = os.environ.get("COMFYUI_PYTHON", sys.executable)
        arguments = ["--cpu", "--base-directory", str(self.base), "--port", str(self.port), *self.arguments]
        with (self.base / "comfyui.log").open("ab") as log:
            self.process = subprocess.Popen(
                [python, str(Path(COMFYUI_DIR) / "main.py"), "--disable-auto-launch", *arguments],
                env=self.environ,
                stdout=log,
                stderr=log,
            )
        wait_until(self.is_ready, "ComfyUI and the store are ready", START_SECONDS)

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.base / "comfyui.log").read_text()[-3000:]
        with contextlib.suppress(OSError):
            return bool(self.ask("/cloud-sync/status")["connection_verified"])
        return False

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=400) as answer:
            return json.load(answer)

    def queue(self, color: int, *, batch: int = 1, size: int = 64, name: str = "fox") -> str:
        graph = {
            "1": {
                "class_type": "EmptyImage",
                "inputs": {"width": size, "height": size, "batch_size": batch, "color": color},
            },
            "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": name}},
            "12": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        }
        options = {"cloud_archive": {"tags": ["client-a"], "bucket": "evil"}}
        return str(self.ask("/prompt", {"prompt": graph, "extra_data": options})["prompt_id"])

    def wait(self, prompt_id: str) -> tuple[dict[str, Any], float]:
        """Wait for the job; return its answer and the time of the answer."""
        return self.ask(f"/cloud-sync/jobs/{prompt_id}?wait=300"), time.time()

    def proven_at(self, key: str) -> float:
        """Return when the proof of this object was committed."""
        (ledger,) = self.base.rglob(LEDGER_NAME)
        with contextlib.closing(sqlite3.connect(ledger)) as db:
            return float(db.execute("SELECT archived_at FROM files WHERE key = ?", (key,)).fetchone()[0])

    def engine(self) -> psutil.Process:
        assert self.process is not None
        return next(
            child
            for child in psutil.Process(self.process.pid).children()
            if "engine" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE
        )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running_comfyui(tmp_path: Path, seaweedfs: S3Server, *arguments: str) -> Iterator[ComfyUI]:
    if not COMFYUI_DIR:
        pytest.skip("COMFYUI_DIR names no ComfyUI")
    archive = Archive(tmp_path, seaweedfs)
    base = tmp_path / "comfyui"
    (base / "custom_nodes").mkdir(parents=True)
    (base / "custom_nodes" / "cloud-archive").symlink_to(REPOSITORY)
    running = ComfyUI(base, os.environ | archive.environ, *arguments)
    running.start()
    try:
        yield running
    finally:
        with contextlib.suppress(StopIteration):
            running.engine().kill()
        running.kill()


@pytest.fixture
def comfyui(tmp_path: Path, seaweedfs: S3Server) -> Iterator[ComfyUI]:
    with running_comfyui(tmp_path, seaweedfs) as running:
        yield running


def proofs(job: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(file["name"], file["state"], str(file["sha256"])) for file in job["files"]]


def test_jobs_of_a_headless_client(comfyui: ComfyUI, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [comfyui.queue(color) for color in range(20)]
    with ThreadPoolExecutor(20) as threads:
        answers = dict(zip(ids, threads.map(comfyui.wait, ids), strict=True))
    ended = {
        name: entry["status"]["messages"][-1][1]["timestamp"] / 1000
        for name, entry in comfyui.ask("/history").items()
    }
    late = []
    for prompt_id, (job, at) in answers.items():
        picture, preview = sorted(job["files"], key=lambda file: str(file["node"]), reverse=True)
        assert (job["state"], picture["state"], preview["state"]) == ("complete", "archived", "not_archived")
        assert (picture["node"], preview["node"]) == ("9", "12")
        assert len(job["errors"]) == 1, "the unknown option is named"
        assert "cloud_archive.bucket" in job["errors"][0]
        late.append(at - max(comfyui.proven_at(picture["key"]), ended[prompt_id]))
    assert (
        len({file["sha256"] for job, _ in answers.values() for file in job["files"] if file["sha256"]}) == 20
    )
    with capsys.disabled():
        print(
            f"\nanswered {max(late):.2f} s after proof and end at the latest, {sorted(late)[10]:.2f} s in the median;"
            f" load {os.getloadavg()[0]:.1f}"
        )

    # Cached: ComfyUI writes nothing new.
    again, _ = comfyui.wait(comfyui.queue(19))
    assert (again["state"], {file.get("cached") for file in again["files"]}) == ("complete", {True})

    # The engine is killed in the middle.
    more = [comfyui.queue(100 + number, batch=4, size=512) for number in range(5)]
    with ThreadPoolExecutor(5) as threads:
        waiting = [threads.submit(comfyui.wait, prompt_id) for prompt_id in more]
        comfyui.engine().kill()
        for future in waiting:
            job, _ = future.result()
            assert (job["state"], len(job["files"])) == ("complete", 8)
    before = {prompt_id: proofs(comfyui.wait(prompt_id)[0]) for prompt_id in [*ids, *more]}

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
    assert {prompt_id: proofs(comfyui.wait(prompt_id)[0]) for prompt_id in before} == before


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
        job, _ = comfyui.wait(prompt_id)
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
