"""The long run: `python -m tests.faults --kills 1000 --seed N`. Prints figures; exit status 1 where one is wrong."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.faults.run import Plan, run
from tests.servers import running_seaweedfs


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None, help="drawn and printed where not given")
    parser.add_argument("--fault-share", type=float, default=0.15, help="of all requests")
    parser.add_argument("--pause", type=float, default=0.12, help="mean seconds between two actions")
    parser.add_argument("--keep", type=Path, default=None, help="directory for files, state and log")
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(2**31) if chosen.seed is None else chosen.seed
    print(f"seed {seed}, {chosen.kills} kills", flush=True)
    plan = Plan(chosen.kills, seed, fault_share=chosen.fault_share, pause_seconds=chosen.pause)
    with tempfile.TemporaryDirectory(prefix="cloud-archive-faults-") as temporary:
        directory = chosen.keep or Path(temporary)
        with running_seaweedfs(Path(temporary) / "store") as server:
            figures = run(
                plan,
                server.with_fresh_bucket(),
                directory / "run",
                progress=lambda line: print(line, flush=True),
            )
    for line in figures.lines():
        print(line)
    print("held" if figures.held else "NOT HELD")
    return 0 if figures.held else 1


if __name__ == "__main__":
    sys.exit(main())
