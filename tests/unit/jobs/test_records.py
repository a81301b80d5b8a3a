"""Records of finished jobs, from what ComfyUI's process passes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cloud_archive.jobs import records
from cloud_archive.jobs.records import (
    MAX_OUTPUTS,
    OUTSIDE,
    PREVIEW,
    JobRecord,
    Output,
    finished_job,
    with_relative_folders,
)
from tests.functional.jobs import output, passed_job

NOW = 1_775_046_896.0


def finished(**changes: Any) -> JobRecord:
    record = finished_job(passed_job("j", started_at=NOW - 9, finished_at=NOW - 1) | changes, NOW)
    assert record is not None
    return record


@pytest.mark.parametrize("job_id", [None, "", 7])
def test_without_an_id_it_is_no_job(job_id: Any) -> None:
    assert finished_job({"job_id": job_id}, NOW) is None


@pytest.mark.parametrize(
    ("changes", "times"),
    [
        ({}, (NOW - 9, NOW - 1)),
        ({"finished_at": None}, (NOW - 9, NOW)),
        ({"started_at": None}, (NOW - 1 - 86_400, NOW - 1)),
        ({"started_at": NOW + 5}, (NOW - 1, NOW - 1)),
    ],
)
def test_a_job_has_a_start_and_an_end_whatever_is_said(
    changes: dict[str, Any], times: tuple[float, float]
) -> None:
    record = finished(**changes)
    assert (record.started_at, record.finished_at) == times


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"status": None}, ()),
        ({"status": "success", "error": "ignored"}, ()),
        ({"status": "interrupted"}, ("The job was interrupted in ComfyUI.",)),
        ({"status": "error"}, ("The job failed in ComfyUI.",)),
        ({"status": "error", "error": "no disk"}, ("The job failed in ComfyUI: no disk",)),
        (
            {"status": "error", "error": "LLM (node 4): no answer from /v1/run?key=q8Zt4LmP0xVw7RbK2nYd"},
            ("The job failed in ComfyUI: LLM (node 4): no answer from /v1/run?[removed]",),
        ),
        (
            {
                "status": "error",
                "error": "LLM (node 4): invalid key 'plain-words-as-a-key'",
                "prompt": {"4": {"class_type": "LLM", "inputs": {"api_key": "plain-words-as-a-key"}}},
            },
            ("The job failed in ComfyUI: LLM (node 4): invalid key '[removed]'",),
        ),
        (
            {"status": "error", "options": {"urls": 1}},
            ("The job failed in ComfyUI.", "extra_data.cloud_archive.urls must be true or false."),
        ),
    ],
)
def test_errors_say_how_the_job_ended_and_what_its_options_lack(
    changes: dict[str, Any], errors: tuple[str, ...]
) -> None:
    assert finished(**changes).errors == errors


def test_a_long_error_is_cut() -> None:
    (error,) = finished(status="error", error="x" * 5000).errors
    assert len(error) < 1100


@pytest.mark.parametrize(
    ("kind", "subfolder", "name", "path"),
    [
        ("output", "", "a.png", "a.png"),
        ("output", "x/y", "a.png", "x/y/a.png"),
        ("output", "x//y/", "b/a.png", "x/y/b/a.png"),
        ("output", "..", "a.png", None),
        ("output", "x", "../../a.png", None),
        ("output", ".", "a.png", None),
        ("output", "/x", "a.png", None),
        ("output", "", "/a.png", None),
        ("output", "", "/", None),
        ("temp", "", "a.png", None),
        ("input", "", "a.png", None),
    ],
)
def test_only_files_below_the_output_directory_have_a_path(
    kind: str, subfolder: str, name: str, path: str | None
) -> None:
    assert Output(0, None, name, subfolder, kind).path == path


def test_files_elsewhere_are_final_with_the_reason() -> None:
    record = finished(
        outputs=[output("a.png"), output("p.png", kind="temp"), output("b.png", subfolder="../..")],
        cached_outputs=[output("c.png")],
    )
    assert [(file.number, file.name, file.state, file.reason, file.cached) for file in record.outputs] == [
        (0, "a.png", None, None, False),
        (1, "p.png", "not_archived", PREVIEW, False),
        (2, "b.png", "not_archived", OUTSIDE, False),
        (3, "c.png", None, None, True),
    ]


def test_outputs_of_another_shape_are_left_out() -> None:
    record = finished(
        outputs=["a.png", {"filename": ""}, {"filename": 7}, {"filename": "a.png"}], cached_outputs={}
    )
    assert [(file.name, file.node, file.kind) for file in record.outputs] == [("a.png", None, "output")]


def test_a_job_of_very_many_files_is_cut_and_says_so() -> None:
    files = [output(f"{number}.png") for number in range(MAX_OUTPUTS + 1)]
    record = finished(outputs=files)
    assert len(record.outputs) == MAX_OUTPUTS
    assert [error.startswith("The job wrote more than 10,000 files") for error in record.errors] == [True]
    record = finished(outputs=files[:1], cached_outputs=files[1:-1])
    assert (len(record.outputs), record.errors) == (MAX_OUTPUTS, ())


def test_a_job_whose_files_were_not_all_passed_on_says_so() -> None:
    record = finished(outputs=[output("a.png"), output("b.png")], outputs_left_out=True)
    assert len(record.outputs) == 2
    assert [error.split(":")[1][:18] for error in record.errors] == [" only 2 files are "]


@pytest.mark.parametrize(
    ("folder", "real", "found"),
    [
        ("Portraits/New", "portraits/new", "portraits/new"),
        ("Portraits", "portraits", "portraits"),
        ("Po\u0308e", "p\u00f6e", "p\u00f6e"),  # macOS finds any Unicode form
        ("linked/new", "elsewhere/new", "linked/new"),  # behind a link, which is not followed
    ],
)
def test_on_windows_and_macos_a_folder_has_the_name_that_its_parent_lists(
    folder: str, real: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "sys", SimpleNamespace(platform="darwin"))
    asked: list[Path] = []

    def real_path(path: Path) -> str:
        asked.append(path)
        return str(tmp_path.resolve() / real)

    monkeypatch.setattr(records, "real_path", real_path)
    outputs = [output("a.png", subfolder=folder), output("b.png", subfolder=folder)]
    (job,) = with_relative_folders([passed_job("j", *outputs)], tmp_path)
    assert [each["subfolder"] for each in job["outputs"]] == [found, found]
    assert len(asked) == 1, "macOS lists all parents, which may hold 100,000 files"
