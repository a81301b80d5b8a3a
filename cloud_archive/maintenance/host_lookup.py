"""Resolve a host name with a time limit; the system has none that a program can set."""

from __future__ import annotations

import queue
import socket
import threading

RESOLVE_SECONDS = 10.0


def resolve(host: str, port: int) -> str:
    """Return the first address of a host.

    Raises:
        OSError: it has none, or there was no answer within `RESOLVE_SECONDS`.
    """
    answers: queue.SimpleQueue[str | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]))
        except OSError as error:
            answers.put(error)

    # Nothing can stop the thread; it ends when the system answers.
    threading.Thread(target=look_up, name="cloud-archive-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=RESOLVE_SECONDS)
    except queue.Empty:
        raise socket.gaierror(socket.EAI_AGAIN, f"no answer within {RESOLVE_SECONDS:g} s") from None
    if isinstance(answer, OSError):
        raise answer
    return answer
