"""Find out which integrity header a store accepts: `x-amz-checksum-sha256`, or `Content-MD5` if it refuses that."""

from __future__ import annotations

import re
from dataclasses import replace

from ..errors import FailureScope, ObjectExists, StoreError
from .translate import names_condition

# Characters in a key that some stores decode or encode once more before they check the signature.
_HARD_TO_SIGN = re.compile(r"[%\\\x00-\x1f\x7f]")


def names_checksum(error: StoreError) -> bool:
    about = r"x-amz-checksum|sdk-checksum|checksum.{0,20}(algorithm|header|type)"
    return (
        error.failure.code != "BadDigest" and re.search(about, error.store_message, re.IGNORECASE) is not None
    )


def refuses_checksum(error: StoreError) -> bool:
    """Return whether the store may have refused `x-amz-checksum-sha256`.

    As seen at Backblaze B2 (400 InvalidArgument "Unsupported header 'x-amz-checksum-…'",
    https://github.com/boto/s3transfer/issues/327), Google (403 SignatureDoesNotMatch or 400,
    https://github.com/EnterpriseDB/barman/issues/1112), R2 (401 Unauthorized) and others (501). Most of these
    can have other causes, so one request with Content-MD5 must show whether the header is to blame.
    """
    if error.status is None or (error.status >= 500 and error.status != 501):
        return False
    if names_checksum(error):
        return True
    if names_condition(error.store_message):
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


def blame_name(error: StoreError) -> StoreError:
    """Return a rejected signature as the fault of the object key, if that holds an odd character.

    Call it only if the credentials were accepted before.
    """
    odd_name = error.key is not None and _HARD_TO_SIGN.search(error.key) is not None
    if error.failure.code != "SignatureDoesNotMatch" or not odd_name:
        return error
    failure = replace(
        error.failure,
        code="NameNotSigned",
        cause="The store rejects the signature for this name but accepts the credentials.",
        cure="Rename the file: the store may not accept a character in its name.",
        scope=FailureScope.FILE,
    )
    return error.with_failure(failure)
