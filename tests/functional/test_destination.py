"""Another bucket or endpoint than at the last start, on a real ledger."""

from __future__ import annotations

from pathlib import Path

from tests.functional.archives import engine_on
from tests.memory_store import MemoryStore


def test_files_that_may_be_in_another_bucket_are_counted_at_each_start(tmp_path: Path, root: Path) -> None:
    stores = {name: MemoryStore() for name in ("first", "second", "third")}

    def start(bucket: str, *names: str) -> str:
        with engine_on(root, stores[bucket], tmp_path / "state", S3_BUCKET=bucket) as engine:
            for name in names:
                (root / name).write_bytes(name.encode())
            assert engine.flush(60), "another address may lead to the same bucket"
            return " ".join(each for each in engine.status().errors if "another bucket" in each)

    assert start("first") == ""
    assert start("second", "a.png", "b.png") == "", "nothing was archived to the first bucket"
    assert start("second") == ""
    assert start("third", "c.png").startswith("2 files that count as archived may be in another bucket")
    assert "/second before. Run `cloud-archive verify`" in start("third"), "a restart does not end it"
    assert start("second").startswith("1 file that counts as archived may be"), "only c.png is elsewhere"
    assert start("second", "d.png").startswith("1 file")
    assert start("first").startswith("4 files")
    assert "/second, AWS us-east-1/third before. Run" in start("first"), "both, the earlier one first"
    assert start("third").startswith("3 files"), "not only what was archived since it was left"
