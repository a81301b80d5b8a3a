"""Read the catalog of a directory through the engine that runs for it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ..errors import CatalogError, CloudArchiveError, EngineUnavailable
from .arguments import WrongUsage
from .catalog_choice import bucket_settings, catalog_root

if TYPE_CHECKING:
    from ..api.client import LocalEngine

_ASSETS = "/cloud-sync/assets"


def catalog_engine(directory: Path | None) -> LocalEngine | None:
    """Return the engine that runs for the directory.

    None: there is none, it does not answer, or no directory is named and the bucket's catalog is meant.
    """
    from ..api.client import running_engine

    if bucket_settings(directory) is not None:
        return None
    with contextlib.suppress(WrongUsage, EngineUnavailable):
        return running_engine(catalog_root(directory))
    return None


class EngineAssets:
    """The assets of the catalog that an engine has open."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    def page(self, query: str, limit: int, after: str | None) -> dict[str, Any]:
        """Return one page of what `query` finds; see `AssetSource`.

        Raises:
            CatalogError: the engine answers with an error.
            EngineUnavailable: it does not answer.
        """
        fields = {"q": query, "limit": limit, "after": after or ""}
        return dict(_ask(self._engine, f"{_ASSETS}?{urlencode(fields)}"))

    def asset(self, identity: uuid.UUID) -> dict[str, Any] | None:
        """Return the asset with this id; None if there is none."""
        answer = self._engine.call("GET", f"{_ASSETS}/{identity}")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise CatalogError(answer.message)
        return dict(answer.body)


def engine_graph(engine: LocalEngine, asset: Mapping[str, Any], part: str) -> Any:
    """Return the asset's `workflow` or `prompt` graph; CloudArchiveError: there is none, or it can't be read now."""
    if not asset[f"has_{part}"]:
        raise CloudArchiveError(f"No {part} is known of {asset['key']}.")
    return _ask(engine, f"{_ASSETS}/{asset['id']}/{part}")


def _ask(engine: LocalEngine, path: str) -> Any:
    answer = engine.call("GET", path)
    if answer.status == 400:
        raise WrongUsage(answer.message.removeprefix("q: "))
    if answer.status != 200:
        raise CatalogError(answer.message)
    return answer.body
