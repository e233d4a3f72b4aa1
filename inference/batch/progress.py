"""How a run of a batch says how it goes: lines for people, `openjd_` lines for a farm, events for a job folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..protocol.errors import Cancelled
from ..protocol.events import Pace, make_event
from ..protocol.folder import JobReporter
from .ledger import EXIT_SOME_FAILED, EXIT_TRY_AGAIN, Ledger
from .manifest import Item

INTERVAL_S = 2.0
STAGE = "items"


class State:
    """What a job folder is told of a run; without a reporter, nothing is."""

    def __init__(self, reporter: JobReporter | None) -> None:
        self._reporter = reporter
        self._outcome = ""
        self._sentence = ""
        self._at = (0, 0)

    def beat(self) -> None:
        """Say that the work goes on."""
        self.progress(*self._at)

    def progress(self, done: int, total: int) -> bool:
        """Say how far it is; tell whether the folder asks to stop."""
        self._at = (done, total)
        try:
            if self._reporter:
                self._reporter.progress(STAGE, done, total)
        except Cancelled:
            return True
        return False

    def warning(self, text: str) -> None:
        """Say what failed."""
        if self._reporter:
            self._reporter.warning("item", text)

    def outcome(self, word: str, sentence: str) -> None:
        """Keep how the run ended."""
        self._outcome, self._sentence = word, sentence

    def last_word(self) -> None:
        """Write the last word."""
        if not self._reporter:
            return
        if self._outcome == "failed":
            hint = "See the .error.json beside each result; run again with failed items included."
            self._reporter.last_word("failed", code="items", message=self._sentence, hint=hint)
        else:
            self._reporter.last_word(self._outcome or "cancelled")


class Narrator:
    """Tells a person, a farm and a job folder.

    Args:
        style: "text", "openjd" or "none".
        say: writes to stdout; `note` to stderr.
    """

    def __init__(self, style: str, say: Callable[[str], None], note: Callable[[str], None], state: State) -> None:
        self._style = style
        self._say = say
        self._note = note
        self._state = state
        self._pace = Pace()
        self._next = 0.0
        self._ledger: Ledger | None = None
        self.is_cancelled = False

    def begin(self, ledger: Ledger) -> None:
        """Begin with a run."""
        self._ledger = ledger
        self._take_pace()

    def tell(self, item: Item, word: str, message: str) -> None:
        """Take in that an item is over."""
        if word == "failed":
            self._state.warning(f"{item.out}: {message}")
            if self._style != "none":
                self._note(f"Failed: item {item.number}, {item.out}: {message}")
        self._take_pace()

    def _take_pace(self) -> None:
        assert self._ledger
        over, count = self._ledger.tally.over, self._ledger.count
        self._pace.add(make_event("progress", stage=STAGE, done=over, total=count))
        self.is_cancelled = self._state.progress(over, count) or self.is_cancelled
        if self._style == "none" or (time.monotonic() < self._next and over < count):
            return
        self._next = time.monotonic() + INTERVAL_S
        text = f"{over} of {count}: {self._pace.text}"
        if self._style == "openjd":
            self._say(f"openjd_progress: {100 * over / count:.1f}")
            self._say(f"openjd_status: {text}")
        else:
            self._note(text)

    def end(self, ledger: Ledger) -> None:
        """Say how the run ended."""
        tally: Any = ledger.tally
        words = [f"{tally.done} done", f"{tally.skipped} skipped", f"{tally.failed} failed"]
        sentence = ", ".join(words) + (f", {tally.deaths} attempts lost" if tally.deaths else "")
        failed = tally.exit_code in (EXIT_SOME_FAILED, EXIT_TRY_AGAIN)
        self._state.outcome("cancelled" if tally.is_cancelled else "failed" if failed else "done", sentence)
        if self._style == "openjd" and failed:
            self._say(f"openjd_fail: {sentence}")
        if self._style == "none":
            return
        (self._say if self._style == "openjd" else self._note)(f"{sentence}.")
