"""What is read from ComfyUI's history: entries as 0.3.64 and 0.33.0 made them, and entries of no known shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.comfyui.job_capture import MAX_JOB_BYTES, encode_in_pieces, encode_job
from cloud_archive.comfyui.job_description import describe_job

EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 2, "color": 4}}
EXPANDER = {"class_type": "Expander", "inputs": {"images": ["1", 0]}}
SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "sub/run"}}


def entry(graph: dict[str, Any], outputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One entry of the history, with what every one has."""
    return {
        "prompt": (0, "p", graph, {"create_time": 1795843276540}, ["2"]),
        "outputs": outputs,
        "status": {
            "status_str": "success",
            "completed": True,
            "messages": [
                ("execution_start", {"prompt_id": "p", "timestamp": 1795843277905}),
                ("execution_cached", {"nodes": [], "prompt_id": "p", "timestamp": 1795843277907}),
                ("execution_success", {"prompt_id": "p", "timestamp": 1795843277953}),
            ],
        },
        **more,
    }


def test_a_file_of_a_node_that_expanded_itself_belongs_to_the_node_of_the_graph() -> None:
    shown = {"7.0.0.1": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}}
    meta = {
        "7.0.0.1": {"node_id": "7.0.0.1", "display_node": "7", "parent_node": "7", "real_node_id": "7"},
    }
    job = describe_job("p", entry({"1": EMPTY, "7": EXPANDER}, shown, meta=meta))
    assert job["outputs"] == [{"node": "7", "filename": "a.png", "subfolder": "", "type": "output"}]
    assert job["finished_at"] == 1795843277.953


def test_files_of_every_kind_are_named_and_other_results_are_not() -> None:
    shown = {
        "2": {
            "images": [{"filename": "a.webp", "subfolder": "", "type": "output"}],
            "animated": (True,),
            "text": ["a text", "b.png"],
        },
        "3": {
            "gifs": [
                {
                    "filename": "v.mp4",
                    "subfolder": "x",
                    "type": "output",
                    "format": "video/h264-mp4",
                    "frame_rate": 8.0,
                    "workflow": "v.png",
                    "fullpath": "/output/x/v.mp4",
                }
            ]
        },
        "4": {"audio": [{"filename": "s.flac", "subfolder": "audio", "type": "output"}]},
        "5": {"result": ["mesh.glb", None, {"position": 1}]},
        "6": {
            "3d": [
                {"filename": "m.glb", "subfolder": "", "type": "output"},
                {"filename": 7, "type": "output"},
            ]
        },
    }
    job = describe_job("p", entry({"2": SAVE}, shown))
    assert [(file["node"], file["subfolder"], file["filename"]) for file in job["outputs"]] == [
        ("2", "", "a.webp"),
        ("3", "x", "v.mp4"),
        ("4", "audio", "s.flac"),
        ("6", "", "m.glb"),
    ]


def test_a_job_whose_status_comfyui_does_not_keep_is_passed_on_as_well() -> None:
    shown = {"2": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}}
    job = describe_job("p", entry({"2": SAVE}, shown) | {"status": None})
    assert (job["status"], len(job["outputs"])) == (None, 1)


@pytest.mark.parametrize("where", ["prompt", "workflow"])
def test_a_graph_that_is_too_large_is_left_out(where: str) -> None:
    graphs: dict[str, dict[str, Any]] = {"prompt": {"2": SAVE}, "workflow": {"nodes": []}}
    graphs[where] = graphs[where] | {"x": "y" * MAX_JOB_BYTES}
    made = entry(graphs["prompt"], {})
    made["prompt"][3]["extra_pnginfo"] = {"workflow": graphs["workflow"]}
    content = encode_job("p", made)
    job = json.loads(content)
    assert len(content) < MAX_JOB_BYTES
    assert (job["prompt"] is None, job["workflow"]) == (where == "prompt", None)


def test_a_large_workflow_is_encoded_in_small_pieces() -> None:
    nodes = [{"id": number, "type": "KSampler", "widgets_values": [1, "ä" * 50]} for number in range(3000)]
    subgraph = {"id": "s", "nodes": nodes, "links": [[1, 2, 0, 3, 0, "IMAGE"]]}
    workflow = {
        "nodes": nodes,
        "definitions": {"subgraphs": [subgraph]},
        "extra": {},
        "config": {7: [float("inf")]},
    }
    job = {
        "job_id": "p",
        "prompt": {str(node["id"]): node for node in nodes},
        "workflow": workflow,
        "outputs": [],
    }
    pieces = list(encode_in_pieces(job))
    assert "".join(pieces) == json.dumps(job, separators=(",", ":"))
    assert max(map(len, pieces)) < 500


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt": st.tuples(json_values, json_values, json_values, json_values) | json_values,
            "outputs": st.dictionaries(
                st.text(max_size=3), st.dictionaries(st.text(max_size=3), json_values)
            ),
            "status": st.fixed_dictionaries(
                {"messages": st.lists(st.tuples(st.text(max_size=3), json_values))}
            )
            | json_values,
            "meta": json_values,
        },
    )
    | json_values
)
def test_an_entry_of_any_shape_becomes_a_job(made: Any) -> None:
    job = json.loads(encode_job("p", made))
    assert (job["job_id"], type(job["outputs"])) == ("p", list)
