"""The worker dies with its parent, and dies first when memory runs out.

What ends an orphan, and when it works:
  end of stdin       everywhere, at once, while Python code can run;
  PDEATHSIG          Linux, at once, also while native code holds the interpreter lock. The kernel ties it to the
                     *thread* that started the worker, so a parent asks for it (`--parent`) from its main thread only;
  a watchdog timer   elsewhere. It is a C thread of `faulthandler` that a heartbeat puts off; it fires when no Python
                     code could run for SILENCE_S. It cannot see whether the parent lives, so its period is far beyond
                     any native call that keeps the lock (networks, decoders and solvers release it; the longest seen
                     keeps it for well under a second), and it is not armed where PDEATHSIG does the work.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

SILENCE_S = 600.0
HEARTBEATS = 20  # for each period of silence
OOM_SCORE = 500  # Blender's is 0: the kernel takes the worker first (measured 10 of 10)
MAX_LINE = 1 << 16
_PR_SET_PDEATHSIG = 1


def protect(parent: int | None, silence_s: float = SILENCE_S) -> None:
    """Tie this process to its parent; call first thing, from the main thread.

    Args:
        parent: the process that started this one, where it did so from its main thread.
        silence_s: period of the watchdog.
    """
    offer_to_die_first()
    faulthandler.enable()
    if sys.platform == "linux" and parent is not None:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            end_all()
    else:
        threading.Thread(target=_put_off_watchdog, args=(silence_s,), daemon=True, name="heartbeat").start()


def offer_to_die_first() -> None:
    """Let the kernel prefer this process when memory runs out."""
    score = Path("/proc/self/oom_score_adj")
    try:
        if int(score.read_text()) < OOM_SCORE:
            score.write_text(str(OOM_SCORE))
    except (OSError, ValueError):  # no Linux, or not allowed: nothing else depends on it
        return


def _put_off_watchdog(silence_s: float) -> None:
    while True:
        faulthandler.dump_traceback_later(silence_s, exit=True)
        time.sleep(silence_s / HEARTBEATS)


def follow(stream: BinaryIO, take: Callable[[bytes], None]) -> None:
    """Hand the lines of `stream` to `take` in a thread of its own, and end this process with the stream."""

    def read() -> None:
        while line := stream.readline(MAX_LINE):
            take(line)
        end_all()

    threading.Thread(target=read, daemon=True, name="orders").start()


def end_all() -> None:
    """End this process and its children at once; files appear whole, so nothing is lost by it."""
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def end_with_parent(parent: int = 0, interval_s: float = 0.5) -> None:
    """End this process once the one that started it is gone, whichever thread of it did so; not on Windows.

    Args:
        parent: its process id, as it knew it itself: it may be gone before we look. 0 for whoever it is now.
    """
    parent = parent or os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval_s)
        end_all()

    if sys.platform != "win32":
        threading.Thread(target=watch, daemon=True, name="parent").start()
