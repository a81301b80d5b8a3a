"""Find the input that a switch node passes on, and the plain value behind a link."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from string import digits
from typing import Any

from .nodes import Graph, Link, Node

# The inputs of switches with two choices: the one for true, the one for false.
_PAIRS = (
    ("on_true", "on_false"),
    ("true_value", "false_value"),
    ("value_true", "value_false"),
    ("tt_value", "ff_value"),
    ("if_true", "if_false"),
    ("text_a", "text_b"),
    ("image_a", "image_b"),
    ("model_a", "model_b"),
    ("conditioning_a", "conditioning_b"),
    ("latent_a", "latent_b"),
    ("a", "b"),
)
_BOOLEAN_SELECTORS = (
    "switch",
    "boolean",
    "boolean_number",
    "condition",
    "cond",
    "bool",
    "value",
    "use_a",
    "input",
)
_NUMBER_SELECTORS = (
    "select",
    "index",
    "selected",
    "selection",
    "selector",
    "input",
    "switch",
    "choice",
    "num",
)
_SWITCH = re.compile(r"switch|select|index|choose|choice|conditional|ifelse|if else|mux|router|\bif\b")
_VALUE_NAMES = (
    "value",
    "int",
    "integer",
    "float",
    "number",
    "boolean",
    "bool",
    "a",
    "select",
)
_COMPUTED = re.compile(
    r"math|expression|random|calc|compare|invert|not\b|logic|size|count|length|eval|convert"
)
_MAX_HOPS = 24
_MAX_DIGITS = 9


@dataclass(frozen=True)
class LiveInputs:
    """The inputs that a switch passes on.

    Attributes:
        names: empty if nothing is connected to the selected input.
        certain: False if the graph does not show the selection; then `names` holds all inputs that may be selected.
    """

    names: tuple[str, ...]
    certain: bool = True


def value_of(graph: Graph, value: Any, hops: int = 0, *, wanted: tuple[str, ...] = ()) -> Any:
    """Return `value`, or the plain value that it links to; None: the graph does not show it.

    Args:
        wanted: names of the input to take where one node holds several values, such as seed and steps.
    """
    if not isinstance(value, Link):
        return value
    node = graph.target(value)
    if node is None or hops > _MAX_HOPS:
        return None
    live = live_inputs(graph, node, hops + 1)
    if live is not None:
        if not (live.certain and live.names):
            return None
        return value_of(graph, node.inputs[live.names[0]], hops + 1, wanted=wanted)
    if _COMPUTED.search(node.type.lower()) and "number" not in node.type.lower():
        return None
    names = {name.lower(): name for name in node.inputs}
    for name in (*wanted, *_VALUE_NAMES):
        if name in names:
            return value_of(graph, node.inputs[names[name]], hops + 1, wanted=wanted)
    others = list(node.inputs.values())
    if len(others) == 1 and (
        isinstance(others[0], Link | int | float | bool) or "string" in node.type.lower()
    ):
        return value_of(graph, others[0], hops + 1, wanted=wanted)
    return None


def live_inputs(graph: Graph, node: Node, hops: int = 0) -> LiveInputs | None:
    """Return the inputs that a switch passes on; None: the node is no switch of a known kind."""
    names = {name.lower(): name for name in node.inputs}
    kind = node.type.lower()
    for yes, no in _PAIRS:
        if yes in names or no in names:
            selector = next((names[name] for name in _BOOLEAN_SELECTORS if name in names), None)
            if selector is None or (len(yes) == 1 and not _SWITCH.search(kind)):
                continue
            return _by_boolean(graph, names.get(yes), names.get(no), node.inputs[selector], hops)
    if not _SWITCH.search(kind) and not kind.startswith(("any ", "context switch")):
        return None
    choices = _numbered(node)
    if not choices:
        return None
    selector = next(
        (names[name] for name in _NUMBER_SELECTORS if name in names and names[name] not in choices.values()),
        None,
    )
    if selector is not None:
        return _by_number(graph, choices, node.inputs[selector], hops)
    if "switch" in kind and all(isinstance(node.inputs[name], Link) for name in choices.values()):
        # rgthree's switches pass on the first connected input. The graph holds only connected ones.
        return LiveInputs((choices[min(choices)],))
    return None


def _by_boolean(graph: Graph, yes: str | None, no: str | None, selector: Any, hops: int) -> LiveInputs:
    chosen = value_of(graph, selector, hops + 1)
    if isinstance(chosen, str):
        chosen = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}.get(
            chosen.lower()
        )
    if isinstance(chosen, bool | int | float):
        name = yes if chosen else no
        return LiveInputs((name,) if name else ())
    return LiveInputs(tuple(name for name in (yes, no) if name), certain=False)


def _by_number(graph: Graph, choices: dict[int, str], selector: Any, hops: int) -> LiveInputs:
    chosen = value_of(graph, selector, hops + 1)
    if isinstance(chosen, str) and (match := re.search(r"(?<!\d)(\d{1,9})\s*$", chosen)):
        chosen = int(match.group(1))
    if isinstance(chosen, int) or (isinstance(chosen, float) and math.isfinite(chosen)):
        name = choices.get(int(chosen))
        return LiveInputs((name,) if name else ())
    return LiveInputs(tuple(choices.values()), certain=len(choices) == 1)


def _numbered(node: Node) -> dict[int, str]:
    """Return the largest group of numbered inputs, such as `input1` and `input2`, by number."""
    groups: dict[str, dict[int, str]] = {}
    for name in node.inputs:
        stem = name.rstrip(digits)
        number = name[len(stem) :]
        if number and len(number.lstrip("0")) <= _MAX_DIGITS:
            groups.setdefault(stem.removesuffix("_"), {})[int(number)] = name
    return max(groups.values(), key=len) if groups else {}
