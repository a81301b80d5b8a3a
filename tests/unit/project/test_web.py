"""What web/ promises that no type checker sees: no dead exports, no dead texts, a docstring in each module."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WEB = Path(__file__).parents[3] / "web"
SOURCES = {path: path.read_text("utf-8") for path in sorted(WEB.rglob("*.js")) if "vendor" not in path.parts}
TEXTS = {path for path in SOURCES if path.parent.name == "strings"}
_EXPORT = re.compile(r"^export (?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)
_IMPORT = re.compile(r"import \{([^}]*)\} from|import\(\"[^\"]+\"\)\.(\w+)")


def test_every_export_is_imported_somewhere() -> None:
    imported = {
        name.strip()
        for source in SOURCES.values()
        for names, typed in _IMPORT.findall(source)
        for name in (names or typed).split(",")
    }
    dead = [
        f"{path.relative_to(WEB)}: {name}"
        for path, source in SOURCES.items()
        for name in _EXPORT.findall(source)
        if name not in imported
    ]
    assert dead == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_module_is_type_checked_and_says_what_it_is_for(path: Path) -> None:
    lines = SOURCES[path].splitlines()
    assert lines[0] == "// @ts-check"
    assert lines[1].startswith("/**")


def test_every_text_is_used_and_every_used_text_exists() -> None:
    (english,) = (source for path, source in SOURCES.items() if path.name == "en.js")
    keys = set(re.findall(r'^  "([\w.]+)":', english, re.MULTILINE))
    code = "\n".join(source for path, source in SOURCES.items() if path not in TEXTS)
    code = re.sub(r"/\*\*.*?\*/", "", code, flags=re.DOTALL)
    literal = set(re.findall(r'"([a-zA-Z]+(?:\.[\w]+)*)"', code))
    templates = [
        re.compile(re.sub(r"\\\$\\\{[^}]*\\\}", r"[\\w.]+", re.escape(text)))
        for text in re.findall(r"t\(`([^`]+)`", code)
    ]
    dead = {key for key in keys if key not in literal and not any(each.fullmatch(key) for each in templates)}
    assert dead == set()
    missing = {text for text in re.findall(r'\bt\("([\w.]+)"', code) if text not in keys}
    assert missing == set()
