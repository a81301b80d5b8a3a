"""Which requests go through a proxy, and what a refusal by one says."""

from __future__ import annotations

import asyncio
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import StoreError
from cloud_archive.maintenance.check import run_check
from cloud_archive.store.proxies import proxy_of
from cloud_archive.store.s3 import S3Store

ENVIRON = {
    "S3_BUCKET": "pictures",
    "S3_ACCESS_KEY_ID": "AKIATEST",
    "S3_SECRET_ACCESS_KEY": "planted+SECRET",
}


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("no_proxy", "endpoint", "direct"),
    [
        ("192.0.0.0/16", "http://192.0.2.1:9000", True),
        ("10.0.0.0/8, 192.0.0.0/16", "https://192.0.2.1", True),
        ("192.0.2.1/32", "http://192.0.2.1", True),
        ("192.0.2.99/16", "http://192.0.2.1", True),
        ("fd00::/8", "http://[fd00::1]:9000", True),
        ("192.1.0.0/16", "http://192.0.2.1:9000", False),
        ("192.0.0.0/16", "http://store.example:9000", False),
        ("192.0.0.0/99,nonsense/x", "http://192.0.2.1:9000", False),
        ("store.example", "http://store.example:9000", True),
        ("store.example:9000", "http://store.example:9000", True),
        ("store.example:9001", "http://store.example:9000", False),
        (".example", "http://store.example:9000", True),
        ("*", "http://192.0.2.1:9000", True),
        ("", "http://127.0.0.1:9000", True),
        ("", "http://minio.localhost:9000", True),
        ("", "http://192.0.2.1:9000", False),
    ],
)
def test_no_proxy_names_hosts_and_networks(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, endpoint: str, direct: bool
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:planted@proxy.example:3128")
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_of(endpoint) == (None if direct else "proxy.example:3128")
    store = S3Store(load_settings(ENVIRON | {"S3_ENDPOINT_URL": endpoint}))
    proxies = store._requests.client().sdk._endpoint.http_session._proxy_config._proxies  # type: ignore[attr-defined]
    assert bool(proxies) is not direct
    assert (store._requests.fast.client() is not None) is direct
    store.close()


@contextmanager
def refusing_proxy(status: int, reason: str | None = None) -> Iterator[int]:
    """A proxy that refuses everything as squid does, with this reason in the status line; yields its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def refuse(self) -> None:
            page = b"<!DOCTYPE html><html><body>ERR_ACCESS_DENIED</body></html>"
            self.send_response(status, reason)
            self.send_header("Content-Type", "text/html;charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page)

        do_GET = do_HEAD = do_PUT = do_POST = do_CONNECT = refuse  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("endpoint", ["http://192.0.2.1:9000", "https://192.0.2.1"])
@pytest.mark.parametrize(("status", "transient"), [(403, False), (407, False), (503, True)])
def test_a_refusal_by_a_proxy_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, status: int, transient: bool
) -> None:
    with refusing_proxy(status) as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:planted-pass@127.0.0.1:{port}")
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:planted-pass@127.0.0.1:{port}")
        store = S3Store(
            load_settings(ENVIRON | {"S3_ENDPOINT_URL": endpoint}), connect_seconds=60, read_seconds=60
        )
        requests: list[Callable[[], object]] = [lambda: store.head("a"), lambda: next(store.list(""), None)]
        for request in requests:
            with pytest.raises(StoreError) as raised:
                request()
            failure = raised.value.failure
            assert failure.code == "ProxyRefused"
            assert f"The proxy 127.0.0.1:{port} refuses the connection to the store" in failure.cause
            assert str(status) in failure.cause
            assert failure.transient is transient
            assert "planted" not in str(raised.value) + raised.value.store_message
        store.close()
        steps = {
            step.name: step
            for step in run_check(lambda: load_settings(ENVIRON | {"S3_ENDPOINT_URL": endpoint}))
        }
        assert steps["connection"].ok is False
        assert f"127.0.0.1:{port}" in steps["connection"].cause


async def test_a_store_may_be_behind_a_proxy_that_uses_tls(
    monkeypatch: pytest.MonkeyPatch, self_signed: tuple[Path, Path]
) -> None:
    """The store's TLS connection is then within the proxy's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed)
    methods: list[bytes] = []

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while piece := await source.read(65536):
            target.write(piece)
        target.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        methods.append((await reader.readuntil(b"\r\n\r\n")).split()[0])
        if methods[-1] == b"CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            from_store, to_store = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(copy(reader, to_store), copy(from_store, writer))
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n")
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{port}")
        settings = {"S3_ENDPOINT_URL": "https://store.example", "S3_CA_BUNDLE": str(self_signed[0])}
        store = S3Store(load_settings(ENVIRON | settings | {"S3_ADDRESSING_STYLE": "path"}))
        assert await asyncio.to_thread(store.head, "a") is None
        store.close()
    assert methods == [b"CONNECT", b"HEAD"]


def test_a_proxys_reason_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = ENVIRON["S3_SECRET_ACCESS_KEY"]
    with refusing_proxy(403, f"Forbidden for {secret}, {'x' * 30} {secret}") as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        store = S3Store(load_settings(ENVIRON | {"S3_ENDPOINT_URL": "https://192.0.2.1"}), connect_seconds=60)
        with pytest.raises(StoreError) as raised:
            store.head("a")
        store.close()
    assert "refuses the connection to the store (403 Forbidden for ***, xx" in raised.value.failure.cause
    assert secret[:6] not in f"{raised.value} {raised.value.store_message}"


def test_a_proxy_must_answer_within_the_time_for_making_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    send_bytes = HTTPConnection.send

    def noted(self: Any, data: Any) -> None:
        send_bytes(self, data)
        limits.append(self.sock.gettimeout())

    monkeypatch.setattr(HTTPConnection, "send", noted)
    with refusing_proxy(403) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        settings = load_settings(ENVIRON | {"S3_ENDPOINT_URL": "https://192.0.2.1"})
        store = S3Store(settings, connect_seconds=59, read_seconds=61)
        with pytest.raises(StoreError):
            store.head("a")
        store.close()
    assert set(limits) == {59}


def test_a_proxy_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    store = S3Store(load_settings(ENVIRON | {"S3_ENDPOINT_URL": "http://192.0.2.1:9000"}), connect_seconds=2)
    with pytest.raises(StoreError) as raised:
        store.head("a")
    assert raised.value.failure.cause == "The proxy 127.0.0.1:1 in front of the store can't be reached."
    store.close()


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("http://me:planted[pass@proxy.example:3128", "proxy.example:3128"),
        ("http://me:planted/pass@proxy.example:3128", "proxy.example:3128"),
        ("http://me:planted-pass@proxy.example:port/", "proxy.example:port"),
    ],
)
def test_a_proxy_whose_url_is_not_valid_is_named_as_the_cause(
    monkeypatch: pytest.MonkeyPatch, url: str, label: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", url)
    assert proxy_of("http://192.0.2.1:9000") == label
    store = S3Store(load_settings(ENVIRON | {"S3_ENDPOINT_URL": "http://192.0.2.1:9000"}))
    with pytest.raises(StoreError) as raised:
        store.head("a")
    failure = raised.value.failure
    assert (failure.code, failure.cause) == ("ProxyUnreachable", "The proxy's address is not a valid URL.")
    assert "%XX" in failure.cure
    assert "planted" not in str(raised.value) + raised.value.store_message
    store.close()
