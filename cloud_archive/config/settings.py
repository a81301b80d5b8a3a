"""The settings, read once from environment variables.

One `SettingsError` names all wrong variables. No error, repr or dump contains a secret (see `redaction`). A credential
in a variable that is not for credentials is refused, so that it is never shown or stored.
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
from . import parsers

_VALUE_CHARACTERS = 120  # of a wrong value in an error
_ACCEPTED_CHARACTERS = 600
# The errors of these fields quote the value.
_QUOTED_FIELDS = frozenset({"prefix", "include", "exclude", "endpoint_url"})
_PATH_FIELDS = frozenset({"ca_bundle", "state_dir", "output_dir"})
_MISPLACED = (
    "it looks like a credential, so it is not used here; credentials go in S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY "
    "and S3_SESSION_TOKEN"
)


@dataclass(frozen=True, slots=True)
class Variable:
    """The variable that a field's value comes from.

    Attributes:
        names: the variable and its aliases; the first one that is set is used. Blanks and one pair of quotes around a
            value are removed, and an empty value counts as unset.
        may_be_empty: an empty value of the first name counts as set.
    """

    names: tuple[str, ...]
    may_be_empty: bool = False

    @property
    def hidden(self) -> bool:
        """Whether the value must never be shown."""
        return self.names[0] in (*SECRET_VARIABLES, *ACCESS_KEY_VARIABLES)

    def find(self, environ: Mapping[str, str]) -> tuple[str, str] | None:
        """Return the name that is set, and its value; None if none is set."""
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
    """The settings; docs/settings.md documents every field. Call `load_settings` to get them.

    Args:
        environ: the variables; default: `os.environ`. Nothing else is read, not even a `.env` file.

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

    # A field that another one is checked against must come first.
    credentials: Annotated[
        Literal["env", "aws"],
        Variable(("S3_CREDENTIALS",)),
        BeforeValidator(parsers.parse_choice("env", "aws")),
    ] = "env"
    access_key_id: Annotated[
        str | None,
        Variable(("S3_ACCESS_KEY_ID", "R2_ACCESS_KEY_ID", "R2_ACCESS_KEY")),
        BeforeValidator(parsers.parse_access_key),
    ] = Field(default=None, validate_default=True, repr=False)
    secret_access_key: Annotated[
        SecretStr | None,
        Variable(("S3_SECRET_ACCESS_KEY", "R2_SECRET_ACCESS_KEY", "R2_SECRET_KEY")),
        BeforeValidator(parsers.parse_secret_key),
    ] = Field(default=None, validate_default=True, repr=False)
    session_token: Annotated[
        SecretStr | None, Variable(("S3_SESSION_TOKEN",)), BeforeValidator(parsers.parse_credential)
    ] = Field(default=None, repr=False)
    bucket: Annotated[str, Variable(("S3_BUCKET", "R2_BUCKET")), BeforeValidator(parsers.parse_bucket)] = (
        Field(default="", validate_default=True)
    )
    region: Annotated[str, Variable(("S3_REGION",)), BeforeValidator(parsers.parse_region)] = "us-east-1"
    prefix: Annotated[
        str, Variable(("S3_PREFIX",), may_be_empty=True), BeforeValidator(parsers.parse_prefix)
    ] = "comfyui-outputs"
    endpoint_url: Annotated[
        str | None, Variable(("S3_ENDPOINT_URL", "R2_ENDPOINT")), BeforeValidator(parsers.parse_endpoint)
    ] = None
    conflict_rename: Annotated[
        bool, Variable(("S3_ENABLE_CONFLICT_RENAME",)), BeforeValidator(parsers.parse_boolean)
    ] = True
    addressing_style: Annotated[
        Literal["auto", "path", "virtual"],
        Variable(("S3_ADDRESSING_STYLE",)),
        BeforeValidator(parsers.parse_choice("auto", "path", "virtual")),
    ] = "auto"
    checksum: Annotated[
        Literal["auto", "sha256", "md5"],
        Variable(("S3_CHECKSUM",)),
        BeforeValidator(parsers.parse_choice("auto", "sha256", "md5")),
    ] = "auto"
    storage_class: Annotated[
        str | None, Variable(("S3_STORAGE_CLASS",)), BeforeValidator(parsers.parse_token)
    ] = None
    server_side_encryption: Annotated[
        str | None, Variable(("S3_SERVER_SIDE_ENCRYPTION",)), BeforeValidator(parsers.parse_token)
    ] = None
    sse_kms_key_id: Annotated[
        str | None, Variable(("S3_SSE_KMS_KEY_ID",)), BeforeValidator(parsers.parse_kms_key)
    ] = None
    ca_bundle: Annotated[
        Path | None, Variable(("S3_CA_BUNDLE",)), BeforeValidator(parsers.parse_existing_file)
    ] = None
    autostart: Annotated[
        bool,
        Variable(("CLOUD_ARCHIVE_AUTOSTART", "ENABLE_R2_SYNC")),
        BeforeValidator(parsers.parse_boolean),
    ] = True
    workers: Annotated[int, Variable(("CLOUD_ARCHIVE_WORKERS",)), BeforeValidator(parsers.parse_workers)] = 8
    max_bandwidth_bytes: Annotated[
        int | None, Variable(("CLOUD_ARCHIVE_MAX_BANDWIDTH",)), BeforeValidator(parsers.parse_bandwidth)
    ] = None
    include: Annotated[
        tuple[str, ...], Variable(("CLOUD_ARCHIVE_INCLUDE",)), BeforeValidator(parsers.parse_patterns)
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Variable(("CLOUD_ARCHIVE_EXCLUDE",)), BeforeValidator(parsers.parse_patterns)
    ] = ()
    watch: Annotated[
        Literal["auto", "native", "poll"],
        Variable(("CLOUD_ARCHIVE_WATCH",)),
        BeforeValidator(parsers.parse_choice("auto", "native", "poll")),
    ] = "auto"
    settle_seconds: Annotated[
        float | None, Variable(("CLOUD_ARCHIVE_SETTLE_SECONDS",)), BeforeValidator(parsers.parse_seconds)
    ] = None
    rescan_seconds: Annotated[
        float, Variable(("CLOUD_ARCHIVE_RESCAN_SECONDS",)), BeforeValidator(parsers.parse_seconds)
    ] = 60.0
    backfill: Annotated[
        Literal["missed", "all", "none"],
        Variable(("CLOUD_ARCHIVE_BACKFILL",)),
        BeforeValidator(parsers.parse_choice("missed", "all", "none")),
    ] = "missed"
    delete_local_after_seconds: Annotated[
        float | None, Variable(("CLOUD_ARCHIVE_DELETE_LOCAL_AFTER",)), BeforeValidator(parsers.parse_age)
    ] = None
    min_free_disk_bytes: Annotated[
        int | None, Variable(("CLOUD_ARCHIVE_MIN_FREE_DISK",)), BeforeValidator(parsers.parse_size)
    ] = None
    state_dir: Annotated[
        Path | None, Variable(("CLOUD_ARCHIVE_STATE_DIR",)), BeforeValidator(parsers.parse_directory)
    ] = None
    output_dir: Annotated[
        Path | None, Variable(("COMFYUI_OUTPUT_DIR",)), BeforeValidator(parsers.parse_directory)
    ] = None

    catalog: Annotated[
        Literal["full", "fields", "off"],
        Variable(("CLOUD_ARCHIVE_CATALOG",)),
        BeforeValidator(parsers.parse_choice("full", "fields", "off")),
    ] = "full"
    gallery: Annotated[
        Literal["all", "own", "off"],
        Variable(("CLOUD_ARCHIVE_GALLERY",)),
        BeforeValidator(parsers.parse_choice("all", "own", "off")),
    ] = "all"
    machine_name: Annotated[
        str,
        Variable(("CLOUD_ARCHIVE_MACHINE_NAME", "RUNPOD_POD_ID")),
        BeforeValidator(parsers.parse_machine_name),
    ] = Field(default_factory=_host_name)
    webhook_url: Annotated[
        SecretStr | None, Variable(("CLOUD_ARCHIVE_WEBHOOK_URL",)), BeforeValidator(parsers.parse_webhook_url)
    ] = Field(default=None, repr=False)
    webhook_secret: Annotated[
        SecretStr | None,
        Variable(("CLOUD_ARCHIVE_WEBHOOK_SECRET",)),
        BeforeValidator(parsers.parse_webhook_secret),
    ] = Field(default=None, repr=False)

    serve_token: Annotated[
        SecretStr | None, Variable(("CLOUD_ARCHIVE_SERVE_TOKEN",)), BeforeValidator(parsers.parse_credential)
    ] = Field(default=None, repr=False)

    _bucket_in_endpoint: bool = PrivateAttr(default=False)

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        source = EnvironmentSource(type(self), os.environ if environ is None else environ)
        found = source()
        super().__init__(**found)
        self._bucket_in_endpoint = parsers.names_bucket(found.get("endpoint_url", ""), self.bucket)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values of `EnvironmentSource`."""
        return (init_settings,)

    @property
    def is_aws(self) -> bool:
        """Whether the store is AWS: there is no endpoint, or one of Amazon's."""
        host = urlsplit(self.endpoint_url or "").hostname
        return host is None or host.rstrip(".").endswith((".amazonaws.com", ".amazonaws.com.cn"))

    @property
    def endpoint_label(self) -> str:
        """The store for users: `host:port`, or `AWS us-east-1`."""
        if self.endpoint_url is None:
            return f"AWS {self.region}"
        parts = urlsplit(self.endpoint_url)
        default_port = 443 if parts.scheme == "https" else 80
        return parts.netloc if parts.port else f"{parts.netloc}:{default_port}"

    @property
    def endpoint_remark(self) -> str:
        """A sentence about what was changed in the endpoint; empty if nothing was."""
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
    """Read the text of each field's variable from a mapping."""

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._environ = environ

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Return the text of a field (None if unset), its name, and False because it is not JSON."""
        found = _variable(field).find(self._environ)
        return (None if found is None else found[1]), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the text of every field that is set. R2_ENDPOINT changes the defaults of region and prefix."""
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
        SettingsError: variables are missing or invalid; it names all of them.
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
    # Raised outside the except block: pydantic's error holds the values, and must not be its __context__.
    raise SettingsError([problems[name] for name in Settings.model_fields if name in problems]) from None


def state_directory(environ: Mapping[str, str]) -> Path | None:
    """Return CLOUD_ARCHIVE_STATE_DIR, even if other settings are wrong; None if it is unset or wrong."""
    try:
        return load_settings(environ).state_dir
    except SettingsError as error:
        refused = any(problem.variable == "CLOUD_ARCHIVE_STATE_DIR" for problem in error.problems)
    found = _variable(Settings.model_fields["state_dir"]).find(environ)
    return None if refused or found is None else parsers.parse_directory(found[1])


def is_set(name: str, environ: Mapping[str, str]) -> bool:
    """Return whether a variable has a value."""
    return bool(strip_quotes(environ.get(name, "")))


def _misplaced_credentials(environ: Mapping[str, str]) -> dict[str, SettingProblem]:
    """Return a problem for each field that must not hold a credential but does."""
    secrets = secret_values(environ)
    problems = {}
    for name, field in Settings.model_fields.items():
        variable = _variable(field)
        found = variable.find(environ)
        if found is None or variable.hidden:
            continue
        if holds_credential(found[1], secrets, is_path=name in _PATH_FIELDS):
            problems[name] = SettingProblem(
                found[0], _displayed(name, variable, found[1], secrets), _MISPLACED
            )
    return problems


def _problems(error: ValidationError, environ: Mapping[str, str]) -> dict[str, SettingProblem]:
    """Translate pydantic's errors into problems, by field."""
    secrets = secret_values(environ)
    problems = {}
    for entry in error.errors(include_url=False, include_input=False):
        name = str(entry["loc"][0])
        variable = _variable(Settings.model_fields[name])
        found = variable.find(environ)
        accepted = str(entry.get("ctx", {}).get("error", entry["msg"]))
        if name in _QUOTED_FIELDS:
            accepted = _shortened(mask_value(accepted, secrets), _ACCEPTED_CHARACTERS)
        shown = None if found is None else _displayed(name, variable, found[1], secrets)
        problems[name] = SettingProblem(found[0] if found else variable.names[0], shown, accepted)
    return problems


def _displayed(name: str, variable: Variable, text: str, secrets: tuple[str, ...]) -> str:
    """Return a wrong value as an error may show it."""
    if variable.hidden:
        return MASK
    # Mask before shortening, or half a secret would remain.
    shown = mask_value(text, secrets, is_path=name in _PATH_FIELDS)
    if name == "endpoint_url":
        shown = parsers.mask_password(shown)
        shown = re.sub(r"[?#].*", "?…", shown, count=1, flags=re.DOTALL)  # a query may be a signature
    return _shortened(shown, _VALUE_CHARACTERS)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
