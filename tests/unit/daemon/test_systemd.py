"""The messages to systemd, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_archive.archive.status import State, Status
from cloud_archive.daemon.systemd import notify, notify_systemd, watchdog_seconds
from cloud_archive.errors import CloudArchiveError
from tests.servers import wait_until

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd is not here")


class FakeEngine:
    """An engine whose state the test sets."""

    def __init__(self) -> None:
        self.started = False
        self.broken = False
        self.asked = 0  # how often its status was asked for

    async def wait_for_a_round(self) -> None:
        """Return once the status was asked for, and what follows it was sent."""
        end = self.asked + 2  # the next one may have begun before; the second one begins after it
        await asyncio.to_thread(wait_until, lambda: self.asked >= end, "another status")

    def status(self, scan: bool = True) -> Status:
        self.asked += 1
        assert not scan, "a ping must not scan the directory"
        if self.broken:
            raise CloudArchiveError("The ledger is gone.")
        return Status(self.started, "s", State.STARTING)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.settimeout(60)
        yield listening


def receive(systemd: socket.socket) -> str:
    return systemd.recv(1000).decode()


def received(systemd: socket.socket) -> list[str]:
    """Return the messages that have arrived, without waiting."""
    found = []
    systemd.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(receive(systemd))
    systemd.settimeout(60)
    return found


def environ_of(systemd: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": systemd.getsockname(), **more}


def test_a_message_arrives(systemd: socket.socket) -> None:
    assert notify("STOPPING=1", environ_of(systemd))
    assert receive(systemd) == "STOPPING=1"


@pytest.mark.parametrize("address", ["", "relative", "/no/such/socket"])
def test_without_systemd_nothing_happens(address: str) -> None:
    assert not notify("READY=1", {"NOTIFY_SOCKET": address} if address else {})


def test_the_watchdog_counts_if_it_is_meant_for_this_process() -> None:
    assert watchdog_seconds({}) is None
    assert watchdog_seconds({"WATCHDOG_USEC": "60000000"}) == 60.0
    assert watchdog_seconds({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}) == 60.0
    assert watchdog_seconds({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_seconds({"WATCHDOG_USEC": "soon"}) is None


async def test_ready_comes_with_the_start_and_pings_only_while_the_engine_answers(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.daemon.systemd.START_POLL_SECONDS", 0.05)
    engine = FakeEngine()
    async with notify_systemd(engine, environ_of(systemd, WATCHDOG_USEC="100000")):
        await engine.wait_for_a_round()
        assert received(systemd) == []
        engine.started = True
        assert await asyncio.to_thread(receive, systemd) == "READY=1"
        assert await asyncio.to_thread(receive, systemd) == "WATCHDOG=1"
        assert await asyncio.to_thread(receive, systemd) == "WATCHDOG=1"
        engine.broken = True
        await engine.wait_for_a_round()
        assert set(received(systemd)) <= {"WATCHDOG=1"}, "sent before"
        await engine.wait_for_a_round()
        assert received(systemd) == []
