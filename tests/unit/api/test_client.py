"""`LocalEngine` against a real server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.api.client import LocalEngine
from cloud_archive.api.server import build_application, serve
from cloud_archive.errors import EngineUnavailable, RequestRefused
from cloud_archive.state import EngineInfo
from tests.functional.fake_engine import FakeEngine, FakeStatus


class BusyEngine(FakeEngine):
    """One that refuses to say its status, and lists its first file only."""

    def files(self, state: str | None, query: str, limit: int, cursor: str | None) -> Any:
        if cursor is None:
            return [{"path": "a.png"}], "1"
        raise RequestRefused(503, "Too many calls of this kind wait already.")

    def status(self, scan: bool = True, *, heartbeat: bool = False) -> FakeStatus:
        raise RequestRefused(503, "Too many calls of this kind wait already.")


async def test_a_refused_call_is_no_status(tmp_path: Path) -> None:
    listener = await serve(build_application(BusyEngine().facade, token="t" * 43))
    try:
        info = EngineInfo(os.getpid(), listener.port, "t" * 43, str(tmp_path), "0")
        with pytest.raises(EngineUnavailable, match="Too many calls"):
            await asyncio.to_thread(LocalEngine(info).status)
    finally:
        await listener.close()


async def test_a_listing_that_breaks_off_is_not_taken_for_a_complete_one(tmp_path: Path) -> None:
    listener = await serve(build_application(BusyEngine().facade, token="t" * 43))
    try:
        info = EngineInfo(os.getpid(), listener.port, "t" * 43, str(tmp_path), "0")
        with pytest.raises(RequestRefused, match="Too many calls"):
            await asyncio.to_thread(list, LocalEngine(info).files("archived"))
    finally:
        await listener.close()
