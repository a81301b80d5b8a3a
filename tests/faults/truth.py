"""Compare a bucket with what it must hold and may hold."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from tests.servers import is_catalog_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.faults.rules import Entry

_CONFLICT = re.compile(r" \(\d+\)(?=(\.[^./]*)?$)")


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Truth:
    """The history of a directory, recorded by its writers. Paths are relative, with `/`.

    A version may be in the bucket from the moment before it can be seen; it must be there if its path holds it at
    the end. Contents that were never complete at one path (half of a slow write) are no version.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: defaultdict[str, set[str]] = defaultdict(set)
        self._present: dict[str, str] = {}

    def will_hold(self, path: str, sha256: str) -> None:
        """Record that this version is about to appear at `path`: from now on the bucket may hold it."""
        with self._lock:
            self._versions[path].add(sha256)

    def holds(self, path: str, sha256: str) -> None:
        """Record that `path` holds this version: the bucket must hold it in the end."""
        with self._lock:
            self._versions[path].add(sha256)
            self._present[path] = sha256

    def gone(self, path: str) -> None:
        """Record that `path` is gone: deleted, or renamed."""
        with self._lock:
            self._present.pop(path, None)

    @property
    def present(self) -> dict[str, str]:
        """Path to SHA-256 of every file that exists now."""
        with self._lock:
            return dict(self._present)

    def allows(self, path: str, sha256: str) -> bool:
        """Whether `path` ever held exactly these bytes."""
        with self._lock:
            return sha256 in self._versions.get(path, ())


@dataclass(slots=True)
class Findings:
    """What is wrong in the bucket; all lists are empty if the promise held."""

    missing: list[str] = field(default_factory=list)  # present files whose bytes are not there
    doubled: list[str] = field(default_factory=list)  # the same bytes of one path under two keys
    different: list[str] = field(default_factory=list)  # objects whose bytes their path never held
    overwritten: list[str] = field(default_factory=list)  # keys written twice, or planted and changed
    left_behind: list[str] = field(default_factory=list)  # multipart uploads that are still open
    objects: int = 0
    size_bytes: int = 0

    @property
    def clean(self) -> bool:
        return not (self.missing or self.doubled or self.different or self.overwritten or self.left_behind)

    def plus(self, other: Findings) -> Findings:
        """Return both together."""
        return Findings(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __str__(self) -> str:
        counts = []
        for each in fields(self):
            value = getattr(self, each.name)
            counts.append(f"{each.name} {len(value) if isinstance(value, list) else value}")
        return ", ".join(counts)


def path_of(key: str, prefix: str) -> str:
    """Return the path of the file that `key` holds: `name (1).ext` belongs to `name.ext`."""
    return _CONFLICT.sub("", key.removeprefix(prefix + "/" if prefix else ""))


class BucketReader:
    """Reads a bucket through plain boto3; bytes are read once for each version of an object."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._read: dict[tuple[str, str, str], str] = {}
        self.size_bytes = 0

    def digests(self, prefix: str) -> dict[str, str]:
        """Key to SHA-256 of the bytes that the store returns, for everything below `prefix`."""
        found = {}
        self.size_bytes = 0
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", []):
                if is_catalog_key(entry["Key"]):
                    continue
                name = (entry["Key"], entry["ETag"], str(entry["LastModified"]))
                if name not in self._read:
                    self._read[name] = self._digest(entry["Key"])
                found[entry["Key"]] = self._read[name]
                self.size_bytes += entry["Size"]
        return found

    def _digest(self, key: str) -> str:
        digest = hashlib.sha256()
        body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
        for piece in body.iter_chunks(1024 * 1024):
            digest.update(piece)
        return digest.hexdigest()

    def uploads(self, prefix: str) -> list[str]:
        """Keys of the multipart uploads that are still open below `prefix`."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=prefix
        )
        return [upload["Key"] for page in pages for upload in page.get("Uploads", [])]


def missing_in(digests: Mapping[str, str], truth: Truth, prefix: str) -> list[str]:
    """The present paths whose bytes are under none of their keys."""
    held = {(path_of(key, prefix), digest) for key, digest in digests.items()}
    return sorted(path for path, sha in truth.present.items() if (path, sha) not in held)


def compare(
    reader: BucketReader,
    truth: Truth,
    prefix: str,
    *,
    planted: Mapping[str, str] | None = None,
    journal: Iterable[Entry] = (),
    ignore: frozenset[str] = frozenset(),
) -> Findings:
    """Compare the bucket with the truth.

    Args:
        planted: key to SHA-256 of objects that were there before; they must be unchanged.
        journal: the proxy's, to find keys that were written more than once.
        ignore: keys of neither kind (a capability probe).
    """
    planted = planted or {}
    digests = reader.digests(prefix)
    ours = {k: v for k, v in digests.items() if k not in planted and k not in ignore}
    # A planted object with the file's own bytes counts as that file's object.
    found = Findings(missing=missing_in(digests, truth, prefix), left_behind=reader.uploads(prefix))
    seen: dict[tuple[str, str], str] = {}
    for key, digest in sorted(ours.items()):
        path = path_of(key, prefix)
        if not truth.allows(path, digest):
            found.different.append(key)
        elif (path, digest) in seen:
            found.doubled.append(f"{key} = {seen[path, digest]}")
        seen.setdefault((path, digest), key)
    found.overwritten = [key for key, digest in planted.items() if digests.get(key) != digest]
    found.overwritten += [key for key in written_twice(journal) if key not in ignore]
    found.objects, found.size_bytes = len(digests), reader.size_bytes
    return found


def written_twice(journal: Iterable[Entry]) -> list[str]:
    """Keys that the store accepted more than one write of. Completing one upload twice is one write."""
    writes = {
        (entry.key, entry.upload_id or number)
        for number, entry in enumerate(journal)
        if entry.operation in ("PutObject", "CompleteMultipartUpload") and entry.status == 200
    }
    counted = Counter(key for key, _ in writes)
    return sorted(key for key, count in counted.items() if count > 1)
