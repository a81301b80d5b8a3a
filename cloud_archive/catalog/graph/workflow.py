"""Turn a UI workflow into the graph that ComfyUI would run: subgraphs, reroutes, bypasses and primitives resolved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .nodes import MAX_NODES, Graph, Link, Node, with_short_names
from .widgets import OWN_INPUTS, named_widgets, names_are_known, node_type, shown_widgets, widget_names

_MUTED, BYPASSED = 2, 4  # a node's `mode`
INPUT_NODE = "-10"  # the origin of links from a subgraph's inputs
_MAX_HOPS = 64
_MAX_DEPTH = 8
_MAX_ID_CHARACTERS = 64  # of a node: the ids of all nodes in a subgraph begin with the id of its instance
# Slots, widgets and links that are read; the largest of 640 published workflows takes 5,210.
_MAX_STEPS = 25_000
_NOTES = (
    "note",
    "markdownnote",
    "label (rgthree)",
    "fast groups bypasser (rgthree)",
    "fast groups muter (rgthree)",
)


def is_workflow(value: Any) -> bool:
    """Return whether `value` looks like a workflow as the frontend saves it."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("nodes"), list)
        and len(value["nodes"]) <= MAX_NODES
        and all(isinstance(node, dict) for node in value["nodes"])
        # A glTF file has nodes too, at least one, but neither types nor links.
        and (not value["nodes"] or any("type" in node for node in value["nodes"]) or "links" in value)
    )


@dataclass
class _Scope:
    """The workflow itself, or one instance of a subgraph."""

    prefix: str
    nodes: dict[str, dict[str, Any]]
    links: dict[str, tuple[str, int]]
    definition: dict[str, Any] = field(default_factory=dict)
    parent: _Scope | None = None
    instance: dict[str, Any] = field(default_factory=dict)
    inner: dict[str, _Scope] = field(default_factory=dict)


class _Constant:
    """A value at the end of a chain of links: a primitive's, or a subgraph's widget."""

    def __init__(self, value: Any) -> None:
        self.value = value


def parse_workflow(value: dict[str, Any]) -> Graph:
    """Return the graph of a UI workflow, without muted nodes and through bypassed ones. ValueError: it is too large."""
    return _Expansion(value).graph()


def workflow_notes(value: dict[str, Any]) -> list[str]:
    return [
        text
        for node in value["nodes"][:MAX_NODES]
        if node_type(node).lower() in _NOTES and isinstance(node.get("widgets_values"), list)
        for text in node["widgets_values"]
        if isinstance(text, str)
    ]


class _Expansion:
    def __init__(self, workflow: dict[str, Any]) -> None:
        definitions = workflow.get("definitions")
        subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
        self._subgraphs: dict[str, dict[str, Any]] = {
            str(item.get("id")): item
            for item in (subgraphs if isinstance(subgraphs, list) else ())
            if _is_dict(item)
        }
        self._steps_left = _MAX_STEPS
        self._count = 0
        self._links_of: dict[int, dict[str, tuple[str, int]]] = {}  # by the id() of the level
        self._setters: dict[str, tuple[_Scope, dict[str, Any]]] = {}
        self._root = self._scope(workflow, "", 0)

    def _charge(self, steps: int) -> None:
        """Count steps. ValueError: too few are left."""
        self._steps_left -= steps
        if self._steps_left < 0:
            raise ValueError("this workflow has too many inputs and widgets")

    def _charge_slots(self, node: dict[str, Any]) -> None:
        for side in ("inputs", "outputs", "widgets_values"):
            slots = node.get(side)
            self._charge(len(slots) if isinstance(slots, list | dict) else 0)

    def graph(self) -> Graph:
        graph = Graph()
        for scope in self._live_scopes(self._root):
            for key, node in scope.nodes.items():
                kind = node_type(node)
                virtual = key in scope.inner or kind.lower() in _NOTES or _is_pass_through(kind)
                if not virtual and _mode(node) not in (_MUTED, BYPASSED):
                    graph.nodes[scope.prefix + key] = self._node(scope, key, node, kind)
        return graph

    def _scope(self, level: dict[str, Any], prefix: str, depth: int) -> _Scope:
        raw = level.get("nodes")
        nodes = {
            key: node
            for node in (raw if isinstance(raw, list) else ())
            if _is_dict(node)
            and type(node.get("id")) in (int, str)
            and len(key := str(node["id"])) <= _MAX_ID_CHARACTERS
        }
        self._count += len(nodes)
        if self._count > MAX_NODES:
            raise ValueError("this workflow has too many nodes")
        if id(level) not in self._links_of:  # all instances of a subgraph share them
            self._links_of[id(level)] = _links(level.get("links"))
        scope = _Scope(prefix, nodes, self._links_of[id(level)], definition=level)
        for key, node in nodes.items():
            kind = node_type(node)
            if kind in self._subgraphs and depth < _MAX_DEPTH:
                inner = self._scope(self._subgraphs[kind], f"{prefix}{key}:", depth + 1)
                inner.parent, inner.instance = scope, node
                self._apply_instance_widgets(inner, node)
                scope.inner[key] = inner
            elif kind == "SetNode":
                self._setters.setdefault(first_text(node), (scope, node))
        return scope

    def _apply_instance_widgets(self, inner: _Scope, instance: dict[str, Any]) -> None:
        """Set inner nodes' widgets to the values that the subgraph's instance shows for them."""
        shown = shown_widgets(instance)
        self._charge(len(shown))
        named: dict[str, dict[str, Any]] = {}
        for key, name, value in shown:
            if key not in inner.nodes:
                continue
            if key not in named:
                self._charge_slots(inner.nodes[key])
                self._charge(len(inner.nodes[key]))
                named[key] = named_widgets(inner.nodes[key])
            if name in named[key]:
                named[key][name] = value
                inner.nodes[key] = {**inner.nodes[key], "widgets_values": named[key]}

    def _live_scopes(self, scope: _Scope) -> Iterator[_Scope]:
        yield scope
        for key, inner in scope.inner.items():
            if _mode(scope.nodes[key]) not in (_MUTED, BYPASSED):
                yield from self._live_scopes(inner)

    def _node(self, scope: _Scope, key: str, node: dict[str, Any], kind: str) -> Node:
        self._charge_slots(node)
        inputs = named_widgets(node)
        for item in _slots(node, "inputs"):
            name = item.get("name")
            if not isinstance(name, str) or item.get("link") is None:
                continue
            found = self._origin(scope, item["link"])
            if isinstance(found, _Constant):
                inputs[name] = found.value
            elif found is not None:
                inputs[name] = found
            elif not _is_dict(item.get("widget")):
                inputs.pop(name, None)
        return Node(
            scope.prefix + key,
            kind,
            with_short_names(inputs),
            guessed=not names_are_known(node),
        )

    def _origin(self, scope: _Scope, link: Any, hops: int = 0) -> Link | _Constant | None:
        """Follow a link to the node that really makes the value."""
        self._charge(1)
        if hops > _MAX_HOPS or not isinstance(link, int | str) or str(link) not in scope.links:
            return None
        key, slot = scope.links[str(link)]
        if key == INPUT_NODE:
            return self._from_parent(scope, slot, hops + 1)
        node = scope.nodes.get(key)
        if node is None or _mode(node) == _MUTED:
            return None
        kind = node_type(node)
        self._charge_slots(node)
        if _mode(node) == BYPASSED:
            return self._follow(scope, _bypass_input(node, slot), hops)
        if key in scope.inner:
            return self._from_inner(scope.inner[key], slot, hops + 1)
        if kind == "PrimitiveNode":
            values = node.get("widgets_values")
            return _Constant(values[0]) if isinstance(values, list) and values else None
        if kind == "GetNode":
            setter = self._setters.get(first_text(node))
            if setter is None:
                return None
            self._charge_slots(setter[1])
            return self._follow(setter[0], _first_slot(setter[1]), hops)
        if _is_pass_through(kind):
            return self._follow(scope, _first_slot(node), hops)
        return Link(scope.prefix + key, slot)

    def _follow(self, scope: _Scope, item: dict[str, Any] | None, hops: int) -> Link | _Constant | None:
        return self._origin(scope, item.get("link"), hops + 1) if item else None

    def _from_parent(self, scope: _Scope, slot: int, hops: int) -> Link | _Constant | None:
        declared = scope.definition.get("inputs")
        if scope.parent is None or not isinstance(declared, list) or not 0 <= slot < len(declared):
            return None
        self._charge_slots(scope.instance)
        name = declared[slot].get("name") if _is_dict(declared[slot]) else None
        for item in _slots(scope.instance, "inputs"):
            if isinstance(name, str) and item.get("name") == name:
                if item.get("link") is not None:
                    return self._origin(scope.parent, item["link"], hops)
                values = _instance_widgets(scope.instance)
                return _Constant(values[name]) if name in values else None
        return None

    def _from_inner(self, inner: _Scope, slot: int, hops: int) -> Link | _Constant | None:
        declared = inner.definition.get("outputs")
        if not isinstance(declared, list) or not 0 <= slot < len(declared) or not _is_dict(declared[slot]):
            return None
        links = declared[slot].get("linkIds")
        for link in links if isinstance(links, list) else ():
            return self._origin(inner, link, hops)
        return None


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _mode(node: dict[str, Any]) -> Any:
    return node.get("mode", 0)


def _is_pass_through(kind: str) -> bool:
    return kind.lower().startswith("reroute") or kind in ("PrimitiveNode", "GetNode", "SetNode")


def _slots(node: dict[str, Any], side: str) -> list[dict[str, Any]]:
    slots = node.get(side)
    return [slot for slot in slots if isinstance(slot, dict)] if isinstance(slots, list) else []


def _first_slot(node: dict[str, Any]) -> dict[str, Any] | None:
    return next(iter(_slots(node, "inputs")), None)


def first_text(node: dict[str, Any]) -> str:
    """Return a UI node's first widget value; empty: it is no text."""
    values = node.get("widgets_values")
    return values[0] if isinstance(values, list) and values and isinstance(values[0], str) else ""


def _bypass_input(node: dict[str, Any], slot: int) -> dict[str, Any] | None:
    """Return the input that a bypassed node passes on: same place and type, else the first one of the type."""
    outputs, inputs = _slots(node, "outputs"), _slots(node, "inputs")
    kind = outputs[slot].get("type") if 0 <= slot < len(outputs) else None
    if 0 <= slot < len(inputs) and inputs[slot].get("type") == kind:
        return inputs[slot]
    return next((item for item in inputs if item.get("type") == kind), None)


def _links(value: Any) -> dict[str, tuple[str, int]]:
    """Return origin node and slot by link id. Links are lists at the top level, objects in subgraphs."""
    links: dict[str, tuple[str, int]] = {}
    for link in value if isinstance(value, list) else ():
        if isinstance(link, list) and len(link) >= 3:
            key, origin, slot = link[0], link[1], link[2]
        elif isinstance(link, dict):
            key, origin, slot = link.get("id"), link.get("origin_id"), link.get("origin_slot")
        else:
            continue
        if isinstance(slot, int) and slot >= 0:
            links[str(key)] = (str(origin), slot)
    return links


def _instance_widgets(instance: dict[str, Any]) -> dict[str, Any]:
    values = instance.get("widgets_values")
    names = widget_names(instance)
    if isinstance(values, dict):
        return values
    own = {name: value for key, name, value in shown_widgets(instance) if key == OWN_INPUTS}
    if own:
        return own
    return (
        dict(zip(names, values, strict=True))
        if isinstance(values, list) and len(names) == len(values)
        else {}
    )
