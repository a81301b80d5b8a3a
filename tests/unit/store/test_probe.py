"""The first request to a store: endpoint, credentials and bucket are right, or the cause is known."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_archive.errors import StoreError
from cloud_archive.store.base import Capabilities, CreateOnly
from cloud_archive.store.failures import explain
from cloud_archive.store.probe import PROBE_BODY, probe_key, probe_with_known_object, verify_connection
from tests.memory_store import MemoryStore
from tests.unit.store.endpoint import OK, Endpoint, Reply, Seen, refusal


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("", ".cloud-archive/check"),
        ("out", "out/.cloud-archive/check"),
        ("out/{Y}-{m}", "out/.cloud-archive/check"),
        ("comfy-{Y}/x", ".cloud-archive/check"),
        ("a/b{session_id}", "a/.cloud-archive/check"),
        ("/a//b/", "a/b/.cloud-archive/check"),
    ],
)
def test_the_object_of_probes_lies_in_the_reserved_folder(prefix: str, key: str) -> None:
    assert probe_key(prefix) == key


def test_no_such_object_is_a_good_answer_and_writes_nothing() -> None:
    store = MemoryStore()
    assert not verify_connection(store)
    assert store.calls == [("GetObject", store.probe_key)]


@pytest.mark.parametrize("body", [PROBE_BODY, PROBE_BODY + b"!", b"something else"])
def test_the_object_of_checks_is_recognised_by_its_bytes(body: bytes) -> None:
    store = MemoryStore()
    store.add_foreign(store.probe_key, body)
    assert verify_connection(store) is (body == PROBE_BODY)
    assert store.calls == [("GetObject", store.probe_key)]


@pytest.mark.parametrize("known", [CreateOnly.HONOURED, CreateOnly.IGNORED, CreateOnly.REJECTED])
def test_what_is_known_is_not_probed(known: CreateOnly) -> None:
    store = MemoryStore(capabilities=Capabilities(create_only=known))
    probe_with_known_object(store)
    assert store.calls == []


@pytest.mark.parametrize(
    ("code", "status"), [("AccessDenied", 403), ("Forbidden", 403), ("Unauthorized", 401)]
)
def test_a_key_that_may_not_read_writes_the_object_instead(
    endpoint: Endpoint, make: Any, code: str, status: int
) -> None:
    def answer(seen: Seen) -> Reply:
        return OK if seen.method == "PUT" else refusal(status, code)

    store = make(answer)
    verify_connection(store)
    assert (endpoint.seen[-1].method, endpoint.seen[-1].body) == ("PUT", PROBE_BODY)


@pytest.mark.parametrize(
    ("code", "status"),
    [("SignatureDoesNotMatch", 403), ("NotSignedUp", 403), ("NoSuchBucket", 404), ("SlowDown", 503)],
)
def test_every_other_refusal_is_raised(code: str, status: int) -> None:
    store = MemoryStore()

    def refuse(operation: str, key: str) -> None:
        raise StoreError(operation, key, explain(code), status=status)

    store.on_call = refuse
    with pytest.raises(StoreError) as raised:
        verify_connection(store)
    assert raised.value.failure.code == code
    assert [operation for operation, _ in store.calls] == ["GetObject"], "writing would prove nothing more"
