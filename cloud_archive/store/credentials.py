"""The credentials that sign requests: those of the settings, or those of the AWS chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .aws_session import chain_session

if TYPE_CHECKING:
    from botocore.session import Session

    from ..config.settings import Settings


class Credentials(NamedTuple):
    """An access key, its secret, and the token of temporary credentials."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None

    def __repr__(self) -> str:
        return "Credentials(***)"


def configured_credentials(settings: Settings) -> Credentials | None:
    """Return the credentials of the settings; None: the AWS chain provides them, or there are none."""
    secret, token = settings.secret_access_key, settings.session_token
    if settings.credentials != "env" or not settings.access_key_id or secret is None:
        return None
    return Credentials(
        settings.access_key_id, secret.get_secret_value(), token.get_secret_value() if token else None
    )


def credentials_source(
    settings: Settings, session: Session | None = None
) -> Callable[[], Credentials] | None:
    """Return a function that returns the credentials that are valid now; None = there are none.

    The function raises botocore's error if the credentials of a role can't be renewed.

    Args:
        session: provides the credentials with S3_CREDENTIALS=aws; default: a new one.

    Raises:
        AwsConfigurationError: with S3_CREDENTIALS=aws, the chain can't be used.
    """
    if settings.credentials == "env":
        configured = configured_credentials(settings)
        return None if configured is None else lambda: configured
    provided = (session or chain_session()).get_credentials()
    if provided is None:
        return None

    def current() -> Credentials:
        frozen = provided.get_frozen_credentials()
        return Credentials(str(frozen.access_key), str(frozen.secret_key), frozen.token)

    return current
