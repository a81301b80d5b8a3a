"""docs/architecture.md against the tree: which packages there are, and what each shows to the others."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

from tests.unit.project.sources import python_files

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "cloud_archive"
ImportOrDefinition = ast.ImportFrom | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def rows() -> dict[str, tuple[str, str, str]]:
    """The rows of the table of packages, by the first package that each names."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("<!-- packages -->")[2].partition("\n\n")[0]
    cells = [
        [cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines() if row.startswith("| `")
    ]
    return {names(first)[0]: (first, owns, shows) for first, owns, shows in cells}


def names(cell: str) -> list[str]:
    """The names in backticks."""
    return re.findall(r"`([\w.]+)`", cell)


def layers() -> list[set[str]]:
    """The layers of the import contract, from the top."""
    block = re.search(
        r'name = "one direction"\n.*?layers = \[\n(.*?)\n\]', _text("pyproject.toml"), re.DOTALL
    )
    assert block is not None
    return [set(line.split(" | ")) for line in re.findall(r'"(.+)"', block[1]) if line != "__main__"]


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def imports_and_definitions() -> dict[Path, list[ImportOrDefinition]]:
    """Each module of the package to its `from` imports and to its classes and functions, at any depth."""
    return {
        path: [
            node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ImportOrDefinition)
        ]
        for path in PACKAGE.rglob("*.py")
    }


def modules_used_by_others() -> dict[str, set[str]]:
    """Package to those of its modules that modules outside it import from."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, nodes in imports_and_definitions().items():
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        for node in nodes:
            if not isinstance(node, ast.ImportFrom):
                continue
            base = parts[: -node.level] if node.level else []
            target = base + (node.module.split(".") if node.module else [])
            ours = len(target) >= 2 and target[0] == PACKAGE.name
            if not ours or target[1] == parts[1] or not (PACKAGE / target[1]).is_dir():
                continue
            if len(target) == 2:
                found[target[1]] |= {alias.name for alias in node.names}
            else:
                found[target[1]].add(".".join(target[2:]))
    return found


def test_the_table_of_packages_is_the_tree_in_the_order_of_the_import_contract() -> None:
    named = [name for first, _, _ in rows().values() for name in names(first)]
    tree = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    tree |= {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert sorted(named) == sorted(tree)
    depths = [next(depth for depth, layer in enumerate(layers()) if name in layer) for name in named]
    assert depths == sorted(depths)


def test_the_modules_that_other_packages_use_are_those_of_the_table() -> None:
    """To use another one, think twice, then add it to the last column of docs/architecture.md."""
    used = modules_used_by_others()
    shown = {name: set(names(shows)) for name, (_, _, shows) in rows().items() if (PACKAGE / name).is_dir()}
    assert {name: used.get(name, set()) for name in shown} == shown


def test_no_module_uses_a_private_name_of_another_package() -> None:
    taken = []
    for path, nodes in imports_and_definitions().items():
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.level >= 2:
                taken += [f"{path.name}: {alias.name}" for alias in node.names if alias.name.startswith("_")]
    assert [each for each in taken if "__version__" not in each] == []


def test_a_package_begins_empty() -> None:
    """Importing one module loads only what it needs; the engine's start and ComfyUI's process rely on it."""
    for path in PACKAGE.glob("*/**/__init__.py"):
        code = ast.parse(path.read_text(encoding="utf-8")).body
        assert all(isinstance(node, ast.Expr) for node in code), path


def test_no_file_or_class_is_over_400_lines_and_no_function_over_60() -> None:
    """What is larger does more than one thing: split it."""
    too_long = []
    for path, nodes in imports_and_definitions().items():
        lengths = [(path.read_text(encoding="utf-8").count("\n"), 400, path.name)]
        for node in nodes:
            if not isinstance(node, ast.ImportFrom):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                lengths.append(
                    (lines, 400 if isinstance(node, ast.ClassDef) else 60, f"{path.name}: {node.name}")
                )
        too_long += [f"{name}: {lines} lines" for lines, most, name in lengths if lines > most]
    assert too_long == []


def test_no_file_of_tests_is_over_400_lines() -> None:
    """A file of tests has one topic too."""
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in python_files()}
    assert {path: lines for path, lines in lengths.items() if lines > 400} == {}
