"""Every command and example of the README and of docs/ is run, on a real store.

`examples.py` finds them; each goes to the first runner here that takes it. One that none takes fails: then write a
runner, or say in `NOT_OURS` why it can't be run here. Lines of `cloud-archive` need nothing: they are run as they are,
in a directory whose archive runs, and must end with 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from cloud_archive.cli.app import build_app
from tests.integration.example_effects import MUST_HAVE
from tests.integration.example_runs import Run
from tests.integration.examples import FILE, SCRIPT, SHELL, SYNOPSIS, TEXT, Example, examples
from tests.integration.stage import Stage
from tests.servers import S3Server

pytestmark = pytest.mark.store

EXAMPLES = examples()
COMMANDS = tuple(typer.main.get_command(build_app()).commands)  # type: ignore[attr-defined]

# Lines that begin with these need another program or account; the value says why they can't run here. They must
# still be valid shell lines.
NOT_OURS = {
    "mc ": "a program of MinIO's",
    "gcloud ": "a program and an account of Google's",
    "vastai ": "a program and an account of Vast's",
    "docker run": "wants a daemon of Docker's",
    "docker stop": "wants a daemon of Docker's",
    "POST /prompt": "a route of ComfyUI's own, which the stage has not",
    "docker --env-file": "named, not told to be typed",
    "weed ": "named, not told to be typed: the server that the tests run on",
    "nohup /r2_sync.sh": "what the reader had before",
    "upload_to_r2.py": "what the reader had before",
    "apt-get install inotify-tools": "what the reader had before",
    "pip install boto3": "what the reader had before",
}


@pytest.fixture(scope="module")
def running_stage(tmp_path_factory: pytest.TempPathFactory, seaweedfs_session: S3Server) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("examples"), seaweedfs_session.with_fresh_bucket()).running() as stage:
        yield stage


@pytest.fixture
def stage(running_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    for name, value in running_stage.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(running_stage.here)
    return running_stage


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_every_example_is_run(
    example: Example,
    stage: Stage,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    run = Run(stage, capsys, monkeypatch, tmp_path)
    for takes, runner in RUNNERS:
        if takes(example):
            runner(run, example)
            return
    pytest.fail(f"Nothing here runs `{example.text}` ({example.page}). See this file's docstring.")


def test_each_required_effect_belongs_to_an_existing_line() -> None:
    assert {example.text for example in EXAMPLES} >= MUST_HAVE.keys()


def test_the_patterns_find_many_examples() -> None:
    """Fail if the patterns find too few examples: with none, no test would fail."""
    assert len(EXAMPLES) > 90
    assert {example.kind for example in EXAMPLES} == {SHELL, SYNOPSIS, TEXT, FILE, "span"}


# --- who runs which lines


def _begins(*heads: str) -> Callable[[Example], bool]:
    return lambda example: example.text.startswith(heads)


RUNNERS: tuple[tuple[Callable[[Example], bool], Callable[[Run, Example], None]], ...] = (
    (lambda example: example.kind == SYNOPSIS, Run.synopsis),
    (_begins("cloud-archive demo"), Run.demo),
    (_begins(*(f"cloud-archive {name}" for name in COMMANDS), "cloud-archive --"), Run.ours),
    (_begins(*(f"{name} --" for name in COMMANDS)), Run.with_subcommand_only),
    (_begins("python ComfyUI/custom_nodes/cloud-archive/"), Run.package_directory),
    (_begins("python3 -m venv .venv && "), Run.bootstrap),
    (_begins("cd ComfyUI/custom_nodes\n"), Run.clone_and_install),
    (_begins("python -m tests"), Run.our_tools),
    (_begins(*NOT_OURS), Run.not_ours),
    (_begins("pip install "), Run.pip),
    (_begins("export "), Run.exports),
    (lambda example: re.match(r"[A-Z][A-Z0-9_]*=", example.text) is not None, Run.assignment),
    (lambda example: example.text.endswith("/bring-back"), Run.bring_back),
    (_begins("GET /cloud-sync/assets.zip"), Run.zip),
    (_begins("GET /", "POST /"), Run.http),
    (lambda example: example.kind == TEXT and " model:" in example.text, Run.query),
    (_begins("curl "), Run.curl),
    (_begins("s3.configure "), Run.seaweedfs_shell),
    (_begins("dockerfile: "), Run.compose),
    (lambda example: example.text == SCRIPT, Run.start_script),
    (lambda example: example.text == "docs/examples/run_job.py", Run.run_job),
    (
        lambda example: example.kind == TEXT and re.match(r"[\d-]{10} [\d:]{8} ", example.text) is not None,
        Run.log_lines,
    ),
)
