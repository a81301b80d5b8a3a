"""Multipart uploads that are not completed: which are aborted, which stay noted, and what a probe notes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.errors import StoreError
from cloud_archive.files import FileVersion, stat_version
from cloud_archive.ledger.rows import Claim
from cloud_archive.store.base import Capabilities, CreateOnly
from cloud_archive.store.failures import explain
from cloud_archive.upload.abandoned import (
    INTENT,
    MULTIPART_TRIES,
    AbandonedUploads,
    ProbeJournal,
    StoreProbes,
)
from cloud_archive.upload.source import SINGLE_PUT_BYTES, Content
from cloud_archive.upload.uploader import Uploader
from tests.functional.archives import claim_of
from tests.journal import MemoryJournal
from tests.memory_store import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def over() -> list[tuple[str, str]]:
    """The uploads that no longer need an abort."""
    return []


@pytest.fixture
def uploads(store: MemoryStore, over: list[tuple[str, str]]) -> AbandonedUploads:
    return AbandonedUploads(store, lambda key, upload_id: over.append((key, upload_id)))


def begun(store: MemoryStore, key: str = "a.mp4") -> str:
    return store.create_multipart(key, content_type="video/mp4", metadata={})


def test_an_upload_of_ours_is_aborted_and_forgotten(
    store: MemoryStore, uploads: AbandonedUploads, over: list[tuple[str, str]]
) -> None:
    upload_id = begun(store)
    uploads.abort("a.mp4", upload_id)
    assert store.uploads == {}
    assert over == [("a.mp4", upload_id)]


@pytest.mark.parametrize(
    ("code", "status", "is_forgotten"),
    [
        ("SlowDown", 503, False),
        ("NotS3", 200, False),
        ("ExpiredToken", 400, False),
        ("TLS", None, False),
        ("AccessDenied", 403, True),
    ],
)
def test_only_an_upload_that_may_never_be_aborted_is_forgotten_after_a_failure(
    store: MemoryStore,
    uploads: AbandonedUploads,
    over: list[tuple[str, str]],
    code: str,
    status: int | None,
    is_forgotten: bool,
) -> None:
    def refuse(operation: str, key: str) -> None:
        if operation == "AbortMultipartUpload":
            raise StoreError(operation, key, explain(code, status), status=status)

    upload_id = begun(store)
    store.on_call = refuse
    uploads.abort("a.mp4", upload_id)
    assert (over == [("a.mp4", upload_id)]) is is_forgotten


def test_an_upload_to_a_key_that_is_under_way_here_is_not_aborted(
    store: MemoryStore, uploads: AbandonedUploads
) -> None:
    upload_id = begun(store)
    with uploads.in_use("a.mp4"), uploads.in_use("a.mp4"):
        uploads.abort_unless_in_use("a.mp4", upload_id)
        uploads.abort_unless_in_use("other.mp4", begun(store, "other.mp4"))
    assert list(store.uploads) == [upload_id]
    uploads.abort_unless_in_use("a.mp4", upload_id)
    assert store.uploads == {}


def test_of_unnamed_uploads_only_ours_of_that_moment_without_parts_is_aborted(
    store: MemoryStore, uploads: AbandonedUploads
) -> None:
    intent = uploads.intent()
    assert intent.startswith(INTENT)
    mine, older, later, with_a_part, elsewhere = (
        begun(store, key) for key in ("a.mp4", "a.mp4", "a.mp4", "a.mp4", "b.mp4")
    )
    store.uploads[older].initiated_at -= 60
    store.uploads[later].initiated_at += 600
    store.uploads[with_a_part].parts[1] = b"x"
    uploads.abort("a.mp4", intent)
    assert set(store.uploads) == {older, later, with_a_part, elsewhere}
    assert store.aborted == [("a.mp4", mine)]


# --- what a probe notes


def test_a_probe_is_noted_before_its_upload_exists_and_forgotten_after_it(
    uploads: AbandonedUploads, over: list[tuple[str, str]]
) -> None:
    journal = MemoryJournal()
    notes = ProbeJournal(uploads, journal, "check")
    notes.beginning()
    ((key, intent),) = journal.abandoned
    assert (key, intent.startswith(INTENT)) == ("check", True)
    notes.begun("id-1")
    assert journal.abandoned[1:] == [("check", "id-1")]
    assert over == [("check", intent)]
    notes.ended()
    assert over[1:] == [("check", "id-1")]


class ProbedStore(MemoryStore):
    """Counts its probes; the first answers `found`."""

    def __init__(self, found: CreateOnly = CreateOnly.HONOURED, able: Capabilities | None = None) -> None:
        super().__init__(able or Capabilities())
        self.found, self.probes, self.alone = found, list[str](), 0

    def probe_create_only(self, key: str, body: bytes, *, in_parts: bool = True, **_: Any) -> None:
        assert not in_parts, "not before there is a file in parts"
        self.probes.append(key)
        self._capabilities = Capabilities(create_only=self.found)

    def probe_with_own_object(self, notes: object = None) -> None:
        self.alone += 1


def probe(probes: StoreProbes, body: bytes | None = b"x") -> None:
    read = FileVersion("a.png", 1, 1)
    probes.probe_with("a.png", Content(1, "0" * 64, body, 0, read), {}, "image/png", MemoryJournal())


def test_where_only_the_right_to_send_heads_is_unknown_it_is_tried_with_the_first_object() -> None:
    store = ProbedStore()
    store._capabilities = Capabilities(CreateOnly.HONOURED, CreateOnly.HONOURED)
    probes = StoreProbes(store, AbandonedUploads(store, lambda *_: None))
    probe(probes)
    assert store.probes == ["a.png"]


def test_the_first_small_object_tells_and_no_other_is_used() -> None:
    store = ProbedStore()
    probes = StoreProbes(store, AbandonedUploads(store, lambda *_: None))
    probe(probes, None)
    assert store.probes == [], "large objects are not sent again"
    probe(probes)
    probe(probes)
    assert store.probes == ["a.png"]


def test_a_probe_that_told_nothing_is_not_repeated_with_every_file() -> None:
    store = ProbedStore(CreateOnly.UNKNOWN)
    probes = StoreProbes(store, AbandonedUploads(store, lambda *_: None))
    probe(probes)
    probe(probes)
    assert store.probes == ["a.png"]


def test_what_is_known_is_not_asked() -> None:
    store = ProbedStore(able=Capabilities(CreateOnly.IGNORED, can_head=False))
    probes = StoreProbes(store, AbandonedUploads(store, lambda *_: None))
    probe(probes)
    assert store.probes == []
    probes.probe_with_own_object(lambda: CreateOnly.HONOURED, MemoryJournal())
    assert store.alone == 0


def test_other_workers_do_not_wait_for_a_probe_but_may_for_its_end() -> None:
    store = ProbedStore()
    inside, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(key: str, body: bytes, **_: Any) -> None:
        inside.set()
        assert go_on.wait(60)
        ended.set()

    store.probe_create_only = slow  # type: ignore[method-assign]
    probes = StoreProbes(store, AbandonedUploads(store, lambda *_: None))
    thread = threading.Thread(target=probe, args=(probes,))
    thread.start()
    assert inside.wait(60)
    probe(probes)  # returns, with the first still under way
    probes.wait_for_end(0)
    go_on.set()
    probes.wait_for_end(60)
    assert ended.is_set()
    thread.join(60)


@pytest.mark.parametrize(
    ("put", "tries"),
    [(CreateOnly.HONOURED, 0), (CreateOnly.UNKNOWN, 0), (CreateOnly.IGNORED, MULTIPART_TRIES)],
)
def test_multipart_is_probed_alone_only_where_puts_overwrite_and_not_for_ever(
    put: CreateOnly, tries: int
) -> None:
    store = ProbedStore(able=Capabilities(create_only=put))
    probes = StoreProbes(store, AbandonedUploads(store, lambda *_: None))
    for _ in range(MULTIPART_TRIES + 2):
        probes.probe_multipart(MemoryJournal())
    assert store.alone == tries


@pytest.mark.parametrize("in_parallel", [True, False])
@pytest.mark.parametrize(
    ("able", "tries"),
    [
        (Capabilities(create_only=CreateOnly.HONOURED), MULTIPART_TRIES),
        (Capabilities(), 0),
        (Capabilities(create_only=CreateOnly.IGNORED), 0),
        (Capabilities(CreateOnly.HONOURED, CreateOnly.HONOURED), 0),
    ],
)
def test_multipart_is_probed_beside_a_file_in_parts_where_only_that_is_unknown(
    able: Capabilities, tries: int, *, in_parallel: bool
) -> None:
    store = ProbedStore(able=able)
    probes = StoreProbes(store, AbandonedUploads(store, lambda *_: None))
    with ThreadPoolExecutor(1) as pool:
        for _ in range(MULTIPART_TRIES + 2):
            with probes.probe_beside_parts(MemoryJournal(), pool if in_parallel else None):
                pass
    assert store.alone == tries


def only_multipart_unknown() -> ProbedStore:
    return ProbedStore(able=Capabilities(create_only=CreateOnly.HONOURED))


def test_parts_are_sent_while_multipart_is_probed() -> None:
    store, begun_to_probe, sent = only_multipart_unknown(), threading.Event(), threading.Event()

    def probe_until_sent(notes: object = None) -> None:
        begun_to_probe.set()
        assert sent.wait(60)
        store.alone += 1

    store.probe_with_own_object = probe_until_sent  # type: ignore[method-assign]
    probes = StoreProbes(store, AbandonedUploads(store, lambda *_: None))
    with ThreadPoolExecutor(1) as pool:
        with probes.probe_beside_parts(MemoryJournal(), pool):
            assert begun_to_probe.wait(60)
            sent.set()
        assert store.alone == 1, "the file does not count as archived before the probe ended"


def test_without_threads_for_parts_the_probe_follows_them() -> None:
    store = only_multipart_unknown()
    probes = StoreProbes(store, AbandonedUploads(store, lambda *_: None))
    with probes.probe_beside_parts(MemoryJournal(), None):
        assert store.alone == 0
    assert store.alone == 1


def test_a_failed_upload_ends_with_its_own_error_once_the_probe_ended() -> None:
    store = only_multipart_unknown()
    probes = StoreProbes(store, AbandonedUploads(store, lambda *_: None))
    failure = StoreError("UploadPart", "a.mp4", explain("SlowDown"))
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(StoreError) as caught, probes.probe_beside_parts(MemoryJournal(), pool):
            raise failure
        assert store.alone == 1
    assert caught.value is failure


def test_a_probe_that_can_not_be_noted_fails_the_upload() -> None:
    """The journal is the ledger: its failures must not be swallowed."""
    store = only_multipart_unknown()

    def full(notes: object = None) -> None:
        raise OSError(28, "No space left on device")

    store.probe_with_own_object = full  # type: ignore[method-assign]
    probes = StoreProbes(store, AbandonedUploads(store, lambda *_: None))
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(OSError, match="No space left"),
        probes.probe_beside_parts(MemoryJournal(), pool),
    ):
        pass


# --- a CreateMultipartUpload whose answer was lost


def large(root: Path) -> Claim:
    with (root / "a.mp4").open("wb") as file:
        file.truncate(SINGLE_PUT_BYTES + 1)
    return claim_of(stat_version(root, "a.mp4"))


def test_an_upload_under_way_is_not_aborted_for_one_that_was_lost_before(tmp_path: Path) -> None:
    """Its first request may just have been answered, so that it looks exactly like the lost one."""
    store = MemoryStore()
    uploader = Uploader(store, tmp_path, make_key=lambda path: path, session_id="s")
    lost = AbandonedUploads(store, lambda *what: None).intent()

    def tidy_first(operation: str, key: str) -> None:
        if operation == "UploadPart":
            uploader.abort_unless_in_use(key, lost)

    store.on_call = tidy_first
    uploader.upload(large(tmp_path), MemoryJournal(), lambda sent: None)
    assert store.aborted == []
    assert list(store.objects) == ["a.mp4"]


def test_a_lost_upload_is_found_although_the_stores_clock_is_ten_minutes_ahead(tmp_path: Path) -> None:
    store = MemoryStore()
    store.clock_offset_seconds = 600.0
    aborted: list[tuple[str, str]] = []
    uploader = Uploader(
        store,
        tmp_path,
        make_key=lambda path: path,
        session_id="s",
        on_aborted=lambda *what: aborted.append(what),
    )
    asked = AbandonedUploads(store, lambda *what: None).intent()
    upload_id = store.create_multipart("a.mp4", content_type="video/mp4", metadata={})
    store.uploads[upload_id].initiated_at += 600.0
    uploader.abort("a.mp4", asked)
    assert not store.uploads
    assert aborted == [("a.mp4", asked)]


def test_a_lost_request_stays_noted_for_as_long_as_it_can_still_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    aborted: list[tuple[str, str]] = []
    uploader = Uploader(
        store,
        tmp_path,
        make_key=lambda path: path,
        session_id="s",
        on_aborted=lambda *what: aborted.append(what),
    )
    asked = AbandonedUploads(store, lambda *what: None).intent()
    uploader.abort("a.mp4", asked)
    assert aborted == []
    upload_id = store.create_multipart("a.mp4", content_type="video/mp4", metadata={})
    uploader.abort("a.mp4", asked)
    assert upload_id not in store.uploads
    assert aborted == [("a.mp4", asked)]
    never = AbandonedUploads(store, lambda *what: None).intent()
    now = time.time()
    monkeypatch.setattr("cloud_archive.upload.abandoned.time.time", lambda: now + 100)
    uploader.abort("a.mp4", never)
    assert aborted[1:] == [("a.mp4", never)]
