"""What a running engine is asked for, and what its answers mean."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, cast

import pytest

from cloud_archive.api.client import Answer, LocalEngine
from cloud_archive.cli.arguments import WrongUsage
from cloud_archive.cli.engine_catalog import EngineAssets, catalog_engine, engine_graph
from cloud_archive.errors import CatalogError, CloudArchiveError, EngineUnavailable
from tests.unit.cli.settings import SETTINGS

ASSET = {"id": "0", "key": "out/a.png", "has_workflow": True, "has_prompt": False}


class StandInEngine:
    """Gives one answer to every call, and records the paths."""

    def __init__(self, status: int, body: Any) -> None:
        self.answer = Answer(status, body)
        self.paths: list[str] = []

    @property
    def local(self) -> LocalEngine:
        return cast("LocalEngine", self)

    def call(self, method: str, path: str) -> Answer:
        self.paths.append(f"{method} {path}")
        return self.answer


def test_a_query_is_quoted_and_a_wrong_one_is_wrong_usage() -> None:
    engine = StandInEngine(200, {"assets": []})
    assert EngineAssets(engine.local).page("red & fox", 3, None) == {"assets": []}
    assert engine.paths == ["GET /cloud-sync/assets?q=red+%26+fox&limit=3&after="]
    wrong = StandInEngine(400, {"error": "q: There is no field `colour:`."})
    with pytest.raises(WrongUsage, match=r"^There is no field"):
        EngineAssets(wrong.local).page("colour:red", 3, None)


def test_only_404_means_that_there_is_no_such_asset() -> None:
    identity = uuid.UUID(int=0)
    assert EngineAssets(StandInEngine(200, ASSET).local).asset(identity) == ASSET
    assert EngineAssets(StandInEngine(404, {"error": "No."}).local).asset(identity) is None
    with pytest.raises(CatalogError, match="The catalog is off"):
        EngineAssets(StandInEngine(503, {"error": "The catalog is off."}).local).asset(identity)


def test_a_graph_that_does_not_exist_is_not_asked_for() -> None:
    engine = StandInEngine(200, {"nodes": []})
    assert engine_graph(engine.local, ASSET, "workflow") == {"nodes": []}
    with pytest.raises(CloudArchiveError, match=r"No prompt is known of out/a\.png"):
        engine_graph(engine.local, ASSET, "prompt")
    assert engine.paths == ["GET /cloud-sync/assets/0/workflow"]


@pytest.mark.usefixtures("own_state")
def test_an_engine_is_sought_for_a_directory_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = StandInEngine(200, {})
    monkeypatch.setattr("cloud_archive.api.client.running_engine", lambda directory: engine)
    assert cast("object", catalog_engine(root)) is engine
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    assert catalog_engine(None) is None, "the bucket's catalog is meant"

    def no_answer(directory: Path) -> None:
        raise EngineUnavailable("It does not answer.")

    monkeypatch.setattr("cloud_archive.api.client.running_engine", no_answer)
    assert catalog_engine(root) is None
