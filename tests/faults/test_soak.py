"""The soak's rules: what may come and go, and what counts as growth."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from tests.faults.__main__ import main
from tests.faults.soak import CACHES, MEBIBYTE, SPARE_DESCRIPTORS, Sample, SoakResult

SMALL, LARGE, SAMPLES = 20_000, 40, 40


def a_run() -> SoakResult:
    """Return a run in which threads and descriptors come and go: more in the last quarter, but not all the time."""
    return SoakResult(
        SMALL,
        LARGE,
        seconds=60.0,
        rows=SMALL + LARGE,
        samples=[
            Sample(
                seconds=float(number),
                files=number * SMALL // SAMPLES,
                memory=100 * MEBIBYTE + number * CACHES // SAMPLES,
                descriptors=66 + number % 4 * number,
                threads=36 + number % 4 * number // 30,
                cpu_seconds=float(number),
            )
            for number in range(SAMPLES)
        ],
    )


def test_threads_and_descriptors_may_come_and_go() -> None:
    run = a_run()
    early, late = run._parts()
    assert max(each.threads for each in late) > max(each.threads for each in early)
    assert max(each.descriptors for each in late) > max(each.descriptors for each in early)
    assert run.held
    assert any(line.startswith("last quarter, threads: least 36.0") for line in run.lines())


@pytest.mark.parametrize(
    ("column", "more"),
    [("threads", 1), ("descriptors", SPARE_DESCRIPTORS + 1), ("memory", 2 * CACHES)],
)
def test_what_stays_until_the_end_is_growth(column: str, more: int) -> None:
    run = a_run()
    _, late = run._parts()
    run.samples[-len(late) :] = [
        replace(sample, **{column: getattr(sample, column) + more}) for sample in late
    ]
    assert not run.held


def test_a_run_that_is_too_short_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tests.faults", "--soak", "5000"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--soak needs at least 20,000 files" in capsys.readouterr().err
