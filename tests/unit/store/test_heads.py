"""HEAD requests: the checksum header, and why one is refused."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from cloud_archive.errors import FailureScope, StoreError
from cloud_archive.store.base import Capabilities, CreateOnly, ObjectInfo
from cloud_archive.store.evidence import head_if_allowed
from cloud_archive.store.failures import HEAD_REFUSED, is_denied
from cloud_archive.store.heads import HeadRequests

from .endpoint import Reply
from .scripted_sdk import OK, ScriptedSdk, executor, refused

FOUND = OK | {"ContentLength": 3, "ETag": '"900150983cd24fb0d6963f7d28e17f72"', "Metadata": {}}


def heads(sdk: ScriptedSdk, known: Capabilities | None = None) -> HeadRequests:
    """Return HEAD requests over a scripted SDK; a listing is empty."""

    def listed(prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        sdk.calls.append(("list", {}))
        yield from ()

    return HeadRequests(executor(sdk, known=known), listed)


# The message of https://github.com/alangrainger/share-note/issues/63; B2's S3 API sends it with AccessDenied.
CLASS_B_CAP = "Cannot download file, download bandwidth or transaction (Class B) cap exceeded."


def test_an_object_is_described_and_a_missing_one_is_none() -> None:
    sdk = ScriptedSdk(FOUND, refused(404))
    requests = heads(sdk)
    info = requests.head("a.png")
    assert info is not None
    assert info.size_bytes == 3
    assert requests.head("b.png") is None
    assert sdk.calls[0][1]["ChecksumMode"] == "ENABLED"
    assert requests._requests.capabilities.can_head


@pytest.mark.parametrize("lost", ["ETag", "ContentLength"])
def test_an_answer_without_an_etag_or_a_length_is_no_s3(lost: str) -> None:
    answer = {name: value for name, value in FOUND.items() if name != lost}
    with pytest.raises(StoreError) as raised:
        heads(ScriptedSdk(answer)).head("a")
    assert raised.value.failure.code == "NotS3"


def test_a_store_that_refuses_the_checksum_header_is_asked_without_it_from_then_on() -> None:
    sdk = ScriptedSdk(refused(400), FOUND)
    requests = heads(sdk)
    assert requests.head("a") is not None
    assert requests.head("b") is not None
    assert ["ChecksumMode" in parameters for _, parameters in sdk.calls] == [True, False, False]


def test_the_header_is_not_asked_for_where_the_store_takes_md5_or_shows_none() -> None:
    for known in (Capabilities(checksum="md5"), Capabilities(echoes_checksum=False)):
        sdk = ScriptedSdk(FOUND)
        heads(sdk, known=known).head("a")
        assert "ChecksumMode" not in sdk.calls[0][1]


def test_other_errors_are_not_asked_about_again() -> None:
    sdk = ScriptedSdk(refused(503))
    with pytest.raises(StoreError):
        heads(sdk).head("a")
    assert len(sdk.calls) == 1


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (refused(403, "InvalidAccessKeyId"), "InvalidAccessKeyId"),
        (refused(403, "UserSuspended"), "UserSuspended"),
        (refused(403, "AccessDenied", CLASS_B_CAP), "CapExceeded"),
        (refused(403, "AccessDenied"), "403"),
        (refused(404, "NoSuchKey"), "403"),
        (OK | {"Body": io.BytesIO()}, "403"),
    ],
)
@pytest.mark.parametrize("accepted", [True, False])
def test_a_refusal_without_a_body_is_explained_by_a_get(told: Any, code: str, accepted: bool) -> None:
    sdk = ScriptedSdk(refused(403), refused(403), told)
    requests = heads(sdk)
    requests._requests.credentials_accepted = accepted
    with pytest.raises(StoreError) as raised:
        requests.head("a")
    assert raised.value.failure.code == code
    assert raised.value.operation == "HeadObject"
    assert is_denied(raised.value) is (code == "403")
    assert sdk.names == ["head_object", "head_object", "get_object"]


def test_no_cause_is_asked_for_once_a_get_was_denied() -> None:
    sdk = ScriptedSdk(refused(403), refused(403), refused(403, "AccessDenied"), refused(403))
    requests = heads(sdk)
    for _ in range(3):
        with pytest.raises(StoreError):
            requests.head("a")
    assert sdk.names.count("get_object") == 1


def test_keys_that_were_deleted_meanwhile_are_no_fault_of_this_name() -> None:
    sdk = ScriptedSdk(refused(404), refused(403), refused(403), refused(403, "InvalidAccessKeyId"))
    requests = heads(sdk)
    assert requests.head("a.png") is None
    with pytest.raises(StoreError) as raised:
        requests.head("b.png")
    assert (raised.value.failure.code, raised.value.failure.scope) == (
        "InvalidAccessKeyId",
        FailureScope.STORE,
    )


def test_credentials_that_are_not_accepted_are_no_fault_of_this_name() -> None:
    sdk = ScriptedSdk(refused(404), refused(401))
    requests = heads(sdk)
    assert requests.head("a.png") is None
    with pytest.raises(StoreError) as raised:
        requests.head("b.png")
    assert raised.value.failure.scope is FailureScope.STORE


def test_after_a_listing_told_the_region_a_bad_request_is_made_again() -> None:
    sdk = ScriptedSdk(refused(400), refused(400), FOUND)
    assert heads(sdk).head("a") is not None
    assert sdk.names == ["head_object", "head_object", "list", "head_object"]


def test_where_other_keys_may_be_looked_at_a_refusal_is_about_this_key() -> None:
    sdk = ScriptedSdk(refused(404), *[refused(403)] * 3, refused(404))
    requests = heads(sdk)
    requests._requests.credentials_accepted = True
    assert requests.head("a") is None
    with pytest.raises(StoreError) as raised:
        requests.head("odd#name")
    assert (raised.value.failure.code, raised.value.failure.scope) == (HEAD_REFUSED, FailureScope.FILE)


def test_the_key_beside_an_earlier_one_has_a_short_name() -> None:
    """A store may refuse names of more than 255 bytes."""
    sdk = ScriptedSdk(refused(404), refused(403))
    requests = heads(sdk)
    assert requests.head(f"out/{'é' * 125}.png") is None
    with pytest.raises(StoreError):
        requests.head("out/b.png")
    folder, _, name = sdk.calls[-1][1]["Key"].rpartition("/")
    assert (folder, len(name)) == ("out", 16)


def test_a_right_that_is_lost_is_no_fault_of_this_name() -> None:
    sdk = ScriptedSdk(refused(404), refused(403))
    requests = heads(sdk)
    assert requests.head("a.png") is None
    with pytest.raises(StoreError) as raised:
        requests.head("b.png")
    assert (raised.value.failure.code, raised.value.failure.scope) == (HEAD_REFUSED, FailureScope.STORE)
    assert "s3:GetObject" in raised.value.failure.cure


def test_a_right_that_was_granted_since_the_last_session_is_used(make: Any) -> None:
    found = Reply(headers={"ETag": '"e"', "Content-Type": "image/png"})
    store = make(found, known=Capabilities(CreateOnly.HONOURED, can_head=False))
    allowed, info = head_if_allowed(store, "a.png")
    assert allowed
    assert info is not None
    assert store.capabilities.can_head is True


def test_wrong_credentials_are_not_asked_about_a_second_time_without_the_header() -> None:
    sdk = ScriptedSdk(refused(401))
    with pytest.raises(StoreError):
        heads(sdk).head("a")
    assert sdk.names == ["head_object", "get_object"]


@pytest.mark.parametrize(("echoes", "believed"), [(True, True), (False, False), (None, False)])
def test_a_checksum_is_believed_only_of_a_store_that_computes_it(echoes: bool | None, believed: bool) -> None:
    answer = FOUND | {"ChecksumSHA256": "A" * 43 + "=", "ChecksumType": "FULL_OBJECT"}
    info = heads(ScriptedSdk(answer), known=Capabilities(echoes_checksum=echoes)).head("a")
    assert info is not None
    assert (info.checksum_sha256 is not None) is believed
