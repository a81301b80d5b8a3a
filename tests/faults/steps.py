"""The upload protocol step by step: every fault at every step, once and lasting.

A case is one watched directory with one file (`world.py`): it is brought to a step, the fault strikes, it is healed.
Then each version must be in the bucket exactly once and byte for byte, nothing may be overwritten, and no multipart
upload may be left. While the fault lasts, the file must be archived, or named with a cause.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.world import small_parts

if TYPE_CHECKING:
    from tests.servers import S3Server
from tests.faults.step_cases import Case, Table
from tests.faults.step_play import Play
from tests.faults.step_stage import Stage

BLOCK = 200  # cases on one proxy, whose journal is read once for each of them


@contextmanager
def _bucket_of_its_own(server: S3Server, wanted: bool) -> Iterator[S3Server]:
    """Yield a bucket that is deleted afterwards with its objects, so that a long run does not fill the disk."""
    if not wanted:
        yield server
        return
    fresh = server.with_fresh_bucket()
    yield fresh
    fresh.client.delete_bucket(Bucket=fresh.bucket)


def play(
    cases: Sequence[Case],
    server: S3Server,
    directory: Path,
    seed: int,
    *,
    at_once: int = 8,
    progress: Callable[[str], None] = lambda line: None,
) -> Table:
    """Play these cases, `at_once` at a time.

    Args:
        server: with a bucket for this alone.
        directory: takes a folder for each case.
        seed: of contents, and of what is drawn within a case.
    """
    table = Table(seed)
    begin = time.monotonic()
    with small_parts():
        for first in range(0, len(cases), BLOCK):
            with (
                _bucket_of_its_own(server, len(cases) > BLOCK) as bucket,
                Stage(bucket, directory, seed) as stage,
                ThreadPoolExecutor(at_once) as threads,
            ):
                for result in threads.map(lambda case: Play(stage, case).run(), cases[first : first + BLOCK]):
                    table.results.append(result)
                    if result.problems:
                        progress(result.line)
            progress(f"{len(table.results)} of {len(cases)} runs, {len(table.failures)} failures")
    table.seconds = time.monotonic() - begin
    return table
