"""Count how often a store accepts both of two simultaneous create-only writes of one key; with boto3 alone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from tests.servers import S3Server


def count_double_accepts(server: S3Server, pairs: int) -> str:
    """Send `pairs` pairs of PutObject and of CompleteMultipartUpload; return the result as a sentence."""
    client, bucket = server.client, server.bucket

    def put(key: str) -> Callable[[], object]:
        return lambda: client.put_object(Bucket=bucket, Key=key, Body=b"put", IfNoneMatch="*")

    def complete(key: str) -> Callable[[], object]:
        upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        part = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"part")
        parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        return lambda: client.complete_multipart_upload(
            Bucket=bucket,
            Key=key,
            UploadId=upload,
            MultipartUpload=parts,
            IfNoneMatch="*",
        )

    found = []
    for name, prepare in (("PutObject", put), ("CompleteMultipartUpload", complete)):
        outcomes: Counter[str] = Counter()
        for number in range(pairs):
            outcomes[" and ".join(sorted(_at_once([prepare(f"{name}/{number}") for _ in range(2)])))] += 1
        said = ", ".join(f"{answers} {count} times" for answers, count in outcomes.most_common())
        found.append(f"{name}: {said}")
    return "; ".join(found)


def _at_once(calls: list[Callable[[], object]]) -> list[str]:
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> str:
        barrier.wait(60)
        try:
            call()
        except ClientError as error:
            return str(error.response["ResponseMetadata"]["HTTPStatusCode"])
        return "200"

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
