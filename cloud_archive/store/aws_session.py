"""Make the SDK's session within a time limit: an isolated one, or with `S3_CREDENTIALS=aws` the standard chain's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from botocore.session import Session

T = TypeVar("T")

MAKING_SECONDS = 15.0
"""How long the SDK, a session and its credentials may take: a metadata service or a credential process may hang."""


class AwsConfigurationError(Exception):
    """The AWS chain can't be used; the text is the SDK's own."""


class AwsChainTimeout(Exception):
    """The SDK, a session and its credentials were not loaded within `MAKING_SECONDS`."""


def isolated_session() -> Session:
    """Return a session that reads no `AWS_*` variable but the CA bundle's, and no file below `~/.aws`."""
    from botocore.configprovider import ConstantProvider
    from botocore.loaders import Loader
    from botocore.session import Session

    # name: (name in the file, variable, default, conversion)
    variables: dict[str, Any] = {
        name: (None, None, default, conversion)
        for name, (_, _, default, conversion) in Session.SESSION_VARIABLES.items()
    }
    variables |= {
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
        "ca_bundle": (None, "AWS_CA_BUNDLE", None, None),
    }
    session = Session(session_vars=variables)
    # Ignore the section `s3` of the file, and the AWS_S3_* variables.
    session.get_component("config_store").set_config_provider("s3", ConstantProvider(None))
    # Ignore ~/.aws/models and AWS_DATA_PATH.
    built_in = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    session.register_component("data_loader", built_in)
    return session


def chain_session() -> Session:
    """Return a session that follows the standard AWS chain, with its credentials already loaded if it finds any.

    Raises:
        AwsConfigurationError: the chain can't be used.
    """
    from botocore.session import Session

    try:
        session = Session()
        credentials = session.get_credentials()
        if credentials is not None:
            credentials.get_frozen_credentials()  # asks the role or the process now, while the wait is limited
        return session
    except Exception as error:
        raise AwsConfigurationError(str(error)) from error


class MadeOnce(Generic[T]):
    """A value that is made at the first `get`, in a thread of its own. Thread-safe.

    Args:
        make: makes the value. After it raised, the next `get` calls it again.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._future: Future[T] | None = None

    def get(self) -> T:
        """Return the value.

        Raises:
            AwsChainTimeout: it was not made within `MAKING_SECONDS`. `make` continues; the next caller waits for it.
            RuntimeError: the system starts no thread.
            Exception: what `make` raised.
        """
        with self._lock:
            future = self._future
            if future is None:
                future = Future()
                threading.Thread(
                    target=self._run, args=(future,), name="cloud-archive-client", daemon=True
                ).start()
                self._future = future  # not before: without a thread, the next caller must try again
        if not wait([future], MAKING_SECONDS).done:
            raise AwsChainTimeout
        return future.result()

    def drop(self) -> T | None:
        """Forget the value, so that the next `get` makes another. Return it; None if it is not made."""
        with self._lock:
            future, self._future = self._future, None
        if future is None or not future.done() or future.exception() is not None:
            return None
        return future.result()

    def _run(self, future: Future[T]) -> None:
        try:
            value = self._make()
        except BaseException as error:
            with self._lock:
                if self._future is future:
                    self._future = None
            future.set_exception(error)
        else:
            future.set_result(value)
