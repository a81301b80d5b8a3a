"""Answer what is known about one job, from the list of jobs or else from the catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..errors import CatalogError, RequestRefused
from ..jobs.answers import catalog_json, catalog_queries, unsearched_json
from ..jobs.records import MAX_OUTPUTS
from ..sharing.links import DEFAULT_LINK_SECONDS, link_json, make_link
from ..store.base import ObjectStore
from ..upload.source import content_type

if TYPE_CHECKING:
    from ..catalog.catalog import Catalog
    from .open_archive import OpenArchive

_PAGE_FILES = 500


def job_answer(
    opened: OpenArchive, job_id: str, *, urls: bool, only_machine: Callable[[], str | None]
) -> dict[str, Any]:
    """Return the JSON of `GET /cloud-sync/jobs/{prompt_id}`.

    Args:
        urls: add links to the archived files.
        only_machine: returns the only machine whose files in the catalog the caller may see, None for any machine's;
            or raises RequestRefused. The jobs in the list ran here, so every caller may see their files.

    Raises:
        JobsError, LedgerError: the list of jobs or the ledger can't be read.
        StoreError: see `add_links`.
    """
    answer = opened.jobs.answer(job_id)
    if answer is None:
        try:
            assets = _assets_of(opened.catalog, catalog_queries(job_id), only_machine())
            answer = catalog_json(job_id, assets)
        except (CatalogError, RequestRefused) as error:
            answer = unsearched_json(job_id, str(error))
    if urls:
        add_links(opened.archiver.store, answer["files"])
    return answer


def _assets_of(catalog: Catalog, queries: Iterable[str], machine: str | None) -> list[dict[str, Any]]:
    """Return the files that these queries find in the catalog, about `MAX_OUTPUTS` for each query at most."""
    assets: list[dict[str, Any]] = []
    for query in queries:
        cursor: str | None = None
        for _ in range(MAX_OUTPUTS // _PAGE_FILES):
            page = catalog.search(query, "created_at", "asc", _PAGE_FILES, cursor, machine)
            assets += page.assets
            cursor = page.next_cursor
            if cursor is None:
                break
    return assets


def add_links(store: ObjectStore, files: Iterable[dict[str, Any]]) -> None:
    """Add a link (`url` and `expires_at`) to each archived file. StoreError: a link can't be signed."""
    for file in files:
        if file["state"] == "archived" and file["key"]:
            media_type = content_type(file["name"])
            file |= link_json(make_link(store, file["key"], file["name"], media_type, DEFAULT_LINK_SECONDS))
