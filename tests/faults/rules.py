"""What the fault proxy does to a request, when it does it, and what its journal says of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from tests.faults.http_wire import Head


class Kind(Enum):
    """What happens to a request. The store sees it, unless the comment says that it does not."""

    LATENCY = "latency"  # `seconds` pass before the request goes on
    BANDWIDTH = "bandwidth"  # body and answer flow at `bytes_per_second`
    RESET_BEFORE = "reset before"  # connection reset; the store sees nothing
    RESET_BODY = "reset during the body"  # reset after `share` of the body; the store sees a torn request
    LOST_ANSWER = "lost answer"  # the store succeeded; reset before its answer is passed on
    TRUNCATED = (
        "truncated answer"  # `share` of the body (or head, where no body is), then the connection closes
    )
    ERROR_500 = "500 InternalError"  # not seen by the store
    SLOW_DOWN = "503 SlowDown"  # not seen by the store
    ERROR_IN_200 = (
        "200 with an error in it"  # as S3 may answer CompleteMultipartUpload; not seen by the store
    )
    TOO_MANY = "429 with Retry-After"  # not seen by the store; `seconds` is the Retry-After
    HANG = "hang"  # read, never answered until `release()`, then reset; not seen by the store
    HANG_AFTER = "hang after success"  # the same, but the store has done it
    BLACKHOLE = "blackhole"  # the head is read, the body never; not seen by the store
    WRONG_CHECKSUM = "wrong checksum"  # ETag and x-amz-checksum-* of the answer are changed


_ANSWERS = {
    Kind.ERROR_IN_200: ("200 OK", "InternalError"),
    Kind.ERROR_500: ("500 Internal Server Error", "InternalError"),
    Kind.SLOW_DOWN: ("503 Slow Down", "SlowDown"),
    Kind.TOO_MANY: ("429 Too Many Requests", "TooManyRequests"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind with its parameters; a kind ignores those that its comment does not name.

    Attributes:
        any_answer: LOST_ANSWER and HANG_AFTER also strike a refusal; by default a refusal passes.
    """

    kind: Kind
    seconds: float = 0.05
    bytes_per_second: int = 1_000_000
    share: float = 0.5
    any_answer: bool = False

    def answer(self, request: Head) -> bytes | None:
        """Return what the client gets instead of the store's answer; None: this kind has no answer of its own."""
        if self.kind not in _ANSWERS:
            return None
        status, code = _ANSWERS[self.kind]
        text = f"<Error><Code>{code}</Code><Message>Injected fault.</Message></Error>".encode()
        lines = [f"HTTP/1.1 {status}", "Content-Type: application/xml", f"Content-Length: {len(text)}"]
        if self.kind is Kind.TOO_MANY:
            lines.append(f"Retry-After: {self.seconds:.0f}")
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if request.method == "HEAD" else text)


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request, as a rule's predicate gets it."""

    operation: str
    bucket: str
    key: str
    method: str
    target: str
    headers: dict[str, str]


@dataclass(slots=True)
class Entry:
    """A line of the journal. `status` is the store's; None if the store was not asked or did not answer."""

    operation: str
    key: str
    fault: Kind | None = None
    status: int | None = None
    sent_bytes: int = 0
    done: bool = False
    upload_id: str = ""


@dataclass(slots=True, eq=False)
class Rule:
    """When a fault strikes. `applied` counts how often it did, `held` the requests that it made hang."""

    fault: Fault
    operations: frozenset[str] | None = None
    when: Callable[[Request], bool] | None = None
    times: int | None = None
    probability: float = 1.0
    skip: int = 0
    applied: int = field(default=0)
    held: int = field(default=0)

    def strikes(self, request: Request, dice: random.Random) -> bool:
        """Decide, and count; called under the proxy's lock."""
        if self.times is not None and self.applied >= self.times:
            return False
        if self.operations is not None and request.operation not in self.operations:
            return False
        if self.when is not None and not self.when(request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.probability < 1.0 and dice.random() >= self.probability:
            return False
        self.applied += 1
        return True


class Listening(Enum):
    """How the port treats new connections."""

    OPEN = "open"
    REFUSED = "refused"  # no program listens
    ACCEPTS = "accepts"  # connections open, nothing is ever read
    SILENT = "silent"  # the connect itself is never answered (Linux: the backlog is full)


async def throttle(fault: Fault | None, size_bytes: int) -> None:
    if fault and fault.kind is Kind.BANDWIDTH:
        await asyncio.sleep(size_bytes / fault.bytes_per_second)
