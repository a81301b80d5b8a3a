"""The README and the docs hold every command, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from cloud_archive.api.routes import ROUTES
from cloud_archive.cli.app import build_app
from cloud_archive.config.settings import VARIABLES

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted((ROOT / "docs").glob("*.md"))


def commands() -> dict[str, set[str]]:
    """Every command and its options, those of its own commands included."""
    group = typer.main.get_command(build_app())
    found: dict[str, set[str]] = {}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        parts = [command, *getattr(command, "commands", {}).values()]
        found[name] = {
            option
            for part in parts
            for parameter in part.params
            for option in parameter.opts
            if option[:2] == "--"
        }
    return found


def block() -> list[str]:
    """The lines of the README's command block."""
    match = re.search(r"<!-- commands -->\n```text\n(.*?)```", README, re.DOTALL)
    assert match is not None
    return match.group(1).splitlines()


def test_the_command_block_lists_every_command_and_no_other() -> None:
    named: set[str] = set()
    for line in block():
        words = line.removeprefix("cloud-archive ").split()
        named.add(words[0])
        for place, word in enumerate(words):
            if word == "|" and words[0] in ("status",):
                named.add(words[place + 1])
    assert named == set(commands())


def test_every_option_in_the_command_block_exists() -> None:
    known = commands()
    for line in block():
        name = line.split()[1]
        for option in re.findall(r"--[a-z][a-z-]*", line):
            assert option in known[name], line


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_every_command_line_on_a_page_exists_with_its_options(page: Path) -> None:
    known = commands()
    for name, rest in re.findall(
        r"cloud-archive(?:/cloud_archive)? ([a-z]+)\b([^\n`|]*)", page.read_text("utf-8")
    ):
        if name not in known and page.name == "README.md" and name in ("flush", "status"):
            continue
        if name not in known:
            continue  # prose
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest.split("  ")[0]):
            assert option in known[name] | {"--help"}, f"{name} {rest}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target and not target.endswith(
            (".png", ".gif", ".mp4")
        ):  # pictures are made at release
            assert (page.parent / target).exists(), target


def test_the_readme_is_short_and_leads_with_its_two_commands() -> None:
    lines = README.splitlines()
    assert len(lines) <= 200
    assert lines.index("<!-- demo-command -->") < lines.index("<!-- test-command -->") < 35


def test_every_setting_is_on_its_page() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    for variable in VARIABLES.values():
        assert f"`{variable.names[0]}`" in page


def test_every_route_is_on_its_page() -> None:
    page = (ROOT / "docs" / "http.md").read_text("utf-8")
    for route in ROUTES:
        last = route.path.rpartition("/")[2]
        assert re.search(rf"`[^`]*/{re.escape(last)}", page), route.path


def test_every_variable_of_a_migration_table_is_understood() -> None:
    known = {name for variable in VARIABLES.values() for name in variable.names}
    for page in ("migrating-from-r2-scripts.md", "daemon.md", "operations.md"):
        text = (ROOT / "docs" / page).read_text("utf-8")
        used = set(re.findall(r"\b(?:S3|R2|CLOUD_ARCHIVE)_[A-Z0-9_]+[A-Z0-9]\b|\bENABLE_R2_SYNC\b", text))
        assert used <= known, f"{page}: {used - known}"
    migration = (ROOT / "docs" / "migrating-from-r2-scripts.md").read_text("utf-8")
    for name in known:
        if name.startswith("R2_") or name == "ENABLE_R2_SYNC":
            assert f"`{name}`" in migration
