"""Secrets in graphs: dropped by name and by look, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_archive.catalog.describe import Job, describe
from cloud_archive.catalog.secrets import drop_secrets, drop_secrets_in_text, is_secret_name
from cloud_archive.catalog.source import BytesSource

from . import graphs

# Put together here, so that no scanner takes them for real ones.
KEYS = {
    "openai": "sk-" + "proj-Ab12Cd34Ef56Gh78Ij90",
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "hugging face": "hf_" + "AbCdEfGhIjKlMnOpQrStUvWx",
    "github": "ghp_" + "AbCdEfGhIjKlMnOpQrStUvWxYz012345",
    "google": "AIza" + "SyA1234567890abcdefghijklmnopqrstu",
    "replicate": "r8_" + "AbCdEfGhIjKlMnOpQrStUvWxYz0123",
    "comfy": "comfyui-" + "0123456789abcdef0123456789abcdef",
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.abcDEF123",
    "bearer": "Bearer " + "abcdef123456789",
    "slack": "xoxb-" + "123456789012-abcdefgh",
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_what_looks_like_a_key_is_dropped_anywhere(key: str) -> None:
    secret = key.removeprefix("Bearer ")
    graph = graphs.base(
        extra=graphs.node("Anything", note=f"use {key} here", other=key, listed=[key], deep={"x": [key]})
    )
    assert secret not in json.dumps(drop_secrets(graph))
    assert drop_secrets_in_text(f"a fox {key} in snow").startswith("a fox [removed]")


@pytest.mark.parametrize("before", ["keyJson_", "keyJwt-"])
def test_a_token_behind_a_word_that_holds_its_beginning_is_dropped(before: str) -> None:
    assert drop_secrets_in_text(f"{before}{KEYS['jwt']} in snow") == f"{before}[removed] in snow"


@pytest.mark.parametrize(
    "text",
    [
        "a torch bearer illuminating the hall",
        "a ring bearer extraordinarily-dressed, in snow",
        "Bearer Extraordinaire. A fox",
        "the bearer, notwithstanding",
    ],
)
def test_words_behind_a_bearer_stay(text: str) -> None:
    assert drop_secrets_in_text(text) == text


@pytest.mark.parametrize(
    "token",
    [
        "abcdefghijkl1",
        "abcdefghijklMNOP",
        "abc_defghijklm",
        "abcdefghijkl=",
        "ABCDEFGHIJKLM",
        "abc-1234567890",
        "abcdef.ghijkl.mnop",
        "abcdefghij-.1",
    ],
)
def test_what_is_no_word_behind_a_bearer_is_dropped(token: str) -> None:
    assert drop_secrets_in_text(f"use Bearer {token} here") == "use [removed] here"


SECRET_NAMES = """
    api_key apiKey API_KEY api-key openai_api_key hf_token access_token password secret client_secret auth_token
    aws_secret_access_key Authorization token api_key_2 user_password
    db_pwd session_cookie access_tokens
"""


@pytest.mark.parametrize(
    "name",
    SECRET_NAMES.split(),
)
def test_a_widget_with_a_secrets_name_is_dropped(name: str) -> None:
    assert is_secret_name(name)
    dropped = drop_secrets({"1": graphs.node("LLM", **{name: "plain-words-1", "text": "a fox"})})
    assert "plain-words-1" not in json.dumps(dropped)
    assert dropped["1"]["inputs"]["text"] == "a fox"


OTHER_NAMES = """
    token_normalization max_tokens tokenizer keyframe key text seed monkey keyword keywords author
    api_version guidance passes key_color hotkey
"""


@pytest.mark.parametrize(
    "name",
    OTHER_NAMES.split(),
)
def test_other_widgets_stay(name: str) -> None:
    assert not is_secret_name(name)
    assert drop_secrets({name: "mean"}) == {name: "mean"}


def test_random_words_under_an_unclear_name_are_dropped() -> None:
    assert drop_secrets({"key": "q8Zt4LmP0xVw7RbK2nYd"}) == {"key": ""}
    assert drop_secrets({"civitai_key": "q8Zt4LmP0xVw7RbK2nYd"}) == {"civitai_key": ""}
    assert drop_secrets({"key": "ctrl+shift+s"}) == {"key": "ctrl+shift+s"}


def test_links_under_a_secrets_name_stay() -> None:
    graph = {
        "1": graphs.node("LLM", api_key=["2", 0]),
        "2": graphs.node("PrimitiveString", "My API key", value="hush-hush"),
    }
    dropped = drop_secrets(graph)
    assert dropped["1"]["inputs"]["api_key"] == ["2", 0]
    assert "hush-hush" not in json.dumps(dropped)


def test_texts_that_are_linked_to_a_secrets_name_are_dropped() -> None:
    graph = {
        "1": graphs.node("LLM", api_key=["2", 0], text=["4", 0]),
        "2": graphs.node("Reroute", value=["3", 0]),
        "3": graphs.node("PrimitiveString", value="hush-hush"),
        "4": graphs.node("PrimitiveString", value="a fox"),
    }
    named = [{"name": "api_key", "link": 7}, {"name": "text", "link": 8}]
    nodes: list[dict[str, Any]] = [
        {"id": 1, "type": "LLM", "inputs": named, "widgets_values": []},
        {"id": 2, "type": "PrimitiveNode", "widgets_values": ["hush-hush"]},
        {"id": 3, "type": "PrimitiveNode", "widgets_values": ["a fox"]},
    ]
    level = {"nodes": nodes, "links": [[7, 2, 0, 1, 0, "STRING"], [8, 3, 0, 1, 1, "STRING"]]}
    inner = {"nodes": nodes, "links": [{"id": 7, "origin_id": 2}, {"id": 8, "origin_id": 3}]}
    workflow = {**level, "definitions": {"subgraphs": [inner]}}
    for whole, foxes in ((graph, 1), (workflow, 2)):
        dropped = json.dumps(drop_secrets(whole))
        assert "hush-hush" not in dropped
        assert dropped.count("a fox") == foxes


def test_texts_that_set_and_get_nodes_pass_on_to_a_secrets_name_are_dropped() -> None:
    nodes: list[dict[str, Any]] = [
        {"id": 1, "type": "LLM", "inputs": [{"name": "api_key", "link": 7}], "widgets_values": []},
        {"id": 2, "type": "GetNode", "widgets_values": ["mine"]},
        {"id": 3, "type": "SetNode", "inputs": [{"name": "STRING", "link": 8}], "widgets_values": ["mine"]},
        {"id": 4, "type": "PrimitiveNode", "widgets_values": ["hush-hush"]},
    ]
    level = {"nodes": nodes, "links": [[7, 2, 0, 1, 0, "STRING"], [8, 4, 0, 3, 0, "STRING"]]}
    dropped = [node["widgets_values"] for node in drop_secrets(level)["nodes"]]
    assert dropped == [[], ["mine"], ["mine"], [""]]


@pytest.mark.parametrize(
    "text",
    [
        "https://host/a.png?sig=SECRET",
        "https://host/a.png?x=1&key=SECRET",
        "https://host/a?apiKey=SECRET",
        "https://host/a?accessToken=SECRET&x=1",
        "https://host/a?client_secret=SECRET",
        "https://storage.googleapis.com/bucket/a.png?X-Goog-Signature=SECRET",
        "https://bucket.s3.amazonaws.com/a.png?Expires=1&Signature=SECRET",
        "OPENAI_API_KEY=SECRET",
        "https://discord.com/api/webhooks/123456/SECRET",
        "https://hooks.slack.com/services/SECRET",
    ],
)
def test_secrets_in_urls_and_assignments_are_dropped(text: str) -> None:
    secret = "q8Zt4LmP0xVw7RbK2nYd"
    assert secret not in drop_secrets_in_text(f"see {text.replace('SECRET', secret)} for foxes")


def test_widgets_of_a_workflow_are_dropped_by_name_and_by_title() -> None:
    named = {
        "id": 1,
        "type": "LLM",
        "inputs": [
            {"name": "prompt", "widget": {"name": "prompt"}, "link": None},
            {"name": "api_key", "widget": {"name": "api_key"}, "link": None},
        ],
        "widgets_values": ["a fox", "hush-hush"],
    }
    titled = {
        "id": 2,
        "type": "PrimitiveNode",
        "title": "OpenAI API Key",
        "inputs": [],
        "widgets_values": ["quiet-one"],
    }
    keyed = {"id": 3, "type": "VHS", "inputs": [], "widgets_values": {"password": "third", "text": "a fox"}}
    inner = {"id": "s", "nodes": [named], "links": []}
    workflow: dict[str, Any] = {
        "nodes": [named, titled, keyed],
        "links": [],
        "definitions": {"subgraphs": [inner]},
    }
    dropped = json.dumps(drop_secrets(workflow))
    for secret in ("hush-hush", "quiet-one", "third"):
        assert secret not in dropped
    assert dropped.count("a fox") == 3


def test_widgets_that_a_subgraph_shows_are_dropped_by_name() -> None:
    instance = {
        "id": 1,
        "type": "s",
        "inputs": [{"name": "api_key", "widget": {"name": "api_key"}, "link": None}],
        "properties": {"proxyWidgets": [["-1", "api_key"], ["5", "text"], ["5", "api_key"], ["5", "seed"]]},
        "widgets_values": ["hush-hush", "a fox", "quiet-one", None],
    }
    assert drop_secrets(instance)["widgets_values"] == ["", "a fox", "", None]


@pytest.mark.parametrize("depth", range(55, 65))
def test_a_node_too_deep_in_a_graph_is_cut_off(depth: int) -> None:
    graph: dict[str, Any] = {"type": "Anything", "widgets_values": [KEYS["aws"]]}
    for _ in range(depth):
        graph = {"inner": graph}
    assert KEYS["aws"] not in json.dumps(drop_secrets(graph))


def test_a_title_or_a_type_may_be_a_deep_list() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    nodes: list[dict[str, Any]] = [
        {"title": deep},
        {"_meta": {"title": deep}},
        {"type": deep, "widgets_values": []},
    ]
    for node in nodes:
        assert drop_secrets(node).keys() == node.keys()


def test_urls_lose_their_credentials_only() -> None:
    assert drop_secrets_in_text("https://user:pass@host/a.png") == "https://[removed]@host/a.png"
    url = "https://s3/a.png?X-Amz-Signature=abcdef&x=1"
    assert drop_secrets_in_text(url) == "https://s3/a.png?[removed]&x=1"


def test_no_part_of_a_description_holds_a_secret() -> None:
    secret = KEYS["openai"]
    graph = graphs.base(
        pos=graphs.encoded(f"a fox {secret}"),
        llm=graphs.node("LLM", api_key="hush-hush and more", text=secret),
    )
    note = {"id": 1, "type": "Note", "widgets_values": [f"my key: {secret}"]}
    unnamed = {"id": 2, "type": "LLM", "widgets_values": ["hush-hush and more", 7]}
    workflow = {"nodes": [note, unnamed], "links": []}
    found = describe(BytesSource(b""), "fox.png", Job("id", graph, workflow))
    everything = repr(found)
    assert found.prompt == "a fox [removed]"
    assert secret not in everything
    assert "hush-hush" not in everything


KEY_NAMES = st.sampled_from(["type", "title", "widgets_values", "inputs", "api_key", "x"])
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY_NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(tree=TREES)
def test_any_tree_is_cleaned_into_strict_json(tree: Any) -> None:
    json.dumps(drop_secrets(tree), allow_nan=False)


@given(st.text("abXY12-._~+/=", min_size=12, max_size=24))
def test_a_bearers_token_with_a_digit_or_a_sign_is_dropped(token: str) -> None:
    signs = set(token) & set("12_~+/=")
    assert not signs or drop_secrets_in_text(f"Bearer {token}") == "[removed]"


PROSE_TITLES = ("Secret Sauce", "Cookie Monster", "secret_garden 2", "Bearer of light", "LoRA trigger token")
VALUE_TITLES = """
    Secret|My secret|Client secret|ClientSecret|Secret 2|Secret (S3)|Secret: webhook|Secret for n8n|Secret S3
    |SECRET!|SECRET DO NOT SHARE|secret_value|Secret text|Token|Civitai token|token 1|Cookies|Session cookie
    |Cookie header|Cookie - Suno|cookies from browser|Bearer|Authorization header|S3 credentials|Password|API key
    |Secret sauce token|Cookie Monster password|Secret input|Cookies here|Webhook trigger secret
"""
KEPT = (
    "a red fox in the snow",
    "portrait",
    "1girl,solo,(masterpiece:1.2)",
    "雪の中の赤い狐",
    "foxV9Rd2Light.pt",
    "<lora:epiCRealismHelper:0.8>, embedding:unaestheticXLv31",
    "masterpiece, 8k-uhd, sd_xl_base_1.0, i2v_dpmpp_2m_sde, photo-realistic",
)
SHORT_SECRETS = ("hunter2", "hush", "hush hush", "correct horse battery staple", "p@ssw0rd!", "me.png")
LONG_SECRETS = (
    "q8Zt4LmP0xVw7RbK",
    "session=9f86d081884c7d65; path=/",
    "session=9f86d081884c7d65; avatar=me.png",
    "session=9f86d081884c7d65.png",
    "3f2b8c1e-77aa-4c1e-9a10-0123456789ab",
    "A1B2-C3D4-E5F6-G7H8",
    "a1b2c3d4_e5f6g7h8",
    "abcdefghijklmnopqrstuvwxyz",
)


@pytest.mark.parametrize("title", PROSE_TITLES)
def test_a_title_with_a_secret_s_word_loses_only_what_looks_like_a_key(title: str) -> None:
    texts = {f"text_{number}": text for number, text in enumerate(KEPT)}
    graph = {"1": {"class_type": "Texts", "inputs": texts, "_meta": {"title": title}}}
    assert drop_secrets(graph) == graph
    workflow = {"nodes": [{"id": 1, "type": "subgraph-1", "title": title, "widgets_values": list(KEPT)}]}
    assert drop_secrets(workflow) == workflow
    for secret in LONG_SECRETS:
        assert not any(_forms_that_keep(secret, title))


def _forms_that_keep(secret: str, title: str) -> Iterator[str]:
    node = {"id": 1, "type": "PrimitiveNode", "title": title}
    forms = {
        "widgets": {"nodes": [node | {"widgets_values": ["fixed", secret]}]},
        "widget of several texts": {"nodes": [node | {"widgets_values": [[{"value": ["fixed", secret]}]]}]},
        "named widgets": {"nodes": [node | {"widgets_values": {"value": secret}}]},
        "note": {"nodes": [node | {"type": "MarkdownNote", "widgets_values": [secret]}]},
        "API": {"1": {"class_type": "Text", "inputs": {"value": secret}, "_meta": {"title": title}}},
        "API list": {"1": {"class_type": "T", "inputs": {"v": {"l": [secret]}}, "_meta": {"title": title}}},
        "two titles": {
            "1": {
                "class_type": "Text",
                "inputs": {"value": secret},
                "title": "Text",
                "_meta": {"title": title},
            }
        },
        "id": {title: {"class_type": "Text", "inputs": {"value": secret}}},
        "in a subgraph": {
            "nodes": [],
            "definitions": {"subgraphs": [{"nodes": [node | {"widgets_values": [secret]}]}]},
        },
    }
    return (form for form, graph in forms.items() if secret in json.dumps(drop_secrets(graph)))


@pytest.mark.parametrize("title", [title.strip() for title in VALUE_TITLES.split("|")])
def test_a_title_that_names_a_secret_drops_every_text(title: str) -> None:
    for secret in SHORT_SECRETS + LONG_SECRETS:
        assert not list(_forms_that_keep(secret, title))
    group = {"nodes": [{"type": "PrimitiveString", "widgets_values": ["hunter2"]}], "links": []}
    workflow = {"nodes": [], "extra": {"groupNodes": {title: group}}}
    assert "hunter2" not in json.dumps(drop_secrets(workflow))


@pytest.mark.parametrize("title", ["Password", "OpenAI API Key", "Cookie password"])
def test_a_node_whose_inputs_have_names_of_their_own_keeps_its_prompt_under_any_title(title: str) -> None:
    encoder = {"class_type": "CLIPTextEncode", "inputs": {"text": "a red fox"}, "_meta": {"title": title}}
    misused = {"class_type": "CLIPTextEncode", "inputs": {"text": LONG_SECRETS[0]}, "_meta": {"title": title}}
    holder = {"class_type": "Base64Encode", "inputs": {"value": "hush hush"}, "_meta": {"title": title}}
    cleaned = drop_secrets({"1": encoder, "2": misused, "3": holder})
    assert cleaned["1"] == encoder
    assert cleaned["2"]["inputs"] == {"text": ""}
    assert cleaned["3"]["inputs"] == {"value": ""}


def test_the_names_of_nodes_and_of_groups_are_no_names_of_secrets() -> None:
    node = {"type": "CLIPTextEncode", "widgets_values": ["a red fox"], "inputs": []}
    workflow = {"nodes": [], "extra": {"groupNodes": {"Secret Sauce": {"nodes": [node], "links": []}}}}
    assert drop_secrets(workflow) == workflow
    graph = {"secret_prompt": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red fox"}}}
    assert drop_secrets(graph) == graph
    credentials = {"nodes": {"user": "me"}, "class_type": {}, "code": "hush"}
    assert drop_secrets({"credentials": credentials})["credentials"]["code"] == ""
