"""The engine as ComfyUI's child: a real process, real signals, a real store."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloud_archive.comfyui.job_capture import JobCapture
from cloud_archive.daemon.orders import ORPHAN_SECONDS
from cloud_archive.handshake import NotTheEngine, call_engine
from tests.fork_server import Process, popen
from tests.functional.prompt_queue import PromptQueue, outputs
from tests.servers import S3Server, wait_until

pytestmark = [
    pytest.mark.store,
    pytest.mark.skipif(os.name == "nt", reason="signals and process groups of POSIX"),
]

# One grey pixel, without metadata.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c63680000008200817dcd72b60000000049454e44ae426082"
)
PACKAGE = Path(__file__).parents[2] / "cloud_archive"
TOKEN = "token-of-this-test"


@dataclass
class EngineUnderTest:
    """An engine process that this test, or a shell, started by path."""

    process: Process
    port: int
    pid: int

    def call(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = call_engine(self.port, TOKEN, method, path, body, 30)
        assert status == 200, answer
        return answer

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", "/cloud-sync/status")
        return found

    def state(self) -> str:
        return str(self.status()["state"])


class Starter:
    """Starts engines, and ends them all."""

    def __init__(self, state: Path, server: S3Server) -> None:
        self.state = state
        self.server = server
        self.root = state.parent / "output"
        self.root.mkdir(exist_ok=True)
        self.engines: list[EngineUnderTest] = []

    def __call__(
        self,
        package: Path = PACKAGE,
        flags: tuple[str, ...] = (),
        cwd: Path | None = None,
        autostart: bool | None = None,
        **environ: str,
    ) -> EngineUnderTest:
        """Start an engine: as a fork, which is fast, or with `flags` as a whole process."""
        process = popen(
            [sys.executable, *flags, str(package / "__main__.py"), "engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=cwd,
            start_new_session=True,
            env={
                **os.environ,
                **self.server.environ(S3_PREFIX="p", CLOUD_ARCHIVE_SETTLE_SECONDS="0.3"),
                **environ,
            },
        )
        assert process.stdin is not None
        assert process.stdout is not None
        orders = {
            "token": TOKEN,
            "root": str(self.root),
            "state_base": str(self.state),
            "autostart": autostart,
        }
        process.stdin.write(json.dumps(orders) + "\n")
        process.stdin.flush()
        ready = json.loads(process.stdout.readline())
        engine = EngineUnderTest(process, ready["port"], ready["pid"])
        self.engines.append(engine)
        return engine

    def close(self) -> None:
        for engine in self.engines:
            if engine.process.poll() is None:
                engine.process.kill()
            engine.process.wait()
            for stream in (engine.process.stdin, engine.process.stdout):
                if stream is not None:
                    stream.close()


@pytest.fixture
def start(tmp_path: Path, seaweedfs: S3Server) -> Iterator[Starter]:
    starter = Starter(tmp_path / "state", seaweedfs)
    yield starter
    starter.close()


def test_the_engine_archives_and_answers_only_to_its_token(start: Starter) -> None:
    engine = start()
    wait_until(lambda: engine.state() == "idle", "it watches")
    (start.root / "a.png").write_bytes(b"a")
    wait_until(lambda: engine.status()["uploaded_files"] == 1, "it arrives")
    assert start.server.objects() == {"p/a.png": b"a"}
    with pytest.raises(NotTheEngine):  # the answer 401 carries no proof for a caller without the token
        call_engine(engine.port, "another token", "GET", "/cloud-sync/status", None, 30)


def test_the_catalog_shows_jobs_of_comfyui_also_those_that_ended_while_no_engine_ran(start: Starter) -> None:
    queue, engines = PromptQueue(), [start()]
    capture = JobCapture(queue, lambda: (engines[-1].port, TOKEN), pause_seconds=0.05)
    capture.start()

    def job_of(name: str) -> tuple[str, str, bool] | None:
        capture.wake()
        for asset in engines[-1].call("GET", "/cloud-sync/assets")["assets"]:
            if asset["name"] == name:
                return asset["job_id"], asset["metadata"]["source"], asset["has_prompt"]
        return None

    def job_waits() -> bool:
        capture.wake()
        return capture.unsent_bytes > 0

    wait_until(lambda: engines[-1].state() == "idle", "it watches")
    (start.root / "a.png").write_bytes(PNG)
    queue.finish("first", outputs("a.png"), milliseconds=int(time.time() * 1000))
    wait_until(lambda: job_of("a.png") == ("first", "job", True), "the catalog knows the job")
    wait_until(lambda: capture.unsent_bytes == 0, "the capture has the engine's answer")
    engines[-1].process.kill()
    engines[-1].process.wait()
    (start.root / "b.png").write_bytes(PNG)
    queue.finish("second", outputs("b.png"), milliseconds=int(time.time() * 1000))
    wait_until(job_waits, "the job waits for an engine")
    queue.wipe_history()
    engines.append(start())
    wait_until(lambda: engines[-1].state() == "idle", "it watches again")
    wait_until(lambda: job_of("b.png") == ("second", "job", True), "the next engine hears of the job")
    assert job_of("a.png") == ("first", "job", True)
    capture.stop(60)


def test_no_argument_and_no_file_but_engine_json_holds_the_token(start: Starter) -> None:
    # With a flag it is no fork, which would show the arguments of the process that it comes from.
    engine = start(flags=("-u",))
    wait_until(lambda: engine.state() == "idle", "it watches")
    assert not any(TOKEN in word for word in psutil.Process(engine.pid).cmdline())
    info = start.state / "engine.json"
    assert info.stat().st_mode & 0o777 == 0o600
    assert start.state.stat().st_mode & 0o777 == 0o700
    holders = [p.name for p in start.state.iterdir() if p.is_file() and TOKEN.encode() in p.read_bytes()]
    assert holders == ["engine.json"]


def test_the_engine_has_a_lower_priority_than_comfyui(start: Starter) -> None:
    engine = start()
    assert psutil.Process(engine.pid).nice() == min(psutil.Process().nice() + 10, 19)
    session = Path(f"/proc/{engine.pid}/autogroup")
    if session.is_file():  # there a niceness counts within a session only
        assert session.read_text().endswith(" nice 10\n")
    if sys.platform == "linux":
        assert os.sched_getscheduler(engine.pid) == os.SCHED_BATCH, "it interrupts nobody when it wakes up"


def test_an_engine_whose_parent_is_gone_finishes_what_is_pending_and_ends(start: Starter) -> None:
    engine = start()
    wait_until(lambda: engine.state() == "idle", "it watches")
    for number in range(50):
        (start.root / f"{number:02}.png").write_bytes(os.urandom(30_000))
    assert engine.process.stdin is not None
    engine.process.stdin.close()
    engine.process.wait(60)
    assert len(start.server.keys()) == 50
    assert not (start.state / "engine.json").exists()


def test_a_parent_that_is_killed_leaves_an_engine_that_finishes(start: Starter) -> None:
    """The pipe's other end is held by a process that the parent forked, as a worker of ComfyUI may."""
    script = (
        "import os, subprocess, sys, json, time\n"
        "engine = subprocess.Popen([sys.executable, sys.argv[1], 'engine'], stdin=subprocess.PIPE,"
        " stdout=subprocess.PIPE, text=True, start_new_session=True)\n"
        "engine.stdin.write(sys.argv[2] + '\\n'); engine.stdin.flush()\n"
        "ready = engine.stdout.readline()\n"
        "if os.fork() == 0:\n    time.sleep(600)\n"  # before its line, after which it may be killed
        "print(ready, end='', flush=True)\n"
        "engine.wait()\n"
    )
    orders = json.dumps({"token": TOKEN, "root": str(start.root), "state_base": str(start.state)})
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(PACKAGE / "__main__.py"), orders],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **start.server.environ(S3_PREFIX="p")},
    )
    assert parent.stdout is not None
    try:
        ready = json.loads(parent.stdout.readline())
        engine = EngineUnderTest(parent, ready["port"], ready["pid"])
        wait_until(lambda: engine.state() == "idle", "it watches")
        for number in range(20):
            (start.root / f"{number:02}.png").write_bytes(os.urandom(30_000))
        parent.kill()
        parent.wait()
        wait_until(lambda: not psutil.pid_exists(ready["pid"]), "it ends")
        last = (start.state / "engine.log").read_text().splitlines()[-1]
        assert last.endswith("Everything is in the bucket.")
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.stdout.close()
    assert len(start.server.keys()) == 20


def test_sigterm_names_what_remains_and_the_next_start_goes_on(start: Starter) -> None:
    engine = start(S3_ENDPOINT_URL="http://127.0.0.1:9")
    wait_until(lambda: engine.status()["running"], "it watches")
    (start.root / "a.png").write_bytes(b"a")
    wait_until(lambda: engine.status()["pending_files"] == 1 and engine.state() == "retrying", "it waits")
    log = start.state / "engine.log"
    engine.process.terminate()
    wait_until(lambda: "Stopping within 30 s" in log.read_text(), "it is stopping")
    engine.process.terminate()  # in a hurry
    engine.process.wait(60)
    assert "Not archived yet: a.png" in log.read_text()
    last = log.read_text().splitlines()[-1]
    assert last.endswith("1 file (1 B) is not proven in the bucket yet; the next start continues with it.")
    again = start()
    wait_until(lambda: again.status()["safe_to_stop"], "it arrives")
    assert start.server.objects() == {"p/a.png": b"a"}


def test_ctrl_c_on_the_terminal_is_not_for_the_engine(start: Starter) -> None:
    engine = start()
    wait_until(lambda: engine.state() == "idle", "it watches")
    os.kill(engine.pid, signal.SIGINT)
    (start.root / "a.png").write_bytes(b"a")
    wait_until(lambda: engine.status()["uploaded_files"] == 1, "it goes on")


def test_a_second_engine_stands_by_and_takes_over_when_the_first_is_killed(start: Starter) -> None:
    first = start()
    wait_until(lambda: first.state() == "idle", "it watches")
    second = start()
    wait_until(lambda: second.state() == "standby", "it stands by")
    logs = [
        {Path(file.path).name for file in psutil.Process(engine.pid).open_files() if ".log" in file.path}
        for engine in (first, second)
    ]
    assert logs == [{"engine.log"}, {"standby.log"}], "each engine has a log of its own"
    (start.root / "a.png").write_bytes(b"a")
    wait_until(lambda: first.status()["uploaded_files"] == 1, "the first archives it")
    first.process.kill()
    (start.root / "b.png").write_bytes(b"b")
    wait_until(
        lambda: second.state() == "idle" and second.status()["uploaded_files"] == 1, "the second goes on"
    )
    assert start.server.objects() == {"p/a.png": b"a", "p/b.png": b"b"}
    assert "Took over" in (start.state / "engine.log").read_text("utf-8")


def test_two_engines_with_different_state_directories_archive_each_file_once(
    start: Starter, tmp_path: Path
) -> None:
    first = start()
    wait_until(lambda: first.state() == "idle", "it watches")
    start.state = tmp_path / "other-state"
    second = start(S3_PREFIX="other")
    wait_until(lambda: second.state() == "standby", "it stands by")
    (start.root / "a.png").write_bytes(b"a")
    wait_until(lambda: first.status()["uploaded_files"] == 1, "the first archives it")
    assert second.state() == "standby"
    assert start.server.objects() == {"p/a.png": b"a"}


def test_an_engine_without_a_parent_hands_over_before_its_time_is_up(start: Starter) -> None:
    first = start(S3_ENDPOINT_URL="http://127.0.0.1:9")
    wait_until(lambda: first.status()["running"], "it watches")
    (start.root / "a.png").write_bytes(b"a")
    wait_until(lambda: first.status()["pending_files"] == 1, "it waits for its store")
    assert first.process.stdin is not None
    first.process.stdin.close()
    second = start()
    assert ORPHAN_SECONDS > 60
    wait_until(lambda: second.status()["uploaded_files"] == 1, "the second archives it", 60)
    first.process.wait(60)


@pytest.mark.parametrize("folder", ["my plugin-1.0 (copy)", "cloud-archive"])
def test_the_engine_starts_from_any_folder_in_an_isolated_interpreter(
    start: Starter, tmp_path: Path, folder: str
) -> None:
    plugin = tmp_path / "custom_nodes" / folder
    shutil.copytree(PACKAGE, plugin / "cloud_archive", ignore=shutil.ignore_patterns("__pycache__"))
    engine = start(plugin / "cloud_archive", ("-I",), cwd=tmp_path)
    wait_until(lambda: engine.state() == "idle", "it watches")
    opened = {Path(found.path).name for found in psutil.Process(engine.pid).open_files()}
    assert "ledger.sqlite3" in opened


@pytest.mark.parametrize("autostart", [True, False])
def test_an_engine_watches_or_not_as_its_orders_say(start: Starter, autostart: bool) -> None:
    engine = start(autostart=autostart, CLOUD_ARCHIVE_AUTOSTART=str(not autostart))
    wait_until(lambda: engine.state() == ("idle" if autostart else "stopped"), "it watches, or not")


def test_an_engine_without_settings_names_the_missing_ones(start: Starter) -> None:
    engine = start(S3_BUCKET="", S3_SECRET_ACCESS_KEY="")
    wait_until(lambda: engine.state() == "not_configured", "it says so")
    errors = engine.status()["errors"]
    assert any("S3_BUCKET" in error for error in errors)
    assert any("S3_SECRET_ACCESS_KEY" in error for error in errors)


def test_no_secret_is_in_any_file_of_the_state_directory(start: Starter) -> None:
    engine = start(S3_SECRET_ACCESS_KEY="PLANTED/secret+value")
    wait_until(lambda: engine.status()["running"], "it watches")
    (start.root / "a.png").write_bytes(b"a")
    wait_until(
        lambda: engine.status()["pending_files"] == 1 and engine.state() == "retrying", "it is refused"
    )
    assert "PLANTED" not in json.dumps(engine.status())
    engine.process.terminate()
    engine.process.wait(60)
    for path in start.state.rglob("*"):
        assert not path.is_file() or b"PLANTED" not in path.read_bytes(), path


def test_a_crash_leaves_its_cause_in_the_log(start: Starter) -> None:
    engine = start(flags=("-u",))  # a whole process: its standard error is its own
    wait_until(lambda: engine.state() == "idle", "it watches")
    os.kill(engine.pid, signal.SIGSEGV)
    engine.process.wait(60)
    log = (start.state / "engine.log").read_text()
    assert "Fatal Python error: Segmentation fault" in log
    assert "Current thread" in log
