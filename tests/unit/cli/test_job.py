"""How the files of a job are shown."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote

import pytest

from cloud_archive.api.client import LocalEngine
from cloud_archive.cli import job
from cloud_archive.cli.app import main
from cloud_archive.cli.arguments import WrongUsage
from cloud_archive.cli.job import _from_bucket, _from_engine, _show

FILE = {"name": "a.png", "subfolder": "", "state": "archived", "size": 1500, "key": "out/a.png"}


def lines(capsys: pytest.CaptureFixture[str], *files: dict[str, Any], state: str = "complete") -> list[str]:
    _show({"job_id": "job\n1", "state": state, "files": list(files)})
    return capsys.readouterr().out.splitlines()


def test_the_last_line_is_the_state_of_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, state="unknown") == ["Job job\\n1: unknown"]


def test_each_file_has_its_state_size_and_key_as_far_as_they_are_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pending = {"name": "b\n.png", "subfolder": "sub", "state": "pending", "size": None, "key": None}
    assert lines(capsys, FILE, pending)[:-1] == [
        "a.png        archived  1.5 kB  out/a.png",
        "sub/b\\n.png  pending",
    ]


def test_a_link_stands_alone_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    linked = {**FILE, "url": "https://store/a.png?x=1", "expires_at": "2026-04-01T00:00:00Z"}
    assert lines(capsys, linked)[1:3] == ["a.png, until 2026-04-01T00:00:00Z:", "https://store/a.png?x=1"]


@pytest.mark.parametrize("prompt_id", ["a\nb", "a\0b", "..", ".", "\udc80", ""])
def test_an_id_that_can_be_no_part_of_a_url_is_refused_wherever_it_is_looked_up(prompt_id: str) -> None:
    with pytest.raises(WrongUsage, match="A prompt id has 1 to 200 printable characters"):
        job.job(prompt_id)


@pytest.mark.parametrize("prompt_id", ["a b", "a?b", "a/b", "a#b", "ä", "100%", "%2F"])
def test_an_id_stays_one_part_of_the_url(prompt_id: str) -> None:
    called: list[str] = []

    def call(method: str, path: str, **_: Any) -> SimpleNamespace:
        called.append(path)
        return SimpleNamespace(status=200, body={"state": "complete"})

    _from_engine(cast("LocalEngine", SimpleNamespace(call=call)), prompt_id, 0.0, urls=False)
    path = called[0].partition("?")[0]
    assert unquote(path.rpartition("/")[2]) == prompt_id


def test_a_job_that_is_not_in_the_bucket_may_be_known_to_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = SimpleNamespace(database=None)
    monkeypatch.setattr(job, "bucket_catalog", lambda settings: contextlib.nullcontext(catalog))
    monkeypatch.setattr(job, "load_copy", lambda opened: None)
    monkeypatch.setattr(job, "newest_assets", lambda source, query, limit: {"assets": []})
    answer = _from_bucket(cast(Any, None), "p1", urls=False)
    assert answer["state"] == "unknown"
    (error,) = answer["errors"]
    assert "bucket's catalog" in error
    assert "--dir" in error


@pytest.mark.usefixtures("own_state")
def test_a_misspelt_directory_is_wrong_usage(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    assert main(["job", "p1", "--dir", str(root)]) == 1
    assert "There is no list of jobs at " in capsys.readouterr().err
    assert main(["job", "p1", "--dir", str(root / "typo")]) == 2
    assert "typo does not exist" in capsys.readouterr().err
