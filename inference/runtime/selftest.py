"""A task that proves a worker: it steps, prints, writes, keeps the interpreter busy, and fails in a chosen way."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import time
from pathlib import Path

from ..protocol.events import Reporter
from ..protocol.files import atomic_write_bytes
from ..protocol.requests import SelftestRequest

ARTIFACT = "artifacts/selftest.bin"
_PIECE = 1 << 16  # KiB that are made at once; more than 256 MiB cannot be


def run(request: SelftestRequest, folder: os.PathLike[str], report: Reporter) -> None:
    """Do what is asked, then fail if that is asked."""
    _print(request.print_kib)
    for step in range(request.steps):
        report.progress("selftest", step, request.steps)
        time.sleep(request.step_s)
    hold_interpreter(request.hold_gil_s)
    if request.artifact_kib:
        atomic_write_bytes(Path(folder, ARTIFACT), contents(request.artifact_kib))
        report.artifact("selftest", ARTIFACT)
    if _is_due(request.once):
        _fail(request.fault)


def contents(kib: int) -> bytes:
    """Give the bytes of an artifact, the same each time, that a half-written one cannot equal."""
    dice = random.Random(kib)  # noqa: S311 - no secret
    return b"".join(dice.randbytes(min(_PIECE, kib - done) * 1024) for done in range(0, kib, _PIECE))


def _print(kib: int) -> None:
    """Print to both streams as careless libraries do: through Python, through C, and to the bare descriptors."""
    line = '{"event": "done", "time": 0} '.ljust(63, "x") + "\n"
    for _ in range(kib * 16):
        sys.stdout.write(line)
        sys.stderr.write(line)
        os.write(1, line.encode())
        os.write(2, line.encode())
        if sys.platform != "win32":
            ctypes.CDLL(None).printf(b"%s", line.encode())


def hold_interpreter(seconds: float) -> None:
    """Sleep in native code that keeps the interpreter lock and heeds no signal, as a long computation would."""
    if seconds <= 0:
        return
    if sys.platform == "win32":
        ctypes.PyDLL("kernel32").Sleep(int(seconds * 1000))
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.PyDLL(None).poll(None, 0, int(seconds * 1000))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_due(mark: str) -> bool:
    """Whether the fault is to happen: always without a mark, else the first time."""
    if not mark:
        return True
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _fail(fault: str) -> None:
    if fault == "error":
        raise RuntimeError("this job was asked to fail")
    if fault == "memory":
        raise MemoryError("this job was asked to run out of memory")
    if fault == "abort":
        os.abort()
    if fault == "exit":
        os._exit(3)
    if fault == "hang":
        time.sleep(3600)
    if fault == "hold":
        hold_interpreter(3600)
