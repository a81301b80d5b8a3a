"""What an answer about a job says, from its record and its files."""

from __future__ import annotations

import pytest

from cloud_archive.jobs.answers import catalog_json, is_final, job_json, job_state, unknown_json
from cloud_archive.jobs.records import JobRecord, Output


def record(
    state: str = "finished", status: str | None = "success", errors: tuple[str, ...] = ()
) -> JobRecord:
    return JobRecord("j", state, status=status, errors=errors)


def file(state: str | None, reason: str | None = None, *, cached: bool = False) -> Output:
    return Output(0, "9", f"{state}.png", "", "output", cached, state, reason=reason)


@pytest.mark.parametrize(
    ("job", "states", "expected"),
    [
        (record("queued", None), [], "running"),
        (record("running", None), [], "running"),
        (record(), [], "complete"),
        (record(), ["archived", "skipped", "not_archived", "pruned"], "complete"),
        (record(), ["archived", "pending"], "uploading"),
        (record(), ["failed", "retrying"], "uploading"),
        (record(status="error"), ["uploading"], "uploading"),
        (record(status="error"), ["archived"], "failed"),
        (record(status="removed"), [], "failed"),
        (record(), ["archived", "failed"], "failed"),
        (record(), ["baseline"], "failed"),
        (record(), ["vanished"], "failed"),
    ],
)
def test_the_state_of_a_job_follows_from_its_files(job: JobRecord, states: list[str], expected: str) -> None:
    outputs = [file(state) for state in states]
    assert job_state(job, outputs) == expected
    assert is_final(job_json(job, outputs)) is (expected in ("complete", "failed"))


def test_errors_are_those_of_the_job_and_of_files_that_are_not_safe() -> None:
    outputs = [
        file("failed", "Denied."),
        file("retrying", "Busy."),
        file("vanished", "Gone."),
        file("skipped", "Excluded."),
        file("failed"),
    ]
    assert job_json(record(errors=("It stopped.",)), outputs)["errors"] == [
        "It stopped.",
        "failed.png: Denied.",
        "retrying.png: Busy.",
        "vanished.png: Gone.",
    ]


def test_a_file_that_is_not_looked_up_yet_is_pending() -> None:
    (found,) = job_json(record(), [file(None, cached=True)])["files"]
    assert found == {
        "name": "None.png",
        "subfolder": "",
        "node": "9",
        "key": None,
        "sha256": None,
        "size": None,
        "state": "pending",
        "cached": True,
    }


def test_the_status_is_comfyuis_word_while_the_job_is_not_finished() -> None:
    assert job_json(record("queued", None), [])["status"] == "queued"
    assert job_json(record(status="interrupted"), [])["status"] == "interrupted"


def test_a_job_that_only_the_catalog_knows_is_complete() -> None:
    asset = {
        "name": "a.png",
        "path": "x/y/a.png",
        "key": "k",
        "sha256": "0" * 64,
        "size": 3,
        "job_id": "j",
        "created_at": "2026-11-01T08:00:00.000Z",
    }
    later = asset | {"path": "a.png", "created_at": "2026-11-01T08:00:01.000Z"}
    answer = catalog_json("j", [later, asset])
    assert (answer["state"], is_final(answer)) == ("complete", True)
    assert [found["subfolder"] for found in answer["files"]] == ["x/y", ""]
    assert not is_final(unknown_json("j"))


def test_files_of_a_job_whose_id_differs_in_case_are_left_out() -> None:
    asset = {"name": "a.png", "path": "a.png", "key": "k", "sha256": "s", "size": 1, "job_id": "J"}
    asset |= {"created_at": "2026-11-01T08:00:00.000Z"}
    assert catalog_json("j", [asset]) == unknown_json("j")
    assert len(catalog_json("j", [asset, asset | {"job_id": "j"}])["files"]) == 1
