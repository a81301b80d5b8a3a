"""Explain a failed S3 request: from the SDK's exceptions to a `StoreError` with a cause and a cure.

An exception with a `response` holds an answer, of the store or of the service that gives a role's credentials;
silence.py explains all others. Importing this loads no SDK.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConditionsRejected, Failure, FailureScope, ObjectExists, StoreError
from ..redaction import redact
from ..text import end_sentence
from .failures import DENIED_CODES, explain, with_synonyms
from .silence import explain_silence, proxy_refused, system_message

# AWS refuses requests that are further off than this:
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (RequestTimeTooSkewed)
SKEW_SECONDS = 900
_CLOCK_SET_SECONDS = 2.0
MAX_MESSAGE_CHARACTERS = 300


def redact_and_shorten(text: str, secrets: Sequence[str]) -> str:
    """Return `text` without secrets (see redaction.py), on one line, shortened to 300 characters."""
    text = " ".join(redact(text, secrets).split())
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - 1] + "…"


def clock_offset_seconds(date_header: str, local_time: float) -> float | None:
    """Return how many seconds the store's clock is ahead of ours; None: the header is no date.

    Args:
        date_header: the answer's `Date` (RFC 9110, section 6.6.1).
        local_time: seconds since 1970 by our clock when the answer came.
    """
    try:
        return email.utils.parsedate_to_datetime(date_header).timestamp() - local_time
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def nearer_offset(known: float | None, new: float | None) -> float | None:
    """Return the better one of two results of `clock_offset_seconds`.

    A `Date` leaves out the fraction of its second, and an answer takes time, so the larger one is nearer. A much
    smaller new one shows that a clock was set.
    """
    if known is None or new is None:
        return known if new is None else new
    return known if known - _CLOCK_SET_SECONDS < new < known else new


def retry_after(header: str, local_time: float) -> float | None:
    """Return the seconds of a `Retry-After` header (RFC 9110, section 10.2.3: seconds or a date); None if neither."""
    if header.strip().isdecimal():
        return float(header)
    until = clock_offset_seconds(header, local_time)
    return None if until is None else max(0.0, until)


def translate(
    error: BaseException,
    operation: str,
    key: str | None,
    *,
    secrets: Sequence[str] = (),
    conditional: bool = False,
    now: float | None = None,
    proxy: str | None = None,
    aws_chain: bool = False,
) -> StoreError:
    """Return the `StoreError` for an exception of the SDK.

    Args:
        operation: the S3 operation, such as `PutObject`.
        secrets: values that no text may hold.
        conditional: the request was a create-only write, so a 412 says that the key is taken.
        now: seconds since 1970; default: the system's clock.
        proxy: `host:port` of the proxy that requests go through.
        aws_chain: the credentials are those of the AWS chain, so the cure for refused ones names that chain.

    Returns:
        `ObjectExists`: a create-only write was refused because the key is taken. `ConditionsRejected`: the store does
        not accept create-only writes. Else a plain `StoreError`.
    """
    moment = time.time() if now is None else now
    response = getattr(error, "response", None)
    # The SDK may have asked another service first, for a role: AssumeRole, GetRoleCredentials and others.
    is_of_chain = aws_chain and getattr(error, "operation_name", operation) != operation
    if isinstance(response, Mapping) and "Error" in response and not is_of_chain:
        explained = _from_answer(response, operation, key, secrets, conditional, moment, proxy)
    else:
        failure = explain("AwsConfiguration") if is_of_chain else explain_silence(error, proxy, secrets)
        if failure.code == "AwsChainTimeout" and not aws_chain:
            failure = explain("SdkTimeout")
        if failure.code == "AwsConfiguration":
            detail = end_sentence(redact_and_shorten(str(error), secrets))
            failure = replace(failure, cause=f"{failure.cause.rstrip('.')}: {detail}")
        explained = StoreError(
            operation, key, failure, store_message=redact_and_shorten(system_message(error), secrets)
        )
    if aws_chain and explained.failure.code in _CURED_IN_AWS:
        explained.failure = replace(explained.failure, cure=_AWS_CURE)
        explained.args = (explained.failure.sentence,)
    return explained


_CURED_IN_AWS = with_synonyms("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken")
_AWS_CURE = (
    "Renew the credentials of the AWS profile or role (AWS_PROFILE, ~/.aws/credentials); they are read again at the"
    " next try."
)


# --- an answer came


def _from_answer(
    response: Mapping[str, Any],
    operation: str,
    key: str | None,
    secrets: Sequence[str],
    conditional: bool,
    now: float,
    proxy: str | None,
) -> StoreError:
    # Any text of the answer may repeat a secret that was sent, so all of it is redacted first.
    answer: Mapping[str, Any] = response.get("ResponseMetadata", {})
    headers = {
        name: redact_and_shorten(str(value), secrets) for name, value in answer.get("HTTPHeaders", {}).items()
    }
    status = answer.get("HTTPStatusCode")
    error_fields = {
        name: redact_and_shorten(str(value), secrets) for name, value in response["Error"].items() if value
    }
    code = error_fields.get("Code") or str(status or "Unknown")
    store_message = error_fields.get("Message", "")
    if header := error_fields.get("Header"):  # in a 501: the header that is not implemented
        store_message = f"{store_message} ({header})"
    store_message = redact_and_shorten(store_message, secrets)
    if proxy is not None and _came_from_proxy(code, status, headers):
        failure = proxy_refused(proxy, f"HTTP {status}", transient=status not in (403, 407))
        return StoreError(operation, key, failure, status=status, store_message=store_message)
    failure = _explain_answer(code, status, store_message, error_fields, headers, key, operation, now)
    kind = StoreError
    # Aliyun OSS refuses a taken key with 409 FileAlreadyExists: https://help.aliyun.com/en/oss/user-guide/0026-00000002
    if conditional and (status == 412 or failure.code in ("PreconditionFailed", "FileAlreadyExists")):
        kind = ObjectExists
    elif conditional and (
        status == 501 or failure.code == "NotImplemented" or names_condition(store_message)
    ):
        kind = ConditionsRejected
    return kind(
        operation,
        key,
        failure,
        status=status,
        store_message=store_message,
        retry_after_seconds=retry_after(headers.get("retry-after", ""), now),
    )


def _explain_answer(
    code: str,
    status: int | None,
    store_message: str,
    error_fields: Mapping[str, str],
    headers: Mapping[str, str],
    key: str | None,
    operation: str,
    now: float,
) -> Failure:
    # A web page has no <Code>, so the SDK gives the status as the code. The answer to a HEAD has no body, so its
    # content type says nothing.
    has_code = not code.isdecimal()
    if not has_code and status in _REDIRECTS and (elsewhere := _redirected(headers.get("location", ""))):
        return elsewhere
    if not has_code and status in (413, 429):  # often of a proxy, with a web page
        return explain(code)
    is_html = "html" in headers.get("content-type", "").lower()
    # Traefik answers 404 in plain text while the store is away: https://doc.traefik.io/getting-started/faq
    if not has_code and operation != "HeadObject" and (is_html or (status == 404 and key is not None)):
        return web_page_failure(status)
    if not has_code and status == 400 and not headers:
        return explain("NotS3")  # a TLS port of a server in Go answers plain http like this
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", code):
        code = str(status or "Unknown")
    if status == 404 and key is None and code in ("404", "NoSuchKey"):
        code = "NoSuchBucket"
    code = _told_by_message(code, store_message)
    if status == 200 and not has_code:
        return explain("ConnectionClosed")  # a 200 whose document could not be read to its end
    offset = clock_offset_seconds(headers.get("date", ""), now)
    # The answer to a HEAD has no body that could name the clock, and some stores report a wrong signature instead.
    is_skewed = status == 403 and offset is not None and abs(offset) > SKEW_SECONDS
    # R2's ExpiredRequest (400): https://developers.cloudflare.com/r2/api/error-codes
    if code in ("RequestTimeTooSkewed", "ExpiredRequest") or is_skewed:
        return _skewed(offset)
    failure = explain(code, status, store_message)
    region = (
        headers.get("x-amz-bucket-region")
        or error_fields.get("Region", "")
        or _expected_region(store_message)
    )
    if re.fullmatch(r"[a-z0-9-]{2,40}", region) and (
        status in (301, 307)
        or code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect")
    ):
        return replace(
            failure,
            cause=f"The bucket is in the region {region}.",
            cure=f"Set S3_REGION={region}, and correct S3_ENDPOINT_URL if it names a region.",
        )
    if failure.code in _NOT_OFFERED and operation in _OPTIONAL_OPERATIONS:
        return replace(
            failure,
            cause=f"The store does not offer {operation}.",
            cure=_OPTIONAL_OPERATIONS[operation],
            scope=FailureScope.FILE,
        )
    return _denied(failure, status, operation, store_message) if failure.code in DENIED_CODES else failure


def _told_by_message(code: str, store_message: str) -> str:
    """Return the code of the table for an answer whose message says more than its code."""
    message = store_message.lower()
    if code == "AccessDenied" and "cap exceeded" in message:
        return "CapExceeded"
    # R2: https://github.com/grafana/loki/issues/9224
    if code == "InvalidArgument" and "access key has length" in message:
        return "InvalidAccessKeyId"
    return code


def _denied(failure: Failure, status: int | None, operation: str, store_message: str) -> Failure:
    """Return the failure of a denied request, with the right that it needs."""
    if match := re.search(r"not authorized to perform: (kms:\w+)", store_message):
        return replace(
            failure,
            cause="The store denies access: these credentials may not use the encryption key.",
            cure=f"Allow {match[1]} on that key for them.",
        )
    if status == 401:
        # R2 answers unknown keys like this: https://developers.cloudflare.com/r2/api/error-codes
        return replace(
            failure,
            cause="The store does not accept these credentials.",
            cure="Check S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, S3_BUCKET and S3_ENDPOINT_URL.",
        )
    if operation not in _RIGHTS:
        return failure
    doing, right = _RIGHTS[operation]
    return replace(
        failure,
        cause=f"The store denies access: these credentials may not {doing} here.",
        cure=f"Allow {right} for them if you need it.",
    )


def _came_from_proxy(code: str, status: int | None, headers: Mapping[str, str]) -> bool:
    """Return whether the answer is the proxy's: HTTP 407, one that Squid marks, or an HTML error page.

    A page with a store's error code or headers is the store's.
    """
    if status == 407 or "x-squid-error" in headers:
        return True
    if status is None or status < 400 or not code.isdecimal() or any(n.startswith("x-amz-") for n in headers):
        return False
    return "html" in headers.get("content-type", "").lower()


_NOT_OFFERED = with_synonyms("MethodNotAllowed", "NotImplemented")
_REMOVE_PARTS = "Remove old unfinished multipart uploads with the store's own tools."
# Operations that uploads can do without, and what the user can do about it.
_OPTIONAL_OPERATIONS = {
    "ListParts": "Nothing to do: an interrupted upload starts again.",
    "ListMultipartUploads": _REMOVE_PARTS,
    "AbortMultipartUpload": _REMOVE_PARTS,
}

# The rights that write-only credentials may lack.
_RIGHTS = {
    "HeadObject": ("send HEAD requests", "s3:GetObject"),
    "GetObject": ("read objects", "s3:GetObject"),
    "ListObjectsV2": ("list the bucket", "s3:ListBucket"),
    "ListParts": ("list an upload's parts", "s3:ListMultipartUploadParts"),
    "ListMultipartUploads": ("list unfinished uploads", "s3:ListBucketMultipartUploads"),
    "AbortMultipartUpload": ("abort an upload", "s3:AbortMultipartUpload"),
    "DeleteObject": ("delete objects", "s3:DeleteObject"),
    "DeleteObjects": ("delete objects", "s3:DeleteObject"),
}


def web_page_failure(status: int | None) -> Failure:
    failure = explain("NotS3")
    if status is not None and status >= 500:
        return replace(
            failure,
            cause=f"Something in front of the store answered with an error page (HTTP {status}).",
            cure="Nothing to do if the store is just starting; otherwise check S3_ENDPOINT_URL and the proxy there.",
        )
    return failure


_REDIRECTS = (301, 302, 303, 307, 308)


def _redirected(location: str) -> Failure | None:
    """Return the failure of a web server's redirect, as from http to https; None: `location` is no web address."""
    try:
        parts = urlsplit(location)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"[A-Za-z0-9.:\[\]-]{1,300}", host):
        return None
    return replace(
        explain("NotS3"),
        cause=f"The endpoint only redirects to {parts.scheme}://{host}.",
        cure=f"Set S3_ENDPOINT_URL={parts.scheme}://{host} if that is the S3 API.",
    )


def _skewed(offset: float | None) -> Failure:
    failure = explain("RequestTimeTooSkewed")
    if offset is None:
        return failure
    direction = "behind" if offset > 0 else "ahead of"
    return replace(
        failure,
        cause=f"This machine's clock is {abs(round(offset))} seconds {direction} the store's,"
        " so the store rejects the signature.",
    )


def _expected_region(store_message: str) -> str:
    match = re.search(r"expecting '([a-z0-9-]+)'", store_message)
    return match[1] if match else ""


def names_condition(store_message: str) -> bool:
    return "if-none-match" in store_message.lower()
