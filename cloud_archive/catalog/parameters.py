"""The `parameters` text of A1111 and its relatives, which several node packs write as well."""

from __future__ import annotations

import re
from dataclasses import replace

from .graph.models import tagged_loras
from .graph_facts import GraphFacts, Lora

_STEPS_LINE = re.compile(r"^[ \t]{0,8}Steps: {0,4}\d{1,7} {0,4},.*", re.MULTILINE)
_FIELD = re.compile(r"([A-Za-z][\w /+-]{0,40}):\s*(\"(?:\\.|[^\"\\])*\"|[^,]*)(?:,|$)")
_SCHEDULERS = (
    "karras",
    "exponential",
    "sgm uniform",
    "normal",
    "simple",
    "beta",
    "polyexponential",
    "uniform",
)
_TAG = re.compile(r"<(?:lora|lyco|hypernet):[^<>]{1,300}>\s{0,8},?\s{0,8}", re.IGNORECASE)
_MAX_CHARACTERS = 100_000
_MAX_LINE_CHARACTERS = 20_000
_LEAST_VALUES = 3  # as A1111 itself reads it: a prompt may have a line that begins with `Steps: 3,`


def is_parameters(text: str) -> bool:
    return _settings_line(text[:_MAX_CHARACTERS]) is not None


def read_parameters(text: str) -> GraphFacts:
    """Return what a `parameters` text says: prompt, negative prompt, then a line of named values."""
    text = text[:_MAX_CHARACTERS]
    line = _settings_line(text)
    positive, _, negative = (text[: line.start()] if line else text).partition("Negative prompt:")
    fields = {name.strip().lower(): value.strip().strip('"') for name, value in _values(line)}
    sampler, scheduler = _sampler(fields)
    models = [fields[name] for name in ("model", "vae") if fields.get(name)]
    loras = tagged_loras(positive) or _named_loras(fields.get("lora hashes", ""))
    plain = _TAG.sub("", positive).strip().strip(",").strip()
    facts = GraphFacts(
        prompt=plain,
        negative_prompt=negative.strip(),
        models=tuple(models),
        loras=tuple(loras),
        seed=_integer(fields.get("seed", "")),
        sampler=sampler,
        scheduler=scheduler,
        steps=_integer(fields.get("steps", ""), 1_000_000),
        cfg=_number(fields.get("cfg scale", "")),
        denoise=_number(fields.get("denoising strength", "")),
        confidence="high" if plain else "low",
    )
    texts = tuple(text for text in (plain, negative.strip()) if text)
    return replace(facts, texts=texts, model_names=(*models, *(lora.name for lora in loras)))


def _settings_line(text: str) -> re.Match[str] | None:
    """Return the last line that begins with `Steps:` and has enough named values; extensions add lines behind it."""
    lines = reversed([*_STEPS_LINE.finditer(text)])
    return next((line for line in lines if len(_values(line)) >= _LEAST_VALUES), None)


def _values(line: re.Match[str] | None) -> list[tuple[str, str]]:
    return _FIELD.findall(line[0].strip()[:_MAX_LINE_CHARACTERS]) if line else []


def _sampler(fields: dict[str, str]) -> tuple[str | None, str | None]:
    """Return sampler and scheduler; older texts hold both in one name, such as "DPM++ 2M Karras"."""
    sampler, scheduler = fields.get("sampler"), fields.get("schedule type") or fields.get("scheduler")
    for name in _SCHEDULERS:
        if sampler and not scheduler and sampler.lower().endswith(f" {name}"):
            return sampler[: -len(name) - 1], sampler[-len(name) :]
    return sampler or None, scheduler or None


def _named_loras(text: str) -> list[Lora]:
    names = (part.partition(":")[0].strip() for part in text.split(","))
    return [Lora(name, None) for name in names if name]


def _integer(text: str, limit: int = 1 << 64) -> int | None:
    value = int(text) if re.fullmatch(r"\d{1,20}", text.strip()) else None
    return value if value is not None and value < limit else None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d{0,9})?", text.strip()) else None
