"""A request executor whose SDK answers from a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from botocore.exceptions import ClientError

from cloud_archive.config.settings import load_settings
from cloud_archive.store.base import Capabilities
from cloud_archive.store.client import Client
from cloud_archive.store.requests import RequestExecutor

ENVIRON = {
    "S3_ENDPOINT_URL": "http://127.0.0.1:9",
    "S3_BUCKET": "pictures",
    "S3_ACCESS_KEY_ID": "AKIATEST",
    "S3_SECRET_ACCESS_KEY": "planted+SECRET/0123456789",
}
OK: dict[str, Any] = {"ETag": '"e"', "ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}}}


def refused(status: int, code: str = "", message: str = "") -> ClientError:
    """Return the SDK's error for a refusal; without a code, for that of a HEAD, which has no body."""
    answer = {
        "Error": {"Code": code or str(status), "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {"server": "a store"}},
    }
    return ClientError(cast(Any, answer), "Operation")


class ScriptedSdk:
    """Answers each request with the next reply: an answer, or an error to raise. The last one stays."""

    def __init__(self, *replies: Mapping[str, Any] | Exception) -> None:
        self.replies = list(replies)
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Mapping[str, Any]]:
        def answer(**parameters: Any) -> Mapping[str, Any]:
            self.calls.append((name, parameters))
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            if isinstance(reply, ClientError):
                reply.operation_name = "".join(word.title() for word in name.split("_"))
            if isinstance(reply, Exception):
                raise reply
            return reply

        return answer

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


def executor(sdk: ScriptedSdk, *, known: Capabilities | None = None, **environ: str) -> RequestExecutor:
    """Return a request executor that has made its client already."""
    made = RequestExecutor(
        load_settings(ENVIRON | environ),
        capabilities=known,
        on_capabilities=None,
        connect_seconds=1,
        read_seconds=1,
    )
    made._client_made = Client(cast(Any, sdk), None)
    made.fast.use_sdk_only("the test answers for the SDK")
    return made
