"""Find the nodes whose text goes into an input with a secret's name, such as a primitive linked to `api_key`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

IsSecret = Callable[[str], bool]
_Level = Mapping[str, "tuple[dict[str, Any], dict[str, str]]"]  # see `_levels`


def secret_sources(graph: Any, is_secret: IsSecret) -> set[int]:
    """Return the `id()` of each node of a graph (API or UI) from which a secret comes, over any number of links."""
    found: set[int] = set()
    if isinstance(graph, dict):
        for nodes in _levels(graph):
            found |= {id(nodes[name][0]) for name in _behind_secrets(nodes, is_secret)}
    return found


def is_link(value: Any) -> bool:
    """Return whether an input of an API graph is a link: (node, slot)."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[1], int)
        and not isinstance(value[1], bool)
    )


def _behind_secrets(nodes: _Level, is_secret: IsSecret) -> set[str]:
    found: set[str] = set()
    setters = {_first_text(node): name for name, (node, _) in nodes.items() if node.get("type") == "SetNode"}
    left = [origin for node in nodes.values() for name, origin in _sources(*node) if is_secret(name)]
    while left:
        name = left.pop()
        if name in nodes and name not in found:
            found.add(name)
            left += [origin for _, origin in _sources(*nodes[name])]
            node = nodes[name][0]
            if node.get("type") == "GetNode" and _first_text(node) in setters:
                left.append(setters[_first_text(node)])
    # The text of these two names what they pass on.
    return {name for name in found if nodes[name][0].get("type") not in ("GetNode", "SetNode")}


def _first_text(node: dict[str, Any]) -> str:
    values = node.get("widgets_values")
    return values[0] if isinstance(values, list) and values and isinstance(values[0], str) else ""


def _levels(graph: dict[str, Any]) -> Iterator[_Level]:
    """Yield each level's nodes by id, each with the origins of the level's links."""
    if not isinstance(graph.get("nodes"), list):
        yield {name: (node, {}) for name, node in graph.items() if isinstance(node, dict)}
        return
    definitions = graph.get("definitions")
    subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    for level in (graph, *(subgraphs if isinstance(subgraphs, list) else ())):
        nodes = level.get("nodes") if isinstance(level, dict) else None
        if isinstance(nodes, list):
            links = _origins(level.get("links"))
            yield {
                str(node["id"]): (node, links)
                for node in nodes
                if isinstance(node, dict) and isinstance(node.get("id"), (int, str))
            }


def _origins(links: Any) -> dict[str, str]:
    found = {}
    for link in links if isinstance(links, list) else ():
        if isinstance(link, list) and len(link) >= 2:
            key, origin = link[:2]
        elif isinstance(link, dict):
            key, origin = link.get("id"), link.get("origin_id")
        else:
            continue
        if isinstance(key, (int, str)) and isinstance(origin, (int, str)):
            found[str(key)] = str(origin)
    return found


def _sources(node: dict[str, Any], links: dict[str, str]) -> Iterator[tuple[str, str]]:
    inputs = node.get("inputs")
    if isinstance(inputs, dict):
        for name, value in inputs.items():
            if is_link(value) and isinstance(value[0], (int, str)):
                yield name, str(value[0])
    for item in inputs if isinstance(inputs, list) else ():
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            link = item.get("link")
            if isinstance(link, (int, str)) and str(link) in links:
                yield item["name"], links[str(link)]
