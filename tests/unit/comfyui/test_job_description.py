"""What is read from an entry of ComfyUI's history; entries are as 0.3.64 and 0.33.0 made them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cloud_archive.comfyui import job_description
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


def test_what_a_node_took_from_the_cache_is_listed_apart() -> None:
    shown = {
        node: {"images": [{"filename": f"{node}.png", "subfolder": "", "type": "output"}]}
        for node in ("1", "2")
    }
    made = entry({"1": EMPTY, "2": SAVE}, shown)
    made["status"]["messages"][1][1]["nodes"].append("1")
    job = describe_job("p", made)
    assert [file["node"] for file in job["outputs"]] == ["2"]
    assert [file["node"] for file in job["cached_outputs"]] == ["1"]


def test_only_the_client_the_workflow_and_our_options_are_read_of_the_extra_data() -> None:
    made = entry({"2": SAVE}, {})
    made["prompt"][3].update(
        client_id="c",
        auth_token_comfy_org="S3CRET",
        cloud_archive={"tags": ["best"]},
        extra_pnginfo={"workflow": {"nodes": []}, "other": "S3CRET"},
    )
    job = describe_job("p", made)
    assert (job["client_id"], job["options"], job["workflow"]) == ("c", {"tags": ["best"]}, {"nodes": []})
    assert "S3CRET" not in str(job)


@pytest.mark.parametrize(
    ("given", "passed"), [("best", "best"), (["best"], ["best"]), ({}, None), (None, None)]
)
def test_options_of_a_wrong_type_are_passed_on_to_be_named(given: Any, passed: Any) -> None:
    assert describe_job("j", {"prompt": [0, "j", {}, {"cloud_archive": given}]})["options"] == passed


def test_a_failure_says_which_node_failed_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "planted-secret-key")
    made = entry({"2": SAVE}, {})
    failure = {
        "node_id": "2",
        "node_type": "SaveImage",
        "exception_type": "OSError",
        "exception_message": "No space left (planted-secret-key)",
        "traceback": ["a traceback"],
        "current_inputs": {"text": ["a prompt"]},
        "timestamp": 1795843277960,
    }
    made["status"]["messages"][2] = ("execution_error", failure)
    job = describe_job("p", made)
    assert (job["status"], job["finished_at"]) == ("error", 1795843277.96)
    assert job["error"].startswith("SaveImage (node 2): No space left (")
    assert "planted" not in str(job)
    assert "a traceback" not in str(job)
    failure["exception_message"] = " "
    assert describe_job("p", made)["error"] == "SaveImage (node 2): OSError"


def test_of_an_error_that_quotes_a_picture_only_the_beginning_is_searched_for_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A search through 10 MB holds the interpreter's lock for two seconds."""
    searched: list[int] = []

    def redact(text: str, secrets: Any) -> str:
        searched.append(len(text))
        return text

    monkeypatch.setattr(job_description, "redact", redact)
    made = entry({"2": SAVE}, {})
    failure = {"exception_type": "ValueError", "exception_message": "no image: " + "A" * 10_000_000}
    made["status"]["messages"][2] = ("execution_error", failure)
    error = describe_job("p", made)["error"]
    assert error.startswith("no image: AAA")
    assert len(error) == 1000
    assert searched[0] <= 16 * 1024


@pytest.mark.parametrize("timestamp", [10**400, None, "soon", [5]], ids=["huge", "none", "text", "list"])
def test_an_odd_time_is_no_time(timestamp: Any) -> None:
    """One job that can't be described would hold up all later ones."""
    made = entry({"2": SAVE}, {})
    made["status"]["messages"][0] = ("execution_start", {"timestamp": timestamp})
    made["status"]["messages"][2] = ("execution_success", {"timestamp": timestamp})
    before = time.time()
    job = describe_job("p", made)
    assert job["started_at"] is None
    assert before <= job["finished_at"] <= time.time()
