"""Errors of the system become those that requests have."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from cloud_archive.errors import StoreError
from cloud_archive.maintenance.check_network import call_system


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "ConnectionRefused"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "ConnectionClosed"),
        (ConnectionAbortedError(errno.ECONNABORTED, "aborted"), "ConnectionClosed"),
        (BrokenPipeError(errno.EPIPE, "broken pipe"), "ConnectionClosed"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:1000)"), "ConnectionClosed"),
        (OSError(errno.EHOSTUNREACH, "no route"), "Unreachable"),
        (TimeoutError("timed out"), "ConnectTimeout"),
        (socket.gaierror(socket.EAI_NONAME, "unknown name"), "NameNotResolved"),
        (ssl.SSLCertVerificationError("self-signed"), "TLS"),
    ],
)
def test_each_error_of_the_system_has_its_cause(error: OSError, code: str) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(StoreError) as raised:
        call_system(fail)
    assert raised.value.failure.code == code
    assert raised.value.status is None
    assert raised.value.__cause__ is error


def test_an_answer_and_a_defect_pass_as_they_are() -> None:
    assert call_system(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        call_system(lambda: 1 // 0)
