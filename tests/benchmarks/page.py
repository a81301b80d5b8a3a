"""What is measured goes into docs/performance.md, between two comments that name it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def between(page: Path, name: str) -> str:
    """What stands between `<!-- name -->` and `<!-- /name -->`.

    Raises:
        ValueError: there are no such comments.
    """
    found = _pattern(name).search(page.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{page} has no <!-- {name} -->")
    return found[2].strip("\n")


def put_between(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replace it."""
    text = page.read_text(encoding="utf-8")
    between(page, name)
    inside = "\n".join(lines)
    changed = _pattern(name).sub(lambda found: f"{found[1]}{inside}\n{found[3]}", text)
    page.write_text(changed, encoding="utf-8")


def first_cells(table: str) -> list[str]:
    """The first cell of each line of a Markdown table, its head left out."""
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return [row.split("|")[1].strip() for row in rows[2:]]


def merged(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """The new lines of a table in the places of the old ones for the same work; what is new comes at the end."""
    fresh = {line.split("|")[1].strip(): line for line in new}
    lines = [fresh.pop(line.split("|")[1].strip(), line) if line.startswith("|") else line for line in old]
    return [*lines, *fresh.values()]


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(<!-- /{name} -->)", re.DOTALL)
