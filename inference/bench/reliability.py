"""What happens when everything goes wrong: kills, hangs, full disks and memory, malformed files, farms.

python -m inference bench reliability [--short] [--only NAME ...] [--out FILE]

`--short` takes about a minute and a half and is what a change is checked with. Ray is measured where
UNDERSTUDY_RAY_PYTHON names a Python that has it, memory where a control group can be made. Kills are real, and only of
processes that this one started.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import reliability_farm as farm
from . import reliability_faults as faults
from .table import Table, write


@dataclass(frozen=True)
class Measure:
    """One row: what it is called, how it is done shortly and fully, and what it must reach."""

    name: str
    short: Callable[[Path], str]
    full: Callable[[Path], str]
    target: str


def _not_short(_: Path) -> str:
    return "only in the full form; the tests do a little of it"


MEASURES = (
    Measure("chaos", lambda p: faults.chaos(p, seeds=1, jobs=60), lambda p: faults.chaos(p, seeds=3, jobs=300),
            "3 x 300 jobs, >= 400 faults and signals: 0 lost, wrong, orphans, temporary files"),
    Measure("blender kills", lambda p: faults.parent_kills(p, 16), lambda p: faults.parent_kills(p, 200),
            "200: 0 left after 3 s"),
    Measure("memory", lambda p: faults.memory(p, 2), lambda p: faults.memory(p, 10), "10: Blender killed 0 times"),
    Measure("cancels", lambda p: faults.cancels(p, 12), lambda p: faults.cancels(p, 100),
            "100: answered in 0.2 s, worker free in 3 s, nothing half-made"),
    Measure("full disks", lambda p: faults.full_disks(p, 5), lambda p: faults.full_disks(p, 50),
            "50: old results whole"),
    Measure("overhead", lambda p: farm.overhead(p, 200), lambda p: farm.overhead(p, 1000), "<= 5 ms an item"),
    Measure("throughput", lambda p: farm.throughput(p, 10, 1), lambda p: farm.throughput(p, 100, 10),
            "100 short clips: >= 4 times a process for each"),
    Measure("openjd", lambda p: farm.openjd(p, 8, 4), lambda p: farm.openjd(p, 40, 10),
            "40 frames in chunks of 10 <= 30 s; again: 40 skipped, <= 5 s; pixels as local"),
    Measure("farm kills", lambda p: farm.frame_kills(p, 8, 2), lambda p: farm.frame_kills(p, 40, 20),
            "40 of 40 frames with 20 Blenders killed, pixels the same"),
    Measure("ray", _not_short, lambda p: farm.ray(p, 200, 10), "200 items, 10 actors killed: 0 lost"),
    Measure("ray frames", _not_short, lambda p: farm.ray_frames(p, 40, 10),
            "40 frames, 10 Blenders and actors killed: the pixels of the local engine and of Open Job Description"),
    Measure("ray nodes", _not_short, lambda p: farm.ray_nodes(p, 60),
            "two nodes, one killed: 0 lost"),
    Measure("malformed", faults.malformed, faults.malformed, ">= 300 files: typed error, <= 2 s, <= 1 GiB, no canary"),
    Measure("fuzzing", _not_short, lambda p: faults.fuzz(p, 60), "60 s a parser: clean"),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table; the exit code says nothing of the figures."""
    parser = argparse.ArgumentParser(prog="python -m inference bench reliability", description=__doc__)
    parser.add_argument("--short", action="store_true", help="about a minute and a half")
    parser.add_argument("--only", action="append", choices=[each.name for each in MEASURES], help="may be repeated")
    parser.add_argument("--out", type=Path, help="also write FILE.json and FILE.md")
    options = parser.parse_args(arguments)
    table = Table("Reliability" + (", short form" if options.short else ""), ("what", "figure", "aim", "seconds"))
    for each in MEASURES:
        if options.only and each.name not in options.only:
            continue
        with tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder:
            start = time.monotonic()
            figure = (each.short if options.short else each.full)(Path(folder))
            table.add(each.name, figure, each.target, round(time.monotonic() - start, 1))
            sys.stderr.write(f"{each.name}: {figure}\n")
    write([table], options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
