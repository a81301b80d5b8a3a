"""Texts that reach an input with a secret's name over subgraphs and other levels: dropped, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_archive.catalog.secrets import drop_secrets, drop_secrets_in_both


def _values(workflow: dict[str, Any]) -> list[Any]:
    """Return the widget values of the cleaned workflow's nodes, level by level."""
    dropped = drop_secrets(workflow)
    return [
        [node.get("widgets_values") for node in level["nodes"]]
        for level in (dropped, *dropped["definitions"]["subgraphs"])
    ]


def _primitive(identity: int, text: str) -> dict[str, Any]:
    return {"id": identity, "type": "PrimitiveNode", "widgets_values": [text]}


def _wire(identity: int, origin: int, slot: int, target: int, target_slot: int) -> dict[str, Any]:
    return {
        "id": identity,
        "origin_id": origin,
        "origin_slot": slot,
        "target_id": target,
        "target_slot": target_slot,
    }


def _subgraph(
    nodes: list[dict[str, Any]], links: list[dict[str, Any]], identity: str = "s"
) -> dict[str, Any]:
    inputs = [{"name": "words"}, {"name": "first"}]
    return {"id": identity, "inputs": inputs, "nodes": nodes, "links": links}


def _instance(
    kind: str = "s", words: int | None = None, first: int | None = None, **more: Any
) -> dict[str, Any]:
    inputs = [
        {"name": name, "widget": {"name": name}, "link": link}
        for name, link in (("words", words), ("first", first))
    ]
    return {"id": 1, "type": kind, "inputs": inputs, **more}


_LLM = {"id": 9, "type": "LLM", "inputs": [{"name": "text", "link": 7}, {"name": "api_key", "link": 8}]}
_INSIDE = _subgraph([_LLM], [_wire(7, -10, 0, 9, 0), _wire(8, -10, 1, 9, 1)])


def test_texts_that_enter_a_subgraph_and_go_to_a_secrets_name_there_are_dropped() -> None:
    outer = _subgraph([_instance(words=5, first=6)], [_wire(5, -10, 0, 1, 0), _wire(6, -10, 1, 1, 1)], "t")
    workflow = {
        "nodes": [_instance("t", words=2, first=3), _primitive(2, "a fox"), _primitive(3, "hush-hush")],
        "links": [[2, 2, 0, 1, 0, "STRING"], [3, 3, 0, 1, 1, "STRING"]],
        "definitions": {"subgraphs": [outer, _INSIDE]},
    }
    assert _values(workflow)[0] == [None, ["a fox"], [""]]


def test_texts_that_leave_a_subgraph_for_a_secrets_name_are_dropped() -> None:
    inside = _subgraph(
        [_primitive(2, "a fox"), _primitive(3, "hush-hush")], [_wire(1, 2, 0, -20, 0), _wire(2, 3, 0, -20, 1)]
    )
    workflow = {
        "nodes": [_LLM, _instance(widgets_values=["a cat", "an owl"])],
        "links": [[7, 1, 0, 9, 0, "STRING"], [8, 1, 1, 9, 1, "STRING"]],
        "definitions": {"subgraphs": [inside]},
    }
    assert _values(workflow) == [[None, ["a cat", "an owl"]], [["a fox"], [""]]]


def test_texts_that_a_bypassed_subgraph_passes_on_to_a_secrets_name_are_dropped() -> None:
    workflow = {
        "nodes": [_LLM, _instance(first=3, mode=4), _primitive(2, "hush-hush")],
        "links": [[8, 1, 0, 9, 1, "STRING"], [3, 2, 0, 1, 1, "STRING"]],
        "definitions": {"subgraphs": [_subgraph([], [])]},
    }
    assert _values(workflow)[0] == [None, None, [""]]


def test_widgets_of_a_subgraph_that_go_to_a_secrets_name_are_dropped() -> None:
    inside = _subgraph([_instance(widgets_values=["a fox", "hush-hush"])], [], "t")
    shown = _instance(
        "t", widgets_values=["a cat", "hush"], properties={"proxyWidgets": [["1", "words"], ["1", "first"]]}
    )
    workflow = {"nodes": [shown], "links": [], "definitions": {"subgraphs": [inside, _INSIDE]}}
    assert _values(workflow) == [[["a cat", ""]], [["a fox", ""]], [None]]


def test_a_primitives_widget_that_a_subgraph_shows_is_dropped() -> None:
    llm = {**_LLM, "inputs": [{"name": "api_key", "link": 8}]}
    inside = _subgraph([llm, _primitive(2, "a fox"), _primitive(3, "hush-hush")], [_wire(8, 3, 0, 9, 0)])
    shown = _instance(
        widgets_values=["a cat", "hush"], properties={"proxyWidgets": [["2", "value"], ["3", "value"]]}
    )
    workflow = {"nodes": [shown], "links": [], "definitions": {"subgraphs": [inside]}}
    assert _values(workflow) == [[["a cat", ""]], [None, ["a fox"], [""]]]


@pytest.mark.parametrize("kind", ["", "easy "])
def test_texts_that_pass_from_set_to_get_on_another_level_are_dropped(kind: str) -> None:
    llm = {**_LLM, "inputs": [{"name": "api_key", "link": 8}]}
    getter = {"id": 4, "type": f"{kind}getNode" if kind else "GetNode", "widgets_values": ["mine"]}
    setter = {
        "id": 3,
        "type": f"{kind}setNode" if kind else "SetNode",
        "inputs": [{"name": "STRING", "link": 8}],
        "widgets_values": ["mine"],
    }
    workflow = {
        "nodes": [_instance(), _primitive(2, "hush-hush"), setter],
        "links": [[8, 2, 0, 3, 0, "STRING"]],
        "definitions": {"subgraphs": [_subgraph([llm, getter], [_wire(8, 4, 0, 9, 0)])]},
    }
    assert _values(workflow) == [[None, [""], ["mine"]], [None, ["mine"]]]


def test_subgraphs_that_hold_each_other_have_an_end() -> None:
    wires = [_wire(5, -10, 0, 1, 0), _wire(6, 1, 1, 1, 1), _wire(8, -10, 0, 9, 1), _wire(9, 1, 0, -20, 0)]
    inside = _subgraph([_instance(words=5, first=6), _LLM], wires)
    workflow = {
        "nodes": [_instance(words=5), _primitive(2, "hush-hush")],
        "links": [[5, 2, 0, 1, 0, "STRING"]],
        "definitions": {"subgraphs": [inside]},
    }
    assert _values(workflow)[0] == [None, [""]]


def test_texts_of_a_linked_node_that_names_its_widgets_are_dropped() -> None:
    workflow = {
        "nodes": [_LLM, {"id": 2, "type": "Text", "widgets_values": {"text": "hush-hush", "lines": 1}}],
        "links": [[8, 2, 0, 9, 1, "STRING"]],
        "definitions": {"subgraphs": []},
    }
    assert _values(workflow) == [[None, {"text": "", "lines": 1}]]


def test_a_secret_of_the_api_graph_is_dropped_from_the_workflow_whatever_its_name_there() -> None:
    prompt = {
        "1": {"class_type": "LLM", "inputs": {"api_key": "hush-hush-hush", "text": "a fox in the snow"}}
    }
    unnamed = {
        "id": 1,
        "type": "LLM",
        "inputs": [],
        "widgets_values": ["hush-hush-hush", "a fox in the snow"],
    }
    _, workflow = drop_secrets_in_both(prompt, {"nodes": [unnamed], "links": []})
    assert workflow["nodes"][0]["widgets_values"] == ["", "a fox in the snow"]


def test_a_secret_that_is_linked_in_the_api_graph_alone_is_dropped_from_the_workflow() -> None:
    """Broadcasting nodes lead to inputs without a link."""
    prompt = {
        "1": {"class_type": "LLM", "inputs": {"api_key": ["2", 0], "text": "a fox in the snow"}},
        "2": {"class_type": "Text", "inputs": {"text": "hush-hush-hush"}},
    }
    source = {"id": 2, "type": "Text", "widgets_values": ["hush-hush-hush"]}
    llm = {"id": 1, "type": "LLM", "inputs": [], "widgets_values": ["", "a fox in the snow"]}
    _, workflow = drop_secrets_in_both(prompt, {"nodes": [source, llm], "links": []})
    assert [node["widgets_values"] for node in workflow["nodes"]] == [[""], ["", "a fox in the snow"]]


def test_a_secret_by_the_name_of_a_subgraph_s_input_is_dropped_from_the_api_graph() -> None:
    inner = {"id": 2, "type": "Post", "inputs": [{"name": "text", "widget": {"name": "text"}, "link": 5}]}
    slot = {"name": "api_key", "widget": {"name": "api_key"}, "link": None}
    subgraph = {
        "id": "inner",
        "inputs": [slot],
        "nodes": [{**inner, "widgets_values": [""]}],
        "links": [_wire(5, -10, 0, 2, 0)],
    }
    workflow = {
        "nodes": [{"id": 1, "type": "inner", "inputs": [slot], "widgets_values": ["hush-hush-hush"]}],
        "definitions": {"subgraphs": [subgraph]},
    }
    prompt = {"1:2": {"class_type": "Post", "inputs": {"text": "hush-hush-hush"}}}
    cleaned = drop_secrets_in_both(prompt, workflow)
    assert "hush" not in str(cleaned)
    assert cleaned[0] == {"1:2": {"class_type": "Post", "inputs": {"text": ""}}}


def test_a_short_secret_of_the_api_graph_stays_in_the_workflow_under_another_name() -> None:
    workflow = {"nodes": [_primitive(1, "euler")], "links": []}
    assert drop_secrets_in_both({"1": {"inputs": {"token": "euler"}}}, workflow)[1] == workflow
