"""From points of a face to its track: who it is, what it does, and what is said of frames that show no face."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..core.artifacts import FacePoints, FaceTrack
from ..core.cameras import pinhole
from ..core.face_shapes import SHAPES, VISEMES, visemes_of
from ..core.filters import smooth_positions, smooth_rotations
from ..core.rotations import continuous, multiply, quaternion_from_matrix, quaternion_from_rotvec, slerp
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from .fit import Fitted, Fitter, spread
from .pictures import LEAST_PX, Film, PictureReader
from .reader import Reader
from .response import Response

Array = np.ndarray
MIN_FRAMES = 3  # that show a face
_FOCAL = 1.1  # of an unknown camera, in longer sides of its picture
_BRIDGED_S, _LONGEST_BRIDGE_S = 0.12, 0.5  # gaps that are no gaps; those that are none however long things are held
_FADE_S = 0.4  # in which an expression fades, and comes back
_NEUTRAL_S = 0.1  # before and after the frame that is said to be neutral
_UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # x right, y away, z up, from OpenCV's axes
_BALANCE = 100.0  # by which smoothing from 0 to 1 makes things stiffer or softer


@dataclass(frozen=True)
class CaptureSettings:
    """What a track is made with; `neutral` is a row of the points."""

    smoothing: float = 0.5
    focal_px: float | None = None
    neutral: int | None = None
    hold_s: float = 0.5
    visemes: bool = False


def capture(
    points: FacePoints, response: Response, settings: CaptureSettings, report: Reporter,
    pictures: PictureReader | None = None,
) -> FaceTrack:  # fmt: skip
    """Fit a face: identity once, then each frame, by its points and, where it has one, by its picture.

    Raises:
        InputError: too few frames show a face, or the neutral one does not.
    """
    seen = np.isfinite(points.positions).all((1, 2))
    _check(points, seen)
    focal = settings.focal_px or _FOCAL * max(points.image_size)
    middle = (np.array(points.image_size) - 1) / 2
    rays = (points.positions[seen, :, :2] - middle) / focal
    depth = points.positions[seen, :, 2] / focal
    fitter, reader = Fitter(response), Reader(response)
    report.progress("fit", 0, 3)
    chosen = spread(rays)
    who = fitter.identity(rays[chosen], depth[chosen])
    report.progress("fit", 1, 3)
    rows = np.flatnonzero(seen)
    film = None
    if pictures is not None and points.crops is not None:
        shown = np.ptp(points.positions[seen, :, :2], axis=1).max(1) >= LEAST_PX
        film = Film(points.crops[seen], shown, pictures)
    stiff = stiffness(response, points.fps, settings.smoothing)
    fitted = reader.express(fitter, rays, depth, who, stiff, parts=list(runs(points.times[rows])), film=film)
    report.progress("fit", 2, 3)
    track = _track(points, fitted, response, settings, rows)
    _tell(points, seen, settings, report)
    report.progress("fit", 3, 3)
    return track.with_header(
        camera=pinhole("camera", points.image_size, focal).to_header(), identity=[round(float(x), 4) for x in who],
        misfit=round(float(np.median(fitted.misfit)), 3),
    )  # fmt: skip


def stiffness(response: Response, fps: float, smoothing: float) -> Array:
    """(52,) weights of squared second differences; 0.5 is what accelerations of faces ask for."""
    if smoothing <= 0:
        return np.zeros(len(SHAPES))
    return _BALANCE ** (2 * smoothing - 1) / (response.agility / fps**2) ** 2


def runs(times: Array) -> Iterator[Array]:
    """Rows of frames between which nothing is missing for long."""
    gaps = np.flatnonzero(np.diff(times) > max(_BRIDGED_S, 2.5 * float(np.median(np.diff(times), axis=0)))) + 1
    yield from np.split(np.arange(len(times)), gaps)


def _check(points: FacePoints, seen: Array) -> None:
    count, name = int(seen.sum()), str(points.header.get("source", "")).rpartition("/")[2] or "the clip"
    hint = "Film one face from the front, in even light, larger than a tenth of the picture."
    if not count:
        raise InputError(f"No face is seen in any of the {len(seen)} frames of {name}.", hint)
    if count < MIN_FRAMES:
        raise InputError(f"{count} of {len(seen)} frames show a face; at least {MIN_FRAMES} are needed.", hint)


def _track(
    points: FacePoints, fitted: Fitted, response: Response, settings: CaptureSettings, rows: Array
) -> FaceTrack:  # fmt: skip
    count, fps, smoothing = len(points.times), points.fps, settings.smoothing
    weights = fitted.weights
    neutral = _neutral(points.times, weights, rows, settings.neutral)
    weights, raw = _less(weights, neutral), _less(fitted.raw, neutral)
    turned = continuous(quaternion_from_matrix(_UPRIGHT @ fitted.poses.rotations))
    placed = fitted.poses.translations @ _UPRIGHT.T
    sure = 1.0 / np.maximum(fitted.misfit / np.median(fitted.misfit), 1.0)
    soft_turned, soft_placed = turned, placed
    for part in runs(points.times[rows]):
        soft_turned[part] = smooth_rotations(turned[part][:, None], sure[part, None], fps, amount=smoothing)[:, 0]
        soft_placed[part] = smooth_positions(placed[part][:, None], sure[part, None], fps, amount=smoothing)[:, 0]
    times = points.times
    shown = filled(weights, rows, times, settings.hold_s)
    confidence = np.zeros(count)
    confidence[rows] = points.presence[rows] * sure
    header = {
        "unit": "m", "frame": "camera, upright", "fps": fps, "skeleton": "arkit52", "shapes": list(SHAPES),
        "image_size": list(points.image_size), "source": points.header.get("source", ""),
        "visemes": list(VISEMES) if settings.visemes else [], "neutral": [round(float(x), 4) for x in neutral],
    }  # fmt: skip
    return FaceTrack(
        header, shown, _held_turns(soft_turned, rows, count), _held(soft_placed, rows, count),
        eyes_of(shown, response.turns), confidence.clip(0, 1), times, points.positions,
        visemes_of(shown) if settings.visemes else None, filled(raw, rows, times, settings.hold_s),
        _held_turns(turned, rows, count),
    )  # fmt: skip


def recorded(track: FaceTrack, settings: CaptureSettings, report: Reporter) -> FaceTrack:
    """Treat a track that another program recorded as one from a film: its neutral face, and frames without a face.

    Raises:
        InputError: no frame shows a face, or the neutral one does not.
    """
    seen = track.confidence > 0
    rows = np.flatnonzero(seen)
    if not len(rows):
        raise InputError(f"None of the {len(seen)} frames that are read shows a face.", "Choose other frames.")
    weights = track.weights[rows]
    neutral = _neutral(track.times, weights, rows, settings.neutral)
    shown = filled(_less(weights, neutral), rows, track.times, settings.hold_s)
    _tell(track, seen, settings, report)
    visemes = visemes_of(shown) if settings.visemes else None
    return replace(track, weights=shown, visemes=visemes).with_header(
        visemes=list(VISEMES) if settings.visemes else [], neutral=[round(float(x), 4) for x in neutral]
    )


def _less(weights: Array, neutral: Array) -> Array:
    """Weights (T, 52) of a face that is said to be neutral at (52,)."""
    return ((weights - neutral) / (1 - neutral).clip(0.05)).clip(0, 1)


def _neutral(times: Array, weights: Array, rows: Array, frame: int | None) -> Array:
    """(52,) what the face shows where it is neutral; 0 where nobody says so."""
    if frame is None:
        return np.zeros(len(SHAPES))
    near = np.abs(times[rows] - times[frame]) <= _NEUTRAL_S
    if not near.any():
        raise InputError("No face is seen in the frame that is said to be neutral.", "Choose another one.")
    return np.median(weights[near], 0)


def filled(weights: Array, rows: Array, times: Array, hold_s: float) -> Array:
    """(T, 52) from weights (R, 52) of the frames `rows` (R,) that show a face.

    Short gaps are bridged; in long ones the last expression is held, then fades, and the next one comes up before it
    is seen.
    """
    at, seen = times[rows], np.zeros(len(times), bool)
    seen[rows] = True
    after = np.searchsorted(at, times, "left").clip(0, len(at) - 1)
    before = (np.searchsorted(at, times, "right") - 1).clip(0, len(at) - 1)
    since, until = times - at[before], at[after] - times
    since, until = np.where(since < 0, np.inf, since), np.where(until < 0, np.inf, until)
    gap = since + until
    part = np.where(gap > 0, since / np.where(gap > 0, gap, 1.0), 0.0)
    bridged = np.isfinite(gap) & (gap <= max(_BRIDGED_S, min(hold_s, _LONGEST_BRIDGE_S)))
    old, new = (_ease(1 - ((away - held) / _FADE_S)) for away, held in ((since, hold_s), (until, 0.0)))
    new = np.where(np.isfinite(until), new, 0.0)
    shares = np.where(bridged, 1 - part, np.where(np.isfinite(since), old, 0.0) * (1 - new))
    others = np.where(bridged, part, new)
    out = shares[:, None] * weights[before] + others[:, None] * weights[after]
    out[rows] = weights
    return out


def _ease(part: Array) -> Array:
    part = part.clip(0, 1)
    return part * part * (3 - 2 * part)


def _held(values: Array, rows: Array, count: int) -> Array:
    return np.stack([np.interp(np.arange(count), rows, column) for column in values.T], 1)


def _held_turns(rotations: Array, rows: Array, count: int) -> Array:
    at = np.interp(np.arange(count), rows, np.arange(len(rows)))
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(rows) - 1)
    return continuous(slerp(rotations[low], rotations[high], at - low))


def eyes_of(weights: Array, turns: Array) -> Array:
    """(T, 2, 4) turns of the left and right eye in the head; turns (2, 4): rad in, out, up, down at weight 1."""
    out = np.empty((len(weights), 2, 4))
    for index, (side, sign) in enumerate((("Left", 1.0), ("Right", -1.0))):
        inward, outward, up, down = (
            weights[:, SHAPES.index(f"eyeLook{way}{side}")] * turns[index, k]
            for k, way in enumerate(("In", "Out", "Up", "Down"))
        )
        zero = np.zeros(len(weights))
        yaw = quaternion_from_rotvec(np.stack([zero, zero, sign * (outward - inward)], 1))
        out[:, index] = multiply(yaw, quaternion_from_rotvec(np.stack([down - up, zero, zero], 1)))
    return continuous(out)


def _tell(points: FacePoints | FaceTrack, seen: Array, settings: CaptureSettings, report: Reporter) -> None:
    """Warn of frames without a face."""
    if seen.all():
        return
    edges = np.flatnonzero(np.diff(np.concatenate([[0], ~seen, [0]])))
    gaps = list(zip(edges[::2], edges[1::2], strict=True))
    longest = max(gaps, key=lambda gap: gap[1] - gap[0])
    start = int(points.header.get("start", 0))
    text = (
        f"{int((~seen).sum())} of {len(seen)} frames show no face, in {len(gaps)} gap{'s' * (len(gaps) > 1)}; "
        f"the longest is frames {start + longest[0]} to {start + longest[1] - 1}. "
        f"There the expression is held for {settings.hold_s:g} s and fades."
    )
    report.warning("no-face", text)
