"""Where a webhook goes, and where it does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from cloud_archive.jobs.receiver import ReceiverFailed, is_private_host, post
from tests.functional.receivers import close_in_the_middle, receiving


def leading_to(*addresses: str) -> Any:
    """A resolver that gives these addresses for every name."""

    def resolve(host: str, port: int, **_: Any) -> Sequence[tuple[Any, ...]]:
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port),
            )
            for address in addresses
        ]

    return resolve


def test_a_message_arrives_as_it_was_sent() -> None:
    with receiving() as receiver:
        post(receiver.url, {"webhook-id": "m", "Content-Type": "application/json"}, b'{"a": 1}')
    ((headers, body),) = receiver.messages
    assert (headers["webhook-id"], headers["content-type"], body) == ("m", "application/json", b'{"a": 1}')
    assert headers["host"] == f"127.0.0.1:{receiver.server_port}"


def test_an_ipv6_address_may_end_in_letters() -> None:
    with receiving() as receiver:
        url = f"http://[fd00::abc]:{receiver.server_port}/x"
        post(url, {}, b"{}", resolve=leading_to("127.0.0.1"))
    ((headers, _),) = receiver.messages
    assert headers["host"] == f"[fd00::abc]:{receiver.server_port}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with (
        receiving(lambda number, handler: status) as receiver,
        pytest.raises(ReceiverFailed, match="redirects"),
    ):
        post(receiver.url, {}, b"{}")
    assert len(receiver.messages) == 1


@pytest.mark.parametrize("status", [400, 404, 410, 429, 500, 503])
def test_every_other_answer_is_a_failure(status: int) -> None:
    with (
        receiving(lambda number, handler: status) as receiver,
        pytest.raises(ReceiverFailed, match=str(status)),
    ):
        post(receiver.url, {}, b"{}")


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1", "224.0.0.1"),
        *("fec0::1", "64:ff9b:1::a00:1", "::7f00:1", "::ffff:0:7f00:1"),
    ],
)
def test_a_public_name_that_leads_to_a_private_address_is_refused(address: str) -> None:
    for addresses in ([address], ["93.184.216.34", address]):
        with pytest.raises(ReceiverFailed, match="private address"):
            post("https://hooks.example.com/x", {}, b"{}", resolve=leading_to(*addresses))


def test_a_name_that_is_private_by_itself_may_lead_to_a_private_address() -> None:
    with receiving() as receiver:
        post(f"http://n8n:{receiver.server_port}/x", {}, b"{}", resolve=leading_to("127.0.0.1"))
    assert len(receiver.taken) == 1


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("localhost", True),
        ("a.internal", True),
        ("hooks.home.arpa.", True),
        ("::1", True),
        ("example.com", False),
    ],
)
def test_private_names(host: str, private: bool) -> None:
    assert is_private_host(host) is private


def test_a_receiver_that_hangs_or_drips_is_left_in_time() -> None:
    done = threading.Event()

    def drip(number: int, handler: Any) -> None:
        handler.connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not done.wait(0.02):
            try:
                handler.connection.sendall(b"x")
            except OSError:
                return

    for misbehave in (lambda number, handler: 500 if done.wait(60) else None, drip):
        with receiving(misbehave) as receiver:
            with pytest.raises(ReceiverFailed):
                post(receiver.url, {}, b"{}", exchange_seconds=0.3)
            done.set()
        done.clear()


def test_half_a_head_is_no_answer() -> None:
    def half(number: int, handler: Any) -> None:
        handler.connection.sendall(b"HTTP/1.1 200 OK\r\nDate: x")

    with receiving(half) as receiver, pytest.raises(ReceiverFailed, match="closed"):
        post(receiver.url, {}, b"{}")


def test_a_receiver_that_is_away_or_closes_in_the_middle() -> None:
    with receiving(lambda number, handler: close_in_the_middle(handler)) as receiver:
        with pytest.raises(ReceiverFailed, match="closed"):
            post(receiver.url, {}, b"{}")
        url = receiver.url
    with pytest.raises(ReceiverFailed, match="refused"):
        post(url, {}, b"{}")


def test_no_failure_names_the_url() -> None:
    with receiving(lambda number, handler: 500) as receiver, pytest.raises(ReceiverFailed) as failed:
        post(receiver.url, {}, b"{}")
    assert "planted" not in str(failed.value)
    assert "127.0.0.1" not in str(failed.value)


def test_tls_is_verified(self_signed: tuple[Any, Any]) -> None:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed)
    with receiving() as receiver:
        receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
        with pytest.raises(ReceiverFailed, match="certificate"):
            post(receiver.url.replace("http://", "https://"), {}, b"{}")
    assert receiver.messages == []


def test_a_certificate_of_another_host_is_refused_and_no_host_named(
    self_signed: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ssl

    monkeypatch.setenv("SSL_CERT_FILE", str(self_signed[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed)
    with receiving() as receiver:
        receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
        post(receiver.url.replace("http://", "https://"), {}, b"{}")
        url = f"https://planted:{receiver.server_port}/x"
        with pytest.raises(ReceiverFailed, match="it is another host's") as failed:
            post(url, {}, b"{}", resolve=leading_to("127.0.0.1"))
    assert "planted" not in str(failed.value)
    assert len(receiver.messages) == 1
