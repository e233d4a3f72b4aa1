"""The sound of a film, on the clock of its pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer

from .video import open_film

Array = np.ndarray
RATE = 8000  # Hz: claps and voices are below 4 kHz
MAX_S = 3600.0  # 115 MB


@dataclass(frozen=True)
class Sound:
    """Samples (S,) float32, one channel, `RATE` a second, the first one `start` seconds after the first picture."""

    samples: Array
    start: float


def read_sound(path: Path) -> Sound | None:
    """Read the first hour of a film's sound; None where it has no sound.

    Raises:
        InputError: as `video.probe`.
    """
    with open_film(path) as (container, pictures):
        if not container.streams.audio:
            return None
        picture = _first_time(container, pictures)
    with open_film(path) as (container, _):
        blocks, start, total = [], None, 0
        for frame in _resampled(container):
            if start is None:
                start = float(frame.time or 0.0)
            block = frame.to_ndarray().reshape(-1)
            blocks.append(block)
            total += len(block)
            if total > MAX_S * RATE:
                break
    if start is None:
        return None
    return Sound(np.concatenate(blocks).astype(np.float32), start - picture)


def _first_time(container: InputContainer, pictures: av.VideoStream) -> float:
    with contextlib.suppress(av.FFmpegError):
        for frame in container.decode(pictures):
            return float(frame.time or 0.0)
    return 0.0


def _resampled(container: InputContainer) -> Iterator[AudioFrame]:
    """Yield mono frames, silence where packets are lost; what is damaged at the end is left out."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    with contextlib.suppress(av.FFmpegError):
        for frame in container.decode(container.streams.audio[0]):
            yield from resampler.resample(frame)
        yield from resampler.resample(None)
