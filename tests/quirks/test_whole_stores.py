"""How the archive handles the answers of Ceph, Swift and s3rver."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from multidict import CIMultiDict

from cloud_archive.cli.app import main
from cloud_archive.config.settings import load_settings
from cloud_archive.errors import FailureScope, StoreError
from cloud_archive.files import FileVersion
from cloud_archive.ledger.rows import Claim
from cloud_archive.maintenance.check import run_check
from cloud_archive.store.base import CreateOnly
from cloud_archive.store.evidence import Proof
from cloud_archive.store.s3 import S3Store
from cloud_archive.upload import uploader
from cloud_archive.upload.abandoned import MULTIPART_TRIES
from cloud_archive.upload.outcome import Outcome
from cloud_archive.upload.uploader import Uploader
from tests.functional.archives import claim_of
from tests.integration.archives import Archive
from tests.journal import MemoryJournal
from tests.quirks.batch import early_parts
from tests.quirks.profiles import WriteOnly
from tests.quirks.server import Answer, Forward, Profile, QuirkServer, Request, error
from tests.quirks.whole_stores import Ceph, S3rver, Swift
from tests.servers import S3Server

pytestmark = pytest.mark.store

FILM = b"film" * 75_000
_tokens = itertools.count()


@pytest.fixture(autouse=True)
def _early_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # A machine that stalls for seconds must not cause one request more.
    monkeypatch.setattr("cloud_archive.store.fast_path.LONGEST_SECONDS", 60.0)
    with early_parts():
        yield


class Machine:
    """One archiver of one directory, whose store answers in a dialect."""

    def __init__(self, root: Path, server: S3Server, url: str) -> None:
        root.mkdir(exist_ok=True)
        self.root = root
        settings = load_settings(server.environ(S3_ENDPOINT_URL=url, S3_PREFIX="out"))
        self.store = S3Store(settings, connect_seconds=60, read_seconds=60)
        self.uploader = Uploader(
            self.store, root, make_key=lambda path: f"out/{path}", session_id="s", wait=lambda seconds: None
        )
        self.notes = MemoryJournal()

    def claim(self, name: str, body: bytes) -> Claim:
        path = self.root / name
        path.write_bytes(body)
        return claim_of(FileVersion.of_stat(name, path.stat()), f"token{next(_tokens)}")

    def upload(self, name: str, body: bytes) -> Outcome:
        return self.retry(self.claim(name, body))

    def retry(self, claim: Claim) -> Outcome:
        return self.uploader.upload(claim, self.notes, lambda _sent: None)


@pytest.fixture
def machine(tmp_path: Path, seaweedfs: S3Server) -> Iterator[Callable[[Profile], Machine]]:
    servers: dict[Profile, QuirkServer] = {}
    machines: list[Machine] = []

    def make(profile: Profile) -> Machine:
        if profile not in servers:
            servers[profile] = QuirkServer(seaweedfs, profile).start()
        server = servers[profile]
        machines.append(Machine(tmp_path / f"machine{len(machines)}", seaweedfs, server.url))
        machines[-1].server = server  # type: ignore[attr-defined]
        return machines[-1]

    yield make
    for each in machines:
        each.store.close()
    for server in servers.values():
        server.stop()


def log_of(machine: Machine) -> list[tuple[str, str, int]]:
    """Return (operation, key, status) of each request so far."""
    log: list[tuple[str, str, int]] = machine.server.log  # type: ignore[attr-defined]
    return log


def requests_of(machine: Machine) -> Counter[str]:
    log = log_of(machine)
    found = Counter(operation for operation, _, _ in log)
    log.clear()
    return found


# --- Ceph


def test_an_empty_etag_at_the_end_of_a_multipart_upload_costs_one_head_and_is_success(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    ceph = machine(Ceph())
    ceph.upload("first.png", b"small")
    ceph.upload("first.mp4", FILM[::-1])  # the first large file probes what Complete does
    assert ceph.store.capabilities.create_only is CreateOnly.HONOURED
    assert ceph.store.capabilities.create_only_multipart is CreateOnly.IGNORED
    requests_of(ceph)
    with caplog.at_level(logging.INFO):
        outcome = ceph.upload("film.mp4", FILM)
    assert requests_of(ceph) == {
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
    with pytest.raises(StoreError, match="refuses HEAD requests for this key") as caught:
        store.upload(name, body)
    assert not caught.value.failure.transient
    assert "SECRET" not in str(caught.value)
    assert seaweedfs.read(f"out/{name}") == b"theirs"


# --- races


def upload_contested(machines: list[Machine], names: list[str]) -> dict[str, list[Outcome]]:
    """Let both machines upload different bytes under the same names, each name at the same moment."""
    barrier = threading.Barrier(len(machines))

    def run(number: int) -> list[Outcome]:
        found = []
        for name in names:
            claim = machines[number].claim(name, f"{name} of machine {number}".encode())
            barrier.wait(60)
            found.append(machines[number].retry(claim))
        return found

    with ThreadPoolExecutor(len(machines)) as pool:
        outcomes = list(pool.map(run, range(len(machines))))
    return {name: [outcome[place] for outcome in outcomes] for place, name in enumerate(names)}


def test_swift_loses_no_contested_name(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "CONFIRM_AFTER_SECONDS", 1.0)
    machines = [machine(swift := Swift()), machine(swift)]
    for each in machines:
        each.uploader._wait = time.sleep
    names = [f"{number}.png" for number in range(5)]
    found = upload_contested(machines, names)
    objects = seaweedfs.objects()
    for name, outcomes in found.items():
        for number, outcome in enumerate(outcomes):
            assert objects[outcome.key] == f"{name} of machine {number}".encode()
            assert outcome.in_parts
    able = machines[0].store.capabilities
    assert (able.create_only, able.create_only_multipart) == (CreateOnly.REJECTED, CreateOnly.HONOURED)


def test_an_empty_file_goes_to_swift_and_is_recognised_afterwards(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server
) -> None:
    swift = machine(Swift())
    assert swift.upload("empty.txt", b"").key == "out/empty.txt"
    again = swift.upload("small.txt", b"small")
    other = machine(Swift()).upload("small.txt", b"small")
    assert (again.key, other.key, other.already) == ("out/small.txt", "out/small.txt", True)
    assert seaweedfs.read("out/empty.txt") == b""


class Overtaken(Profile):
    """Lets another writer replace the object between this write and the second HEAD, the first `times` times."""

    def __init__(self, dialect: Profile, times: int) -> None:
        self.dialect = dialect
        self.times = times

    async def handle(self, request: Request, forward: Forward) -> Answer:
        answer = await self.dialect.handle(request, forward)
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


@pytest.mark.parametrize("dialect", [S3rver, Swift])
@pytest.mark.parametrize(("name", "body"), [("race.png", b"ours"), ("race.mp4", FILM)])
def test_what_was_replaced_in_the_same_moment_is_uploaded_under_the_next_name(
    name: str,
    body: bytes,
    dialect: type[Profile],
    machine: Callable[[Profile], Machine],
    seaweedfs: S3Server,
) -> None:
    store = machine(Overtaken(dialect(), times=1))
    store.upload("first.png", b"first")
    outcome = store.upload(name, body)
    next_key = f"out/{name.replace('.', ' (1).')}"
    assert outcome.key == next_key
    assert seaweedfs.read(next_key) == body
    assert seaweedfs.read(f"out/{name}") == b"theirs"


class Superseded(S3rver):
    """Lets another writer win and answers this one with 202, as Swift answers a write that came too late."""

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation == "PutObject" and request.key == "out/race.png":
            await forward(_foreign(request))
            return Answer(202, CIMultiDict({"Content-Type": "text/html"}), b"<html>Accepted</html>")
        return await super().handle(request, forward)


def test_a_write_that_came_too_late_goes_to_the_next_name(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server
) -> None:
    store = machine(Superseded())
    assert store.upload("race.png", b"ours").key == "out/race (1).png"
    assert seaweedfs.read("out/race (1).png") == b"ours"
    assert seaweedfs.read("out/race.png") == b"theirs"


class Together(Swift):
    """Holds the first `count` conditional writes until all of them came."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.left = count
        self.all_came = threading.Event()

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation == "PutObject" and "If-None-Match" in request.headers and self.left:
            self.left -= 1
            if not self.left:
                self.all_came.set()
            await asyncio.to_thread(self.all_came.wait, 60)
        return await super().handle(request, forward)


def test_no_worker_writes_unprotected_while_another_probes_what_completing_does(
    machine: Callable[[Profile], Machine],
) -> None:
    count = MULTIPART_TRIES + 3
    swift = machine(Together(count))
    with ThreadPoolExecutor(count) as pool:
        outcomes = list(pool.map(lambda number: swift.upload(f"{number}.png", b"%d" % number), range(count)))
    assert all(outcome.in_parts for outcome in outcomes)
    written = [key for name, key, status in log_of(swift) if name == "PutObject" and status == 200]
    assert set(written) == {"out/.cloud-archive/check"}


class SlowProbe(Profile):
    """Holds the first conditional write of the probe until `go_on`."""

    def __init__(self, before: Profile) -> None:
        self.before = before
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.writes = 0

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation == "PutObject" and request.key.endswith("first.png"):
            self.writes += 1
            if self.writes == 2:  # the file itself was the first
                self.asked.set()
                await asyncio.to_thread(self.go_on.wait, 60)
        return await self.before.handle(request, forward)


def test_the_second_head_does_not_wait_for_a_slow_first_probe(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "CONFIRM_AFTER_SECONDS", 0.01)
    profile = SlowProbe(Overtaken(S3rver(), times=1))
    store = machine(profile)
    first = threading.Thread(target=store.upload, args=("first.png", b"first"))
    first.start()
    try:
        assert profile.asked.wait(60)
        outcome = store.upload("race.png", b"ours")
        assert store.store.capabilities.create_only is CreateOnly.UNKNOWN, "the probe is still under way"
    finally:
        profile.go_on.set()
        first.join(60)
    assert outcome.key == "out/race (1).png"
    assert seaweedfs.read("out/race (1).png") == b"ours"
    assert seaweedfs.read("out/race.png") == b"theirs"


def test_a_probe_that_ends_in_time_saves_the_second_head(
    machine: Callable[[Profile], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "CONFIRM_AFTER_SECONDS", 60.0)
    profile = SlowProbe(Profile())
    store = machine(profile)
    probes, waiting = store.uploader._probes, threading.Event()
    wait_for_end = probes.wait_for_end

    def wait(timeout_seconds: float) -> bool:
        waiting.set()
        return wait_for_end(timeout_seconds)

    monkeypatch.setattr(probes, "wait_for_end", wait)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.upload, "first.png", b"first")
        assert profile.asked.wait(60)
        second = pool.submit(store.upload, "second.png", b"second")
        try:
            assert waiting.wait(60)
        finally:
            profile.go_on.set()
        assert first.result(60).key == "out/first.png"
        assert second.result(60).key == "out/second.png"
    assert [name for name, key, _ in log_of(store) if "second.png" in key] == ["HeadObject", "PutObject"]


def test_what_a_file_costs_on_each_kind_of_store(machine: Callable[[Profile], Machine]) -> None:
    one_part = {"CreateMultipartUpload": 1, "UploadPart": 1, "CompleteMultipartUpload": 1}
    expected: list[tuple[Profile, dict[str, int]]] = [
        (Profile(), {"PutObject": 1}),
        (Ceph(), {"PutObject": 1}),
        (Swift(), {"HeadObject": 2, **one_part}),
        (S3rver(), {"HeadObject": 2, "PutObject": 1}),
    ]
    for profile, requests in expected:
        store = machine(profile)
        name = type(profile).__name__
        store.upload(f"first of {name}.png", b"first")
        requests_of(store)
        store.upload(f"second of {name}.png", b"second")
        assert requests_of(store) == requests, name


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
