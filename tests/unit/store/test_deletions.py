"""Deleting: many keys in one request, one by one where the store or a key does not allow that."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_archive.store.deletions import DELETE_AT_ONCE, delete_objects
from tests.unit.store.endpoint import Endpoint, Reply, Seen, refusal

from .scripted_sdk import OK, ScriptedSdk, executor, refused


def deleted(sdk: ScriptedSdk, *keys: str) -> dict[str, str | None]:
    """Delete keys; return each with its error's code, or None if it was deleted."""
    answers = delete_objects(executor(sdk), keys)
    return {key: None if error is None else error.failure.code for key, error in answers}


def test_one_key_needs_no_document() -> None:
    sdk = ScriptedSdk(OK)
    assert deleted(sdk, "a") == {"a": None}
    assert sdk.names == ["delete_object"]


def test_each_key_that_the_answer_names_has_its_own_reason() -> None:
    sdk = ScriptedSdk(OK | {"Errors": [{"Key": "b", "Code": "AccessDenied", "Message": "no"}]})
    assert deleted(sdk, "a", "b") == {"a": None, "b": "AccessDenied"}
    assert sdk.names == ["delete_objects"]


@pytest.mark.parametrize("unclear", [{"Code": "InternalError"}, {"Key": "other", "Code": "InternalError"}])
def test_an_error_without_a_key_of_the_request_may_concern_each_key(unclear: dict[str, str]) -> None:
    answer = OK | {"Errors": [{"Key": "b", "Code": "AccessDenied"}, unclear]}
    sdk = ScriptedSdk(answer, OK, refused(403, "AccessDenied"))
    assert deleted(sdk, "a", "b", "c") == {"a": None, "b": "AccessDenied", "c": "AccessDenied"}
    assert [parameters["Key"] for _, parameters in sdk.calls[1:]] == ["a", "c"]


def test_a_store_without_the_request_gets_one_for_each_key() -> None:
    sdk = ScriptedSdk(refused(501, "NotImplemented"), OK)
    assert deleted(sdk, "a", "b") == {"a": None, "b": None}
    assert sdk.names == ["delete_objects", "delete_object", "delete_object"]


@pytest.mark.parametrize("refusal", [refused(503, "SlowDown"), ConnectionError()])
def test_a_store_that_is_busy_or_away_is_not_asked_for_each_key(refusal: Exception) -> None:
    sdk = ScriptedSdk(refusal)
    found = deleted(sdk, "a", "b")
    assert all(code is not None for code in found.values())
    assert len(sdk.calls) == 1


def test_one_by_one_a_store_that_is_away_is_not_asked_for_the_keys_that_are_left() -> None:
    sdk = ScriptedSdk(refused(501, "NotImplemented"), OK, ConnectionError())
    assert deleted(sdk, "a", "b", "c", "d") == {"a": None} | dict.fromkeys("bcd", "ConnectionClosed")
    assert sdk.names == ["delete_objects", "delete_object", "delete_object"]


def test_a_key_that_xml_cannot_hold_goes_alone() -> None:
    sdk = ScriptedSdk(OK)
    assert deleted(sdk, "a", "b", "c\x01") == {"a": None, "b": None, "c\x01": None}
    assert sdk.names == ["delete_objects", "delete_object"]
    assert sdk.calls[1][1]["Key"] == "c\x01"


def test_one_by_one_a_missing_object_counts_as_deleted_and_a_refusal_does_not() -> None:
    assert deleted(ScriptedSdk(refused(404, "NoSuchKey")), "a") == {"a": None}
    assert deleted(ScriptedSdk(refused(403, "AccessDenied")), "a") == {"a": "AccessDenied"}


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "NoSuchBucket"])
def test_wrong_credentials_or_a_wrong_bucket_cost_one_request_more_not_one_for_each_key(code: str) -> None:
    sdk = ScriptedSdk(refused(403, code))
    assert deleted(sdk, "a", "b", "c") == dict.fromkeys("abc", code)
    assert sdk.names == ["delete_objects", "delete_object"]


def test_a_store_that_refuses_only_the_request_for_many_keys_deletes_each_key() -> None:
    sdk = ScriptedSdk(refused(403, "SignatureDoesNotMatch"), OK)
    assert deleted(sdk, "a", "b") == {"a": None, "b": None}
    assert sdk.names == ["delete_objects", "delete_object", "delete_object"]


def html(status: int, **headers: str) -> dict[str, Any]:
    return {
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {"content-type": "text/html"} | headers}
    }


def test_a_web_page_says_nothing_about_a_deletion() -> None:
    assert deleted(ScriptedSdk(html(200)), "a") == {"a": "NotS3"}
    assert deleted(ScriptedSdk(html(200)), "a", "b") == {"a": "NotS3", "b": "NotS3"}


def test_a_web_page_with_status_404_deletes_nothing() -> None:
    page = refused(404)
    page.response["ResponseMetadata"]["HTTPHeaders"]["content-type"] = "text/html"
    assert deleted(ScriptedSdk(page), "a") == {"a": "NotS3"}


def test_an_entry_about_a_missing_object_counts_as_deleted() -> None:
    sdk = ScriptedSdk(OK | {"Errors": [{"Key": "b", "Code": "NoSuchKey", "Message": "no"}]})
    assert deleted(sdk, "a", "b") == {"a": None, "b": None}


@pytest.mark.parametrize("empty", [html(204), html(200, **{"content-length": "0"})])
def test_an_empty_answer_is_no_web_page_whatever_its_type(empty: dict[str, Any]) -> None:
    assert deleted(ScriptedSdk(empty), "a") == {"a": None}


def test_many_keys_are_deleted_a_thousand_at_once(endpoint: Endpoint, make_sdk_only: Any) -> None:
    keys = [f"k{number}" for number in range(DELETE_AT_ONCE + 2)]
    gone = Reply(
        body=b"<DeleteResult><Error><Key>k7</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
    )
    found = dict(make_sdk_only(gone, Reply(body=b"<DeleteResult></DeleteResult>")).delete(keys))
    assert [key for key, error in found.items() if error is not None] == ["k7"]
    assert list(found) == keys
    assert [seen.body.count(b"<Key>") for seen in endpoint.seen] == [DELETE_AT_ONCE, 2]


def test_deleting_falls_back_to_one_by_one(make_sdk_only: Any) -> None:
    def reply(seen: Seen) -> Reply:
        if seen.method == "POST":
            return refusal(501, "NotImplemented")
        return refusal(403, "AccessDenied") if seen.path.endswith("/b") else Reply(204)

    found = dict(make_sdk_only(reply).delete(["a", "b", "c\x01"]))
    assert found["a"] is None
    assert found["c\x01"] is None
    assert found["b"] is not None
    assert found["b"].status == 403
