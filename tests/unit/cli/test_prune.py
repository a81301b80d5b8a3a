"""What `prune` is asked to delete, and what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloud_archive.cli.arguments import WrongUsage
from cloud_archive.cli.prune import _MAX_SHOWN, _print_result, _rule
from cloud_archive.maintenance.prune_plan import PruneCandidate, PrunePlan, PruneReport, PruneRule


def test_the_options_are_a_rule() -> None:
    assert _rule("30d", None, False) == PruneRule(30 * 86_400.0, None, False)
    assert _rule("off", "1GB", True) == PruneRule(None, 10**9, True)


@pytest.mark.parametrize(
    ("older_than", "keep_bytes", "words"),
    [(None, None, "--older-than AGE"), ("off", None, "keeps everything"), (None, "soon", "--keep-bytes")],
)
def test_options_that_say_nothing_are_wrong_usage(
    older_than: str | None, keep_bytes: str | None, words: str
) -> None:
    with pytest.raises(WrongUsage, match=words):
        _rule(older_than, keep_bytes, False)


def plan(count: int, **more: Any) -> PrunePlan:
    return PrunePlan([PruneCandidate(f"out/{number:03}.png", 10, 0.0) for number in range(count)], **more)


def lines(
    capsys: pytest.CaptureFixture[str],
    made: PrunePlan,
    report: PruneReport | None = None,
    prefix: str = "out",
) -> list[str]:
    _print_result(made, report, prefix, json=False)
    return capsys.readouterr().out.splitlines()


def test_a_dry_run_lists_the_first_objects_and_says_how_to_delete(capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(capsys, plan(_MAX_SHOWN + 5))
    assert found[1].endswith("10 B  out/000.png")
    assert found[_MAX_SHOWN + 1 :] == [
        "… and 5 more",
        "Would delete 25 objects (250 B) below out/.",
        "Would keep: 0 objects (0 B).",
        "Nothing was deleted. Add --yes to delete.",
    ]


def test_a_dry_run_without_candidates_offers_no_deletion(capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(0, kept_files=2, kept_bytes=3, favorite_files=1, favorite_bytes=1, foreign_files=4)
    assert lines(capsys, made, prefix="") == [
        "Would delete 0 objects (0 B) in the bucket.",
        "Would keep: 2 objects (3 B).",
        "Favourites stay: 1 favourite (1 B) would be deleted otherwise. Add --favorites to delete them too.",
        "Not written by Cloud Archive, so left alone: 4.",
    ]


def test_what_was_not_tried_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    report = PruneReport(failed=[("out/a.png", "No.")], untried=2)
    _print_result(plan(3), report, "out", json=False)
    assert capsys.readouterr().err == "out/a.png: No.\nPrune stopped early: 2 objects were not tried.\n"
    _print_result(plan(3), report, "out", json=True)
    assert json.loads(capsys.readouterr().out)["untried"] == 2


def test_a_deletion_is_summed_up_and_failures_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    report = PruneReport(deleted=1, deleted_bytes=10, failed=[("out/a\n.png", "No.")])
    _print_result(plan(2), report, "out", json=False)
    assert capsys.readouterr() == ("Deleted 1 object (10 B) below out/.\n", "out/a\\n.png: No.\n")
    _print_result(plan(2), report, "out", json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["dry_run"], found["files"], found["deleted"]) == (False, 2, 1)
    assert found["failed"] == [{"s3_key": "out/a\n.png", "cause": "No."}]
