"""Find archived files by a query or by name: in a catalog's database, or through the engine that has it open."""

from __future__ import annotations

import contextlib
import os
import uuid
from typing import Any, Protocol

from ..errors import CloudArchiveError
from ..text import spellings

MAX_PAGE = 500


class NoSuchAsset(CloudArchiveError):
    """No file has this key, path or id, or is found by this query."""


class AssetSource(Protocol):
    def page(self, query: str, limit: int, after: str | None) -> dict[str, Any]:
        """Return one page of what `query` finds, as `GET /cloud-sync/assets` answers.

        Args:
            limit: at most `MAX_PAGE`.
            after: `next_cursor` of the page before; None for the first page.

        Raises:
            WrongUsage: the query can't be read.
        """

    def asset(self, identity: uuid.UUID) -> dict[str, Any] | None:
        """Return the asset with this id; None if there is none."""


def newest_assets(source: AssetSource, query: str, limit: int) -> dict[str, Any]:
    """Return the newest `limit` assets that `query` finds, as one page. Raises as `AssetSource.page` does."""
    page = source.page(query, min(MAX_PAGE, limit), None)
    assets = page["assets"]
    while page["next_cursor"] and len(assets) < limit:
        page = source.page(query, min(MAX_PAGE, limit - len(assets)), page["next_cursor"])
        assets = assets + page["assets"]
    return page | {"assets": assets}


def named_asset(source: AssetSource, name: str) -> dict[str, Any]:
    """Return the asset whose key, path or id is `name`. A key of the bucket in the settings and an id come first.

    Raises:
        NoSuchAsset: there is none.
        CloudArchiveError: there are several with this path.
    """
    from ..catalog.identity import asset_id
    from ..config.settings import VARIABLES

    _, bucket = VARIABLES["bucket"].find(os.environ) or ("", "")
    identities = [asset_id(bucket, name)]
    with contextlib.suppress(ValueError):
        identities.append(uuid.UUID(name))
    for identity in identities:
        if (asset := source.asset(identity)) is not None:
            return asset
    # macOS may split accents in names.
    found = next(filter(None, (_with_path(source, spelling) for spelling in spellings(name))), [])
    if not found:
        raise NoSuchAsset(
            f"The catalog holds no file with the key, path or id {name}. `cloud-archive search` lists the files."
        )
    if len(found) > 1:
        keys = ", ".join(asset["key"] for asset in found[:5])
        raise CloudArchiveError(f"Several files have the path {name}: name one by its key ({keys}).")
    return found[0]


def _with_path(source: AssetSource, name: str) -> list[dict[str, Any]]:
    """Return the assets whose path or key is `name`, among the newest that a search for it finds."""
    quoted = name.replace('"', '""').strip()
    last = quoted.rpartition("/")[2].strip()
    stem = last.rpartition(".")[0] or last  # the key of a version may end in ` (1).png`
    found: dict[str, dict[str, Any]] = {}
    for text in dict.fromkeys(filter(None, (quoted, last, stem))):
        for condition in ("", " is:hidden"):
            for asset in newest_assets(source, f'path:"{text}"{condition}', MAX_PAGE)["assets"]:
                if name in (asset["key"], asset["path"]):
                    found[asset["id"]] = asset
    return list(found.values())
