"""docs/performance.md shows what the benchmarks measure, all of it and nothing else."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tests.benchmarks.catalog_bucket import _costs
from tests.benchmarks.figures import Figure, no_slower, within
from tests.benchmarks.page import PAGE, between, first_cells, merge_lines, put_between
from tests.benchmarks.requests_per_file import CONFLICT, FIRST, FIRST_LARGE, LARGE, SAME, SMALL
from tests.benchmarks.rows import ROWS
from tests.benchmarks.svg import Chart, Curve, to_svg


def test_the_page_has_the_rows_of_the_benchmark() -> None:
    works = [work for row in ROWS.values() for work in row.works]
    assert first_cells(between(PAGE, "table")) == works
    assert len(set(works)) == len(works)


def test_the_page_has_the_requests_of_each_case() -> None:
    assert first_cells(between(PAGE, "requests")) == [FIRST, SMALL, CONFLICT, SAME, FIRST_LARGE, LARGE]


def test_lines_that_were_measured_again_take_the_places_of_the_old_ones(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table -->\n| work |\n|---|\n| a | 1 |\n| b | 2 |\n<!-- /table -->\nafter\n")
    put_between(page, "table", merge_lines(between(page, "table").splitlines(), ["| b | 3 |", "| c | 4 |"]))
    assert page.read_text() == (
        "before\n<!-- table -->\n| work |\n|---|\n| a | 1 |\n| b | 3 |\n| c | 4 |\n<!-- /table -->\nafter\n"
    )


def test_a_ratio_is_of_turns_and_not_of_medians() -> None:
    """A minute in which everything took three times as long counts for neither."""
    figure = no_slower("work", [1.0, 3.3, 1.2], [1.0, 3.0, 1.0], "peer", 1.1)
    assert round(figure.ratio, 6) == 1.1
    assert figure.met


def test_a_goal_that_is_missed_is_said_to_be() -> None:
    assert not within("work", [3.0, 3.0, 1.0], 2.0).met
    assert "**no**" in within("work", [3.0], 2.0).line
    faster = Figure("work", [95.0], [100.0], "idle", "≥ 0.9 ×", 0.9, "/s", at_least=True)
    slower = Figure("work", [85.0], [100.0], "idle", "≥ 0.9 ×", 0.9, "/s", at_least=True)
    assert faster.met
    assert not slower.met


def test_a_pass_lists_three_days_and_their_month() -> None:
    assert " 2,016 LIST " in _costs(113.0)[0]


def test_curves_are_svg() -> None:
    chart = Chart(
        "a & b",
        "files",
        "seconds",
        [Curve("<one>", [(100, 0.5), (1000, 999.6), (10_000, 1018.6)])],
        log_y=True,
    )
    root = ElementTree.fromstring(to_svg(chart))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert next(each.text for each in root.iter("{http://www.w3.org/2000/svg}title")) == "a & b"
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"0.5", "1,000", "1,019"} <= set(texts), "no exponents"
