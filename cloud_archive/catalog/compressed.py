"""What was read of an asset, as the catalog stores it: a description, and its graphs compressed."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, fields, replace
from typing import Any, NamedTuple

from .describe import Description
from .graph_facts import Embedded, GraphFacts, Lora
from .schema import HAS_PROMPT, HAS_WORKFLOW


class Reading(NamedTuple):
    """What was read of an asset, as it is stored.

    Attributes:
        found: how it was made, without the graphs.
        has: which graphs it has: the sum of HAS_WORKFLOW and HAS_PROMPT.
        graphs: see `compress_graphs`; None: there are none, or they are not kept.
        job_id: of the job that wrote it; None: no job is known.
    """

    found: Description
    has: int = 0
    graphs: bytes | None = None
    job_id: str | None = None

    @property
    def weight(self) -> int:
        """Return about how many bytes it takes in memory."""
        return sum(map(len, self.found.texts)) + len(self.graphs or b"")


def make_reading(found: Description, job_id: str | None, *, keep_graphs: bool) -> Reading:
    """Return what is stored of a description. Its graphs are compressed at once, to take little memory."""
    has = HAS_WORKFLOW * found.has_workflow | HAS_PROMPT * found.has_prompt
    graphs = (
        compress_graphs(found.prompt_graph, found.workflow, found.parameters) if keep_graphs and has else None
    )
    without_graphs = replace(found, prompt_graph=None, workflow=None) if has else found
    return Reading(without_graphs, has, graphs, job_id)


def compress_graphs(prompt: Any, workflow: Any, parameters: str | None = None) -> bytes:
    """Return the graphs and the `parameters` text that were found in a file, compressed."""
    found = {"prompt": prompt, "workflow": workflow} | ({"parameters": parameters} if parameters else {})
    return zlib.compress(json.dumps(found).encode(), 6)


def decompress_graphs(data: bytes) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the prompt graph and the workflow that `compress_graphs` compressed."""
    found = decompress_embedded(data)
    return found.prompt, found.workflow


def decompress_embedded(data: bytes) -> Embedded:
    found = json.loads(zlib.decompress(data))
    return Embedded(found["prompt"], found["workflow"], found.get("parameters"))


def compress_facts(facts: GraphFacts) -> bytes:
    return zlib.compress(json.dumps(asdict(facts)).encode(), 6)


def decompress_facts(data: bytes) -> GraphFacts:
    found = json.loads(zlib.decompress(data))
    known = {one.name for one in fields(GraphFacts)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in found.items()
        if name in known
    }
    values["loras"] = tuple(Lora(**lora) for lora in found["loras"])
    return GraphFacts(**values)
