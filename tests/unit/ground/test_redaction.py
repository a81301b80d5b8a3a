"""Secrets are found in any text, and what looks like a credential in any value."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cloud_archive.redaction import MASK, holds_credential, mask_value, redact, secret_values, strip_quotes

unhurried = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine

SECRET = "wJalr/XUtn+FEMI%K7MD&NG=bPxRfi"
TOKEN = "IQoJb3Jp/Z2luX2Vj+token"
ACCESS_KEY = "9dd4e461268c8034f5c8564e155c67a6"
secret_text = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=40)


def test_redact_removes_every_secret_and_leaves_the_rest() -> None:
    text = f"key {SECRET} and {TOKEN}, again {SECRET}."

    assert redact(text, (SECRET, TOKEN)) == f"key {MASK} and {MASK}, again {MASK}."


@pytest.mark.parametrize(
    "quoted",
    [
        "wJalr/XUtn%2BFEMI%25K7MD%26NG%3DbPxRfi",
        "wJalr%2FXUtn%2BFEMI%25K7MD%26NG%3DbPxRfi",
        "wJalr%2fXUtn%2bFEMI%25K7MD%26NG%3dbPxRfi",
        "wJalr/XUtn+FEMI%K7MD&amp;NG=bPxRfi",
        "wJalr%2FXUtn+FEMI%K7MD&NG=bPxRfi",
        "wJalr%252FXUtn%252BFEMI%2525K7MD%2526NG%253DbPxRfi",
        "wJalr\\/XUtn+FEMI%K7MD&NG=bPxRfi",
        "wJalr/XUtn&#43;FEMI%K7MD&#x26;NG=bPxRfi",
    ],
)
def test_redact_finds_quoted_secrets(quoted: str) -> None:
    assert redact(f"https://host/?key={quoted}&x=1", (SECRET,)) == f"https://host/?key={MASK}&x=1"


def test_redact_finds_secrets_inside_json_and_reprs() -> None:
    secret = 'quo"te\\back'

    assert redact('{"key": "quo\\"te\\\\back"}', (secret,)) == f'{{"key": "{MASK}"}}'
    assert redact(repr([secret]), (secret,)) == f"['{MASK}']"


def test_redact_takes_the_longest_secret_first() -> None:
    assert redact("abcdef abc", ("abc", "abcdef")) == f"{MASK} {MASK}"


def test_redact_without_secrets_changes_nothing() -> None:
    assert redact("text", ()) == "text"
    assert redact("text", ("",)) == "text"


@unhurried
@given(st.text(), secret_text)
def test_redact_leaves_no_secret_in_any_text(text: str, secret: str) -> None:
    assert secret not in redact(f"{text}{secret}{text}", (secret,))


# --- what looks like a secret


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://user:hunter2@host/x", f"see https://{MASK}@host/x"),
        ("https://KEY:hun/ter2@host/bucket refused", f"https://{MASK}@host/bucket refused"),
        ("https://KEY:hun@ter/2@host/bucket refused", f"https://{MASK}@host/bucket refused"),
        ("https://KEY:h@un/te@r2@host:1/x, then", f"https://{MASK}@host:1/x, then"),
        ("from a://b:c@d and e://f:g@", f"from a://{MASK}@d and e://f:g@"),
        ("https://token@host/x", f"https://{MASK}@host/x"),
        ("http://127.0.0.1:8333/b/me@home.png", "http://127.0.0.1:8333/b/me@home.png"),
        ("key AKIAIOSFODNN7EXAMPLE and ASIAIOSFODNN7EXAMPLE.", f"key {MASK} and {MASK}."),
        ("?X-Amz-Signature=abc&x=1", f"?X-Amz-Signature={MASK}&x=1"),
        ("next=a%3FX-Amz-Signature%3Dabc", f"next=a%3FX-Amz-Signature%3D{MASK}"),
        ("Proxy-Authorization: Basic dXNlcjpwYXNz", f"Proxy-Authorization: Basic {MASK}"),
        ("{'Authorization': b'Bearer abc-1234'}", f"{{'Authorization': b'Bearer {MASK}'}}"),
        ("send it as Authorization: Bearer TOKEN.", "send it as Authorization: Bearer TOKEN."),
        ('{"X-Amz-Security-Token":"abcdefgh"}', f'{{"X-Amz-Security-Token":"{MASK}"}}'),
        ("ASIAN_TEMPLE_00001_.png", "ASIAN_TEMPLE_00001_.png"),
    ],
)
def test_redact_needs_no_list_for_what_is_a_secret_by_its_shape(text: str, shown: str) -> None:
    assert redact(text, ()) == shown


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda size: "A" * size + " ://x@y", id="a run"),
        pytest.param(lambda size: "http://x:y/" * (size // 11), id="URLs"),
        pytest.param(lambda size: "a://b:c,@ " + "://b:c" * (size // 6), id="colons"),
        pytest.param(lambda size: "authorization: basic" * (size // 20), id="headers"),
    ],
)
def test_a_hostile_text_of_two_million_characters_takes_linear_time(make: Callable[[int], str]) -> None:
    """Such as a refusal by a hostile store. If the time grew with the square of the length, this would take hours."""
    assert len(redact(make(2_000_000), ())) > 1000


@pytest.mark.parametrize(
    "text",
    [
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "outputs/wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "K005Ab3xQ9zLmT7vRk2WcYpN4sJhG1o",
        "0f3b5c7d" * 8,
        "me:secret@host",
        "//me:secret@host",
        "me:secret@media",
        "me:sec,@mediahost",
        "*.png,https:/me:secret@host,@media",
        "https:/me:sec/ret@host",
    ],
)
def test_a_value_that_looks_like_a_credential_is_masked(text: str) -> None:
    assert holds_credential(text, ())
    assert MASK in mask_value(text, ())


@pytest.mark.parametrize(
    "text",
    [
        "comfyui/ProjectAlpha/Renders2026/Version12/Final",
        "TeamA/SDXL-Turbo-v1-0/ComfyUI_2026-04-01_BatchRun17",
        "550e8400-e29b-41d4-a716-446655440000",
        "9dd4e461268c8034f5c8564e155c67a6",
        "@media,!drafts/,*.png",
        "*12:30*.png,@media",
        "*12:30*.png, !@media,*.mp4",
        "C:/out/*.png,@media",
        "//drafts\n@media",
        "9" * 100,
    ],
)
def test_a_value_of_words_numbers_or_a_uuid_is_not(text: str) -> None:
    assert not holds_credential(text, ())
    assert mask_value(text, ()) == text


def test_a_short_secret_that_is_a_word_is_not_misplaced_where_the_word_stands() -> None:
    assert not holds_credential("testing/outputs", ("test",))
    assert holds_credential("a-long-secret", ("long-secret",))


def test_every_secret_of_the_environment_is_found_quoted_or_not() -> None:
    environ = {"S3_SECRET_ACCESS_KEY": ' "planted" ', "R2_SECRET_KEY": "abc", "S3_ACCESS_KEY_ID": "admin"}

    assert secret_values(environ) == ('"planted"', "planted")
    assert secret_values({"S3_ACCESS_KEY_ID": ACCESS_KEY}) == (ACCESS_KEY,)


def test_the_path_of_the_webhook_is_a_secret_of_its_own() -> None:
    secrets = secret_values({"CLOUD_ARCHIVE_WEBHOOK_URL": "'https://Hooks.example/services/T0/token?x'"})

    assert redact("POST /services/T0/token?x", secrets) == f"POST {MASK}"
    assert redact("https://hooks.example/services/T0/token?x", secrets) == f"https://hooks.example{MASK}"
    assert secret_values({"CLOUD_ARCHIVE_WEBHOOK_URL": "http://n8n/hook"}) == ("http://n8n/hook",)


@pytest.mark.parametrize(
    ("text", "inner"),
    [(' "a b" ', "a b"), ("'a'", "a"), ('"', '"'), ('""', ""), ("\"a'", "\"a'"), ("\"'a'\"", "'a'")],
)
def test_one_pair_of_matching_quotes_is_taken_off(text: str, inner: str) -> None:
    assert strip_quotes(text) == inner
