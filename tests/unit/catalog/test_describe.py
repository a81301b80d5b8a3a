"""describe(): job, file and companion put together, without secrets and within its limits."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin
from sd_parsers import ParserManager

from cloud_archive.catalog.describe import Job, describe
from cloud_archive.catalog.readers.read import READER_VERSION
from cloud_archive.catalog.source import BytesSource

from . import graphs, writers
from .counting import count_calls


def png(**texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    return writers.saved(Image.new("RGB", (8, 8)), format="PNG", pnginfo=info)


@pytest.mark.parametrize("name", writers.GRAPH_WRITERS)
def test_describes_what_each_writer_wrote(name: str) -> None:
    found = describe(BytesSource(writers.GRAPH_WRITERS[name]()), "fox_00001_")
    assert found.prompt == "ein Fuchs im Schnee, 雪の中の狐"
    assert (found.negative_prompt, found.seed) == ("blurry", 2**64 - 1)
    assert (found.models, found.sampler, found.scheduler) == (("fox_v1.safetensors",), "euler", "normal")
    assert (found.steps, found.cfg, found.confidence) == (20, 7.5, "high")
    assert found.has_prompt
    assert found.has_workflow
    assert found.prompt_graph == writers.PROMPT
    assert found.workflow == writers.WORKFLOW
    assert found.reader_version == READER_VERSION


@pytest.mark.parametrize("name", writers.PARAMETER_WRITERS)
def test_describes_parameters(name: str) -> None:
    found = describe(BytesSource(writers.PARAMETER_WRITERS[name]()), "fox.png")
    assert (found.prompt, found.negative_prompt, found.seed) == ("a fox in snow", "blurry", 42)
    assert [(lora.name, lora.strength) for lora in found.loras] == [("winter", 0.8)]
    assert (found.sampler, found.scheduler, found.models) == ("Euler a", "Karras", ("fox_v1",))
    assert not found.has_prompt


def test_metadata_has_the_fields_of_the_contract() -> None:
    found = describe(BytesSource(writers.core_png()), "fox_00001_.png")
    metadata = found.metadata()
    wanted = [
        "prompt",
        "negative_prompt",
        "models",
        "loras",
        "seed",
        "sampler",
        "scheduler",
        "steps",
        "cfg",
        "source",
        "confidence",
    ]
    assert set(wanted) <= set(metadata)
    assert (metadata["source"], metadata["confidence"]) == ("png", "high")
    assert json.loads(json.dumps(metadata))["seed"] == 2**64 - 1


def test_the_job_wins_over_the_file() -> None:
    job = Job("id", graphs.base(), output_node="save")
    found = describe(BytesSource(writers.core_png()), "other.png", job)
    assert (found.prompt, found.seed, found.source) == (graphs.FOX, graphs.SEED, "job")
    assert found.workflow == writers.WORKFLOW


def test_the_job_describes_a_file_that_carries_nothing() -> None:
    found = describe(BytesSource(b"v 1 2 3\n"), "mesh.obj", Job("id", graphs.base()))
    assert (found.prompt, found.source, found.mime_type) == (graphs.FOX, "job", None)


def test_the_companion_describes_a_video_that_carries_nothing() -> None:
    silent = writers.video("mp4", "mpeg4", {})
    companion = BytesSource(writers.core_png())
    found = describe(BytesSource(silent), "fox_00001.mp4", companion=companion)
    assert (found.source, found.mime_type, found.frame_count) == ("png", "video/mp4", 3)
    assert found.prompt == "ein Fuchs im Schnee, 雪の中の狐"


def test_an_unknown_file_has_an_empty_description() -> None:
    found = describe(BytesSource(b"hello"), "notes.txt")
    assert (found.source, found.prompt, found.confidence, found.texts) == (None, None, None, ())


def test_nan_and_double_encoded_json_are_read() -> None:
    graph = graphs.base(extra=graphs.node("Something", value=float("nan")))
    found = describe(BytesSource(png(prompt=json.dumps(json.dumps(graph)))), "fox.png")
    assert found.prompt == graphs.FOX
    assert found.prompt_graph is not None
    assert "NaN" not in json.dumps(found.prompt_graph)


def test_parameters_fill_in_what_the_graph_leaves_open() -> None:
    graph = graphs.text_from(text=graphs.node("OllamaGenerate", prompt="describe a fox"))
    found = describe(BytesSource(png(prompt=json.dumps(graph), parameters=writers.PARAMETERS)), "fox.png")
    assert (found.prompt, found.confidence) == ("a fox in snow", "high")


def test_damaged_json_is_no_graph() -> None:
    found = describe(BytesSource(png(prompt='{"3": {"class_type": "KSampler"', workflow="[]")), "fox.png")
    assert not found.has_prompt
    assert not found.has_workflow


@pytest.mark.parametrize(
    "graph",
    [
        {"3": {"class_type": "KSampler", "inputs": None}},
        {"3": {"class_type": "KSampler", "inputs": {"seed": [["3", 0], 0], "model": ["3", 0]}}},
        {
            "3": {
                "class_type": "KSampler",
                "inputs": {"positive": ["3", 0], "negative": ["3", 0], "seed": ["3", 0]},
            }
        },
        {"3": {"class_type": "SaveImage", "inputs": {"images": ["9", 0], "filename_prefix": ["3", 1]}}},
    ],
)
def test_graphs_that_make_no_sense_say_nothing(graph: dict[str, Any]) -> None:
    found = describe(BytesSource(png(prompt=json.dumps(graph))), "fox.png")
    assert found.prompt is None
    assert found.confidence == "low"


def heavy_graphs() -> dict[str, bytes]:
    chain: dict[str, Any] = {"0": graphs.node("CLIPTextEncode", text="a")}
    for number in range(1, 1490):
        before = [str(number - 1), 0]
        chain[str(number)] = graphs.node("ConditioningCombine", conditioning_1=before, conditioning_2=before)
    chain["k"] = graphs.sampler(positive=["1489", 0])
    switches: dict[str, Any] = {"0": graphs.node("PrimitiveString", value="a")}
    for number in range(1, 1490):
        before = [str(number - 1), 0]
        switches[str(number)] = graphs.node(
            "ImpactSwitch", select=before, input1=before, input2=before, input3=before
        )
    switches["e"] = graphs.node("CLIPTextEncode", text=["1489", 0])
    switches["k"] = graphs.sampler(positive=["e", 0])
    joins: dict[str, Any] = {"0": graphs.node("PrimitiveString", value="a" * 1000)}
    for number in range(1, 64):
        before = [str(number - 1), 0]
        joins[str(number)] = graphs.node("StringConcatenate", string_a=before, string_b=before, delimiter="")
    joins["e"] = graphs.node("CLIPTextEncode", text=["63", 0])
    joins["k"] = graphs.sampler(positive=["e", 0])
    level: dict[str, Any] = {"nodes": [{"id": 1, "type": "s0"}], "links": []}
    subgraphs = [
        {"id": f"s{number}", "nodes": [{"id": n, "type": f"s{number + 1}"} for n in range(8)], "links": []}
        for number in range(12)
    ]
    return {
        "doubling conditioning": png(prompt=json.dumps(chain)),
        "chain of switches": png(prompt=json.dumps(switches)),
        "growing text": png(prompt=json.dumps(joins)),
        "many outputs": png(
            prompt=json.dumps(
                {
                    **graphs.base(),
                    **{
                        f"s{n}": graphs.node("SaveImage", filename_prefix="x", images=["decode", 0])
                        for n in range(1490)
                    },
                }
            )
        ),
        "subgraphs that multiply": png(
            workflow=json.dumps({**level, "definitions": {"subgraphs": subgraphs}})
        ),
        "long texts": png(
            prompt=json.dumps(
                {str(n): graphs.node("CLIPTextEncode", text="{" * 1000 + str(n)) for n in range(1000)}
            )
        ),
        "spaces": png(parameters="a" + " \n" * 500_000 + "Steps: 2"),
        "quotes": png(parameters="Steps: 20, A: " + '"\\' * 90_000),
        "nested lists": png(prompt="[" * 30_000 + "]" * 30_000),
        "long words": png(
            prompt=json.dumps(
                {"1": graphs.node("CLIPTextEncode", text="sk" * 400_000 + "://" + "a" * 400_000)}
            )
        ),
        "widgets": png(
            workflow=json.dumps(
                {"nodes": [{"id": 1, "type": "X", "widgets_values": ["a b c"] * 30_000}], "links": []}
            )
        ),
    }


HEAVY = heavy_graphs()


@pytest.mark.parametrize("name", HEAVY)
def test_a_hostile_graph_costs_a_bounded_number_of_calls_and_16_mb(name: str) -> None:
    source = BytesSource(HEAVY[name])
    tracemalloc.start()
    try:
        describe(source, "fox.png")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16_000_000
    assert count_calls(lambda: describe(source, "fox.png")) < 400_000


# sd-parsers follows only the first conditioning and model that it knows by name, so it is asked about core's shapes.
SECOND_OPINION = ("text to image", "image to image", "two passes", "upscaled by a model", "preview beside")


def with_numbers(graph: dict[str, Any]) -> dict[str, Any]:
    """Return `graph` with numbers for ids, as the frontend gives them and sd-parsers wants them."""
    text = json.dumps(graph)
    for number, key in enumerate(graph, 1):
        text = text.replace(f'["{key}", ', f'["{number}", ')
    return {str(number): node for number, node in enumerate(json.loads(text).values(), 1)}


@pytest.mark.parametrize("name", SECOND_OPINION)
def test_agrees_with_sd_parsers(name: str, tmp_path: Path) -> None:
    case = next(case for case in graphs.CASES if case.name == name)
    path = tmp_path / "fox_00001_.png"
    path.write_bytes(png(prompt=json.dumps(with_numbers(case.graph)), workflow=json.dumps(writers.WORKFLOW)))
    opinion = ParserManager().parse(path)
    assert opinion is not None
    found = describe(BytesSource(path.read_bytes()), path.name)
    assert found.prompt in [prompt.value for prompt in opinion.prompts]
    assert found.seed in [int(sampler.parameters["seed"]) for sampler in opinion.samplers]
    assert found.models[0] in [model.name for model in opinion.models]


def test_agrees_with_sd_parsers_about_parameters(tmp_path: Path) -> None:
    path = tmp_path / "fox.png"
    path.write_bytes(writers.parameters_png())
    opinion = ParserManager().parse(path)
    assert opinion is not None
    found = describe(BytesSource(path.read_bytes()), path.name)
    assert opinion.full_negative_prompt == found.negative_prompt
    assert opinion.full_prompt.startswith(found.prompt or "?")
    assert [sampler.name for sampler in opinion.samplers] == [found.sampler]
