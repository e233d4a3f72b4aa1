"""Films in and out: frames upright with their exact times, read and written by PyAV."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer, OutputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from ..protocol.errors import InputError
from ..protocol.files import atomic_path

Array = np.ndarray

MAX_PIXELS = 64_000_000
MAX_DURATION_S = 4 * 3600.0
MAX_FRAMES = 1_000_000
_DOUBTED_FPS = 240.0  # above it a rate is rather a clock's
_SQUARE = 0.01  # by which sides of square pixels may differ
_WIDEST = 4.0  # sides of a pixel; what a file says beyond is an error
# Containers that hold a film and nothing else: no playlist or script can make us open other files or the network.
CONTAINERS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf",
    "ogg", "gif", "mxf", "dv", "h264", "hevc", "ivf", "obu", "yuv4mpegpipe", "wtv", "apng",
)  # fmt: skip
_OPEN = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS)}
_HINT = "Convert the film to an .mp4 with H.264 and try again."


@dataclass(frozen=True)
class VideoInfo:
    """What the head of a film says; `size` is (width, height) as it is meant to be seen, after rotation."""

    path: Path
    size: tuple[int, int]
    fps: float  # average
    frames: int  # what the container claims, or duration times rate where it claims nothing
    duration_s: float
    pixel_aspect: float = 1.0  # width of a pixel over its height, after rotation


def probe(path: Path) -> VideoInfo:
    """Read the head of a film and its first picture.

    Raises:
        InputError: no such file, not a film, no picture in it, or larger than any camera makes.
    """
    with open_film(path) as (container, stream):
        rate = float(stream.average_rate or stream.guessed_rate or 30)
        duration_s = _duration_s(container, stream, rate)
        frames = stream.frames or round(duration_s * rate)
        if not frames or rate > _DOUBTED_FPS:
            frames, rate = _counted(path, rate)
            duration_s = frames / rate
        _check_caps(path, stream.width, stream.height, duration_s, frames)
        first = next(_decoded(container, stream), None)
        if first is None:
            raise InputError(f"{path.name} holds no picture that can be decoded: 0 frames.", _HINT)
        width, height = stream.width, stream.height
        aspect = float(stream.sample_aspect_ratio or 1) or 1.0
        size = width, height
        if _quarter_turns(first) % 2:
            size, aspect = (height, width), 1.0 / aspect
        return VideoInfo(path, size, rate, frames, duration_s or frames / rate, aspect)


def read_frames(path: Path, *, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, float, Array]]:
    """Yield (index, time, picture) for the frames `start` to `stop` - 1.

    The picture is (H, W, 3) uint8 RGB, upright. The time is the frame's own, in seconds after the first frame of the
    film, and always grows. A film that is cut off or damaged yields what can be decoded and ends without an error:
    compare with `VideoInfo.frames`.

    Raises:
        InputError: as `probe`.
    """
    with open_film(path) as (container, stream):
        size, rate = (stream.width, stream.height), float(stream.average_rate or 30)
        _check_caps(path, *size, _duration_s(container, stream, rate), stream.frames)
        reformatter, clock = VideoReformatter(), _Clock(1.0 / rate)
        for index, frame in enumerate(_decoded(container, stream)):
            if index >= (MAX_FRAMES if stop is None else stop):
                return
            time_s = clock.read(frame)
            if index >= start:
                yield index, time_s, _upright(frame, size, reformatter)


def squared(rgb: Array, pixel_aspect: float) -> Array:
    """A picture (H, W, 3) whose pixels are `pixel_aspect` times as wide as high, wider or higher with square ones."""
    before = (rgb.shape[1], rgb.shape[0])
    size = square_size(before, pixel_aspect)
    return rgb if size == before else cv2.resize(rgb, size)


def square_size(size: tuple[int, int], pixel_aspect: float) -> tuple[int, int]:
    """Size (width, height) of what `squared` gives."""
    if abs(pixel_aspect - 1.0) <= _SQUARE or not 1.0 / _WIDEST <= pixel_aspect <= _WIDEST:
        return size
    return round(size[0] * max(pixel_aspect, 1.0)), round(size[1] * max(1.0 / pixel_aspect, 1.0))


class MovieWriter:
    """Encodes one picture after another; made by `write_movie`."""

    def __init__(self, container: OutputContainer, fps: float, size: tuple[int, int]) -> None:
        self._container = container
        self._stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": "23", "preset": "veryfast"}

    def write(self, rgb: Array) -> None:
        """Append a picture (H, W, 3) uint8 RGB; an odd last row or column is cut off."""
        rgb = np.ascontiguousarray(rgb[: self._stream.height, : self._stream.width])
        self._container.mux(self._stream.encode(VideoFrame.from_ndarray(rgb, format="rgb24")))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode(None))


@contextlib.contextmanager
def write_movie(path: Path, fps: float, size: tuple[int, int]) -> Iterator[MovieWriter]:
    """Open an H.264 .mp4 that any player and any browser shows; it appears whole or not at all.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    size = (size[0] // 2 * 2, size[1] // 2 * 2)
    options = {"movflags": "+faststart"}
    with atomic_path(path) as temporary, av.open(f"file:{temporary}", "w", format="mp4", options=options) as container:
        writer = MovieWriter(container, fps, size)
        yield writer
        writer.finish()


class _Clock:
    """Presentation times counted from the first frame; falls back on the average rate where a file gives none."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._origin: float | None = None
        self._last = -step_s

    def read(self, frame: VideoFrame) -> float:
        stamp = frame.time
        if stamp is not None and self._origin is None:
            self._origin = stamp - (self._last + self._step_s)
        time_s = self._last + self._step_s if stamp is None or self._origin is None else stamp - self._origin
        if time_s <= self._last:
            time_s = self._last + self._step_s
        self._last = time_s
        return time_s


@contextlib.contextmanager
def open_film(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a film and find its pictures.

    Raises:
        InputError: as `probe`.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(
            f"There is no file {path}: it is a folder.", "Choose the film, or give the folder as keypoints."
        )
    if not path.is_file():
        raise InputError(f"There is no file {path}.", "Check the path.")
    if not path.stat().st_size:
        raise InputError(f"{path.name} is empty: 0 bytes.", "Copy the film again.")
    try:
        container = av.open(f"file:{path.absolute()}", "r", options=_OPEN)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{path.name} ({path.stat().st_size} bytes) cannot be opened as a film: {reason}.",
            f"If the recording was cut off, its index is missing. {_HINT}",
        ) from error
    with container:
        yield container, _video_stream(path, container)


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    for stream in container.streams.video:
        if stream.codec_context is None:  # a codec that does not exist
            continue
        if not stream.disposition & Disposition.attached_pic and stream.width and stream.height:
            stream.thread_type = "AUTO"
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise InputError(f"{path.name} holds no film, only: {kinds}.", "Choose the file that holds the pictures.")


def _check_caps(path: Path, width: int, height: int, duration_s: float, frames: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{path.name} is {width} x {height} = {width * height / 1e6:.0f} megapixels; at most "
            f"{MAX_PIXELS // 1_000_000} are read.", "Scale the film down.",
        )  # fmt: skip
    if duration_s > MAX_DURATION_S or frames > MAX_FRAMES:
        raise InputError(
            f"{path.name} lasts {duration_s / 3600:.1f} hours in {frames} frames; at most {MAX_DURATION_S / 3600:.0f} "
            f"hours and {MAX_FRAMES} frames are read.", "Cut the film into parts.",
        )  # fmt: skip


def _duration_s(container: InputContainer, stream: VideoStream, rate: float) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / 1e6
    return stream.frames / rate


def _counted(path: Path, rate: float) -> tuple[int, float]:
    """Count a film's pictures, and how many of them a second has by their times; `rate` where they have none.

    A browser's recording says neither: its rate would be that of its clock, 1000.
    """
    with open_film(path) as (container, stream), contextlib.suppress(av.FFmpegError, OSError):
        stamps = []
        for packet in container.demux(stream):
            if packet.size and len(stamps) <= MAX_FRAMES:
                stamps.append(packet.pts)
    known = [stamp for stamp in stamps if stamp is not None]
    span_s = float((max(known) - min(known)) * (stream.time_base or 0)) if known else 0.0
    return max(len(stamps), 1), (len(known) - 1) / span_s if span_s > 0 else rate


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield frames, stepping over packets that are damaged and ending where the file breaks off."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError):
            packet = None
        if packet is None:
            return
        with contextlib.suppress(av.FFmpegError, OSError):
            yield from packet.decode()


def _quarter_turns(frame: VideoFrame) -> int:
    """Give the quarter turns, counter-clockwise, that a phone asks a player to make."""
    return round(frame.rotation / 90) % 4


def _upright(frame: VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> Array:
    rgb = reformatter.reformat(
        frame, width=size[0], height=size[1], format="rgb24", interpolation="FAST_BILINEAR"
    ).to_ndarray()
    turns = _quarter_turns(frame)
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb
