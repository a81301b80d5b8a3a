"""A real ComfyUI with the plugin, on the CPU.

It needs a ComfyUI and the Python that runs it, which no package index offers as one: COMFYUI_DIR names the folder of
`main.py`, COMFYUI_PYTHON its Python (default: this one). Without the first variable the tests are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloud_archive.demo.seaweedfs import free_ports
from tests.integration.archives import Archive
from tests.servers import S3Server, wait_until

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

    def wait(self, prompt_id: str) -> dict[str, Any]:
        """Wait until the job is complete or has failed; return its answer."""
        found: dict[str, Any] = self.ask(f"/cloud-sync/jobs/{prompt_id}?wait=300")
        return found

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
