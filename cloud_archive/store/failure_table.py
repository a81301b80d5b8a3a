"""The table of error codes: those of stores, and ours for requests without an answer, with cause and cure."""

from __future__ import annotations

from ..errors import Failure, FailureScope


def store_failure(
    code: str, cause: str, cure: str, *, transient: bool = False, throttled: bool = False
) -> Failure:
    return Failure(code, cause, cure, transient, FailureScope.STORE, throttled)


def file_failure(code: str, cause: str, cure: str, *, transient: bool = False) -> Failure:
    return Failure(code, cause, cure, transient, FailureScope.FILE)


# Most codes are from https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. `CapExceeded`,
# `RequestTooLarge`, `Unproven` and those in the second part, for requests that got no S3 answer, are ours.
TABLE: dict[str, Failure] = {
    failure.code: failure
    for failure in (
        store_failure(
            "InvalidAccessKeyId",
            "The store does not know this access key.",
            "Check S3_ACCESS_KEY_ID, and that S3_ENDPOINT_URL is the store that issued it.",
        ),
        store_failure(
            "SignatureDoesNotMatch",
            "The store rejects the signature: the secret key does not belong to the access key.",
            "Check S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY and S3_REGION.",
        ),
        store_failure(
            "AccessDenied",
            "The store denies access: these credentials may not write here.",
            "Allow s3:PutObject on the bucket and prefix for them, and check S3_BUCKET.",
        ),
        store_failure(
            "AllAccessDisabled",
            "The store has disabled all access to this bucket.",
            "Ask the provider, or choose another S3_BUCKET.",
        ),
        store_failure(
            "AccountProblem",
            "The store reports a problem with the account.",
            "Check the provider's console: often a bill is unpaid or the account is suspended.",
        ),
        store_failure(
            "InvalidToken",
            "The store rejects the session token.",
            "Set a new S3_SESSION_TOKEN together with its two keys.",
        ),
        store_failure(
            "ExpiredToken",
            "The temporary credentials have expired.",
            "Set new ones, or set S3_CREDENTIALS=aws so that they are renewed automatically.",
        ),
        store_failure(
            "NoSuchBucket",
            "The bucket does not exist at this endpoint.",
            "Create it, or correct S3_BUCKET and S3_ENDPOINT_URL.",
        ),
        store_failure(
            "InvalidBucketName",
            "The bucket's name is not valid.",
            "Correct S3_BUCKET: the name only, without s3:// or a path.",
        ),
        store_failure(
            "PermanentRedirect",
            "The bucket is in another region.",
            "Set S3_REGION (and S3_ENDPOINT_URL) to the bucket's own region.",
        ),
        store_failure(
            "AuthorizationHeaderMalformed",
            "The region is not the one that the store expects.",
            "Correct S3_REGION.",
        ),
        store_failure(
            # R2: an unknown region.
            "InvalidRegionName",
            "The store does not know this region.",
            "Correct S3_REGION; for R2 it is auto.",
        ),
        store_failure(
            # https://help.aliyun.com/en/oss/user-guide/0016-00000002
            "SecondLevelDomainForbidden",
            "The store requires the bucket's name in the host name.",
            "Set S3_ADDRESSING_STYLE=virtual.",
        ),
        store_failure(
            "RequestTimeTooSkewed",
            "This machine's clock is wrong, so the store rejects the signature.",
            "Set the clock (NTP); in a container, the host's.",
        ),
        store_failure(
            "MethodNotAllowed",
            "The endpoint does not accept uploads.",
            "Check S3_ENDPOINT_URL: it must be the S3 API, not a public or console address.",
        ),
        store_failure(
            "InvalidStorageClass",
            "The store does not know this storage class.",
            "Correct or unset S3_STORAGE_CLASS.",
        ),
        store_failure(
            "KMS.NotFoundException",
            "The store can't find the encryption key.",
            "Correct S3_SSE_KMS_KEY_ID.",
        ),
        store_failure(
            # Amazon RDS's guide, "Failure messages for Amazon S3 export tasks", names this code and its synonym.
            "KMS.DisabledException",
            "The encryption key is disabled or will be deleted.",
            "Enable it where the store keeps its keys, or correct S3_SSE_KMS_KEY_ID.",
        ),
        store_failure(
            "QuotaExceeded",
            "The store is full: its quota is used up.",
            "Free space or raise the quota; uploads continue automatically.",
            transient=True,
        ),
        store_failure(
            # B2 sends AccessDenied, and the message says "cap exceeded": https://github.com/restic/restic/issues/3582
            "CapExceeded",
            "The account has reached a cap that is set at the provider.",
            "Raise it in the provider's console (Backblaze: Caps & Alerts), or wait if it is a daily cap;"
            " uploads continue automatically.",
            transient=True,
        ),
        store_failure(
            # https://github.com/minio/minio/blob/master/cmd/api-errors.go
            "XMinioStorageFull",
            "The store's disks are full.",
            "Free space there; uploads continue automatically.",
            transient=True,
        ),
        store_failure("InternalError", "The store has an internal error.", "", transient=True),
        store_failure("ServiceUnavailable", "The store is temporarily unavailable.", "", transient=True),
        store_failure(
            "RequestTimeout", "The store waited too long for data.", "", transient=True, throttled=True
        ),
        store_failure(
            "SlowDown",
            "The store asks for fewer requests.",
            "Nothing to do: uploads slow down and continue automatically.",
            transient=True,
            throttled=True,
        ),
        store_failure(
            "NotImplemented",
            "The store does not support part of the request.",
            "Try S3_CHECKSUM=md5 and unset S3_STORAGE_CLASS and S3_SERVER_SIDE_ENCRYPTION.",
        ),
        file_failure(
            "BadDigest",
            "The store received other bytes than were sent.",
            "Nothing to do: the file is uploaded again.",
            transient=True,
        ),
        file_failure(
            "Unproven",
            "The store did not prove that it holds the bytes that were sent.",
            "Nothing to do: the file is uploaded again.",
            transient=True,
        ),
        file_failure("IncompleteBody", "The upload was cut off.", "", transient=True),
        file_failure(
            "ConditionalRequestConflict",
            "Another write to this key is under way.",
            "",
            transient=True,
        ),
        file_failure("NoSuchUpload", "The store no longer knows this multipart upload.", "", transient=True),
        file_failure("InvalidPart", "The store has lost a part of this upload.", "", transient=True),
        file_failure(
            "KeyTooLongError",
            "The object key is longer than the store allows.",
            "Shorten the file's path.",
        ),
        file_failure("EntityTooSmall", "The store requires larger parts for large files.", ""),
        file_failure("EntityTooLarge", "The file is larger than the store allows.", ""),
        file_failure(
            # HTTP 413, often a web page: https://github.com/minio/minio-py/issues/1116
            "RequestTooLarge",
            "The store, or a proxy in front of it, refuses requests of this size.",
            "Raise the proxy's limit (nginx: client_max_body_size), then retry.",
        ),
        file_failure("NoSuchKey", "The object is not in the bucket.", ""),
        file_failure(
            # HTTP 403
            "InvalidObjectState",
            "The object is in a storage class from which it can't be read.",
            "Restore it in the store first, for example from Glacier.",
        ),
        file_failure("PreconditionFailed", "The key is taken.", ""),
        # --- no S3 answer
        store_failure(
            "NameNotResolved",
            "The endpoint's host name can't be resolved.",
            "Check S3_ENDPOINT_URL and this machine's DNS.",
            transient=True,
        ),
        store_failure(
            "ConnectionRefused",
            "Nothing answers at the endpoint: the connection was refused.",
            "Check S3_ENDPOINT_URL (host and port), and that the store is running.",
            transient=True,
        ),
        store_failure(
            "Unreachable",
            "The endpoint can't be reached: the network is unreachable.",
            "Check this machine's network, and S3_ENDPOINT_URL.",
            transient=True,
        ),
        store_failure(
            "ConnectTimeout",
            "The endpoint does not answer: the connection timed out.",
            "Check S3_ENDPOINT_URL and firewalls.",
            transient=True,
        ),
        store_failure(
            "ReadTimeout",
            "The store stopped answering in the middle of a request.",
            "",
            transient=True,
            throttled=True,
        ),
        store_failure("ConnectionClosed", "The connection to the store was cut off.", "", transient=True),
        store_failure(
            "TLS",
            "The endpoint's TLS certificate is not trusted.",
            "Set S3_CA_BUNDLE to the file of its certificate authority, or use the endpoint's real name.",
        ),
        store_failure(
            "ProxyUnreachable",
            "The proxy in front of the store can't be reached.",
            "Check HTTPS_PROXY and HTTP_PROXY; SOCKS proxies are not supported.",
            transient=True,
        ),
        store_failure(
            "ProxyRefused",
            "The proxy in front of the store refuses the connection.",
            "Check HTTPS_PROXY and HTTP_PROXY with their user and password, or name the endpoint in NO_PROXY.",
        ),
        store_failure(
            "NotS3",
            "The endpoint answered, but not as an S3 store does.",
            "Check S3_ENDPOINT_URL: https:// or http://, and that it is the S3 API, not a web page or console.",
            transient=True,
        ),
        store_failure(
            "NoCredentials",
            "The AWS credential chain found no credentials.",
            "Set up a profile or role, or unset S3_CREDENTIALS and set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY.",
        ),
        store_failure(
            "AwsConfiguration",
            "The AWS configuration can't be used.",
            "Correct or unset it: AWS_PROFILE and the other AWS_* variables, ~/.aws/config and ~/.aws/credentials.",
        ),
        store_failure(
            "AwsChainTimeout",
            "The AWS credential chain does not answer.",
            "Check the profile's credential_process, its role, and that the metadata service can be reached.",
            transient=True,
        ),
        store_failure(
            "SdkTimeout",
            "The S3 library is not loaded yet.",
            "Nothing to do if this machine is just starting; otherwise look for a slow disk or a busy processor.",
            transient=True,
        ),
        store_failure(
            "InvalidEndpoint",
            "The endpoint is not a valid address.",
            "Correct S3_ENDPOINT_URL, such as https://host:port.",
        ),
    )
}


# Other codes, and statuses of answers without a code, that mean the same as a code of the table.
SYNONYMS: dict[str, str] = {
    "403": "AccessDenied",
    "Forbidden": "AccessDenied",
    "Unauthorized": "AccessDenied",
    "401": "AccessDenied",
    "InvalidSecurity": "InvalidAccessKeyId",
    "NotSignedUp": "AccountProblem",
    "UserSuspended": "AccountProblem",  # https://github.com/ceph/ceph/blob/main/src/rgw/rgw_common.cc
    "AccountNotActivated": "AccountProblem",  # https://docs.wasabi.com/docs/rest-api-introduction
    "NotEntitled": "AccountProblem",  # https://developers.cloudflare.com/r2/api/error-codes
    # https://www.alibabacloud.com/help/en/oss/how-to-troubleshoot-403-status-code-when-you-access-oss
    "UserDisable": "AccountProblem",
    "InDebt": "AccountProblem",
    "InDebtOverdue": "AccountProblem",
    "BucketDisable": "AllAccessDisabled",
    "InvalidSecurityToken": "InvalidToken",
    "AccessKeyIdAndSecurityTokenNotMatch": "InvalidToken",
    "AllAccessDisabledException": "AllAccessDisabled",
    "TokenRefreshRequired": "ExpiredToken",
    "InvalidTokenId": "InvalidToken",  # MinIO
    "301": "PermanentRedirect",
    "307": "PermanentRedirect",
    "TemporaryRedirect": "PermanentRedirect",
    "IllegalLocationConstraintException": "PermanentRedirect",
    "KMS.KMSInvalidStateException": "KMS.DisabledException",
    "404": "NoSuchKey",
    "412": "PreconditionFailed",
    "413": "RequestTooLarge",
    "409": "ConditionalRequestConflict",
    "OperationAborted": "ConditionalRequestConflict",
    "405": "MethodNotAllowed",
    "429": "SlowDown",
    "TooManyRequests": "SlowDown",
    "Throttling": "SlowDown",
    "501": "NotImplemented",
    "500": "InternalError",
    "502": "ServiceUnavailable",
    "503": "ServiceUnavailable",
    "504": "ServiceUnavailable",
    "PathStyleDomainForbidden": "SecondLevelDomainForbidden",
    "ThrottlingException": "SlowDown",
    "RequestLimitExceeded": "SlowDown",
    "RequestRateLimitExceeded": "SlowDown",  # Wasabi, with HTTP 400
    "InvalidDigest": "BadDigest",
    "XAmzContentSHA256Mismatch": "BadDigest",
    "KeyTooLong": "KeyTooLongError",
    "InsufficientStorage": "QuotaExceeded",
    "507": "QuotaExceeded",
    # MinIO, with HTTP 400: https://github.com/minio/minio/blob/master/cmd/api-errors.go
    "XMinioAdminBucketQuotaExceeded": "QuotaExceeded",
}
