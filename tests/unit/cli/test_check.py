"""What `check` prints for its steps, where, and with which exit status."""

from __future__ import annotations

import json
import threading

import pytest

from cloud_archive.cli.app import main
from cloud_archive.maintenance.check import CheckStep

OK = CheckStep("settings", True)
WARNED = CheckStep("clock", True, cause="It is 90 s ahead.", cure="Set the clock.")
SKIPPED = CheckStep("clock", None, cause="Its time is unknown.")
FAILED = CheckStep("bucket", False, cause="It is missing.", cure="Make it.", message="NoSuch\nBucket")
WRONG = CheckStep("settings", False, cause="S3_BUCKET is not set.")


def run(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *steps: CheckStep,
    options: tuple[str, ...] = (),
) -> tuple[int, list[str], list[str]]:
    monkeypatch.setattr("cloud_archive.maintenance.check.run_check", lambda _: list(steps))
    status = main(["check", *options])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err.splitlines()


def test_steps_are_listed_and_summed_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = run(capsys, monkeypatch, OK, SKIPPED)
    assert (status, err) == (0, [])
    assert [line.split() for line in out[:2]] == [
        ["ok", "settings"],
        ["-", "clock", "Its", "time", "is", "unknown."],
    ]
    assert out[2] == "Everything works: files can be archived."
    _, out, _ = run(capsys, monkeypatch, OK, WARNED)
    assert out[1].split()[:2] == ["warn", "clock"]
    assert out[1].endswith("It is 90 s ahead. Set the clock.")
    assert out[2] == "Files can be archived; see the warnings above."


def test_a_store_that_does_not_answer_is_mentioned_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    mentioned = threading.Event()

    def run_check(_: object) -> list[CheckStep]:
        return [CheckStep("connection", mentioned.wait(60))]

    monkeypatch.setattr("cloud_archive.maintenance.check.run_check", run_check)
    monkeypatch.setattr("cloud_archive.cli.common.SILENT_SECONDS", 0)
    monkeypatch.setattr("cloud_archive.cli.common.print_error", lambda words: mentioned.set())
    assert main(["check"]) == 0


@pytest.mark.parametrize(("step", "status"), [(FAILED, 1), (WRONG, 2)])
def test_a_failure_is_on_standard_error_and_wrong_settings_have_their_own_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, step: CheckStep, status: int
) -> None:
    steps = [step] if step is WRONG else [OK, step]
    found, out, err = run(capsys, monkeypatch, *steps)
    assert found == status
    assert len(out) == len(steps) - 1, "no summary"
    assert err[0].startswith(f"FAILED  {step.name}")
    assert "[NoSuch\\nBucket]" in err[0] or step is WRONG


def test_json_holds_every_step_and_failures_are_printed_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = run(capsys, monkeypatch, OK, FAILED, options=("--json",))
    assert (status, len(out), len(err)) == (1, 1, 1)
    assert [(step["name"], step["ok"]) for step in json.loads(out[0])] == [
        ("settings", True),
        ("bucket", False),
    ]
