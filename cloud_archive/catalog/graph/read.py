"""Read one graph: prompt, models, seed and settings of the file that one of its output nodes wrote."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..graph_facts import GraphFacts
from .conditioning import PIPES, prompt_of
from .models import is_model_name, loras_of, main_models, node_models, service_models
from .nodes import MEDIA_FILE, MODEL_FILE, Graph, Node, TooComplexError
from .sampling import (
    NEGATIVE,
    POSITIVE,
    ancestors,
    is_generator,
    is_partial,
    is_sampler,
    nearest_source,
    part_names,
    sampler_chain,
    setting,
)
from .switches import value_of
from .texts import Text, text_of

_SHOWN_ONLY = re.compile(r"preview|show|display|note|compare|text$|debug|print|upload")
_WRITES = re.compile(r"save|combine|output|export|write")
_PROMPTS = (
    "prompt",
    "positive_prompt",
    "text_prompt",
    "prompt_text",
    "gpt_description_prompt",
    "instruction",
    "edit_instruction",
    "text_style_prompt",
    "texture_prompt",
    "text",
    "caption",
)
_TEXT_KEY = re.compile(
    r"text|prompt|string|positive|negative|caption|tags|lyrics|wildcard|t5xxl|clip_[gl]|value|content|description"
)
_NOT_TEXT = re.compile(
    r"_name$|filename|path|prefix|delimiter|separator|mode$|format$|type$|model$|normalization|interpretation"
)
_MEDIA_KEY = re.compile(r"image|video|audio|file|mask|mesh|model_file")
_MAX_TEXTS = 200
_MAX_OUTPUTS = 12
# See `Graph.steps_left`. Of 644 published workflows, the largest takes 368 steps, and 418 to find its models.
_MAX_STEPS = 1_500
_MAX_MODEL_STEPS = 4_000
_STEPS_PER_LORA = 8
_MAX_TEXT_CHARACTERS = 200_000


def read_graph(graph: Graph, *, output_node: str | None = None, file_name: str | None = None) -> GraphFacts:
    """Return what `graph` says about the file that one of its nodes wrote; outputs that disagree lower the confidence.

    Args:
        output_node: that node's id, if the job named it.
        file_name: without `output_node`, outputs whose prefix matches this name are preferred.
    """
    candidates, complete = _candidates(graph, output_node, file_name)
    facts = candidates[0] if candidates else GraphFacts(confidence="low")
    if not complete or any(_differ(facts, other) for other in candidates[1:]):
        facts = replace(facts, confidence="low")
    graph.steps_left = _MAX_MODEL_STEPS
    texts = tuple(_graph_texts(graph))
    return replace(facts, texts=texts, model_names=tuple(_graph_models(graph)))


def _candidates(
    graph: Graph, output_node: str | None, file_name: str | None
) -> tuple[list[GraphFacts], bool]:
    """Return what each possible output says, and whether all of them could be followed."""
    graph.steps_left = _MAX_STEPS
    known = graph.nodes.get(output_node) if output_node is not None else None
    candidates: list[GraphFacts] = []
    try:
        for start in [known] if known is not None else _outputs(graph, file_name):
            facts = _facts_of(graph, start)
            if facts is not None:
                candidates.append(facts)
    except TooComplexError:
        return candidates, False
    return candidates, True


def _outputs(graph: Graph, file_name: str | None) -> list[Node]:
    """Return up to _MAX_OUTPUTS nodes that may have written the file, in the graph's order."""
    writers = [node for node in graph.nodes.values() if _is_writer(node)]
    if file_name is not None and (
        matching := [node for node in writers if _matches_prefix(graph, node, file_name)]
    ):
        return matching[:_MAX_OUTPUTS]
    sinks = [node for node in graph.sinks() if any(True for _ in node.links()) or is_generator(node)]
    others = [node for node in sinks if not _SHOWN_ONLY.search(node.type.lower())] or sinks
    return (writers or others)[:_MAX_OUTPUTS]


def _is_writer(node: Node) -> bool:
    prefixed = "filename_prefix" in node.inputs or "save_prefix" in node.inputs
    return prefixed and bool(_WRITES.search(node.type.lower()) or is_sampler(node))


def _matches_prefix(graph: Graph, node: Node, file_name: str) -> bool:
    prefix = value_of(graph, node.inputs.get("filename_prefix", node.inputs.get("save_prefix")))
    if not isinstance(prefix, str):
        return False
    last = re.split(r"[\\/]", prefix)[-1]
    fixed = last.partition("%")[0]
    return bool(fixed) and file_name.startswith(fixed + ("_" if fixed == last else ""))


def _differ(one: GraphFacts, other: GraphFacts) -> bool:
    return (one.prompt, one.seed, one.models[:1]) != (other.prompt, other.seed, other.models[:1])


def _facts_of(graph: Graph, start: Node) -> GraphFacts | None:
    saves = bool(_WRITES.search(start.type.lower())) and not is_sampler(start)
    nearest = nearest_source(graph, start, include_start=not saves)
    if nearest is None:
        return None
    chain = sampler_chain(graph, nearest)
    active = list(ancestors(graph, [start]).values())
    upstream = list(reversed(active))
    first = chain[0]
    facts = _sampler_facts(graph, chain) if is_sampler(first) else _generator_facts(graph, first)
    main_names = main_models(graph, first) if is_sampler(first) else service_models(first)
    found = [model for node in upstream for model in node_models(graph, node)]
    by_kind = {kind: [name for other, name in found if other == kind] for kind in ("main", "vae", "clip")}
    models = _unique([*main_names, *by_kind["main"], *by_kind["vae"], *by_kind["clip"]])
    clear = bool(main_names) or not by_kind["main"] or len(set(by_kind["main"])) == 1
    return replace(
        facts,
        models=tuple(models),
        loras=tuple(loras_of(graph, upstream)),
        input_images=tuple(_unique(_media_of(active))),
        confidence="high" if facts.confidence == "high" and clear else "low",
    )


def _sampler_facts(graph: Graph, chain: list[Node]) -> GraphFacts:
    first, *refiners = chain
    positive, negative = _prompt(graph, first, False), _prompt(graph, first, True)
    certain = positive.certain and bool(positive.value)
    for refiner in refiners:
        other = _prompt(graph, refiner, False)
        if not positive.value and other.value:
            positive = other
        strength = setting(graph, refiner, "denoise")
        if other.value and other.value != positive.value and isinstance(strength, float) and strength > 0.7:
            certain = False
    if is_partial(graph, first) and "add_noise" in first.inputs:
        certain = False
    return GraphFacts(
        prompt=positive.value,
        negative_prompt=negative.value,
        seed=_seed(setting(graph, first, "seed")),
        sampler=_word(setting(graph, first, "sampler")),
        scheduler=_word(setting(graph, first, "scheduler")),
        steps=_whole(setting(graph, first, "steps")),
        cfg=_real(setting(graph, first, "cfg")),
        denoise=_real(setting(graph, first, "denoise")),
        confidence="high" if certain else "low",
    )


def _prompt(graph: Graph, sampler: Node, negative: bool) -> Text:
    guider = graph.target(sampler.inputs.get("guider"))
    for node in (sampler, guider):
        if node is None:
            continue
        names = {name.lower(): name for name in node.inputs}
        wanted = NEGATIVE if negative else (*POSITIVE, "cond1", "conditioning1")
        for name in wanted:
            if name in names:
                return _side(graph, name, node.inputs[names[name]], negative)
        for name, link in node.links():
            if PIPES.search(name.lower()):
                found = _side(graph, name.lower(), link, negative)
                if found.value is not None:
                    return found
        nested = graph.target(node.inputs.get("guider"))
        if node is guider and nested is not None:
            return prompt_of(graph, node.inputs["guider"], negative)
    return Text("") if negative else Text(None, certain=False)


def _side(graph: Graph, name: str, value: Any, negative: bool) -> Text:
    """Return the positive or the negative text of an input. A pipe with one text for both has no negative one."""
    text = prompt_of(graph, value, negative)
    if negative and text.value and PIPES.search(name) and text.value == prompt_of(graph, value, False).value:
        return Text(None)
    return text


def _generator_facts(graph: Graph, node: Node) -> GraphFacts:
    parts = [text_of(graph, node.inputs[name]) for name in part_names(node)]
    # Where the parts have texts, the one for all is not used.
    texts = [text for text in parts if text.value or not text.certain] or _whole_prompt(graph, node)
    known = _unique([text.value for text in texts if text.value])
    negative = (
        text_of(graph, node.inputs["negative_prompt"]) if "negative_prompt" in node.inputs else Text(None)
    )
    return GraphFacts(
        prompt="\n".join(known) if known else None,
        negative_prompt=negative.value,
        seed=_seed(setting(graph, node, "seed")),
        steps=_whole(setting(graph, node, "steps")),
        cfg=_real(setting(graph, node, "cfg")),
        confidence="high" if known and not node.guessed and all(text.certain for text in texts) else "low",
    )


def _whole_prompt(graph: Graph, node: Node) -> list[Text]:
    names = [name for name in _PROMPTS if name in node.inputs][:1]
    names += ["style"] if "style" in node.inputs and "lyrics" in node.inputs else []
    names += [name for name in ("tags", "lyrics") if name in node.inputs]
    return [text_of(graph, node.inputs[name]) for name in names]


def _media_of(nodes: Iterable[Node]) -> list[str]:
    return [
        value
        for node in nodes
        if "load" in node.type.lower() and not _WRITES.search(node.type.lower())
        for name, value in node.inputs.items()
        if isinstance(value, str) and _MEDIA_KEY.search(name.lower()) and MEDIA_FILE.search(value)
    ]


def _graph_texts(graph: Graph) -> list[str]:
    found: dict[str, None] = {}
    size = 0
    for node in graph.nodes.values():
        for name, value in node.inputs.items():
            if not isinstance(value, str) or not _reads_like_text(name.lower(), value):
                continue
            text = value.strip()
            if text in found:
                continue
            size += len(text)
            if size > _MAX_TEXT_CHARACTERS or len(found) >= _MAX_TEXTS:
                return list(found)
            found[text] = None
    return list(found)


def _reads_like_text(name: str, value: str) -> bool:
    text = value.strip()
    if (
        len(text) < 2
        or MODEL_FILE.search(text)
        or MEDIA_FILE.search(text)
        or text.startswith(("data:", "{", "["))
    ):
        return False
    if len(text) > 2000 and " " not in text[:2000]:
        return False
    wanted = bool(_TEXT_KEY.search(name)) and not _NOT_TEXT.search(name)
    return wanted or (text.count(" ") >= 3 and not _NOT_TEXT.search(name))


def _graph_models(graph: Graph) -> list[str]:
    found: list[str] = []
    with contextlib.suppress(TooComplexError):  # a graph that takes too long keeps what was found
        for node in graph.nodes.values():
            if not any(isinstance(value, str | dict | list) for value in node.inputs.values()):
                continue
            graph.charge(len(node.inputs))
            for value in node.inputs.values():
                listed = value.get("lora") if isinstance(value, dict) else value
                if isinstance(listed, str) and is_model_name(listed) and MODEL_FILE.search(listed):
                    found.append(listed)
            found.extend(name for _, name in node_models(graph, node))
            loras = loras_of(graph, [node])
            graph.charge(_STEPS_PER_LORA * len(loras))
            found.extend(lora.name for lora in loras)
            if is_generator(node):
                found.extend(service_models(node))
    return _unique(found)[:_MAX_TEXTS]


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _seed(value: Any) -> int | None:
    """Return the seed; None: `value` is no integer from 0 to 2^64 - 1. A negative one stands for "random"."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,20}", value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < 1 << 64 else None


def _whole(value: Any) -> int | None:
    number = _real(value)
    return int(number) if number is not None and 0 < number < 1_000_000 else None


def _real(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e9 else None


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) < 100 else None
