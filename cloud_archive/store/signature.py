"""Sign requests with AWS Signature Version 4, for a body whose SHA-256 is known.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import NamedTuple

EMPTY_SHA256 = hashlib.sha256().hexdigest()


class Keys(NamedTuple):
    """What signs a request."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None

    def __repr__(self) -> str:
        return "Keys(***)"


class Signer:
    """Signs requests to one region of S3; safe to use from any thread."""

    def __init__(self, keys: Keys, region: str) -> None:
        self._keys = keys
        self._region = region
        self._of_day = ("", b"")  # a day, and the key that signs its requests

    def sign(
        self, method: str, path: str, headers: Mapping[str, str], sha256: str, now: float
    ) -> dict[str, str]:
        """Return `headers` with those that authorize the request; all of them are signed.

        Args:
            path: of the URL, as it is sent.
            headers: with names in lower case, `host` included.
            sha256: of the body, hexadecimal.
            now: seconds since 1970.
        """
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        signed = {**headers, "x-amz-content-sha256": sha256, "x-amz-date": moment}
        if self._keys.session_token is not None:
            signed["x-amz-security-token"] = self._keys.session_token
        names = sorted(signed)
        listed = ";".join(names)
        lines = "".join([f"{name}:{' '.join(signed[name].split())}\n" for name in names])
        request = f"{method}\n{path}\n\n{lines}\n{listed}\n{sha256}"
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._key(moment[:8]), text.encode(), "sha256").hex()
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._keys.access_key_id}/{scope},"
            f" SignedHeaders={listed}, Signature={signature}"
        )
        return signed

    def _key(self, day: str) -> bytes:
        known, key = self._of_day
        if known != day:
            key = f"AWS4{self._keys.secret_access_key}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._of_day = day, key
        return key
