"""The little of HTTP/1.1 that the fault proxy needs: heads, body framing, and how to falsify a checksum.

Source: RFC 9112, sections 2 to 7.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request or an answer: its bytes as they came, and its fields by lower-case name."""

    first: str
    headers: tuple[tuple[str, str], ...]
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        fields = (line.partition(":") for line in lines)
        return cls(first, tuple((name.lower(), value.strip()) for name, _, value in fields), raw)

    def get(self, name: str) -> str:
        """Return the field's value; empty if it is missing."""
        return next((value for found, value in self.headers if found == name), "")

    def without(self, name: str) -> Head:
        """Return the same head without this field; every other byte stays."""
        if not self.get(name):
            return self
        lines = self.raw.split(b"\r\n")
        prefix = name.encode() + b":"
        return Head.parse(b"\r\n".join(x for x in lines if not x.lower().startswith(prefix)))

    @property
    def method(self) -> str:
        return self.first.split(" ", 2)[0]

    @property
    def target(self) -> str:
        return self.first.split(" ", 2)[1]

    @property
    def status(self) -> int:
        return int(self.first.split(" ", 2)[1])

    @property
    def is_answer(self) -> bool:
        return self.first.startswith("HTTP/")

    def bodyless(self, request_method: str) -> bool:
        """Whether an answer to `request_method` never has a body, whatever its fields say."""
        return self.is_answer and (request_method == "HEAD" or self.status in (204, 304))

    def framed(self, request_method: str) -> bool:
        """Whether the fields give the end of the body, so that the connection can stay open."""
        return (
            self.bodyless(request_method)
            or bool(self.get("content-length"))
            or "chunked" in self.get("transfer-encoding").lower()
        )


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read the next head; skip interim answers (1xx). None if the other side closed the connection."""
    while True:
        try:
            head = Head.parse(await reader.readuntil(b"\r\n\r\n"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        if not (head.is_answer and 100 <= head.status < 200):
            return head


async def read_body(
    reader: asyncio.StreamReader, head: Head, piece_bytes: int, *, request_method: str = ""
) -> AsyncIterator[bytes]:
    """Yield the body in pieces as they come over the wire (chunk framing included).

    Raises:
        EOFError: the other side closed before the end.
    """
    if head.bodyless(request_method):
        return
    if "chunked" in head.get("transfer-encoding").lower():
        async for piece in _read_chunks(reader):
            yield piece
        return
    length = head.get("content-length")
    if not length and head.is_answer:
        while piece := await reader.read(piece_bytes):
            yield piece
        return
    left = int(length or 0)
    while left > 0:
        piece = await reader.read(min(left, piece_bytes))
        if not piece:
            raise EOFError
        left -= len(piece)
        yield piece


async def _read_chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        if size == 0:
            trailer = line
            while line != b"\r\n":
                line = await reader.readuntil(b"\r\n")
                trailer += line
            yield trailer
            return
        yield line + await reader.readexactly(size + 2)


def _other_hex(text: str) -> str:
    return text.translate(str.maketrans("0123456789abcdefABCDEF", "123456789abcdef0BCDEFA"))


def _other_base64(text: str) -> str:
    digest, dash, parts = text.partition("-")
    try:
        flipped = bytes(byte ^ 0xFF for byte in base64.b64decode(digest, validate=True))
    except ValueError:
        return _other_hex(text)
    return base64.b64encode(flipped).decode() + dash + parts


async def corrupt_answer(head: Head, body: AsyncIterator[bytes]) -> tuple[Head, AsyncIterator[bytes]]:
    """Return the same answer with another ETag and other x-amz-checksum-* values of the same length.

    The body of a small XML answer (CompleteMultipartUpload, ListParts) is changed too.
    """
    lines = []
    for line in head.raw.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if name.lower() == "etag":
            digest, dash, parts = value.partition("-")
            line = name + colon + _other_hex(digest) + dash + parts
        elif name.lower().startswith("x-amz-checksum-") and name.lower() != "x-amz-checksum-type":
            line = f"{name}: {_other_base64(value.strip())}"
        lines.append(line)
    changed = Head.parse("\r\n".join(lines).encode("latin-1"))
    if "xml" not in head.get("content-type"):
        return changed, body
    whole = b"".join([piece async for piece in body])
    pattern = re.compile(rb"(<ETag>(?:&#34;|&quot;|\")?)([0-9a-f]{32})|(<Checksum\w+>)([\w+/=]+)")
    return changed, _once(pattern.sub(_other_match, whole))


def _other_match(found: re.Match[bytes]) -> bytes:
    if found[2] is not None:
        return found[1] + _other_hex(found[2].decode()).encode()
    return found[3] + _other_base64(found[4].decode()).encode()


async def _once(whole: bytes) -> AsyncIterator[bytes]:
    yield whole


def reset_connection(writer: asyncio.StreamWriter) -> None:
    """Close this connection with a RST."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
