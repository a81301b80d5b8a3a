"""The first request to a store: endpoint, credentials and bucket are right, or the cause is known."""

from __future__ import annotations

import pytest

from cloud_archive.errors import StoreError
from cloud_archive.store.failures import explain
from cloud_archive.store.probe import PROBE_BODY, probe_key, verify_connection
from tests.memory_store import MemoryStore


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("", ".cloud-archive/check"),
        ("out", "out/.cloud-archive/check"),
        ("out/{Y}-{m}", "out/.cloud-archive/check"),
        ("comfy-{Y}/x", ".cloud-archive/check"),
    ],
)
def test_the_object_of_probes_lies_in_the_reserved_folder(prefix: str, key: str) -> None:
    assert probe_key(prefix) == key


def test_no_such_object_is_a_good_answer_and_writes_nothing() -> None:
    store = MemoryStore()
    verify_connection(store)
    assert store.calls == [("GetObject", store.probe_key)]


def test_a_key_that_may_not_read_writes_the_object_instead() -> None:
    store = MemoryStore()

    def deny(operation: str, key: str) -> None:
        if operation == "GetObject":
            raise StoreError(operation, key, explain("AccessDenied"), status=403)

    store.on_call = deny
    verify_connection(store)
    assert store.objects[store.probe_key].body == PROBE_BODY


@pytest.mark.parametrize(
    ("code", "status"), [("SignatureDoesNotMatch", 403), ("NoSuchBucket", 404), ("SlowDown", 503)]
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
