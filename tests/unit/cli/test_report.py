"""How a report is shown."""

from __future__ import annotations

import pytest

from cloud_archive.cli.report import _cells, _money, _show
from cloud_archive.maintenance.costs import Usage, load_prices
from cloud_archive.maintenance.report import Report, ReportRow


@pytest.mark.parametrize(
    ("amount", "shown"), [(0.0, "0.00"), (0.004, "<0.01"), (0.01, "0.01"), (1234.5, "1,234.50")]
)
def test_money_never_rounds_a_cost_to_nothing(amount: float, shown: str) -> None:
    assert _money(amount) == shown


@pytest.mark.parametrize(
    ("name", "timed", "shown"),
    [
        ("2026-04-01T00:00:00", True, "2026-04-01"),
        ("2026-04-01T13:00:00", True, "2026-04-01 13:00:00"),
        ("aTb\n", False, "aTb\\n"),
    ],
)
def test_a_time_is_shortened_and_a_name_is_not(name: str, timed: bool, shown: str) -> None:
    cells = _cells(ReportRow(name, 1200, 1500, 9000), timed=timed)
    assert cells == [shown, "1,200", "1.5 kB", *(["9 kB"] if timed else [])]


def lines(capsys: pytest.CaptureFixture[str], report: Report) -> list[str]:
    _show(report)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("ledger", "archived, according to the ledger"),
        ("bucket", "in the bucket"),
        ("catalog", "in the catalog"),
    ],
)
def test_the_first_line_says_what_was_counted_where(
    capsys: pytest.CaptureFixture[str], source: str, where: str
) -> None:
    report = Report("type", source, (ReportRow("png", 2, 3000),), 2, 3000)
    assert lines(capsys, report) == [f"2 files, 3 kB {where}.", "type  files  size", "png   2      3 kB"]


def test_versions_that_were_replaced_are_named_and_cost_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("type", "ledger", (), 3, 3000, stored_files=1, stored_bytes=1000)
    assert lines(capsys, report)[1] == (
        "The costs are for 1 object, 1 kB: where several versions have the same key, the bucket holds only the newest."
    )


def test_costs_come_with_the_day_of_their_prices(capsys: pytest.CaptureFixture[str]) -> None:
    prices = load_prices()
    costs = tuple(provider.cost(Usage(10**12, 1, 0, 0)) for provider in prices.providers)
    found = lines(capsys, Report("day", "ledger", (), 1, 10**12, costs, prices))
    assert found[1] == "day  files  size  total"
    assert prices.read_on in found[3]
    assert found[5].split("  ")[0] == "Cloudflare R2"
    assert found[5].split()[2:4] == ["15.00", "0.00"]
    assert len(found) == 6 + len(costs)
