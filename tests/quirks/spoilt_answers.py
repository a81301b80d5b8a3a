"""Answers that a bad middlebox spoils on their way back."""

from __future__ import annotations

import asyncio

from multidict import CIMultiDict

from tests.quirks.server import WRITES, Answer, Forward, Profile, Request, counted_key


class Sometimes(Profile):
    """Base of the dialects of a bad middlebox: `times` answers per operation and key are spoilt, then none.

    Args:
        times: None spoils every one.
        operations: which.

    Attributes:
        every: only each `every`-th of the answers that could be spoilt is; tests set it, so that they end soon.
    """

    def __init__(self, times: int | None = 1, operations: frozenset[str] = WRITES) -> None:
        self.times = times
        self.operations = operations
        self.spoilt: dict[tuple[str, str], int] = {}
        self.every = 1
        self.seen = 0

    async def handle(self, request: Request, forward: Forward) -> Answer:
        name = (request.operation, counted_key(request.key))
        count = self.spoilt.get(name, 0)
        if request.operation not in self.operations or (self.times is not None and count >= self.times):
            return await forward(request)
        self.seen += 1
        if self.seen % self.every:
            return await forward(request)
        self.spoilt[name] = count + 1
        return await self.spoil(request, forward)

    async def spoil(self, request: Request, forward: Forward) -> Answer:
        raise NotImplementedError


class TruncatedAnswer(Sometimes):
    """The store did it; its answer ends in the middle (RFC 9112, section 8: an incomplete message).

    boto3 reports a truncated document at Complete as a ClientError with status 500 that the store never sent.
    """

    async def spoil(self, request: Request, forward: Forward) -> Answer:
        answer = await forward(request)
        if not answer.body:
            answer.raw = b"HTTP/1.1"
        answer.announced_bytes = len(answer.body) + 64
        answer.sent_bytes = len(answer.body) // 2
        return answer


class HangingAnswer(Sometimes):
    """The store did it; its answer never comes.

    https://ibm.github.io/ibm-cos-sdk-js-v2/classes/clients_client-s3_src.CompleteMultipartUploadCommand.html quotes
    AWS: a Complete may take several minutes.

    Args:
        seconds: the answer comes after so long; None: never.
    """

    def __init__(
        self,
        seconds: float | None = None,
        times: int | None = 1,
        operations: frozenset[str] = WRITES,
    ) -> None:
        super().__init__(times, operations)
        self.seconds = seconds

    async def spoil(self, request: Request, forward: Forward) -> Answer:
        answer = await forward(request)
        if self.seconds is None:
            answer.hang = True
        else:
            await asyncio.sleep(self.seconds)
        return answer


class HtmlErrorPage(Sometimes):
    """A proxy on the way answers 502 with an HTML page.

    https://github.com/localstack/serverless-localstack/issues/57 (what botocore makes of such a page).
    """

    async def spoil(self, request: Request, forward: Forward) -> Answer:
        page = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
        return Answer(502, CIMultiDict({"Content-Type": "text/html"}), page)


class WrongLength(Sometimes):
    """Content-Length promises another length than the body has (RFC 9112, section 6.3).

    boto3 does not notice a length that is too great for an empty body, as PutObject's is.

    Args:
        by: positive: more is announced than comes; negative: the document is cut short and looks complete.
    """

    def __init__(self, by: int = 100, times: int | None = 1, operations: frozenset[str] = WRITES) -> None:
        super().__init__(times, operations)
        self.by = by

    async def spoil(self, request: Request, forward: Forward) -> Answer:
        answer = await forward(request)
        length = max(0, len(answer.body) + self.by)
        answer.announced_bytes = length
        answer.sent_bytes = min(length, len(answer.body))
        return answer
