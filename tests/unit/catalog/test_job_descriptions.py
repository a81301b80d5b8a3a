"""What a job says of its files, whether it comes before or after them."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from cloud_archive.catalog import reading
from cloud_archive.catalog.compressed import decompress_graphs
from cloud_archive.catalog.describe import Description, Job, describe
from cloud_archive.catalog.jobs import add_jobs
from cloud_archive.catalog.rows import ArchivedObject, add_archived
from cloud_archive.catalog.source import BoundedSource
from tests.unit.catalog.filling import found, job

from . import writers
from .cataloguing import BUCKET, Stage, graph, png


def test_the_job_wins_over_the_file_also_where_it_comes_later(stage: Stage) -> None:
    stage.archive("a.png", png("from the file", 1))
    stage.archive("plain.png", writers.saved(writers.picture(), format="PNG"))
    stage.fill()
    outputs = [
        {"node": "9", "filename": name, "subfolder": "", "type": "output"} for name in ("a.png", "plain.png")
    ]
    stage.database.change(lambda db: add_jobs(db, [job(outputs=outputs)]))
    stage.filler.wake()
    stage.fill()
    both = found(stage)
    assert [asset["metadata"]["prompt"] for asset in both] == ["from the job"] * 2
    assert {asset["job_id"] for asset in both} == {"job-1"}
    assert both[0]["metadata"]["source"] == "job"


def test_a_later_job_is_found_for_a_file_whose_key_got_another_name(stage: Stage) -> None:
    stage.archive("sub/a.png", png("from the file"), key="out/sub/a (1).png")
    stage.fill()
    outputs = [{"node": "9", "filename": "a.png", "subfolder": "sub", "type": "output"}]
    stage.database.change(lambda db: add_jobs(db, [job(outputs=outputs)]))
    stage.fill()
    (asset,) = found(stage)
    assert (asset["path"], asset["job_id"]) == ("sub/a.png", "job-1")
    assert asset["metadata"]["prompt"] == "from the job"


def test_a_job_says_nothing_of_a_file_whose_path_only_ends_like_one_that_it_wrote(stage: Stage) -> None:
    stage.archive("tmp/a.png", png("from the file"))
    outputs = [{"node": "9", "filename": "a.png", "subfolder": "/tmp", "type": "output"}]
    stage.database.change(lambda db: add_jobs(db, [job(outputs=outputs)]))
    stage.fill()
    assert [asset["job_id"] for asset in found(stage)] == [None]


def test_each_of_two_jobs_that_wrote_the_same_path_within_seconds_has_its_own_file(stage: Stage) -> None:
    ends = {"first": 1_700_000_000.5, "second": 1_700_000_002.0}
    for prompt, key, mtime in (
        ("first", "out/a.png", 1_700_000_000.2),
        ("second", "out/a (1).png", 1_700_000_001.8),
        ("clock ahead", "out/a (2).png", 1_700_000_004.0),
    ):
        stage.archive("a.png", png(prompt), mtime=mtime, key=key)
    jobs = [job(prompt=name, job_id=name, finished_at=end) for name, end in ends.items()]
    stage.database.change(lambda db: add_jobs(db, jobs))
    stage.fill()
    assert {asset["key"]: (asset["job_id"], asset["metadata"]["prompt"]) for asset in found(stage)} == {
        "out/a.png": ("first", "first"),
        "out/a (1).png": ("second", "second"),
        "out/a (2).png": ("second", "second"),
    }


def test_a_later_job_does_not_take_the_file_of_one_that_ended_just_before_its_mtime(stage: Stage) -> None:
    stage.archive("a.png", png("first"), mtime=1_700_000_000.6)  # the clock of the disk is ahead
    ends = {"first": 1_700_000_000.0, "later": 1_700_003_600.0}
    jobs = [job(prompt=name, job_id=name, finished_at=end) for name, end in ends.items()]
    stage.database.change(lambda db: add_jobs(db, jobs))
    stage.fill()
    (asset,) = found(stage)
    assert (asset["job_id"], asset["metadata"]["prompt"]) == ("first", "first")


@pytest.mark.parametrize("archived_by", ["pod-2", None])
def test_a_job_says_nothing_of_another_machines_file_of_the_same_name(
    stage: Stage, archived_by: str | None
) -> None:
    body = png("of another machine")
    stage.store.add("out/a (1).png", body)
    theirs = ArchivedObject(
        "out/a (1).png", "a.png", len(body), 1_700_000_000 * 10**9, 1.0, None, archived_by, None
    )
    stage.database.change(lambda db: add_archived(db, BUCKET, [theirs]))
    stage.archive("a.png", png("from the file"))
    stage.filler = stage.new_filler(reader_of="pod-1")
    for _ in range(2):  # read before the job is known, and after
        stage.fill()
        stage.database.change(lambda db: add_jobs(db, [job()], machine="pod-1"))
    stage.fill()
    prompts = {asset["key"]: (asset["metadata"]["prompt"], asset["job_id"]) for asset in found(stage)}
    assert prompts == {
        "out/a.png": ("from the job", "job-1"),
        "out/a (1).png": ("of another machine", None),
    }
    stage.database.change(lambda db: db.execute("UPDATE assets SET reader = 0") and None)
    stage.filler.wake()
    stage.fill()
    again = {asset["key"]: (asset["metadata"]["prompt"], asset["job_id"]) for asset in found(stage)}
    assert again == prompts


def test_a_job_that_comes_while_its_file_is_read_is_not_lost(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:

    def describe_and_add_job(source: BoundedSource, name: str, job_of_file: Job | None) -> Description:
        description = describe(source, name, job_of_file)
        monkeypatch.undo()
        stage.database.change(lambda db: add_jobs(db, [job()]))
        return description

    stage.archive("a.png", png("from the file"))
    monkeypatch.setattr(reading, "describe", describe_and_add_job)
    stage.fill()
    (asset,) = found(stage)
    assert (asset["job_id"], asset["metadata"]["prompt"]) == ("job-1", "from the job")


def test_a_job_that_ended_before_the_file_was_written_did_not_write_it(stage: Stage) -> None:
    stage.database.change(lambda db: add_jobs(db, [job(finished_at=1_600_000_000.0)]))
    stage.archive("a.png", png("from the file"))
    stage.fill()
    assert found(stage)[0]["metadata"]["prompt"] == "from the file"


def test_of_two_jobs_the_one_that_wrote_the_file_counts(stage: Stage) -> None:
    later = job(prompt="a rerun that wrote nothing", job_id="job-2", finished_at=1_700_009_000.0)
    stage.database.change(lambda db: add_jobs(db, [later, job()]))
    stage.archive("a.png", png("from the file"))
    stage.fill()
    assert found(stage)[0]["job_id"] == "job-1"


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"job_id": 1},
        {"job_id": "x"},
        {"job_id": "x", "prompt": {}, "finished_at": float("nan")},
        job(job_id="x", finished_at="9999-12-31T00:00:00Z"),
        job(job_id="x", finished_at=1e300),
        job(job_id="x", finished_at=10**400),
        job(job_id="x", finished_at=-1e18),
        job(outputs=3),
    ],
)
def test_a_job_of_another_shape_harms_nothing(stage: Stage, bad: dict[str, Any]) -> None:
    stage.database.change(lambda db: add_jobs(db, [bad, job(job_id="good")]))
    assert stage.database.read("SELECT count(*) FROM jobs WHERE job_id = 'good'") == [(1,)]


def test_every_file_of_a_large_job_is_its_own(stage: Stage) -> None:
    names = [f"{number}.png" for number in range(10_001)]
    outputs = [{"node": "9", "filename": name, "subfolder": "", "type": "output"} for name in names]
    stage.database.change(lambda db: add_jobs(db, [job(outputs=outputs)]))
    stage.archive(names[-1], png("from the file"))
    stage.fill()
    assert len(found(stage, "job:job-1")) == 1


@pytest.mark.parametrize("machine", [None, "pod-1"])
def test_the_work_for_a_job_grows_with_its_files_and_not_with_their_square(
    stage: Stage, machine: str | None
) -> None:
    few, many = (_steps_for_a_job(stage, files, machine) for files in (200, 800))
    assert few < many < 8 * few


def _steps_for_a_job(stage: Stage, files: int, machine: str | None) -> int:
    """Return about how many thousand steps SQLite takes for a job whose files are all in the catalog already."""
    written_at = files * 1_000_000  # far from the files of other jobs
    names = [f"{files}-{number}.png" for number in range(files)]
    archived = [
        ArchivedObject(f"out/{name}", name, 1, written_at * 10**9, 1.0, None, "pod-1", None) for name in names
    ]
    stage.database.change(lambda db: add_archived(db, BUCKET, archived))
    outputs = [{"node": "9", "filename": name, "subfolder": "", "type": "output"} for name in names]
    one = job(outputs=outputs, job_id=f"job-{files}", finished_at=written_at + 1.0)
    steps: list[None] = []

    def add(db: sqlite3.Connection) -> None:
        db.set_progress_handler(lambda: steps.append(None), 1000)
        add_jobs(db, [one], machine=machine)
        db.set_progress_handler(None, 0)

    stage.database.change(add)
    return len(steps)


def test_a_job_without_a_graph_is_named_by_its_files(stage: Stage) -> None:
    stage.database.change(lambda db: add_jobs(db, [job(workflow=None) | {"prompt": None}]))
    stage.archive("a.png", png("from the file"))
    stage.fill()
    (asset,) = found(stage, "job:job-1")
    assert (asset["metadata"]["prompt"], asset["metadata"]["source"]) == ("from the file", "png")


def test_fields_keeps_what_a_job_says_and_no_graph(stage: Stage) -> None:
    stage.filler = stage.new_filler(keep_graphs=False)
    stage.archive("plain.png", writers.saved(writers.picture(), format="PNG"))
    one = job(filename="plain.png", seed=2**64 - 1)
    stage.database.change(lambda db: add_jobs(db, [one], keep_graphs=False))
    assert stage.database.read("SELECT graphs FROM jobs") == [(None,)]
    stage.fill()
    (asset,) = found(stage, '"from the job" seed:18446744073709551615')
    assert (asset["job_id"], asset["metadata"]["source"], asset["has_prompt"]) == ("job-1", "job", False)
    assert asset["metadata"]["models"] == ["fox_v1.safetensors"]
    assert stage.database.read("SELECT count(*) FROM graphs") == [(0,)]


def test_graphs_go_when_only_fields_are_to_be_kept(stage: Stage) -> None:
    stage.archive("a.png", png("from the file"))
    stage.archive("b.png", png("another file"))
    stage.database.change(lambda db: add_jobs(db, [job()]))
    stage.fill()
    before = found(stage)
    assert stage.database.read("SELECT count(*) FROM graphs") == [(2,)]
    stage.filler = stage.new_filler(keep_graphs=False)
    stage.database.change(lambda db: db.execute("UPDATE assets SET reader = 0") and None)
    stage.fill()
    assert stage.database.read("SELECT count(*) FROM jobs WHERE graphs IS NOT NULL") == [(0,)]
    assert stage.database.read("SELECT count(*) FROM graphs") == [(0,)]
    after = found(stage)
    # What the file holds is still there to be asked for; the job's graph is not.
    assert [one["metadata"] for one in after] == [one["metadata"] for one in before]


def test_secrets_of_a_job_are_not_stored(stage: Stage) -> None:
    secret = "plain words as a key"
    prompt = graph("a fox") | {"20": {"class_type": "ApiNode", "inputs": {"api_key": secret}}}
    workflow = {"nodes": [{"id": 20, "type": "ApiNode", "widgets_values": [secret, "high"]}], "links": []}
    stage.database.change(lambda db: add_jobs(db, [job() | {"prompt": prompt, "workflow": workflow}]))
    stage.archive("a.png", png("x"))
    stage.fill()
    stage.close()
    with sqlite3.connect(stage.path) as db:
        blobs = [row[0] for row in db.execute("SELECT graphs FROM jobs UNION ALL SELECT data FROM graphs")]
    assert blobs
    assert all(secret not in repr(decompress_graphs(blob)) for blob in blobs)
    db.close()
    assert secret.encode() not in stage.path.read_bytes()
