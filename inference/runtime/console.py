"""The terminal, kept apart from what libraries print."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path
from typing import TextIO


def divert(log: Path | str) -> None:
    """Send everything that this process prints from now on, by Python or by C, to the end of a file."""
    _flush()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()
    if sys.platform != "win32":
        ctypes.CDLL(None).fflush(None)  # what C still holds belongs to where it was printed


class Console:
    """What the command line says; the one place that writes to the terminal.

    It keeps copies of the streams, so that it still speaks to the terminal after `divert`.
    """

    def __init__(self) -> None:
        self._out = _copy(1)
        self._err = _copy(2)
        self._status = ""

    def say(self, text: str) -> None:
        """Write a line to stdout: what was asked for."""
        self._clear_status()
        _write(self._out, text + "\n")

    def note(self, text: str) -> None:
        """Write a line to stderr: about the work."""
        self._clear_status()
        _write(self._err, text + "\n")

    @property
    def is_terminal(self) -> bool:
        """Whether somebody watches."""
        return self._err.isatty()

    def status(self, text: str) -> None:
        """Write over the last status on stderr."""
        text = text[: shutil.get_terminal_size().columns - 1]
        _write(self._err, "\r" + text.ljust(len(self._status)))
        self._status = text

    def close(self) -> None:
        """Let go of the streams, which may be a file that is to be removed."""
        self._out.close()
        self._err.close()

    def _clear_status(self) -> None:
        if self._status:
            _write(self._err, "\r" + " " * len(self._status) + "\r")
            self._status = ""


def _copy(handle: int) -> TextIO:
    encoding = getattr(sys.stdout if handle == 1 else sys.stderr, "encoding", None)
    return os.fdopen(os.dup(handle), "w", encoding=encoding or "utf-8", errors="backslashreplace")


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:  # the reader left (`| head`): the job goes on
        return
