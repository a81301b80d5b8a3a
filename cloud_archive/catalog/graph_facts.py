"""The graphs found in a file, and the facts read from them, as dataclasses. This module imports no reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Confidence = Literal["high", "low"]


@dataclass
class Embedded:
    """The graphs and texts found in one file; None where it has none.

    Attributes:
        prompt: the graph in ComfyUI's API format.
        workflow: the graph as ComfyUI's editor saves it.
        parameters: the text that AUTOMATIC1111 and other programs write.
    """

    prompt: dict[str, Any] | None = None
    workflow: dict[str, Any] | None = None
    parameters: str | None = None


@dataclass(frozen=True)
class Lora:
    """A LoRA, and how strongly it was applied; strength None: unknown."""

    name: str
    strength: float | None


@dataclass(frozen=True)
class GraphFacts:
    """What a graph or a `parameters` text says about one output. None or empty: it does not say.

    Attributes:
        models, loras: those that made this output.
        texts, model_names: of the whole graph, for search.
    """

    prompt: str | None = None
    negative_prompt: str | None = None
    models: tuple[str, ...] = ()
    loras: tuple[Lora, ...] = ()
    seed: int | None = None
    sampler: str | None = None
    scheduler: str | None = None
    steps: int | None = None
    cfg: float | None = None
    denoise: float | None = None
    input_images: tuple[str, ...] = ()
    confidence: Confidence | None = None
    texts: tuple[str, ...] = ()
    model_names: tuple[str, ...] = ()
