"""The models and LoRAs that take part in an output."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from ..graph_facts import Lora
from .conditioning import PIPES
from .nodes import MODEL_FILE, Graph, Link, Node
from .sampling import live_links
from .switches import value_of
from .texts import text_of

_MAIN = re.compile(
    r"^(base_)?(ckpt|checkpoint|unet|diffusion_model|transformer|gguf|model)(_?name|_?path|_?file)?(_?\d+)?$|"
    r"^(unet_name|ckpt_name|base_ckpt_name|refiner_ckpt_name|model_name|model_path|model_version|model_id)$"
)
_VAE = re.compile(r"^vae(_?name|_?path)?$")
_CLIP = re.compile(r"^(clip|text_encoder|t5|llm_?model|te)(_?name|_?path|_?model)?_?\d*$")
_OTHER_LOADER = re.compile(
    r"upscale|controlnet|control_net|ipadapter|clipvision|clip_vision|clip vision|style|sam\b|samloader|ultralytics"
    r"|detector|insight|clipseg"
    r"|face|rife|interpolat|vfi|gligen|photomaker|pulid|esrgan|caption|florence|tagger|depth|pose|preprocess|vision"
    r"|background|birefnet|motion|animatediff|patch|audio_?encoder|embedding|inpaint_?model|rmbg|segment"
)
_PLACEHOLDERS = (
    "",
    "none",
    "baked vae",
    "default",
    "automatic",
    "auto",
    "disabled",
    "pixel_space",
    ".none",
    ".use_ckpt_clip",
    ".use_ckpt_vae",
    "undefined",
    "null",
)
_TAG = re.compile(r"<(?:lora|lyco):([^:<>]{1,200})(?::(-?[\d.]+))?[^<>]{0,60}>", re.IGNORECASE)
_MAX_TAGGED_CHARACTERS = 100_000
_MODEL_INPUTS = ("ckpt_name", "model", "opt_model")
_IGNORING_TAGS = ("efficient loader", "eff. loader sdxl")  # loaders for which such a tag is only text
# Inputs that may link to a text with such tags.
_TAGGED_INPUTS = ("text", "prompt", "populated_text", "lora_syntax", "tags")
_SERVICE_MODEL = re.compile(r"^(model|model_name|model_version|model_id)$")


def is_model_name(value: Any) -> bool:
    """Return whether `value` may name a model: a string below 300 characters, and no placeholder such as `none`."""
    return isinstance(value, str) and value.strip().lower() not in _PLACEHOLDERS and len(value) < 300


def main_models(graph: Graph, sampler: Node) -> list[str]:
    """Return the checkpoints or diffusion models behind a sampler, nearest first; more than one where models merge."""
    found: list[str] = []
    queue = deque([sampler])
    seen: set[str] = set()
    while queue and len(seen) < 500:
        node = queue.popleft()
        if node.id in seen:
            continue
        seen.add(node.id)
        own = [name for kind, name in node_models(graph, node) if kind == "main"]
        if own and node is not sampler:
            found.extend(name for name in own if name not in found)
            continue
        if own:
            found.extend(own)
        for key, link in live_links(graph, node):
            lower = key.lower()
            only = node is not sampler and len(node.inputs) == 1
            if only or lower.startswith(("model", "unet", "guider", "base_model")) or PIPES.search(lower):
                target = graph.target(link)
                if target is not None:
                    queue.append(target)
    return found


def node_models(graph: Graph, node: Node) -> list[tuple[str, str]]:
    """Return the models that a node loads, as (kind, name): `main`, `vae`, `clip` or `other`."""
    found = []
    kind = _kind(node)
    other = bool(_OTHER_LOADER.search(kind))
    for key, raw in node.inputs.items():
        lower = key.lower()
        if "lora" in lower:
            continue
        value = (
            value_of(graph, raw, wanted=(lower,))
            if isinstance(raw, Link) and lower.endswith("_name")
            else raw
        )
        if not isinstance(value, str) or not is_model_name(value):
            continue
        is_file = bool(MODEL_FILE.search(value))
        if _VAE.match(lower) and (is_file or lower == "vae_name"):
            found.append(("vae", value))
        elif _CLIP.match(lower) and is_file and not other:
            found.append(("clip", value))
        elif _MAIN.match(lower) and not other and "lora" not in kind and (is_file or _is_loader(kind, lower)):
            is_vae = "vae" in kind and "model" in lower
            found.append(("vae" if is_vae else "clip" if "textencode" in kind else "main", value))
        elif is_file and "lora" not in kind:
            found.append(("other", value))
    return found


def _kind(node: Node) -> str:
    """Return the node's type in lower case, without a "lora" that only names its pack."""
    return node.type.lower().removesuffix("(loramanager)")


def _is_loader(kind: str, key: str) -> bool:
    return key in ("ckpt_name", "unet_name", "base_ckpt_name") or (
        "load" in kind and key in ("model", "model_name", "model_path")
    )


def service_models(node: Node) -> list[str]:
    """Return the models that a node of an online service names, such as `gpt-image-1`."""
    return [
        value
        for key, value in node.inputs.items()
        if _SERVICE_MODEL.match(key.lower())
        and isinstance(value, str)
        and is_model_name(value)
        and len(value) < 80
    ]


def loras_of(graph: Graph, nodes: Iterable[Node]) -> list[Lora]:
    """Return the LoRAs that are switched on and have another strength than 0, each once, in the order of `nodes`."""
    found: dict[str, Lora] = {}
    for node in nodes:
        for lora in _node_loras(graph, node):
            if is_model_name(lora.name) and lora.strength != 0:
                found.setdefault(lora.name, lora)
    return list(found.values())


def _node_loras(graph: Graph, node: Node) -> list[Lora]:
    kind = _kind(node)
    found: list[Lora] = []
    if _is_off(node.inputs.get("toggle")):
        return found
    listed = node.inputs.get("loras")
    if isinstance(listed, list):
        return [
            Lora(item["name"], _as_float(item.get("strength")))
            for item in listed
            if isinstance(item, dict)
            and isinstance(item.get("name"), str)
            and not _is_off(item.get("active", True))
        ]
    limit = node.inputs.get("lora_count", node.inputs.get("num_loras"))
    for key, raw in node.inputs.items():
        if isinstance(raw, dict) and isinstance(raw.get("lora"), str):
            if not _is_off(raw.get("on", True)):
                found.append(Lora(raw["lora"], _as_float(raw.get("strength"))))
            continue
        number = _lora_number(key.lower(), kind)
        if number is None:
            continue
        value = value_of(graph, raw, wanted=(key.lower(),)) if isinstance(raw, Link) else raw
        beyond = bool(number) and isinstance(limit, int) and int(number) > limit
        if isinstance(value, str) and not beyond and not _is_switched_off(node, number):
            found.append(Lora(value, _strength(graph, node, number)))
    # A node with a model may load the LoRAs that its prompt names.
    has_model = not node.inputs.keys().isdisjoint(_MODEL_INPUTS) and kind not in _IGNORING_TAGS
    if "lora" in kind or "wildcard" in kind or has_model:
        found.extend(_tagged(graph, node))
    return found


def _lora_number(key: str, kind: str) -> str | None:
    """Return the number in a LoRA input's name; empty: it has none; None: it is no such input."""
    match = re.match(r"^lora(?:_?name)?(?:_0*(\d{1,9}))?(?:_name)?$", key)
    if match:
        return match.group(1) or ""
    return "" if "lora" in kind and key in ("model_name", "name") else None


def _is_switched_off(node: Node, number: str) -> bool:
    names = (
        (f"switch_{number}", f"enabled_{number}", f"on_{number}", f"lora_{number}_on")
        if number
        else ("enabled",)
    )
    return any(_is_off(node.inputs.get(name, True)) for name in names)


def _strength(graph: Graph, node: Node, number: str) -> float | None:
    if number:
        advanced = str(node.inputs.get("input_mode", node.inputs.get("mode", ""))).lower() == "advanced"
        simple = [f"lora_wt_{number}", f"lora_{number}_strength", f"strength_{number}", f"strength_0{number}"]
        exact = [f"model_str_{number}", f"model_weight_{number}", f"lora_{number}_model_strength"]
        names = [*exact, *simple] if advanced else [*simple, *exact]
        names.extend((f"strength_model_{number}", f"weight_{number}", f"lora_strength_{number}"))
    else:
        names = [
            "strength_model",
            "strength",
            "lora_model_strength",
            "model_strength",
            "lora_strength",
            "weight",
        ]
    for name in names:
        if name in node.inputs:
            return _as_float(value_of(graph, node.inputs[name]))
    return None


def _tagged(graph: Graph, node: Node) -> list[Lora]:
    texts = [value for value in node.inputs.values() if isinstance(value, str)]
    # A loader's `positive` is a text, a sampler's is conditioning, for which no tag was loaded.
    linked = (*_TAGGED_INPUTS, "positive") if "ckpt_name" in node.inputs else _TAGGED_INPUTS
    links = [node.inputs[name] for name in linked if name in node.inputs]
    texts += [text_of(graph, link).value or "" for link in links if isinstance(link, Link)]
    return [lora for text in texts for lora in _tags_in(text[:_MAX_TAGGED_CHARACTERS])]


def tagged_loras(text: str) -> list[Lora]:
    """Return the LoRAs that a text names in tags such as `<lora:name:0.8>`, each once."""
    return list({lora.name: lora for lora in _tags_in(text)}.values())


def _tags_in(text: str) -> Iterator[Lora]:
    for match in _TAG.finditer(text):
        yield Lora(match.group(1), _as_float(match.group(2)) if match.group(2) else 1.0)


def _is_off(value: Any) -> bool:
    return value is False or (
        isinstance(value, str) and value.lower() in ("off", "false", "disable", "disabled")
    )


def _as_float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 1e6 else None
