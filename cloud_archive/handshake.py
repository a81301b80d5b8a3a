"""Call an engine over its private port. Both sides prove that they know its token, which is never sent.

After a crash another user's program may listen on the engine's port. So each call carries a fresh nonce with its HMAC
under the token, and an answer without the matching HMAC is rejected.

ComfyUI's process loads this module: standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

PROOF_HEADER = "Cloud-Archive-Proof"
_SCHEME = "Cloud-Archive"
_AUTHORIZATION = re.compile(rf"{_SCHEME} ([0-9a-f]{{32}}) ([0-9a-f]{{64}})")


class NotTheEngine(OSError):
    """Another program answers on the engine's port."""


@dataclass(frozen=True, slots=True)
class SignedCall:
    """The headers of a call, and the value that the answer's `PROOF_HEADER` must have."""

    headers: Mapping[str, str]
    expected: str = field(repr=False)

    def check_answer(self, proof: str | None) -> None:
        """Raise NotTheEngine unless this value of the answer's `PROOF_HEADER` is the expected one."""
        given = proof or ""
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self.expected.encode()):
            raise NotTheEngine("another program answers on the engine's port")


def sign_call(token: str, method: str, path: str) -> SignedCall:
    """Sign one call to an engine. A query in `path` is not signed."""
    nonce = secrets.token_hex(16)
    path = unquote(path.partition("?")[0])  # the engine compares the decoded path
    return SignedCall(
        {"Authorization": f"{_SCHEME} {nonce} {_digest(token, 'call', nonce, method, path)}"},
        _digest(token, "answer", nonce, method, path),
    )


def proof_for(token: str, method: str, path: str, authorization: str) -> str | None:
    """Return the answer's `PROOF_HEADER` for a call; None if it isn't signed by the token.

    Args:
        path: decoded, and without query.
    """
    match = _AUTHORIZATION.fullmatch(authorization)
    if match is None:
        return None
    nonce, signature = match.groups()
    if not hmac.compare_digest(signature, _digest(token, "call", nonce, method, path)):
        return None
    return _digest(token, "answer", nonce, method, path)


def _digest(token: str, purpose: str, nonce: str, method: str, path: str) -> str:
    message = "\n".join((purpose, nonce, method, path))
    return hmac.new(token.encode(), message.encode(), hashlib.sha256).hexdigest()


def call_engine(
    port: int,
    token: str,
    method: str,
    path: str,
    body: Mapping[str, Any] | bytes | None,
    timeout_seconds: float,
) -> tuple[int, Any]:
    """Call an engine over loopback. Return the HTTP status, and the answer's JSON; None if the answer is not JSON.

    Args:
        body: sent as JSON; bytes must be JSON already; None = `{}`. A GET sends none.
        timeout_seconds: how long to wait for the connection, and for each part of the answer.

    Raises:
        NotTheEngine: another program answers there.
        OSError, http.client.HTTPException: the engine can't be reached, or does not answer in time.
    """
    import http.client

    signed = sign_call(token, method, path)
    encoded = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    content = None if method == "GET" else encoded
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    with contextlib.closing(connection):
        connection.request(method, path, content, {**signed.headers, "Content-Type": "application/json"})
        answer = connection.getresponse()
        signed.check_answer(answer.headers.get(PROOF_HEADER))
        try:
            return answer.status, json.load(answer)
        except ValueError:
            return answer.status, None
