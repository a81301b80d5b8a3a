"""The long runs; each prints its figures, and ends with exit status 1 where one is wrong.

python -m tests.faults --kills 1000 --seed N    SIGKILL at random moments, see run.py
python -m tests.faults --kills 300 --first-starts 30    as many first starts among them, take-overs, replaced roots
python -m tests.faults --steps 100 --seed N     each step of an upload so often, once and lasting, see steps.py
python -m tests.faults --pods 10 --names 100    so many processes, one bucket, the same names, see pods.py
python -m tests.faults --swaps 1000             folders swapped for symbolic links, see swaps.py
python -m tests.faults --floods 1000            connections that never finish a request, see floods.py
python -m tests.faults --replaced 1000          objects replaced behind our back, see replaced.py
python -m tests.faults --catalog 100            SIGKILL while the catalog is filled, see catalog_kills.py
python -m tests.faults --machines 10 --times 4  does a new machine find all? see catalog_machines.py
python -m tests.faults --soak 100000 --large 200    memory, descriptors, threads and the ledger's size, see soak.py
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.faults.catalog_kills import catalog_kills
from tests.faults.catalog_machines import catalog_machines
from tests.faults.floods import floods
from tests.faults.pods import pods
from tests.faults.replaced import replaced
from tests.faults.run import Plan, run
from tests.faults.soak import soak
from tests.faults.steps import play, rounds
from tests.faults.swaps import swaps
from tests.faults.truth import Findings
from tests.servers import S3Server, running_rclone, running_seaweedfs


def kill(chosen: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    plan = Plan(chosen.kills, seed, fault_share=chosen.fault_share, pause_seconds=chosen.pause)
    figures = run(plan, server, directory / "run", progress=told)
    print(*figures.lines(), sep="\n")
    return figures.held


def first_start_kills(chosen: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    count, held, kills, seconds = chosen.first_starts, True, 0, 0.0
    found, actions, requests, faults, replaced, called_safe = Findings(), 0, 0, 0, 0, 0
    for number in range(count):
        plan = Plan(
            chosen.kills // count,
            seed + number,
            fault_share=chosen.fault_share,
            largest_bytes=2_000_000,
            pause_seconds=chosen.pause,
            quiet_seconds=1.0,
            breather_seconds=2.0,
            aimed_share=0.5,
            longest_seconds=1.5,
            first_start=True,
            replace_every=4,
        )
        figures = run(plan, server.with_fresh_bucket(), directory / f"first{number}", forks=chosen.forks)
        if not figures.held:
            print(*figures.lines(), sep="\n")
        held, kills = held and figures.held, kills + figures.kills
        found = found.plus(figures.findings)
        seconds += figures.seconds + figures.drain_seconds
        actions, requests = actions + sum(figures.actions.values()), requests + figures.requests
        faults, replaced = faults + sum(figures.faults.values()), replaced + figures.replaced
        called_safe += figures.called_safe
        told(f"{number + 1} first starts, {kills} kills in {seconds:.0f} s: {found}")
    print(f"{count} first starts, {kills} kills, {actions} actions, {requests} requests, {faults} faults,")
    print(f"watched directory replaced {replaced} times, called safe meanwhile {called_safe}: {found}")
    return held


def step(chosen: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    cases = rounds(random.Random(seed), chosen.steps, rename=not chosen.replace)
    if chosen.only:
        cases = [case for case in cases if chosen.only in str(case)]
    table = play(cases, server, directory / "steps", seed, progress=told)
    print(*table.lines(), sep="\n")
    return table.held


def scale_out(chosen: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held; a store without create-only writes must at least keep what was there."""
    found = pods(chosen.pods, chosen.names, seed, server, directory / "pods")
    print(*found.lines(), sep="\n")
    with running_rclone(directory / "rclone") as lenient:
        again = pods(chosen.pods, chosen.names, seed, lenient.with_fresh_bucket(), directory / "lenient")
    print("without create-only writes:", *again.lines(), sep="\n")
    return found.held and again.kept


def long_soak(chosen: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    found = soak(chosen.soak, chosen.large, seed, server, directory / "soak", told)
    print(*found.lines(), sep="\n")
    return found.held


def swap(chosen: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether nothing outside was touched."""
    found = swaps(chosen.swaps, seed, server, directory / "swaps", told)
    print(*found.lines(), sep="\n")
    return found.held


def flood(chosen: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    found = floods(chosen.floods, seed, server, directory / "floods", told)
    print(*found.lines(), sep="\n")
    return found.held


def replace(chosen: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether no good copy was given up."""
    found = replaced(chosen.replaced, seed, server, directory / "replaced", told)
    print(*found.lines(), sep="\n")
    return found.held


def kill_cataloguing(chosen: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    figures = catalog_kills(chosen.catalog, seed, directory / "catalog", told)
    print(*figures.lines(), sep="\n")
    return figures.held


def told(line: str) -> None:
    print(line, flush=True)


def find_all(chosen: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    place = directory / "machines"
    figures = catalog_machines(
        chosen.machines, chosen.times, 20, seed, server, place, round_seconds=60 / max(1, chosen.times)
    )
    print(*figures.lines(), sep="\n")
    return figures.held


def _chosen(chosen: argparse.Namespace) -> tuple[Callable[..., bool], str]:
    if chosen.soak:
        return long_soak, f"{chosen.soak} small and {chosen.large} large files"
    if chosen.floods:
        return flood, f"{chosen.floods} rounds of connections that never finish a request"
    if chosen.replaced:
        return replace, f"{chosen.replaced} rounds of replaced objects"
    if chosen.swaps:
        return swap, f"{chosen.swaps} rounds of swapped folders"
    if chosen.machines:
        return find_all, f"{chosen.machines} machines, each killed {chosen.times} times"
    if chosen.catalog:
        return kill_cataloguing, f"{chosen.catalog} kills while the catalog is filled"
    if chosen.pods:
        return scale_out, f"{chosen.pods} pods with {chosen.names} names"
    if chosen.first_starts:
        return first_start_kills, f"{chosen.kills} kills with {chosen.first_starts} first starts"
    if chosen.steps:
        return step, f"{chosen.steps} times each step"
    return kill, f"{chosen.kills} kills"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--first-starts", type=int, default=0, help="so many of the kills' runs from nothing")
    parser.add_argument("--forks", action="store_true", help="processes are forks, which start in no time")
    parser.add_argument("--steps", type=int, default=0, help="instead of kills: so often each step")
    parser.add_argument(
        "--replace", action="store_true", help="the steps with S3_ENABLE_CONFLICT_RENAME=false"
    )
    parser.add_argument("--pods", type=int, default=0, help="so many archivers")
    parser.add_argument("--names", type=int, default=100, help="files of each pod")
    parser.add_argument("--swaps", type=int, default=0, help="so many rounds of swapped folders")
    parser.add_argument("--floods", type=int, default=0, help="so many rounds of half-open connections")
    parser.add_argument("--catalog", type=int, default=0, help="so many kills while the catalog is filled")
    parser.add_argument("--machines", type=int, default=0, help="so many machines with one catalog")
    parser.add_argument("--times", type=int, default=4, help="how often each of them is killed")
    parser.add_argument("--replaced", type=int, default=0, help="so many rounds of replaced objects")
    parser.add_argument("--soak", type=int, default=0, help="instead of kills: so many small files")
    parser.add_argument("--large", type=int, default=0, help="and so many of 16 to 64 MiB")
    parser.add_argument(
        "--only", default="", help="only those steps and faults that have this in their names"
    )
    parser.add_argument("--seed", type=int, default=None, help="drawn and printed where not given")
    parser.add_argument("--fault-share", type=float, default=0.15, help="of all requests")
    parser.add_argument("--pause", type=float, default=0.12, help="mean seconds between two actions")
    parser.add_argument("--keep", type=Path, default=None, help="directory for files, state and log")
    chosen = parser.parse_args()
    # So that what was started here ends with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    seed = random.SystemRandom().randrange(2**31) if chosen.seed is None else chosen.seed
    run_chosen, what = _chosen(chosen)
    told(f"seed {seed}, {what}")
    with (
        tempfile.TemporaryDirectory(prefix="cloud-archive-faults-") as temporary,
        running_seaweedfs(Path(temporary) / "store") as server,
    ):
        directory = chosen.keep or Path(temporary)
        held = run_chosen(chosen, seed, server.with_fresh_bucket(), directory)
    print("held" if held else "NOT HELD")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
