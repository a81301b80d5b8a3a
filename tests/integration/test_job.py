"""`job` and its route on a real store: the command waits, and its links work."""

from __future__ import annotations

import json
import threading
import urllib.request

import pytest

from tests.commands import run_json_command
from tests.functional.jobs import output, passed_job

from .archives import Archive

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]


def test_the_command_waits_and_gives_links_that_work(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    from .stage import Stage

    stage = Stage.__new__(Stage)  # without its own archive: it serves this one
    stage.archive, stage.server, stage.environ = archive, archive.server, dict(archive.environ)
    with stage.running(has_job=False):
        from cloud_archive.api.client import running_engine
        from cloud_archive.api.routes import JOBS_PATH

        engine = running_engine(archive.root)
        assert engine is not None
        queue = {"process": "p", "running": ["j"], "queued": []}
        assert engine.call("POST", JOBS_PATH, {"jobs": [], "queue": queue}).status == 200
        assert run_json_command(capsys, "job", "j")[1]["state"] == "running"

        def finish() -> None:
            archive.write("a.png", b"picture")
            engine.call("POST", JOBS_PATH, {"jobs": [passed_job("j", output("a.png"))]})

        timer = threading.Timer(0.3, finish)
        timer.start()
        status, found, err = run_json_command(capsys, "job", "j", "--wait", "300", "--urls")
        timer.join()
        assert (status, found["state"], err) == (0, "complete", "")
        (file,) = found["files"]
        assert (file["key"], archive.server.read(file["key"])) == ("out/a.png", b"picture")
        with urllib.request.urlopen(file["url"]) as answer:
            assert (answer.read(), answer.headers["Content-Type"]) == (b"picture", "image/png")
        status, body = stage.call("GET", "/cloud-sync/jobs/j?urls=1")
        assert (status, json.loads(body)["files"][0]["state"]) == (200, "archived")
        status, found, err = run_json_command(capsys, "job", "nobody")
        assert (status, found["state"], "No job" in err) == (1, "unknown", True)
    # No engine runs any more.
    (archive.root / "a.png").unlink()
    status, found, _ = run_json_command(capsys, "job", "j", "--urls")
    assert (status, found["files"][0]["key"]) == (0, "out/a.png")
    with urllib.request.urlopen(found["files"][0]["url"]) as answer:
        assert answer.read() == b"picture"
    status, found, err = run_json_command(capsys, "job", "nobody")
    assert (status, found["state"], "the catalog was not searched" in err) == (1, "unknown", True)
    for path in archive.state.rglob("*"):
        assert not path.is_file() or b"X-Amz-Signature" not in path.read_bytes()


def test_without_any_jobs_the_command_says_so(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    archive.archive_all()
    status, _, err = run_json_command(capsys, "job", "j")
    assert (status, "this user has recorded no job" in err) == (1, True)
