"""Follow conditioning from a sampler to the texts that were encoded."""

from __future__ import annotations

import re
from typing import Any

from .nodes import Graph, Link, Node
from .switches import live_inputs, value_of
from .texts import UNKNOWN, Text, text_of

_MAX_DEPTH = 48
# Names of inputs that carry several values at once, such as model, prompts and seed.
PIPES = re.compile(r"pipe|context|ctx|(^|_)bus$|tuple|embeds|script|settings|config|params")
_ROUTES = re.compile(r"reroute|any|get|set|relay|bridge")
# Inputs of nodes with a positive and a negative side, best first; _ENCODED: text inputs of other encoders.
_POSITIVE = (
    "positive",
    "positive_prompt",
    "text_positive",
    "positive_text",
    "prompt_positive",
    "pos",
    "positive_g",
    "original_text_embeds",
)
_NEGATIVE = (
    "negative",
    "negative_prompt",
    "text_negative",
    "negative_text",
    "prompt_negative",
    "neg",
    "negative_g",
    "nag_text_embeds",
)
_ENCODED = (
    "populated_text",
    "text",
    "prompt",
    "user_prompt",
    "t5xxl",
    "text_g",
    "text_l",
    "clip_g",
    "clip_l",
    "llama",
    "mt5xl",
    "bert",
    "prompt_text",
    "text_prompt",
    "tags",
    "lyrics",
    "caption",
    "string",
    "wildcard_text",
)


def prompt_of(graph: Graph, value: Any, negative: bool, depth: int = 0) -> Text:
    """Return the text behind `value`: conditioning, a pipe that holds it, or the text itself."""
    if isinstance(value, str):
        return Text(value)
    node = graph.target(value)
    if node is None or depth > _MAX_DEPTH:
        return UNKNOWN
    return _node_prompt(graph, node, value.slot, negative, depth + 1)


def _node_prompt(graph: Graph, node: Node, slot: int, negative: bool, depth: int) -> Text:
    live = live_inputs(graph, node)
    if live is not None:
        found = [prompt_of(graph, node.inputs[name], negative, depth) for name in live.names]
        known = next((text for text in found if text.value is not None), UNKNOWN)
        return Text(known.value, known.certain and live.certain)
    kind = node.type.lower()
    if "zeroout" in kind or "zero out" in kind:
        return Text("")
    names = {name.lower(): name for name in node.inputs}
    both = _by_polarity(graph, node, names, negative, depth)
    if both is not None:
        return both
    chained = [name for name in node.inputs if _is_conditioning(name) and isinstance(node.inputs[name], Link)]
    if chained:
        return _combined(graph, node, chained, negative, depth)
    encoded = _encoded(graph, node, names, depth)
    if encoded is not None:
        return encoded
    for name, link in node.links():
        if PIPES.search(name.lower()):
            return prompt_of(graph, link, negative, depth)
    return _passed_on(graph, node, slot=slot, negative=negative, depth=depth)


def _by_polarity(graph: Graph, node: Node, names: dict[str, str], negative: bool, depth: int) -> Text | None:
    """Return the text of a node with a positive or a negative side; None: another of its inputs may hold it."""
    positive_input = _side_input(names, _POSITIVE, "_positive")
    negative_input = _side_input(names, _NEGATIVE, "_negative")
    if positive_input is None and negative_input is None:
        return None
    if positive_input is None:
        positive_input = next((names[name] for name in _ENCODED if name in names), None)
    chosen = negative_input if negative else positive_input
    if chosen is None and len(names) > 1 and any(PIPES.search(name) for name in names):
        return None
    if chosen is None:
        # The only text of a one-sided node ("easy positive") counts on whichever side the node is linked.
        chosen = positive_input or negative_input
    value = node.inputs[chosen] if chosen else None
    if not isinstance(value, str | Link):
        return None
    # NAG takes the positive side of what is linked there.
    text = prompt_of(graph, value, negative and chosen != "nag_text_embeds", depth)
    return text if text.value is not None else Text(None, certain=False)


def _side_input(names: dict[str, str], known: tuple[str, ...], ending: str) -> str | None:
    """Return the input of one side: the first of the `known` names, else one such as `linguistic_positive`."""
    found = next((names[name] for name in known if name in names), None)
    return found or next((names[name] for name in names if name.endswith(ending)), None)


def _is_conditioning(name: str) -> bool:
    lower = name.lower()
    return (
        lower.startswith(("conditioning", "cond"))
        and "control" not in lower
        and not lower.startswith("conditional")
    )


def _combined(graph: Graph, node: Node, names: list[str], negative: bool, depth: int) -> Text:
    if "average" in node.type.lower() and {"conditioning_to", "conditioning_from"} <= set(names):
        share = value_of(graph, node.inputs.get("conditioning_to_strength"))
        if share in (0, 1):
            names = ["conditioning_to" if share else "conditioning_from"]
    texts = [prompt_of(graph, node.inputs[name], negative, depth) for name in names]
    return _together(texts, ", ")


def _encoded(graph: Graph, node: Node, names: dict[str, str], depth: int) -> Text | None:
    texts = []
    for wanted in _ENCODED:
        value = node.inputs.get(names.get(wanted, ""))
        if isinstance(value, str | Link):
            texts.append(text_of(graph, value, depth))
            if wanted == "populated_text" and texts[-1].value:
                break
    if not texts:
        return None
    found = _together(texts, "\n")
    return Text(found.value, found.certain and not node.guessed)


def _together(texts: list[Text], glue: str) -> Text:
    known: list[str] = []
    for text in texts:
        if text.value and text.value.strip() and not any(text.value in other for other in known):
            known = [other for other in known if other not in text.value]
            known.append(text.value)
    certain = all(text.certain for text in texts)
    if not known:
        return Text("" if any(text.value is not None for text in texts) else None, certain)
    return Text(glue.join(known), certain)


def _passed_on(graph: Graph, node: Node, *, slot: int, negative: bool, depth: int) -> Text:
    """Follow the only link of an unknown node."""
    links = [
        (name, link) for name, link in node.links() if name.lower() not in ("clip", "vae", "model", "image")
    ]
    if len(links) != 1:
        return text_of(graph, Link(node.id, slot)) if not links and node.inputs else UNKNOWN
    text = prompt_of(graph, links[0][1], negative, depth)
    return Text(text.value, text.certain and bool(_ROUTES.search(node.type.lower())))
