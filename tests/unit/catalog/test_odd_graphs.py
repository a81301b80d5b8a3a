"""No graph, workflow or text makes the reading of graphs raise or hang."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_archive.catalog.graph.nodes import parse_api_graph
from cloud_archive.catalog.graph.read import read_graph
from cloud_archive.catalog.graph.workflow import is_workflow, parse_workflow
from cloud_archive.catalog.json_text import load_json

from .graph_cases import CASES
from .graphs import BLUR, guided, link, node, text_from

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
LINKS = st.tuples(st.sampled_from("123456"), st.integers(0, 3)).map(list)
_INPUT_NAMES = """
    model positive negative latent_image seed steps cfg text conditioning pipe guider sigmas noise select input1 input2
    on_true on_false switch lora_name lora_1 ckpt_name images samples filename_prefix populated_text string_a string_b
    delimiter denoise width height prompt value any_01 loras
"""
NAMES = st.sampled_from(_INPUT_NAMES.split())
KINDS = st.sampled_from([node["class_type"] for case in CASES for node in case.graph.values()])
NODES = st.fixed_dictionaries(
    {
        "class_type": KINDS,
        "inputs": st.dictionaries(NAMES, LINKS | SCALARS | st.lists(SCALARS, max_size=3), max_size=8),
    }
)


@settings(max_examples=60)
@given(graph=st.dictionaries(st.sampled_from("123456"), NODES, min_size=1))
def test_no_graph_makes_the_reading_raise_or_hang(graph: dict[str, Any]) -> None:
    read_graph(parse_api_graph(graph))


SAMPLED: dict[str, tuple[str, dict[str, Any]]] = {
    "sampler": ("KSampler", {"seed": ["switch", 0], "steps": 20, "cfg": 7.0, "positive": ["text", 0]}),
    "switch": ("ImpactSwitch", {"select": 1, "input1": 5, "input2": 6}),
    "text": ("CLIPTextEncode", {"text": ["styler", 0]}),
    "styler": ("SDXLPromptStylerAdvanced", {"text_positive_g": "a red fox", "style": "none"}),
    "concatenate": ("StringConcatenate", {"string_a": "a", "string_b": "b"}),
    "loras": ("CR LoRA Stack", {"lora_name_1": "fur.safetensors", "num_loras": 1}),
    "save": ("SaveImage", {"images": ["sampler", 0], "filename_prefix": "x"}),
}
_HUGE, _LONG = 10**400, "1" * 5000


@pytest.mark.parametrize(
    ("node", "odd"),
    [
        ("sampler", {}),
        ("switch", {"select": float("nan")}),
        ("switch", {"select": float("inf")}),
        ("switch", {"select": _HUGE}),
        ("switch", {"select": f"input {_LONG}"}),
        ("switch", {f"input{_LONG}": 7}),
        ("sampler", {"steps": _HUGE}),
        ("sampler", {"cfg": _HUGE}),
        ("sampler", {"denoise": _HUGE}),
        ("text", {"text": ["styler", -4]}),
        ("concatenate", {f"string_{_LONG}": "c"}),
        ("sampler", {"positive": ["concatenate", 0]}),
        ("loras", {f"lora_name_{_LONG}": "x.safetensors"}),
        ("loras", {"lora_wt_1": _HUGE}),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(name[:16] for name in value),
)
def test_a_number_that_makes_no_sense_costs_only_its_own_value(node: str, odd: dict[str, Any]) -> None:
    graph = {name: {"class_type": kind, "inputs": dict(inputs)} for name, (kind, inputs) in SAMPLED.items()}
    graph[node]["inputs"] |= odd  # type: ignore[operator]
    graph["sampler"]["inputs"]["model"] = ["concatenate", 0]  # type: ignore[index]
    facts = read_graph(parse_api_graph(graph))
    assert "a red fox" in facts.texts
    assert "fur.safetensors" in facts.model_names
    if node in ("switch", "loras"):
        assert facts.prompt == "a red fox"
        assert (facts.steps, facts.cfg) == (20, 7.0)


def test_an_input_of_a_subgraph_whose_name_is_a_list_has_no_value() -> None:
    slot: dict[str, Any] = {"name": ["text"], "link": None}
    inner = {
        "id": "inner",
        "nodes": [{"id": 2, "type": "CLIPTextEncode", "inputs": [{"name": "text", "link": 7}]}],
        "links": [{"id": 7, "origin_id": -10, "origin_slot": 0}],
        "inputs": [slot],
    }
    workflow = {
        "nodes": [
            {"id": 1, "type": "inner", "inputs": [slot]},
            {"id": 3, "type": "Note", "widgets_values": ["x"]},
        ],
        "definitions": {"subgraphs": [inner]},
    }
    assert parse_workflow(workflow).nodes["1:2"].inputs == {}


@pytest.mark.parametrize(
    "graph",
    [
        text_from(text=node("ImpactSwitch", select=1, **{"0" * 500_000 + "x": "a"})),
        text_from(
            text=node("ImpactWildcardProcessor", populated_text="", wildcard_text="{" + "|" * 1_000_000)
        ),
        guided(
            node("CFGGuider", model=link("unet"), positive=link("pos"), negative=link("neg")),
            sigmas=node("ManualSigmas", sigmas=" " * 1_000_000),
        ),
    ],
    ids=("input name", "alternatives", "sigmas"),
)
def test_a_text_that_expressions_would_search_for_hours_is_read_at_once(graph: dict[str, Any]) -> None:
    assert BLUR in read_graph(parse_api_graph(graph)).texts


def subgraph_workflow(inner: list[dict[str, Any]], *instances: dict[str, Any]) -> dict[str, Any]:
    links = [{"id": 1, "origin_id": 1, "origin_slot": 0}]
    return {
        "nodes": [{"type": "inner", **one} for one in instances],
        "definitions": {"subgraphs": [{"id": "inner", "nodes": inner, "links": links}]},
    }


GROWING: dict[str, dict[str, Any]] = {
    "replacement": text_from(text=node("StringReplace", string="a" * 1000, find="a", replace="b" * 100_000)),
    "separator": text_from(
        text=node("Text Concatenate", delimiter="d" * 500_000, **{f"text_{n}": "a" for n in range(200)})
    ),
    "parts": text_from(
        text=node("StringConcatenate", **{f"string_{n}": link("long") for n in range(200)}),
        long=node("PrimitiveString", value="a" * 500_000),
    ),
    "ids": subgraph_workflow(
        [{"id": n, "type": "X", "inputs": [{"name": "a", "link": 1}]} for n in range(400)],
        {"id": "i" * 500_000},
    ),
    "copies": subgraph_workflow(
        [{"id": 1, "type": "X", "widgets_values": {"w": "a"}, **{f"k{n}": 0 for n in range(12_000)}}],
        *(
            {"id": n, "properties": {"proxyWidgets": [["1", "w"]]}, "widgets_values": ["b"]}
            for n in range(200)
        ),
    ),
}


@pytest.mark.parametrize("name", GROWING)
def test_a_small_graph_does_not_grow_while_it_is_read(name: str) -> None:
    graph = GROWING[name]
    tracemalloc.start()
    try:
        if is_workflow(graph):
            with contextlib.suppress(ValueError):
                read_graph(parse_workflow(graph))
        else:
            read_graph(parse_api_graph(graph))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16_000_000


def test_replacing_and_joining_stop_at_the_longest_text() -> None:
    for text in (
        node("StringReplace", string="ab" * 4000, find="a", replace="ccc"),
        node("Text Concatenate", delimiter="b", **{f"text_{n}": "ccc" for n in range(4000)}),
    ):
        assert read_graph(parse_api_graph(text_from(text=text))).prompt == ("cccb" * 4000)[:10_000]
    removed = node("StringReplace", string="a" * 20_000 + "b", find="a", replace="")
    assert read_graph(parse_api_graph(text_from(text=removed))).prompt == "b"


def test_lists_and_long_texts_are_no_types_ids_or_links() -> None:
    assert parse_api_graph({"1": node("X" * 1000, **{"a" * 1000: 1})}).nodes["1"].type == "X" * 200
    nodes = [
        {
            "id": 1,
            "type": "SetNode",
            "widgets_values": ["['name']"],
            "inputs": [{"name": "value", "link": 1}],
        },
        {"id": 2, "type": "GetNode", "widgets_values": [["name"]]},
        {"id": 3, "type": ["PrimitiveNode"], "widgets_values": []},
        {"id": 4, "type": "X", "inputs": [{"name": "get", "link": 2}, {"name": "list", "link": ["3"]}]},
        {"id": ["5"], "type": "X"},
    ]
    workflow = {"nodes": nodes, "links": [[1, 3, 0], [2, 2, 0], [["3"], 3, 0]]}
    found = parse_workflow(workflow).nodes
    assert found["4"].inputs == {}
    assert found["3"].type == ""
    assert set(found) == {"3", "4"}


JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4)
)
VIRTUAL = st.sampled_from(["inner", "Reroute", "GetNode", "SetNode", "PrimitiveNode"])
UI_NODES = st.fixed_dictionaries(
    {
        "id": st.integers(1, 6) | JSON,
        "type": KINDS | VIRTUAL,
    },
    optional={
        "mode": st.sampled_from([0, 2, 4]) | JSON,
        "inputs": JSON
        | st.lists(
            st.fixed_dictionaries({"name": NAMES, "link": st.integers(1, 8), "type": st.just("*")}),
            max_size=4,
        ),
        "outputs": JSON,
        "widgets_values": JSON | st.lists(SCALARS, max_size=6),
        "properties": JSON,
    },
)
_NUMBERS = (st.integers(1, 8), st.integers(1, 6), st.integers(0, 2), st.integers(1, 6), st.integers(0, 2))
UI_LINKS = st.lists(st.tuples(*_NUMBERS).map(list) | JSON, max_size=8)


@settings(max_examples=60)
@given(
    nodes=st.lists(UI_NODES, max_size=6),
    links=UI_LINKS,
    inner=st.lists(UI_NODES, max_size=3),
    inner_links=UI_LINKS,
)
def test_no_workflow_makes_the_reading_raise_or_hang(
    nodes: list[Any], links: list[Any], inner: list[Any], inner_links: list[Any]
) -> None:
    subgraph = {
        "id": "inner",
        "nodes": inner,
        "links": inner_links,
        "inputs": [{"name": "text"}],
        "outputs": [],
    }
    workflow = {"nodes": nodes, "links": links, "definitions": {"subgraphs": [subgraph]}}
    if is_workflow(workflow):
        read_graph(parse_workflow(workflow))


def test_json_that_would_grow_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        load_json("[" * 1_000_000)
    with pytest.raises(ValueError, match="nested"):
        load_json("[" * 50_000 + "]" * 50_000)
    assert json.dumps(load_json('{"cfg": NaN}')) == '{"cfg": NaN}'


def test_a_picture_in_a_widget_is_no_prompt() -> None:
    pixel = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    for picture in ("/9j/" + "4AAQSkZJRg" * 10 + "==", "data:image/png;base64," + "iVBORw0KGgo" * 10, pixel):
        loader = {"id": 1, "type": "easy loadImageBase64", "widgets_values": [picture, "Hide"]}
        loader["outputs"] = [{"name": "IMAGE", "links": [1]}]
        save = {"id": 2, "type": "SaveImage", "widgets_values": ["a"]}
        save["inputs"] = [{"name": "images", "link": 1}]
        facts = read_graph(parse_workflow({"nodes": [loader, save], "links": [[1, 1, 0, 2, 0, "IMAGE"]]}))
        assert (facts.prompt, facts.texts) == (None, ())


def test_a_long_text_without_spaces_is_found() -> None:
    for text in (
        "xtuner/llava-llama-3-8b-v1_1-transformers",
        "a_red_fox_in_the_snow_at_night_with_stars_above_it",
    ):
        loader = {"id": 1, "type": "Loader of a pack", "widgets_values": [text, "disabled"]}
        loader["outputs"] = [{"name": "IMAGE", "links": [1]}]
        save = {"id": 2, "type": "SaveImage", "widgets_values": ["a"]}
        save["inputs"] = [{"name": "images", "link": 1}]
        facts = read_graph(parse_workflow({"nodes": [loader, save], "links": [[1, 1, 0, 2, 0, "IMAGE"]]}))
        assert facts.texts == (text,)


def test_a_question_about_a_picture_is_no_prompt() -> None:
    encoder = {"id": 1, "type": "CLIPTextEncode", "inputs": [{"name": "text", "link": 1}]}
    encoder["outputs"] = [{"name": "CONDITIONING", "links": [2]}]
    asked = {"id": 2, "type": "BLIP Analyze Image", "widgets_values": ["caption", "What is behind it?"]}
    sampler = {"id": 3, "type": "KSampler", "widgets_values": [5, "fixed", 20, 7, "euler", "karras", 1]}
    sampler["inputs"] = [{"name": "positive", "link": 2}]
    links = [[1, 2, 0, 1, 0, "STRING"], [2, 1, 0, 3, 0, "CONDITIONING"]]
    facts = read_graph(parse_workflow({"nodes": [encoder, asked, sampler], "links": links}))
    assert (facts.prompt, facts.seed) == (None, 5)
