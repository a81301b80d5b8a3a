"""Put measured lines into docs/performance.md, between two comments that name them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def between(page: Path, name: str) -> str:
    """Return the text between `<!-- name -->` and `<!-- /name -->`.

    Raises:
        ValueError: there are no such comments.
    """
    found = _pattern(name).search(page.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{page} has no <!-- {name} -->")
    return found[2].strip("\n")


def put_between(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replace the text between the two comments by `lines`. Raises as `between`."""
    text = page.read_text(encoding="utf-8")
    between(page, name)
    inside = "\n".join(lines)
    changed = _pattern(name).sub(lambda found: f"{found[1]}{inside}\n{found[3]}", text)
    page.write_text(changed, encoding="utf-8")


def first_cells(table: str) -> list[str]:
    """Return the first cell of each line of a Markdown table, without its head."""
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return [row.split("|")[1].strip() for row in rows[2:]]


def merge_lines(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Replace old lines of a table by new ones with the same first cell; append the other new lines."""
    fresh = {line.split("|")[1].strip(): line for line in new}
    lines = [fresh.pop(line.split("|")[1].strip(), line) if line.startswith("|") else line for line in old]
    return [*lines, *fresh.values()]


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(<!-- /{name} -->)", re.DOTALL)
