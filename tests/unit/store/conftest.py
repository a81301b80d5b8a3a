"""Fixtures: an endpoint that answers from a script, and stores that send their requests to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.store import aws_session, fast_path
from cloud_archive.store.base import Capabilities
from cloud_archive.store.s3 import S3Store
from tests.unit.store.endpoint import OK, Endpoint, Reply, Seen, environ


class MakeStore(Protocol):
    def __call__(
        self,
        *replies: Reply | Callable[[Seen], Reply],
        known: Capabilities | None = None,
        read_seconds: float = 60,
        **extra: str,
    ) -> S3Store:
        """Return a store whose requests get these replies, by default a proven write; `extra`: more variables."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    running = Endpoint()
    yield running
    running.stop()


@pytest.fixture(scope="module", autouse=True)
def _long_time_limits() -> Iterator[None]:
    """Let requests through libcurl, and the making of the SDK's client, outlast a machine that stalls for seconds."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fast_path, "MAX_SECONDS", 60.0)
        patched.setattr(aws_session, "MAKING_SECONDS", 60.0)
        yield


@pytest.fixture
def make(endpoint: Endpoint) -> Iterator[MakeStore]:
    made: list[S3Store] = []

    def build(
        *replies: Reply | Callable[[Seen], Reply],
        known: Capabilities | None = None,
        read_seconds: float = 60,
        **extra: str,
    ) -> S3Store:
        endpoint.replies = list(replies) or [OK]
        settings = load_settings(environ(endpoint.url, **extra))
        made.append(S3Store(settings, capabilities=known, read_seconds=read_seconds))
        return made[-1]

    yield build
    for store in made:
        store.close()


@pytest.fixture
def make_sdk_only(make: MakeStore) -> Callable[..., S3Store]:
    """As `make`, but every request goes by the SDK."""

    def build(*replies: Reply | Callable[[Seen], Reply], **options: Any) -> S3Store:
        store = make(*replies, **options)
        store.use_sdk_only()
        return store

    return build
