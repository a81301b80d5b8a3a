"""Count the requests for one file, by what the bucket holds, and the cost of a million of them.

python -m tests.benchmarks requests
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from cloud_archive.maintenance.costs import Provider, load_prices
from tests.benchmarks.page import PAGE, put_between
from tests.benchmarks.relay import Relay, port_of, through_port
from tests.benchmarks.stage import RunningEngine, engine, png
from tests.servers import S3Server, running_seaweedfs

MEBIBYTE = 1024 * 1024
Prepare = Callable[[S3Server, Path], None]

FIRST = "first file ever to a bucket (finds out what the store can)"
SMALL = "new file up to 8 MiB"
CONFLICT = "new file, its name is taken by other bytes"
SAME = "new file, the bucket holds these bytes already"
FIRST_LARGE = "first file ever in parts (finds out the same of parts)"
LARGE = "new file of 100 MiB"
LARGE_BYTES = 100 * MEBIBYTE


def count_requests(server: S3Server, work: Path, large_bytes: int = LARGE_BYTES) -> dict[str, Counter[str]]:
    """Return the requests of each case, by S3's names, on a store that honours create-only writes."""
    root = work / "requests"
    root.mkdir()
    found: dict[str, Counter[str]] = {}
    with Relay(port_of(server)) as relay, engine(root, through_port(server, relay.port)) as running:

        def case(name: str, file: str, body: bytes) -> None:
            relay.requests.clear()
            _archive(running, root / file, body)
            found[name] = Counter(_operation(method, target) for method, target in relay.requests)

        case(FIRST, "first.png", png(1000))
        case(SMALL, "small.png", png(1_500_000))
        server.put("ours/taken.png", b"somebody else's")
        case(CONFLICT, "taken.png", png(1_500_000))
        same = png(1_500_000)
        server.put("ours/same.png", same)
        case(SAME, "same.png", same)
        case(FIRST_LARGE, "first.bin", os.urandom(9 * MEBIBYTE))
        case(LARGE, "large.bin", os.urandom(large_bytes))
    shutil.rmtree(root)
    return found


def _archive(running: RunningEngine, path: Path, body: bytes) -> None:
    before = running.archived
    path.write_bytes(body)
    running.until_archived(before + 1)


def _operation(method: str, target: str) -> str:
    """S3's name of a request: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html"""
    _, _, query = target.partition("?")
    if method == "PUT":
        return "UploadPart" if "partNumber=" in query else "PutObject"
    if method == "POST":
        return "CompleteMultipartUpload" if "uploadId=" in query else "CreateMultipartUpload"
    if method == "DELETE":
        return "AbortMultipartUpload" if "uploadId=" in query else "DeleteObject"
    if method == "GET" and "uploadId=" in query:
        return "ListParts"
    if method == "GET" and ("list-type" in query or "uploads" in query):
        return "ListObjects"
    return "HeadObject" if method == "HEAD" else "GetObject"


def main(page: Path = PAGE) -> int:
    """Print the table, and put it into the page."""
    with tempfile.TemporaryDirectory() as directory, running_seaweedfs(Path(directory) / "store") as started:
        found = count_requests(started.with_fresh_bucket(), Path(directory))
    prices = {each.name: each for each in load_prices().providers}
    lines = ["| one file | requests | a million of them on R2 | on S3 |", "|---|---|---|---|"]
    for name, requests in found.items():
        shown = " + ".join(f"{count} {operation}" for operation, count in sorted(requests.items()))
        costs = [_of_a_million(requests, prices[each]) for each in ("Cloudflare R2", "AWS S3")]
        # A bucket has only one first file.
        cells = ("", "") if name in (FIRST, FIRST_LARGE) else (f"${costs[0]:,.2f}", f"${costs[1]:,.2f}")
        lines.append(f"| {name} | {shown} | {cells[0]} | {cells[1]} |")
    print("\n".join(lines))
    put_between(page, "requests", lines)
    return 0


def _of_a_million(requests: Counter[str], provider: Provider) -> float:
    """Return the cost of a million files in the prices' currency. Aborts and deletes are free at both providers."""
    reads = requests["HeadObject"] + requests["GetObject"]
    writes = sum(requests.values()) - reads - requests["AbortMultipartUpload"] - requests["DeleteObject"]
    return writes * provider.writes_million + reads * provider.reads_million


if __name__ == "__main__":
    sys.exit(main())
