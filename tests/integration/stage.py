"""Where the examples of the pages run: a running archive, and a current directory as a reader has it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud_archive.archive.engine import Engine
from cloud_archive.cli.app import main
from cloud_archive.daemon.service import PublicAddress, Service
from tests.filled import wait_until_filled
from tests.functional.jobs import output, passed_job
from tests.integration.archives import HOUR, Archive
from tests.servers import S3Server, wait_until
from tests.unit.catalog.cataloguing import png

LOGS = "/var/log/"  # as the pages say; only root may write there


class Stage:
    """A running archive with its dashboard, the current directory of a reader, and the settings of both."""

    def __init__(self, base: Path, server: S3Server) -> None:
        self.base = base
        self.archive = Archive(base, server)
        self.server = server
        self.here = base / "here"
        self.here.mkdir()
        for name, age in (("a.png", 200), ("b.png", 30), ("video/c.mp4", 200), ("young.png", 0)):
            body = png("a fox") if name == "a.png" else None
            self.archive.write(name, body, age_seconds=age * HOUR)
        self.archive.archive_all()
        self.environ = self.archive.environ | {
            "COMFYUI_OUTPUT_DIR": str(self.archive.root),
            "CLOUD_ARCHIVE_STATE_DIR": str(self.archive.state),
        }
        for name in ("FILE", "FILE1", "FILE2", "FILE3", "TOKEN"):
            (self.here / name).write_bytes(name.encode())
        self.port = 0
        self.ran: dict[str, tuple[int, str, str]] = {}

    def words(self, line: str, **instead: str) -> str:
        """Return the line with values in place of its placeholders."""
        line = line.removesuffix("&").strip().replace('"$COMFYUI_OUTPUT_DIR"', "DIR")
        line = line.replace("--token-file F", f"--token-file {self.here}/TOKEN")
        line = re.sub(r"(?:HOST|[\d.]+):(?:PORT|8\d+)", "127.0.0.1:0", line.replace(LOGS, f"{self.here}/"))
        line = re.sub(r"(?<= )/\S*output(?= )", "DIR", line.replace("--to DIR", "--to elsewhere"))
        for word, value in (
            {
                "DIR": str(self.archive.root),
                "PATTERN…": "*.png",
                "FILE…": "FILE",
                "KEY": "a.png",
                "KEY…": "a.png",
                "fox_00001_.png": "a.png",
                "QUERY": "fox",
                "N": "2",
                "PROMPT_ID": "job-1",
                "TITLE": "Foxes",
                "SHARE…": "",
                "SECONDS": "2",
            }
            | instead
        ).items():
            line = f" {line} ".replace(f" {word} ", f" {value} ").strip()
        return line

    @contextmanager
    def running(self, *, has_job: bool = True) -> Iterator[Stage]:
        """Run the archive as `watch --serve` does.

        Args:
            has_job: wait until the catalog has the fox, then record a job that made it.
        """
        listening = threading.Event()
        found: list[Service] = []
        engine = Engine(
            self.archive.root, state_base=self.archive.state, environ=self.environ, backfill="all"
        )

        async def serve() -> None:
            service = Service(
                engine, token="t", public=PublicAddress("127.0.0.1", 0), grace_seconds=5.0, autostart=True
            )
            found.append(service)

            def ready(_: int, port: int | None) -> None:
                self.port = port or 0
                listening.set()

            await service.run(ready)

        thread = threading.Thread(target=lambda: asyncio.run(serve()), name="stage")
        thread.start()
        try:
            assert listening.wait(60)
            wait_until(lambda: engine.status().state.value == "idle", "the archive runs")
            wait_until(lambda: engine.status().safe_to_stop, "doubtful files are compared")
            if has_job:
                # The file is read before its job is known, since the job's graph would win.
                wait_until(lambda: bool(_search(engine, "fox")), "the catalog knows the fox")
                engine.add_jobs([passed_job("job-1", output("a.png"))])
            wait_until_filled(engine)
            yield self
        finally:
            found[0].stop()
            thread.join(60)

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Make an HTTP call as a page writes it; return (status, text)."""
        status, found = self.call_bytes(method, path, body)
        return status, found.decode()

    def call_bytes(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """As `call`, but return bytes."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={} if body is None else {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                # A stream of events has no end.
                endless = "event-stream" in answer.headers["Content-Type"]
                return answer.status, answer.read1(2000) if endless else answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


def _search(engine: Engine, query: str) -> list[dict[str, Any]]:
    return engine.catalog().search(query, "created_at", "desc", 10, None).assets


def run_watch(arguments: list[str], root: Path, while_it_runs: Callable[[], None]) -> int:
    """Run `watch` on this thread until `while_it_runs` returned and SIGTERM came. Returns the exit status."""
    from cloud_archive.api.client import running_engine

    trouble: list[BaseException] = []
    over = threading.Event()
    before = signal.getsignal(signal.SIGTERM)

    def conduct() -> None:
        try:
            wait_until(lambda: over.is_set() or _is_idle(running_engine(root, os.environ)), "the daemon runs")
            if not over.is_set():
                while_it_runs()
        except BaseException as error:
            trouble.append(error)
        finally:
            if not over.is_set() and signal.getsignal(signal.SIGTERM) is not before:
                main_thread = threading.main_thread().ident
                assert main_thread is not None
                signal.pthread_kill(main_thread, signal.SIGTERM)

    conductor = threading.Thread(target=conduct, name="conductor")
    conductor.start()
    try:
        return main(arguments)
    finally:
        over.set()
        conductor.join(60)
        if trouble:
            raise trouble[0]


def _is_idle(engine: Any) -> bool:
    return engine is not None and engine.status()["state"] == "idle"
