"""Two machines write one name at once, on stores that don't refuse to overwrite: no content is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from multidict import CIMultiDict

from cloud_archive.store.base import CreateOnly
from cloud_archive.upload import uploader
from cloud_archive.upload.abandoned import MULTIPART_TRIES
from cloud_archive.upload.outcome import Outcome
from tests.quirks.machines import FILM, Machine, log_of, take_requests
from tests.quirks.server import Answer, Forward, Profile, Request
from tests.quirks.whole_stores import Ceph, S3rver, Swift
from tests.servers import S3Server, wait_until

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("steady_requests")]


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


class CountedSwift(Swift):
    """Knows how many uploads are being completed now."""

    def __init__(self) -> None:
        super().__init__()
        self.completing = 0

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation != "CompleteMultipartUpload":
            return await super().handle(request, forward)
        self.completing += 1
        try:
            return await super().handle(request, forward)
        finally:
            self.completing -= 1


def test_swift_loses_no_contested_name(
    machine: Callable[[Profile], Machine], seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "CONFIRM_AFTER_SECONDS", 0.0)
    machines = [machine(swift := CountedSwift()), machine(swift)]
    for each in machines:
        # Instead of a pause that is longer than the other writer takes: until it no longer writes.
        each.uploader._wait = lambda _: wait_until(lambda: not swift.completing, "nothing is being completed")
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


@pytest.mark.parametrize(("name", "body"), [("race.png", b"ours"), ("race.mp4", FILM)])
def test_what_was_replaced_is_found_also_if_no_small_file_was_probed(
    name: str,
    body: bytes,
    machine: Callable[[Profile], Machine],
    seaweedfs: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cloud_archive.store.s3.probe", lambda *_, **__: None)
    store = machine(Overtaken(S3rver(), times=1))
    assert store.upload(name, body).key == f"out/{name.replace('.', ' (1).')}"
    assert store.store.capabilities.create_only is CreateOnly.UNKNOWN


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

    def wait(timeout_seconds: float) -> None:
        waiting.set()
        wait_for_end(timeout_seconds)

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
        take_requests(store)
        store.upload(f"second of {name}.png", b"second")
        assert take_requests(store) == requests, name
