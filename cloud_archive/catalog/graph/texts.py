"""Follow a prompt to its words: text nodes, concatenation, replacement, wildcards, styles and switches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .nodes import MODEL_FILE, Graph, Link, Node
from .switches import live_inputs

_MAX_DEPTH = 32
_MAX_CHARACTERS = 10_000
_JOINS = re.compile(r"concat|join|combine|merge|append|prepend|add text|textadd")
_REPLACES = re.compile(r"replace")
# Nodes that hold a text or pass it on as it is.
_KEEPS_TEXT = re.compile(
    r"text|string|prompt|literal|primitive|multiline|note|value|input|show|preview|display|reroute|any|pipe|positive"
    r"|negative|cast|convert|box|trim|dynamic"
)
# A picture, a sound or chance makes the text of these nodes at run time; their widgets don't say what it is about.
_DESCRIBES = re.compile(
    r"florence|blip|tagger|caption|interrogat|describe|joy|moondream|img2txt|image2text|imagetotext|image to text"
    r"|whisper|speech to text|speechtotext|randomprompt|random prompt"
)
# A model writes the text of these nodes at run time, from an instruction.
_GENERATES = re.compile(
    r"ollama|llm|llava|\bgpt|gpt\b|openaichat|gemini|claude|openrouter|chat|qwen_?vl|qwenvl|vlm|\bvl\b|enhanc"
    r"|prompt_?gen|promptgen|textgenerate|text generate|magicprompt|superprompt|minicpm|translate"
)
# Nodes that show a text and pass it on. Their own texts may be those of an earlier run.
_SHOWS = re.compile(r"show|preview|display")
_INSTRUCTIONS = (
    "prompt",
    "user_prompt",
    "text",
    "instruction",
    "query",
    "string",
    "input_text",
    "text_input",
)
# Nodes that change the text in a way that is not worked out here.
_COMPUTES = re.compile(
    r"regex|format|extract|json|split|slice|substring|math|(?<!multi)line|list|csv|file|random|python|eval"
)
_STYLES = re.compile(r"styler|styles? selector|prompt ?styl|stylesselector")
_STYLED_POSITIVE = ("text_positive_g", "text_positive_l", "text_positive_g")
_NO_STYLE = ("", "none", "base", "no style", "sai-none", "default", "no_style")
_DYNAMIC = re.compile(r"__[\w\-/*. ]+__|\{[^{}|]*\|[^{}]*\}")
_TEXT_NAMES = (
    "populated_text",
    "text",
    "prompt",
    "string",
    "value",
    "positive_prompt",
    "positive",
    "text_positive",
    "positive_text",
    "text_1",
    "text1",
    "wildcard_text",
    "str",
    "input",
    "content",
    "source",
    "anything",
    "any",
    "text_input",
    "input_string",
    "string_input",
    "multiline_text",
    "user_prompt",
    "text_0",
    "text2",
    "negative",
    "negative_prompt",
)
_JOIN_ORDER = re.compile(r"^(?:text|string|prompt|str|input|conditioning|any|value)[_ ]?([a-z]|\d{1,9})$")
_REPLACEMENTS = (("find", "replace"), ("old", "new"), *((f"find{n}", f"replace{n}") for n in range(1, 10)))
_SEPARATORS = ("delimiter", "separator", "join_string", "sep", "linebreak", "linebreak_addition")


@dataclass(frozen=True)
class Text:
    """A resolved text; `value` None: unknown; `certain` False: a part of it was guessed or is missing."""

    value: str | None
    certain: bool = True


UNKNOWN = Text(None, certain=False)


def text_of(graph: Graph, value: Any, depth: int = 0) -> Text:
    """Return the words behind `value`, which is a text or a link to a node that makes one."""
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return Text(value[0])
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Text(str(value))
    node = graph.target(value)
    if node is None or depth > _MAX_DEPTH:
        return UNKNOWN
    return _node_text(graph, node, value.slot, depth + 1)


def _node_text(graph: Graph, node: Node, slot: int, depth: int) -> Text:
    live = live_inputs(graph, node)
    if live is not None:
        found = [text_of(graph, node.inputs[name], depth) for name in live.names]
        known = next((text for text in found if text.value is not None), UNKNOWN)
        return Text(known.value, known.certain and live.certain)
    kind = node.type.lower()
    if _is_populated(node):
        return _populated(graph, node, depth)
    if _DESCRIBES.search(kind):
        return UNKNOWN
    names = {name.lower(): name for name in node.inputs}
    if _GENERATES.search(kind):
        return _instruction(graph, node, names, depth)
    if _STYLES.search(kind):
        return _styled(graph, node, names, slot, depth)
    if _REPLACES.search(kind) and "regex" not in kind:
        return _replaced(graph, node, names, slot, depth)
    parts = _join_parts(node)
    if len(parts) > 1 and (_JOINS.search(kind) or any(name in names for name in _SEPARATORS)):
        return _joined(graph, node, names, parts, depth)
    if "trim" in kind:
        text = _single(graph, node, names, slot, depth)
        return Text(text.value.strip() if text.value is not None else None, text.certain)
    if "case" in kind:
        return _recased(graph, node, names, slot, depth)
    text = _single(graph, node, names, slot, depth)
    certain = text.certain and bool(_KEEPS_TEXT.search(kind)) and not _COMPUTES.search(kind)
    return Text(text.value, certain)


def _single(graph: Graph, node: Node, names: dict[str, str], slot: int, depth: int) -> Text:
    if "positive" in names and "negative" in names:
        return text_of(graph, node.inputs[names["negative" if slot == 1 else "positive"]], depth)
    links = [link for _, link in node.links()]
    if len(links) == 1 and _SHOWS.search(node.type.lower()):
        return text_of(graph, links[0], depth)
    for wanted in _TEXT_NAMES:
        value = node.inputs.get(names.get(wanted, ""))
        if isinstance(value, str | Link):
            text = text_of(graph, value, depth)
            dynamic = (
                text.value is not None and "wildcard" in node.type.lower() and _DYNAMIC.search(text.value)
            )
            return Text(text.value, text.certain and not dynamic)
    words = [value for value in node.inputs.values() if isinstance(value, str) and _is_prose(value)]
    if len(words) == 1 and not links:
        return Text(words[0], certain=False)
    if len(links) == 1 and not words:
        return Text(text_of(graph, links[0], depth).value, certain=False)
    return UNKNOWN


def _instruction(graph: Graph, node: Node, names: dict[str, str], depth: int) -> Text:
    """Return what a language model was asked to write: the closest to its answer that the graph holds."""
    for wanted in _INSTRUCTIONS:
        text = text_of(graph, node.inputs.get(names.get(wanted, "")), depth)
        if text.value and text.value.strip():
            return Text(text.value, certain=False)
    return UNKNOWN


def _is_prose(text: str) -> bool:
    return " " in text.strip() and not MODEL_FILE.search(text)


def _is_populated(node: Node) -> bool:
    return "populated_text" in node.inputs


def _populated(graph: Graph, node: Node, depth: int) -> Text:
    """Return the text of Impact's wildcard nodes: the one that was used, else its template."""
    text = text_of(graph, node.inputs["populated_text"], depth)
    if text.value:
        return text
    template = text_of(graph, node.inputs.get("wildcard_text", ""), depth)
    return Text(template.value, template.certain and not _DYNAMIC.search(template.value or ""))


def _styled(graph: Graph, node: Node, names: dict[str, str], slot: int, depth: int) -> Text:
    if "text_positive_g" in names:
        # SDXLPromptStylerAdvanced has three outputs for each side: for CLIP-G, for CLIP-L, and for both.
        wanted: tuple[str, ...] = ("text_negative",) if slot > 2 else (_STYLED_POSITIVE[slot],)
    elif slot == 1:
        wanted = ("text_negative", "negative_prompt", "negative")
    else:
        wanted = ("text_positive", "positive_prompt", "positive", "prompt", "text")
    name = next((names[name] for name in wanted if name in names), None)
    if name is None:
        return UNKNOWN  # the text comes from the style alone
    text = text_of(graph, node.inputs[name], depth)
    styles = [str(value).strip().lower() for key, value in node.inputs.items() if "style" in key.lower()]
    unstyled = bool(styles) and all(style in _NO_STYLE for style in styles)
    return Text(text.value, text.certain and unstyled)


def _replaced(graph: Graph, node: Node, names: dict[str, str], slot: int, depth: int) -> Text:
    text = _single(graph, node, names, slot, depth)
    pairs = [(names[old], names[new]) for old, new in _REPLACEMENTS if old in names and new in names]
    changed, certain = text.value, text.certain and bool(pairs)
    for find, replacement in pairs:
        old = text_of(graph, node.inputs[find], depth)
        new = text_of(graph, node.inputs[replacement], depth)
        if changed is None or old.value is None or new.value is None:
            return Text(text.value, certain=False)
        if old.value:
            # More replacements would only change what is cut off.
            count = _MAX_CHARACTERS // len(new.value) + 1 if new.value else -1
            changed = changed.replace(old.value, new.value, count)[:_MAX_CHARACTERS]
        certain = certain and old.certain and new.certain
    return Text(changed, certain)


def _recased(graph: Graph, node: Node, names: dict[str, str], slot: int, depth: int) -> Text:
    text = _single(graph, node, names, slot, depth)
    change = {
        "uppercase": str.upper,
        "lowercase": str.lower,
        "capitalize": str.capitalize,
        "title case": str.title,
    }
    mode = change.get(str(node.inputs.get(names.get("mode", ""), "")).lower())
    if text.value is None or mode is None:
        return Text(text.value, certain=False)
    return Text(mode(text.value), text.certain)


def _join_parts(node: Node) -> list[str]:
    found = []
    for name in node.inputs:
        match = _JOIN_ORDER.match(name.lower())
        if match and name.lower() not in _SEPARATORS:
            key = match.group(1)
            found.append(((0, int(key)) if key.isdigit() else (1, ord(key)), name))
    if not found:
        return [
            name
            for name in ("text", "prompt", "prepend", "append", "prefix", "suffix")
            if name in node.inputs
        ]
    return [name for _, name in sorted(found)]


def _joined(graph: Graph, node: Node, names: dict[str, str], parts: list[str], depth: int) -> Text:
    separator = next((node.inputs[names[name]] for name in _SEPARATORS if name in names), None)
    if isinstance(separator, Link):
        separator = text_of(graph, separator, depth).value
    glue = separator if isinstance(separator, str) else ("" if "string_a" in names else ", ")
    if "linebreak_addition" in names:
        glue = "\n" if glue == "true" else ""
    glue = glue.replace("\\n", "\n").replace("\\t", "\t")
    texts = [text_of(graph, node.inputs[name], depth) for name in parts]
    known = [text.value for text in texts if text.value]
    certain = all(text.certain for text in texts)
    if not known:
        return Text("" if certain else None, certain)
    joined = known[0][:_MAX_CHARACTERS]
    for part in known[1:]:  # cut off each time: all together may take gigabytes
        joined = f"{joined}{glue}{part}"[:_MAX_CHARACTERS]
    return Text(joined, certain)
