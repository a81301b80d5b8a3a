"""Long fault runs. Each prints its figures, and exits with 1 if a promise did not hold.

python -m tests.faults --kills 1000 --seed N    SIGKILL at random moments, see run.py
python -m tests.faults --kills 300 --first-starts 30    30 runs from a first start share the kills
python -m tests.faults --steps 100 --seed N     each step 100 times, each fault once and lasting, see steps.py
python -m tests.faults --pods 10 --names 100    10 processes, one bucket, the same names, see pods.py
python -m tests.faults --swaps 1000             folders swapped for symbolic links, see swaps.py
python -m tests.faults --floods 1000            connections that never finish a request, see floods.py
python -m tests.faults --replaced 1000          objects replaced behind our back, see replaced.py
python -m tests.faults --catalog 100            SIGKILL while the catalog is filled, see catalog_kills.py
python -m tests.faults --machines 10 --times 4  a new machine must find everything, see catalog_machines.py
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
from tests.faults.soak import LEAST_SMALL, soak
from tests.faults.step_cases import rounds
from tests.faults.steps import play
from tests.faults.swaps import swaps
from tests.faults.truth import Findings
from tests.servers import S3Server, running_rclone, running_seaweedfs


def kill(options: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    plan = Plan(options.kills, seed, fault_share=options.fault_share, pause_seconds=options.pause)
    figures = run(plan, server, directory / "run", progress=print_line)
    print(*figures.lines(), sep="\n")
    return figures.held


def first_start_kills(options: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    count, held, kills, seconds = options.first_starts, True, 0, 0.0
    found, actions, requests, faults, replaced, called_safe = Findings(), 0, 0, 0, 0, 0
    for number in range(count):
        plan = Plan(
            options.kills // count,
            seed + number,
            fault_share=options.fault_share,
            largest_bytes=2_000_000,
            pause_seconds=options.pause,
            quiet_seconds=1.0,
            breather_seconds=2.0,
            aimed_share=0.5,
            longest_seconds=1.5,
            first_start=True,
            replace_every=4,
        )
        figures = run(plan, server.with_fresh_bucket(), directory / f"first{number}", forks=options.forks)
        if not figures.held:
            print(*figures.lines(), sep="\n")
        held, kills = held and figures.held, kills + figures.kills
        found = found.plus(figures.findings)
        seconds += figures.seconds + figures.drain_seconds
        actions, requests = actions + sum(figures.actions.values()), requests + figures.requests
        faults, replaced = faults + sum(figures.faults.values()), replaced + figures.replaced
        called_safe += figures.called_safe
        print_line(f"{number + 1} first starts, {kills} kills in {seconds:.0f} s: {found}")
    print(f"{count} first starts, {kills} kills, {actions} actions, {requests} requests, {faults} faults,")
    print(f"watched directory replaced {replaced} times, called safe meanwhile {called_safe}: {found}")
    return held


def step(options: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    cases = rounds(random.Random(seed), options.steps, rename=not options.replace)
    if options.only:
        cases = [case for case in cases if options.only in str(case)]
    table = play(cases, server, directory / "steps", seed, progress=print_line)
    print(*table.lines(), sep="\n")
    return table.held


def scale_out(options: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Return whether all promises held. A store without create-only writes must at least keep existing objects."""
    found = pods(options.pods, options.names, seed, server, directory / "pods")
    print(*found.lines(), sep="\n")
    with running_rclone(directory / "rclone") as lenient:
        again = pods(options.pods, options.names, seed, lenient.with_fresh_bucket(), directory / "lenient")
    print("without create-only writes:", *again.lines(), sep="\n")
    return found.held and again.kept


def long_soak(options: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    found = soak(options.soak, options.large, seed, server, directory / "soak", print_line)
    print(*found.lines(), sep="\n")
    return found.held


def swap(options: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Return whether nothing outside the watched directory was touched."""
    found = swaps(options.swaps, seed, server, directory / "swaps", print_line)
    print(*found.lines(), sep="\n")
    return found.held


def flood(options: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    found = floods(options.floods, seed, server, directory / "floods", print_line)
    print(*found.lines(), sep="\n")
    return found.held


def replace(options: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Return whether no good copy was lost."""
    found = replaced(options.replaced, seed, server, directory / "replaced", print_line)
    print(*found.lines(), sep="\n")
    return found.held


def kill_cataloguing(options: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    figures = catalog_kills(options.catalog, seed, directory / "catalog", print_line)
    print(*figures.lines(), sep="\n")
    return figures.held


def print_line(line: str) -> None:
    print(line, flush=True)


def find_all(options: argparse.Namespace, seed: int, server: S3Server, directory: Path) -> bool:
    """Returns whether all held."""
    place = directory / "machines"
    figures = catalog_machines(
        options.machines, options.times, 20, seed, server, place, round_seconds=60 / max(1, options.times)
    )
    print(*figures.lines(), sep="\n")
    return figures.held


def _select_run(options: argparse.Namespace) -> tuple[Callable[..., bool], str]:
    if options.soak:
        return long_soak, f"{options.soak} small and {options.large} large files"
    if options.floods:
        return flood, f"{options.floods} rounds of connections that never finish a request"
    if options.replaced:
        return replace, f"{options.replaced} rounds of replaced objects"
    if options.swaps:
        return swap, f"{options.swaps} rounds of swapped folders"
    if options.machines:
        return find_all, f"{options.machines} machines, each killed {options.times + 1} times"
    if options.catalog:
        return kill_cataloguing, f"{options.catalog} kills while the catalog is filled"
    if options.pods:
        return scale_out, f"{options.pods} pods with {options.names} names"
    if options.first_starts:
        return first_start_kills, f"{options.kills} kills with {options.first_starts} first starts"
    if options.steps:
        return step, f"{options.steps} times each step"
    return kill, f"{options.kills} kills"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument(
        "--first-starts", type=int, default=0, help="number of runs from a first start that share the kills"
    )
    parser.add_argument("--forks", action="store_true", help="fork processes instead of starting Python")
    parser.add_argument(
        "--steps", type=int, default=0, help="instead of kills: how often each step is played"
    )
    parser.add_argument(
        "--replace", action="store_true", help="the steps with S3_ENABLE_CONFLICT_RENAME=false"
    )
    parser.add_argument("--pods", type=int, default=0, help="number of archivers")
    parser.add_argument("--names", type=int, default=100, help="files of each archiver")
    parser.add_argument("--swaps", type=int, default=0, help="rounds of swapped folders")
    parser.add_argument("--floods", type=int, default=0, help="rounds of half-open connections")
    parser.add_argument("--catalog", type=int, default=0, help="kills while the catalog is filled")
    parser.add_argument("--machines", type=int, default=0, help="machines that share one catalog")
    parser.add_argument("--times", type=int, default=4, help="kills of each machine before the last one")
    parser.add_argument("--replaced", type=int, default=0, help="rounds of replaced objects")
    parser.add_argument("--soak", type=int, default=0, help="instead of kills: number of small files")
    parser.add_argument("--large", type=int, default=0, help="number of files of 16 to 64 MiB beside them")
    parser.add_argument("--only", default="", help="only cases with this text in their names")
    parser.add_argument("--seed", type=int, default=None, help="default: drawn at random and printed")
    parser.add_argument(
        "--fault-share", type=float, default=0.15, help="share of all requests that meet a fault"
    )
    parser.add_argument("--pause", type=float, default=0.12, help="mean seconds between two actions")
    parser.add_argument("--keep", type=Path, default=None, help="directory for files, state and log")
    options = parser.parse_args()
    if 0 < options.soak < LEAST_SMALL:
        parser.error(f"--soak needs at least {LEAST_SMALL:,} files: a shorter run shows no growth")
    # Exit through `finally` blocks, so that child processes end too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    run_chosen, what = _select_run(options)
    print_line(f"seed {seed}, {what}")
    with (
        tempfile.TemporaryDirectory(prefix="cloud-archive-faults-") as temporary,
        running_seaweedfs(Path(temporary) / "store") as server,
    ):
        directory = options.keep or Path(temporary)
        held = run_chosen(options, seed, server.with_fresh_bucket(), directory)
    print("held" if held else "NOT HELD")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
