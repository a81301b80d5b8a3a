"""Archivers in front of a store that answers in a dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.quirks.batch import early_parts
from tests.quirks.machines import Machine
from tests.quirks.server import Profile, QuirkServer
from tests.servers import S3Server


@pytest.fixture
def machine(tmp_path: Path, seaweedfs: S3Server) -> Iterator[Callable[[Profile], Machine]]:
    servers: dict[Profile, QuirkServer] = {}
    machines: list[Machine] = []

    def make(profile: Profile) -> Machine:
        if profile not in servers:
            servers[profile] = QuirkServer(seaweedfs, profile).start()
        machines.append(Machine(tmp_path / f"machine{len(machines)}", seaweedfs, servers[profile]))
        return machines[-1]

    yield make
    for each in machines:
        each.store.close()
    for server in servers.values():
        server.stop()


@pytest.fixture
def steady_requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Upload small files in parts, and let no stall of the machine cause one request more."""
    monkeypatch.setattr("cloud_archive.store.fast_path.MAX_SECONDS", 60.0)
    with early_parts():
        yield
