"""Which files get the tags and note of a job, and what is said where none can."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from cloud_archive.archive.open_jobs import _mark_assets
from cloud_archive.catalog.catalog import Catalog
from cloud_archive.errors import CatalogError
from cloud_archive.jobs.options import JobOptions
from cloud_archive.jobs.records import JobRecord, Output

JOB = JobRecord("j", "finished", finished_at=5.0, options=JobOptions(("fox",), "second round"))


class MarkedCatalog:
    """Notes what is marked, or fails."""

    def __init__(self, error: CatalogError | None = None) -> None:
        self.error = error
        self.marked: list[tuple[Any, ...]] = []

    def add_tags_and_note(self, *how: Any) -> None:
        self.marked.append(how)
        if self.error is not None:
            raise self.error


def written(name: str) -> Output:
    return Output(0, None, name, "", "output", state="archived", key=f"out/{name}")


def mark(catalog: MarkedCatalog, job: JobRecord, *outputs: Output) -> list[tuple[Any, ...]]:
    _mark_assets(cast(Catalog, catalog), job, outputs)
    return catalog.marked


def test_only_archived_files_that_the_job_itself_wrote_are_marked() -> None:
    outputs = (
        written("a.png"),
        written("cached.png")._replace(cached=True),
        written("missing.png")._replace(state="not_archived"),
        written("no key.png")._replace(key=None),
        written("b.png"),
    )
    assert mark(MarkedCatalog(), JOB, *outputs) == [
        ("out/a.png", ("fox",), "second round", 5.0),
        ("out/b.png", ("fox",), "second round", 5.0),
    ]


def test_a_job_without_tags_and_note_marks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    catalog = MarkedCatalog(CatalogError("The catalog is closed."))
    assert mark(catalog, JobRecord("j", "finished"), written("a.png")) == []
    assert caplog.records == [], "nothing is dropped"


def test_where_no_file_can_be_marked_one_warning_says_why(caplog: pytest.LogCaptureFixture) -> None:
    catalog = MarkedCatalog(CatalogError("The disk is full."))
    with caplog.at_level(logging.WARNING, "cloud_archive"):
        assert len(mark(catalog, JOB, written("a.png"), written("b.png"))) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "The tags and note of a job were dropped: The disk is full."
    ]
