"""Jobs as they are sent to the engine: large graphs, and entries of the history of any shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.comfyui.job_capture import MAX_JOB_BYTES, encode_in_pieces, encode_job

SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "sub/run"}}


@pytest.mark.parametrize("where", ["prompt", "workflow"])
def test_a_graph_that_is_too_large_is_left_out(where: str) -> None:
    graphs: dict[str, dict[str, Any]] = {"prompt": {"2": SAVE}, "workflow": {"nodes": []}}
    graphs[where] = graphs[where] | {"x": "y" * MAX_JOB_BYTES}
    extra = {"extra_pnginfo": {"workflow": graphs["workflow"]}}
    made = {"prompt": (0, "p", graphs["prompt"], extra, ["2"]), "outputs": {}}
    content = encode_job("p", made)
    job = json.loads(content)
    assert len(content) < MAX_JOB_BYTES
    assert (job["prompt"] is None, job["workflow"]) == (where == "prompt", None)


def history_entry(count: int, name: str, **more: Any) -> dict[str, Any]:
    images = [{"filename": f"{number}{name}", "subfolder": "", "type": "output"} for number in range(count)]
    options = {"tags": ["client-a"], "urls": True}
    extra = {"cloud_archive": options, "client_id": "c", "extra_pnginfo": {"workflow": {"nodes": []}}}
    return {
        "prompt": (0, "p", {"2": SAVE}, extra, ["2"]),
        "outputs": {"2": {"images": images}},
        "status": {"status_str": "error", "messages": [("execution_start", {"timestamp": 5000})]},
        **more,
    }


def test_a_large_graph_takes_no_options_with_it() -> None:
    entry = history_entry(1, ".png")
    entry["prompt"][2]["1"] = {"inputs": {"image": "x" * MAX_JOB_BYTES}}
    job = json.loads(encode_job("p", entry))
    assert job["prompt"] is None
    assert job["options"] == {"tags": ["client-a"], "urls": True}


def test_files_whose_names_are_too_large_together_are_cut_and_the_rest_of_the_job_is_kept() -> None:
    entry = history_entry(10_000, "狐" * 200)
    content = encode_job("p", entry)
    job = json.loads(content)
    assert len(content) <= MAX_JOB_BYTES
    assert [file["filename"] for file in job["outputs"][:2]] == ["0" + "狐" * 200, "1" + "狐" * 200]
    assert 4000 < len(job["outputs"]) < 10_000
    assert (job["status"], job["started_at"], job["options"]["urls"]) == ("error", 5.0, True)
    assert job["outputs_left_out"] is True


def test_a_text_that_is_too_large_takes_no_file_with_it() -> None:
    entry = history_entry(2, ".png")
    entry["prompt"][3]["client_id"] = "c" * MAX_JOB_BYTES
    job = json.loads(encode_job("p", entry))
    assert (len(job["outputs"]), job["status"], job["client_id"]) == (2, "error", None)


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
