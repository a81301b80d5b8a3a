"""Each metric moves for its own reason. A running archive, a store that refuses by rule, Prometheus's own parser."""

from __future__ import annotations

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


def test_each_metric_moves_for_its_own_reason(tmp_path: Path, seaweedfs: S3Server) -> None:
    with FaultProxy(seaweedfs.endpoint, seed=1) as proxy:
        archive = Archive(tmp_path, seaweedfs, S3_ENDPOINT_URL=proxy.url)
        with archive.running(CLOUD_ARCHIVE_BACKFILL="all") as engine:
            assert engine.flush(60)
            found = metrics(engine)
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
            assert engine.flush(60)
            found = metrics(engine)
            assert (found["files_total[archived]"], found["bytes_total[archived]"]) == (1, 300)
            assert (found["archived_files"], found["archived_bytes"]) == (1, 300)
            assert found["confirm_seconds_count"] == 1
            assert 0 < found["confirm_seconds_sum"] < 60
            first_success = found["last_success_timestamp_seconds"]
            assert first_success == pytest.approx((archive.root / "fine.png").stat().st_mtime, abs=60)

            seaweedfs.put("out/there.png", b"t" * 40)
            archive.write("there.png", b"t" * 40)
            assert engine.flush(60)
            found = metrics(engine)
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
            wait_until(
                lambda: metrics(engine).get("retries_total[InternalError]", 0) >= 1, "it is tried again"
            )
            found = metrics(engine)
            assert (found["pending_files"], found["pending_bytes"], found["safe_to_stop"]) == (1, 70, 0)
            assert found["store_errors_total[InternalError]"] == found["retries_total[InternalError]"]
            assert found["files_total[failed]"] == found["retries_total[InternalError]"]
            assert found["bytes_total[failed]"] == 70 * found["files_total[failed]"]
            assert 0 < found["oldest_pending_seconds"] < 60, "since it was seen, not since it was written"
            assert found["failed_files"] == 0
            proxy.remove(rule)
            assert engine.flush(60)
            found = metrics(engine)
            assert (found["pending_files"], found["oldest_pending_seconds"], found["safe_to_stop"]) == (
                0,
                0,
                1,
            )
            assert found["files_total[archived]"] == 2

            archive.write("/".join(["d" * 200] * 6) + "/long.png", b"l" * 9)
            wait_until(lambda: metrics(engine)["failed_files"] == 1, "it won't be retried")
            found = metrics(engine)
            assert found["pending_files"] == 0
            assert "retries_total[KeyRejected]" not in found
            assert "store_errors_total[KeyRejected]" not in found
        assert metrics(engine)["watching"] == 0
