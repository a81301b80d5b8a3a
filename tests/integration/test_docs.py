"""The commands of docs/operations.md when something is wrong. `test_examples.py` runs its examples."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from cloud_archive.cli.app import main
from tests.integration.archives import HOUR, Archive
from tests.servers import S3Server, wait_until

pytestmark = pytest.mark.store

DOCS = Path(__file__).parents[2] / "docs"


def make_archive(directory: Path, server: S3Server) -> Archive:
    made = Archive(directory, server)
    for name, age in (("a.png", 200), ("b.png", 30), ("video/c.mp4", 200), ("young.png", 0)):
        made.write(name, age_seconds=age * HOUR)
    made.archive_all()
    return made


@pytest.fixture
def archive(tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> Archive:
    return use_settings_of(make_archive(tmp_path, seaweedfs), tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def shared_archive(tmp_path_factory: pytest.TempPathFactory, seaweedfs_session: S3Server) -> Archive:
    return make_archive(tmp_path_factory.mktemp("unharmed"), seaweedfs_session.with_fresh_bucket())


@pytest.fixture
def unharmed(shared_archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """One archive for all tests that change nothing in it."""
    return use_settings_of(shared_archive, tmp_path, monkeypatch)


def use_settings_of(made: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Give this process the archive's settings and another current directory."""
    made.set_environment(monkeypatch)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return made


def run(line: str) -> int:
    words = shlex.split(line)
    assert words[0] == "cloud-archive"
    return main(words[1:])


def test_verify_names_each_problem_on_standard_error_and_ends_with_1(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.server.client.delete_object(Bucket=archive.server.bucket, Key="out/a.png")
    assert run("cloud-archive verify") == 1
    said = capsys.readouterr()
    assert said.err == "a.png: missing from the bucket (out/a.png)\n"
    assert "Missing: 1. Different: 0." in said.out
    assert run("cloud-archive verify --repair --json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["missing"], found["queued"], found["sound"]) == (1, 1, False)
    archive.archive_all()
    assert run("cloud-archive verify") == 0


def test_verify_lets_a_running_archive_take_up_what_it_repairs(archive: Archive) -> None:
    archive.server.client.delete_object(Bucket=archive.server.bucket, Key="out/a.png")
    with archive.running() as engine:
        assert engine.flush(60)
        assert run("cloud-archive verify --repair") == 1
        engine.archiver().retry()  # as the command does over HTTP, where the engine is a process
        wait_until(lambda: bool(archive.server.keys("out/a.png")), "it is archived again")
    assert run("cloud-archive verify") == 0


def test_prune_deletes_with_yes_only(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    archive.server.put("out/theirs.png", b"x")

    def dry_run() -> str:
        assert run("cloud-archive prune --older-than 1s") == 0
        return capsys.readouterr().out

    # The store's clock, by which ages are measured, shows whole seconds.
    wait_until(lambda: "Would delete 4 objects" in dry_run(), "all four are old enough")
    assert "Nothing was deleted. Add --yes to delete." in dry_run()
    assert len(archive.server.keys()) == 5
    assert run("cloud-archive prune --older-than 1s --yes --json") == 0
    assert json.loads(capsys.readouterr().out)["deleted"] == 4
    assert archive.server.keys() == ["out/theirs.png"]


@pytest.mark.parametrize(
    "line",
    [
        "cloud-archive prune",
        "cloud-archive prune --older-than soon",
        "cloud-archive prune --older-than 1d --yes --dry-run",
        "cloud-archive prune --older-than 1d --prefix '' --all",
        "cloud-archive prune --older-than 1d --prefix elsewhere",
        "cloud-archive report --by year",
        "cloud-archive report --prefix x",
        "cloud-archive report --csv --json",
        "cloud-archive restore --since yesterday",
        "cloud-archive restore --prefix 'a/{Y}'",
        "cloud-archive free --older-than off",
        "cloud-archive free --min-free much",
    ],
)
def test_what_makes_no_sense_is_wrong_usage(
    unharmed: Archive, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line) == 2
    said = capsys.readouterr()
    assert said.err.strip()
    assert len(unharmed.server.keys()) == 4


def test_without_a_ledger_verify_says_so(
    unharmed: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert run(f"cloud-archive verify {shlex.quote(str(other))}") == 1
    assert "There is no ledger" in capsys.readouterr().err
