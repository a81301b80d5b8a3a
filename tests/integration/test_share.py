"""Links to archived files, on a real store: `share`, the route, and what curl gets."""

from __future__ import annotations

import calendar
import json
import shutil
import subprocess
import time
from contextlib import closing
from typing import Any

import pytest

from cloud_archive.config.settings import load_settings
from cloud_archive.sharing.share import ShareOrder
from cloud_archive.sharing.share import share as share_assets
from cloud_archive.store.s3 import S3Store
from tests.commands import read_json, run_command
from tests.filled import wait_until_filled
from tests.servers import S3Server, missing, wait_until
from tests.unit.catalog.cataloguing import png

from .archives import Archive

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]

FOX = png("a red fox")
FILES = {"sub/füchse 1.png": FOX, "cat.png": png("a black cat", 2), "page.html": b"<b>x</b>"}


@pytest.fixture
def archive(archive: Archive) -> Archive:
    for path, body in FILES.items():
        archive.write(path, body)
    return archive


@pytest.fixture
def filled(archive: Archive) -> Archive:
    """An archive whose files are in the catalog; no engine runs any more, so the command signs by itself."""
    with archive.running() as engine:
        wait_until(lambda: engine.catalog().status()["assets"] == len(FILES), "in the catalog")
        wait_until_filled(engine)
    return archive


def share(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return read_json(capsys, "share", *arguments)


def curl(url: str) -> tuple[int, bytes, dict[str, str]]:
    """Return the status, body and headers that curl gets without credentials."""
    if shutil.which("curl") is None:
        missing("curl")
    ran = subprocess.run(["curl", "-s", "-i", "--http1.1", url], capture_output=True, check=True)
    head, _, body = ran.stdout.partition(b"\r\n\r\n")
    first, *lines = head.decode().splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), body, headers


def test_links_work_with_curl_and_end_when_they_say(
    filled: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    (link,) = share(capsys, "sub/füchse 1.png")["links"]
    assert (link["name"], link["key"]) == ("füchse 1.png", "out/sub/füchse 1.png")
    status, body, headers = curl(link["url"])
    assert (status, body) == (200, FOX)
    assert headers["content-type"] == "image/png"
    assert headers["content-disposition"] == "inline; filename*=UTF-8''f%C3%BCchse%201.png"
    (link,) = share(capsys, "sub/füchse 1.png", "--expires", "3s")["links"]
    ends = calendar.timegm(time.strptime(link["expires_at"], "%Y-%m-%dT%H:%M:%SZ"))
    assert ends <= time.time() + 3
    wait_until(lambda: time.time() > ends + 1, "the link has ended")
    assert curl(link["url"])[0] == 403


def test_keys_paths_and_queries(filled: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    named = share(capsys, "cat.png", "out/cat.png", "out/page.html")["links"]
    assert [link["key"] for link in named] == ["out/cat.png", "out/page.html"]
    assert curl(named[1]["url"])[2]["content-disposition"].startswith("attachment")
    assert [link["key"] for link in share(capsys, "red", "fox")["links"]] == ["out/sub/füchse 1.png"]
    assert run_command(capsys, "share", "cat.png", "dog.png")[0] == 1
    status, _, err = run_command(capsys, "share", "elephant")
    assert (status, "elephant" in err) == (1, True)
    status, _, err = run_command(capsys, "share", "type:image", "--limit", "1")
    assert (status, "2 files" in err, "--limit" in err) == (1, True, True)
    for wrong in (["--expires", "soon"], ["--expires", "off"], ["--limit", "0"]):
        assert run_command(capsys, "share", "cat.png", *wrong)[0] == 2
    status, out, err = run_command(capsys, "share", "cat.png", "--expires", "30d")
    assert (status, "7 days" in err) == (0, True)
    assert curl(out.splitlines()[1])[1] == FILES["cat.png"]


def test_an_object_that_is_gone_is_named_and_others_are_shared(
    filled: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    filled.server.client.delete_object(Bucket=filled.server.bucket, Key="out/cat.png")
    status, out, err = run_command(capsys, "share", "cat.png", "page.html")
    assert (status, len(out.splitlines()), err.startswith("cat.png: ")) == (1, 2, True)
    status, out, err = run_command(capsys, "share", "cat.png")
    assert (status, out, "cat.png" in err) == (1, "", True)


def test_an_object_in_glacier_is_named_in_place_of_a_dead_link(moto_s3: S3Server) -> None:
    client, bucket = moto_s3.client, moto_s3.bucket
    client.put_object(Bucket=bucket, Key="out/cold.png", Body=FOX, StorageClass="GLACIER")
    client.put_object(Bucket=bucket, Key="out/warm.png", Body=FOX)
    client.put_object(Bucket=bucket, Key="out/empty.png", Body=b"")
    assets = [
        {"id": name, "name": name, "key": f"out/{name}", "mime_type": "image/png", "size": size}
        for name, size in (("cold.png", len(FOX)), ("warm.png", len(FOX)), ("empty.png", 0))
    ]
    with closing(S3Store(load_settings(moto_s3.environ()))) as store:
        answer = share_assets(store, "out", assets, ShareOrder(60.0))
    assert [link["name"] for link in answer["links"]] == ["warm.png", "empty.png"]
    assert curl(answer["links"][0]["url"])[:2] == (200, FOX)
    (error,) = answer["errors"]
    assert (error["name"], "Glacier" in error["message"]) == ("cold.png", True)


def test_a_key_that_may_not_read_is_warned_about(
    filled: Archive, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in filled.server.put_only().items():
        if name in ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, value)
    status, out, err = run_command(capsys, "share", "cat.png")
    assert (status, "s3:GetObject" in err) == (0, True)
    assert curl(out.splitlines()[1])[0] == 403


def test_a_running_engine_signs_with_its_own_credentials(
    filled: Archive, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from .stage import Stage

    stage = Stage.__new__(Stage)  # without its own archive: it serves this one
    stage.archive, stage.server, stage.environ = filled, filled.server, dict(filled.environ)
    with stage.running():
        monkeypatch.delenv("S3_SECRET_ACCESS_KEY")
        (link,) = share(capsys, "cat.png")["links"]
        assert curl(link["url"])[1] == FILES["cat.png"]
        ids = [link["id"], "00000000-0000-4000-8000-000000000000"]
        status, text = stage.call("POST", "/cloud-sync/share", {"ids": ids[:1], "expires_seconds": 60})
        assert (status, len(json.loads(text)["links"])) == (200, 1)
        for body, expected in (
            ({"ids": ids}, 404),
            ({"ids": []}, 400),
            ({"ids": ["x"]}, 400),
            ({"ids": [1]}, 400),
            ({"ids": ids[:1], "expires_seconds": 0}, 400),
            ({"ids": ids[:1], "expires_seconds": True}, 400),
            ({"ids": ids[:1], "host": "evil.example"}, 400),
        ):
            assert stage.call("POST", "/cloud-sync/share", body)[0] == expected, body
        logs = [path.read_text(errors="replace") for path in filled.state.rglob("*.log")]
        status_text = stage.call("GET", "/cloud-sync/status")[1]
    assert not any("Signature" in text for text in [*logs, status_text])
    for path in filled.state.rglob("*"):
        assert not path.is_file() or b"X-Amz-Signature" not in path.read_bytes()
