"""What calls about jobs may ask for."""

from __future__ import annotations

import pytest

from cloud_archive.api.job_arguments import (
    MAX_JOBS,
    MAX_QUEUED,
    MAX_WAIT_SECONDS,
    captured_jobs_arguments,
    job_arguments,
)
from cloud_archive.errors import RequestRefused

QUEUE = {"process": "p", "running": ["a"], "queued": []}


def test_a_call_without_a_query_waits_for_nothing_and_wants_no_links() -> None:
    assert job_arguments("6f0c-1", {}) == {"prompt_id": "6f0c-1", "wait": 0.0, "urls": 0}
    assert job_arguments("a", {"wait": "2.5", "urls": "1"}) == {"prompt_id": "a", "wait": 2.5, "urls": 1}


@pytest.mark.parametrize(
    ("prompt_id", "query"),
    [
        ("", {}),
        ("a" * 201, {}),
        ("..", {}),
        ("a", {"wait": "soon"}),
        ("a", {"wait": "nan"}),
        ("a", {"wait": "-1"}),
        ("a", {"wait": str(MAX_WAIT_SECONDS + 1)}),
        ("a", {"urls": "yes"}),
    ],
)
def test_what_makes_no_sense_is_refused_with_400(prompt_id: str, query: dict[str, str]) -> None:
    with pytest.raises(RequestRefused) as refused:
        job_arguments(prompt_id, query)
    assert refused.value.status == 400


def test_jobs_are_passed_on_with_the_queue() -> None:
    jobs = [{"job_id": "a"}]
    assert captured_jobs_arguments({"jobs": jobs}) == {"jobs": jobs, "queue": None}
    assert captured_jobs_arguments({"jobs": [], "queue": QUEUE}) == {"jobs": [], "queue": QUEUE}


def test_a_long_prompt_id_hides_no_other_job() -> None:
    queue = QUEUE | {"queued": ["b", "x" * 201]}
    assert captured_jobs_arguments({"jobs": [], "queue": queue}) == {"jobs": [], "queue": queue}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"jobs": {}},
        {"jobs": [{"job_id": "a"}] * (MAX_JOBS + 1)},
        {"jobs": [{"job_id": ""}]},
        {"jobs": ["a"]},
        {"jobs": [], "queue": {}},
        {"jobs": [], "queue": QUEUE | {"running": "a"}},
        {"jobs": [], "queue": QUEUE | {"queued": [""]}},
        {"jobs": [], "queue": QUEUE | {"queued": ["x"] * (MAX_QUEUED + 1)}},
    ],
)
def test_a_body_of_another_shape_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(RequestRefused):
        captured_jobs_arguments(body)
