"""Metrics: what is counted, and that dashboard and alerts name only metrics that exist."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from cloud_archive.archive.metrics import Gauges, NullRecorder, PrometheusRecorder, recorder
from cloud_archive.errors import CloudArchiveError, FileUnreadable, KeyBeingPruned, KeyRejected, StoreError
from cloud_archive.ledger.rows import Count, Totals
from cloud_archive.store.failures import explain

prometheus_client = pytest.importorskip("prometheus_client")

DOCS = Path(__file__).parents[3] / "docs"
NOW = 1_700_000_000.0
NAMES = (
    "cloud_archive_files_total",
    "cloud_archive_bytes_total",
    "cloud_archive_retries_total",
    "cloud_archive_store_errors_total",
    "cloud_archive_confirm_seconds",
    "cloud_archive_freed_files_total",
    "cloud_archive_freed_bytes_total",
    "cloud_archive_pending_files",
    "cloud_archive_pending_bytes",
    "cloud_archive_failed_files",
    "cloud_archive_archived_files",
    "cloud_archive_archived_bytes",
    "cloud_archive_oldest_pending_seconds",
    "cloud_archive_last_success_timestamp_seconds",
    "cloud_archive_safe_to_stop",
    "cloud_archive_watching",
    "cloud_archive_waiting_webhooks",
)


@pytest.fixture
def made() -> PrometheusRecorder:
    return PrometheusRecorder(prometheus_client, lambda: NOW)


def samples(text: str) -> dict[str, float]:
    """Return each sample's value, as Prometheus itself reads the text."""
    from prometheus_client.parser import text_string_to_metric_families

    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def refusal(code: str) -> StoreError:
    return StoreError("PutObject", "secret/key.png", explain(code, 503), status=503)


def test_files_bytes_retries_and_errors_are_counted_by_their_kind(made: PrometheusRecorder) -> None:
    made.archived(100, already=False, seen_at=NOW - 3)
    made.archived(50, already=True, seen_at=None)
    made.vanished(7)
    made.failed(refusal("SlowDown"), 10, again=True)
    made.failed(refusal("SlowDown"), 10, again=True)
    made.failed(KeyRejected("k", "too long"), 10, again=False)
    made.failed(FileUnreadable("p", "denied"), 10, again=True)
    made.failed(KeyBeingPruned("k"), 10, again=True)
    made.freed(1000)
    found = samples(made.text(None))
    assert found["cloud_archive_files_total[archived]"] == 1
    assert found["cloud_archive_bytes_total[already]"] == 50
    assert found["cloud_archive_files_total[vanished]"] == 1
    assert found["cloud_archive_files_total[failed]"] == 5
    assert found["cloud_archive_retries_total[SlowDown]"] == 2
    assert found["cloud_archive_retries_total[FileUnreadable]"] == 1
    assert found["cloud_archive_retries_total[KeyBeingPruned]"] == 1
    assert "cloud_archive_retries_total[KeyRejected]" not in found
    assert found["cloud_archive_store_errors_total[SlowDown]"] == 2
    assert found["cloud_archive_freed_bytes_total"] == 1000
    assert found["cloud_archive_last_success_timestamp_seconds"] == NOW
    assert found["cloud_archive_confirm_seconds_bucket[2.5]"] == 0
    assert found["cloud_archive_confirm_seconds_bucket[5.0]"] == 1


def test_gauges_show_the_moment(made: PrometheusRecorder) -> None:
    totals = Totals(
        pending=Count(2, 20),
        uploading=Count(1, 5),
        failed=Count(3, 9),
        waiting=Count(2, 6),
        archived=Count(9, 900),
    )
    found = samples(made.text(Gauges(totals, 1, 3, NOW - 60, watching=True, has_work=True)))
    assert found["cloud_archive_pending_files"] == 6
    assert found["cloud_archive_pending_bytes"] == 34
    assert found["cloud_archive_failed_files"] == 1
    assert found["cloud_archive_archived_bytes"] == 900
    assert found["cloud_archive_oldest_pending_seconds"] == 60
    assert (found["cloud_archive_safe_to_stop"], found["cloud_archive_watching"]) == (0, 1)
    assert samples(made.text(Gauges(Totals(), watching=True)))["cloud_archive_safe_to_stop"] == 1
    assert samples(made.text(Gauges(Totals(), watching=False)))["cloud_archive_safe_to_stop"] == 0
    assert samples(made.text(None))["cloud_archive_oldest_pending_seconds"] == 0


def test_no_path_and_no_key_is_ever_a_label(made: PrometheusRecorder) -> None:
    made.failed(refusal("SlowDown"), 10, again=True)
    assert "secret" not in made.text(None)


def test_two_engines_do_not_mix() -> None:
    one, other = recorder(), recorder()
    one.archived(1, already=False, seen_at=None)
    assert samples(other.text(None))["cloud_archive_files_total[archived]"] == 0


def test_without_the_library_nothing_is_counted_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    made = recorder()
    assert isinstance(made, NullRecorder)
    made.archived(1, already=False, seen_at=None)
    made.failed(refusal("SlowDown"), 1, again=True)
    made.vanished(1)
    made.freed(1)
    with pytest.raises(CloudArchiveError, match="pip install prometheus-client"):
        made.text(None)


def exposed(text: str) -> set[str]:
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


def named(text: str) -> set[str]:
    found = set(re.findall(r"\bcloud_archive_[a-z_]+\b", text))
    return {re.sub(r"(?<=seconds)_bucket$", "", name) for name in found}


def test_the_list_of_names_is_what_is_exposed(made: PrometheusRecorder) -> None:
    found = {name for name in exposed(made.text(None)) if not name.endswith("_created")}
    totals = {name for name in NAMES if name.endswith("_total")}
    assert found | {f"{name}_total" for name in found} >= set(NAMES)
    assert {name for name in found if name not in NAMES} <= {name.removesuffix("_total") for name in totals}


def test_the_dashboard_parses_and_names_only_metrics_that_exist() -> None:
    text = (DOCS / "grafana-dashboard.json").read_text("utf-8")
    dashboard: dict[str, Any] = json.loads(text)
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert named("\n".join(expressions)) == set(NAMES), "each of them, and no other"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_alert_rules_parse_and_name_only_metrics_that_exist() -> None:
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((DOCS / "alerts.yml").read_text("utf-8"))
    rules = [rule for group in found["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 5
    for rule in rules:
        assert named(rule["expr"]), rule
        assert named(rule["expr"]) <= set(NAMES), rule
        assert {"summary", "description"} <= rule["annotations"].keys()
