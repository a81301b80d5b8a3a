"""What `watch --once` asks of the engine that another process runs, and when it gives up."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.api.client import Answer
from cloud_archive.api.routes import bare_status
from cloud_archive.cli.once_result import Result
from cloud_archive.cli.other_engine import OtherEngine
from cloud_archive.errors import EngineUnavailable, RequestRefused

pytestmark = pytest.mark.usefixtures("own_state")


class StandInEngine:
    """Answers flushes in turn, the last one for good; holds `archived`; answers the uploads of each path in turn."""

    def __init__(self, *flushes: Answer, uploads: Mapping[str, list[Answer]] | None = None) -> None:
        self.flushes = list(flushes) or [Answer(200, {"message": "Safe to stop."})]
        self.uploads = dict(uploads or {})
        self.archived: list[dict[str, Any]] = []
        self.skipped: list[dict[str, Any]] = []

    def status(self) -> dict[str, Any]:
        return bare_status("idle") | {"skipped_files": len(self.skipped)}

    def files(self, state: str) -> Iterator[dict[str, Any]]:
        return iter({"archived": self.archived, "skipped": self.skipped}[state])

    def call(self, method: str, path: str, body: Mapping[str, Any], *, timeout_seconds: float) -> Answer:
        if path == "/cloud-sync/upload":
            return self.uploads[body["file_path"]].pop(0)
        return self.flushes.pop(0) if len(self.flushes) > 1 else self.flushes[0]


@pytest.fixture
def result_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def result_of(
        engine: StandInEngine | Exception | None, *, give_up_seconds: float = 3600.0, stopped: bool = False
    ) -> Result | None:
        def running_engine(*_: object) -> StandInEngine | None:
            if isinstance(engine, Exception):
                raise engine
            return engine

        monkeypatch.setattr("cloud_archive.api.client.running_engine", running_engine)
        ending = threading.Event()
        other = OtherEngine(
            root,
            {},
            ending=ending,
            on_status=lambda _: ending.set() if stopped else None,
            give_up_seconds=give_up_seconds,
        )
        return other.archive_all()

    return result_of


def unfinished(state: str = "uploading") -> Answer:
    status = bare_status(state) | {"pending_files": 1, "vanished_files": 0, "waiting": []}
    return Answer(504, {"message": "1 file remains.", "status": status})


def test_older_files_are_asked_for(root: Path, result_of: Any) -> None:
    for name in ("archived.png", "old.png", "gone.png", "refused.png", "changed.png"):
        (root / name).write_bytes(b"1")
    (root / "empty.png").touch()
    answers = {
        "old.png": [Answer(200, {})],
        "gone.png": [Answer(404, {})],
        "refused.png": [Answer(502, {"message": "The store refused it."})],
        "changed.png": [Answer(200, {})],
    }
    engine = StandInEngine(uploads=answers)
    engine.archived = [{"path": "archived.png", "size_bytes": 1}, {"path": "changed.png", "size_bytes": 2}]
    engine.skipped = [{"path": "empty.png", "cause": "It is empty."}]
    result = result_of(engine)
    assert (result.archived, result.already, result.total) == (2, 1, 5)
    assert result.failures == [("refused.png", "The store refused it.")]
    assert (result.skipped_files, result.skipped) == (1, [("empty.png", "It is empty.")])
    assert not any(engine.uploads.values()), "each was asked for"


@pytest.mark.parametrize(("last", "failures"), [(200, []), (202, [("large.png", "Still queued.")])])
def test_a_file_that_takes_longer_than_one_call_is_waited_for(
    root: Path, result_of: Any, last: int, failures: list[tuple[str, str]]
) -> None:
    (root / "large.png").write_bytes(b"1")
    answers = [Answer(202, {"message": "Still queued."}), Answer(last, {"message": "Still queued."})]
    result = result_of(StandInEngine(uploads={"large.png": answers}))
    assert answers == []
    assert (result.archived, result.total, result.failures) == (1 - len(failures), 1, failures)


def test_a_stopped_engine_uploads_what_it_is_asked_for(root: Path, result_of: Any) -> None:
    for name in ("known.png", "rewritten.png", "large.png"):
        (root / name).write_bytes(b"1")
    stopped, busy = unfinished("stopped"), unfinished("stopped")
    busy.body["status"]["active"] = [{"path": "large.png", "sent_bytes": 1}]
    answers = {
        "known.png": [Answer(200, {"file": {"already_archived": True}})],
        "rewritten.png": [Answer(200, {"file": {"already_archived": False}})],
        "large.png": [Answer(202, {}), Answer(200, {})],
    }
    engine = StandInEngine(stopped, busy, stopped, uploads=answers)
    engine.archived = [{"path": "known.png", "size_bytes": 1}, {"path": "rewritten.png", "size_bytes": 1}]
    result = result_of(engine)
    assert (result.archived, result.already, result.total, result.failures) == (2, 1, 3, [])
    assert len(engine.flushes) == 1, "the large file was waited for"


@pytest.mark.parametrize("answer", [unfinished("standby"), Answer(500, {"message": "1 file remains."})])
def test_an_engine_at_rest_is_not_waited_for(result_of: Any, answer: Answer) -> None:
    assert result_of(StandInEngine(answer)).failures == [("", "1 file remains.")]


def test_without_progress_it_gives_up(result_of: Any) -> None:
    assert result_of(StandInEngine(unfinished()), give_up_seconds=0.0).failures == [("", "1 file remains.")]
    assert result_of(StandInEngine(unfinished(), Answer(200, {}))).failures == []


def test_a_stop_ends_the_wait_without_an_upload(root: Path, result_of: Any) -> None:
    (root / "old.png").write_bytes(b"1")
    assert result_of(StandInEngine(unfinished()), stopped=True) == Result()


def test_an_engine_that_is_not_found_yet_is_sought_until_the_time_is_up(result_of: Any) -> None:
    assert result_of(None) is None
    ((path, cause),) = result_of(None, give_up_seconds=0.0).failures
    assert path == ""
    assert cause.startswith("Another process is archiving this directory.")


def test_an_engine_that_is_stopping_is_tried_again(
    root: Path, result_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: StandInEngine, state: str) -> Iterator[dict[str, Any]]:
        raise RequestRefused(503, "The archive is stopping.")

    (root / "old.png").write_bytes(b"1")
    refusal = Answer(503, {"message": "The archive is stopping."})
    assert result_of(StandInEngine(refusal)) is None
    assert result_of(StandInEngine(uploads={"old.png": [refusal]})) is None
    monkeypatch.setattr(StandInEngine, "files", refuse)
    assert result_of(StandInEngine()) is None


def test_an_engine_that_does_not_answer_is_named(result_of: Any) -> None:
    assert result_of(EngineUnavailable("No answer.")).failures == [("", "No answer.")]


def test_an_engine_that_cant_list_its_files_is_asked_for_none(root: Path, result_of: Any) -> None:
    class Slow(StandInEngine):
        def files(self, state: str) -> Iterator[dict[str, Any]]:
            yield {"path": "a.png", "size_bytes": 1}
            raise RequestRefused(504, "The time is up.")

    for name in ("a.png", "b.png"):
        (root / name).write_bytes(b"1")
    engine = Slow(uploads={"b.png": [Answer(200, {})]})
    result = result_of(engine)
    assert (result.archived, result.failures) == (0, [("", "The time is up.")])
    assert len(engine.uploads["b.png"]) == 1, "it was not asked for"
