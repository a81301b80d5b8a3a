"""Read the SDK's own data once a process: each client has a session of its own, which reads 3 MB of JSON.

That is 0.1 s of processor time, and tests make 500 clients.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def read_sdk_data_once() -> None:
    """Cache the SDK's data files for the rest of this process."""
    from botocore.loaders import JSONFileLoader, Loader

    kept: dict[Any, Any] = {}

    def once(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def found(self: object, *arguments: str) -> Any:
            name = (method.__name__, arguments)
            if name not in kept:
                kept[name] = method(self, *arguments)
            return kept[name]

        return found

    for owner, name in ((JSONFileLoader, "load_file"), (Loader, "list_available_services")):
        method = getattr(owner, name)
        if not hasattr(method, "__wrapped__"):
            setattr(owner, name, once(method))
