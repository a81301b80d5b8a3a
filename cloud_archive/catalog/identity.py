"""Compute an asset's id from bucket and key alone, so that it is the same on every machine."""

from __future__ import annotations

import hashlib
import uuid

_NAMESPACE = uuid.NAMESPACE_URL.bytes


def asset_id(bucket: str, key: str) -> uuid.UUID:
    return uuid.UUID(bytes=asset_id_bytes(bucket, key))


def asset_id_bytes(bucket: str, key: str) -> bytes:
    """Return the 16 bytes of the id: those of `uuid.uuid5`, in a third of its time."""
    name = f"s3://{bucket}/{key}".encode()
    digest = bytearray(hashlib.sha1(_NAMESPACE + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)
