"""From the SDK's exceptions to a cause and a cure."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_archive.errors import ConditionsRejected, FailureScope, ObjectExists, StoreError
from cloud_archive.store.failure_table import TABLE
from cloud_archive.store.failures import is_denied
from cloud_archive.store.translate import clock_offset_seconds, redact_and_shorten, retry_after, translate

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT
SECRET = "planted+SECRET/0123456789abcdefghijklmnop"


class Refused(Exception):
    def __init__(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        self.response = {
            "Error": {"Code": code or str(status), "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
        }


def translated(
    error: Exception, operation: str = "PutObject", key: str | None = "k", **how: Any
) -> StoreError:
    return translate(error, operation, key, now=NOW, secrets=(SECRET,), **how)


def test_a_taken_key_and_an_unknown_condition_are_errors_of_their_own_only_where_asked_for() -> None:
    assert type(translated(Refused(412, "PreconditionFailed"), conditional=True)) is ObjectExists
    assert type(translated(Refused(412, "PreconditionFailed"))) is StoreError
    assert type(translated(Refused(501, "NotImplemented"), conditional=True)) is ConditionsRejected
    assert type(translated(Refused(501, "NotImplemented"))) is StoreError


def test_no_word_of_an_answer_shows_a_secret() -> None:
    error = translated(Refused(400, "InvalidRequest", f"what is {SECRET}?"))
    assert SECRET not in f"{error} {error.store_message} {error!r}"


def test_a_missing_bucket_is_told_from_a_missing_object() -> None:
    assert translated(Refused(404), "ListObjectsV2", None).failure.code == "NoSuchBucket"
    assert translated(Refused(404), "GetObject").failure.code != "NoSuchBucket"


def test_a_400_without_any_header_holds_all_files_back_until_the_endpoint_is_corrected() -> None:
    for operation in ("PutObject", "HeadObject"):
        failure = translated(Refused(400), operation).failure
        assert (failure.code, failure.scope, failure.transient) == ("NotS3", FailureScope.STORE, True)
    assert translated(Refused(400, date="Sun, 06 Nov 1994 08:49:37 GMT")).failure.code == "400"


@pytest.mark.parametrize(
    ("operation", "right"),
    [
        ("HeadObject", "s3:GetObject"),
        ("ListObjectsV2", "s3:ListBucket"),
        ("DeleteObjects", "s3:DeleteObject"),
    ],
)
@pytest.mark.parametrize("code", ["AccessDenied", "Forbidden", ""])
def test_a_denied_operation_names_the_right_that_it_needs(operation: str, right: str, code: str) -> None:
    failure = translated(Refused(403, code), operation).failure
    assert right in failure.cure
    assert "may not write" not in failure.cause


@pytest.mark.parametrize("operation", ["PutObject", "GetObject"])
def test_a_denied_encryption_key_is_told_from_a_denied_bucket(operation: str) -> None:
    """As AWS: https://repost.aws/knowledge-center/s3-access-denied-error-kms."""
    message = "User: arn:aws:iam::1:user/u is not authorized to perform: kms:GenerateDataKey on resource: arn"
    failure = translated(Refused(403, "AccessDenied", message), operation).failure
    assert failure.code == "AccessDenied"
    assert "encryption key" in failure.cause
    assert "kms:GenerateDataKey" in failure.cure


@pytest.mark.parametrize(
    ("status", "code", "message", "table_code"),
    [
        (403, "AccessDenied", "Transaction cap exceeded, see the Caps & Alerts page", "CapExceeded"),
        (400, "XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded", "QuotaExceeded"),
        (403, "InvalidSecurity", "The provided security credentials are not valid.", "InvalidAccessKeyId"),
        (403, "UserSuspended", "", "AccountProblem"),
        (403, "AccountNotActivated", "", "AccountProblem"),
        (403, "NotEntitled", "Please enable R2 through the Cloudflare Dashboard.", "AccountProblem"),
        (403, "UserDisable", "UserDisable", "AccountProblem"),
        (403, "InDebt", "Current user is indebted", "AccountProblem"),
        (403, "BucketDisable", "BucketDisable", "AllAccessDisabled"),
        (403, "InvalidSecurityToken", "The security token you provided is invalid", "InvalidToken"),
        (400, "KMS.KMSInvalidStateException", "is pending deletion.", "KMS.DisabledException"),
        (400, "InvalidArgument", "Credential access key has length 40, should be 32", "InvalidAccessKeyId"),
        (400, "ExpiredRequest", "", "RequestTimeTooSkewed"),
    ],
)
@pytest.mark.parametrize("operation", ["PutObject", "GetObject"])
def test_what_concerns_the_account_or_bucket_holds_all_files_back(
    status: int, code: str, message: str, table_code: str, operation: str
) -> None:
    error = translated(Refused(status, code, message), operation)
    known = TABLE[table_code]
    assert (error.failure.cause, error.failure.cure) == (known.cause, known.cure)
    assert error.failure.scope is FailureScope.STORE
    assert error.failure.transient is (table_code in ("CapExceeded", "QuotaExceeded"))
    assert not is_denied(error)


def test_a_proxy_that_refuses_a_large_body_holds_no_other_file_back() -> None:
    failure = translated(Refused(413, **{"content-type": "text/html"})).failure
    assert (failure.scope, failure.transient) == (FailureScope.FILE, False)
    assert "client_max_body_size" in failure.cure


def test_a_proxy_that_limits_the_rate_slows_uploads_down() -> None:
    """As Cloudflare: https://developers.cloudflare.com/rules/custom-errors/reference/error-page-types/."""
    failure = translated(Refused(429, **{"content-type": "text/html"})).failure
    assert (failure.transient, failure.throttled) == (True, True)
    assert "fewer requests" in failure.cause


@pytest.mark.parametrize("operation", ["PutObject", "ListObjectsV2"])
def test_credentials_that_are_not_accepted_lack_no_single_right(operation: str) -> None:
    failure = translated(Refused(401, "Unauthorized"), operation).failure
    assert "does not accept these credentials" in failure.cause
    assert "S3_ACCESS_KEY_ID" in failure.cure


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_a_wrong_clock_is_found_by_the_answers_date(ahead: int) -> None:
    dates = {3600: "Sun, 06 Nov 1994 09:49:37 GMT", -3600: "Sun, 06 Nov 1994 07:49:37 GMT"}
    cause = translated(Refused(403, "SignatureDoesNotMatch", date=dates[ahead])).failure.cause
    assert f"3600 seconds {'behind' if ahead > 0 else 'ahead of'}" in cause


def test_a_redirect_of_a_web_server_names_where_it_leads() -> None:
    error = translated(Refused(301, location="https://user:pw@store.example/x"))
    assert "https://store.example" in error.failure.cause
    assert "pw" not in str(error)


def test_times_to_wait_are_seconds_or_a_date() -> None:
    assert retry_after("7", NOW) == 7
    assert retry_after("Sun, 06 Nov 1994 08:50:37 GMT", NOW) == 60
    assert retry_after("Sun, 06 Nov 1994 08:00:00 GMT", NOW) == 0
    assert retry_after("", NOW) is None
    assert clock_offset_seconds("soon", NOW) is None


def test_a_long_message_is_one_short_line() -> None:
    found = redact_and_shorten("a\n b\t" + "c" * 400, ())
    assert (found[:5], len(found), found[-1]) == ("a b c", 300, "…")
