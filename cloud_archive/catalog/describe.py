"""Describe one archived file: how it was made, as far as the job and the file tell.

The modules that read texts and graphs are imported for the first file that holds any, because importing them takes
longer than a small upload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .graph_facts import Embedded, GraphFacts
from .readers.facts import FileFacts
from .readers.read import read_facts
from .source import BoundedSource, ByteSource


class Job(NamedTuple):
    """A prompt as ComfyUI ran it, and the node that wrote the file. Secrets may still be in its graphs.

    Attributes:
        prompt: the graph in API format; None: ComfyUI gave none, or it was not kept.
        facts: what the graph said, where only that was kept.
    """

    prompt_id: str
    prompt: Mapping[str, Any] | None
    workflow: Mapping[str, Any] | None = None
    output_node: str | None = None
    facts: GraphFacts | None = None


@dataclass(frozen=True)
class Description(GraphFacts):
    """How one file was made: what its graph says, and what else is known, without secrets. None or empty: not known.

    Attributes:
        source: where the graph was found: `job`, or a file's format.
        width, height: of the picture, in pixels.
    """

    source: str | None = None
    mime_type: str | None = None
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    prompt_graph: dict[str, Any] | None = None
    workflow: dict[str, Any] | None = None
    parameters: str | None = None

    @property
    def has_prompt(self) -> bool:
        return self.prompt_graph is not None

    @property
    def has_workflow(self) -> bool:
        return self.workflow is not None


def describe(
    source: ByteSource | BoundedSource,
    name: str,
    job: Job | None = None,
    *,
    companion: ByteSource | BoundedSource | None = None,
) -> Description:
    """Return how the file `name` was made. A file that no reader knows is no error.

    Args:
        job: the prompt that wrote the file; its graphs count instead of those in the file.
        companion: the picture that Video Helper Suite writes beside a video. It is read only if there is no job, and
            the file holds no graph and no parameters.

    Raises:
        OSError, StoreError: the bytes can't be read now.
    """
    facts = read_facts(_bounded(source))
    embedded = _embedded(facts)
    origin = None if facts is None else facts.format
    if (
        job is None
        and companion is not None
        and not (embedded.prompt or embedded.workflow or embedded.parameters)
    ):
        embedded, origin = _embedded(read_facts(_bounded(companion))), "png"
    return describe_again(facts, embedded, name, job, origin=origin)


def describe_again(
    facts: FileFacts | None, embedded: Embedded, name: str, job: Job | None = None, *, origin: str | None
) -> Description:
    """Do what `describe` does, from what was read of the file before.

    Args:
        facts: what its container says; its texts are ignored.
        embedded: the graphs that were found in it.
        origin: where they were found, which becomes `source`; a job that has a graph or `facts` takes its place.
    """
    node = None
    if job is not None and job.prompt is not None:
        workflow = embedded.workflow if job.workflow is None else dict(job.workflow)
        embedded = replace(embedded, prompt=dict(job.prompt), workflow=workflow)
        origin, node = "job", job.output_node
    elif embedded == Embedded() and (job is None or job.facts is None):
        return _description(facts, None, embedded, origin)
    from .graph_reading import merge_facts, read_embedded, without_secrets

    embedded = without_secrets(embedded)
    if job is None or job.facts is None:
        return _description(facts, read_embedded(embedded, name, node), embedded, origin)
    beside = read_embedded(Embedded(parameters=embedded.parameters), name, None)
    return _description(facts, merge_facts([job.facts, *filter(None, [beside])]), embedded, "job")


def job_facts(job: Job, name: str) -> GraphFacts | None:
    """Return what a job's graph says of the file `name`, without secrets. None: it has no graph."""
    if job.prompt is None:
        return None
    from .graph_reading import read_embedded, without_secrets

    workflow = None if job.workflow is None else dict(job.workflow)
    return read_embedded(without_secrets(Embedded(dict(job.prompt), workflow)), name, job.output_node)


def _bounded(source: ByteSource | BoundedSource) -> BoundedSource:
    return source if isinstance(source, BoundedSource) else BoundedSource(source)


def _embedded(facts: FileFacts | None) -> Embedded:
    if facts is None or not facts.texts:
        return Embedded()
    from .embedded import sort_texts

    return sort_texts(facts.texts)


def _description(
    facts: FileFacts | None, found: GraphFacts | None, embedded: Embedded, origin: str | None
) -> Description:
    return Description(
        **vars(found or GraphFacts()),
        source=origin if found else None,
        mime_type=facts.mime_type if facts else None,
        width=facts.width if facts else None,
        height=facts.height if facts else None,
        duration_seconds=facts.duration_seconds if facts else None,
        prompt_graph=embedded.prompt,
        workflow=embedded.workflow,
        parameters=embedded.parameters,
    )
