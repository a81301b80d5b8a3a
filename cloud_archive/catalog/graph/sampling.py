"""Find the node that made the output, and its settings."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import Any

from .conditioning import PIPES
from .nodes import Graph, Link, Node
from .switches import live_inputs, value_of

POSITIVE = (
    "positive",
    "positive_cond",
    "positive_conditioning",
    "conditioning",
    "text_embeds",
    "hyvid_embeds",
    "cond",
)
NEGATIVE = (
    "negative",
    "negative_cond",
    "negative_conditioning",
    "neg_conditioning",
    "text_embeds",
    "hyvid_embeds",
)
_SETTINGS = (
    *("seed", "noise_seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    *("sigmas", "sampler", "noise", "start_at_step", "start_step"),
)
_LATENTS = (
    "latent_image",
    "latent",
    "samples",
    "latents",
    "image_embeds",
    "init_latent",
    "optional_latent",
    "x",
)
_IMAGES = ("image", "images", "pixels", "upscaled_image")
_NO_SAMPLER = re.compile(
    r"save|preview|combine|metadata|select|scheduler|provider|\bkeyframe|pipe ?to|to ?.*pipe$"
)
_NAMED_SAMPLER = re.compile(r"sampler|detailer|generate|usdu|upscale")
_NO_MEDIA = re.compile(
    r"^(vae|clip|model|control_net|clip_vision|positive|negative|cond.*|prompt|text.*|seed)$"
)
_TEXT_TO_MEDIA = (
    *("prompt", "positive_prompt", "text_prompt", "prompt_text", "tags", "lyrics", "caption"),
    *("instruction", "edit_instruction", "texture_prompt", "text_style_prompt"),
)
# One text for each part of the output: a shot, a view, a keyframe.
_PART = re.compile(r"^(?:storyboard_\d+_prompt|prompt\d+|(?:front|left|back|right)_prompt)$", re.MULTILINE)
_SPOKEN_PART = re.compile(r"^text\d+$", re.MULTILINE)
_NO_GENERATOR = re.compile(
    r"save|preview|combine|encode|styler|concat|show|caption|overlay|watermark|describe|segment|mask|detect|sam3"
)
_SPEECH = re.compile(r"tts|speech|voice|dialogue|lip_?sync|music|song|audio|sound|3d|mesh|svg|vector")
_SCHEDULERS = {
    "KarrasScheduler": "karras",
    "ExponentialScheduler": "exponential",
    "BetaSamplingScheduler": "beta",
    "PolyexponentialScheduler": "polyexponential",
}
_SAMPLERS = {
    "SamplerEulerAncestral": "euler_ancestral",
    "SamplerLCM": "lcm",
    "SamplerDPMPP_2M_SDE": "dpmpp_2m_sde",
}
# By setting: the inputs whose nodes may hold it.
_LINKS_TO_FOLLOW = {
    "seed": ("noise", "seed"),
    "steps": ("sigmas", "steps", "scheduler"),
    "scheduler": ("sigmas", "scheduler"),
    "denoise": ("sigmas", "scheduler"),
    "sampler": ("sampler", "sampler_name"),
    "cfg": ("guider",),
}
# By setting: the names of the input that holds it.
_INPUT_NAMES = {
    "seed": ("seed", "noise_seed"),
    "steps": ("steps", "steps_total"),
    "scheduler": ("scheduler", "scheduler_name"),
    "denoise": ("denoise", "denoise_strength"),
    "sampler": ("sampler_name", "sampler"),
    "cfg": ("cfg", "cfg_conds", "guidance_scale", "cfg_scale"),
}
_MAX_VISITS = 1500
_MAX_LISTED_CHARACTERS = 20_000


def live_links(graph: Graph, node: Node) -> list[tuple[str, Link]]:
    """Return (name, link) of the inputs that count: all, or those that a switch has selected."""
    live = live_inputs(graph, node)
    return [(name, link) for name, link in node.links() if live is None or name in live.names]


def ancestors(graph: Graph, starts: Iterable[Node]) -> dict[str, Node]:
    """Return `starts` and the nodes upstream of them, nearest first, without branches that a switch has turned off."""
    found: dict[str, Node] = {}
    queue = deque(starts)
    while queue and len(found) < _MAX_VISITS:
        node = queue.popleft()
        if node.id in found:
            continue
        found[node.id] = node
        queue.extend(target for _, link in live_links(graph, node) if (target := graph.target(link)))
    return found


def is_sampler(node: Node) -> bool:
    """Return whether the node is shaped like a sampler."""
    kind = node.type.lower()
    if _NO_SAMPLER.search(kind):
        return False
    names = {name.lower() for name in node.inputs}
    linked = {name.lower() for name, _ in node.links()}
    settings = sum(name in names for name in _SETTINGS)
    if "guider" in linked and ("sigmas" in names or "noise" in names):
        return True
    piped = any(PIPES.search(name) for name in linked)
    conditioned = bool(linked & set(POSITIVE)) or ("positive" in names and "model" in linked)
    if settings >= 2 and (conditioned or piped):
        return True
    by_name = bool(_NAMED_SAMPLER.search(kind)) and "sampler" in kind
    return by_name and (piped or ("model" in linked and bool(linked & set(_LATENTS))))


def is_generator(node: Node) -> bool:
    """Return whether the node makes a medium from a text by itself, as the nodes of online services do."""
    kind = node.type.lower()
    if _NO_GENERATOR.search(kind):
        return False
    names = {name.lower() for name in node.inputs}
    if names & set(_TEXT_TO_MEDIA) or _part(kind).search("\n".join(names)):
        return True
    return "text" in names and bool(_SPEECH.search(kind))


def part_names(node: Node) -> list[str]:
    """Return the inputs that hold one text for each part of the output, such as `storyboard_1_prompt`."""
    part = _part(node.type.lower())
    return [name for name in node.inputs if part.match(name.lower())]


def _part(kind: str) -> re.Pattern[str]:
    return _SPOKEN_PART if "dialogue" in kind else _PART


def nearest_source(graph: Graph, start: Node, *, include_start: bool) -> Node | None:
    """Return the sampler or generator that is nearest upstream of `start`, along images, latents, video and audio.

    A video with audio has a prompt for each; the file's prompt is that of the pictures, if they have one.
    """
    return _nearest(graph, start, include_start, pictures_first=True) or _nearest(
        graph, start, include_start, pictures_first=False
    )


def _nearest(graph: Graph, start: Node, include_start: bool, *, pictures_first: bool) -> Node | None:
    queue = deque([start])
    seen: set[str] = set()
    while queue and len(seen) < _MAX_VISITS:
        node = queue.popleft()
        if node.id in seen:
            continue
        seen.add(node.id)
        if (node is not start or include_start) and (is_sampler(node) or is_generator(node)):
            return node
        links = live_links(graph, node)
        media = [(name, link) for name, link in links if not _NO_MEDIA.match(name.lower())]
        pictures = [link for name, link in media if "audio" not in name.lower()] if pictures_first else []
        chosen = pictures or [link for _, link in media]
        queue.extend(target for link in chosen if (target := graph.target(link)))
    return None


def sampler_chain(graph: Graph, nearest: Node) -> list[Node]:
    """Return the samplers that worked on one picture: the first one leads, refiners and detailers follow."""
    chain = [nearest]
    while is_sampler(chain[0]) and is_partial(graph, chain[0]) and len(chain) < 16:
        before = _source_of_picture(graph, chain[0])
        if before is None or before in chain:
            break
        chain.insert(0, before)
    return chain


def is_partial(graph: Graph, node: Node) -> bool:
    """Return whether a sampler only refines what it was given."""
    if "chainsampler" in node.type.lower():
        return True
    if str(value_of(graph, node.inputs.get("add_noise"))).lower() in ("disable", "false"):
        return True
    noise = graph.target(node.inputs.get("noise"))
    if noise is not None and "disable" in noise.type.lower():
        return True
    for name in ("start_at_step", "start_step"):
        start = value_of(graph, node.inputs.get(name))
        if isinstance(start, int | float) and start > 0:
            return True
    denoise = setting(graph, node, "denoise")
    if isinstance(denoise, int | float):
        return denoise < 0.99
    return _starts_late(graph, node)


def _starts_late(graph: Graph, node: Node) -> bool:
    value = node.inputs.get("sigmas")
    for _ in range(8):
        source = graph.target(value)
        if source is None:
            return False
        if "split" in source.type.lower() and isinstance(value, Link) and value.slot == 1:
            return True
        listed = source.inputs.get("sigmas")
        if isinstance(listed, str):
            first = re.match(r"[\s\[]*(\d*\.?\d+)", listed)
            return first is not None and float(first.group(1)) < 0.99
        value = listed
    return False


def _source_of_picture(graph: Graph, node: Node) -> Node | None:
    names = {name.lower(): link for name, link in node.links()}
    for wanted in (*_LATENTS, *_IMAGES):
        target = graph.target(names.get(wanted))
        if target is not None:
            return nearest_source(graph, target, include_start=True)
    pipes = [graph.target(link) for name, link in names.items() if PIPES.search(name)]
    found = [nearest_source(graph, pipe, include_start=True) for pipe in pipes if pipe is not None]
    return found[0] if found and found[0] is not node else None


def setting(graph: Graph, node: Node, name: str) -> Any:
    """Return a setting of a sampler: its own, or of the nodes behind its guider, noise, sigmas and pipe."""
    queue = deque([node])
    seen: set[str] = set()
    while queue and len(seen) < 64:
        current = queue.popleft()
        if current.id in seen:
            continue
        seen.add(current.id)
        found = _own_setting(graph, current, name)
        if found is not None:
            return found
        for key, link in live_links(graph, current):
            lower = key.lower()
            if lower in _LINKS_TO_FOLLOW[name] or PIPES.search(lower) or lower in ("sigmas_1", "guider_1"):
                target = graph.target(link)
                if target is not None:
                    queue.append(target)
    return None


def _own_setting(graph: Graph, node: Node, name: str) -> Any:
    names = {key.lower(): key for key in node.inputs}
    for wanted in _INPUT_NAMES[name]:
        if wanted in names:
            raw = node.inputs[names[wanted]]
            value = value_of(graph, raw, wanted=_INPUT_NAMES[name])
            if value is not None and _fits(name, value):
                return value
            if name in ("sampler", "scheduler") and (target := graph.target(raw)) is not None:
                known = (_SAMPLERS if name == "sampler" else _SCHEDULERS).get(target.type)
                if known:
                    return known
    if name == "steps":
        return _listed_steps(node.inputs.get("sigmas"))
    if name == "scheduler":
        return _SCHEDULERS.get(node.type)
    return _SAMPLERS.get(node.type) if name == "sampler" else None


def _listed_steps(sigmas: Any) -> int | None:
    """Return the steps of noise levels that are written out: one fewer than levels. None: they are no such text."""
    if not isinstance(sigmas, str):
        return None
    return len(re.findall(r"\d+(?:\.\d*)?|\.\d+", sigmas[:_MAX_LISTED_CHARACTERS])) - 1


def _fits(name: str, value: Any) -> bool:
    if name in ("sampler", "scheduler"):
        return isinstance(value, str) and bool(value)
    return isinstance(value, int | float | str) and not isinstance(value, bool)
