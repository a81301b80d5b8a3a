"""Look up a host's name with a time limit; the system has none that a program can set."""

from __future__ import annotations

import queue
import socket
import threading

RESOLVE_SECONDS = 10.0


def resolve(host: str, port: int) -> str:
    """Return the first address of a host.

    Raises:
        OSError: it has none, or the system did not find out in time.
    """
    answers: queue.SimpleQueue[str | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]))
        except OSError as error:
            answers.put(error)

    # It ends by itself, also long after the limit.
    threading.Thread(target=look_up, name="cloud-archive-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=RESOLVE_SECONDS)
    except queue.Empty:
        raise socket.gaierror(socket.EAI_AGAIN, f"no answer within {RESOLVE_SECONDS:g} s") from None
    if isinstance(answer, OSError):
        raise answer
    return answer
