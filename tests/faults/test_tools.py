"""The tormentor records the truth, the comparison finds every kind of fault, the killer kills."""

from __future__ import annotations

import io
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cloud_archive.intake.containers import ContainerState, inspect_container
from tests.faults.killer import Killer
from tests.faults.rules import Entry
from tests.faults.tormentor import LARGEST_BYTES, SMALLEST_BYTES, Tormentor, content, size
from tests.faults.truth import BucketReader, Findings, Truth, compare, path_of, sha256_of
from tests.servers import wait_until

if TYPE_CHECKING:
    from tests.servers import S3Server


def torment(root: Path, seed: int, steps: int = 150) -> Tormentor:
    root.mkdir()
    made = Tormentor(root, seed=seed, largest_bytes=20_000, longest_write_seconds=0.2)
    for _ in range(steps):
        made.step()
    for action in made._actions:  # random choice may have left out the rare ones
        action()
    made._stopping.set()
    made.join()
    return made


def on_disk(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): sha256_of(path.read_bytes()) for path in files}


def test_what_is_on_disk_is_what_the_truth_says(tmp_path: Path) -> None:
    made = torment(tmp_path / "output", 3)
    assert on_disk(made.root) == made.truth.present


def test_a_running_tormentor_stops_with_a_complete_truth(tmp_path: Path) -> None:
    made = Tormentor(tmp_path, seed=5, largest_bytes=20_000, pause_seconds=0.005)
    made.start()
    wait_until(lambda: sum(made.done.values()) > 40, "40 actions")
    made.stop()


def test_contents_look_whole_and_sizes_span_what_comfyui_writes() -> None:
    dice = random.Random(1)
    for suffix in (".png", ".mp4"):
        data = content(dice, 3000, suffix)
        assert inspect_container(io.BytesIO(data), "a" + suffix, len(data)) is ContainerState.COMPLETE
        assert (
            inspect_container(io.BytesIO(data[:-20]), "a" + suffix, len(data) - 20)
            is ContainerState.INCOMPLETE
        )
    sizes = [size(dice) for _ in range(2000)]
    assert SMALLEST_BYTES <= min(sizes) < 1000
    assert 12_000_000 < max(sizes) <= LARGEST_BYTES
    assert max(size(dice, 5000) for _ in range(500)) <= 5000


def test_keys_lead_back_to_their_paths() -> None:
    assert path_of("out/a/b (12).png", "out") == "a/b.png"
    assert path_of("a b/c.d (1)/e.png", "") == "a b/c.d (1)/e.png"
    assert path_of("noext (3)", "") == "noext"


@pytest.mark.store
def test_a_faithful_bucket_is_clean(tmp_path: Path, seaweedfs: S3Server) -> None:
    made = torment(tmp_path / "output", 4, 40)
    for path in made.truth.present:
        seaweedfs.put(f"out/{path}", (made.root / path).read_bytes())
    found = compare(BucketReader(seaweedfs.client, seaweedfs.bucket), made.truth, "out")
    assert found.clean, str(found)
    assert found.objects == len(made.truth.present)


@pytest.fixture
def truth() -> Truth:
    made = Truth()
    made.holds("a.png", sha256_of(b"first"))
    made.holds("a.png", sha256_of(b"second"))
    made.holds("b.png", sha256_of(b"other"))
    return made


def findings(server: S3Server, truth: Truth, **more: object) -> Findings:
    reader = BucketReader(server.client, server.bucket)
    return compare(reader, truth, "out", **more)  # type: ignore[arg-type]


@pytest.mark.store
def test_intermediate_versions_and_conflict_names_are_no_fault(seaweedfs: S3Server, truth: Truth) -> None:
    seaweedfs.put("out/a.png", b"first")
    seaweedfs.put("out/a (1).png", b"second")
    seaweedfs.put("out/b.png", b"other")
    assert findings(seaweedfs, truth).clean


@pytest.mark.store
def test_every_kind_of_fault_in_a_bucket_is_found(seaweedfs: S3Server, truth: Truth) -> None:
    seaweedfs.put("out/a.png", b"first")
    seaweedfs.put("out/a (1).png", b"first")
    seaweedfs.put("out/b.png", b"torn")
    seaweedfs.put("out/planted.png", b"not what it was")
    seaweedfs.client.create_multipart_upload(Bucket=seaweedfs.bucket, Key="out/c.png")
    found = findings(seaweedfs, truth, planted={"out/planted.png": sha256_of(b"what it was")})
    assert found.missing == ["a.png", "b.png"]
    assert found.doubled == ["out/a.png = out/a (1).png"]
    assert found.different == ["out/b.png"]
    assert found.overwritten == ["out/planted.png"]
    assert found.left_behind == ["out/c.png"]
    assert not found.clean


@pytest.mark.store
def test_two_accepted_writes_of_one_key_are_an_overwrite(seaweedfs: S3Server) -> None:
    def wrote(operation: str, status: int | None, upload_id: str = "") -> Entry:
        return Entry(operation, "out/x", None, status, upload_id=upload_id)

    same = [wrote("CompleteMultipartUpload", 200, "u"), wrote("CompleteMultipartUpload", 200, "u")]
    fine = [*same, wrote("PutObject", 412), wrote("PutObject", None), wrote("UploadPart", 200, "v")]
    assert findings(seaweedfs, Truth(), journal=fine).clean
    twice = [*fine, wrote("PutObject", 200)]
    assert findings(seaweedfs, Truth(), journal=twice).overwritten == ["out/x"]


SLEEPER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
with open(sys.argv[1], "a") as log:
    log.write(f"{os.getpid()}\\n")
time.sleep(60)
"""


def killer(tmp_path: Path, program: str, longest_seconds: float) -> Killer:
    command = [sys.executable, "-c", program, str(tmp_path / "starts")]
    return Killer(command, dict(os.environ), tmp_path / "log", seed=9, longest_seconds=longest_seconds)


def starts(tmp_path: Path) -> list[str]:
    written = tmp_path / "starts"
    return written.read_text().split() if written.exists() else []


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL to a process group")
def test_the_killer_kills_and_starts_again(tmp_path: Path) -> None:
    made = killer(tmp_path, SLEEPER, longest_seconds=0.3)
    for _ in range(3):
        made.kill_once()
        assert not made.alive
    made.start()
    wait_until(lambda: bool(starts(tmp_path)), "the program's start")
    wait_until(lambda: str(made._process and made._process.pid) in starts(tmp_path), "this start")
    assert made.stop() == 7
    assert (made.kills, made.died) == (3, [])


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL to a process group")
def test_a_process_that_ends_by_itself_is_no_kill(tmp_path: Path) -> None:
    made = killer(tmp_path, "raise SystemExit(3)", longest_seconds=2.0)
    made.start()
    wait_until(lambda: not made.alive, "its end")
    made.kill()
    assert (made.kills, made.died) == (0, [3])
