"""Stripped copies and `unshare` on a real store."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from tests.commands import run_json_command
from tests.filled import wait_until_filled
from tests.servers import wait_until
from tests.unit.catalog.cataloguing import png
from tests.unit.sharing.samples import SAMPLES, pixels

from .archives import Archive

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("own_state")]

PROMPT = "a secret red fox"
FILES = {
    "a/fox.png": png(PROMPT),
    "b/fox.png": png(PROMPT, 2),
    "clip.mp4": SAMPLES["mp4"](json.dumps({"text": PROMPT})),
    "page.html": b"<b>secret</b>",
}
SHARES = "out/.cloud-archive/v1/shares/"


@pytest.fixture
def archive(archive: Archive) -> Archive:
    for path, body in FILES.items():
        archive.write(path, body)
    with archive.running() as engine:
        wait_until(lambda: engine.catalog().status()["assets"] == len(FILES), "in the catalog")
        wait_until_filled(engine)
    return archive


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


def test_copies_hold_no_prompt_and_the_originals_stay(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {key: body for key, body in archive.server.objects().items() if "/.cloud-archive/" not in key}
    status, found, err = run_json_command(
        capsys, "share", "a/fox.png", "b/fox.png", "clip.mp4", "page.html", "--strip"
    )
    assert (status, "page.html" in err, "not supported" in err) == (1, True, True)
    assert [error["name"] for error in found["errors"]] == ["page.html"]
    assert [link["name"] for link in found["links"]] == ["fox.png", "fox.png", "clip.mp4"]
    # The two pictures differ in their metadata only, so that their copies are one.
    assert len({link["key"] for link in found["links"]}) == 2
    for link, path in zip(found["links"], ("a/fox.png", "b/fox.png", "clip.mp4"), strict=True):
        assert link["key"].startswith(f"{SHARES}{found['share']}/")
        copy = fetch(link["url"])
        assert PROMPT.encode() in FILES[path]
        assert PROMPT.encode() not in copy
        if path.endswith(".png"):
            assert pixels(copy) == pixels(FILES[path])
        metadata = archive.server.metadata(link["key"])
        assert PROMPT not in json.dumps(metadata)
    now = archive.server.objects()
    assert {key: now[key] for key in before} == before

    # No command takes shares for outputs.
    assert run_json_command(capsys, "verify")[0] == 0
    status, report, _ = run_json_command(capsys, "report", "--bucket")
    assert sum(row["files"] for row in report["rows"]) == len(FILES)

    status, listed, _ = run_json_command(capsys, "unshare", "--list")
    assert (status, {one["share"] for one in listed}) == (0, {found["share"]})
    status, gone, _ = run_json_command(capsys, "unshare", found["links"][0]["url"])
    assert (status, len(gone["deleted"]), gone["failed"]) == (0, 2, [])
    assert {key: body for key, body in archive.server.objects().items() if key in before} == before
    assert archive.server.keys(SHARES) == []
    with pytest.raises(urllib.error.HTTPError):
        fetch(found["links"][0]["url"])
    status, gone, err = run_json_command(capsys, "unshare", found["share"])
    assert (status, gone["deleted"], "no copies and no album" in err) == (0, [], True)


def test_a_file_that_cannot_be_stripped_is_refused_and_leaves_nothing(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found, err = run_json_command(capsys, "share", "page.html", "--strip")
    assert (status, found, "not supported" in err) == (1, None, True)
    assert archive.server.keys(SHARES) == []


def test_an_object_that_somebody_replaced_is_not_passed_on(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    other = png(PROMPT.replace("fox", "owl"))  # an intact picture of the same size
    assert len(other) == len(FILES["a/fox.png"])
    archive.server.put("out/a/fox.png", other)
    status, found, _ = run_json_command(capsys, "share", "a/fox.png", "--strip")
    assert (status, found) == (1, None)
    assert archive.server.keys(SHARES) == []


def test_a_key_that_may_not_delete_says_so(
    archive: Archive, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud_archive.errors import StoreError
    from cloud_archive.store.failures import explain
    from cloud_archive.store.s3 import S3Store

    _, found, _ = run_json_command(capsys, "share", "a/fox.png", "--strip")
    key = found["links"][0]["key"]
    denied = StoreError("DeleteObject", key, explain("AccessDenied", 403), status=403)
    monkeypatch.setattr(S3Store, "delete", lambda self, keys: ((one, denied) for one in keys))
    status, gone, err = run_json_command(capsys, "unshare", found["share"])
    assert (status, gone["failed"], "s3:DeleteObject" in err, key in err) == (1, [key], True, True)


@pytest.mark.parametrize("name", ["https://host/out/fox.png?X-Amz-Signature=1", "out/a/fox.png", "short"])
def test_what_names_no_share_deletes_nothing(
    archive: Archive, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    status, _, err = run_json_command(capsys, "unshare", name)
    assert (status, "can't be revoked" in err) == (1, True)
    assert run_json_command(capsys, "unshare")[0] == 2


def test_an_album_is_one_link_to_one_page(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    status, found, err = run_json_command(capsys, "share", "type:image", "--album", "Foxes <b>&", "--strip")
    assert (status, err) == (0, "")
    page = fetch(found["album"]["url"]).decode()
    assert "<h1>Foxes &lt;b&gt;&amp;</h1>" in page
    assert page.count("data:image/webp;base64,") == 2
    assert PROMPT not in page
    assert "<script" not in page
    for link in found["links"]:
        assert link["url"].replace("&", "&amp;") in page
    status, shown, _ = run_json_command(capsys, "share", "type:image", "--album", "x", "--with-prompts")
    assert PROMPT in fetch(shown["album"]["url"]).decode()
    status, gone, _ = run_json_command(capsys, "unshare", shown["album"]["url"])
    assert (status, gone["deleted"]) == (0, [shown["album"]["key"]])
