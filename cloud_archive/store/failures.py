"""Explain an error code of a store, and tell what a refusal means for other requests."""

from __future__ import annotations

from dataclasses import replace

from ..errors import Failure, FailureScope, StoreError
from .failure_table import SYNONYMS, TABLE, file_failure, store_failure

RUN_CHECK = "Run `cloud-archive check`."
"""The cure if nothing better is known."""


def explain(code: str, status: int | None = None, store_message: str = "") -> Failure:
    """Return the `Failure` for a store's error code.

    Args:
        code: the code in the answer, its HTTP status as text where it has none, or one of ours.
        status: the HTTP status; None: no answer came. For an unknown code it decides: None, 429 and 5xx are
            transient; these, 401 and 403 concern the store, others only the file.
        store_message: the store's message, used for codes that the table does not know.
    """
    known = TABLE.get(SYNONYMS.get(code, code))
    if known is not None:
        return known if known.code == code else replace(known, code=code)
    shown = f"{code}: {store_message}".strip(": ")
    if status == 429:
        return replace(TABLE["SlowDown"], code=code)
    if status is None:
        return store_failure(code, f"The request to the store failed ({shown}).", "", transient=True)
    if status >= 500:
        return store_failure(code, f"The store failed ({shown}).", "", transient=True)
    explained = store_failure if status in (401, 403) else file_failure
    return explained(code, f"The store refused the request ({shown}).", RUN_CHECK)


def with_synonyms(*codes: str) -> frozenset[str]:
    """Return these codes of the table and all their synonyms: a `Failure` keeps the code of the answer."""
    return frozenset(codes) | {synonym for synonym, code in SYNONYMS.items() if code in codes}


CREDENTIAL_CODES = with_synonyms(
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "AccountProblem",
    "NoCredentials",
    "AwsConfiguration",
    "AwsChainTimeout",
)
"""The credentials or the account are wrong, or the AWS chain provides no credentials."""

BUCKET_CODES = with_synonyms(
    "NoSuchBucket",
    "InvalidBucketName",
    "AllAccessDisabled",
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "InvalidRegionName",
    "SecondLevelDomainForbidden",
)
"""The bucket, its region or its address is wrong."""

DENIED_CODES = with_synonyms("AccessDenied")


def concerns_every_request(error: StoreError) -> bool:
    """Return whether any other request would be refused for the same cause: credentials, clock, bucket or region."""
    return error.failure.code in CREDENTIAL_CODES | BUCKET_CODES | {"RequestTimeTooSkewed"}


def is_refused_for_good(error: StoreError) -> bool:
    """Return whether the same request would fail again, because the store does not offer it or denies it.

    A 200 that is no S3 document means the same: the store took the request for another operation.
    """
    if error.failure.code == "NotS3" and error.status == 200:
        return True
    return (
        error.status is not None
        and error.status != 200
        and not error.failure.transient
        and not concerns_every_request(error)
    )


HEAD_REFUSED = "HeadRefused"
"""Our code for a HEAD that is denied although HEADs were allowed before."""


def is_missing(error: StoreError) -> bool:
    """Return whether the store says that it has no such object; the 404 of a missing bucket or a web page does not."""
    return error.status == 404 and error.failure.scope is FailureScope.FILE


def is_denied(error: StoreError) -> bool:
    """Return whether the store denies this request although the credentials are valid, as far as is known.

    A key's error in an answer about several keys has a code, but no status.
    """
    refused = error.status in (401, 403) or error.failure.code in DENIED_CODES
    of_proxy = error.failure.code == "ProxyRefused"
    return refused and not (of_proxy or error.failure.transient or concerns_every_request(error))
