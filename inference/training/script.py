"""How training scripts begin, say how far they are, and stop: arguments, a log, and a job folder.

The job folder is `--out`, or OUT.job beside a file, so the list of jobs in Blender shows a training as anything that
runs: how far it is, the time left, its log, and a button that stops it at the next step, with a checkpoint.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from ..protocol.errors import Cancelled, RequestError, UnderstudyError
from ..protocol.events import Reporter, SilentReporter
from ..protocol.folder import JobFolder, new_run_id
from ..protocol.requests import Order
from ..protocol.schema import About
from ..runtime.worker import follow_job

LOG = logging.getLogger("understudy.training")
_T = TypeVar("_T")


@dataclass(frozen=True)
class TrainingRequest:
    """A script of this folder is run."""

    script: Annotated[str, About("Its module.")]
    arguments: Annotated[tuple[str, ...], About("What it was called with.")] = ()


class Run:
    """One run of a script, which says how far it is and hears when it is to stop.

    Args:
        out: where checkpoints and results go.
    """

    def __init__(self, out: Path, reporter: Reporter | None = None) -> None:
        self.out = out
        self.is_cancelled = False
        self._reporter = reporter or SilentReporter()

    def goes_on(self, step: int, steps: int, stage: str = "train") -> bool:
        """Say how far it is; tell whether a step follows. Where it was asked to stop, none does."""
        try:
            self._reporter.progress(stage, step, steps)
        except Cancelled:
            self.is_cancelled = True
        return step < steps and not self.is_cancelled

    def each(self, stage: str, items: Sequence[_T]) -> Iterator[_T]:
        """Give one after another and say how many are done.

        Raises:
            Cancelled: it was asked to stop; what is done stays done.
        """
        for index, item in enumerate(items):
            self._reporter.progress(stage, index, len(items))
            yield item
        self._reporter.progress(stage, len(items), len(items))


def make_parser(text: str | None) -> argparse.ArgumentParser:
    """Begin the arguments of a script; `text` is its docstring."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="what comes out; also where the job folder is")
    return parser


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Take a recipe, and values in place of its own."""
    parser.add_argument("recipe", type=Path)
    add_changes(parser)


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Let values be given in place of a recipe's: see `read_recipe`."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="net.pose=16, in place of ...")


def read_recipe(path: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Read a recipe; `changes` are lines of TOML whose values take the place of its own."""
    recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    for change in changes:
        for name, value in tomllib.loads(change).items():
            recipe[name] = {**recipe[name], **value} if isinstance(value, dict) else value
    return recipe


def work_as_job(
    parser: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace, Run], Any],
    where: Callable[[argparse.Namespace], Path] = lambda options: options.out,
) -> NoReturn:
    """Read the arguments, work as a job, and leave with an exit code as the command line has them.

    Args:
        where: gives what comes out, a folder or a file.
    """
    options = parser.parse_args()
    out = where(options)
    folder = JobFolder(out.with_suffix(".job") if out.suffix else out)
    request = TrainingRequest(Path(sys.argv[0]).stem, tuple(sys.argv[1:]))
    order = Order("training", request, new_run_id(), "command line")

    def run(reporter: Reporter) -> None:
        handlers = [logging.FileHandler(folder.path / "train.log"), logging.StreamHandler()]
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
        one = Run(out, reporter)
        try:
            work(options, one)
        except UnderstudyError as error:
            LOG.error("%s %s", error.message, error.hint)
            raise
        if one.is_cancelled:
            raise Cancelled()

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        folder.prepare(order, overwrite=True)
        code = follow_job(folder, order, run)
    except RequestError as error:
        parser.error(f"{error.message} {error.hint}")
    except KeyboardInterrupt:  # the job has said so
        code = Cancelled.exit_code
    sys.exit(code)
