"""The local engine: one supervisor, and resident workers that keep what they imported, one for each device.

Only the supervisor holds items; a worker that dies, hangs or runs out of memory takes nothing with it but its attempt.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..protocol.client import Job, WorkerClient
from ..protocol.errors import RequestError, ResourceError, UnderstudyError
from ..protocol.watch import JobWatch
from .ledger import Ledger, Work

SILENCE_S = 600.0
START_WAIT_S = 5.0  # a killed worker's lock is dropped a moment after it is gone
_QUICKEST_S, _SLOWEST_S = 0.0003, 0.05


@dataclass(frozen=True)
class Seat:
    """Where one worker works: its variables, and the processors it may use (none named: all)."""

    name: str
    variables: dict[str, str]
    processors: frozenset[int] = frozenset()


def seats(devices: str, workers: int) -> list[Seat]:
    """Share this computer out.

    Args:
        devices: "auto" (each NVIDIA card that is seen, else the processor), "cpu", or numbers of cards as in "0,1".
        workers: how many; 0 for one on each device.
    Raises:
        RequestError: `devices` is none of these.
    """
    cards = _cards() if devices == "auto" else [] if devices == "cpu" else devices.split(",")
    if not all(card.isdecimal() for card in cards):
        raise RequestError(f"{devices[:60]!r} is not auto, cpu or numbers of cards", "As in 0,1.", field="devices")
    count = workers or len(cards) or 1
    hidden = {} if cards or devices == "auto" else {"CUDA_VISIBLE_DEVICES": ""}
    shares = _shares(count)
    return [
        Seat(f"cuda:{cards[n % len(cards)]}", {"CUDA_VISIBLE_DEVICES": cards[n % len(cards)]}, shares[n])
        if cards
        else Seat("cpu", hidden, shares[n])
        for n in range(count)
    ]


def _cards() -> list[str]:
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:
        return [card for card in shown.split(",") if card.isdecimal()]
    with contextlib.suppress(OSError):
        return [str(number) for number, _ in enumerate(os.listdir("/proc/driver/nvidia/gpus"))]  # noqa: PTH208
    return []


def _shares(count: int) -> list[frozenset[int]]:
    """Split the processors that this process may use; nothing is pinned where that is not possible or not needed."""
    if count == 1 or not hasattr(os, "sched_getaffinity"):
        return [frozenset()] * count
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < count:
        return [frozenset({allowed[n % len(allowed)]}) for n in range(count)]
    return [frozenset(allowed[n * len(allowed) // count : (n + 1) * len(allowed) // count]) for n in range(count)]


class _Desk:
    """One worker, the item it has in hand, and the next one, made ready meanwhile."""

    def __init__(self, ledger: Ledger, seat: Seat, silence_s: float) -> None:
        self.client = WorkerClient(sys.executable, app="batch", variables=seat.variables)
        self.work: Work | None = None
        self._ledger = ledger
        self._seat = seat
        self._silence_s = silence_s
        self._job: Job | None = None
        self._heard = 0.0
        self._is_silent = self._is_stopping = False
        self._pinned = 0
        self._next: tuple[Work, JobWatch | None] | None = None
        self._endings: list[Callable[[], None]] = []

    def begin(self, work: Work) -> None:
        """Hand an item to the worker, which starts where it is not warm."""
        self._begin(work)
        self._submit()

    def begin_next(self) -> bool:
        """Hand over the item that was made ready; tell whether there was one."""
        if self._next is None:
            return False
        (work, watch), self._next = self._next, None
        work.started = time.monotonic()
        self._begin(work)
        self._submit(watch)
        return True

    def _begin(self, work: Work) -> None:
        self.work, self._job, self._heard, self._is_silent = work, None, time.monotonic(), False

    def look_ahead(self) -> None:
        """Make the next item ready while the worker is busy, where as many are left that no other worker waits."""
        if self._next is None and self._job is not None and (work := self._ledger.take()):
            self._next = (work, None)
            with contextlib.suppress(UnderstudyError):  # tried again, and told, when its turn comes
                self._next = (work, self._prepare(work))

    def _prepare(self, work: Work) -> JobWatch:
        item, records = work.item, self._ledger.records
        request = records.manifest.request(item)
        return self.client.prepare(records.work_path(item), item.task, request, overwrite=True)

    def _submit(self, watch: JobWatch | None = None) -> None:
        assert self.work
        try:
            self._job = self.client.hand_over(watch or self._prepare(self.work))
        except ResourceError as error:
            self._finish(self._ledger.fail, error)
        except RequestError as error:  # at first it may be the lock of a killed worker: tried at the next look again
            if time.monotonic() - self._heard > START_WAIT_S:
                self._finish(self._ledger.fail, error)
        else:
            self._pin()

    def _pin(self) -> None:
        pid = self.client.pid
        if pid and pid != self._pinned and self._seat.processors:
            self._pinned = pid
            with contextlib.suppress(OSError):
                os.sched_setaffinity(pid, self._seat.processors)

    @property
    def age_s(self) -> float:
        """How long the present item has been in hand."""
        return time.monotonic() - self.work.started if self.work else 0.0

    def poll(self) -> None:
        """Look how the item goes, without waiting."""
        if self.work is None:
            return
        if self._job is None:
            self._submit()
            return
        if self._job.poll():
            self._heard = time.monotonic()
        if self._job.last is None:
            if time.monotonic() - self._heard > self._silence_s:
                self._is_silent, self._heard = True, time.monotonic()
                self.client.kill()
        elif not self._job.folder.is_running():  # the worker has let go of the folder, too
            self._conclude(self._job)

    def _conclude(self, job: Job) -> None:
        last, log = job.last, job.folder.log_tail(4000)
        assert last
        if last.kind == "done":
            self._finish(self._ledger.succeed, device=self._seat.name, threads=len(self._seat.processors))
        elif last.kind == "failed":
            error = known_error(last["code"], last["message"], last["hint"])
            if isinstance(error, ResourceError):
                self.client.kill()  # what it holds may be why memory ran out
            self._finish(self._ledger.fail, error, log=log)
        elif last.kind == "cancelled" and self._is_stopping:
            self._finish(self._ledger.drop)
        elif last.kind == "cancelled":
            self._finish(self._ledger.die, "It was ended from outside.", log=log)
        else:
            said = f"It said nothing for {self._silence_s:g} s." if self._is_silent else last["message"]
            self._finish(self._ledger.die, said, log=log)

    def _finish(self, end: Callable[..., None], *details: Any, **named: Any) -> None:
        work, self.work, self._job = self.work, None, None
        assert work
        self._endings.append(functools.partial(end, work, *details, **named))

    def settle(self) -> None:
        """Publish what is over, or write down why it failed; the worker may have the next item in hand meanwhile."""
        while self._endings:
            self._endings.pop(0)()

    def put_back(self) -> None:
        """Give the item that was made ready back."""
        if self._next:
            self._endings.append(functools.partial(self._ledger.drop, self._next[0]))
            self._next = None

    def stop(self) -> None:
        """Ask the item in hand to stop, once."""
        self._is_stopping = True
        self.put_back()
        if self.work and self._job is None:
            self._finish(self._ledger.drop)
        elif self._job:
            with contextlib.suppress(UnderstudyError):
                self._job.cancel()


def known_error(code: str, message: str, hint: str) -> UnderstudyError:
    """Make the error again that a worker told."""
    error = ResourceError(message, hint) if code == ResourceError.code else UnderstudyError(message, hint)
    error.code = code
    return error


def run_local(
    ledger: Ledger,
    places: Sequence[Seat],
    *,
    silence_s: float = SILENCE_S,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Do what is left of a batch; call from the main thread.

    Args:
        silence_s: a worker that says nothing for so long is replaced.
        should_stop: is asked often; once it says yes, items in hand are cancelled and no more are taken.
    Raises:
        ResourceError: the output folder cannot be written.
    """
    desks = [_Desk(ledger, seat, silence_s) for seat in places]
    try:
        while not ledger.is_finished:
            stopping = should_stop()
            for desk in desks:
                desk.poll()
                if stopping:
                    desk.stop()
                elif desk.work is None and not desk.begin_next() and (work := ledger.take()):
                    desk.begin(work)
                desk.settle()
                if not stopping and ledger.left > len(desks):
                    desk.look_ahead()
            busy = [desk for desk in desks if desk.work]
            if stopping and not busy:
                ledger.tally.is_cancelled = True
                return
            youngest = min((desk.age_s for desk in busy), default=_SLOWEST_S)
            time.sleep(min(max(youngest / 20, _QUICKEST_S), _SLOWEST_S))
    finally:
        for desk in desks:
            desk.put_back()
            desk.settle()
            desk.client.close()
        for desk in desks:
            if desk.work:
                ledger.drop(desk.work)
