"""Another bucket than at the last start, on a real store."""

from __future__ import annotations

import pytest

from tests.commands import run_command
from tests.servers import wait_until

from .archives import Archive

pytestmark = pytest.mark.store


def test_status_names_files_in_another_bucket_until_verify_has_found_them_in_this_one(
    archive: Archive, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write("a.png")
    archive.write("b.png")
    with archive.running() as engine:
        wait_until(lambda: engine.status().archived_files == 2, "archived")
    first = archive.server
    archive.server = archive.server.with_fresh_bucket()
    archive.environ |= archive.server.environ()
    archive.set_environment(monkeypatch)

    def notices() -> list[str]:
        return [each for each in engine.status().errors if "another bucket" in each]

    with archive.running() as engine:
        assert notices()[0].startswith("2 files that count as archived may be in another bucket")
        with monkeypatch.context() as earlier:
            earlier.setenv("S3_BUCKET", first.bucket)
            assert run_command(capsys, "verify", archive.root)[0] == 0
    with archive.running() as engine:
        assert len(notices()) == 1, "verify has found them in the earlier bucket, which is not the archive's"
        assert run_command(capsys, "verify", archive.root)[0] == 1
        assert run_command(capsys, "verify", archive.root, "--repair")[0] == 1
        engine.retry()  # else the archive looks only within a minute for what another process has queued
        assert engine.flush(60)
        assert archive.server.keys("out/") == ["out/a.png", "out/b.png"]
    with archive.running() as engine:
        assert notices() == []
    archive.environ["S3_ENDPOINT_URL"] = archive.environ["S3_ENDPOINT_URL"].replace("127.0.0.1", "localhost")
    archive.set_environment(monkeypatch)
    with archive.running() as engine:
        assert len(notices()) == 1, "it may be another store"
        assert run_command(capsys, "verify", archive.root)[0] == 0
    with archive.running() as engine:
        assert notices() == []
