"""Settings: no secret ever shows, in whichever variable it stands."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from cloud_archive.config.settings import load_settings
from cloud_archive.errors import SettingsError
from cloud_archive.redaction import ACCESS_KEY_VARIABLES, MASK, SECRET_VARIABLES, strip_quotes
from tests.unit.config.environments import (
    ACCESS_KEY,
    REQUIRED,
    SECRET,
    TOKEN,
    VARIABLES,
    load,
    only_problem,
    refusal,
)

# --- the webhook


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "host/x",
        "https://user:hunter2@host/x",
        "https://host:0/x",
        "https://ho st/x",
        "https://",
    ],
)
def test_a_wrong_webhook_is_refused_and_not_shown(url: str) -> None:
    said = only_problem(CLOUD_ARCHIVE_WEBHOOK_URL=url)

    assert said.startswith("CLOUD_ARCHIVE_WEBHOOK_URL is '***': accepted is a URL such as")
    assert "hunter2" not in said


def test_a_webhook_and_its_secret_are_read_and_never_shown() -> None:
    url, secret = (
        "https://hooks.example.com/services/T0/B0/plantedplanted",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )
    settings = load(CLOUD_ARCHIVE_WEBHOOK_URL=url, CLOUD_ARCHIVE_WEBHOOK_SECRET=secret)

    assert settings.webhook_url is not None
    assert settings.webhook_url.get_secret_value() == url
    assert settings.webhook_secret is not None
    assert settings.webhook_secret.get_secret_value() == secret
    assert "planted" not in repr(settings) + str(dataclasses.asdict(settings))
    assert "base64" in only_problem(CLOUD_ARCHIVE_WEBHOOK_SECRET="whsec_not base64".replace(" ", "-"))
    assert "base64" in only_problem(CLOUD_ARCHIVE_WEBHOOK_SECRET="whsec_")


@pytest.mark.parametrize("text", ["off", "Off", '"none"'])
def test_a_webhook_can_be_off(text: str) -> None:
    settings = load(CLOUD_ARCHIVE_WEBHOOK_URL=text, CLOUD_ARCHIVE_WEBHOOK_SECRET=text)

    assert (settings.webhook_url, settings.webhook_secret) == (None, None)


# --- credentials


@pytest.mark.parametrize("variable", ["S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "S3_SESSION_TOKEN"])
@pytest.mark.parametrize("text", ["planted in two", '"planted in two"', "plantéd", "planted\nplanted"])
def test_a_credential_with_blanks_is_refused_without_showing_it(variable: str, text: str) -> None:
    said = only_problem(**{variable: text})

    assert said.startswith(f"{variable} is {MASK!r}: ")
    assert "plant" not in said


@pytest.mark.parametrize(
    "variable", ["R2_ACCESS_KEY_ID", "R2_ACCESS_KEY", "R2_SECRET_ACCESS_KEY", "R2_SECRET_KEY"]
)
def test_the_aliases_of_credentials_are_masked_too(variable: str) -> None:
    environ = {"S3_BUCKET": "b", variable: "planted here"}

    with pytest.raises(SettingsError) as caught:
        load_settings(environ)

    assert f"{variable} is {MASK!r}" in str(caught.value)
    assert "planted" not in str(caught.value)


# --- nothing shows a secret


def test_no_form_of_the_settings_shows_a_secret() -> None:
    settings = load(S3_SESSION_TOKEN=TOKEN)
    forms = [
        *(repr(settings), str(settings), f"{settings}", f"{settings!r}"),
        *(str(dataclasses.asdict(settings)), str(dataclasses.astuple(settings)), str(vars(settings))),
        f"{settings.secret_access_key} {settings.session_token!r}",
        pretty_repr(settings),
    ]

    for form in forms:
        assert SECRET not in form
        assert TOKEN not in form
    assert ACCESS_KEY not in repr(settings)


def test_the_secrets_are_handed_out_for_redaction() -> None:
    assert load(S3_SESSION_TOKEN=TOKEN).secrets() == (SECRET, TOKEN)


def everything_said(error: BaseException) -> str:
    """The error with its whole chain, suppressed or not, each as text, repr and traceback."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or link in seen:
            continue
        seen.append(link)
        waiting += [link.__cause__, link.__context__]
    said = [part for link in seen for part in (str(link), repr(link), *traceback.format_exception(link))]
    return "\n".join([*said, repr(getattr(error, "problems", ""))])


def test_a_refusal_leads_to_no_secret_by_any_way() -> None:
    error = refusal(
        S3_SECRET_ACCESS_KEY=f"{SECRET} {SECRET}",
        S3_SESSION_TOKEN=f"'{TOKEN} x'",
        S3_ACCESS_KEY_ID=f"{ACCESS_KEY} x",
        S3_ENDPOINT_URL="https://user:hunter2@host",
        CLOUD_ARCHIVE_WORKERS="x",
    )
    said = everything_said(error)

    assert error.__cause__ is None
    assert error.__context__ is None
    assert len(error.problems) == 5
    for secret in (SECRET, TOKEN, ACCESS_KEY, "hunter2"):
        assert secret not in said


def test_a_secret_in_the_wrong_variable_is_not_shown_either() -> None:
    error = refusal(
        S3_BUCKET=f"x/{SECRET}",
        S3_REGION=ACCESS_KEY + "!",
        S3_PREFIX=f"{{{SECRET}}}",
        S3_ENDPOINT_URL=f"https://host/{SECRET}",
        CLOUD_ARCHIVE_INCLUDE=f"@{SECRET}",
        CLOUD_ARCHIVE_WORKERS="x" * 110 + SECRET,
    )

    assert len(error.problems) == 6
    assert SECRET not in str(error)
    assert SECRET[:8] not in str(error)
    assert ACCESS_KEY not in str(error)


SHAPES = {
    "user info": "https://{id}:{secret}@store.example/bucket",
    "user info without scheme": "me:{secret}@store.example",
    "access key id": "{id}",
    "high entropy": "kPq7XvB2mZ9rTw4YcN8sLd3FhJ6gQa5UeKxV1oRi",
    "r2 secret": "3f9a" * 4 + "0b7c5d21" * 6,
    "equals one that is set": "{secret}",
    "holds one that is set": "x-{secret}-y",
}
PLAIN_SECRET = "planted-secret-0123456789"  # fits everywhere a name fits
PLAIN_ID = "AKIAIOSFODNN7EXAMPLE"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "variable", [name for name in VARIABLES if name not in (*SECRET_VARIABLES, *ACCESS_KEY_VARIABLES)]
)
def test_a_credential_in_the_wrong_variable_is_refused_and_not_shown(
    variable: str, shape: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {**REQUIRED, "S3_SECRET_ACCESS_KEY": PLAIN_SECRET, "S3_ACCESS_KEY_ID": PLAIN_ID}
    text = SHAPES[shape].format(id=PLAIN_ID, secret=PLAIN_SECRET)
    environ.pop({"R2_BUCKET": "S3_BUCKET"}.get(variable, ""), None)

    with pytest.raises(SettingsError) as caught:
        load_settings({**environ, variable: text})

    said = everything_said(caught.value)
    assert f"{variable} is " in str(caught.value)
    for secret in (PLAIN_SECRET, PLAIN_ID, SHAPES["high entropy"], SHAPES["r2 secret"]):
        assert secret not in said


def test_common_values_are_no_credentials(tmp_path: Path) -> None:
    layer = tmp_path / "overlay2" / "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    settings = load(
        S3_SECRET_ACCESS_KEY="test",
        S3_BUCKET="test",
        S3_PREFIX="comfyui/TeamA/SDXL-Turbo-v1-0/550e8400-e29b-41d4-a716-446655440000/{Y}",
        S3_ENDPOINT_URL="https://9dd4e461268c8034f5c8564e155c67a6.r2.cloudflarestorage.com",
        S3_SERVER_SIDE_ENCRYPTION="aws:kms",
        S3_SSE_KMS_KEY_ID="arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        CLOUD_ARCHIVE_STATE_DIR=str(layer),
        CLOUD_ARCHIVE_MACHINE_NAME="ip-10-0-0-1.eu-central-1.compute.internal",
    )

    assert settings.state_dir == layer


value_text = st.text(alphabet=st.characters(exclude_characters="\0"), max_size=40) | st.sampled_from(
    [
        *(f"{{{letter}}}" for letter in "Ym"),
        "http://host",
        "host:1",
        "u:p@h",
        "7d",
        "@media",
        "!",
        "[z-a]",
        "**",
    ]
)
secret_text = st.text(
    alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=40
).map(lambda text: f"{text[:6]}~^{text[6:]}")  # so that no message or line of code holds it by chance


@given(
    environ=st.dictionaries(st.sampled_from(VARIABLES), value_text),
    secret=secret_text,
    into=st.lists(st.sampled_from(VARIABLES), max_size=4),
)
def test_any_environment_is_settings_or_a_settings_error_without_the_secret(
    environ: Mapping[str, str], secret: str, into: list[str]
) -> None:
    environ = {**environ, **dict.fromkeys(into, secret), "S3_SECRET_ACCESS_KEY": secret}
    refused: SettingsError | None = None
    try:
        settings = load_settings(environ)
    except SettingsError as error:
        refused = error

    if refused is None:
        assert settings.secrets()[0] == strip_quotes(secret)
    else:
        assert secret not in everything_said(refused)
        assert all(problem.accepted for problem in refused.problems)
