"""What counts as proof: the uploader against a store that keeps other bytes than it was sent."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from cloud_archive.errors import FileVanished, ObjectExists, StoreError
from cloud_archive.files import stat_version
from cloud_archive.store.base import Body, Capabilities, CreateOnly, ObjectInfo, ObjectStore, Part, PutResult
from cloud_archive.store.evidence import Proof
from cloud_archive.store.failures import explain
from cloud_archive.upload.outcome import Outcome
from cloud_archive.upload.source import SINGLE_PUT_BYTES
from cloud_archive.upload.uploader import Uploader
from tests.functional.archives import claim_of
from tests.journal import MemoryJournal
from tests.memory_store import MemoryStore


class CarelessStore:
    """Takes what it is sent with 200, keeps what `spoil` makes of it, and computes no checksum of its own."""

    def __init__(self) -> None:
        self.capabilities = Capabilities(CreateOnly.HONOURED, can_head=True, echoes_checksum=False)
        self.objects: dict[str, tuple[bytes, Mapping[str, str]]] = {}
        self.spoil: Callable[[bytes], bytes] = lambda body: body
        self.readable = True
        self.checksum: str | None = None
        self.clock_offset_seconds: float | None = None

    def put(self, key: str, body: bytes, **how: Any) -> PutResult:
        if how["create_only"] and key in self.objects:
            raise ObjectExists("PutObject", key, explain("PreconditionFailed"), status=412)
        self.objects[key] = (self.spoil(body), how["metadata"])
        return PutResult("opaque", proven=False)

    def head(self, key: str) -> ObjectInfo | None:
        if key not in self.objects:
            return None
        body, metadata = self.objects[key]
        return ObjectInfo(key, len(body), "opaque", metadata.get("sha256"), self.checksum, metadata, None)

    def read(self, key: str, limit_bytes: int) -> Generator[bytes, None, None]:
        if not self.readable:
            raise StoreError("GetObject", key, explain("AccessDenied"), status=403)
        yield self.objects[key][0]

    def probe_create_only(self, *_: Any, **__: Any) -> None:
        raise AssertionError("known already")


@pytest.fixture
def store() -> CarelessStore:
    return CarelessStore()


def upload(store: CarelessStore | MemoryStore, root: Path, **again: Any) -> Outcome:
    uploader = Uploader(cast(ObjectStore, store), root, make_key=lambda path: f"p/{path}", session_id="s")
    claim = claim_of(stat_version(root, "a.png"))._replace(**again)
    return uploader.upload(claim, MemoryJournal(), lambda sent: None)


def test_a_200_without_a_checksum_is_read_back(tmp_path: Path, store: CarelessStore) -> None:
    (tmp_path / "a.png").write_bytes(b"good")
    assert upload(store, tmp_path).proof is Proof.READ_BACK


def test_bytes_that_went_wrong_are_never_taken_for_archived(tmp_path: Path, store: CarelessStore) -> None:
    """Also not by the next attempt, which finds an object with our own metadata under the key."""
    (tmp_path / "a.png").write_bytes(b"good")
    store.spoil = lambda body: b"evil"
    with pytest.raises(StoreError) as refused:
        upload(store, tmp_path)
    assert refused.value.failure.code == "Unproven"
    store.spoil = lambda body: body
    second = upload(store, tmp_path, base_key="p/a.png", key="p/a.png")
    assert (second.key, second.proof) == ("p/a (1).png", Proof.READ_BACK)
    assert store.objects["p/a (1).png"][0] == b"good"


def test_a_key_that_may_not_read_is_accepted_on_the_stores_word(tmp_path: Path, store: CarelessStore) -> None:
    (tmp_path / "a.png").write_bytes(b"good")
    store.readable = False
    assert upload(store, tmp_path).proof is Proof.ACCEPTED


def test_an_answer_that_was_lost_is_recognised_as_ours(tmp_path: Path, store: CarelessStore) -> None:
    (tmp_path / "a.png").write_bytes(b"good")
    digest = hashlib.sha256(b"good").hexdigest()
    store.objects["p/a.png"] = (b"good", {"sha256": digest, "archive-token": "t"})
    found = upload(store, tmp_path, base_key="p/a.png", key="p/a.png")
    assert (found.already, found.ours, found.key) == (True, True, "p/a.png")
    assert len(store.objects) == 1


def test_a_file_that_changed_since_it_settled_is_not_sent(tmp_path: Path, store: CarelessStore) -> None:
    from cloud_archive.errors import FileChanged

    (tmp_path / "a.png").write_bytes(b"good")
    version = stat_version(tmp_path, "a.png")
    (tmp_path / "a.png").write_bytes(b"better")
    with pytest.raises(FileChanged):
        upload(store, tmp_path, version=version)
    assert store.objects == {}


class TellsNothing(MemoryStore):
    """Computes no checksum of a part."""

    def upload_part(
        self, key: str, upload_id: str, number: int, body: Body, *, sha256: str, progress: Any = None
    ) -> Part:
        found = super().upload_part(
            key, upload_id, number, body, sha256=hashlib.sha256(bytes(body)).hexdigest(), progress=progress
        )
        return found._replace(sha256=None)


@pytest.mark.parametrize("make_store", [MemoryStore, TellsNothing])
def test_bytes_that_change_between_hashing_and_sending_without_a_trace_are_noticed(
    tmp_path: Path, make_store: Callable[[], MemoryStore]
) -> None:
    """As by a memory map: neither size nor mtime tells. The store's checksum does, or ours."""
    from cloud_archive.errors import FileChanged

    path = tmp_path / "a.png"
    path.write_bytes(os.urandom(3 * SINGLE_PUT_BYTES))
    memory = make_store()
    version = stat_version(tmp_path, "a.png")

    def change(operation: str, key: str) -> None:
        if operation == "CreateMultipartUpload":
            with path.open("r+b") as stream:
                stream.seek(SINGLE_PUT_BYTES + 5)
                stream.write(b"changed")
            os.utime(path, ns=(version.mtime_ns, version.mtime_ns))

    memory.on_call = change
    uploader = Uploader(memory, tmp_path, make_key=lambda path: path, session_id="s")
    with pytest.raises(FileChanged):
        uploader.upload(claim_of(version), MemoryJournal(), lambda sent: None)
    assert memory.bodies() == {}
    assert not memory.uploads


class FallsSilent(MemoryStore):
    """Computes the checksum of the first part and of no other one."""

    def upload_part(
        self, key: str, upload_id: str, number: int, body: Body, *, sha256: str, progress: Any = None
    ) -> Part:
        found = super().upload_part(key, upload_id, number, body, sha256=sha256, progress=progress)
        return found if number == 1 else found._replace(sha256=None)


def test_a_part_without_a_checksum_is_sent_again_and_hashed_where_one_was_expected(tmp_path: Path) -> None:
    body = os.urandom(3 * SINGLE_PUT_BYTES)
    (tmp_path / "a.png").write_bytes(body)
    memory = FallsSilent()
    outcome = upload(memory, tmp_path, version=stat_version(tmp_path, "a.png"))
    assert memory.bodies() == {outcome.key: body}
    assert [name for name, _ in memory.calls].count("UploadPart") == 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_what_became_a_pipe_or_a_link_is_gone(tmp_path: Path, store: CarelessStore) -> None:
    from cloud_archive.errors import FileProblem

    (tmp_path / "a.png").write_bytes(b"good")
    version = stat_version(tmp_path, "a.png")
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(FileProblem):
        upload(store, tmp_path, version=version)
    (tmp_path / "a.png").unlink()
    (tmp_path / "outside").write_bytes(b"good")
    (tmp_path / "a.png").symlink_to(tmp_path / "outside")
    with pytest.raises(FileProblem):
        upload(store, tmp_path, version=version)
    assert store.objects == {}


def test_what_is_behind_a_folder_that_became_a_link_is_gone(tmp_path: Path, store: CarelessStore) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "d").mkdir(parents=True)
    (root / "d/a.png").write_bytes(b"good")
    version = stat_version(root, "d/a.png")
    (root / "d").rename(outside)
    (root / "d").symlink_to(outside)
    with pytest.raises(FileVanished):
        stat_version(root, "d/a.png")
    with pytest.raises(FileVanished):
        upload(store, root, version=version)
    assert store.objects == {}


def test_an_answer_that_names_a_wrong_checksum_makes_no_second_object(
    tmp_path: Path, store: CarelessStore
) -> None:
    """Something between us and the store altered the header; the metadata says that the object is ours."""
    (tmp_path / "a.png").write_bytes(b"good")
    digest = hashlib.sha256(b"good").hexdigest()
    store.objects["p/a.png"] = (b"good", {"sha256": digest, "archive-token": "t"})
    store.checksum = hashlib.sha256(b"wrong").hexdigest()
    found = upload(store, tmp_path, base_key="p/a.png", key="p/a.png")
    assert (found.key, found.proof) == ("p/a.png", Proof.READ_BACK)
    assert len(store.objects) == 1


# --- what is looked at again, and what is noted first


OVERWRITES = Capabilities(CreateOnly.IGNORED, CreateOnly.IGNORED, can_head=True, echoes_checksum=True)


def overwriting(root: Path, store: MemoryStore, wait: Callable[[float], object]) -> Uploader:
    return Uploader(store, root, make_key=lambda path: path, session_id="s", wait=wait)


def until_renamed(store: MemoryStore, replace: Callable[[], None]) -> Callable[[float], None]:
    """Return a `wait` that calls `replace` until our object has the next name."""

    def wait(_: float) -> None:
        if "a (1).png" not in store.objects:
            replace()

    return wait


def test_the_key_is_noted_before_the_first_byte_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"good")
    notes, store = MemoryJournal(), MemoryStore()
    noted: list[str] = []
    store.on_call = lambda operation, key: noted.append(f"{operation} {notes.key}")
    Uploader(store, tmp_path, make_key=lambda path: path, session_id="s").upload(
        claim_of(stat_version(tmp_path, "a.png")), notes, lambda sent: None
    )
    assert noted == ["PutObject a.png"]


def test_the_key_where_the_bucket_may_hold_a_file_is_noted_before_its_object_counts(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"good")
    notes, store = MemoryJournal(), MemoryStore()
    store.add("older/a.png", b"good")
    noted: list[str] = []
    store.on_call = lambda operation, key: noted.append(f"{operation} {notes.key}")
    Uploader(
        store,
        tmp_path,
        make_key=lambda path: path,
        session_id="s",
        elsewhere=lambda path, size_bytes: ["older/a.png"],
    ).upload(claim_of(stat_version(tmp_path, "a.png")), notes, lambda sent: None)
    assert noted[0] == "HeadObject older/a.png"
    assert list(store.objects) == ["older/a.png"]


def test_where_the_store_overwrites_an_object_is_looked_at_again_a_little_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.upload.uploader.CONFIRM_AFTER_SECONDS", 3600.0)
    (tmp_path / "a.png").write_bytes(b"good")
    store, waits = MemoryStore(OVERWRITES), list[float]()
    uploader = overwriting(tmp_path, store, waits.append)
    claim = claim_of(stat_version(tmp_path, "a.png"))
    assert uploader.upload(claim, MemoryJournal(), lambda sent: None).key == "a.png"
    assert len(waits) == 1
    assert 3600.0 - 60.0 < waits[0] <= 3600.0
    assert [operation for operation, _ in store.calls] == ["HeadObject", "PutObject", "HeadObject"]


def test_what_another_writer_replaced_meanwhile_is_uploaded_under_the_next_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"good")
    store = MemoryStore(OVERWRITES)
    wait = until_renamed(store, lambda: store.add_foreign("a.png", b"theirs"))
    uploader = overwriting(tmp_path, store, wait)
    outcome = uploader.upload(claim_of(stat_version(tmp_path, "a.png")), MemoryJournal(), lambda sent: None)
    assert outcome.key == "a (1).png"
    assert store.bodies() == {"a.png": b"theirs", "a (1).png": b"good"}


def test_an_older_version_that_arrives_late_is_noticed(tmp_path: Path) -> None:
    """The file's row, and so the token, were those of the older version, whose PUT got no answer."""
    (tmp_path / "a.png").write_bytes(b"newer")
    store = MemoryStore(OVERWRITES)
    claim = claim_of(stat_version(tmp_path, "a.png"))

    wait = until_renamed(store, lambda: store.add("a.png", b"older"))  # with the claim's token
    uploader = overwriting(tmp_path, store, wait)
    assert uploader.upload(claim, MemoryJournal(), lambda sent: None).key == "a (1).png"
    assert store.bodies() == {"a.png": b"older", "a (1).png": b"newer"}


def test_what_replaces_an_object_whose_answer_was_lost_is_noticed(tmp_path: Path) -> None:
    """The next attempt finds the object, and another writer that saw no object before replaces it."""
    (tmp_path / "a.png").write_bytes(b"good")
    store = MemoryStore(OVERWRITES)
    claim = claim_of(stat_version(tmp_path, "a.png"))
    store.add("a.png", b"good")  # with the claim's token

    wait = until_renamed(store, lambda: store.add_foreign("a.png", b"theirs"))
    uploader = overwriting(tmp_path, store, wait)
    assert uploader.upload(claim, MemoryJournal(), lambda sent: None).key == "a (1).png"
    assert store.bodies() == {"a.png": b"theirs", "a (1).png": b"good"}


def test_the_same_bytes_of_another_writer_are_not_looked_at_again(tmp_path: Path) -> None:
    """Else an archive that begins anew would wait for each of its old files."""
    (tmp_path / "a.png").write_bytes(b"good")
    store, waits = MemoryStore(OVERWRITES), list[float]()
    store.add("a.png", b"good")
    store.objects["a.png"].metadata["archive-token"] = "another"
    uploader = overwriting(tmp_path, store, waits.append)
    outcome = uploader.upload(claim_of(stat_version(tmp_path, "a.png")), MemoryJournal(), lambda sent: None)
    assert (outcome.already, outcome.ours, waits) == (True, False, [])


def test_an_etag_of_bytes_that_were_not_read_is_not_kept(tmp_path: Path) -> None:
    """With it a later check would count the object as proven."""
    (tmp_path / "a.png").write_bytes(b"good")
    store = MemoryStore(OVERWRITES)
    store.add("a.png", b"good")  # with the claim's token
    store.objects["a.png"].etag = "no MD5"

    def deny(operation: str, key: str) -> None:
        if operation == "GetObject":
            raise StoreError(operation, key, explain("403"), status=403)

    store.on_call = deny
    uploader = overwriting(tmp_path, store, lambda _: None)
    outcome = uploader.upload(claim_of(stat_version(tmp_path, "a.png")), MemoryJournal(), lambda sent: None)
    assert (outcome.proof, outcome.etag) == (Proof.ACCEPTED, None)


def test_an_object_that_is_replaced_again_and_again_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"good")
    store = MemoryStore(OVERWRITES)

    def replaced(_: float) -> None:
        for key in list(store.objects):
            store.add_foreign(key, b"theirs")

    uploader = overwriting(tmp_path, store, replaced)
    with pytest.raises(StoreError) as raised:
        uploader.upload(claim_of(stat_version(tmp_path, "a.png")), MemoryJournal(), lambda sent: None)
    assert raised.value.failure.code == "Unproven"


def test_where_the_store_refuses_to_overwrite_nothing_is_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"good")
    store, waits = MemoryStore(), list[float]()
    uploader = overwriting(tmp_path, store, waits.append)
    uploader.upload(claim_of(stat_version(tmp_path, "a.png")), MemoryJournal(), lambda sent: None)
    assert waits == []
    assert [operation for operation, _ in store.calls] == ["PutObject"]


@pytest.mark.parametrize(("can_head", "count"), [(None, 1), (False, 0)])
def test_where_heads_are_denied_a_write_counts_without_a_wait_once_that_is_known(
    tmp_path: Path, can_head: bool | None, count: int
) -> None:
    (tmp_path / "a.png").write_bytes(b"good")
    able = Capabilities(CreateOnly.IGNORED, CreateOnly.IGNORED, can_head=can_head)
    store, waits = MemoryStore(able), list[float]()

    def deny(operation: str, key: str) -> None:
        if operation == "HeadObject":
            raise StoreError(operation, key, explain("403"), status=403)

    store.on_call = deny
    uploader = overwriting(tmp_path, store, waits.append)
    outcome = uploader.upload(claim_of(stat_version(tmp_path, "a.png")), MemoryJournal(), lambda sent: None)
    assert (outcome.key, store.bodies()) == ("a.png", {"a.png": b"good"})
    assert len(waits) == count


def test_with_rename_off_the_object_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"good")
    store = MemoryStore()
    store.add_foreign("a.png", b"theirs")
    uploader = Uploader(store, tmp_path, make_key=lambda path: path, session_id="s", rename=False)
    outcome = uploader.upload(claim_of(stat_version(tmp_path, "a.png")), MemoryJournal(), lambda sent: None)
    assert (outcome.key, store.bodies()) == ("a.png", {"a.png": b"good"})


def test_progress_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x" * 5000)
    sent: list[int] = []
    uploader = Uploader(MemoryStore(), tmp_path, make_key=lambda path: path, session_id="s")
    uploader.upload(claim_of(stat_version(tmp_path, "a.png")), MemoryJournal(), sent.append)
    assert sent[-1] == 5000
