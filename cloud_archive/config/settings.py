"""The settings: frozen, read once from environment variables, checked as a whole.

Every wrong variable is reported at once, in one `SettingsError`. No secret is ever part of an error, a repr or a dump
(see redaction.py), and a credential in a variable that is not for credentials is refused, so that it reaches nothing
that is shown or stored.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ..errors import SettingProblem, SettingsError
from ..redaction import (
    ACCESS_KEY_VARIABLES,
    MASK,
    SECRET_VARIABLES,
    holds_credential,
    mask_value,
    secret_values,
    strip_quotes,
)
from . import parsers as values

_SHOWN_CHARACTERS = 120  # of a wrong value, in an error
_ACCEPTED_CHARACTERS = 600
# What these accept is said with the words of the value itself.
_QUOTED_FIELDS = frozenset({"prefix", "include", "exclude", "endpoint_url"})
_PATH_FIELDS = frozenset({"ca_bundle", "state_dir", "output_dir"})
_MISPLACED = (
    "it looks like a credential, so it is not used here; credentials go in S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY "
    "and S3_SESSION_TOKEN"
)


@dataclass(frozen=True, slots=True)
class Variable:
    """Where a field's value comes from.

    Attributes:
        names: the variable and its aliases; the first that is set counts. Blanks and one pair of matching quotes
            around a value are dropped, and an empty value counts as unset.
        may_be_empty: an empty value of the first name is a value.
    """

    names: tuple[str, ...]
    may_be_empty: bool = False

    @property
    def hidden(self) -> bool:
        """Whether the value is shown nowhere."""
        return self.names[0] in (*SECRET_VARIABLES, *ACCESS_KEY_VARIABLES)

    def find(self, environ: Mapping[str, str]) -> tuple[str, str] | None:
        """Return the name that is set and its value; None where none is."""
        for name in self.names:
            text = environ.get(name)
            if text is None:
                continue
            value = strip_quotes(text)
            if value or (self.may_be_empty and name == self.names[0]):
                return name, value
        return None


def _host_name() -> str:
    return socket.gethostname() or "unnamed"


class Settings(BaseSettings):
    """What the environment says. Made by `load_settings`; every field is documented in docs/settings.md.

    Args:
        environ: the variables; `os.environ` where it is None. Nothing else is read, no `.env` file either.

    Raises:
        pydantic.ValidationError: use `load_settings`, which translates it.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        case_sensitive=True,
        validate_default=False,
        hide_input_in_errors=True,
    )

    # Fields that others are checked against stand before them.
    credentials: Annotated[
        Literal["env", "aws"], Variable(("S3_CREDENTIALS",)), BeforeValidator(values.one_of("env", "aws"))
    ] = "env"
    access_key_id: Annotated[
        str | None,
        Variable(("S3_ACCESS_KEY_ID", "R2_ACCESS_KEY_ID", "R2_ACCESS_KEY")),
        BeforeValidator(values.access_key),
    ] = Field(default=None, validate_default=True, repr=False)
    secret_access_key: Annotated[
        SecretStr | None,
        Variable(("S3_SECRET_ACCESS_KEY", "R2_SECRET_ACCESS_KEY", "R2_SECRET_KEY")),
        BeforeValidator(values.secret_key),
    ] = Field(default=None, validate_default=True, repr=False)
    session_token: Annotated[
        SecretStr | None, Variable(("S3_SESSION_TOKEN",)), BeforeValidator(values.credential)
    ] = Field(default=None, repr=False)
    bucket: Annotated[str, Variable(("S3_BUCKET", "R2_BUCKET")), BeforeValidator(values.bucket)] = Field(
        default="", validate_default=True
    )
    region: Annotated[str, Variable(("S3_REGION",)), BeforeValidator(values.region)] = "us-east-1"
    prefix: Annotated[str, Variable(("S3_PREFIX",), may_be_empty=True), BeforeValidator(values.prefix)] = (
        "comfyui-outputs"
    )
    endpoint_url: Annotated[
        str | None, Variable(("S3_ENDPOINT_URL", "R2_ENDPOINT")), BeforeValidator(values.endpoint)
    ] = None
    conflict_rename: Annotated[
        bool, Variable(("S3_ENABLE_CONFLICT_RENAME",)), BeforeValidator(values.boolean)
    ] = True
    addressing_style: Annotated[
        Literal["auto", "path", "virtual"],
        Variable(("S3_ADDRESSING_STYLE",)),
        BeforeValidator(values.one_of("auto", "path", "virtual")),
    ] = "auto"
    checksum: Annotated[
        Literal["auto", "sha256", "md5"],
        Variable(("S3_CHECKSUM",)),
        BeforeValidator(values.one_of("auto", "sha256", "md5")),
    ] = "auto"
    storage_class: Annotated[str | None, Variable(("S3_STORAGE_CLASS",)), BeforeValidator(values.token)] = (
        None
    )
    server_side_encryption: Annotated[
        str | None, Variable(("S3_SERVER_SIDE_ENCRYPTION",)), BeforeValidator(values.token)
    ] = None
    sse_kms_key_id: Annotated[
        str | None, Variable(("S3_SSE_KMS_KEY_ID",)), BeforeValidator(values.kms_key)
    ] = None
    ca_bundle: Annotated[Path | None, Variable(("S3_CA_BUNDLE",)), BeforeValidator(values.existing_file)] = (
        None
    )
    autostart: Annotated[
        bool,
        Variable(("CLOUD_ARCHIVE_AUTOSTART", "ENABLE_R2_SYNC")),
        BeforeValidator(values.boolean),
    ] = True
    workers: Annotated[int, Variable(("CLOUD_ARCHIVE_WORKERS",)), BeforeValidator(values.workers)] = 8
    max_bandwidth_bytes: Annotated[
        int | None, Variable(("CLOUD_ARCHIVE_MAX_BANDWIDTH",)), BeforeValidator(values.bandwidth)
    ] = None
    include: Annotated[
        tuple[str, ...], Variable(("CLOUD_ARCHIVE_INCLUDE",)), BeforeValidator(values.patterns)
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Variable(("CLOUD_ARCHIVE_EXCLUDE",)), BeforeValidator(values.patterns)
    ] = ()
    watch: Annotated[
        Literal["auto", "native", "poll"],
        Variable(("CLOUD_ARCHIVE_WATCH",)),
        BeforeValidator(values.one_of("auto", "native", "poll")),
    ] = "auto"
    settle_seconds: Annotated[
        float | None, Variable(("CLOUD_ARCHIVE_SETTLE_SECONDS",)), BeforeValidator(values.seconds)
    ] = None
    rescan_seconds: Annotated[
        float, Variable(("CLOUD_ARCHIVE_RESCAN_SECONDS",)), BeforeValidator(values.seconds)
    ] = 60.0
    backfill: Annotated[
        Literal["missed", "all", "none"],
        Variable(("CLOUD_ARCHIVE_BACKFILL",)),
        BeforeValidator(values.one_of("missed", "all", "none")),
    ] = "missed"
    delete_local_after_seconds: Annotated[
        float | None, Variable(("CLOUD_ARCHIVE_DELETE_LOCAL_AFTER",)), BeforeValidator(values.age)
    ] = None
    min_free_disk_bytes: Annotated[
        int | None, Variable(("CLOUD_ARCHIVE_MIN_FREE_DISK",)), BeforeValidator(values.size)
    ] = None
    state_dir: Annotated[
        Path | None, Variable(("CLOUD_ARCHIVE_STATE_DIR",)), BeforeValidator(values.directory)
    ] = None
    output_dir: Annotated[
        Path | None, Variable(("COMFYUI_OUTPUT_DIR",)), BeforeValidator(values.directory)
    ] = None

    catalog: Annotated[
        Literal["full", "fields", "off"],
        Variable(("CLOUD_ARCHIVE_CATALOG",)),
        BeforeValidator(values.one_of("full", "fields", "off")),
    ] = "full"
    gallery: Annotated[
        Literal["all", "own", "off"],
        Variable(("CLOUD_ARCHIVE_GALLERY",)),
        BeforeValidator(values.one_of("all", "own", "off")),
    ] = "all"
    machine_name: Annotated[
        str,
        Variable(("CLOUD_ARCHIVE_MACHINE_NAME", "RUNPOD_POD_ID")),
        BeforeValidator(values.machine_name),
    ] = Field(default_factory=_host_name)
    webhook_url: Annotated[
        SecretStr | None, Variable(("CLOUD_ARCHIVE_WEBHOOK_URL",)), BeforeValidator(values.webhook_url)
    ] = Field(default=None, repr=False)
    webhook_secret: Annotated[
        SecretStr | None, Variable(("CLOUD_ARCHIVE_WEBHOOK_SECRET",)), BeforeValidator(values.webhook_secret)
    ] = Field(default=None, repr=False)

    serve_token: Annotated[
        SecretStr | None, Variable(("CLOUD_ARCHIVE_SERVE_TOKEN",)), BeforeValidator(values.credential)
    ] = Field(default=None, repr=False)

    _bucket_in_endpoint: bool = PrivateAttr(default=False)

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        source = EnvironmentSource(type(self), os.environ if environ is None else environ)
        found = source()
        super().__init__(**found)
        self._bucket_in_endpoint = values.names_bucket(found.get("endpoint_url", ""), self.bucket)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `EnvironmentSource` found counts."""
        return (init_settings,)

    @property
    def is_aws(self) -> bool:
        """Whether the store is AWS itself: no endpoint, or one of Amazon's."""
        host = urlsplit(self.endpoint_url or "").hostname
        return host is None or host.rstrip(".").endswith((".amazonaws.com", ".amazonaws.com.cn"))

    @property
    def endpoint_label(self) -> str:
        """The store for people: `host:port`, or `AWS us-east-1`."""
        if self.endpoint_url is None:
            return f"AWS {self.region}"
        parts = urlsplit(self.endpoint_url)
        default_port = 443 if parts.scheme == "https" else 80
        return parts.netloc if parts.port else f"{parts.netloc}:{default_port}"

    @property
    def endpoint_remark(self) -> str:
        """What was changed about the endpoint, a sentence; empty where nothing was."""
        if not self._bucket_in_endpoint:
            return ""
        return f"The endpoint's URL names the bucket {self.bucket}; {self.endpoint_url} is used as S3_ENDPOINT_URL."

    def secrets(self) -> tuple[str, ...]:
        """Return the value of every secret that is set, for `redact`."""
        found = (
            self.secret_access_key,
            self.session_token,
            self.webhook_secret,
            self.webhook_url,
            self.serve_token,
        )
        return tuple(secret.get_secret_value() for secret in found if secret is not None)


class EnvironmentSource(PydanticBaseSettingsSource):
    """Reads the variables that the fields are annotated with, as text, from a mapping."""

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._environ = environ

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """The text of one field (None: unset), its name, and that it is no JSON."""
        found = _variable(field).find(self._environ)
        return (None if found is None else found[1]), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Every field that is set. An endpoint in R2_ENDPOINT brings defaults of its own."""
        found: dict[str, Any] = {}
        endpoint = _variable(self.settings_cls.model_fields["endpoint_url"]).find(self._environ)
        if endpoint is not None and endpoint[0] == "R2_ENDPOINT":
            found |= {"region": "auto", "prefix": "outputs/{Y}-{m}-{d}"}
        for name, field in self.settings_cls.model_fields.items():
            text, _, _ = self.get_field_value(field, name)
            if text is not None:
                found[name] = text
        return found


def _variable(field: Any) -> Variable:
    return next(entry for entry in field.metadata if isinstance(entry, Variable))


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings in `environ` (default: `os.environ`).

    Raises:
        SettingsError: something is wrong or missing; it names every problem there is.
    """
    if environ is None:
        environ = os.environ
    problems: dict[str, SettingProblem] = {}
    settings: Settings | None = None
    try:
        settings = Settings(environ)
    except ValidationError as error:
        problems = _problems(error, environ)
    problems = _misplaced_credentials(environ) | problems
    if settings is not None and not problems:
        return settings
    # Raised out here, so that not even __context__ leads to pydantic's error, which keeps the values it was given.
    raise SettingsError([problems[name] for name in Settings.model_fields if name in problems]) from None


def state_directory(environ: Mapping[str, str]) -> Path | None:
    """Return the path in CLOUD_ARCHIVE_STATE_DIR, though other settings may be wrong; None: unset or refused."""
    try:
        return load_settings(environ).state_dir
    except SettingsError as error:
        refused = any(problem.variable == "CLOUD_ARCHIVE_STATE_DIR" for problem in error.problems)
    found = _variable(Settings.model_fields["state_dir"]).find(environ)
    return None if refused or found is None else values.directory(found[1])


def is_set(name: str, environ: Mapping[str, str]) -> bool:
    """Whether a variable has a value that counts."""
    return bool(strip_quotes(environ.get(name, "")))


def _misplaced_credentials(environ: Mapping[str, str]) -> dict[str, SettingProblem]:
    """Return a problem for each field whose variable holds a credential and is not for one."""
    secrets = secret_values(environ)
    problems = {}
    for name, field in Settings.model_fields.items():
        variable = _variable(field)
        found = variable.find(environ)
        if found is None or variable.hidden:
            continue
        if holds_credential(found[1], secrets, is_path=name in _PATH_FIELDS):
            problems[name] = SettingProblem(found[0], _shown(name, variable, found[1], secrets), _MISPLACED)
    return problems


def _problems(error: ValidationError, environ: Mapping[str, str]) -> dict[str, SettingProblem]:
    """Return pydantic's errors in our words, by field."""
    secrets = secret_values(environ)
    problems = {}
    for entry in error.errors(include_url=False, include_input=False):
        name = str(entry["loc"][0])
        variable = _variable(Settings.model_fields[name])
        found = variable.find(environ)
        accepted = str(entry.get("ctx", {}).get("error", entry["msg"]))
        if name in _QUOTED_FIELDS:
            accepted = _shortened(mask_value(accepted, secrets), _ACCEPTED_CHARACTERS)
        shown = None if found is None else _shown(name, variable, found[1], secrets)
        problems[name] = SettingProblem(found[0] if found else variable.names[0], shown, accepted)
    return problems


def _shown(name: str, variable: Variable, text: str, secrets: tuple[str, ...]) -> str:
    """Return a wrong value as an error may show it."""
    if variable.hidden:
        return MASK
    shown = mask_value(
        text, secrets, is_path=name in _PATH_FIELDS
    )  # before it is cut, or half a secret would stay
    if name == "endpoint_url":
        shown = values.without_password(shown)
        shown = re.sub(r"[?#].*", "?…", shown, count=1, flags=re.DOTALL)  # a query may be a signature
    return _shortened(shown, _SHOWN_CHARACTERS)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
