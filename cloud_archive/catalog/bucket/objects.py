"""List the catalog's objects in the bucket, and write them: create-only and with proof, as uploads are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from ...errors import ConditionsRejected, ObjectExists, StoreError
from ...store.base import ObjectInfo, ObjectStore
from ...store.evidence import Expected, head_if_allowed, prove
from ...store.failures import explain
from .names import CatalogFolder, FileName, parse_name

SEGMENT_TYPE = "application/x-ndjson"
PACK_TYPE = "application/octet-stream"
Listed = tuple[ObjectInfo, FileName]


def list_files(store: ObjectStore, folder: CatalogFolder, prefix: str) -> Iterator[Listed]:
    """Yield the segments and month files whose names begin with `prefix`. StoreError: the bucket can't be listed."""
    for info in store.list(folder.key(prefix)):
        name = parse_name(folder.name(info.key))
        if name is not None:
            yield info, name


def write_proven(store: ObjectStore, key: str, body: bytes, content_type: str) -> None:
    """Write one object, and return once it is proven to hold these bytes.

    Raises:
        StoreError: the store refused or did not answer, or the object holds other bytes: write again, under a new name.
    """
    sha256 = hashlib.sha256(body).hexdigest()
    accepted = False
    for _ in range(2):
        try:
            result = store.put(
                key,
                body,
                sha256=sha256,
                content_type=content_type,
                metadata={"sha256": sha256},
                create_only=True,
            )
            if result.proven:
                return
            accepted = True
            break
        except ConditionsRejected:
            continue  # the condition is left out from now on; no other writer uses this name
        except ObjectExists:
            break  # an earlier try of this request wrote it, and its answer was lost
    allowed, info = head_if_allowed(store, key)
    if allowed and info is None:
        raise StoreError("PutObject", key, explain("Unproven"), status=404)
    if prove(store, key, info, Expected(len(body), sha256), accepted=accepted) is None:
        raise StoreError("PutObject", key, explain("Unproven"))
