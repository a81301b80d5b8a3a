"""Read what the graphs and the parameters of a file say, and put it together."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from .graph.nodes import is_api_graph, parse_api_graph
from .graph.read import read_graph
from .graph.workflow import is_workflow, parse_workflow, workflow_notes
from .graph_facts import Embedded, GraphFacts
from .parameters import read_parameters
from .secrets import drop_secrets_in_both, drop_secrets_in_text

_MERGED = (
    "prompt",
    "negative_prompt",
    "models",
    "loras",
    "seed",
    "sampler",
    "scheduler",
    "steps",
    "cfg",
    "denoise",
    "input_images",
)


def without_secrets(embedded: Embedded) -> Embedded:
    parameters = embedded.parameters
    prompt, workflow = drop_secrets_in_both(embedded.prompt, embedded.workflow)
    return Embedded(
        prompt=prompt,
        workflow=workflow,
        parameters=drop_secrets_in_text(parameters) if parameters is not None else None,
    )


def read_embedded(embedded: Embedded, name: str, output_node: str | None) -> GraphFacts | None:
    """Return what a file's graph and parameters say; the less certain one only fills in. None: there are none."""
    candidates: list[GraphFacts] = []
    # A graph made to break the reading counts as no graph.
    with contextlib.suppress(
        ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError
    ):
        if is_api_graph(embedded.prompt):
            graph = parse_api_graph(embedded.prompt or {})
            candidates.append(read_graph(graph, output_node=output_node, file_name=name))
        elif is_workflow(embedded.workflow):
            workflow = embedded.workflow or {}
            found = read_graph(parse_workflow(workflow), output_node=output_node, file_name=name)
            candidates.append(replace(found, texts=(*found.texts, *workflow_notes(workflow))))
    if embedded.parameters is not None:
        candidates.append(read_parameters(embedded.parameters))
    if not candidates:
        return None
    candidates.sort(key=lambda facts: facts.confidence != "high")
    return merge_facts(candidates)


def merge_facts(candidates: list[GraphFacts]) -> GraphFacts:
    """Return the first of `candidates` (at least one), filled in from the others."""
    best, *others = candidates
    for other in others:
        missing = {
            field: getattr(other, field)
            for field in _MERGED
            if getattr(best, field) in (None, ()) and getattr(other, field) not in (None, ())
        }
        texts = tuple(dict.fromkeys((*best.texts, *other.texts)))
        names = tuple(dict.fromkeys((*best.model_names, *other.model_names)))
        best = replace(best, **missing, texts=texts, model_names=names)
    return best
