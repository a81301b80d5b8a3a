"""Why no answer came: from the exceptions of the SDK and the system to a cause and a cure."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from cloud_archive.store.aws_session import AwsConfigurationError
from cloud_archive.store.silence import explain_silence, proxy_refused, system_message

URL = "http://127.0.0.1:9"
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
PROXY = "proxy:3128"


def not_connected(inner: Exception) -> sdk.EndpointConnectionError:
    return sdk.EndpointConnectionError(endpoint_url=URL, error=inner)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (sdk.ConnectTimeoutError(endpoint_url=URL), "ConnectTimeout"),
        (sdk.ReadTimeoutError(endpoint_url=URL), "ReadTimeout"),
        (sdk.ConnectionClosedError(endpoint_url=URL), "ConnectionClosed"),
        (sdk.ConnectionClosedError(endpoint_url=URL, error=TimeoutError("timed out")), "ReadTimeout"),
        (not_connected(REFUSED), "ConnectionRefused"),
        (not_connected(OSError(errno.EHOSTUNREACH, "No route to host")), "Unreachable"),
        (not_connected(socket.gaierror(-2, "Name or service not known")), "NameNotResolved"),
        (sdk.NoCredentialsError(), "NoCredentials"),
        (sdk.ProfileNotFound(profile="x"), "NoCredentials"),
        (sdk.FlexibleChecksumError(error_msg="differs"), "BadDigest"),
        (ResponseParserError("<html>welcome"), "NotS3"),
        (ResponseParserError("cut off"), "ConnectionClosed"),
        (ValueError("Invalid endpoint: x"), "InvalidEndpoint"),
        (ValueError("Invalid bucket name 'a b'"), "InvalidBucketName"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "ConnectionClosed"),
        (TimeoutError(), "ReadTimeout"),
        (ZeroDivisionError("odd"), "ZeroDivisionError"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_kind_of_silence_has_its_code(error: Exception, code: str) -> None:
    assert explain_silence(error, None).code == code


def test_a_wrong_aws_configuration_is_not_blamed_on_the_proxy() -> None:
    error = AwsConfigurationError("No closing quotation")
    error.__cause__ = ValueError("No closing quotation")
    assert explain_silence(error, PROXY).code == "AwsConfiguration"


def test_an_inner_exception_is_found_wherever_it_is_kept() -> None:
    inner = ssl.SSLError("certificate has expired")
    for outer in (sdk.HTTPClientError(error=inner), Exception("outer", inner), _caused(inner)):
        assert explain_silence(outer, None).code == "TLS"


def _caused(inner: Exception) -> Exception:
    outer = Exception("outer")
    outer.__cause__ = inner
    return outer


def test_exceptions_that_name_each_other_end() -> None:
    first, second = Exception("first"), Exception("second")
    first.__cause__, second.__cause__ = second, first
    assert explain_silence(first, None).code == "Exception"


@pytest.mark.parametrize(
    ("words", "cause", "cure"),
    [
        ("wrong version number", "does not speak TLS", "http://"),
        ("certificate has expired", "has expired", "clock"),
        ("hostname mismatch", "for another name", "S3_ENDPOINT_URL"),
        ("self-signed certificate", "certificate", "S3_CA_BUNDLE"),
    ],
)
def test_a_certificate_is_explained_by_what_is_wrong_with_it(words: str, cause: str, cure: str) -> None:
    failure = explain_silence(sdk.SSLError(endpoint_url=URL, error=ssl.SSLError(words)), None)
    assert (failure.code, cause in failure.cause, cure in failure.cure) == ("TLS", True, True)


def test_tls_that_just_ends_is_a_connection_that_was_cut_off() -> None:
    inner = ssl.SSLEOFError(8, "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol")
    assert explain_silence(inner, None).code == "ConnectionClosed"
    assert explain_silence(sdk.SSLError(endpoint_url=URL, error=inner), None).code == "ConnectionClosed"


def test_a_bundle_that_cannot_be_read_is_a_wrong_setting() -> None:
    failure = explain_silence(
        OSError("Could not find a suitable TLS CA certificate bundle, invalid path: /x"), None
    )
    assert (failure.code, failure.cure) == ("TLS", "Correct S3_CA_BUNDLE.")


def test_behind_a_proxy_a_name_that_does_not_resolve_is_the_proxys() -> None:
    error = sdk.ProxyConnectionError(proxy_url="http://proxy:3128", error=socket.gaierror(-2, "unknown"))
    failure = explain_silence(error, PROXY)
    assert failure.code == "ProxyUnreachable"
    assert "SOCKS" in failure.cure
    assert PROXY in failure.cause
    assert explain_silence(error, None).code == "NameNotResolved"


@pytest.mark.parametrize(
    ("answer", "transient"), [("403 Forbidden", False), ("407 Auth", False), ("503 Busy", True)]
)
def test_a_proxy_that_refuses_is_named_with_its_answer(answer: str, transient: bool) -> None:
    failure = explain_silence(OSError(f"Tunnel connection failed: {answer}"), PROXY)
    assert (failure.code, failure.transient) == ("ProxyRefused", transient)
    assert f"The proxy {PROXY} refuses the connection to the store ({answer})." == failure.cause
    assert proxy_refused(PROXY, answer, transient=transient) == failure


def test_the_systems_words_are_those_of_the_innermost_error() -> None:
    assert (
        system_message(not_connected(REFUSED)) == "[Errno 111] Connection refused"
        or errno.ECONNREFUSED != 111
    )
    assert system_message(ValueError("odd")) == ""
