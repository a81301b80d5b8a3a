"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_archive.cli.arguments import (
    DIRECTORY_VARIABLE,
    WrongUsage,
    given_directory,
    host_and_port,
    is_loopback_host,
    read_token,
    watched_directory,
)


def test_a_directory_on_the_command_line_comes_before_the_variable(tmp_path: Path) -> None:
    environ = {DIRECTORY_VARIABLE: f'"{tmp_path / "other"}"'}
    assert given_directory(tmp_path, environ) == tmp_path
    assert given_directory(None, environ) == tmp_path / "other"
    assert given_directory(None, {}) is None


@pytest.mark.parametrize("kind", ["none", "missing", "file"])
def test_a_directory_that_cannot_be_watched_is_wrong_usage(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(
        WrongUsage, match={"none": "No directory", "missing": "exist", "file": "not a dir"}[kind]
    ):
        watched_directory(None if kind == "none" else tmp_path / kind, {})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("8189", ("127.0.0.1", 8189)),
        (":8189", ("127.0.0.1", 8189)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:80", ("::1", 80)),
        ("pod.example:0", ("pod.example", 0)),
    ],
)
def test_the_address_of_serve(text: str, found: tuple[str, int]) -> None:
    assert host_and_port(text) == found


@pytest.mark.parametrize("text", ["", "host", "host:", "host:65536", "http://host:80", "host:٣"])
def test_what_is_no_address_is_wrong_usage(text: str) -> None:
    with pytest.raises(WrongUsage, match="HOST:PORT"):
        host_and_port(text)


@pytest.mark.parametrize("text", ["::1", "::", "fd00::5:8189", "[::1]", "::1:8189"])
def test_an_ipv6_address_needs_brackets_before_its_port(text: str) -> None:
    """Without them its last group would be taken for the port."""
    with pytest.raises(WrongUsage, match=r"\[::1\]:8189"):
        host_and_port(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("LOCALHOST", True), ("0.0.0.0", False), ("pod.example", False)],
)
def test_only_this_machine_reaches_loopback(host: str, loopback: bool) -> None:
    assert is_loopback_host(host) is loopback


@pytest.mark.parametrize("content", [b" secret-1 \nmore\n", b"\xef\xbb\xbfsecret-1\r\n"])
def test_a_token_is_the_first_line_of_its_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    assert read_token(tmp_path / "token") == "secret-1"


@pytest.mark.parametrize("content", [b"", b"\nsecret", b"two words", "höflich".encode(), b"\xff"])
def test_a_file_without_a_token_is_wrong_usage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(WrongUsage, match="--token-file"):
        read_token(tmp_path / "token")
