"""Stores that tell less of an object than S3 does: ETags that are no MD5, and no metadata."""

from __future__ import annotations

import random
import re

from multidict import CIMultiDict

from tests.quirks.server import Answer, Forward, Profile, Request


class RandomEtags(Profile):
    """ETags that are no MD5 of anything (SSE-KMS, some gateways): a fresh one for each write, stable after.

    https://docs.aws.amazon.com/sdk-for-ruby/v2/api/Aws/S3/Types/Object.html (the ETag may or may not be an MD5
    digest).
    Part ETags are translated back at Complete, so that uploads go through. x-amz-checksum-* answers are left out.
    """

    def __init__(self, seed: int = 0) -> None:
        self.dice = random.Random(seed)
        self.real: dict[str, str] = {}
        self.shown: dict[str, str] = {}

    def _masked(self, etag: str) -> str:
        if etag not in self.shown:
            fake = f"{self.dice.getrandbits(128):032x}"
            self.shown[etag] = fake
            self.real[fake] = etag
        return self.shown[etag]

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation == "CompleteMultipartUpload":
            for fake, etag in self.real.items():
                request.body = request.body.replace(fake.encode(), etag.encode())
        answer = await forward(request)
        if "ETag" in answer.headers:
            answer.headers["ETag"] = '"' + self._masked(answer.headers["ETag"].strip('"')) + '"'
        for name in [name for name in answer.headers if name.lower().startswith("x-amz-checksum")]:
            answer.headers.popall(name, None)
        if answer.status == 200 and b"<ETag>" in answer.body:
            answer.body = re.sub(rb"[0-9a-f]{32}(?:-\d+)?(?=\W*(?:\w+;)?</ETag>)", self._sub, answer.body)
        return answer

    def _sub(self, found: re.Match[bytes]) -> bytes:
        return self._masked(found[0].decode()).encode()


class NoMetadata(Profile):
    """Accepts x-amz-meta-* and forgets it.

    https://github.com/coollabsio/maxio/pull/21, https://github.com/chimera-nas/chimera/issues/482 (multipart).

    Args:
        checksums: whether the store still tells x-amz-checksum-* of an object.
    """

    def __init__(self, *, checksums: bool = True) -> None:
        self.checksums = checksums

    async def handle(self, request: Request, forward: Forward) -> Answer:
        _drop(request.headers, "x-amz-meta-")
        answer = await forward(request)
        if not self.checksums:
            _drop(answer.headers, "x-amz-checksum-")
        return answer


def _drop(headers: CIMultiDict[str], prefix: str) -> None:
    for name in {name for name in headers if name.lower().startswith(prefix)}:
        headers.popall(name, None)
