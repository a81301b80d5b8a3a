"""Each metric moves for its own reason. A running archive, a store that refuses by rule, Prometheus's own parser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_archive.archive.engine import Engine
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Fault, Kind
from tests.integration.archives import HOUR, Archive
from tests.servers import S3Server, wait_until

pytest.importorskip("prometheus_client")
pytestmark = pytest.mark.store


def metrics(engine: Engine) -> dict[str, float]:
    """Return name and label to value, as Prometheus's parser reads them."""
    from prometheus_client.parser import text_string_to_metric_families

    return {
        sample.name.removeprefix("cloud_archive_")
        + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(engine.metrics_text())
        for sample in family.samples
    }


def metrics_when(
    engine: Engine, condition: Callable[[dict[str, float]], bool], what: str
) -> dict[str, float]:
    """Return the first metrics that satisfy the condition."""
    found: dict[str, float] = {}

    def holds() -> bool:
        found.clear()
        found.update(metrics(engine))
        return condition(found)

    wait_until(holds, what)
    return found


def metrics_after_flush(engine: Engine) -> dict[str, float]:
    """Flush, and return the metrics. A late event of an archived file may make it unsafe again for a moment."""
    assert engine.flush(60)
    return metrics_when(engine, lambda found: found["safe_to_stop"] == 1, "it is safe to stop")


def all_refusals_are_counted(found: dict[str, float]) -> bool:
    """Whether a file was refused, and each counter of refusals has counted the last one."""
    names = ("retries_total[InternalError]", "store_errors_total[InternalError]", "files_total[failed]")
    counts = {found.get(name, 0) for name in names} | {found["bytes_total[failed]"] / 70}
    return len(counts) == 1 and 0 not in counts


def test_each_metric_moves_for_its_own_reason(tmp_path: Path, seaweedfs: S3Server) -> None:
    with FaultProxy(seaweedfs.endpoint, seed=1) as proxy:
        archive = Archive(tmp_path, seaweedfs, S3_ENDPOINT_URL=proxy.url)
        with archive.running(CLOUD_ARCHIVE_BACKFILL="all") as engine:
            found = metrics_after_flush(engine)
            assert {
                value for name, value in found.items() if name.endswith("_total]") or "_total[" in name
            } == {0}
            assert (found["watching"], found["safe_to_stop"], found["last_success_timestamp_seconds"]) == (
                1,
                1,
                0,
            )
            assert not any(name.startswith(("retries_total", "store_errors_total")) for name in found)

            archive.write("fine.png", b"f" * 300)
            found = metrics_after_flush(engine)
            assert (found["files_total[archived]"], found["bytes_total[archived]"]) == (1, 300)
            assert (found["archived_files"], found["archived_bytes"]) == (1, 300)
            assert found["confirm_seconds_count"] == 1
            assert 0 < found["confirm_seconds_sum"] < 60
            first_success = found["last_success_timestamp_seconds"]
            assert first_success == pytest.approx((archive.root / "fine.png").stat().st_mtime, abs=60)

            seaweedfs.put("out/there.png", b"t" * 40)
            archive.write("there.png", b"t" * 40)
            found = metrics_after_flush(engine)
            assert (found["files_total[already]"], found["bytes_total[already]"]) == (1, 40)
            assert found["files_total[archived]"] == 1
            assert found["last_success_timestamp_seconds"] > first_success

            # Refused while the rule stands: the file waits and is tried again.
            rule = proxy.add(
                Fault(Kind.ERROR_500),
                operations={"PutObject"},
                when=lambda request: request.key == "out/again.png",
            )
            archive.write("again.png", b"a" * 70, age_seconds=HOUR)
            found = metrics_when(engine, all_refusals_are_counted, "it is tried again")
            assert (found["pending_files"], found["pending_bytes"], found["safe_to_stop"]) == (1, 70, 0)
            assert 0 < found["oldest_pending_seconds"] < HOUR, "since it was seen, not since it was written"
            assert found["failed_files"] == 0
            proxy.remove(rule)
            found = metrics_after_flush(engine)
            assert (found["pending_files"], found["oldest_pending_seconds"], found["safe_to_stop"]) == (
                0,
                0,
                1,
            )
            assert found["files_total[archived]"] == 2

            archive.write("/".join(["d" * 200] * 6) + "/long.png", b"l" * 9)
            found = metrics_when(engine, lambda found: found["failed_files"] == 1, "it won't be retried")
            assert found["pending_files"] == 0
            assert "retries_total[KeyRejected]" not in found
            assert "store_errors_total[KeyRejected]" not in found
        assert metrics(engine)["watching"] == 0
