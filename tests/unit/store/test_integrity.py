"""When a refusal is about the integrity header, and when it is about the name."""

from __future__ import annotations

import pytest

from cloud_archive.errors import FailureScope, ObjectExists, StoreError
from cloud_archive.store.failures import explain
from cloud_archive.store.integrity import blame_name, got_further, names_checksum, refuses_checksum


def error(code: str, status: int | None, message: str = "", key: str = "a.png") -> StoreError:
    return StoreError("PutObject", key, explain(code, status), status=status, store_message=message)


@pytest.mark.parametrize(
    ("refusal", "is_about_it"),
    [
        (error("InvalidArgument", 400, "Unsupported header 'x-amz-checksum-sha256'"), True),
        (error("InvalidRequest", 400, "Unknown checksum algorithm"), True),
        (error("SignatureDoesNotMatch", 403), True),
        (error("Unauthorized", 401), True),
        (error("NotImplemented", 501), True),
        (error("AccessDenied", 403), False),
        (error("NoSuchBucket", 404), False),
        (error("NotImplemented", 501, "If-None-Match is not supported"), False),
        (error("BadDigest", 400, "The x-amz-checksum-sha256 you sent does not match"), False),
        (error("InternalError", 500, "checksum header"), False),
        (error("ConnectionClosed", None), False),
    ],
    ids=lambda value: (
        f"{value.failure.code} {value.store_message}" if isinstance(value, StoreError) else str(value)
    ),
)
def test_a_refusal_of_the_sha256_header_is_recognised(refusal: StoreError, is_about_it: bool) -> None:
    assert refuses_checksum(refusal) is is_about_it


def test_a_wrong_checksum_is_no_refusal_of_the_header() -> None:
    assert names_checksum(error("InvalidRequest", 400, "Value for x-amz-checksum-sha256 header is invalid."))
    assert not names_checksum(error("BadDigest", 400, "x-amz-checksum-sha256 did not match"))


def test_with_content_md5_another_refusal_shows_that_the_header_was_the_first_ones_cause() -> None:
    first = error("InvalidArgument", 400)
    assert got_further(error("AccessDenied", 403), first)
    assert got_further(ObjectExists("PutObject", "a", explain("PreconditionFailed", 412), status=412), first)
    assert not got_further(error("InvalidArgument", 400), first)
    assert not got_further(error("ServiceUnavailable", 503), first)
    assert not got_further(error("ConnectionClosed", None), first)


@pytest.mark.parametrize(
    ("key", "is_odd"), [("50%.png", True), ("a\\b.png", True), ("a\x1fb", True), ("a b.png", False)]
)
def test_a_rejected_signature_is_blamed_on_a_name_that_is_hard_to_sign(key: str, is_odd: bool) -> None:
    blamed = blame_name(error("SignatureDoesNotMatch", 403, "no", key))
    assert (blamed.failure.code == "NameNotSigned") is is_odd
    assert blamed.failure.scope is (FailureScope.FILE if is_odd else FailureScope.STORE)
    assert (blamed.status, blamed.store_message) == (403, "no")


def test_another_refusal_is_not_blamed_on_the_name() -> None:
    refusal = error("AccessDenied", 403, key="50%.png")
    assert blame_name(refusal) is refusal
