"""describe(): job, file and companion put together, without secrets and within its limits."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin
from sd_parsers import ParserManager

from cloud_archive.catalog.bucket.fields import PUT, checked_row
from cloud_archive.catalog.compressed import make_reading
from cloud_archive.catalog.describe import Job, describe
from cloud_archive.catalog.source import BytesSource

from . import graphs, writers
from .counting import count_calls
from .graph_cases import CASES

SETTINGS = "Steps: 20, Sampler: Euler a, Seed: 42"


def png(**texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    return writers.saved(Image.new("RGB", (8, 8)), format="PNG", pnginfo=info)


def test_readers_of_the_bucket_accept_any_number_of_steps() -> None:
    found = describe(
        BytesSource(png(parameters=f"a fox\nSteps: 20, Seed: 1, Steps: {10**19 - 1},")), "fox.png"
    )
    assert found.prompt == "a fox"
    checked_row({"op": PUT, "steps": found.steps})


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


@pytest.mark.parametrize(
    "workflow", [{"nodes": []}, {"nodes": [], "links": []}, {"nodes": [{"id": 1}], "links": []}]
)
def test_a_workflow_may_be_empty(workflow: dict[str, Any]) -> None:
    found = describe(BytesSource(png(prompt="{}", workflow=json.dumps(workflow))), "fox.png")
    assert found.workflow == workflow
    assert describe(BytesSource(png(x=json.dumps({"nodes": [{"mesh": 0}]}))), "fox.png").workflow is None


@pytest.mark.parametrize("name", writers.PARAMETER_WRITERS)
def test_describes_parameters(name: str) -> None:
    found = describe(BytesSource(writers.PARAMETER_WRITERS[name]()), "fox.png")
    assert (found.prompt, found.negative_prompt, found.seed) == ("a fox in snow", "blurry", 42)
    assert [(lora.name, lora.strength) for lora in found.loras] == [("winter", 0.8)]
    assert (found.sampler, found.scheduler, found.models) == ("Euler a", "Karras", ("fox_v1",))
    assert not found.has_prompt


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
    assert (found.source, found.mime_type, found.duration_seconds) == ("png", "video/mp4", 0.3)
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


def test_a_line_of_the_prompt_may_begin_as_the_settings_do() -> None:
    prompt = "a stairway\nSteps: 3, of stone, Mood: dark, Light: dim"
    text = f"{prompt}\nNegative prompt: fog\n{SETTINGS}\nTemplate: a stairway\nSteps: 3, of stone"
    found = describe(BytesSource(png(parameters=text)), "fox.png")
    assert (found.prompt, found.negative_prompt, found.steps, found.seed) == (prompt, "fog", 20, 42)
    assert describe(BytesSource(png(Comment="a stairway\nSteps: 3, of stone")), "fox.png").steps is None


def test_parameters_fill_in_what_the_graph_leaves_open() -> None:
    graph = graphs.text_from(text=graphs.node("OllamaGenerate", prompt="describe a fox"))
    found = describe(BytesSource(png(prompt=json.dumps(graph), parameters=writers.PARAMETERS)), "fox.png")
    assert (found.prompt, found.confidence) == ("a fox in snow", "high")


def test_parameters_leave_open_the_pictures_that_the_graph_loads() -> None:
    graph = graphs.base(
        load=graphs.node("LoadImage", image="portrait.png"),
        latent=graphs.node("VAEEncode", pixels=graphs.link("load"), vae=graphs.link("ckpt", 2)),
        other=graphs.sampler(seed=5, positive=graphs.link("neg")),
        decoded=graphs.node("VAEDecode", samples=graphs.link("other"), vae=graphs.link("ckpt", 2)),
        saved=graphs.node("SaveImage", images=graphs.link("decoded"), filename_prefix="other"),
    )
    texts = {"prompt": json.dumps(graph)}
    alone = describe(BytesSource(png(**texts)), "fox.png")
    both = describe(BytesSource(png(**texts, parameters=writers.PARAMETERS)), "fox.png")
    assert (alone.confidence, both.confidence) == ("low", "high")
    assert alone.input_images == both.input_images == ("portrait.png",)


def test_parameters_behind_both_graphs_are_read() -> None:
    graph = graphs.text_from(text=graphs.node("OllamaGenerate", prompt="describe a fox"))
    texts = {"prompt": json.dumps(graph), "workflow": json.dumps(writers.WORKFLOW)}
    found = describe(BytesSource(png(**texts, parameters=writers.PARAMETERS)), "fox.png")
    assert found.parameters == writers.PARAMETERS
    assert found.prompt == "a fox in snow"


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
    for number in range(1, 1100):
        before = [str(number - 1), 0]
        switches[str(number)] = graphs.node(
            "ImpactSwitch", select=before, input1=before, input2=before, input3=before
        )
    switches["e"] = graphs.node("CLIPTextEncode", text=["1099", 0])
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
        "quotes": png(parameters="Steps: 20, Seed: 1, A: " + '"\\' * 90_000),
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


def inputs_and_links() -> dict[str, Any]:
    """Twenty samplers that follow each other in circles, each with very many inputs."""
    samplers = {}
    for number in range(20):
        links = {key: [f"k{(number + 1) % 20}", 0] for key in ("model", "latent_image", "denoise", "seed")}
        samplers[f"k{number}"] = graphs.node(
            "KSampler",
            positive=[f"k{(number * 7 + 1) % 20}", 0],
            **links,
            **{f"input{i}": 1 for i in range(900)},
        )
    saved = {
        f"s{number}": graphs.node("SaveImage", filename_prefix="x", images=[f"k{number}", 0])
        for number in range(12)
    }
    return {**samplers, **saved}


def with_subgraph(inner: dict[str, Any], instances: int, **instance: Any) -> str:
    nodes = [{"id": number, "type": "inner", **instance} for number in range(instances)]
    workflow = {
        "nodes": nodes,
        "links": [[1, 1, 0]],
        "definitions": {"subgraphs": [{"id": "inner", **inner}]},
    }
    return json.dumps(workflow)


def extra(value: Any) -> str:
    return json.dumps({"nodes": [{"id": 1, "type": "X"}], "links": [], "extra": value})


def amplified() -> dict[str, bytes]:
    """Files that are small and ask for much, and files that are as large as is still read."""
    link = {"origin_id": 1, "origin_slot": 0}
    slots = [{"name": f"n{number}", "link": number, "widget": {"name": "w"}} for number in range(1500)]
    wide = {"nodes": [{"id": 1, "type": "X", "inputs": slots}], "links": []}
    widgets = {
        "nodes": [{"id": 1, "type": "X", "widgets_values": {f"w{n}": "a" for n in range(2000)}}],
        "links": [],
    }
    shown = {
        "properties": {"proxyWidgets": [["1", f"w{n}"] for n in range(100)]},
        "widgets_values": ["b"] * 100,
    }
    passed_on = {"id": 1, "type": "B", "mode": 4, "inputs": [{"name": "x", "type": "T", "link": 1}] * 600}
    readers = [
        {"id": number, "type": "X", "inputs": [{"name": "a", "link": 1}] * 8} for number in range(2, 300)
    ]
    lora = {f"lora_{number:02}_name": "a.safetensors" for number in range(8)}
    return {
        "links of many instances": png(
            workflow=with_subgraph({"nodes": [], "links": [{"id": n, **link} for n in range(2400)]}, 700)
        ),
        "inputs of many instances": png(workflow=with_subgraph(wide, 700)),
        "widgets shown on many instances": png(workflow=with_subgraph(widgets, 50, **shown)),
        "links through a wide node": png(
            workflow=json.dumps(
                {"nodes": [{**passed_on, "outputs": [{"type": "T"}]}, *readers], "links": [[1, 1, 0]]}
            )
        ),
        "inputs and links": png(prompt=json.dumps(inputs_and_links())),
        "loras": png(prompt=json.dumps({str(n): graphs.node("lora", **lora) for n in range(900)})),
        "texts with signs": png(workflow=extra(["a-b_c=defghijk"] * 39_000)),
        "names like secrets": png(
            workflow=extra({f"key{n}Token-_=": "abc-def_ghi=jkl" for n in range(19_000)})
        ),
        "beginnings of keys": png(workflow=extra(["sk-_AKIA=@://r8_eyJ"] * 24_000)),
        "beginnings of one key": png(
            prompt=json.dumps({"1": graphs.node("CLIPTextEncode", text="eyJ-" * 380_000)})
        ),
        "a text below a title": png(
            prompt=json.dumps(
                {"1": graphs.node("T", v="a-" * 700_000) | {"_meta": {"title": "Secret Sauce"}}}
            )
        ),
        "three kinds of texts": png(
            prompt=json.dumps(
                {str(n): graphs.node("T", text1="a-b_c=d e", text2=f"e {n}") for n in range(900)}
            ),
            workflow=json.dumps(
                {"nodes": [{"id": 1, "type": "T", "widgets_values": ["a-b_c=d e f"] * 30_000}]}
            ),
            parameters="<lora:a:1> " * 18_000 + "\nSteps: 20, Seed: 3, CFG scale: 7",
        ),
    }


HEAVY = heavy_graphs() | amplified()


@pytest.mark.parametrize("name", HEAVY)
def test_a_hostile_graph_costs_a_bounded_number_of_calls_and_16_mb(name: str) -> None:
    source = BytesSource(HEAVY[name])
    tracemalloc.start()
    try:
        make_reading(describe(source, "fox.png"), None, keep_graphs=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16_000_000
    assert count_calls(lambda: make_reading(describe(source, "fox.png"), None, keep_graphs=True)) < 400_000


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
    case = next(case for case in CASES if case.name == name)
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
