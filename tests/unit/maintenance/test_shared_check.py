"""One connection check at a time, for everybody who asks meanwhile."""

from __future__ import annotations

import threading
from datetime import datetime

import pytest

from cloud_archive.config.settings import Settings
from cloud_archive.errors import SettingProblem, SettingsError
from cloud_archive.maintenance.shared_check import SharedCheck


class Load:
    """Settings that are wrong, read when `go` allows it."""

    def __init__(self) -> None:
        self.count = 0
        self.go = threading.Event()

    def __call__(self) -> Settings:
        self.count += 1
        assert self.go.wait(60)
        raise SettingsError([SettingProblem("S3_BUCKET", None, "a name")])


def test_forty_who_ask_at_once_share_one_check_and_the_next_one_is_new() -> None:
    load = Load()
    check = SharedCheck(load)
    futures = [check.begin() for _ in range(40)]
    assert check.last == {"checked_at": None, "steps": []}
    load.go.set()
    answers = [future.result(60) for future in futures]
    assert load.count == 1
    assert all(answer is answers[0] for answer in answers)
    assert check.last is answers[0]
    assert answers[0]["steps"][0]["ok"] is False
    assert datetime.fromisoformat(answers[0]["checked_at"])
    check.begin().result(60)
    assert load.count == 2


def test_a_check_that_fails_as_a_whole_is_raised_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("out of memory")

    load = Load()
    check = SharedCheck(load)
    with monkeypatch.context() as patched:
        patched.setattr("cloud_archive.maintenance.check.run_check", fail)
        with pytest.raises(RuntimeError):
            check.begin().result(60)
    assert check.last["checked_at"] is None
    load.go.set()
    assert check.begin().result(60)["steps"]


def test_a_check_for_which_no_thread_starts_holds_up_no_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    load = Load()
    load.go.set()
    check = SharedCheck(load)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            check.begin()
    assert check.begin().result(60)["steps"]
