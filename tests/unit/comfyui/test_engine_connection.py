"""One engine process as the event loop sees it; the process is a small Python program."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from cloud_archive.comfyui.engine_connection import EngineConnection

READY = "import sys; sys.stdin.readline(); print('{\"port\": 4711}', flush=True); sys.stdin.read()"
MUTE = "import sys; sys.stdin.read()"


def command(program: str) -> list[str]:
    return [sys.executable, "-I", "-c", program]


async def test_it_is_ready_with_a_port_and_ends_when_it_is_released(tmp_path: Path) -> None:
    connection = EngineConnection(command(READY), tmp_path, None)
    await connection.start(60)
    assert connection.port == 4711
    assert not connection.ended.done()
    connection.process.release()
    cause = await asyncio.wait_for(connection.ended, 60)
    assert cause.startswith("The engine ended with exit status 0.")


async def test_a_process_that_is_never_ready_is_ended_with_the_cause(tmp_path: Path) -> None:
    connection = EngineConnection(command(MUTE), tmp_path, None)
    await connection.start(0.3)
    assert connection.port == 0
    assert await asyncio.wait_for(connection.ended, 60) == (
        "The engine did not answer within 0.3 s of its start."
    )


async def test_a_command_that_cannot_be_started_ends_at_once(tmp_path: Path) -> None:
    connection = EngineConnection([str(tmp_path / "no python")], tmp_path, None)
    await connection.start(60)
    assert connection.port == 0
    assert connection.ended.result().startswith("The engine can't be started: ")


async def test_each_process_has_a_token_of_its_own(tmp_path: Path) -> None:
    tokens = {EngineConnection(command(MUTE), tmp_path, None).token for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) >= 43 for token in tokens)
