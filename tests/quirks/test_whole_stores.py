"""How the archive handles the answers of Ceph, Swift and s3rver."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_archive.cli.app import main
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import FailureScope, StoreError
from cloud_archive.maintenance.check import run_check
from cloud_archive.store.base import CreateOnly
from cloud_archive.store.evidence import Proof
from cloud_archive.store.s3 import S3Store
from tests.integration.archives import Archive
from tests.quirks.machines import FILM, Machine, log_of, take_requests
from tests.quirks.profiles import MissingIsForbidden, WriteOnly
from tests.quirks.server import Answer, Forward, Profile, QuirkServer, Request, error
from tests.quirks.whole_stores import Ceph, S3rver, Swift
from tests.servers import S3Server

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("steady_requests")]


# --- Ceph


def test_an_empty_etag_at_the_end_of_a_multipart_upload_costs_one_head_and_is_success(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    ceph = machine(Ceph())
    ceph.upload("first.png", b"small")
    ceph.upload("first.mp4", FILM[::-1])  # the first large file probes what Complete does
    assert ceph.store.capabilities.create_only is CreateOnly.HONOURED
    assert ceph.store.capabilities.create_only_multipart is CreateOnly.IGNORED
    take_requests(ceph)
    with caplog.at_level(logging.INFO):
        outcome = ceph.upload("film.mp4", FILM)
    assert take_requests(ceph) == {
        "HeadObject": 3,  # HEADs: before it begins, before it is completed, and for the ETag
        "CreateMultipartUpload": 1,
        "UploadPart": 1,
        "CompleteMultipartUpload": 1,
    }
    assert (outcome.key, outcome.proof, outcome.already) == ("out/film.mp4", Proof.CHECKSUM, False)
    assert outcome.etag == seaweedfs.client.head_object(Bucket=seaweedfs.bucket, Key="out/film.mp4")[
        "ETag"
    ].strip('"')
    assert caplog.messages == []
    assert seaweedfs.read("out/film.mp4") == FILM


class WriteOnlyCeph(WriteOnly):
    """Ceph with a key that may only put."""

    async def handle(self, request: Request, forward: Forward) -> Answer:
        return await super().handle(request, lambda onward: Ceph().handle(onward, forward))


def test_a_key_that_may_only_put_is_not_blamed_for_an_empty_etag(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    ceph = machine(WriteOnlyCeph())
    for name, body in (("first.png", b"small"), ("film.mp4", FILM)):
        assert ceph.upload(name, body).key == f"out/{name}"
        assert seaweedfs.read(f"out/{name}") == body
    assert "abort" not in caplog.text
    assert "AbortMultipartUpload" not in [operation for operation, _, _ in log_of(ceph)]
    assert ceph.store.capabilities.create_only_multipart is CreateOnly.IGNORED


# --- no ListParts


class NoListParts(Profile):
    """Answers ListParts and AbortMultipartUpload as a store without them does; parts fail until `healthy`."""

    def __init__(self, answer: Callable[[], Answer]) -> None:
        self.answer = answer
        self.healthy = False

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation in ("ListParts", "AbortMultipartUpload"):
            return self.answer()
        if request.operation == "UploadPart" and not self.healthy:
            return error(503, "ServiceUnavailable", "Later.")
        return await forward(request)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: error(405, "MethodNotAllowed", "The specified method is not allowed."),
        lambda: error(501, "NotImplemented", "Not implemented."),
        lambda: error(400, "InvalidRequest", "Unknown query."),
        lambda: Answer(405),
        lambda: Answer(200),
    ],
    ids=["405", "501", "400", "no body", "another operation's answer"],
)
def test_an_interrupted_upload_begins_again_where_its_parts_cannot_be_listed(
    answer: Callable[[], Answer],
    machine: Callable[[Profile], Machine],
    seaweedfs: S3Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    profile = NoListParts(answer)
    store = machine(profile)
    claim = store.claim("film.mp4", FILM)
    with pytest.raises(StoreError):
        store.retry(claim)
    profile.healthy = True
    left = claim._replace(
        base_key="out/film.mp4",
        key="out/film.mp4",
        sha256=hashlib.sha256(FILM).hexdigest(),
        upload_id=store.notes.upload_id,
        part_size_bytes=store.notes.part_size_bytes,
    )
    assert left.upload_id is not None
    assert store.retry(left).key == "out/film.mp4"
    assert seaweedfs.read("out/film.mp4") == FILM
    assert "does not take uploads" not in caplog.text
    if answer().status in (405, 501):
        assert "The store does not offer AbortMultipartUpload." in caplog.text


# --- never write blind


class RefusesName(Profile):
    """Ignores If-None-Match, and refuses a HEAD of keys with a percent sign as wrongly signed."""

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.method == "HEAD" and "%" in request.key:
            return Answer(403)
        request.headers.popall("If-None-Match", None)
        return await forward(request)


class SignsWrongly(Profile):
    """Rejects the signature of every request for a key with a percent sign."""

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if "%" in request.key:
            return error(403, "SignatureDoesNotMatch", "The signature does not match.")
        return await forward(request)


def test_a_name_that_the_store_cannot_sign_blames_neither_secret_nor_other_files(
    machine: Callable[[Profile], Machine],
) -> None:
    store = machine(SignsWrongly())
    store.upload("plain.png", b"plain")
    for name, body in (("50%.png", b"ours"), ("50%.mp4", FILM)):
        with pytest.raises(StoreError) as caught:
            store.upload(name, body)
        assert caught.value.failure.scope is FailureScope.FILE
        assert "SECRET" not in str(caught.value)
        assert "Rename the file" in str(caught.value)


@pytest.mark.parametrize("name", ["50%.png", "50%.mp4"])
def test_a_key_whose_head_alone_is_refused_is_not_written_blind(
    name: str, machine: Callable[[Profile], Machine], seaweedfs: S3Server
) -> None:
    body = b"ours" if name.endswith("png") else FILM
    store = machine(RefusesName())
    assert store.upload("plain.png", b"plain").key == "out/plain.png"
    seaweedfs.put(f"out/{name}", b"theirs")
    with pytest.raises(StoreError, match="refuses HEAD requests for this key") as caught:
        store.upload(name, body)
    assert not caught.value.failure.transient
    assert "SECRET" not in str(caught.value)
    assert seaweedfs.read(f"out/{name}") == b"theirs"


class LosesList(MissingIsForbidden):
    """Ignores If-None-Match, and answers HEADs of missing keys with 403 once the key may no longer list."""

    may_list = True

    async def handle(self, request: Request, forward: Forward) -> Answer:
        request.headers.popall("If-None-Match", None)
        return await (forward(request) if self.may_list else super().handle(request, forward))


def test_a_lost_right_to_list_is_no_fault_of_the_next_file(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server
) -> None:
    """The key that was missing at the last HEAD exists by now, and is shown without that right, too."""
    profile = LosesList()
    store = machine(profile)
    assert store.upload("first.png", b"first").key == "out/first.png"
    profile.may_list = False
    with pytest.raises(StoreError) as caught:
        store.upload("second.png", b"second")
    assert caught.value.failure.scope is FailureScope.STORE
    assert seaweedfs.keys() == ["out/first.png"]
    profile.may_list = True
    assert store.upload("second.png", b"second").key == "out/second.png"


# --- a wrong region


@pytest.mark.parametrize(("name", "body"), [("small.png", b"small"), ("film.mp4", FILM)])
def test_an_upload_names_the_right_region(
    name: str, body: bytes, machine: Callable[[Profile], Machine], seaweedfs: S3Server
) -> None:
    swift = machine(Swift(region="eu-central-1", names_region=False))
    with pytest.raises(StoreError) as caught:
        swift.upload(name, body)
    assert "The bucket is in the region eu-central-1. Set S3_REGION=eu-central-1" in str(caught.value)
    assert seaweedfs.keys() == []


def test_an_upload_goes_to_the_region_that_the_store_names_and_says_so(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    swift = machine(Swift(region="eu-central-1"))
    assert swift.upload("a.png", b"a").key == "out/a.png"
    assert "the bucket is in the region eu-central-1: set S3_REGION" in caplog.text
    assert seaweedfs.read("out/a.png") == b"a"


@pytest.mark.parametrize("names_region", [True, False])
def test_the_check_names_the_right_region(names_region: bool, seaweedfs: S3Server) -> None:
    profile = Swift(region="eu-central-1", names_region=names_region)
    with QuirkServer(seaweedfs, profile) as server:
        environ = seaweedfs.environ(S3_ENDPOINT_URL=server.url, S3_PREFIX="out")
        steps = {step.name: step for step in run_check(lambda: load_settings(environ), make_store=S3Store)}
    assert steps["bucket"].ok is names_region
    assert "S3_REGION=eu-central-1" in steps["bucket"].cure


# --- the check takes an upload's steps


class NoHeads(Profile):
    """Answers every HEAD with 400 and no body, and everything else as it should."""

    async def handle(self, request: Request, forward: Forward) -> Answer:
        return Answer(400) if request.method == "HEAD" else await forward(request)


def test_the_check_begins_with_a_head_as_uploads_do(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server
) -> None:
    store = machine(profile := NoHeads())
    with pytest.raises(StoreError):
        store.upload("a.png", b"a")
    first = [name for name, _, _ in log_of(store)][:2]
    with QuirkServer(seaweedfs, profile) as server:
        environ = seaweedfs.environ(S3_ENDPOINT_URL=server.url, S3_PREFIX="out")
        steps = run_check(lambda: load_settings(environ), make_store=S3Store)
        assert [name for name, _, _ in server.log][:2] == first
    (failed,) = [step for step in steps if step.ok is False]
    assert "400" in failed.cause
    assert "cloud-archive check" not in failed.cure


@pytest.mark.parametrize(("prefix", "advised"), [("out", True), ("out/{session_id}", False)])
def test_the_check_advises_a_prefix_that_keeps_names_apart(
    prefix: str,
    advised: bool,
    seaweedfs: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with QuirkServer(seaweedfs, S3rver()) as server:
        for name, value in seaweedfs.environ(S3_ENDPOINT_URL=server.url, S3_PREFIX=prefix).items():
            monkeypatch.setenv(name, value)
        assert main(["check"]) == 0
    said = capsys.readouterr().out
    assert "The store can't refuse to overwrite" in said
    assert ("put {session_id} into S3_PREFIX" in said) is advised
    last = "Files can be archived; see the warnings above." if advised else "Everything works"
    assert said.splitlines()[-1].startswith(last)


# --- a wrong secret


def test_a_wrong_secret_is_named_once_by_uploads_and_by_verify(
    seaweedfs: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    swift = Swift()
    with QuirkServer(seaweedfs, swift) as server:
        archive = Archive(tmp_path, seaweedfs, S3_ENDPOINT_URL=server.url)
        for number in range(5):
            archive.write(f"{number}.png")
        archive.archive_all()
        swift.secret_is_right = False
        for name, value in {**archive.environ, "CLOUD_ARCHIVE_STATE_DIR": str(archive.state)}.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        assert main(["verify", str(archive.root)]) == 1
        said = capsys.readouterr()
        for name in ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"):
            assert (said.out + said.err).count(name) == 1, said
        caplog.clear()
        (archive.root / "new.png").write_bytes(b"new")
        assert main(["watch", str(archive.root), "--once", "--grace", "0"]) == 1
        said = capsys.readouterr()
    assert "S3_SECRET_ACCESS_KEY" in said.err
    assert "would be replaced" not in said.err + caplog.text
    assert seaweedfs.keys("out/new") == []
