"""The snippets of docs/api-workers.md: each can be parsed, and what they name exists."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from cloud_archive.api.routes import ROUTES

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "api-workers.md").read_text("utf-8")
SCRIPT = ROOT / "docs" / "examples" / "run_job.py"
_BLOCK = re.compile(r"^    .*\n(?:(?:    .*)?\n)*", re.MULTILINE)
_ROUTE = re.compile(r"/cloud-sync/[a-z_{}/-]+")


def snippets() -> list[str]:
    """The indented blocks, without their indent."""
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE).strip() + "\n" for block in _BLOCK.findall(PAGE)]


PYTHON = [snippet for snippet in snippets() if "import " in snippet]
DOCKERFILE = [snippet for snippet in snippets() if snippet.startswith("FROM ")]
SHELL = [snippet for snippet in snippets() if snippet not in (*PYTHON, *DOCKERFILE)]


def run_lines(dockerfile: str) -> list[str]:
    joined = dockerfile.replace("\\\n", "")
    return [line.removeprefix("RUN ") for line in joined.splitlines() if line.startswith("RUN ")]


def test_each_kind_is_on_the_page() -> None:
    assert (len(PYTHON), len(DOCKERFILE), len(SHELL)) == (2, 1, 2)
    assert sum(map(len, map(run_lines, DOCKERFILE))) == 1


@pytest.mark.parametrize("snippet", PYTHON)
def test_python_can_be_parsed_and_imports_what_the_script_has(snippet: str) -> None:
    script = ast.parse(SCRIPT.read_text("utf-8"))
    defined = {node.name: node for node in script.body if isinstance(node, ast.FunctionDef)}
    tree = ast.parse(snippet)
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "run_job"
        for alias in node.names
    }
    assert imported
    assert imported <= set(defined)
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in imported:
            takes = defined[call.func.id].args
            least, most = len(takes.args) - len(takes.defaults), len(takes.args)
            assert least <= len(call.args) <= most, ast.unparse(call)


@pytest.mark.parametrize("snippet", [*SHELL, *(line for one in DOCKERFILE for line in run_lines(one))])
def test_shell_can_be_parsed(snippet: str) -> None:
    parsed = subprocess.run(["sh", "-n"], input=snippet, capture_output=True, text=True)
    assert parsed.returncode == 0, parsed.stderr


def test_what_the_image_copies_is_on_the_page_or_among_the_examples() -> None:
    (line,) = re.findall(r"^COPY (.*)$", DOCKERFILE[0], re.MULTILINE)
    for name in line.split()[:-1]:
        assert (ROOT / "docs" / "examples" / name).exists() or f"# {name}\n" in "".join(PYTHON), name


def test_every_route_exists() -> None:
    known = {re.sub(r"\{\w+\}", "{}", route.path) for route in ROUTES}
    named = {re.sub(r"\{\w+\}", "{}", path.rstrip("/")) for path in _ROUTE.findall(PAGE)}
    assert named
    assert named <= known, named - known
