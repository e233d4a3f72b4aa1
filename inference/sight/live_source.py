"""A camera, or a film played as if it were one: pictures one at a time, the newest first.

Whoever is slower than the source misses pictures and never lags behind it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from ..protocol.errors import InputError
from ..protocol.stream import clock_ns
from ..runtime.video import probe, read_frames, square_size, squared

Array = np.ndarray
WAIT_S = 0.05  # how long one look for a new picture lasts
_SILENT_S = 5.0  # after which a camera that gives nothing has failed
_RATES = (5.0, 240.0)  # frames a second that a camera may claim


@dataclass(frozen=True)
class Picture:
    """An RGB picture (H, W, 3) uint8, its time in seconds after the first, and when it was there (see `clock_ns`)."""

    rgb: Array
    time_s: float
    captured_ns: int


class Source(Protocol):
    """What pictures come from. `size` is (width, height); `frames` is 0 where there is no end."""

    size: tuple[int, int]
    fps: float
    frames: int
    has_ended: bool

    def next(self) -> Picture | None:
        """Give the newest picture that was not given yet; None where none came within a moment, or at the end."""


@contextlib.contextmanager
def open_film(path: Path, *, in_time: bool) -> Iterator[Source]:
    """Play a film: `in_time` as fast as it was filmed, missing what comes too late; else every picture.

    Raises:
        InputError: as `runtime.video.probe`.
    """
    film = _Film(path, in_time=in_time)
    try:
        yield film
    finally:
        film.close()


@contextlib.contextmanager
def open_camera(device: str, size: tuple[int, int] | None) -> Iterator[Source]:
    """Open a camera by its number or, where the system has such, its name; it is on until the block ends.

    Raises:
        InputError: there is none, or it gives no picture.
    """
    camera = _Camera(device, size)
    try:
        yield camera
    finally:
        camera.close()


class _Film:
    def __init__(self, path: Path, *, in_time: bool) -> None:
        info = probe(path)
        self.size = square_size(info.size, info.pixel_aspect)
        self.fps, self.frames, self.has_ended = info.fps, info.frames, False
        self._pixel_aspect = info.pixel_aspect
        self._in_time = in_time
        self._pictures: Any = read_frames(path)  # a generator, whose end closes the file
        self._start_ns = 0
        self._waiting: tuple[float, Array] | None = None

    def next(self) -> Picture | None:
        self._waiting = self._waiting or self._decode()
        if self._waiting is None:
            return None
        now = clock_ns()
        self._start_ns = self._start_ns or now
        time_s, rgb = self._waiting
        due_ns = self._start_ns + round(1e9 * time_s)
        if not self._in_time:
            self._waiting = None
            return Picture(rgb, time_s, now)
        if due_ns > now:
            time.sleep(min((due_ns - now) / 1e9, WAIT_S))
            return None
        # of the pictures that are due, the last one
        while (coming := self._decode()) and self._start_ns + round(1e9 * coming[0]) <= clock_ns():
            time_s, rgb = coming
        self._waiting = coming
        self.has_ended = False  # the last picture is still to be given
        return Picture(rgb, time_s, self._start_ns + round(1e9 * time_s))

    def _decode(self) -> tuple[float, Array] | None:
        found = next(self._pictures, None)
        self.has_ended = found is None
        return None if found is None else (found[1], squared(found[2], self._pixel_aspect))

    def close(self) -> None:
        self._pictures.close()


class _Camera:
    """A thread takes every picture as it comes, so that the system's buffer of old ones stays empty."""

    def __init__(self, device: str, size: tuple[int, int] | None) -> None:
        self._device = device
        self._camera = cv2.VideoCapture(int(device) if device.isdigit() else device)
        if size is not None:
            self._camera.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            self._camera.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        self._camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        is_open, first = self._camera.read() if self._camera.isOpened() else (False, None)
        if not is_open or first is None:
            self._camera.release()
            raise InputError(f"Camera {device} cannot be opened.", _what_to_try(device))
        rate = float(self._camera.get(cv2.CAP_PROP_FPS))
        self.size = (first.shape[1], first.shape[0])
        self.fps = rate if _RATES[0] <= rate <= _RATES[1] else 30.0
        self.frames, self.has_ended = 0, False
        self._newest: tuple[Array, int] | None = None
        self._first_ns, self._last_ns = 0, clock_ns()
        self._there, self._is_closing = threading.Condition(), False
        self._thread = threading.Thread(target=self._take_all, daemon=True, name="camera")
        self._thread.start()

    def _take_all(self) -> None:
        while not self._is_closing:
            found, picture = self._camera.read()
            if not found:
                time.sleep(WAIT_S)
                continue
            with self._there:
                self._newest = (picture, clock_ns())
                self._there.notify()

    def next(self) -> Picture | None:
        with self._there:
            if self._newest is None:
                self._there.wait(WAIT_S)
            found, self._newest = self._newest, None
        if found is None:
            if clock_ns() - self._last_ns > 1e9 * _SILENT_S:
                text = f"Camera {self._device} gave no picture for {_SILENT_S:g} seconds."
                raise InputError(text, "Check its cable, and that no other program uses it; then start again.")
            return None
        picture, taken_ns = found
        self._last_ns = taken_ns
        self._first_ns = self._first_ns or taken_ns
        rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        return Picture(rgb, (taken_ns - self._first_ns) / 1e9, taken_ns)

    def close(self) -> None:
        """Turn the camera off."""
        self._is_closing = True
        self._thread.join(2.0)
        self._camera.release()


def _what_to_try(device: str) -> str:
    text = "Check that it is plugged in, that no other program uses it, and that this computer lets programs see it"
    known = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video*")) if _is_linux() else []
    others = f"the cameras found here are {', '.join(known)}" if known else "cameras are counted from 0: try 0 or 1"
    if _is_linux() and not known:
        others = "this computer shows no camera at all"
    return f"{text}; {others if device not in known else 'another number may be another camera'}."


def _is_linux() -> bool:
    return sys.platform == "linux"
