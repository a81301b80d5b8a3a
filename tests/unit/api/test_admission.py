"""Which requests a listener answers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from cloud_archive.api.admission import bearer_check, host_check
from cloud_archive.api.dashboard import PAGE_ROUTES
from cloud_archive.errors import RequestRefused


def request(*, route: str = "status", **headers: str) -> web.Request:
    match = SimpleNamespace(route=SimpleNamespace(name=route))
    return cast(web.Request, SimpleNamespace(headers=headers, match_info=match))


def admits(check: Callable[[web.Request], None], call: web.Request) -> bool:
    try:
        check(call)
    except (RequestRefused, web.HTTPUnauthorized):
        return False
    return True


@pytest.mark.parametrize(
    ("given", "admitted"),
    [
        ("Bearer secret", True),
        ("bearer secret", True),
        ("Bearer Secret", False),
        ("Basic secret", False),
        ("Bearer", False),
        ("secret", False),
        ("", False),
        ("Bearer \udcff", False),
    ],
)
def test_a_listener_with_a_token_wants_it_in_each_call(given: str, admitted: bool) -> None:
    assert admits(bearer_check("secret"), request(Authorization=given)) is admitted


def test_the_pages_own_files_need_no_token() -> None:
    assert all(admits(bearer_check("secret"), request(route=name)) for name in PAGE_ROUTES)


@pytest.mark.parametrize(
    ("allowed", "host", "admitted"),
    [
        ("127.0.0.1", "127.0.0.1:8189", True),
        ("127.0.0.1", "localhost:8189", True),
        ("127.0.0.1", "[::1]:8189", True),
        ("127.0.0.1", "evil.example:8189", False),
        ("127.0.0.1", "192.168.1.5:8189", False),
        ("127.0.0.1", "", False),
        ("pod.example", "POD.example", True),
        ("0.0.0.0", "192.168.1.5:8189", True),
        ("0.0.0.0", "evil.example", False),
        ("::", "[fd00::5]:8189", True),
    ],
)
def test_only_addresses_and_the_name_of_serve_are_answered(allowed: str, host: str, admitted: bool) -> None:
    """A name of somebody else may point at this machine; an address can't."""
    headers: dict[str, Any] = {"Host": host}
    assert admits(host_check([allowed]), request(**headers)) is admitted
