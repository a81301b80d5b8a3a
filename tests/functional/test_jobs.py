"""Jobs on a real engine with a store in memory: states, files, waiting, restarts."""

from __future__ import annotations

import hashlib
import os
import uuid
from functools import partial
from pathlib import Path

import pytest

from cloud_archive.archive.engine import Engine
from cloud_archive.errors import CatalogError
from cloud_archive.jobs import jobs
from tests.functional.jobs import PROCESS, hold, states, wait_for_job
from tests.memory_store import MemoryStore, refuse
from tests.servers import wait_until

from .archives import engine_on
from .jobs import output, passed_job


def test_a_job_is_unknown_queued_running_uploading_and_complete(
    engine: Engine, root: Path, store: MemoryStore
) -> None:
    assert engine.job("j") | {"errors": []} == {
        "job_id": "j",
        "state": "unknown",
        "status": None,
        "files": [],
        "errors": [],
    }
    engine.add_jobs([], {"process": PROCESS, "running": [], "queued": ["j"]})
    assert (engine.job("j")["state"], engine.job("j")["status"]) == ("running", "queued")
    engine.add_jobs([], {"process": PROCESS, "running": ["j"], "queued": []})
    assert (engine.job("j")["state"], engine.job("j")["status"]) == ("running", "running")
    go = hold(store)
    (root / "sub").mkdir()
    (root / "sub" / "a.png").write_bytes(b"picture")
    engine.add_jobs([passed_job("j", output("a.png", subfolder="sub"), output("p.png", kind="temp"))])
    engine.add_jobs([], {"process": PROCESS, "running": [], "queued": []})
    found = engine.job("j")
    assert (found["state"], found["status"]) == ("uploading", "success")
    go.set()
    found = wait_for_job(engine, "j")
    picture, preview = found["files"]
    assert picture == {
        "name": "a.png",
        "subfolder": "sub",
        "node": "9",
        "key": "out/sub/a.png",
        "sha256": hashlib.sha256(b"picture").hexdigest(),
        "size": 7,
        "state": "archived",
    }
    assert (preview["state"], preview["key"]) == ("not_archived", None)
    assert (found["state"], found["errors"]) == ("complete", [])


def test_a_folder_is_found_in_any_case_where_the_system_finds_it(
    engine: Engine, root: Path, store: MemoryStore
) -> None:
    (root / "portraits" / "new").mkdir(parents=True)
    if not (root / "Portraits").exists():
        pytest.skip("names differ by case here")
    (root / "Portraits" / "New" / "a.png").write_bytes(b"picture")
    engine.add_jobs([passed_job("j", output("a.png", subfolder="Portraits/New"))])
    found = wait_for_job(engine, "j")
    assert (found["state"], states(found)) == ("complete", {"a.png": "archived"})
    assert store.bodies() == {"out/portraits/new/a.png": b"picture"}


@pytest.mark.parametrize("folder", [".", "./sub", "{root}", "{root}/sub/", "{target}/sub", "sub\\deep"])
def test_a_folder_is_found_as_comfyui_finds_it(folder: str, tmp_path: Path, store: MemoryStore) -> None:
    """Many nodes give `.` or an absolute path; a prefix of a Windows user may hold a backslash on Linux."""
    target, root = tmp_path / "volume", tmp_path / "linked"
    target.mkdir()
    root.symlink_to(target, target_is_directory=True)
    folder = folder.format(root=root, target=target)
    with engine_on(root, store, tmp_path / "state") as engine:
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "a.png").write_bytes(b"picture")
        engine.add_jobs([passed_job("j", output("a.png", subfolder=folder))])
        found = wait_for_job(engine, "j")
        assert (found["state"], states(found)) == ("complete", {"a.png": "archived"})
        search = partial(engine.catalog().search, "job:j", "created_at", "asc", 10, None, None)
        wait_until(lambda: bool(search().assets), "the catalog knows which job wrote the file")


@pytest.mark.parametrize("folder", ["", "z/" * 1000, "z/" * 2000])
def test_a_job_with_a_name_that_no_file_can_have_ends(engine: Engine, folder: str) -> None:
    engine.add_jobs([passed_job("j", output(f"{'x' * 3000}.png", subfolder=folder))])
    (file,) = wait_for_job(engine, "j")["files"]
    assert (file["state"], file["reason"]) == ("vanished", "It was deleted before it could be archived.")


def test_a_file_that_was_archived_long_before_its_job_ended(engine: Engine, root: Path) -> None:
    (root / "a.png").write_bytes(b"1")
    wait_until(lambda: engine.archiver().ledger.totals().archived.files == 1, "archived")
    engine.add_jobs([passed_job("j", output("a.png"))])
    assert engine.job("j")["state"] == "complete"


def test_a_name_that_two_jobs_used_is_each_ones_own_version(engine: Engine, root: Path) -> None:
    """As on a pod whose output directory was emptied: ComfyUI counts from one again."""
    (root / "a_00001_.png").write_bytes(b"first")
    engine.add_jobs([passed_job("one", output("a_00001_.png"))])
    first = wait_for_job(engine, "one")
    (root / "a_00001_.png").unlink()
    (root / "a_00001_.png").write_bytes(b"second!")
    engine.add_jobs([passed_job("two", output("a_00001_.png"))])
    second = wait_for_job(engine, "two")
    assert [f["size"] for f in first["files"] + second["files"]] == [5, 7]
    assert engine.job("one") == first
    assert second["files"][0]["key"] == "out/a_00001_ (1).png"


def test_files_that_never_come_are_named(engine: Engine, root: Path) -> None:
    (root / ".hidden.png").write_bytes(b"1")
    engine.add_jobs(
        [passed_job("j", output("gone.png"), output(".hidden.png"), output("b.png", subfolder="../.."))]
    )
    found = wait_for_job(engine, "j")
    assert states(found) == {"gone.png": "vanished", ".hidden.png": "skipped", "b.png": "not_archived"}
    assert (found["state"], found["errors"]) == (
        "failed",
        ["gone.png: It was deleted before it could be archived."],
    )


def test_a_file_that_the_store_refuses(engine: Engine, root: Path, store: MemoryStore) -> None:
    store.on_call = lambda operation, key: (
        refuse("EntityTooLarge", 400, key) if operation == "PutObject" else None
    )
    (root / "a.png").write_bytes(b"1")
    engine.add_jobs([passed_job("j", output("a.png"))])
    found = wait_for_job(engine, "j")
    assert (found["state"], states(found)) == ("failed", {"a.png": "failed"})
    assert (found["files"][0]["key"], found["files"][0]["sha256"]) == (None, None), "only what is proven"
    assert found["errors"][0].startswith("a.png: ")
    store.on_call = lambda operation, key: None
    engine.retry()
    wait_until(lambda: engine.job("j")["state"] == "complete", "complete after a retry")


def test_an_empty_file_is_left_out_and_one_that_is_written_late_is_awaited(
    engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "EMPTY_SECONDS", 1.0)
    (root / "a.txt").write_bytes(b"")
    engine.add_jobs([passed_job("j", output("a.txt"))])
    answer = wait_for_job(engine, "j")
    assert (answer["state"], states(answer)) == ("complete", {"a.txt": "skipped"})
    assert answer["files"][0]["reason"] == "It is empty."

    monkeypatch.setattr(jobs, "EMPTY_SECONDS", 60.0)
    (root / "late.txt").write_bytes(b"")
    engine.add_jobs([passed_job("k", output("late.txt"))])
    wait_until(lambda: "k" in engine._host.archive().jobs._with_empty, "it was seen empty")
    assert engine.job("k")["state"] == "uploading"
    (root / "late.txt").write_bytes(b"1")
    assert states(wait_for_job(engine, "k")) == {"late.txt": "archived"}


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        ("error", "SaveImage (node 9): no room", "The job failed in ComfyUI: SaveImage (node 9): no room"),
        ("interrupted", None, "The job was interrupted in ComfyUI."),
    ],
)
def test_a_job_that_failed_in_comfyui(
    engine: Engine, root: Path, status: str, error: str | None, said: str
) -> None:
    (root / "a.png").write_bytes(b"1")
    engine.add_jobs([passed_job("j", output("a.png"), status=status, error=error)])
    wait_until(
        lambda: states(engine.job("j")) == {"a.png": "archived"}, "its files are archived nevertheless"
    )
    found = engine.job("j")
    assert (found["state"], found["status"], found["errors"]) == ("failed", status, [said])


def test_a_job_from_the_cache_names_the_files_of_the_earlier_one(engine: Engine, root: Path) -> None:
    (root / "a.png").write_bytes(b"1")
    engine.add_jobs([passed_job("one", output("a.png"))])
    (first,) = wait_for_job(engine, "one")["files"]
    (root / "a.png").unlink()  # as freeing does
    engine.add_jobs([passed_job("two", cached_outputs=[output("a.png")])])
    found = wait_for_job(engine, "two")
    assert found["state"] == "complete"
    assert found["files"] == [first | {"cached": True}]


def test_unknown_options_are_an_error_in_the_answer(engine: Engine) -> None:
    options = {
        "tags": ["a", 1],
        "bucket": "evil",
        "webhook_url": "http://evil.example",
        "note": 7,
        "urls": "yes",
    }
    engine.add_jobs([passed_job("j", options=options), passed_job("k", options=["a"])])
    found = wait_for_job(engine, "j")
    assert found["state"] == "complete"
    for name in ("tags", "bucket", "webhook_url", "note", "urls"):
        assert any(f"cloud_archive.{name}" in error for error in found["errors"]), name
    assert wait_for_job(engine, "k")["errors"] == ["extra_data.cloud_archive must be an object."]


def test_answers_are_the_same_after_a_restart_and_open_jobs_go_on(
    root: Path, store: MemoryStore, state: Path
) -> None:
    with engine_on(root, store, state) as engine:
        wait_until(lambda: engine.status().running, "running")
        (root / "a.png").write_bytes(b"1")
        engine.add_jobs([passed_job("done", output("a.png"))])
        done = wait_for_job(engine, "done")
        engine.add_jobs([], {"process": PROCESS, "running": ["running"], "queued": ["queued"]})
        store.on_call = lambda operation, key: refuse("SlowDown", 503, key)
        (root / "b.png").write_bytes(b"2")
        engine.add_jobs([passed_job("open", output("b.png"))])
        assert engine.job("open")["state"] == "uploading"
    (root / "a.png").unlink()
    store.on_call = lambda operation, key: None
    with engine_on(root, store, state) as engine:
        wait_until(lambda: engine.status().running, "running")
        assert engine.job("done") == done
        assert wait_for_job(engine, "open")["state"] == "complete"
        assert [engine.job(name)["status"] for name in ("running", "queued")] == ["running", "queued"]
        engine.add_jobs([], {"process": "another", "running": [], "queued": []})  # ComfyUI was started again
        found = engine.job("running")
        assert (found["state"], found["status"]) == ("failed", "interrupted")
        assert "ended before" in found["errors"][0]


def test_a_file_from_before_the_first_start_is_no_proven_result(
    root: Path, store: MemoryStore, state: Path
) -> None:
    (root / "a.png").write_bytes(b"1")
    os.utime(root / "a.png", (1_700_000_000, 1_700_000_000))
    with engine_on(root, store, state) as engine:
        wait_until(lambda: engine.status(scan=False).state.value == "idle", "scanned")
        engine.add_jobs([passed_job("j", output("a.png"))])
        found = wait_for_job(engine, "j")
        assert (found["state"], states(found)) == ("failed", {"a.png": "baseline"})
        assert "upload --baseline" in found["errors"][0]
        engine.archive_baseline()
        wait_until(lambda: engine.job("j")["state"] == "complete", "archived")


def test_a_job_that_was_removed_from_the_queue(engine: Engine) -> None:
    engine.add_jobs([], {"process": PROCESS, "running": [], "queued": ["j", "k"]})
    engine.add_jobs([], {"process": PROCESS, "running": [], "queued": ["k"]})
    found = engine.job("j")
    assert (found["state"], found["status"], engine.job("k")["state"]) == ("failed", "removed", "running")


def test_a_job_of_before_is_found_in_the_catalog(engine: Engine, root: Path) -> None:
    (root / "a.png").write_bytes(b"1")
    engine.catalog().add_jobs([passed_job("old", output("a.png"))])
    wait_until(lambda: engine.job("old")["state"] == "complete", "in the catalog")
    assert [(file["name"], file["key"]) for file in engine.job("old")["files"]] == [("a.png", "out/a.png")]


def test_a_job_of_before_is_found_with_all_its_files(
    engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.job_answers._PAGE_FILES", 2)
    names = [f"{number}.png" for number in range(5)]
    for name in names:
        (root / name).write_bytes(name.encode())
    engine.catalog().add_jobs([passed_job("old", *map(output, names))])
    wait_until(lambda: len(engine.job("old")["files"]) == 5, "all of them are in the catalog")
    assert sorted(states(engine.job("old"))) == names
    catalog = engine.catalog()
    hidden = catalog.search("path:3.png", "created_at", "asc", 1, None).assets[0]
    catalog.edit(uuid.UUID(hidden["id"]), {"hidden": True})
    assert sorted(states(engine.job("old"))) == names, "a hidden file is archived all the same"


def test_jobs_are_kept_without_a_catalog(root: Path, store: MemoryStore, state: Path) -> None:
    with engine_on(root, store, state, CLOUD_ARCHIVE_CATALOG="off") as engine:
        wait_until(lambda: engine.status().running, "running")
        (root / "a.png").write_bytes(b"1")
        engine.add_jobs([passed_job("j", output("a.png"))])
        assert wait_for_job(engine, "j")["state"] == "complete"
        assert engine.job("nobody")["state"] == "unknown"
    (path,) = state.rglob("jobs.sqlite3")
    assert os.name == "nt" or path.stat().st_mode & 0o077 == 0


def test_jobs_and_the_queue_are_noted_although_the_catalog_cannot_be_opened(
    root: Path,
    store: MemoryStore,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse_to_open(path: Path) -> None:
        raise CatalogError(f"The catalog {path} can't be opened.")

    monkeypatch.setattr("cloud_archive.catalog.catalog.open_catalog", refuse_to_open)
    with engine_on(root, store, state) as engine:
        wait_until(lambda: engine.status().running, "running")
        (root / "a.png").write_bytes(b"1")
        queue = {"process": PROCESS, "running": ["next"], "queued": []}
        engine.add_jobs([passed_job("j", output("a.png"), options={"tags": ["fox"]})], queue)
        assert wait_for_job(engine, "j")["state"] == "complete"
        dropped = "The tags and note of a job were dropped: "
        wait_until(
            lambda: any(line.startswith(dropped) and "can't be opened" in line for line in caplog.messages),
            "the log says so",
        )
        assert engine.job("next")["state"] == "running"
        unknown = engine.job("old")
        assert (unknown["state"], len(unknown["errors"])) == ("unknown", 1)
        assert "can't be opened" in unknown["errors"][0]


def test_a_damaged_list_of_jobs_is_kept_aside(root: Path, store: MemoryStore, state: Path) -> None:
    with engine_on(root, store, state) as engine:
        wait_until(lambda: engine.status().running, "running")
    (path,) = state.rglob("jobs.sqlite3")
    path.write_bytes(b"no database" * 500)
    with engine_on(root, store, state) as engine:
        wait_until(lambda: engine.status().running, "running")
        assert engine.job("j")["state"] == "unknown"
    assert len(list(state.rglob("jobs.damaged-*"))) == 1
