"""Sign the SDK's requests without hashing their bodies once more."""

from __future__ import annotations

from typing import Any

from .answers import sha256_hex

_VERSION = "cloud-archive-s3v4"


def reuse_checksum_in_signature(client: Any, operation: str) -> None:
    """Let requests of this operation be signed with the SHA-256 in their checksum header.

    On plain HTTP the SDK hashes each body for its signature, which costs more than the rest of the request. The header
    `x-amz-checksum-sha256` holds that hash already.
    """
    from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth

    class KnownChecksumAuth(S3SigV4Auth):
        def payload(self, request: Any) -> str:
            known = sha256_hex(request.headers.get("x-amz-checksum-sha256"))
            sdk: Any = self
            is_signed = sdk._should_sha256_sign_payload(request)  # False over TLS if there is a checksum
            return known if known and is_signed else str(super().payload(request))

    AUTH_TYPE_MAPS.setdefault(_VERSION, KnownChecksumAuth)

    def choose(signature_version: Any, **_: object) -> str | None:
        return _VERSION if signature_version in ("v4", "s3v4") else None

    client.meta.events.register_first(f"choose-signer.s3.{operation}", choose)
