"""requirements.txt, which ComfyUI's manager installs, is the list in pyproject.toml."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def declared_dependencies() -> list[str]:
    """`dependencies` of `[project]`. Python 3.10 has no tomllib; a TOML list of plain strings is a Python list."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    project = re.search(r"^\[project\]$(.*?)^\[", text, re.MULTILINE | re.DOTALL)
    assert project is not None
    found = re.search(r"^dependencies\s*=\s*(\[.*?^\])", project.group(1), re.MULTILINE | re.DOTALL)
    assert found is not None
    dependencies = ast.literal_eval(found.group(1))
    assert isinstance(dependencies, list)
    return dependencies


def required() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def test_requirements_txt_holds_the_dependencies_of_pyproject_and_nothing_else() -> None:
    assert required() == declared_dependencies()


def test_the_demonstration_has_what_makes_its_pictures() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert re.search(r'^demo = \[.*"pillow>=', text, re.MULTILINE), "its library would show icons"


def test_the_lists_are_not_empty_and_name_each_package_once() -> None:
    names = [re.split(r"[<>=!~\[; ]", line, maxsplit=1)[0].lower() for line in declared_dependencies()]

    assert {"boto3", "prometheus-client"} <= set(names)
    assert len(set(names)) == len(names)
