"""Measure time and requests of `verify` on 20,000 objects on a real SeaweedFS. Not part of the suite.

python -m tests.benchmarks verify [COUNT]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from cloud_archive.maintenance.verify import verify
from tests.integration.archives import Archive
from tests.servers import running_seaweedfs


def main(count: int = 20_000) -> int:
    """Returns 0 where the 3 that are deleted and the 2 that are replaced are found and repaired, and no other."""
    with tempfile.TemporaryDirectory() as folder, running_seaweedfs(Path(folder) / "store") as started:
        server = started.with_fresh_bucket()
        archive = Archive(Path(folder), server)
        for number in range(count):
            archive.write(f"d{number % 20}/{number:06}.png", b"%08d" % number)
        began = time.monotonic()
        archive.archive_all()
        print(f"archived {count:,} files in {time.monotonic() - began:.1f} s")
        _verify(archive, "intact")
        gone, replaced = (5, count // 2, count - 1), (7, count // 3)
        for number in gone:
            server.client.delete_object(Bucket=server.bucket, Key=f"out/d{number % 20}/{number:06}.png")
        for number in replaced:
            server.put(f"out/d{number % 20}/{number:06}.png", b"********")
        found = _verify(archive, "3 deleted, 2 replaced", repair=True)
        archive.archive_all()
        after = _verify(archive, "repaired")
        right = found == (3, 2, 5) and after == (0, 0, 0)
        print("right" if right else f"WRONG: {found}, {after}")
        return 0 if right else 1


def _verify(archive: Archive, name: str, *, repair: bool = False) -> tuple[int, int, int]:
    began = time.monotonic()
    with archive.ledger() as ledger, archive.store() as store:
        report = verify(ledger, store, archive.root, repair=repair)
    seconds = time.monotonic() - began
    requests = f"{report.list_requests} listings, {report.head_requests} HEADs, {report.read_requests} reads"
    print(f"{name}: {report.checked:,} checked in {seconds:.2f} s with {requests}")
    return report.missing, report.different, report.queued
