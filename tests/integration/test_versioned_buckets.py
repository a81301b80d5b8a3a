"""Buckets that keep every version of an object, also with a retention that forbids to delete versions."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.maintenance.check import has_no_failure, run_check
from tests.commands import read_json, run_command
from tests.integration.archives import Archive
from tests.servers import S3Server

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]

FILM_BYTES = 9 * 1024 * 1024  # sent in parts


def _versioned(server: S3Server) -> S3Server:
    fresh = server.with_fresh_bucket()
    server.client.put_bucket_versioning(Bucket=fresh.bucket, VersioningConfiguration={"Status": "Enabled"})
    return fresh


def _locked(server: S3Server) -> S3Server:
    server.client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    server.client.put_object_lock_configuration(
        Bucket="locked",
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}},
        },
    )
    return replace(server, bucket="locked")


def _outputs(server: S3Server) -> dict[str, bytes]:
    return {key: body for key, body in server.objects("out/").items() if ".cloud-archive" not in key}


@pytest.mark.parametrize("make_bucket", [_versioned, _locked])
def test_a_bucket_that_keeps_versions_is_like_any_other(
    make_bucket: Callable[[S3Server], S3Server],
    tmp_path: Path,
    seaweedfs: S3Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = make_bucket(seaweedfs)
    archive = Archive(tmp_path, server)
    archive.set_environment(monkeypatch)
    assert has_no_failure(run_check(lambda: load_settings(archive.environ)))
    image, film = archive.write("a.png"), archive.write("film.mp4", os.urandom(FILM_BYTES))
    assert run_command(capsys, "watch", archive.root, "--once")[0] == 0
    rewritten = archive.write("a.png")
    assert run_command(capsys, "watch", archive.root, "--once")[0] == 0
    expected = {"out/a.png": image, "out/a (1).png": rewritten, "out/film.mp4": film}
    assert _outputs(server) == expected
    assert read_json(capsys, "verify", archive.root)["missing"] == 0

    assert read_json(capsys, "prune", "--keep-bytes", "1B", "--yes")["deleted"] == 3
    assert _outputs(server) == {}
    listed = server.client.list_object_versions(Bucket=server.bucket, Prefix="out/film")
    assert [marker["Key"] for marker in listed["DeleteMarkers"]] == ["out/film.mp4"]
    assert [version["IsLatest"] for version in listed["Versions"]] == [False]
    # The names are free again, although each has a version that marks the deletion.
    archive.write("a.png", rewritten)
    archive.write("film.mp4", film)
    assert run_command(capsys, "watch", archive.root, "--once")[0] == 0
    assert _outputs(server) == {"out/a.png": rewritten, "out/film.mp4": film}
    back = tmp_path / "back"
    assert run_command(capsys, "restore", "--to", back)[0] == 0
    assert {path: body for path, (body, _) in archive.local_files(back).items()} == {
        "a.png": rewritten,
        "film.mp4": film,
    }
