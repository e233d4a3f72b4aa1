"""Ray as an engine: actors that keep what they imported, on machines that see the same files under the same paths.

An optional extra (`pip install "ray>=2.60"` into the environment). It is attached to and never started: Ray listens on
all interfaces and runs what it is sent, so starting it is up to whoever runs the network. Its token is required.
This process holds the items, as the local engine does; an actor or node that dies takes an attempt with it, no more.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..protocol.client import ROOT, clean_environment
from ..protocol.errors import RequestError, ResourceError, UnderstudyError
from ..protocol.folder import JobFolder, new_run_id
from ..protocol.requests import Order
from ..protocol.watch import JobWatch
from .blenders import run_blenders
from .ledger import Ledger, Work
from .local import START_WAIT_S, known_error

OLDEST = (2, 60)
POLL_S = 0.05
GONE = -9  # the exit code of what was killed
HINT = 'Install it into the environment: pip install "ray>=2.60".'


class Worker:
    """What an actor does; it runs in Ray's process."""

    def run(self, folder: str, run_id: str) -> int:
        """Run the job of a folder to its last word."""
        from ..runtime.worker import run_job

        return run_job(JobFolder(folder), run_id=run_id)


class Host:
    """An actor that runs one Blender; Blender dies with it."""

    def run(self, command: list[str], log: str) -> int:
        """Run it to its end and give its exit code."""
        with Path(log).open("wb") as stream:
            done = subprocess.run(
                [*command, "--parent", str(os.getpid())], env=clean_environment(), stdin=subprocess.DEVNULL,
                stdout=stream, stderr=stream, start_new_session=True, check=False,
            )  # fmt: skip
        return done.returncode


@dataclass
class _Task:
    work: Work
    watch: JobWatch
    actor: Any
    answer: Any
    heard: float
    is_silent: bool = False


def attach() -> Any:
    """Give the module `ray`, attached to a cluster that somebody else started.

    Raises:
        RequestError: Ray is missing or old, no cluster is named, or it would be spoken to without its token.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise RequestError("Ray is not installed", HINT, field="engine") from error
    found = tuple(int(part) for part in re.findall(r"\d+", ray.__version__)[:2])
    if found < OLDEST:
        raise RequestError(f"Ray {ray.__version__} is older than 2.60, which asks for a token", HINT, field="engine")
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        hint = "Set RAY_AUTH_MODE=token here and where Ray is started (`ray get-auth-token --generate`)."
        text = "Ray is not told to ask for its token, without which anybody on the network runs programs as you"
        raise RequestError(text, hint, field="engine")
    address = os.environ.get("RAY_ADDRESS", "")
    if not address or address == "local":
        hint = "Start Ray on a trusted network (`ray start --head`) and set RAY_ADDRESS to it."
        raise RequestError("no cluster is named", hint, field="engine")
    try:
        variables = {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}  # as `python -m inference` sets it
        ray.init(address=address, runtime_env={"env_vars": variables}, log_to_driver=False)
    except Exception as error:
        text = f"{type(error).__name__}: {str(error)[:300]}"
        raise RequestError(f"{address} cannot be attached to: {text}", field="engine") from error
    return ray


def run_ray(ledger: Ledger, *, workers: int, silence_s: float, should_stop: Callable[[], bool]) -> None:
    """Do what is left of a batch on a Ray cluster.

    Args:
        workers: how many actors; 0 for one on each card of the cluster, or else on each two processors.
    Raises:
        RequestError: as `attach` does.
        ResourceError: the output folder cannot be written.
    """
    ray = attach()
    pool = _Pool(ray, ledger, workers, silence_s)
    try:
        while not ledger.is_finished and not should_stop():
            pool.fill()
            pool.look()
        ledger.tally.is_cancelled = not ledger.is_finished
    finally:
        pool.close()
        ray.shutdown()


def run_ray_blenders(
    ledger: Ledger, chosen: str, *, workers: int, silence_s: float, should_stop: Callable[[], bool]
) -> None:
    """Do what is left of a batch of Blender's on a Ray cluster, whose machines have Blender under the same path.

    Args:
        chosen: which Blender, as `find_blender` takes it.
        workers: as for `run_ray`.
    Raises:
        RequestError: as `attach` and `run_blenders` do.
        ResourceError: the output folder cannot be written.
    """
    ray = attach()
    count, needs = _shares(ray, workers)
    host = ray.remote(**needs)(Host)

    def launch(command: list[str], log: Path) -> _Remote:
        return _Remote(ray, host.remote(), command, log)

    try:
        run_blenders(ledger, chosen, count, silence_s=silence_s, should_stop=should_stop, launch=launch)
    finally:
        ray.shutdown()


class _Remote:
    """A Blender that an actor of its own runs."""

    def __init__(self, ray: Any, actor: Any, command: list[str], log: Path) -> None:
        self._ray, self._actor, self._code = ray, actor, None
        self._answer = actor.run.remote(command, str(log))

    def poll(self) -> int | None:
        """Give the exit code once it has ended; that of a killed one where the actor or its machine is gone."""
        if self._code is None and self._ray.wait([self._answer], timeout=0)[0]:
            try:
                self._code = self._ray.get(self._answer)
            except Exception:  # noqa: BLE001 - an actor that died, in Ray's many words
                self._code = GONE
        return self._code

    def kill(self) -> None:
        """End the actor, and Blender with it."""
        with contextlib.suppress(Exception):
            self._ray.kill(self._actor)
        self._code = GONE if self.poll() is None else self._code


def _shares(ray: Any, workers: int) -> tuple[int, dict[str, Any]]:
    """How many actors, and what each is given of the cluster; `workers` 0 for one a card, or one on two processors."""
    owned = ray.cluster_resources()
    cards = int(owned.get("GPU", 0))
    count = workers or cards or max(1, math.floor(owned.get("CPU", 1) / 2))
    needs = {"num_gpus": min(1.0, cards / count), "num_cpus": 1 if not workers else 0.01}
    return count, {**needs, "max_restarts": 0, "scheduling_strategy": "SPREAD"}


class _Pool:
    """Actors and what they have in hand."""

    def __init__(self, ray: Any, ledger: Ledger, workers: int, silence_s: float) -> None:
        self._ray = ray
        self._ledger = ledger
        self._silence_s = silence_s
        self._count, needs = _shares(ray, workers)
        self._remote = ray.remote(**needs)(Worker)
        self._idle: list[Any] = []
        self._tasks: list[_Task] = []

    def fill(self) -> None:
        """Hand items to actors that have none."""
        while len(self._tasks) < self._count and (work := self._ledger.take()):
            try:
                self._tasks.append(self._submit(work))
            except UnderstudyError as error:
                self._ledger.fail(work, error)

    def _submit(self, work: Work) -> _Task:
        records = self._ledger.records
        folder = JobFolder(records.work_path(work.item))
        order = Order(work.item.task, records.manifest.request(work.item), new_run_id(), "batch, ray")
        _prepare(folder, order)
        actor = self._idle.pop() if self._idle else self._remote.remote()
        answer = actor.run.remote(str(folder.path), order.run_id)
        return _Task(work, JobWatch(folder, order.run_id), actor, answer, time.monotonic())

    def look(self) -> None:
        """Take in what was said and what is over."""
        over, _ = self._ray.wait([task.answer for task in self._tasks], num_returns=1, timeout=POLL_S)
        for task in list(self._tasks):
            if task.watch.poll():
                task.heard = time.monotonic()
            if task.answer in over:
                self._tasks.remove(task)
                self._conclude(task)
            elif time.monotonic() - task.heard > self._silence_s and not task.is_silent:
                task.is_silent = True
                self._ray.kill(task.actor)

    def _conclude(self, task: _Task) -> None:
        try:
            self._ray.get(task.answer)
        except Exception as error:  # noqa: BLE001 - an actor that died, in Ray's many words
            why = (
                f"It said nothing for {self._silence_s:g} s." if task.is_silent else str(error).partition("\n")[0][:300]
            )
            self._ledger.die(task.work, f"The actor is gone: {why}")
            return
        self._idle.append(task.actor)
        task.watch.poll()
        last = task.watch.last
        if last and last.kind == "done":
            self._ledger.succeed(task.work, device="ray", threads=0)
        elif last and last.kind == "failed":
            self._ledger.fail(task.work, known_error(last["code"], last["message"], last["hint"]))
        elif last and last.kind == "cancelled":
            self._ledger.die(task.work, "It was ended from outside.")
        else:
            self._ledger.die(task.work, "The actor left no last word: do all machines see the same files?")

    def close(self) -> None:
        """End every actor; what they had in hand stays open."""
        for task in self._tasks:
            self._ledger.drop(task.work)
        for actor in (*self._idle, *(task.actor for task in self._tasks)):
            with contextlib.suppress(Exception):
                self._ray.kill(actor)


def _prepare(folder: JobFolder, order: Order) -> None:
    """Make a folder ready; the lock of an actor that was killed is dropped a moment after."""
    deadline = time.monotonic() + START_WAIT_S
    while True:
        try:
            folder.prepare(order, overwrite=True)
            return
        except RequestError as error:
            if time.monotonic() > deadline:
                raise ResourceError(error.message, error.hint) from error
            time.sleep(POLL_S)
