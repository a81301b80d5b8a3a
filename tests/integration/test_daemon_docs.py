"""The daemon starts and ends as docs/daemon.md and docs/examples/ say."""

from __future__ import annotations

import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.servers import S3Server

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def blocks(page: str) -> list[str]:
    text = (DOCS / page).read_text("utf-8")
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def words_of(line: str, **instead: str) -> list[str]:
    words = shlex.split(line.removesuffix("&"))
    assert words[0] == "cloud-archive"
    return [sys.executable, "-m", "cloud_archive", *(instead.get(word, word) for word in words[1:])]


@pytest.mark.store
@pytest.mark.skipif(os.name == "nt", reason="systemd and its signals")
def test_the_daemon_tells_systemd_when_it_is_ready_and_ends_on_sigterm_and_the_stop_hook_answers(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    first, in_start_script, stop_hook = blocks("daemon.md")
    assert "--serve" in first
    assert in_start_script == "cloud-archive watch --log-file cloud-archive.log &"
    root = tmp_path / "output"
    root.mkdir()
    environ = os.environ | server_environ(seaweedfs, tmp_path, root)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "s"))
        # Read at once: the daemon drops a message that the full socket does not take within a second.
        messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        reader = threading.Thread(target=read_messages, args=(systemd, messages))
        reader.start()
        arguments = words_of(first, **{"DIR": str(root), "127.0.0.1:8189": "127.0.0.1:0"})
        told = environ | {"NOTIFY_SOCKET": str(tmp_path / "s"), "WATCHDOG_USEC": "400000"}
        daemon = subprocess.Popen(arguments, env=told, cwd=tmp_path, stderr=subprocess.DEVNULL)
        try:
            assert messages.get(timeout=60) == b"READY=1"
            assert messages.get(timeout=60) == b"WATCHDOG=1"
            (root / "a.png").write_bytes(b"a")
            hook = subprocess.run(
                words_of(stop_hook), env=environ, cwd=tmp_path, capture_output=True, check=False
            )
            assert hook.returncode == 0, hook.stderr
            assert seaweedfs.keys() == ["out/a.png"]
            daemon.send_signal(signal.SIGTERM)
            while (message := messages.get(timeout=60)) == b"WATCHDOG=1":
                pass
            assert message == b"STOPPING=1"
            assert daemon.wait(60) == 0
        finally:
            daemon.kill()
            daemon.wait()
            systemd.shutdown(socket.SHUT_RD)
            reader.join()
    assert "Archived a.png as out/a.png" in (tmp_path / "cloud-archive.log").read_text("utf-8")


def read_messages(channel: socket.socket, messages: queue.SimpleQueue[bytes]) -> None:
    """Pass messages on until the socket is shut down."""
    while message := channel.recv(100):
        messages.put(message)


def server_environ(server: S3Server, base: Path, root: Path) -> dict[str, str]:
    return server.environ(
        S3_PREFIX="out",
        COMFYUI_OUTPUT_DIR=str(root),
        CLOUD_ARCHIVE_STATE_DIR=str(base / "state"),
        PYTHONPATH=str(ROOT),
    )


def number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    assert match is not None, pattern
    return int(match.group(1))


def test_the_unit_waits_longer_than_the_daemon_and_starts_it_as_the_page_says() -> None:
    unit = (DOCS / "examples" / "cloud-archive.service").read_text("utf-8")
    assert "Type=notify" in unit
    assert number(r"TimeoutStopSec=(\d+)", unit) > number(r"--grace (\d+)", unit)
    assert number(r"WatchdogSec=(\d+)", unit) >= 30


def test_compose_and_dockerfile_fit_together() -> None:
    yaml = pytest.importorskip("yaml")
    compose = yaml.safe_load((DOCS / "examples" / "compose.yaml").read_text("utf-8"))
    dockerfile = (DOCS / "examples" / "Dockerfile").read_text("utf-8")
    service = compose["services"]["cloud-archive"]
    build = DOCS / "examples" / service["build"]["context"]
    assert (build / service["build"]["dockerfile"]).samefile(DOCS / "examples" / "Dockerfile")
    assert number(r"(\d+)s", service["stop_grace_period"]) > number(r'"--grace", "(\d+)"', dockerfile)
    assert set(compose["volumes"]) == {volume.split(":")[0] for volume in service["volumes"]}
    assert all(port.startswith("127.0.0.1:") for port in service["ports"]), "it has no password"
    for mounted in service["volumes"]:
        assert mounted.split(":")[1] in dockerfile
    # The user has no home where the engine could be found, so the image names the directory for `docker exec`.
    assert re.search(r"ENV .*COMFYUI_OUTPUT_DIR=/output", dockerfile)


def test_the_image_holds_what_the_installation_needs_and_no_file_of_secrets() -> None:
    yaml = pytest.importorskip("yaml")
    examples = DOCS / "examples"
    service = yaml.safe_load((examples / "compose.yaml").read_text("utf-8"))["services"]["cloud-archive"]
    lines = (examples / "Dockerfile").read_text("utf-8").splitlines()
    copied = {source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]}
    assert copied == {"pyproject.toml", "README.md", "LICENSE", "cloud_archive", "web"}
    clone, secrets = examples / service["build"]["context"], examples / service["env_file"]
    assert not any(secrets.resolve().is_relative_to((clone / source).resolve()) for source in copied)
