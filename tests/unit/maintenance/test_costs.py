"""Monthly costs and the table of prices."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from cloud_archive.errors import CloudArchiveError
from cloud_archive.maintenance.costs import TABLE, Provider, Usage, load_prices, requests_for


def test_costs_are_what_one_reckons_by_hand() -> None:
    provider = Provider("P", "", 10**9, 0.01, 5.0, 0.4, 0.1)
    usage = Usage(size_bytes=100 * 10**9, files=1_000_000, month_bytes=10 * 10**9, month_writes=200_000)
    cost = provider.cost(usage)
    assert cost.storage == pytest.approx(1.0)
    assert cost.writes == pytest.approx(1.0)
    assert cost.now == pytest.approx(2.0)
    assert cost.projected == pytest.approx((100 + 120) * 0.01 + 1.0)
    assert cost.bring_back == pytest.approx(10.0 + 0.8)


# 2 TB in a million files, of which the last 30 days brought 100 GB with 50,000 writes; reckoned on paper from the
# providers' pages, in dollars: storage, writes, in a year, bring all back.
ON_PAPER = {
    # 2,000 GB x 1.5 c; 0.05 million x 4.50; 3,200 GB x 1.5 c + writes; 2 million reads x 0.36, egress free
    "Cloudflare R2": ("30.00", "0.225", "48.225", "0.72"),
    # 1,862.645 GiB x 2.3 c; 0.05 x 5.00; 2,980.232 GiB x 2.3 c + writes; 1,862.645 x 9 c + 2 x 0.40
    "AWS S3": ("42.8408", "0.25", "68.7953", "168.4381"),
    # 1,862.645 GiB x 2 c; 0.05 x 5.00; 2,980.232 GiB x 2 c + writes; 1,862.645 x 12 c + 2 x 0.40
    "Google Cloud Storage": ("37.2529", "0.25", "59.8546", "224.3174"),
    # 2 TB x 6.95; calls are free; 3.2 TB x 6.95; three times what is stored may be read for nothing
    "Backblaze B2": ("13.90", "0", "22.24", "0"),
}


@pytest.mark.parametrize("name", ON_PAPER)
def test_what_comes_with_it_gives_the_sums_of_a_calculation_on_paper(name: str) -> None:
    usage = Usage(size_bytes=2 * 10**12, files=10**6, month_bytes=10**11, month_writes=50_000)
    provider = next(one for one in load_prices().providers if one.name == name)
    cost = provider.cost(usage)
    assert [f"{amount:.4f}" for amount in (cost.storage, cost.writes, cost.projected, cost.bring_back)] == [
        f"{float(amount):.4f}" for amount in ON_PAPER[name]
    ]
    assert cost.now == pytest.approx(cost.storage + cost.writes)


def test_what_exceeds_a_free_share_of_egress_is_paid() -> None:
    usage = Usage(size_bytes=100 * 10**9, files=0, month_bytes=0, month_writes=0)
    half_free = Provider("P", "", 10**9, 0, 0, 0, 0.1, free_egress_times_stored=0.5)
    assert half_free.cost(usage).bring_back == pytest.approx(5.0)


def test_large_files_cost_a_request_for_each_part() -> None:
    assert requests_for(10, 1000) == 10
    assert requests_for(1, 80 * 1024 * 1024) == 11


def test_the_table_has_the_four_providers_each_with_its_sources_and_a_date() -> None:
    prices = load_prices()
    assert [provider.name for provider in prices.providers] == [
        "Cloudflare R2",
        "AWS S3",
        "Google Cloud Storage",
        "Backblaze B2",
    ]
    lines = json.loads(TABLE.read_text("utf-8"))["providers"]
    assert all(line["sources"][0].startswith("https://") for line in lines)
    assert datetime.fromisoformat(prices.read_on)
    by_name = {provider.name: provider for provider in prices.providers}
    assert by_name["Cloudflare R2"].egress_gb == 0
    terabyte = Usage(10**12, 0, 0, 0)
    assert by_name["Cloudflare R2"].cost(terabyte).storage == pytest.approx(15.0)
    assert 21 < by_name["AWS S3"].cost(terabyte).storage < 23


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_another_table_may_be_given_and_a_wrong_one_says_what_is_wrong(tmp_path: Path, encoding: str) -> None:
    table = json.loads(TABLE.read_text("utf-8"))
    table["providers"] = [{**table["providers"][0], "name": "Mine", "storage_gb_month": 0.001}]
    mine = tmp_path / "prices.json"
    mine.write_text(json.dumps(table), encoding=encoding)
    assert [provider.name for provider in load_prices(mine).providers] == ["Mine"]
    del table["providers"][0]["egress_gb"]
    mine.write_text(json.dumps(table))
    with pytest.raises(CloudArchiveError, match="egress_gb"):
        load_prices(mine)
    mine.write_text("{")
    with pytest.raises(CloudArchiveError, match="can't be read"):
        load_prices(mine)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"egress_gb": -1}, "egress_gb is -1, and must be a number from 0 to 1,000,000"),
        ({"egress_gb": "free"}, "egress_gb is 'free', and must be a number from 0 to 1,000,000"),
        ({"egress_gb": None}, "egress_gb is None, and must be a number from 0 to 1,000,000"),
        ({"gigabyte_bytes": 1000}, "gigabyte_bytes is 1000, and must be 1000000000 or 1073741824"),
        ({"gigabyte_bytes": "GiB"}, "gigabyte_bytes is 'GiB', and must be 1000000000 or 1073741824"),
        (None, "providers must be a list that is not empty"),
    ],
)
def test_a_table_with_a_wrong_value_names_it_and_what_is_accepted(
    tmp_path: Path, change: dict[str, object] | None, words: str
) -> None:
    table = json.loads(TABLE.read_text("utf-8"))
    table["providers"] = [] if change is None else [{**table["providers"][0], **change}]
    (mine := tmp_path / "prices.json").write_text(json.dumps(table))
    with pytest.raises(CloudArchiveError, match=words):
        load_prices(mine)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([], "it must be an object with the name 'providers'"),
        ({"read_on": "", "providers": ["R2"]}, "each provider must be an object, and one is 'R2'"),
        ({"providers": []}, "'read_on' is missing"),
    ],
)
def test_a_table_of_another_form_says_what_is_wrong_in_words(
    tmp_path: Path, table: object, words: str
) -> None:
    (mine := tmp_path / "prices.json").write_text(json.dumps(table))
    with pytest.raises(CloudArchiveError, match=words):
        load_prices(mine)


def test_a_missing_table_is_named_in_words(tmp_path: Path) -> None:
    with pytest.raises(CloudArchiveError, match="No such file or directory") as raised:
        load_prices(tmp_path / "none.json")
    assert "Errno" not in str(raised.value)
