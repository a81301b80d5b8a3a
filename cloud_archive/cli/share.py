"""`share`: links to archived files."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..errors import CloudArchiveError, RequestRefused
from ..terminal import EXIT_FAILED, print_error, print_json, print_line
from ..text import make_printable
from .arguments import WrongUsage
from .catalog_view import Dir, catalog_of, named_asset, search_pages
from .common import age_seconds, bucket, needed_root, settings_now
from .options import Json

_MOST = 500  # in one call
_SECONDS = 600.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("share", short_help="Links to archived files, which end by themselves.")(share)


def share(
    names: Annotated[list[str], typer.Argument(metavar="QUERY|KEY…", show_default=False)],
    expires: Annotated[str, typer.Option("--expires", metavar="AGE", help="How long the links last.")] = "7d",
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", help="Refuse a query that finds more files.")
    ] = 100,
    directory: Dir = None,
    json: Json = False,
) -> None:
    """Print links with which anybody may read these files until the links expire.

    Names are keys, paths or ids; where none of them is, all together are a query as in `search`. A link can't be taken
    back: it ends when it says.
    """
    seconds = age_seconds("--expires", expires)
    if seconds is None:
        raise WrongUsage("--expires: links always end; accepted is an age up to 7d, such as 24h.")
    if not 1 <= limit <= _MOST:
        raise WrongUsage(f"--limit must be a number from 1 to {_MOST}.")
    with catalog_of(directory) as database:
        assets = _assets(database, names, limit)
    found = _share(directory, assets, {"expires_seconds": seconds})
    if json:
        print_json(found)
    else:
        for shared in found["links"]:
            print_line(f"{make_printable(shared['name'])}, until {shared['expires_at']}:")
            print_line(shared["url"])
        for warning in found["warnings"]:
            print_error(warning)
    for error in found["errors"]:
        print_error(make_printable(f"{error['name']}: {error['message']}"))
    if found["errors"]:
        raise typer.Exit(EXIT_FAILED)


def _assets(database: Any, names: list[str], limit: int) -> list[dict[str, Any]]:
    """Return the named assets, or those that a query finds.

    Raises:
        CloudArchiveError: there are none, or more than `limit`.
    """
    named: list[dict[str, Any]] = []
    unknown: list[CloudArchiveError] = []
    for name in names:
        try:
            named.append(named_asset(database, name))
        except CloudArchiveError as error:
            unknown.append(error)
    if named and unknown:
        raise unknown[0]
    if named:
        return list({asset["id"]: asset for asset in named}.values())
    query = " ".join(names)
    found = search_pages(database, query, limit)
    if not found["assets"]:
        raise CloudArchiveError(f"The query {query!r} finds no file, and no file has this key, path or id.")
    if found["total"] > limit:
        raise CloudArchiveError(
            f"The query {query!r} finds {found['total']:,} files. Narrow it, or allow more with --limit"
            f" (up to {_MOST})."
        )
    return list(found["assets"])


def _share(directory: Any, assets: list[dict[str, Any]], how: dict[str, Any]) -> dict[str, Any]:
    """Ask the engine that runs for the directory, which has the credentials; else share with those in the environment.

    Raises:
        CloudArchiveError: nothing can be shared, and why.
    """
    from ..api.client import running_engine

    engine = running_engine(needed_root(directory))
    if engine is not None:
        body = {"ids": [asset["id"] for asset in assets], **how}
        answer = engine.call("POST", "/cloud-sync/share", body, timeout_seconds=_SECONDS)
        if answer.status != 200:
            raise CloudArchiveError(answer.message)
        return dict(answer.body)
    from ..sharing.share import ShareOrder
    from ..sharing.share import share as share_directly

    with bucket(settings_now()) as store:
        try:
            return share_directly(store, assets, ShareOrder(**how))
        except RequestRefused as refused:
            raise CloudArchiveError(str(refused)) from None
