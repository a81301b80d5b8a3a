"""The client keeps a child process running: a real process and server, around a stand-in for the engine."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from cloud_archive.comfyui.engine_client import EngineAnswer, EngineClient, Timing
from cloud_archive.errors import EngineUnavailable
from tests.servers import wait_until

from .waiting import engines, until

SCRIPT = Path(__file__).parent / "fake_engine_process.py"
# Restarts come fast; a slow answer of a healthy engine, on a busy machine, ends nothing.
FAST = Timing(
    ready=60,
    first_backoff=0.05,
    longest_backoff=0.2,
    health_interval=0.1,
    health_answer=60,
    deaf=60,
    silence=60,
    heartbeat=3600,  # no cause is pushed a second time
    patience=60,
)
HASTY = replace(FAST, health_answer=0.2, deaf=0.5)
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


T = TypeVar("T")


def result_at_once(call: Coroutine[Any, Any, T]) -> T:
    """Return the result of a call that must finish in its first step, without waiting for the event loop."""
    with pytest.raises(StopIteration) as ended:
        call.send(None)
    result: T = ended.value.value
    return result


class Observed:
    """A client, the statuses that it pushed, and what its engine processes recorded."""

    def __init__(self, directory: Path, mode: str, timing: Timing) -> None:
        self.mode = mode
        self.journal = directory / "journal"
        self.pushed: list[dict[str, Any]] = []
        self.client = EngineClient(
            directory / "output",
            directory / "state",
            on_status=self.pushed.append,
            command=[sys.executable, str(SCRIPT), mode, str(self.journal)],
            timing=timing,
        )

    @property
    def notes(self) -> list[dict[str, Any]]:
        if not self.journal.exists():
            return []
        return [json.loads(line) for line in self.journal.read_text().splitlines()]

    @property
    def lives(self) -> list[dict[str, Any]]:
        return [note for note in self.notes if "orders" in note]

    def up(self, session: str | None = None) -> bool:
        return any(
            status["state"] == "idle" and session in (None, status["session_id"]) for status in self.pushed
        )

    def causes(self) -> list[str]:
        return [status["errors"][0] for status in self.pushed if status["state"] == "unavailable"]


Begin = Callable[..., Awaitable[Observed]]


@pytest.fixture
async def begin(tmp_path: Path) -> AsyncIterator[Begin]:
    begun: list[Observed] = []

    async def begin(mode: str = "normal", timing: Timing = FAST) -> Observed:
        observed = Observed(tmp_path, mode, timing)
        begun.append(observed)
        observed.client.start()
        return observed

    yield begin
    for observed in begun:
        await observed.client.stop()
        if observed.mode == "deaf":  # the client may not have noticed yet that it hangs
            for child in engines():
                child.kill()
    # Nothing is left behind: no child, no zombie, no thread.
    await until(lambda: not engines())
    await until(lambda: not engine_threads())


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "cloud-archive-engine"]


async def test_an_engine_starts_with_its_orders_on_standard_input_only(begin: Begin, tmp_path: Path) -> None:
    observed = await begin()
    assert (await observed.client.status())["state"] == "starting"
    await until(observed.up)
    life = observed.lives[0]
    orders = life["orders"]
    assert orders["root"] == str(tmp_path / "output")
    assert orders["state_base"] == str(tmp_path / "state")
    assert len(orders["token"]) >= 43
    assert orders["token"] not in " ".join(psutil.Process(life["pid"]).cmdline())
    assert orders["token"] not in " ".join(psutil.Process(life["pid"]).environ().values())
    assert (await observed.client.status())["state"] == "idle"


async def test_a_call_during_the_first_start_waits_for_it(begin: Begin) -> None:
    observed = await begin()
    answer = await observed.client.call("POST", "/cloud-sync/rescan", json={}, timeout_seconds=60)
    assert (answer.status, answer.json()["success"]) == (200, True)


@posix
async def test_ctrl_c_in_the_terminal_does_not_reach_the_engine(begin: Begin) -> None:
    observed = await begin()
    await until(observed.up)
    life = observed.lives[0]
    assert life["session"] == life["pid"] != os.getsid(0)


@posix
async def test_a_killed_engine_is_started_again_and_the_status_says_so(begin: Begin) -> None:
    observed = await begin()
    await until(observed.up)
    os.kill(observed.lives[0]["pid"], signal.SIGKILL)
    await until(lambda: len(observed.lives) == 2 and observed.up(str(observed.lives[1]["pid"])))
    assert any("SIGKILL" in cause for cause in observed.causes())
    assert observed.pushed[-1]["state"] == "idle"
    assert observed.lives[0]["orders"]["token"] != observed.lives[1]["orders"]["token"]
    assert observed.lives[0]["orders"]["started_at"] == observed.lives[1]["orders"]["started_at"]
    await until(lambda: not psutil.pid_exists(observed.lives[0]["pid"]))  # no zombie


async def test_a_missing_dependency_is_named_in_the_cause(begin: Begin) -> None:
    observed = await begin("no-module")
    await until(observed.causes)
    assert observed.causes() == ["The engine ended at start: No module named 'boto3'"]
    status = result_at_once(observed.client.status())
    with pytest.raises(EngineUnavailable, match="boto3"):
        result_at_once(observed.client.call("POST", "/cloud-sync/start", json={}, timeout_seconds=60))
    assert (status["state"], status["running"], status["safe_to_stop"]) == ("unavailable", False, False)
    assert status["errors"] == observed.causes()


async def test_one_cause_is_pushed_once_however_often_it_comes_back(begin: Begin) -> None:
    observed = await begin("exit-7")
    threads: set[int] = set()

    def three_lives() -> bool:
        threads.update(id(thread) for thread in engine_threads())
        return len(threads) >= 3

    await until(three_lives)
    assert observed.causes() == ["The engine ended at start with exit status 7."]


async def test_a_cause_never_holds_a_secret(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "verysecret")
    observed = await begin("secret")
    await until(observed.causes)
    assert observed.causes() == ["The engine ended at start: it quotes *** by accident"]


async def test_an_engine_that_cannot_be_started_is_a_cause_too(tmp_path: Path) -> None:
    pushed: list[dict[str, Any]] = []
    command = [str(tmp_path / "no python")]
    client = EngineClient(tmp_path, None, on_status=pushed.append, command=command, timing=FAST)
    client.start()
    await until(lambda: pushed)
    await client.stop()
    assert pushed[0]["errors"][0].startswith("The engine can't be started: ")


@pytest.mark.parametrize(
    ("mode", "ready_seconds", "cause"),
    [("garbage", 30, "something unexpected"), ("mute", 0.5, "did not answer within 0.5 s of its start")],
)
async def test_an_engine_that_does_not_answer_as_it_should_is_ended(
    begin: Begin, mode: str, ready_seconds: float, cause: str
) -> None:
    observed = await begin(mode, Timing(ready=ready_seconds, first_backoff=30))
    await until(observed.causes)
    assert cause in observed.causes()[0]


async def test_an_engine_that_starts_too_slowly_gets_more_time_at_its_next_starts(begin: Begin) -> None:
    observed = await begin("mute", replace(FAST, ready=0.3, longest_ready=1))
    await until(lambda: len(observed.causes()) >= 3)
    given = [cause.partition("within ")[2].partition(" s")[0] for cause in observed.causes()[:3]]
    assert given == ["0.3", "0.6", "1"]


async def test_an_engine_that_hangs_is_ended_and_started_again(begin: Begin) -> None:
    observed = await begin("deaf", HASTY)
    await until(lambda: len(observed.lives) == 2)
    assert "did not answer for" in observed.causes()[0]


async def test_calls_are_answered_at_once_while_the_engine_hangs(begin: Begin) -> None:
    observed = await begin("deaf", Timing(health_interval=0.05, health_answer=0.1, deaf=60))
    await until(lambda: observed.lives)
    await until(lambda: observed.client._connection is not None and observed.client._connection.misses >= 2)
    status = result_at_once(observed.client.status())
    assert status["errors"] == ["The engine is not answering right now."]
    await until(lambda: observed.client._connection is not None and observed.client._connection.misses >= 3)
    await observed.client.stop()  # kills it: it would never notice that its input was closed
    await until(lambda: not engines())


async def test_a_chatty_engine_is_not_blocked(begin: Begin) -> None:
    observed = await begin("chatty")
    await until(lambda: any(status["state"] == "idle" for status in observed.pushed))


async def test_the_last_of_many_changes_is_pushed(begin: Begin) -> None:
    observed = await begin("busy")
    await until(observed.up)
    await until(lambda: observed.pushed[-1]["uploaded_files"] == 199)


async def test_after_stop_the_engine_ends_by_itself(begin: Begin) -> None:
    observed = await begin()
    await until(observed.up)
    engine = psutil.Process(observed.lives[0]["pid"])
    engine.suspend()
    await observed.client.stop()
    assert engine.is_running(), "`stop` does not wait for its end"
    engine.resume()
    await until(lambda: observed.notes[-1] == {"end": True})
    assert (await observed.client.status())["errors"] == ["The engine was stopped."]
    await observed.client.stop()


async def test_a_client_that_was_never_started_answers_and_stops(tmp_path: Path) -> None:
    client = EngineClient(tmp_path, None, on_status=lambda _: None)
    assert (await client.status())["state"] == "unavailable"
    await client.stop()


@posix
async def test_many_lives_leak_no_file_descriptor(begin: Begin) -> None:
    observed = await begin()
    await until(observed.up)

    def restarted(life: int) -> bool:
        return len(observed.lives) > life and observed.up(str(observed.lives[-1]["pid"]))

    for life in range(1, 6):
        os.kill(observed.lives[-1]["pid"], signal.SIGKILL)
        await until(partial(restarted, life))
        if life == 1:
            gc.collect()
            before = psutil.Process().num_fds()
    await until(lambda: psutil.Process().num_fds() <= before + 1)


async def test_the_real_engine_without_settings_is_not_configured_and_ends_with_us(tmp_path: Path) -> None:
    pushed: list[dict[str, Any]] = []
    client = EngineClient(tmp_path / "output", tmp_path / "state", on_status=pushed.append)
    client.start()
    try:
        await until(lambda: pushed and pushed[-1]["state"] == "not_configured")
        status = await client.status()
        assert (status["state"], status["running"]) == ("not_configured", False)
        assert any("S3_BUCKET" in sentence for sentence in status["errors"])
        answer = await client.call("POST", "/cloud-sync/start", json={}, timeout_seconds=60)
        assert (answer.status, answer.json()["success"]) == (500, False)
    finally:
        await client.stop()
    await until(lambda: not engines())
    await until(lambda: not engine_threads())


def test_a_closed_loop_is_no_trouble_for_the_thread(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        client = EngineClient(tmp_path, None, on_status=lambda _: None, command=command)
        client.start()
        await until(lambda: client._connection is not None and client._connection.process.pid)
        await client.stop()

    loop.run_until_complete(begin())
    loop.close()
    wait_until(lambda: not engine_threads(), "its thread has ended")


@posix
async def test_an_engine_that_is_stopped_by_a_signal_is_unavailable_until_it_goes_on(begin: Begin) -> None:
    observed = await begin(timing=Timing(silence=0.6, heartbeat=0.2, first_backoff=0.05))
    await until(observed.up)
    pid = observed.lives[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        # A heartbeat repeats it.
        await until(lambda: [status["state"] for status in observed.pushed[-3:]] == ["unavailable"] * 3)
        assert observed.causes()[-1] == "The engine is not answering right now."
        assert result_at_once(observed.client.status())["state"] == "unavailable"
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: observed.pushed[-1]["state"] == "idle")


async def test_while_the_engine_is_down_the_status_is_pushed_again_as_a_heartbeat(begin: Begin) -> None:
    observed = await begin("exit-7", Timing(first_backoff=60, heartbeat=0.1))
    await until(lambda: len(observed.causes()) > 3)
    assert set(observed.causes()) == {"The engine ended at start with exit status 7."}


async def test_an_engine_whose_events_come_is_not_asked_for_its_health(begin: Begin) -> None:
    observed = await begin(timing=Timing(health_interval=0.5))
    await until(observed.up)
    life = observed.client._connection
    assert life is not None
    silences: list[float] = []
    call = observed.client.call

    async def noted(method: str, path: str, **more: Any) -> EngineAnswer:
        silences.append(asyncio.get_running_loop().time() - life.heard_at)
        return await call(method, path, **more)

    observed.client.call = noted  # type: ignore[method-assign]
    heard_at = life.heard_at
    await until(lambda: life.heard_at > heard_at + 1.2)  # two intervals of its checks
    assert all(seconds >= 0.5 for seconds in silences), "a busy machine may hold an event up"


def test_silence_is_shorter_than_what_a_page_waits_and_longer_than_two_heartbeats() -> None:
    assert 2 * Timing().heartbeat < Timing().silence <= 10
