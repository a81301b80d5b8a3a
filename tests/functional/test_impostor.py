"""Another program listens on the port of a killed engine: no client believes it, and it learns no token."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from cloud_archive.archive.engine import Engine
from cloud_archive.cli.app import main
from cloud_archive.comfyui.engine_client import EngineClient, Timing
from cloud_archive.errors import EngineUnavailable
from cloud_archive.handshake import PROOF_HEADER, NotTheEngine, call_engine
from cloud_archive.state import EngineInfo, make_state_directory, write_engine_info
from tests.functional.archives import ENVIRON
from tests.functional.waiting import until

TOKEN = "the-token-of-the-engine-that-was-killed-0123"
SAFE = {
    "success": True,
    "released": True,
    "message": "Safe to stop: everything is in the bucket.",
    "ok": True,
}


class Impostor(ThreadingHTTPServer):
    """Answers every request that all is well, replays a proof that it saw, and records what it receives."""

    daemon_threads = True

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.status = 200
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: Impostor

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.heard.append(f"{self.requestline}\n{self.headers}\n{body.decode()}")
        answer = json.dumps(SAFE | {"safe_to_stop": True, "state": "idle", "status": {"safe_to_stop": True}})
        self.send_response(self.server.status)
        self.send_header(PROOF_HEADER, "0" * 64)
        self.send_header("Location", f"http://127.0.0.1:{self.server.port}/elsewhere")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def impostor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Impostor]:
    monkeypatch.setattr("cloud_archive.api.client._HEALTH_SECONDS", 60.0)
    monkeypatch.setattr("cloud_archive.archive.ownership.HANDOVER_ANSWER_SECONDS", 60.0)
    server = Impostor()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
    assert not any(TOKEN in heard for heard in server.heard)


@pytest.mark.usefixtures("own_state")
@pytest.mark.parametrize("command", ["status", "flush", "retry"])
@pytest.mark.parametrize("locked", [False, True])
def test_a_command_does_not_believe_the_impostor(
    impostor: Impostor, root: Path, capsys: pytest.CaptureFixture[str], command: str, locked: bool
) -> None:
    (root / "a.png").write_bytes(b"not archived")
    state = make_state_directory(root, None)
    write_engine_info(state, EngineInfo(1, impostor.port, TOKEN, str(root), "0"))
    lock = FileLock(state / "engine.lock")
    if locked:
        lock.acquire()
    try:
        assert main([command, str(root)]) == 1
    finally:
        lock.release()
    said = capsys.readouterr()
    assert impostor.heard
    assert "Safe to stop: everything" not in said.out
    assert "No archive of this user is running" in said.out


@pytest.mark.parametrize("status", [200, 302, 401, 503])
def test_no_answer_of_the_impostor_counts(impostor: Impostor, status: int) -> None:
    impostor.status = status
    with pytest.raises(NotTheEngine):
        call_engine(impostor.port, TOKEN, "POST", "/cloud-sync/flush", {}, 60)
    assert len(impostor.heard) == 1, "no redirect is followed"


async def test_the_plugin_does_not_believe_the_impostor(impostor: Impostor, tmp_path: Path) -> None:
    ready = {"port": impostor.port, "pid": 1, "version": "0"}
    child = f"import sys; sys.stdin.readline(); print({json.dumps(ready)!r}, flush=True); sys.stdin.read()"
    pushed: list[dict[str, Any]] = []
    client = EngineClient(
        tmp_path,
        None,
        on_status=pushed.append,
        command=[sys.executable, "-c", child],
        timing=Timing(ready=60, patience=60),
    )
    client.start()
    try:
        with pytest.raises(EngineUnavailable, match="Another program"):
            await client.call("POST", "/cloud-sync/flush", json={}, timeout_seconds=60)
        assert (await client.status())["safe_to_stop"] is False
        await until(lambda: any("/cloud-sync/events" in heard for heard in impostor.heard))
        assert client._connection is not None
        token = client._connection.token
    finally:
        await client.stop()
    assert not any(status["safe_to_stop"] for status in pushed)
    assert not any(token in heard for heard in impostor.heard)


def test_a_standby_does_not_take_over_on_the_impostors_word(
    impostor: Impostor, root: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    directory = make_state_directory(root, state)
    write_engine_info(directory, EngineInfo(1, impostor.port, TOKEN, str(root), "0"), machine_wide=False)
    engine = Engine(root, state_base=state, environ=ENVIRON, machine_wide=False)
    engine.prepare()
    assert engine.ownership.ask_for_handover() is False
    assert impostor.heard


def test_a_program_that_never_answers_is_no_engine_unless_one_holds_the_lock(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, own_state: None
) -> None:
    import socket

    monkeypatch.setattr("cloud_archive.api.client._HEALTH_SECONDS", 0.2)
    state = make_state_directory(root, None)
    (state / "engine.lock").touch()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        write_engine_info(state, EngineInfo(1, deaf.getsockname()[1], TOKEN, str(root), "0"))
        assert main(["status", str(root)]) == 0
        assert "No archive of this user is running" in capsys.readouterr().out
        with FileLock(state / "engine.lock"):
            assert main(["status", str(root)]) == 1
        assert "does not answer" in capsys.readouterr().err
