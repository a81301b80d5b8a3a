"""The translations of the server's sentences in web/strings: all store errors have one, and no sentence is outdated."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from cloud_archive.store.failure_table import TABLE

_ROOT = Path(__file__).parents[3]
_ENTRY = re.compile(r'^  (".*"): (".*"),$', re.MULTILINE)
_PLACEHOLDER = re.compile(r"\{\w+\}")


def _translations(language: str) -> dict[str, str]:
    source = (_ROOT / "web" / "strings" / f"server.{language}.js").read_text("utf-8")
    return {json.loads(english): json.loads(text) for english, text in _ENTRY.findall(source)}


_TABLES = {language: _translations(language) for language in ("ja", "zh")}


def _texts_of_product() -> set[str]:
    """Return every text in the package's code, with `{}` for each value in it."""
    found = set()
    for path in (_ROOT / "cloud_archive").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(_text_of(part) for part in node.values))
            else:
                found.add(_text_of(node))
    return found


def _text_of(node: ast.AST) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else "{}"


@pytest.mark.parametrize("language", _TABLES)
def test_every_cause_and_cure_of_a_store_error_is_translated(language: str) -> None:
    sentences = {text for failure in TABLE.values() for text in (failure.cause, failure.cure) if text}
    assert sentences - _TABLES[language].keys() == set()


@pytest.mark.parametrize("language", _TABLES)
def test_every_translated_sentence_is_one_of_the_product(language: str) -> None:
    known = _texts_of_product()
    assert [text for text in _TABLES[language] if _PLACEHOLDER.sub("{}", text) not in known] == []


def test_each_language_translates_the_same_sentences_with_values_that_they_have() -> None:
    assert _TABLES["ja"].keys() == _TABLES["zh"].keys()
    for table in _TABLES.values():
        for english, text in table.items():
            assert set(_PLACEHOLDER.findall(text)) <= set(_PLACEHOLDER.findall(english)), text
