"""A name is looked up with a time limit."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from cloud_archive.maintenance import host_lookup


def test_an_address_resolves_to_itself() -> None:
    assert host_lookup.resolve("127.0.0.1", 80) == "127.0.0.1"


def test_a_name_that_does_not_exist_is_the_systems_error() -> None:
    with pytest.raises(socket.gaierror):
        host_lookup.resolve("nowhere.invalid", 80)


def test_a_resolver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def hang(*_: Any, **__: Any) -> list[Any]:
        go_on.wait(60)
        raise OSError("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(host_lookup, "RESOLVE_SECONDS", 0.05)
    try:
        with pytest.raises(socket.gaierror, match="no answer within"):
            host_lookup.resolve("slow.example", 80)
    finally:
        go_on.set()
