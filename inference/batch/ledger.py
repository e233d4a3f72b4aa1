"""Which items of a batch are left, who has them in hand, and how they ended; the same for every engine."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..protocol.errors import EXIT_DONE, Cancelled, ResourceError, UnderstudyError
from ..protocol.files import FileLock
from .manifest import Item
from .record import Records, is_retryable

EXIT_SOME_FAILED = 3
EXIT_TRY_AGAIN = 75  # as EX_TEMPFAIL: an engine should give the same items again
RETRIES = 3


@dataclass
class Work:
    """An item in hand: nobody else has it, and it was not done when it was taken."""

    item: Item
    key: str
    lease: FileLock
    attempt: int = 1
    started: float = 0.0


@dataclass
class Tally:
    """How the items of a run ended."""

    done: int = 0
    skipped: int = 0  # were done before
    failed: int = 0
    retryable: int = 0  # of the failed
    attempts: int = 0
    deaths: int = 0
    is_cancelled: bool = False

    @property
    def exit_code(self) -> int:
        """0 all done, 3 some failed, 75 some failed and may not at another time, 130 cancelled."""
        if self.is_cancelled:
            return Cancelled.exit_code
        if self.retryable:
            return EXIT_TRY_AGAIN
        return EXIT_SOME_FAILED if self.failed else EXIT_DONE

    @property
    def over(self) -> int:
        """How many are over."""
        return self.done + self.skipped + self.failed


class Ledger:
    """Hands out what is left of a batch and writes down how it ended.

    Args:
        retry_failed: also items that failed before for a reason that does not pass by itself.
        retries: how often an item whose process died is tried again.
        tell: is told of each item that is over: the item, "done", "skipped" or "failed", and why.
    """

    def __init__(
        self,
        records: Records,
        items: Sequence[Item],
        *,
        retry_failed: bool = False,
        retries: int = RETRIES,
        tell: Callable[[Item, str, str], None] | None = None,
    ) -> None:
        self.records = records
        self.count = len(items)
        self.tally = Tally()
        self._left = deque((item, 1) for item in items)
        self._held: deque[Item] = deque()  # others have them in hand
        self._in_hand = 0
        self._retry_failed = retry_failed
        self._retries = retries
        self._tell = tell

    @property
    def is_finished(self) -> bool:
        """Whether every item is over."""
        return not self._left and not self._held and not self._in_hand

    @property
    def left(self) -> int:
        """How many items nobody has in hand, as far as is known here."""
        return len(self._left)

    def take(self) -> Work | None:
        """Take the next item that is not done; None where nothing is left, or others have what is left in hand.

        Raises:
            ResourceError: the output folder cannot be written.
        """
        while self._left:
            item, attempt = self._left.popleft()
            work = self._try_to_take(item, attempt)
            if work:
                self._in_hand += 1
                self.tally.attempts += 1
                return work
        self._left.extend((item, 1) for item in self._held)  # looked at again by the next call
        self._held.clear()
        return None

    def _try_to_take(self, item: Item, attempt: int) -> Work | None:
        try:
            key = self.records.key_of(item)
        except UnderstudyError as error:
            self._write_failure(item, "", error, retryable=False, attempt=attempt, log="")
            return None
        if self._is_over(item, key, attempt):
            return None
        lease = self.records.lease(item)
        if not lease.acquire():
            self._held.append(item)
            return None
        if self._is_over(item, key, attempt):  # by whoever had the lease before
            lease.release()
            return None
        if attempt == 1:
            self.records.begin(item, key)
        return Work(item, key, lease, attempt, time.monotonic())

    def _is_over(self, item: Item, key: str, attempt: int) -> bool:
        state = self.records.state(item, key)
        if state.word == "done":
            self._close(item, "skipped", "")
        elif state.word == "failed" and attempt == 1 and not (self._retry_failed or state.is_retryable):
            self._close(item, "failed", state.message)
        else:
            return False
        return True

    def survey(self) -> list[Item]:
        """Give what is left to an engine whose processes take items themselves; what is over is told."""
        left = []
        while self._left:
            item, attempt = self._left.popleft()
            try:
                if not self._is_over(item, self.records.key_of(item), attempt):
                    left.append(item)
            except UnderstudyError as error:
                self._write_failure(item, "", error, retryable=False, attempt=attempt, log="")
        return left

    def settle(self, left: list[Item], *, since: float, first_only: bool = False) -> None:
        """Take what other processes have ended out of `left`, and tell it.

        Args:
            since: when they began, in seconds since 1970; failures from before are not theirs.
            first_only: look no further than the first item that is still open.
        """
        for item in list(left):
            word, message, retryable = self._ended(item, since)
            if not word:
                if first_only:
                    return
                continue
            left.remove(item)
            self.tally.attempts += 1
            self.tally.retryable += retryable
            self._close(item, word, message)

    def _ended(self, item: Item, since: float) -> tuple[str, str, bool]:
        state = self.records.state(item, self.records.key_of(item))
        if state.word == "failed" and self.records.error_file(item).stat().st_mtime < since - 1:
            return "", "", False
        return ("" if state.word == "open" else state.word), state.message, state.is_retryable

    def died_elsewhere(self, item: Item, deaths: int, message: str, log: str) -> bool:
        """Take note that a process that took items itself died over one; tell whether that was once too often."""
        self.tally.deaths += 1
        if deaths <= self._retries:
            return False
        error = UnderstudyError(f"{message} This was attempt {deaths}.")
        error.code = "crashed"
        self._write_failure(item, self.records.key_of(item), error, retryable=True, attempt=deaths, log=log)
        return True

    def succeed(self, work: Work, **made_by: Any) -> None:
        """Publish what was made of an item."""
        seconds = time.monotonic() - work.started
        try:
            self.records.publish(work.item, work.key, seconds=seconds, attempt=work.attempt, made_by=made_by)
        except UnderstudyError as error:
            self.fail(work, error)
            return
        self._let_go(work)
        self._close(work.item, "done", "")

    def fail(self, work: Work, error: UnderstudyError, *, log: str = "") -> None:
        """Write down why an item failed; where memory or disk ran out, try again first."""
        if is_retryable(error) and self._again(work):
            return
        self._let_go(work)
        self._write_failure(
            work.item, work.key, error, retryable=is_retryable(error), attempt=work.attempt, log=log
        )  # fmt: skip

    def die(self, work: Work, message: str, hint: str = "", *, log: str = "") -> None:
        """Take note that the process behind an item is gone; the item is tried again, or failed for now."""
        self.tally.deaths += 1
        if not self._again(work):
            self._let_go(work)
            error = UnderstudyError(f"{message} This was attempt {work.attempt}.", hint)
            error.code = "crashed"
            self._write_failure(work.item, work.key, error, retryable=True, attempt=work.attempt, log=log)

    def drop(self, work: Work) -> None:
        """Give an item back unfinished; it stays open for another run."""
        self._let_go(work)
        self.tally.is_cancelled = True

    def _again(self, work: Work) -> bool:
        if work.attempt > self._retries:
            return False
        self._let_go(work)
        self._left.append((work.item, work.attempt + 1))
        return True

    def _let_go(self, work: Work) -> None:
        self._in_hand -= 1
        work.lease.release()

    def _write_failure(
        self, item: Item, key: str, error: UnderstudyError, *, retryable: bool, attempt: int, log: str
    ) -> None:
        with contextlib.suppress(ResourceError):  # a full disk takes no record either: the tally says so
            self.records.fail(item, key, error, retryable=retryable, attempt=attempt, log=log)
        self.tally.retryable += retryable
        self._close(item, "failed", f"{error.message} {error.hint}".strip())

    def _close(self, item: Item, word: str, message: str) -> None:
        setattr(self.tally, word, getattr(self.tally, word) + 1)
        if self._tell:
            self._tell(item, word, message)
