"""Which integrity header a store takes: `x-amz-checksum-sha256`, or `Content-MD5` where it refuses that."""

from __future__ import annotations

import re

from ..errors import ObjectExists, StoreError
from .translate import names_condition


def names_checksum(error: StoreError) -> bool:
    """Whether the refusal speaks of checksum headers by name."""
    about = r"x-amz-checksum|sdk-checksum|checksum.{0,20}(algorithm|header|type)"
    return error.failure.code != "BadDigest" and re.search(about, error.said, re.IGNORECASE) is not None


def refuses_checksum(error: StoreError) -> bool:
    """Whether this looks like a store that does not take `x-amz-checksum-sha256`.

    As seen at Backblaze B2 (400 InvalidArgument "Unsupported header 'x-amz-checksum-…'",
    https://github.com/boto/s3transfer/issues/327), Google (403 SignatureDoesNotMatch or 400,
    https://github.com/EnterpriseDB/barman/issues/1112), R2 (401 Unauthorized) and others (501). Most of these say
    something else as often; so it is worth one more request with Content-MD5, and no more.
    """
    if error.status is None or (error.status >= 500 and error.status != 501):
        return False
    if names_checksum(error):
        return True
    if names_condition(error.said):
        return False
    return error.status in (401, 501) or error.failure.code in (
        "NotImplemented",
        "InvalidArgument",
        "InvalidRequest",
        "SignatureDoesNotMatch",
        "UnsupportedHeader",
    )


def got_further(error: StoreError, refusal: StoreError) -> bool:
    """Return whether a request with Content-MD5 was refused for another reason than the one with the SHA-256."""
    if isinstance(error, ObjectExists):
        return True
    return error.status is not None and error.status < 502 and error.failure.code != refusal.failure.code
