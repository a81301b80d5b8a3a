"""Every example of docs/operations.md is run, as it stands there."""

from __future__ import annotations

import json
import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from cloud_archive.cli import main
from tests.integration.archives import HOUR, Archive
from tests.servers import S3Server

pytestmark = pytest.mark.store

DOCS = Path(__file__).parents[2] / "docs"


def examples() -> list[str]:
    text = (DOCS / "operations.md").read_text("utf-8")
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def archive(tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> Archive:
    made = Archive(tmp_path, seaweedfs)
    for name, age in (("a.png", 200), ("b.png", 30), ("video/c.mp4", 200), ("young.png", 0)):
        made.write(name, age_seconds=age * HOUR)
    made.archive_all()
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COMFYUI_OUTPUT_DIR", str(made.root))
    monkeypatch.setenv("CLOUD_ARCHIVE_STATE_DIR", str(made.state))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return made


def run(line: str) -> int:
    words = shlex.split(line)
    assert words[0] == "cloud-archive"
    return main(words[1:])


def test_every_example_works_and_does_what_its_section_says(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = examples()
    assert len(lines) >= 20
    for line in lines:
        status = run(line)
        said = capsys.readouterr()
        assert status == 0, f"{line}\n{said.out}\n{said.err}"
        if "--json" in line:
            json.loads(said.out.splitlines()[-1])
        if line == "cloud-archive restore --to restored":
            here = archive.local_files(Path("restored"))
            assert here == archive.local_files()
        if "--plot" in line:
            ET.parse("growth.svg")
        if line.startswith("cloud-archive report") and "--" not in line:
            for name in ("Cloudflare R2", "AWS S3", "Google Cloud Storage", "Backblaze B2"):
                assert name in said.out
        if line == "cloud-archive free --older-than 7d --dry-run":
            assert len(archive.local_files()) == 4
        if line == "cloud-archive free --older-than 7d":
            assert list(archive.local_files()) == ["b.png", "young.png"]
            archive.write("a.png")
    assert len(archive.server.keys()) == 4, "nothing was older than 30 days"


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


def test_verify_lets_a_running_archive_take_up_what_it_repairs(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.servers import wait_until

    archive.server.client.delete_object(Bucket=archive.server.bucket, Key="out/a.png")
    with archive.running() as engine:
        assert engine.flush(30)
        assert run("cloud-archive verify --repair") == 1
        engine.archiver().retry()  # as the command does over HTTP, where the engine is a process
        wait_until(lambda: bool(archive.server.keys("out/a.png")), "it is archived again")
    assert run("cloud-archive verify") == 0


def test_prune_deletes_with_yes_only(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    archive.server.put("out/theirs.png", b"x")
    import time

    time.sleep(1.1)  # the store keeps whole seconds
    assert run("cloud-archive prune --older-than 1s") == 0
    said = capsys.readouterr().out
    assert "Would delete 4 objects" in said
    assert "Nothing was deleted. Add --yes to delete." in said
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
        "cloud-archive report --by year",
        "cloud-archive report --prefix x",
        "cloud-archive report --csv --json",
        "cloud-archive restore --since yesterday",
        "cloud-archive restore --prefix 'a/{Y}'",
        "cloud-archive free",
        "cloud-archive free --min-free much",
    ],
)
def test_what_makes_no_sense_is_wrong_usage(
    archive: Archive, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line) == 2
    said = capsys.readouterr()
    assert said.err.strip()
    assert len(archive.server.keys()) == 4


def test_without_a_ledger_verify_says_so(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert run(f"cloud-archive verify {shlex.quote(str(other))}") == 1
    assert "There is no ledger" in capsys.readouterr().err
