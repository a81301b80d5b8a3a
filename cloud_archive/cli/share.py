"""`share` and `unshare`: links to archived files, copies without metadata, albums."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..api.share_arguments import MAX_SHARED, MAX_TITLE_CHARACTERS
from ..errors import CloudArchiveError, RequestRefused
from ..terminal import EXIT_FAILED, print_error, print_json, print_line
from ..text import count_noun, format_bytes, make_printable
from .arguments import WrongUsage
from .asset_source import AssetSource, NoSuchAsset, named_asset, newest_assets
from .catalog_view import DatabaseAssets, catalog_of, thumbnails_of
from .common import age_seconds, bucket, settings_now
from .engine_catalog import catalog_engine
from .options import CatalogDirectory, Json

if TYPE_CHECKING:
    from ..api.client import LocalEngine
    from ..catalog.database import CatalogDatabase

_TIMEOUT_SECONDS = 600.0
_FILE_ENDING = re.compile(r"\w\.[A-Za-z][A-Za-z0-9]+\Z")  # `.png`, but not the `.5vl` of a model's version

_Names = Annotated[
    list[str],
    typer.Argument(metavar="QUERY|KEY…", help="Keys, paths or ids; or one query."),
]
_Limit = Annotated[int, typer.Option("--limit", metavar="N", help="Refuse a query that finds more files.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("share", short_help="Share links to archived files; the links expire.")(share)
    app.command("unshare", short_help="Delete the copies and albums of a share.")(unshare)


def share(
    names: _Names,
    expires: Annotated[
        str, typer.Option("--expires", metavar="AGE", help="How long the links last, at most 7d.")
    ] = "7d",
    strip: Annotated[
        bool, typer.Option("--strip", help="Share copies without prompt, workflow and tags.")
    ] = False,
    album: Annotated[
        str | None, typer.Option("--album", metavar="TITLE", help="Make one page that shows the files.")
    ] = None,
    with_prompts: Annotated[
        bool, typer.Option("--with-prompts", help="With --album: the page shows each file's prompt.")
    ] = False,
    limit: _Limit = 100,
    directory: CatalogDirectory = None,
    json: Json = False,
) -> None:
    """Print links that let anybody read these files until the links expire.

    If no word is a key, path or id, and none looks like a path, all words together are a query as in `search`. A link
    can't be revoked before it expires; copies and albums can: `unshare` deletes them.
    """
    seconds = None
    with contextlib.suppress(WrongUsage):  # its text says how to turn a setting off
        seconds = age_seconds("--expires", expires)
    if seconds is None or seconds < 1:
        raise WrongUsage(
            f"--expires {expires!r}: every link lasts from 1s to 7d; give an age such as 90m or 24h."
        )
    if album is not None and not 1 <= len(album.strip()) <= MAX_TITLE_CHARACTERS:
        raise WrongUsage(f"--album must be a title of 1 to {MAX_TITLE_CHARACTERS} characters.")
    if with_prompts and album is None:
        raise WrongUsage("--with-prompts needs --album.")
    if not 1 <= limit <= MAX_SHARED:
        raise WrongUsage(f"--limit must be a number from 1 to {MAX_SHARED}.")
    order = {
        "expires_seconds": seconds,
        "strip_metadata": strip,
        "album": None if album is None else album.strip(),
        "with_prompts": with_prompts,
    }
    with catalog_of(directory) as database:
        assets = _assets(DatabaseAssets(database), names, limit)
        engine = catalog_engine(directory)
        answer = (
            _share_directly(database, directory, assets, order)
            if engine is None
            else _share_by_engine(engine, assets, order)
        )
    if json:
        print_json(answer)
    else:
        _show(answer)
    for error in answer["errors"]:
        print_error(make_printable(f"{error['name']}: {error['message']}"))
    if answer["errors"]:
        raise typer.Exit(EXIT_FAILED)


def _show(answer: dict[str, Any]) -> None:
    # The link to an album leads to the others.
    for shared in answer["links"] if answer["album"] is None else [answer["album"]]:
        name = shared["title"] if "title" in shared else shared["name"]
        print_line(f"{make_printable(name)}, until {shared['expires_at']}:")
        print_line(shared["url"])
    if answer["share"] is not None:
        print_line(f"To delete it: cloud-archive unshare {answer['share']}")
    for warning in answer["warnings"]:
        print_error(warning)


def unshare(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SHARE…]", show_default=False, help="Shares by link, key or id; see --list."),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only list what is shared.")] = False,
    json: Json = False,
) -> None:
    """Delete the copies and albums of these shares. The archived files themselves stay.

    A link to an archived file itself can't be revoked before it expires.
    """
    from ..sharing.folder import share_id_of, shared_objects
    from ..sharing.folder import unshare as delete_share

    if listed == bool(names):  # both or neither
        raise WrongUsage("Name the shares to delete (a link, a key or an id), or give --list.")
    settings = settings_now()
    ids = [share_id_of(name) for name in names or ()]
    if None in ids:
        unknown = names[ids.index(None)] if names else ""
        raise CloudArchiveError(
            f"{unknown} names no copy and no album, so nothing was deleted. A link to an archived file itself can't be"
            " revoked before it expires."
        )
    with bucket(settings) as store:
        if listed:
            _list_shares(list(shared_objects(store, settings.prefix)), json=json)
            return
        results = [
            result
            for share_id in dict.fromkeys(ids)
            if share_id
            for result in delete_share(store, settings.prefix, share_id)
        ]
    failed = [result for result in results if result.cause]
    if json:
        print_json(
            {
                "deleted": [result.key for result in results if not result.cause],
                "failed": [result.key for result in failed],
            }
        )
    else:
        print_line(f"Deleted {count_noun(len(results) - len(failed), 'object')}.")
    for result in failed:
        print_error(make_printable(result.cause))
    if not results:
        print_error("This share has no copies and no album: they were deleted before, or never existed.")
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _list_shares(found: list[tuple[str, Any]], *, json: bool) -> None:
    if json:
        print_json(
            [{"share": share_id, "key": info.key, "size": info.size_bytes} for share_id, info in found]
        )
        return
    for share_id, info in found:
        made = "" if info.last_modified is None else f"{info.last_modified:%Y-%m-%d}"
        name = info.key.rpartition("/")[2]
        print_line(make_printable(f"{share_id}  {made}  {format_bytes(info.size_bytes)}  {name}"))
    print_line(f"{count_noun(len(found), 'shared object')}.")


def _assets(source: AssetSource, names: list[str], limit: int) -> list[dict[str, Any]]:
    """Return the named assets, or those that a query finds.

    Raises:
        NoSuchAsset: there are none, or a name that can't be part of a query names no file.
        WrongUsage: the query is empty, or can't be read.
        CloudArchiveError: there are more than `limit`, or several files have one of these paths.
    """
    named: list[dict[str, Any]] = []
    unknown: list[str] = []
    for name in names:
        try:
            named.append(named_asset(source, name))
        except NoSuchAsset:
            unknown.append(name)
    wrong = unknown if named else [name for name in unknown if _looks_like_path(name)]
    if wrong:
        raise NoSuchAsset(
            f"No file has the key, path or id {wrong[0]}, so nothing was shared. If this is a query, put it in double"
            f" quotes that the shell passes on: '\"{wrong[0]}\"'."
        )
    if named:
        return list({asset["id"]: asset for asset in named}.values())
    query = " ".join(names)
    if re.fullmatch(r'[\s"-]*', query):
        raise WrongUsage("The query is empty, and would find all files: name files, or write a query.")
    found = newest_assets(source, query, limit)
    if not found["assets"]:
        raise NoSuchAsset(f"The query {query!r} finds no file, and no file has this key, path or id.")
    if found["total"] > limit:
        raise CloudArchiveError(
            f"The query {query!r} finds {found['total']:,} files. Narrow it, or allow more with --limit"
            f" (up to {MAX_SHARED})."
        )
    return list(found["assets"])


def _looks_like_path(name: str) -> bool:
    """Return whether `name` probably means one file. As a query it might share files that the user did not name.

    >>> [_looks_like_path(name) for name in ("a/fox", "fox.png", "fox", "a red fox", "qwen2.5vl", "path:a/fox.png")]
    [True, True, False, False, False, False]
    """
    from ..catalog.query import FIELDS

    if '"' in name or name.startswith("-") or any(f"{field}:" in name.lower() for field in FIELDS):
        return False
    return ("/" in name and " " not in name) or _FILE_ENDING.search(name) is not None


def _share_by_engine(
    engine: LocalEngine, assets: list[dict[str, Any]], order: dict[str, Any]
) -> dict[str, Any]:
    body = {"ids": [asset["id"] for asset in assets], **order}
    answer = engine.call("POST", "/cloud-sync/share", body, timeout_seconds=_TIMEOUT_SECONDS)
    if answer.status != 200:
        raise CloudArchiveError(answer.message)
    return dict(answer.body)


def _share_directly(
    database: CatalogDatabase, directory: Path | None, assets: list[dict[str, Any]], order: dict[str, Any]
) -> dict[str, Any]:
    from ..sharing.share import ShareOrder
    from ..sharing.share import share as share_assets

    settings = settings_now()
    with bucket(settings) as store, thumbnails_of(database, directory, settings, store) as picture:
        try:
            return share_assets(store, settings.prefix, assets, ShareOrder(**order), picture=picture)
        except RequestRefused as refused:
            raise CloudArchiveError(str(refused)) from None
