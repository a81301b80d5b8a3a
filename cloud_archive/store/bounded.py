"""Read an answer's body with a limit, so that no answer can fill the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import urllib3

MAX_REFUSAL_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # a listing of 1,000 long keys with all characters escaped has 10 MB
PIECE_BYTES = 64 * 1024


def read_bounded(answer: urllib3.BaseHTTPResponse) -> bytes:
    """Return an answer's body; of a refusal (status 300 or higher) at most the first 128 KiB.

    Raises:
        urllib3.exceptions.ProtocolError: the body is cut off, or exceeds 16 MiB, which no S3 document does.
        urllib3.exceptions.ReadTimeoutError: the rest of the body does not come.
    """
    import urllib3

    is_refusal = answer.status >= 300
    left = MAX_REFUSAL_BYTES if is_refusal else MAX_ANSWER_BYTES
    pieces: list[bytes] = []
    for piece in answer.stream(PIECE_BYTES, decode_content=False):
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            answer.close()  # closes the connection, too, because the rest would still come on it
            if not is_refusal:
                raise urllib3.exceptions.ProtocolError("The answer does not end.")
            break
    else:
        answer.release_conn()
    return b"".join(pieces)
