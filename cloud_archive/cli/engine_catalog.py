"""Ask the running engine of a directory what its catalog holds."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ..errors import CatalogError, CloudArchiveError, EngineUnavailable
from ..redaction import strip_quotes
from .arguments import WrongUsage
from .bucket_catalog import bucket_settings
from .common import needed_root

if TYPE_CHECKING:
    from ..api.client import LocalEngine

_MAX_PAGE = 500
_ASSETS = "/cloud-sync/assets"


def catalog_engine(directory: Path | None) -> LocalEngine | None:
    """Return the engine that runs for the directory.

    None: there is none, it does not answer, or no directory is named and the bucket's catalog is meant.
    """
    from ..api.client import running_engine

    if bucket_settings(directory) is not None:
        return None
    with contextlib.suppress(WrongUsage, EngineUnavailable):
        return running_engine(needed_root(directory))
    return None


def engine_pages(engine: LocalEngine, query: str, limit: int) -> dict[str, Any]:
    """Return the newest `limit` assets that `query` finds, as `GET /cloud-sync/assets` answers.

    Raises:
        WrongUsage: the query can't be read.
        CatalogError: the engine has no catalog.
    """
    found: dict[str, Any] = {}
    assets: list[dict[str, Any]] = []
    after = ""
    while not found or (len(assets) < limit and after):
        asked = {"q": query, "limit": min(_MAX_PAGE, limit - len(assets)), "after": after}
        found = _ask(engine, f"{_ASSETS}?{urlencode(asked)}")
        assets += found["assets"]
        after = found["next_cursor"] or ""
    return found | {"assets": assets}


def engine_asset(engine: LocalEngine, name: str) -> dict[str, Any]:
    """Return the asset with this key, path or id.

    Raises:
        CloudArchiveError: there is none, or there are several with this path.
    """
    from ..catalog.identity import asset_id

    identities = [asset_id(strip_quotes(os.environ.get("S3_BUCKET", "")), name)]
    with contextlib.suppress(ValueError):
        identities.append(uuid.UUID(name))
    for identity in identities:
        answer = engine.call("GET", f"{_ASSETS}/{identity}")
        if answer.status == 200:
            return dict(answer.body)
    last = name.rpartition("/")[2].replace('"', " ")
    candidates = [
        asset
        for hidden in ("", " is:hidden")
        for asset in engine_pages(engine, f'path:"{last}"{hidden}', _MAX_PAGE)["assets"]
    ]
    return only_one(candidates, name)


def only_one(candidates: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the asset whose key or path is `name`. CloudArchiveError: there is none, or there are several."""
    found = [asset for asset in candidates if name in (asset["key"], asset["path"])]
    if not found:
        raise CloudArchiveError(f"The catalog holds no file with the key, path or id {name}.")
    if len(found) > 1:
        keys = ", ".join(asset["key"] for asset in found[:5])
        raise CloudArchiveError(f"Several files have the path {name}: name one by its key ({keys}).")
    return found[0]


def engine_graph(engine: LocalEngine, asset: Mapping[str, Any], part: str) -> Any:
    """Return the asset's `workflow` or `prompt` graph. CloudArchiveError: there is none, or it can't be read now."""
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
