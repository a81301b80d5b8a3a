"""Graph reading: the right prompt, model and seed, and no wrong one with high confidence."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest

from cloud_archive.catalog.graph.nodes import parse_api_graph
from cloud_archive.catalog.graph.read import read_graph
from cloud_archive.catalog.graph.workflow import is_workflow, parse_workflow
from cloud_archive.catalog.graph_facts import GraphFacts
from cloud_archive.catalog.json_text import load_json

from . import graphs
from .graph_cases import CASES
from .graph_cases.core import CORE
from .graph_cases.guiders import GUIDERS
from .graph_cases.texts import TEXTS
from .graphs import BLUR, FOX, MODEL, SEED, Case

_SEEDS = ("seed", "noise_seed")


def facts_of(case: Case) -> GraphFacts:
    return read_graph(parse_api_graph(case.graph), output_node=case.output_node, file_name=case.file_name)


def wrong_fields(case: Case, facts: GraphFacts) -> dict[str, tuple[Any, Any]]:
    expected = {"prompt": case.prompt, "seed": case.seed, "model": case.model, **case.more}
    found = {name: getattr(facts, name, None) for name in expected}
    found["model"] = facts.models[0] if facts.models else None
    if "loras" in found:
        found["loras"] = tuple((lora.name, lora.strength) for lora in facts.loras)
    return {name: (found[name], value) for name, value in expected.items() if found[name] != value}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_reads_what_each_graph_asked_for(case: Case) -> None:
    facts = facts_of(case)
    assert wrong_fields(case, facts) == {}
    assert facts.prompt is not None or facts.confidence == "low"


def test_a_style_without_a_negative_text_does_not_make_the_prompt_the_negative_one() -> None:
    graph = graphs.base(
        styles=graphs.node("SDXL Prompt Styler Basic", text=FOX, style="base"),
        pos=graphs.encoded(graphs.link("styles")),
        neg=graphs.encoded(graphs.link("styles", 1)),
    )
    facts = read_graph(parse_api_graph(graph))
    assert (facts.prompt, facts.negative_prompt) == (FOX, None)


def test_a_text_whose_replacement_is_not_understood_has_low_confidence() -> None:
    replaced = graphs.node("Text Replacer", text="a SUBJECT", search="SUBJECT", replacement="fox")
    facts = read_graph(parse_api_graph(graphs.base(pos=graphs.encoded(graphs.link("text")), text=replaced)))
    assert (facts.prompt, facts.confidence) == ("a SUBJECT", "low")


def test_two_nested_inputs_of_one_name_are_not_mixed_up() -> None:
    inputs = {"first.prompt": FOX, "second.prompt": BLUR, "first.seed": SEED}
    graph = parse_api_graph({"1": {"class_type": "A", "inputs": inputs}})
    assert graph.nodes["1"].inputs == inputs | {"seed": SEED}


def test_the_table_holds_what_it_promises() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
    sure = [case for case in CASES if facts_of(case).confidence == "high"]
    assert len(sure) >= 0.85 * len(CASES)


def as_workflow(graph: dict[str, Any], *, legacy: bool = False) -> dict[str, Any]:
    """Return the UI workflow of an API graph: with a name for each widget, or as the first frontends stored it."""
    numbers = {key: number for number, key in enumerate(graph, 1)}
    links: list[list[Any]] = []
    nodes = []
    for key, node in graph.items():
        inputs: list[dict[str, Any]] = []
        widgets: list[Any] = []
        for name, value in node["inputs"].items():
            if isinstance(value, list) and len(value) == 2 and value[0] in graph:
                links.append([len(links) + 1, numbers[value[0]], value[1], numbers[key], len(inputs), "*"])
                inputs.append({"name": name, "type": "*", "link": len(links)})
                continue
            widgets.append(value)
            if name in _SEEDS:
                widgets.append("randomize")
            if not legacy:
                inputs.append({"name": name, "type": "*", "link": None, "widget": {"name": name}})
        kind = node["class_type"]
        nodes.append(
            {"id": numbers[key], "type": kind, "mode": 0, "inputs": inputs, "widgets_values": widgets}
        )
    return {"version": 0.4, "nodes": nodes, "links": links}


UI_CASES = [case for case in (*CORE, *GUIDERS, *TEXTS) if case.output_node is None]


@pytest.mark.parametrize("case", UI_CASES, ids=lambda case: case.name)
def test_reads_the_same_from_the_ui_workflow(case: Case) -> None:
    workflow = as_workflow(case.graph)
    assert is_workflow(workflow)
    facts = read_graph(parse_workflow(workflow), file_name=case.file_name)
    assert wrong_fields(case, facts) == {}


LEGACY = (
    "text to image",
    "image to image",
    "two passes",
    "SDXL with refiner",
    "Flux",
    "CFG guider",
    "LoRAs in a row",
)


@pytest.mark.parametrize("name", LEGACY)
def test_reads_the_same_from_a_workflow_without_widget_names(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    facts = read_graph(parse_workflow(as_workflow(case.graph, legacy=True)))
    assert wrong_fields(case, facts) == {}


def test_a_seed_s_hidden_control_of_efficiency_nodes_is_no_setting() -> None:
    graph = next(case for case in CASES if case.name == "Efficiency").graph
    workflow = as_workflow(graph, legacy=True)
    by_type(workflow, "KSampler (Efficient)")["widgets_values"][1] = None
    facts = read_graph(parse_workflow(workflow))
    assert (facts.steps, facts.cfg, facts.sampler, facts.scheduler) == (20, 7.0, "euler", "karras")


def test_a_size_in_words_is_not_guessed_to_be_the_prompt() -> None:
    graph = graphs.base(
        load=graphs.node("easy fullLoader", ckpt=MODEL, resolution="1024 x 1024", positive=FOX),
        sampler=graphs.node("easy kSampler", pipe=graphs.link("load"), steps=20, cfg=7.0),
    )
    facts = read_graph(parse_workflow(as_workflow(graph, legacy=True)))
    assert (facts.prompt, facts.confidence) == (FOX, "low")


def by_type(workflow: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(node for node in workflow["nodes"] if node["type"] == kind)
    return found


def lora_workflow() -> dict[str, Any]:
    workflow = as_workflow(next(case for case in CASES if case.name == "LoRAs in a row").graph)
    for node in workflow["nodes"]:
        if node["type"].startswith("LoraLoader"):
            node["outputs"] = [{"name": "MODEL", "type": "*"}, {"name": "CLIP", "type": "CLIP"}]
            node["inputs"].sort(key=lambda item: item["name"] != "model")
    return workflow


def test_a_bypassed_lora_does_not_count_and_passes_the_model_on() -> None:
    workflow = lora_workflow()
    by_type(workflow, "LoraLoader")["mode"] = 4
    facts = read_graph(parse_workflow(workflow))
    assert [lora.name for lora in facts.loras] == ["fur.safetensors"]
    assert facts.models == (MODEL,)


def test_a_muted_branch_does_not_count() -> None:
    case = next(case for case in CASES if case.name == "output chosen by its node")
    workflow = as_workflow(case.graph)
    for node in workflow["nodes"]:
        if node["type"] == "SaveImage" and node["widgets_values"] == ["cat"]:
            node["mode"] = 2
        if node["type"] == "KSampler" and 5 in node["widgets_values"]:
            node["mode"] = 2
    facts = read_graph(parse_workflow(workflow))
    assert (facts.prompt, facts.seed, facts.confidence) == (FOX, SEED, "high")


def test_legacy_primitives_and_reroutes_are_followed() -> None:
    workflow = as_workflow(graphs.base())
    encoder = next(node for node in workflow["nodes"] if node["widgets_values"] == [FOX])
    encoder["inputs"] = [item for item in encoder["inputs"] if item["name"] != "text"]
    encoder["inputs"].append({"name": "text", "type": "STRING", "link": 100, "widget": {"name": "text"}})
    encoder["widgets_values"] = ["an older text"]
    workflow["nodes"] += [
        {"id": 50, "type": "PrimitiveNode", "widgets_values": ["a fox from a primitive", "fixed"]},
        {
            "id": 51,
            "type": "Reroute",
            "inputs": [{"name": "", "type": "*", "link": 101}],
            "widgets_values": [],
        },
    ]
    workflow["links"] += [[100, 51, 0, encoder["id"], 1, "STRING"], [101, 50, 0, 51, 0, "STRING"]]
    assert read_graph(parse_workflow(workflow)).prompt == "a fox from a primitive"


def test_set_and_get_nodes_are_followed() -> None:
    workflow = as_workflow(graphs.base())
    model = by_type(workflow, "KSampler")["inputs"]
    item = next(item for item in model if item["name"] == "model")
    loader = by_type(workflow, "CheckpointLoaderSimple")["id"]
    workflow["nodes"] += [
        {
            "id": 60,
            "type": "SetNode",
            "inputs": [{"name": "MODEL", "link": 200}],
            "widgets_values": ["the model"],
        },
        {"id": 61, "type": "GetNode", "inputs": [], "widgets_values": ["the model"]},
    ]
    workflow["links"] += [[200, loader, 0, 60, 0, "MODEL"], [201, 61, 0, 3, 0, "MODEL"]]
    item["link"] = 201
    assert read_graph(parse_workflow(workflow)).models[0] == MODEL


def subgraph_workflow(*, values: list[Any], shown: bool) -> dict[str, Any]:
    """Text to image inside a subgraph inside a subgraph; only the text comes from outside."""
    inner = as_workflow(
        graphs.base(pos=graphs.encoded("a text that was replaced"), extra=graphs.encoded("unused"))
    )
    inner["nodes"] = [node for node in inner["nodes"] if node["type"] != "SaveImage"]
    encoder = next(node for node in inner["nodes"] if node["widgets_values"] == ["a text that was replaced"])
    next(item for item in encoder["inputs"] if item["name"] == "text")["link"] = 300
    decode = by_type(inner, "VAEDecode")["id"]
    links = [
        {
            "id": link[0],
            "origin_id": link[1],
            "origin_slot": link[2],
            "target_id": link[3],
            "target_slot": link[4],
        }
        for link in inner["links"]
    ]
    links.append(
        {"id": 300, "origin_id": -10, "origin_slot": 0, "target_id": encoder["id"], "target_slot": 1}
    )
    links.append({"id": 301, "origin_id": decode, "origin_slot": 0, "target_id": -20, "target_slot": 0})
    text = {"name": "text", "type": "STRING", "linkIds": [300]}
    image = {"name": "IMAGE", "type": "IMAGE", "linkIds": [301]}
    innermost = {"id": "inner", "nodes": inner["nodes"], "links": links, "inputs": [text], "outputs": [image]}
    middle = {
        "id": "middle",
        "nodes": [
            {
                "id": 1,
                "type": "inner",
                "inputs": [{"name": "text", "type": "STRING", "link": 1, "widget": {"name": "text"}}],
                "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2]}],
                "widgets_values": [],
            }
        ],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0},
            {"id": 2, "origin_id": 1, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        ],
        "inputs": [{"name": "prompt", "type": "STRING", "linkIds": [1]}],
        "outputs": [{"name": "IMAGE", "type": "IMAGE", "linkIds": [2]}],
    }
    instance: dict[str, Any] = {
        "id": 1,
        "type": "middle",
        "inputs": [{"name": "prompt", "type": "STRING", "link": None, "widget": {"name": "prompt"}}],
        "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
        "widgets_values": values,
    }
    save = {
        "id": 2,
        "type": "SaveImage",
        "inputs": [{"name": "images", "link": 1}],
        "widgets_values": ["fox"],
    }
    nodes = [instance, save]
    root_links = [[1, 1, 0, 2, 0, "IMAGE"]]
    if shown:
        nodes.append({"id": 3, "type": "PrimitiveStringMultiline", "inputs": [], "widgets_values": [FOX]})
        root_links.append([2, 3, 0, 1, 0, "STRING"])
        instance["inputs"][0]["link"] = 2
    return {"nodes": nodes, "links": root_links, "definitions": {"subgraphs": [innermost, middle]}}


@pytest.mark.parametrize(("values", "shown"), [([FOX], False), ([], True)])
def test_subgraphs_in_subgraphs_are_opened(values: list[Any], shown: bool) -> None:
    facts = read_graph(parse_workflow(subgraph_workflow(values=values, shown=shown)))
    assert (facts.prompt, facts.seed, facts.models[0]) == (FOX, SEED, MODEL)
    assert (facts.negative_prompt, facts.confidence) == (BLUR, "high")


def test_a_bypassed_subgraph_does_not_count() -> None:
    workflow = subgraph_workflow(values=[FOX], shown=False)
    workflow["nodes"][0]["mode"] = 4
    assert read_graph(parse_workflow(workflow)).prompt is None


def test_a_widget_shown_on_the_subgraph_wins_over_the_one_inside() -> None:
    workflow = subgraph_workflow(values=[], shown=False)
    workflow["nodes"][0]["type"] = "inner"
    inner = workflow["definitions"]["subgraphs"][0]
    sampler = next(node for node in inner["nodes"] if node["type"] == "KSampler")
    workflow["nodes"][0]["properties"] = {"proxyWidgets": [[str(sampler["id"]), "seed"]]}
    workflow["nodes"][0]["widgets_values"] = [77]
    assert read_graph(parse_workflow(workflow)).seed == 77


def test_a_subgraph_shows_its_own_inputs_beside_widgets_inside() -> None:
    workflow = subgraph_workflow(values=[], shown=False)
    workflow["nodes"][0]["type"] = "inner"
    inner = workflow["definitions"]["subgraphs"][0]
    sampler = next(node for node in inner["nodes"] if node["type"] == "KSampler")
    workflow["nodes"][0]["inputs"][0] |= {"name": "text", "widget": {"name": "text"}}
    inside = str(sampler["id"])
    workflow["nodes"][0]["properties"] = {
        "proxyWidgets": [["-1", "text"], [inside, "seed"], [inside, "steps"]]
    }
    workflow["nodes"][0]["widgets_values"] = ["a green owl", 77, None]
    facts = read_graph(parse_workflow(workflow))
    assert (facts.prompt, facts.seed) == ("a green owl", 77)
    assert (
        facts.steps == read_graph(parse_workflow(subgraph_workflow(values=[], shown=False))).steps is not None
    )


def test_outputs_that_disagree_lower_the_confidence() -> None:
    case = next(case for case in CASES if case.name == "output chosen by its node")
    facts = read_graph(parse_api_graph(case.graph))
    assert facts.confidence == "low"
    assert {FOX, "a blue cat"} <= set(facts.texts)


def test_every_text_and_model_is_searchable() -> None:
    case = next(case for case in CASES if case.name == "switch of models")
    facts = facts_of(case)
    assert {FOX, BLUR} <= set(facts.texts)
    assert {MODEL, "other.safetensors"} <= set(facts.model_names)


def test_reads_every_template_workflow() -> None:
    folder = resources.files("comfyui_workflow_templates_json") / "templates"
    read = with_text = with_model = 0
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".json"):
            continue
        text = file.read_text("utf-8")
        workflow = load_json(text)
        if not is_workflow(workflow):
            continue
        facts = read_graph(parse_workflow(workflow))
        read += 1
        with_text += bool(facts.texts)
        with_model += bool(facts.model_names)
        names = set(facts.model_names)
        missing = {name for name in _active_model_files(workflow) if name not in names}
        assert not missing, (file.name, missing)
        prompts = {prompt for prompt in _active_prompts(workflow) if prompt.strip() not in facts.texts}
        assert not prompts, (file.name, prompts)
    assert read >= 600
    assert with_text > 500
    assert with_model > 250


def _active_nodes(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in workflow["nodes"] if node.get("mode", 0) == 0]


def _active_model_files(workflow: dict[str, Any]) -> set[str]:
    kinds = (
        "UNETLoader",
        "CheckpointLoaderSimple",
        "VAELoader",
        "CLIPLoader",
        "LoraLoaderModelOnly",
        "DualCLIPLoader",
    )
    return {
        value
        for node in _active_nodes(workflow)
        if node["type"] in kinds
        for value in node["widgets_values"]
        if isinstance(value, str) and value.endswith((".safetensors", ".gguf", ".ckpt"))
    }


def _active_prompts(workflow: dict[str, Any]) -> set[str]:
    kinds = ("CLIPTextEncode", "TextEncodeQwenImageEditPlus", "PrimitiveStringMultiline")
    return {
        node["widgets_values"][0]
        for node in _active_nodes(workflow)
        if node["type"] in kinds
        and not any(item.get("link") for item in node.get("inputs", []) if item.get("widget"))
        and len(node["widgets_values"][0].strip()) > 1
        and not node["widgets_values"][0].strip().startswith(("{", "["))
    }
