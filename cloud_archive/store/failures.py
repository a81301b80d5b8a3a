"""Explain each error code of a store, and ours for requests without an answer: the cause and the cure."""

from __future__ import annotations

from dataclasses import replace

from ..errors import Failure, FailureScope, StoreError

RUN_CHECK = "Run `cloud-archive check`."
"""The cure if nothing better is known."""


def _store(code: str, cause: str, cure: str, *, transient: bool = False, throttled: bool = False) -> Failure:
    return Failure(code, cause, cure, transient, FailureScope.STORE, throttled)


def _file(code: str, cause: str, cure: str, *, transient: bool = False) -> Failure:
    return Failure(code, cause, cure, transient, FailureScope.FILE)


def _busy(code: str) -> Failure:
    return Failure(
        code,
        "The store asks for fewer requests.",
        "Nothing to do: uploads slow down and continue automatically.",
        transient=True,
        scope=FailureScope.STORE,
        throttled=True,
    )


# Most codes are from https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. `Unproven` and those in the
# second part, for requests that got no S3 answer, are ours.
_TABLE: dict[str, Failure] = {
    failure.code: failure
    for failure in (
        _store(
            "InvalidAccessKeyId",
            "The store does not know this access key.",
            "Check S3_ACCESS_KEY_ID, and that S3_ENDPOINT_URL is the store that issued it.",
        ),
        _store(
            "SignatureDoesNotMatch",
            "The store rejects the signature: the secret key does not belong to the access key.",
            "Check S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY and S3_REGION.",
        ),
        _store(
            "AccessDenied",
            "The store denies access: these credentials may not write here.",
            "Allow s3:PutObject on the bucket and prefix for them, and check S3_BUCKET.",
        ),
        _store(
            "AllAccessDisabled",
            "The store has disabled all access to this bucket.",
            "Ask the provider, or choose another S3_BUCKET.",
        ),
        _store(
            "AccountProblem",
            "The store reports a problem with the account.",
            "Check the provider's console: often a bill is unpaid or the account is suspended.",
        ),
        _store(
            "InvalidToken",
            "The store rejects the session token.",
            "Set a new S3_SESSION_TOKEN together with its two keys.",
        ),
        _store(
            "ExpiredToken",
            "The temporary credentials have expired.",
            "Set new ones, or set S3_CREDENTIALS=aws so that they are renewed automatically.",
        ),
        _store(
            "NoSuchBucket",
            "The bucket does not exist at this endpoint.",
            "Create it, or correct S3_BUCKET and S3_ENDPOINT_URL.",
        ),
        _store(
            "InvalidBucketName",
            "The bucket's name is not valid.",
            "Correct S3_BUCKET: the name only, without s3:// or a path.",
        ),
        _store(
            "PermanentRedirect",
            "The bucket is in another region.",
            "Set S3_REGION (and S3_ENDPOINT_URL) to the bucket's own region.",
        ),
        _store(
            "AuthorizationHeaderMalformed",
            "The region is not the one that the store expects.",
            "Correct S3_REGION.",
        ),
        _store(
            # R2: an unknown region.
            "InvalidRegionName",
            "The store does not know this region.",
            "Correct S3_REGION; for R2 it is auto.",
        ),
        _store(
            # https://help.aliyun.com/en/oss/user-guide/0016-00000002
            "SecondLevelDomainForbidden",
            "The store requires the bucket's name in the host name.",
            "Set S3_ADDRESSING_STYLE=virtual.",
        ),
        _store(
            "RequestTimeTooSkewed",
            "This machine's clock is wrong, so the store rejects the signature.",
            "Set the clock (NTP); in a container, the host's.",
        ),
        _store(
            "MethodNotAllowed",
            "The endpoint does not accept uploads.",
            "Check S3_ENDPOINT_URL: it must be the S3 API, not a public or console address.",
        ),
        _store(
            "InvalidStorageClass",
            "The store does not know this storage class.",
            "Correct or unset S3_STORAGE_CLASS.",
        ),
        _store(
            "KMS.NotFoundException",
            "The store can't find the encryption key.",
            "Correct S3_SSE_KMS_KEY_ID.",
        ),
        _store(
            "QuotaExceeded",
            "The store is full: its quota is used up.",
            "Free space or raise the quota; uploads continue automatically.",
            transient=True,
        ),
        _store(
            # https://github.com/minio/minio/blob/master/cmd/api-errors.go
            "XMinioStorageFull",
            "The store's disks are full.",
            "Free space there; uploads continue automatically.",
            transient=True,
        ),
        _store("InternalError", "The store has an internal error.", "", transient=True),
        _store("ServiceUnavailable", "The store is temporarily unavailable.", "", transient=True),
        _store("RequestTimeout", "The store waited too long for data.", "", transient=True, throttled=True),
        _busy("SlowDown"),
        _busy("TooManyRequests"),
        _busy("Throttling"),
        _busy("RequestLimitExceeded"),
        # Wasabi answers HTTP 400 with this code.
        _busy("RequestRateLimitExceeded"),
        _store(
            "NotImplemented",
            "The store does not support part of the request.",
            "Try S3_CHECKSUM=md5 and unset S3_STORAGE_CLASS and S3_SERVER_SIDE_ENCRYPTION.",
        ),
        _file(
            "BadDigest",
            "The store received other bytes than were sent.",
            "Nothing to do: the file is uploaded again.",
            transient=True,
        ),
        _file(
            "XAmzContentSHA256Mismatch",
            "The store received other bytes than were sent.",
            "Nothing to do: the file is uploaded again.",
            transient=True,
        ),
        _file(
            "Unproven",
            "The store did not prove that it holds the bytes that were sent.",
            "Nothing to do: the file is uploaded again.",
            transient=True,
        ),
        _file("IncompleteBody", "The upload was cut off.", "", transient=True),
        _file(
            "ConditionalRequestConflict",
            "Another write to this key is under way.",
            "",
            transient=True,
        ),
        _file("OperationAborted", "Another write to this key is under way.", "", transient=True),
        _file("NoSuchUpload", "The store no longer knows this multipart upload.", "", transient=True),
        _file("InvalidPart", "The store has lost a part of this upload.", "", transient=True),
        _file(
            "KeyTooLongError",
            "The object key is longer than the store allows.",
            "Shorten the file's path.",
        ),
        _file("EntityTooSmall", "The store requires larger parts for large files.", ""),
        _file("EntityTooLarge", "The file is larger than the store allows.", ""),
        _file("NoSuchKey", "The object is not in the bucket.", ""),
        _file(
            # HTTP 403
            "InvalidObjectState",
            "The object is in a storage class from which it can't be read.",
            "Restore it in the store first, for example from Glacier.",
        ),
        _file("PreconditionFailed", "The key is taken.", ""),
        # --- no S3 answer
        _store(
            "NameNotResolved",
            "The endpoint's host name can't be resolved.",
            "Check S3_ENDPOINT_URL and this machine's DNS.",
            transient=True,
        ),
        _store(
            "ConnectionRefused",
            "Nothing answers at the endpoint: the connection was refused.",
            "Check S3_ENDPOINT_URL (host and port), and that the store is running.",
            transient=True,
        ),
        _store(
            "Unreachable",
            "The endpoint can't be reached: the network is unreachable.",
            "Check this machine's network, and S3_ENDPOINT_URL.",
            transient=True,
        ),
        _store(
            "ConnectTimeout",
            "The endpoint does not answer: the connection timed out.",
            "Check S3_ENDPOINT_URL and firewalls.",
            transient=True,
        ),
        _store(
            "ReadTimeout",
            "The store stopped answering in the middle of a request.",
            "",
            transient=True,
            throttled=True,
        ),
        _store("ConnectionClosed", "The connection to the store was cut off.", "", transient=True),
        _store(
            "TLS",
            "The endpoint's TLS certificate is not trusted.",
            "Set S3_CA_BUNDLE to the file of its certificate authority, or use the endpoint's real name.",
        ),
        _store(
            "ProxyUnreachable",
            "The proxy in front of the store can't be reached.",
            "Check HTTPS_PROXY and HTTP_PROXY.",
            transient=True,
        ),
        _store(
            "ProxyRefused",
            "The proxy in front of the store refuses the connection.",
            "Check HTTPS_PROXY and HTTP_PROXY with their user and password, or name the endpoint in NO_PROXY.",
        ),
        _store(
            "NotS3",
            "The endpoint answered, but not as an S3 store does.",
            "Check S3_ENDPOINT_URL: it must be the S3 API, not a web page or console.",
            transient=True,
        ),
        _store(
            "NoCredentials",
            "The AWS credential chain found no credentials.",
            "Set up a profile or role, or unset S3_CREDENTIALS and set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY.",
        ),
        _store(
            "AwsConfiguration",
            "The AWS configuration can't be used.",
            "Correct or unset it: AWS_PROFILE and the other AWS_* variables, ~/.aws/config and ~/.aws/credentials.",
        ),
        _store(
            "AwsChainTimeout",
            "The AWS credential chain does not answer.",
            "Check the profile's credential_process, its role, and that the metadata service can be reached.",
            transient=True,
        ),
        _store(
            "SdkTimeout",
            "The S3 library is not loaded yet.",
            "Nothing to do if this machine is just starting; otherwise look for a slow disk or a busy processor.",
            transient=True,
        ),
        _store(
            "InvalidEndpoint",
            "The endpoint is not a valid address.",
            "Correct S3_ENDPOINT_URL, such as https://host:port.",
        ),
    )
}


# Other codes, and statuses of answers without a code, that mean the same as a code of the table.
_SYNONYMS: dict[str, str] = {
    "403": "AccessDenied",
    "Forbidden": "AccessDenied",
    "Unauthorized": "AccessDenied",
    "401": "AccessDenied",
    "NotSignedUp": "AccountProblem",
    "AllAccessDisabledException": "AllAccessDisabled",
    "TokenRefreshRequired": "ExpiredToken",
    "InvalidTokenId": "InvalidToken",  # MinIO
    "301": "PermanentRedirect",
    "307": "PermanentRedirect",
    "TemporaryRedirect": "PermanentRedirect",
    "IllegalLocationConstraintException": "PermanentRedirect",
    "404": "NoSuchKey",
    "412": "PreconditionFailed",
    "409": "ConditionalRequestConflict",
    "405": "MethodNotAllowed",
    "429": "TooManyRequests",
    "501": "NotImplemented",
    "500": "InternalError",
    "502": "ServiceUnavailable",
    "503": "ServiceUnavailable",
    "504": "ServiceUnavailable",
    "PathStyleDomainForbidden": "SecondLevelDomainForbidden",
    "ThrottlingException": "Throttling",
    "InvalidDigest": "BadDigest",
    "KeyTooLong": "KeyTooLongError",
    "InsufficientStorage": "QuotaExceeded",
    "507": "QuotaExceeded",
    "XMinioStorageQuotaExceeded": "QuotaExceeded",
}


def explain(code: str, status: int | None = None, store_message: str = "") -> Failure:
    """Return the `Failure` for a store's error code.

    Args:
        code: the code in the answer, its HTTP status as text where it has none, or one of ours.
        status: the HTTP status; None: no answer came. For an unknown code it decides: None, 429 and 5xx are
            transient; these, 401 and 403 concern the store, others only the file.
        store_message: the store's message, used for codes that the table does not know.
    """
    known = _TABLE.get(_SYNONYMS.get(code, code))
    if known is not None:
        return known if known.code == code else replace(known, code=code)
    shown = f"{code}: {store_message}".strip(": ")
    if status == 429:
        return _busy(code)
    if status is None or status >= 500:
        return _store(code, f"The store failed ({shown}).", "", transient=True)
    explained = _store if status in (401, 403) else _file
    return explained(code, f"The store refused the request ({shown}).", RUN_CHECK)


def with_synonyms(*codes: str) -> frozenset[str]:
    """Return these codes of the table and all their synonyms: a `Failure` keeps the code of the answer."""
    return frozenset(codes) | {synonym for synonym, code in _SYNONYMS.items() if code in codes}


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
"""Our code for a HEAD that is denied for one key, while HEADs of other keys are answered."""


def is_denied(error: StoreError) -> bool:
    """Return whether the store denies this request although the credentials are valid, as far as is known.

    A key's error in an answer about several keys has a code, but no status.
    """
    refused = error.status in (401, 403) or error.failure.code in DENIED_CODES
    of_proxy = error.failure.code == "ProxyRefused"
    return refused and not (of_proxy or error.failure.transient or concerns_every_request(error))
