"""The settings, read once from environment variables.

One `SettingsError` names all wrong variables. No error or repr contains a secret. A credential in a variable that is
not for credentials is refused, so that it is never shown or stored.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

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
from .misspelt import misspelt_placeholder, misspelt_settings

_VALUE_CHARACTERS = 120  # of a wrong value in an error
_ACCEPTED_CHARACTERS = 600
# The errors of these fields quote the value.
_QUOTED_FIELDS = frozenset({"prefix", "include", "exclude", "endpoint_url"})
_PATH_FIELDS = frozenset({"ca_bundle", "state_dir", "output_dir"})
_MISPLACED = (
    "it looks like a credential, so it is not used here; credentials go in S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY "
    "and S3_SESSION_TOKEN"
)


class Variable(NamedTuple):
    """The variable that a field's value comes from.

    Attributes:
        names: the variable and its aliases; the first one that is set is used. Blanks and one pair of quotes around a
            value are removed, and an empty value counts as unset, but see `may_be_empty`.
        parse: called with the text and the valid values of the fields before this one; raises ValueError.
        may_be_empty: an empty value of the first name counts as set.
        is_required: `parse` is also called with an empty text where nothing is set.
    """

    names: tuple[str, ...]
    parse: Callable[[str, Mapping[str, Any]], Any]
    may_be_empty: bool = False
    is_required: bool = False

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


class Secret:
    """A text that no repr shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        """Return the text. Never log or show it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def _host_name() -> str:
    return socket.gethostname() or "unnamed"


def _setting(
    *names: str,
    parse: Callable[[str], Any] | None = None,
    parse_beside: Callable[[str, Mapping[str, Any]], Any] | None = None,
    default: Any = None,
    default_factory: Callable[[], Any] | None = None,
    is_secret: bool = False,
    is_shown: bool = True,
    may_be_empty: bool = False,
    is_required: bool = False,
) -> Any:
    """Return the dataclass field of one setting; see `Variable`.

    Args:
        parse: parses the text alone; or `parse_beside`, if the setting is checked against an earlier one.
        is_secret: the value becomes a `Secret`.
        is_shown: whether the repr of the settings shows the value.
    """

    def parsed(text: str, earlier: Mapping[str, Any]) -> Any:
        value = parse(text) if parse is not None else parse_beside(text, earlier)  # type: ignore[misc]
        return Secret(value) if is_secret and value is not None else value

    metadata = {"variable": Variable(names, parsed, may_be_empty, is_required)}
    shown = is_shown and not is_secret
    if default_factory is not None:
        return field(default_factory=default_factory, repr=shown, metadata=metadata)
    return field(default=default, repr=shown, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings; docs/settings.md documents every variable. Call `load_settings` to get them."""

    # A field that another one is checked against must come first.
    credentials: Literal["env", "aws"] = _setting(
        "S3_CREDENTIALS", parse=parsers.parse_choice("env", "aws"), default="env"
    )
    access_key_id: str | None = _setting(
        "S3_ACCESS_KEY_ID",
        "R2_ACCESS_KEY_ID",
        "R2_ACCESS_KEY",
        parse_beside=parsers.parse_access_key,
        is_shown=False,
        is_required=True,
    )
    secret_access_key: Secret | None = _setting(
        "S3_SECRET_ACCESS_KEY",
        "R2_SECRET_ACCESS_KEY",
        "R2_SECRET_KEY",
        parse_beside=parsers.parse_secret_key,
        is_secret=True,
        is_required=True,
    )
    session_token: Secret | None = _setting(
        "S3_SESSION_TOKEN", parse=parsers.parse_credential, is_secret=True
    )
    bucket: str = _setting("S3_BUCKET", "R2_BUCKET", parse=parsers.parse_bucket, default="", is_required=True)
    region: str = _setting("S3_REGION", parse=parsers.parse_region, default="us-east-1")
    prefix: str = _setting(
        "S3_PREFIX", parse=parsers.parse_prefix, default="comfyui-outputs", may_be_empty=True
    )
    endpoint_url: str | None = _setting("S3_ENDPOINT_URL", "R2_ENDPOINT", parse_beside=parsers.parse_endpoint)
    conflict_rename: bool = _setting("S3_ENABLE_CONFLICT_RENAME", parse=parsers.parse_boolean, default=True)
    addressing_style: Literal["auto", "path", "virtual"] = _setting(
        "S3_ADDRESSING_STYLE", parse=parsers.parse_choice("auto", "path", "virtual"), default="auto"
    )
    checksum: Literal["auto", "sha256", "md5"] = _setting(
        "S3_CHECKSUM", parse=parsers.parse_choice("auto", "sha256", "md5"), default="auto"
    )
    storage_class: str | None = _setting("S3_STORAGE_CLASS", parse=parsers.parse_store_value)
    server_side_encryption: str | None = _setting(
        "S3_SERVER_SIDE_ENCRYPTION", parse=parsers.parse_store_value
    )
    sse_kms_key_id: str | None = _setting("S3_SSE_KMS_KEY_ID", parse_beside=parsers.parse_kms_key)
    ca_bundle: Path | None = _setting("S3_CA_BUNDLE", parse=parsers.parse_ca_file)
    autostart: bool = _setting(
        "CLOUD_ARCHIVE_AUTOSTART", "ENABLE_R2_SYNC", parse=parsers.parse_boolean, default=True
    )
    workers: int = _setting("CLOUD_ARCHIVE_WORKERS", parse=parsers.parse_workers, default=8)
    max_bandwidth_bytes: int | None = _setting("CLOUD_ARCHIVE_MAX_BANDWIDTH", parse=parsers.parse_bandwidth)
    include: tuple[str, ...] = _setting("CLOUD_ARCHIVE_INCLUDE", parse=parsers.parse_patterns, default=())
    exclude: tuple[str, ...] = _setting("CLOUD_ARCHIVE_EXCLUDE", parse=parsers.parse_patterns, default=())
    watch: Literal["auto", "native", "poll"] = _setting(
        "CLOUD_ARCHIVE_WATCH", parse=parsers.parse_choice("auto", "native", "poll"), default="auto"
    )
    settle_seconds: float | None = _setting("CLOUD_ARCHIVE_SETTLE_SECONDS", parse=parsers.parse_seconds)
    rescan_seconds: float = _setting(
        "CLOUD_ARCHIVE_RESCAN_SECONDS", parse=parsers.parse_seconds, default=60.0
    )
    backfill: Literal["missed", "all", "none"] = _setting(
        "CLOUD_ARCHIVE_BACKFILL", parse=parsers.parse_choice("missed", "all", "none"), default="missed"
    )
    delete_local_after_seconds: float | None = _setting(
        "CLOUD_ARCHIVE_DELETE_LOCAL_AFTER", parse=parsers.parse_age
    )
    min_free_disk_bytes: int | None = _setting("CLOUD_ARCHIVE_MIN_FREE_DISK", parse=parsers.parse_size)
    state_dir: Path | None = _setting("CLOUD_ARCHIVE_STATE_DIR", parse=parsers.parse_directory)
    output_dir: Path | None = _setting("COMFYUI_OUTPUT_DIR", parse=parsers.parse_directory)

    catalog: Literal["full", "fields", "off"] = _setting(
        "CLOUD_ARCHIVE_CATALOG", parse=parsers.parse_choice("full", "fields", "off"), default="full"
    )
    gallery: Literal["all", "own", "off"] = _setting(
        "CLOUD_ARCHIVE_GALLERY", parse=parsers.parse_choice("all", "own", "off"), default="all"
    )
    machine_name: str = _setting(
        "CLOUD_ARCHIVE_MACHINE_NAME",
        "RUNPOD_POD_ID",
        parse=parsers.parse_machine_name,
        default_factory=_host_name,
    )
    webhook_url: Secret | None = _setting(
        "CLOUD_ARCHIVE_WEBHOOK_URL", parse=parsers.parse_webhook_url, is_secret=True
    )
    webhook_secret: Secret | None = _setting(
        "CLOUD_ARCHIVE_WEBHOOK_SECRET", parse=parsers.parse_webhook_secret, is_secret=True
    )

    serve_token: Secret | None = _setting(
        "CLOUD_ARCHIVE_SERVE_TOKEN", parse=parsers.parse_credential, is_secret=True
    )

    bucket_in_endpoint: bool = field(default=False, repr=False)  # whether the endpoint's URL named the bucket
    misspelt: tuple[str, ...] = field(default=(), repr=False)  # sentences; see misspelt.py

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
    def destination(self) -> str:
        """Which bucket this is, and where: `endpoint/bucket`."""
        return f"{self.endpoint_label}/{self.bucket}"

    @property
    def endpoint_remark(self) -> str:
        """A sentence about what was changed in the endpoint, or nothing."""
        if not self.bucket_in_endpoint:
            return ""
        return f"The endpoint's URL names the bucket {self.bucket}; {self.endpoint_url} is used as S3_ENDPOINT_URL."

    @property
    def frees_local_files(self) -> bool:
        """Whether local files are deleted after proof in the bucket."""
        return self.delete_local_after_seconds is not None or self.min_free_disk_bytes is not None

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

    def shown(self, value: str) -> str:
        """Return a value of these settings as users may see it: `***` where it equals a secret, however short."""
        return MASK if value and value in self.secrets() else value


VARIABLES: Mapping[str, Variable] = {
    entry.name: entry.metadata["variable"] for entry in fields(Settings) if "variable" in entry.metadata
}
"""The variable of each field of `Settings`."""


def _texts(environ: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    endpoint = VARIABLES["endpoint_url"].find(environ)
    if endpoint is not None and endpoint[0] == "R2_ENDPOINT":
        # As the scripts that set this variable; see docs/migrating-from-r2-scripts.md.
        found |= {"region": "auto", "prefix": "outputs/{Y}-{m}-{d}"}
    for name, variable in VARIABLES.items():
        text = variable.find(environ)
        if text is not None:
            found[name] = text[1]
    return found


def _parse(texts: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the valid values by field, defaults included, and what is accepted for each invalid one."""
    values: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for entry in fields(Settings):
        name, variable = entry.name, VARIABLES.get(entry.name)
        if variable is not None and (name in texts or variable.is_required):
            try:
                values[name] = variable.parse(texts.get(name, ""), values)
            except ValueError as error:
                refused[name] = str(error)
        elif entry.default_factory is not MISSING:
            values[name] = entry.default_factory()
        else:
            values[name] = entry.default
    return values, refused


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings in `environ` (default: `os.environ`). Raises SettingsError, which names every wrong one."""
    if environ is None:
        environ = os.environ
    texts = _texts(environ)
    values, refused = _parse(texts)
    problems = _misplaced_credentials(environ) | _problems(refused, environ)
    known = [name for variable in VARIABLES.values() for name in variable.names]
    misspelt = (*misspelt_settings(environ, known), *misspelt_placeholder(texts.get("prefix", "")))
    if problems:
        raise SettingsError([problems[name] for name in VARIABLES if name in problems], misspelt)
    values["bucket_in_endpoint"] = parsers.names_bucket(texts.get("endpoint_url", ""), values["bucket"])
    values["misspelt"] = misspelt
    return Settings(**values)


def state_directory(environ: Mapping[str, str]) -> Path | None:
    """Return CLOUD_ARCHIVE_STATE_DIR, even if other settings are wrong; None if it is unset or wrong."""
    try:
        return load_settings(environ).state_dir
    except SettingsError as error:
        refused = any(problem.variable == "CLOUD_ARCHIVE_STATE_DIR" for problem in error.problems)
    found = VARIABLES["state_dir"].find(environ)
    return None if refused or found is None else parsers.parse_directory(found[1])


def _misplaced_credentials(environ: Mapping[str, str]) -> dict[str, SettingProblem]:
    secrets = secret_values(environ)
    problems = {}
    for name, variable in VARIABLES.items():
        found = variable.find(environ)
        if found is None or variable.hidden:
            continue
        if holds_credential(found[1], secrets, is_path=name in _PATH_FIELDS):
            problems[name] = SettingProblem(
                found[0], _displayed(name, variable, found[1], secrets), _MISPLACED
            )
    return problems


def _problems(refused: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, SettingProblem]:
    secrets = secret_values(environ)
    problems = {}
    for name, accepted in refused.items():
        variable = VARIABLES[name]
        found = variable.find(environ)
        if name in _QUOTED_FIELDS:
            accepted = _shortened(mask_value(accepted, secrets), _ACCEPTED_CHARACTERS)
        shown = None if found is None else _displayed(name, variable, found[1], secrets)
        problems[name] = SettingProblem(found[0] if found else variable.names[0], shown, accepted)
    return problems


def _displayed(name: str, variable: Variable, text: str, secrets: tuple[str, ...]) -> str:
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
