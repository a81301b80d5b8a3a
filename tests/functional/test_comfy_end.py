"""How the plugin ends with a small ComfyUI."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cloud_archive.comfyui.engine_client import EngineClient, Timing
from cloud_archive.comfyui.plugin import Plugin

from .small_comfyui import SmallPromptServer
from .waiting import engines, until

SCRIPT = Path(__file__).parent / "fake_engine_process.py"


def interrupted_comfyui(base: Path) -> asyncio.AbstractEventLoop:
    """Run a server with the plugin until Ctrl-C, once its engine has answered. Returns its event loop, still open."""
    loop = asyncio.new_event_loop()

    async def comfyui() -> None:
        prompt_server = SmallPromptServer()
        client = EngineClient(base, None, on_status=lambda _: None, timing=Timing(ready=60, patience=60))
        Plugin(prompt_server, client=client).install()
        prompt_server.add_routes()
        runner = web.AppRunner(prompt_server.app)
        await runner.setup()
        await client.call("GET", "/cloud-sync/status", timeout_seconds=60)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(comfyui())
    return loop


def test_after_ctrl_c_the_engine_ends_and_nothing_complains(
    at_exit: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    command = [sys.executable, str(SCRIPT), "normal", str(tmp_path / "journal")]
    monkeypatch.setattr("cloud_archive.comfyui.engine_client.engine_command", lambda: command)
    loop = interrupted_comfyui(tmp_path)
    assert engines()
    at_exit[0]()
    assert not asyncio.all_tasks(loop)
    loop.run_until_complete(until(lambda: not engines()))
    loop.close()
    assert json.loads((tmp_path / "journal").read_text().splitlines()[-1]) == {"end": True}
    assert caplog.records == []


def test_ctrl_c_with_files_that_are_not_archived_prints_one_line(
    at_exit: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cloud_archive.comfyui.plugin.LAST_STATUS_SECONDS", 60.0)
    command = [sys.executable, str(SCRIPT), "pending", str(tmp_path / "journal")]
    monkeypatch.setattr("cloud_archive.comfyui.engine_client.engine_command", lambda: command)
    loop = interrupted_comfyui(tmp_path)
    at_exit[0]()
    loop.run_until_complete(until(lambda: not engines()))
    loop.close()
    (record,) = caplog.records
    assert record.getMessage().startswith("Cloud Archive: 2 files (30 B) are not archived yet.")
