"""What Ceph, Swift and s3rver answer, and what the archive makes of it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from multidict import CIMultiDict

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import FailureScope, StoreError
from cloud_archive.files import FileVersion
from cloud_archive.ledger.rows import Claim
from cloud_archive.maintenance.check import run_check
from cloud_archive.store.base import CreateOnly
from cloud_archive.store.evidence import Proof
from cloud_archive.store.s3 import S3Store
from cloud_archive.upload.outcome import Outcome
from cloud_archive.upload.uploader import Uploader
from tests.functional.archives import claim_of
from tests.quirks.batch import early_parts
from tests.quirks.server import Answer, Forward, Profile, QuirkServer, Request, error
from tests.quirks.whole_stores import Ceph, S3rver, Swift
from tests.servers import S3Server

pytestmark = pytest.mark.store

FILM = b"film" * 75_000
_tokens = itertools.count()


@pytest.fixture(autouse=True)
def _early_parts() -> Iterator[None]:
    with early_parts():
        yield


class Notes:
    """A journal that remembers what a ledger would."""

    def __init__(self) -> None:
        self.upload_id: str | None = None
        self.part_size_bytes: int | None = None
        self.abandoned: list[tuple[str, str]] = []

    def attempt(self, *, sha256: str, base_key: str, key: str) -> None: ...

    def multipart(self, upload_id: str | None, part_size_bytes: int | None) -> None:
        self.upload_id, self.part_size_bytes = upload_id, part_size_bytes

    def abandon(self, key: str, upload_id: str) -> None:
        self.abandoned.append((key, upload_id))


class Machine:
    """One archiver of one directory; its store is reached through a dialect."""

    def __init__(self, root: Path, server: S3Server, url: str) -> None:
        root.mkdir(exist_ok=True)
        self.root = root
        settings = load_settings(server.environ(S3_ENDPOINT_URL=url, S3_PREFIX="out"))
        self.store = S3Store(settings, connect_seconds=5, read_seconds=10)
        self.uploader = Uploader(self.store, root, make_key=lambda path: f"out/{path}", session_id="s")
        self.notes = Notes()

    def claim(self, name: str, body: bytes) -> Claim:
        path = self.root / name
        path.write_bytes(body)
        return claim_of(FileVersion.of_stat(name, path.stat()), f"token{next(_tokens)}")

    def upload(self, name: str, body: bytes) -> Outcome:
        return self.again(self.claim(name, body))

    def again(self, claim: Claim) -> Outcome:
        return self.uploader.upload(claim, self.notes, lambda _sent: None)


@pytest.fixture
def machine(tmp_path: Path, seaweedfs: S3Server) -> Iterator[Callable[[Profile], Machine]]:
    servers: dict[Profile, QuirkServer] = {}
    machines: list[Machine] = []

    def make(profile: Profile) -> Machine:
        if profile not in servers:
            servers[profile] = QuirkServer(
                seaweedfs.endpoint, seaweedfs.access_key_id, seaweedfs.secret_access_key, profile
            ).start()
        server = servers[profile]
        machines.append(Machine(tmp_path / f"machine{len(machines)}", seaweedfs, server.url))
        machines[-1].server = server  # type: ignore[attr-defined]
        return machines[-1]

    yield make
    for each in machines:
        each.store.close()
    for server in servers.values():
        server.stop()


def requests_of(machine: Machine) -> Counter[str]:
    log = machine.server.log  # type: ignore[attr-defined]
    found = Counter(operation for operation, _, _ in log)
    log.clear()
    return found


# --- Ceph


def test_an_empty_etag_at_the_end_of_a_multipart_upload_costs_one_head_and_is_success(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    ceph = machine(Ceph())
    ceph.upload("first.png", b"small")
    assert ceph.store.capabilities.create_only is CreateOnly.HONOURED
    assert ceph.store.capabilities.create_only_multipart is CreateOnly.IGNORED
    requests_of(ceph)
    with caplog.at_level(logging.INFO):
        outcome = ceph.upload("film.mp4", FILM)
    assert requests_of(ceph) == {
        "HeadObject": 3,  # before it begins, before it is completed, and for the ETag
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


# --- no ListParts


class NoListParts(Profile):
    """Answers ListParts and AbortMultipartUpload as stores do that do not offer them; parts fail until `healthy`."""

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
        store.again(claim)
    profile.healthy = True
    left = dataclasses.replace(
        claim,
        base_key="out/film.mp4",
        key="out/film.mp4",
        sha256=hashlib.sha256(FILM).hexdigest(),
        upload_id=store.notes.upload_id,
        part_size_bytes=store.notes.part_size_bytes,
    )
    assert left.upload_id is not None
    assert store.again(left).key == "out/film.mp4"
    assert seaweedfs.read("out/film.mp4") == FILM
    assert "does not take uploads" not in caplog.text
    if answer().status in (405, 501):
        assert "The store does not offer AbortMultipartUpload." in caplog.text


# --- never write blind


class RefusesName(Profile):
    """Ignores If-None-Match, and refuses a HEAD of keys with a percent sign as if they were signed wrongly."""

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
    machine: Callable[[Profile], Machine], seaweedfs: S3Server
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
    with pytest.raises(StoreError, match="refuses to look at this key") as caught:
        store.upload(name, body)
    assert not caught.value.failure.transient
    assert "SECRET" not in str(caught.value)
    assert seaweedfs.read(f"out/{name}") == b"theirs"


# --- races


def contested(machines: list[Machine], names: list[str]) -> dict[str, list[Outcome]]:
    """Both machines upload other bytes under the same names, each name at the same moment."""
    barrier = threading.Barrier(len(machines))

    def run(number: int) -> list[Outcome]:
        found = []
        for name in names:
            claim = machines[number].claim(name, f"{name} of machine {number}".encode())
            barrier.wait(60)
            found.append(machines[number].again(claim))
        return found

    with ThreadPoolExecutor(len(machines)) as pool:
        outcomes = list(pool.map(run, range(len(machines))))
    return {name: [outcome[place] for outcome in outcomes] for place, name in enumerate(names)}


def test_swift_decides_contested_names_by_completing_multipart_uploads(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server
) -> None:
    machines = [machine(swift := Swift()), machine(swift)]
    names = [f"{number}.png" for number in range(20)]
    found = contested(machines, names)
    objects = seaweedfs.objects()
    for name, outcomes in found.items():
        for number, outcome in enumerate(outcomes):
            assert objects[outcome.key] == f"{name} of machine {number}".encode()
            assert outcome.unprotected_at is None
    able = machines[0].store.capabilities
    assert (able.create_only, able.create_only_multipart) == (CreateOnly.REJECTED, CreateOnly.HONOURED)


def test_an_empty_file_goes_to_swift_and_is_known_again(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server
) -> None:
    swift = machine(Swift())
    assert swift.upload("empty.txt", b"").key == "out/empty.txt"
    again = swift.upload("small.txt", b"small")
    other = machine(Swift()).upload("small.txt", b"small")
    assert (again.key, other.key, other.already) == ("out/small.txt", "out/small.txt", True)
    assert seaweedfs.read("out/empty.txt") == b""


class Overtaken(S3rver):
    """Lets another writer replace the object between this write and the second look, the first `times` times."""

    def __init__(self, server: S3Server, times: int) -> None:
        self.server = server
        self.times = times

    async def handle(self, request: Request, forward: Forward) -> Answer:
        answer = await super().handle(request, forward)
        done = request.operation in ("PutObject", "CompleteMultipartUpload") and answer.status == 200
        if done and "race" in request.key and self.times:
            self.times -= 1
            await forward(_foreign(request))
        return answer


def _foreign(request: Request) -> Request:
    bucket = request.target.split("/")[1]
    target = request.target.split("?")[0]
    headers: CIMultiDict[str] = CIMultiDict({"x-amz-meta-archive-token": "other"})
    return Request("PutObject", bucket, request.key, "PUT", target, headers, b"theirs")


@pytest.mark.parametrize(("name", "body"), [("race.png", b"ours"), ("race.mp4", FILM)])
def test_what_was_replaced_in_the_same_moment_is_uploaded_under_the_next_name(
    name: str, body: bytes, machine: Callable[[Profile], Machine], seaweedfs: S3Server
) -> None:
    store = machine(Overtaken(seaweedfs, times=1))
    store.uploader._wait = lambda seconds: None
    store.upload("first.png", b"first")
    outcome = store.upload(name, body)
    next_key = f"out/{name.replace('.', ' (1).')}"
    assert outcome.key == next_key
    assert seaweedfs.read(next_key) == body
    assert seaweedfs.read(f"out/{name}") == b"theirs"


# --- a wrong region


def test_a_wrong_region_is_named_by_uploads_and_by_the_check(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server
) -> None:
    swift = machine(profile := Swift(region="eu-central-1"))
    with contextlib.suppress(StoreError):  # the SDK may learn the region from the refusal
        swift.upload("a.png", b"a")
    url = swift.server.url  # type: ignore[attr-defined]
    environ = seaweedfs.environ(S3_ENDPOINT_URL=url, S3_PREFIX="out")
    steps = run_check(lambda: load_settings(environ), make_store=S3Store)
    said = " ".join(f"{step.cause} {step.cure}" for step in steps)
    assert "S3_REGION=eu-central-1" in said
    assert profile.region == "eu-central-1"
