"""A graph as ComfyUI runs it: nodes with named inputs, each a value or a link to another node's output."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_NODES = 1500
MAX_NAME_CHARACTERS = 200  # of a type or an input; regular expressions search each
_INPUTS_PER_STEP = 8  # reading so many inputs takes about as long as following one link
MODEL_FILE = re.compile(r"\.(safetensors|sft|ckpt|pt|pth|gguf|bin|onnx|engine)$", re.IGNORECASE)
MEDIA_FILE = re.compile(
    r"\.(png|jpe?g|webp|gif|bmp|tiff?|avif|exr|mp4|mov|webm|mkv|avi|wav|mp3|flac|ogg|opus|m4a|glb|gltf|obj|fbx|ply|stl)"
    r"(\s*\[(input|output|temp)\])?$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Link:
    """A reference to one output of a node."""

    node: str
    slot: int


@dataclass(frozen=True)
class Node:
    """One node. `inputs`: plain values and links, by name; `guessed`: some of the names were guessed."""

    id: str
    type: str
    inputs: dict[str, Any]
    guessed: bool = False

    def links(self) -> Iterator[tuple[str, Link]]:
        for name, value in self.inputs.items():
            if isinstance(value, Link):
                yield name, value


class TooComplexError(ValueError):
    """Following the links of this graph takes more steps than any graph that people work with."""


@dataclass
class Graph:
    """Nodes by id. Set `steps_left` before following links: each takes one step or more."""

    nodes: dict[str, Node] = field(default_factory=dict)
    steps_left: int = 0

    def target(self, value: Any) -> Node | None:
        """Return the node that a link points to; None for anything else. TooComplexError: no steps are left."""
        if not isinstance(value, Link):
            return None
        node = self.nodes.get(value.node)
        self.charge(1 + (len(node.inputs) // _INPUTS_PER_STEP if node is not None else 0))
        return node

    def charge(self, steps: int) -> None:
        """Count steps. TooComplexError: too few are left."""
        self.steps_left -= steps
        if self.steps_left < 0:
            raise TooComplexError("this graph takes too long to follow")

    def sinks(self) -> list[Node]:
        """Return the nodes that nothing reads from."""
        used = {link.node for node in self.nodes.values() for _, link in node.links()}
        return [node for node in self.nodes.values() if node.id not in used]


def is_api_graph(value: Any) -> bool:
    """Return whether `value` looks like a graph in ComfyUI's API format, of at most MAX_NODES nodes."""
    return (
        isinstance(value, dict)
        and 0 < len(value) <= MAX_NODES
        and any(isinstance(node, dict) and isinstance(node.get("class_type"), str) for node in value.values())
    )


def parse_api_graph(value: dict[str, Any]) -> Graph:
    """Return the graph of `value`, which is in API format, without entries that are no nodes."""
    known = {
        str(key): node
        for key, node in value.items()
        if isinstance(node, dict) and isinstance(node.get("class_type"), str)
    }
    graph = Graph()
    for key, node in known.items():
        raw = node.get("inputs")
        inputs = {
            str(name): _input(item, known) for name, item in (raw.items() if isinstance(raw, dict) else ())
        }
        graph.nodes[key] = Node(key, node["class_type"][:MAX_NAME_CHARACTERS], with_short_names(inputs))
    return graph


def with_short_names(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return `inputs` with `model.prompt` also as `prompt`, if no other input has that name or ends in it.

    Inputs with names of more than MAX_NAME_CHARACTERS are left out.
    """
    inputs = {name: value for name, value in inputs.items() if len(name) <= MAX_NAME_CHARACTERS}
    last_parts = Counter(name.rpartition(".")[2] for name in inputs)
    short = {last: inputs[name] for name in inputs if last_parts[last := name.rpartition(".")[2]] == 1}
    return {**short, **inputs}


def _input(value: Any, known: dict[str, Any]) -> Any:
    if isinstance(value, dict) and set(value) == {"__value__"}:
        return value["__value__"]
    if isinstance(value, list) and len(value) == 2:
        node, slot = value
        is_slot = isinstance(slot, int) and not isinstance(slot, bool) and slot >= 0
        if is_slot and isinstance(node, str | int) and str(node) in known:
            return Link(str(node), slot)
    return value
