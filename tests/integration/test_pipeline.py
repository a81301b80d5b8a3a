"""The whole pipeline: real files, the real observer, a real ledger, a real S3 server."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.intake.settle_rules import QuietTimes
from tests.integration.pipelines import archiving, flush_all, wait_for_status, wait_until_safe
from tests.servers import S3Server

pytestmark = pytest.mark.store


def test_files_in_nested_new_directories_all_arrive_once_and_whole(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    root = tmp_path / "output"
    with archiving(root, seaweedfs, tmp_path / "state") as engine:
        written: dict[str, bytes] = {}
        for number in range(200):
            path = root / f"a{number % 5}" / f"b{number % 7}" / f"{number:04}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            body = os.urandom(300 + number * 37)
            path.write_bytes(body)
            written[f"out/{path.relative_to(root).as_posix()}"] = body
        flush_all(engine)
        status = wait_until_safe(engine)
    assert seaweedfs.objects() == written
    assert status.uploaded_files == 200


def test_an_object_carries_its_type_and_the_sha256_of_its_bytes(tmp_path: Path, seaweedfs: S3Server) -> None:
    root = tmp_path / "output"
    with archiving(root, seaweedfs, tmp_path / "state") as engine:
        (root / "a.png").write_bytes(b"not really")
        flush_all(engine)
    found = seaweedfs.client.head_object(Bucket=seaweedfs.bucket, Key="out/a.png")
    assert found["ContentType"] == "image/png"
    assert found["Metadata"]["sha256"] == hashlib.sha256(b"not really").hexdigest()
    assert float(found["Metadata"]["mtime"]) == pytest.approx((root / "a.png").stat().st_mtime)


def test_a_large_file_goes_in_parts_and_arrives_whole(tmp_path: Path, seaweedfs: S3Server) -> None:
    root = tmp_path / "output"
    body = os.urandom(19 * 1024 * 1024 + 7)
    with archiving(root, seaweedfs, tmp_path / "state") as engine:
        (root / "film.mp4").write_bytes(body)
        status = flush_all(engine)
    assert seaweedfs.objects() == {"out/film.mp4": body}
    assert seaweedfs.client.list_multipart_uploads(Bucket=seaweedfs.bucket).get("Uploads") is None
    assert status.uploaded_files == 1


@pytest.mark.parametrize("size", [1000, 9 * 1024 * 1024])
def test_two_different_files_at_one_key_are_both_kept(tmp_path: Path, any_s3: S3Server, size: int) -> None:
    """Also on rclone, which ignores If-None-Match and drops metadata, and on moto."""
    root = tmp_path / "output"
    theirs, ours = os.urandom(size), os.urandom(size)
    any_s3.put("out/a.png", theirs)
    with archiving(root, any_s3, tmp_path / "state") as engine:
        (root / "a.png").write_bytes(ours)
        flush_all(engine)
    assert any_s3.objects() == {"out/a.png": theirs, "out/a (1).png": ours}


def test_the_same_bytes_again_make_no_second_object(tmp_path: Path, any_s3: S3Server) -> None:
    root = tmp_path / "output"
    small, large = os.urandom(5000), os.urandom(9 * 1024 * 1024)
    any_s3.put("out/small.png", small)
    any_s3.put("out/large.mp4", large)
    with archiving(root, any_s3, tmp_path / "state") as engine:
        (root / "small.png").write_bytes(small)
        (root / "large.mp4").write_bytes(large)
        status = flush_all(engine)
    assert any_s3.objects() == {"out/small.png": small, "out/large.mp4": large}
    assert (status.uploaded_files, status.already_archived_files) == (0, 2)


def test_with_rename_off_the_object_is_replaced(tmp_path: Path, seaweedfs: S3Server) -> None:
    root = tmp_path / "output"
    seaweedfs.put("out/a.png", b"theirs")
    with archiving(root, seaweedfs, tmp_path / "state", S3_ENABLE_CONFLICT_RENAME="off") as engine:
        (root / "a.png").write_bytes(b"ours")
        flush_all(engine)
    assert seaweedfs.objects() == {"out/a.png": b"ours"}


def test_ten_archivers_with_ten_different_files_for_one_key_make_ten_objects(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    bodies = [os.urandom(2000) for _ in range(10)]
    engines: list[Any] = []
    try:
        for number in range(10):
            context = archiving(tmp_path / f"pod{number}", seaweedfs, tmp_path / f"state{number}")
            engines.append((context, context.__enter__()))
        start = threading.Barrier(10)

        def write(number: int) -> None:
            start.wait()
            (tmp_path / f"pod{number}" / "ComfyUI_00001_.png").write_bytes(bodies[number])

        threads = [threading.Thread(target=write, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _, engine in engines:
            flush_all(engine)
    finally:
        for context, _ in engines:
            context.__exit__(None, None, None)
    assert sorted(seaweedfs.objects().values()) == sorted(bodies)


def test_a_file_that_is_appended_to_arrives_once_and_whole(tmp_path: Path, seaweedfs: S3Server) -> None:
    root = tmp_path / "output"
    with archiving(root, seaweedfs, tmp_path / "state") as engine:
        watch = engine.archiver().pipeline.watch
        assert watch is not None
        rules = watch._queue._rules
        # So long, that no pause of this test is a quiet time.
        rules.quiet, quiet = QuietTimes(closed=60.0), rules.quiet
        rules._settle_seconds, settle_seconds = 60.0, rules._settle_seconds
        for number in range(15):
            with (root / "log.bin").open("ab") as file:
                file.write(b"%04d" % number * 100)
            time.sleep(0.1)  # the writer's own pace
        rules.quiet, rules._settle_seconds = quiet, settle_seconds
        flush_all(engine)
    assert seaweedfs.objects() == {"out/log.bin": (root / "log.bin").read_bytes()}


@pytest.mark.parametrize("known_from", ["event", "scan"])
def test_a_file_whose_writer_pauses_is_left_alone_until_it_ends(
    tmp_path: Path, seaweedfs: S3Server, known_from: str
) -> None:
    root = tmp_path / "output"
    root.mkdir()
    with (root / "film.mp4").open("wb") as file:
        if known_from == "scan":
            file.write(b"half")
            file.flush()
        with archiving(root, seaweedfs, tmp_path / "state", CLOUD_ARCHIVE_BACKFILL="all") as engine:
            if known_from == "event":
                file.write(b"half")
                file.flush()
            wait_for_status(engine, lambda s: any(w.reason == "being written" for w in s.waiting), "it waits")
            assert not engine.flush(1.0)
            assert seaweedfs.keys() == []
            file.write(b" and half")
            file.close()
            flush_all(engine)
    assert seaweedfs.objects() == {"out/film.mp4": b"half and half"}


def test_a_file_replaced_after_it_was_archived_gets_its_next_version(
    tmp_path: Path, seaweedfs: S3Server
) -> None:
    root = tmp_path / "output"
    with archiving(root, seaweedfs, tmp_path / "state") as engine:
        (root / "a.png").write_bytes(b"one")
        flush_all(engine)
        (root / "a.png").write_bytes(b"two!")
        flush_all(engine)
    assert seaweedfs.objects() == {"out/a.png": b"one", "out/a (1).png": b"two!"}


def test_temporary_and_hidden_names_wait_until_they_are_renamed(tmp_path: Path, seaweedfs: S3Server) -> None:
    root = tmp_path / "output"
    with archiving(root, seaweedfs, tmp_path / "state") as engine:
        for name in ("a.png.part", "b.tmp", "c.png~", ".d.png"):
            (root / name).write_bytes(name.encode())
        (root / "e.png").write_bytes(b"e")
        flush_all(engine)
        assert seaweedfs.keys() == ["out/e.png"]
        (root / "a.png.part").rename(root / "a.png")
        flush_all(engine)
    assert seaweedfs.keys() == ["out/a.png", "out/e.png"]


def test_an_empty_file_is_reported_and_not_archived(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_archive.archive.directory_watch.QuietTimes", partial(QuietTimes, empty=0.5))
    root = tmp_path / "output"
    with archiving(root, seaweedfs, tmp_path / "state") as engine:
        (root / "a.png").touch()
        wait_for_status(engine, lambda s: bool(s.errors), "it is reported")
        status = wait_until_safe(engine)  # there is nothing in it to lose
        assert status.errors == ("a.png is empty and was not archived.",)
    assert seaweedfs.keys() == []


NAMES = [
    "with space.png",
    "quote'\".png",
    "hash#question?percent%41.png",
    "smile 😀.png",
    "decomposed e\u0301.png",
    "composed \u00e9.png",
    "plus+amp&.png",
    "line\nbreak.png",
    "<img src=x onerror=alert(1)>.png",
    "x" * 251 + ".png",
]


@pytest.mark.skipif(os.name == "nt", reason="these names exist on POSIX only")
def test_every_name_arrives_under_itself(tmp_path: Path, seaweedfs: S3Server) -> None:
    root = tmp_path / "output"
    with archiving(root, seaweedfs, tmp_path / "state") as engine:
        for name in NAMES:
            (root / name).write_bytes(name.encode())
        (root / os.fsdecode(b"no\xffutf8.png")).write_bytes(b"x")
        flush_all(engine)
    expected = {f"out/{name}".replace("\n", "%0A"): name.encode() for name in NAMES}
    expected["out/no%FFutf8.png"] = b"x"
    assert seaweedfs.objects() == expected


def test_old_files_stay_untouched_unless_asked_for(tmp_path: Path, seaweedfs: S3Server) -> None:
    root = tmp_path / "output"
    root.mkdir()
    (root / "old.png").write_bytes(b"old")
    os.utime(root / "old.png", (1e9, 1e9))
    with archiving(root, seaweedfs, tmp_path / "state") as engine:
        (root / "new.png").write_bytes(b"new")
        flush_all(engine)
        wait_until_safe(engine)
    assert seaweedfs.keys() == ["out/new.png"]
    with archiving(root, seaweedfs, tmp_path / "state", CLOUD_ARCHIVE_BACKFILL="all") as engine:
        flush_all(engine)
    assert seaweedfs.keys() == ["out/new.png", "out/old.png"]


def test_what_appeared_while_nothing_was_watching_is_found(tmp_path: Path, seaweedfs: S3Server) -> None:
    root = tmp_path / "output"
    with archiving(root, seaweedfs, tmp_path / "state") as engine:
        flush_all(engine)
    (root / "late.png").write_bytes(b"late")
    (root / "moved in.png").write_bytes(b"old date")
    os.utime(root / "moved in.png", (1e9, 1e9))
    with archiving(root, seaweedfs, tmp_path / "state") as engine:
        flush_all(engine)
    assert seaweedfs.keys() == ["out/late.png", "out/moved in.png"]


def test_files_arrive_with_polling_alone(tmp_path: Path, seaweedfs: S3Server) -> None:
    root = tmp_path / "output"
    with archiving(root, seaweedfs, tmp_path / "state", CLOUD_ARCHIVE_WATCH="poll") as engine:
        assert engine.status().watching.startswith("polling")
        (root / "sub").mkdir()
        (root / "sub" / "a.png").write_bytes(b"a")
        wait_for_status(engine, lambda s: s.uploaded_files == 1, "it arrives")
    assert seaweedfs.keys() == ["out/sub/a.png"]


def test_stop_and_start_lose_nothing(tmp_path: Path, seaweedfs: S3Server) -> None:
    root = tmp_path / "output"
    with archiving(root, seaweedfs, tmp_path / "state") as engine:
        (root / "a.png").write_bytes(b"a")
        flush_all(engine)
        engine.stop_watching()
        assert engine.status().state.value == "stopped"
        (root / "b.png").write_bytes(b"b")
        assert not engine.status().safe_to_stop, "b is not in the bucket"
        engine.start_watching()
        flush_all(engine)
    assert seaweedfs.keys() == ["out/a.png", "out/b.png"]


def test_all_uploads_together_keep_to_the_bandwidth(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Count the bytes that the workers ask for, instead of measuring time."""
    from cloud_archive.store.bandwidth import Throttle

    taken: list[int] = []
    monkeypatch.setattr(Throttle, "take", lambda self, size: taken.append(size))
    root = tmp_path / "output"
    sizes = (700, 300_000, 2_000_000, 9_000_000)
    with archiving(root, seaweedfs, tmp_path / "state", CLOUD_ARCHIVE_MAX_BANDWIDTH="1MB/s") as engine:
        for size in sizes:
            (root / f"{size}.bin").write_bytes(os.urandom(size))
        flush_all(engine)
    assert sum(taken) >= sum(sizes)
    assert max(taken) <= 100_000
