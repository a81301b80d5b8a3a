"""Stores that refuse a checksum's header or a conditional write, and what is remembered of them."""

from __future__ import annotations

import base64
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import ConditionsRejected, ObjectExists, StoreError
from cloud_archive.store.base import Capabilities, CreateOnly
from cloud_archive.store.s3 import S3Store
from tests.unit.store.endpoint import BODY, MD5, OK, Endpoint, Reply, environ, put, refusal

# --- dialects


@pytest.mark.parametrize(
    "refused",
    [
        refusal(
            400, "InvalidArgument", "Unsupported header 'x-amz-checksum-sha256' received for this API call."
        ),
        refusal(501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
        refusal(403, "SignatureDoesNotMatch", "Invalid argument."),
        refusal(401, "Unauthorized", "Unauthorized"),
    ],
    ids=["b2", "501", "gcs", "r2"],
)
def test_a_store_that_refuses_the_sha256_header_gets_content_md5_in_the_same_call(
    endpoint: Endpoint, make_sdk_only: Any, refused: Reply
) -> None:
    store = make_sdk_only(refused, OK)
    assert put(store).proven
    first, second = endpoint.seen
    assert "x-amz-checksum-sha256" in first.headers
    assert "x-amz-checksum-sha256" not in second.headers
    assert base64.b64decode(second.headers["content-md5"]).hex() == MD5
    assert store.capabilities.checksum == "md5"
    put(store)
    assert "content-md5" in endpoint.seen[2].headers


def test_a_refusal_that_stays_with_content_md5_is_told_as_it_was_and_remembered_as_nothing(
    endpoint: Endpoint, make_sdk_only: Any
) -> None:
    store = make_sdk_only(
        refusal(403, "SignatureDoesNotMatch", "The request signature we calculated does not match")
    )
    with pytest.raises(StoreError, match="secret key does not belong"):
        put(store)
    assert len(endpoint.seen) == 2
    assert store.capabilities == Capabilities()


def test_once_a_sha256_was_accepted_a_bad_signature_is_not_taken_for_a_dialect(
    endpoint: Endpoint, make_sdk_only: Any
) -> None:
    store = make_sdk_only(OK, refusal(403, "SignatureDoesNotMatch"))
    put(store)
    with pytest.raises(StoreError):
        put(store)
    assert not [seen for seen in endpoint.seen if "content-md5" in seen.headers]


@pytest.mark.parametrize(("forced", "header"), [("sha256", "x-amz-checksum-sha256"), ("md5", "content-md5")])
def test_a_forced_checksum_is_kept_whatever_the_store_says(
    endpoint: Endpoint, make_sdk_only: Any, forced: str, header: str
) -> None:
    store = make_sdk_only(refusal(400, "InvalidArgument", "x-amz-checksum"), S3_CHECKSUM=forced)
    with pytest.raises(StoreError):
        put(store)
    assert len(endpoint.seen) == 1
    assert header in endpoint.seen[0].headers


# --- create-only


def test_a_taken_key_is_object_exists_and_proves_that_the_store_honours_it(make_sdk_only: Any) -> None:
    store = make_sdk_only(refusal(412, "PreconditionFailed"))
    with pytest.raises(ObjectExists):
        put(store, create_only=True)
    assert store.capabilities.create_only is CreateOnly.HONOURED


def test_a_412_to_a_write_that_was_not_create_only_is_no_taken_key(make_sdk_only: Any) -> None:
    with pytest.raises(StoreError) as raised:
        put(make_sdk_only(refusal(412, "PreconditionFailed")))
    assert not isinstance(raised.value, ObjectExists)


@pytest.mark.parametrize(
    "refused",
    [
        refusal(501, "NotImplemented", "not implemented", Header="If-None-Match"),
        refusal(400, "InvalidArgument", "Unsupported header 'If-None-Match'"),
    ],
)
def test_a_store_without_create_only_says_so_once_and_is_not_asked_again(
    endpoint: Endpoint, make_sdk_only: Any, refused: Reply
) -> None:
    store = make_sdk_only(refused, OK)
    with pytest.raises(ConditionsRejected):
        put(store, create_only=True)
    assert len(endpoint.seen) == 1
    assert store.capabilities.create_only is CreateOnly.REJECTED
    assert put(store, create_only=True).proven
    assert "if-none-match" not in endpoint.seen[1].headers


def test_a_501_that_names_nothing_is_about_conditions_only_when_md5_does_not_help(
    endpoint: Endpoint, make_sdk_only: Any
) -> None:
    store = make_sdk_only(refusal(501, "NotImplemented", "not implemented"))
    with pytest.raises(ConditionsRejected):
        put(store, create_only=True)
    assert ["content-md5" in seen.headers for seen in endpoint.seen] == [False, True]
    assert store.capabilities.checksum == "sha256"
    assert store.capabilities.create_only is CreateOnly.REJECTED


def test_a_probe_that_meets_trouble_leaves_unknown_and_never_raises(make_sdk_only: Any) -> None:
    for trouble in (refusal(403, "AccessDenied"), refusal(400, "Whatever"), Reply(close=True)):
        store = make_sdk_only(trouble)
        store._closed.set()  # no pause before the second try
        store.probe_create_only("k", BODY, content_type="text/plain", metadata={})
        store.probe_with_own_object()
        assert store.capabilities.create_only is CreateOnly.UNKNOWN
        assert store.capabilities.create_only_multipart is CreateOnly.UNKNOWN


def test_a_probe_that_is_denied_logs_nothing(make_sdk_only: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The archive probes again before each retry, so it would repeat the line."""
    caplog.set_level(logging.INFO, logger="cloud_archive")
    make_sdk_only(refusal(403, "AccessDenied")).probe_with_own_object()
    assert not caplog.records


def test_capabilities_are_announced_when_they_change_and_survive_json(endpoint: Endpoint) -> None:
    announced: list[Capabilities] = []
    store = S3Store(load_settings(environ(endpoint.url)), on_capabilities=announced.append)
    store.remember(create_only=CreateOnly.HONOURED, can_head=True)
    store.remember(can_head=True)
    assert announced == [Capabilities(create_only=CreateOnly.HONOURED, can_head=True)]
    assert Capabilities.from_json(announced[0].to_json()) == announced[0]


@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.integers(),
        lambda inner: st.dictionaries(
            st.sampled_from([*Capabilities().to_json(), "other"]), inner, max_size=7
        ),
    )
)
def test_any_remembered_json_gives_capabilities(found: object) -> None:
    assert isinstance(Capabilities.from_json(found), Capabilities)
