"""Open an archive's list of jobs. Once a job is final, the catalog gets its tags and note, and a webhook is sent."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalog.catalog import Catalog
from ..config.settings import Settings
from ..errors import CatalogError, CloudArchiveError, JobsError
from ..intake.selection import Selection
from ..jobs.jobs import Jobs
from ..jobs.records import JobRecord, Output
from ..jobs.store import JOBS_NAME, JobStore
from .archive import Archiver
from .job_answers import add_links

if TYPE_CHECKING:
    from ..jobs.webhooks import Webhooks

logger = logging.getLogger("cloud_archive.jobs")

_UNSIGNED = (
    "No webhook is sent: set CLOUD_ARCHIVE_WEBHOOK_SECRET, with which every message is signed"
    " (whsec_ and 24 to 64 random bytes in base64)."
)


@dataclass(slots=True)
class OpenJobs:
    """The jobs of an archive, its webhooks if there is a receiver, and notices for users."""

    jobs: Jobs
    webhooks: Webhooks | None = None
    notices: Sequence[str] = ()

    def waiting_webhooks(self) -> int:
        """Return how many webhooks wait to be sent; 0 if the list of jobs can't be read."""
        with contextlib.suppress(JobsError):
            return 0 if self.webhooks is None else self.webhooks.waiting()
        return 0

    def problems(self) -> list[str]:
        """Return why webhooks wait or are given up; empty if there is no problem."""
        with contextlib.suppress(JobsError):
            sentence = None if self.webhooks is None else self.webhooks.sentence()
            return [sentence] if sentence else []
        return []

    def close(self, timeout_seconds: float) -> None:
        """End the threads, wait up to `timeout_seconds` for that, and close the list of jobs."""
        deadline = time.monotonic() + timeout_seconds
        if self.webhooks is not None:
            self.webhooks.stop(timeout_seconds)
        self.jobs.close(max(0.0, deadline - time.monotonic()))


def open_jobs(
    settings: Settings, root: Path, state_directory: Path, archiver: Archiver, catalog: Catalog
) -> OpenJobs:
    """Open and start the jobs of this archive. If their list can't be opened, a notice says why."""
    store = JobStore(state_directory / JOBS_NAME)
    found = OpenJobs(
        Jobs(
            store,
            root,
            archiver.ledger,
            Selection(settings.include, settings.exclude, archiver.own),
            on_final=lambda job, outputs: _mark_assets(catalog, job, outputs),
            on_announced=lambda: _wake(found),
            message_id=lambda: _message_id(found),
        )
    )
    if settings.webhook_url is not None and settings.webhook_secret is None:
        found.notices = (_UNSIGNED,)
    if settings.webhook_url is not None and settings.webhook_secret is not None:
        from ..jobs.webhooks import Webhooks

        found.webhooks = Webhooks(
            store,
            lambda job_id: _payload(found.jobs, archiver, job_id),
            settings.webhook_url.get_secret_value(),
            settings.webhook_secret.get_secret_value(),
        )
    try:
        found.jobs.start()
    except CloudArchiveError as error:
        logger.error("%s", error)
        found.webhooks, found.notices = None, (*found.notices, str(error))
        return found
    archiver.on_file = found.jobs.note_path
    if found.webhooks is not None:
        found.webhooks.start()
    return found


def _message_id(found: OpenJobs) -> str | None:
    if found.webhooks is None:
        return None
    from ..jobs.webhooks import new_message_id

    return new_message_id()


def _wake(found: OpenJobs) -> None:
    if found.webhooks is not None:
        found.webhooks.wake()


def _payload(jobs: Jobs, archiver: Archiver, job_id: str) -> dict[str, Any] | None:
    """Return the JSON that the webhook sends, with new links if the job asked for links; None: the job is not known."""
    answer = jobs.answer(job_id)
    if answer is not None and jobs.wants_links(job_id):
        add_links(archiver.store, answer["files"])
    return answer


def _mark_assets(catalog: Catalog, job: JobRecord, outputs: Sequence[Output]) -> None:
    """Give the job's tags and note to the files that it wrote."""
    options = job.options
    if not options.tags and not options.note:
        return
    for output in outputs:
        if output.state == "archived" and output.key and not output.cached:
            try:
                catalog.add_tags_and_note(output.key, options.tags, options.note, job.finished_at or 0.0)
            except CatalogError as error:  # it must not delay the webhook
                logger.warning("The tags and note of a job were dropped: %s", error)
                return
