"""Recognise the graphs and parameters among a file's texts by their content: writers give them different names."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import Any

from .graph.nodes import is_api_graph
from .graph.workflow import is_workflow
from .graph_facts import Embedded
from .json_text import JsonLimits, load_nested_json
from .parameters import is_parameters

# Some writers put a name before the JSON: `workflow: {…}`.
_PREFIX = re.compile(r"^\s*([A-Za-z_]{1,40})\s*:\s*(?=[{\[\"])")
_MAX_DOCUMENTS = 8


def sort_texts(texts: Iterable[tuple[str, str]]) -> Embedded:
    """Return the first API graph, UI workflow and `parameters` text among a file's texts."""
    found = Embedded()
    documents = 0
    limits = JsonLimits(of_graphs=True)
    for _, text in texts:
        prefix = _PREFIX.match(text)
        body = text[prefix.end() :] if prefix else text
        has_both = found.prompt and found.workflow and documents > 1
        if not has_both and body.lstrip()[:1] in ("{", "[", '"') and documents < _MAX_DOCUMENTS:
            documents += 1
            with contextlib.suppress(ValueError):
                _sort(load_nested_json(body, limits), found, 0, limits)
        if found.parameters is None and is_parameters(text):
            found.parameters = text
    return found


def _sort(value: Any, found: Embedded, depth: int, limits: JsonLimits) -> None:
    if is_workflow(value):
        found.workflow = found.workflow or value
    elif is_api_graph(value):
        found.prompt = found.prompt or value
    elif isinstance(value, dict) and depth < 3:
        for key in ("prompt", "workflow", "parameters", "extra_pnginfo", "extra_data", "comment"):
            item = value.get(key)
            if isinstance(item, str) and item.lstrip()[:1] in ("{", "["):
                try:
                    item = load_nested_json(item, limits)
                except ValueError:
                    continue
            if isinstance(item, str) and found.parameters is None and is_parameters(item):
                found.parameters = item
            elif isinstance(item, dict):
                _sort(item, found, depth + 1, limits)
