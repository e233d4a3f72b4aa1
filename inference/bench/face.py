"""Figures of face capture: films of people left out, acting with known weights.

python -m inference bench face --data DIR [--work DIR] [--seconds S] [--people N] [--kinds calm busy] [--out FILE]

`--work` keeps actors and films, so that a run that was stopped goes on where it was. Three rigs are filmed: the
template's own shapes on other people; the head model's own shapes, of whom other people were trained on; and those of
the shapes of VALID avatars that have names of ours, which no training has seen. Heads' frames
are defined by landmarks, and by others in every rig, so rotations are compared after the mean difference of a film.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.artifacts import FacePoints
from ..core.face_shapes import SHAPES
from ..core.rotations import matrix_from_quaternion, nearest_rotation, rotvec_from_matrix
from ..face.capture import CaptureSettings, capture
from ..face.crop import SIDE, cut
from ..face.fit import Fitter, spread
from ..face.pictures import Film as Shown
from ..face.pictures import PictureReader, load_pictures
from ..face.reader import Reader
from ..face.response import Response, load_response
from ..protocol.events import SilentReporter
from ..sight.face_track import FaceTracker
from ..sight.faces import Faces
from ..training import face_response as training
from ..training.script import Run
from ..training.studio import acting
from ..training.studio.actors import load_actor
from ..training.studio.portrait import Light
from ..training.studio.raster import Raster
from .table import Table, write

LOG = logging.getLogger("understudy.bench")
Array = np.ndarray
MOVES = 0.05  # standard deviation of a shape that moves
_SIZE, _FPS = (480, 360), 30.0
_BLANK = np.zeros((_SIZE[1], _SIZE[0], 3), np.uint8)
_FACE_PX = 190
_UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
_RIGS = ("template's", "head model's", "avatars'")
_KINDS = {"calm": 1.0, "busy": 2.6}  # movements begun in a second


@dataclass(frozen=True)
class Film:
    """What was acted, weights (T, 52) and rotations (T, 3, 3) camera from head, and what the detector saw."""

    name: str
    weights: Array
    rotations: Array
    points: FacePoints
    focal_px: float
    detection_ms: float


@dataclass(frozen=True)
class Score:
    """Of one film; NaN where no shape moves.

    Mean absolute errors of weights that move and of all; mean and joint correlation of those that move; mean error of
    rotations in degrees, and how much the frames differ; jitter against each frame's by itself; milliseconds a frame
    behind detection; shapes (52, 2): correlation and mean absolute error, NaN where a shape does not move.
    """

    moving: float
    everything: float
    correlation: float
    pooled: float
    turned_deg: float
    tilted_deg: float
    jitter: float
    fit_ms: float
    shapes: Array


def rig_of(name: str) -> str:
    """Whose rig an actor has."""
    person = name.removeprefix(training.FOREIGN)
    return _RIGS[0] if person == name else _RIGS[1] if person.startswith("ict_") else _RIGS[2]


def shoot(actor_file: Path, seconds: float, kind: str, faces: Faces) -> Film:
    """Film an actor, and let the detector see it."""
    actor = load_actor(actor_file)
    rng = np.random.default_rng([1, zlib.crc32(f"{actor_file.stem} {kind}".encode())])
    focal = float(rng.uniform(0.8, 1.3) * _SIZE[0])
    played = acting.perform(seconds, _FPS, rng, distance_m=focal * 0.17 / _FACE_PX, busy=_KINDS[kind])
    weights = played.weights * actor.moves
    light, backdrop, stage = Light.drawn(rng), acting.a_background(_SIZE, rng), Raster(actor.head)
    tracker, points, presence, crops, spent = FaceTracker(faces, _FPS), [], [], [], 0.0
    for row in range(len(weights)):
        camera = acting.a_camera(_SIZE, focal, played.rotations[row], played.translations[row])
        stage.pose(actor.posed(weights[row]).vertices)
        image, there = stage.photograph(camera, light)
        image = np.where(there[..., None], image, backdrop)
        image = (image + rng.normal(size=image.shape) * 3).clip(0, 255).astype(np.uint8)
        began = time.perf_counter()
        seen = tracker.see(image)
        spent += time.perf_counter() - began
        points.append(np.full((478, 3), np.nan) if seen is None else seen.points)
        presence.append(0.0 if seen is None else seen.presence)
        crops.append(np.zeros((SIDE, SIDE), np.uint8) if seen is None else cut(image, seen.points))
    header = {"unit": "px", "frame": "image", "fps": _FPS, "image_size": list(_SIZE), "source": actor_file.stem}
    found = FacePoints(header, np.array(points), np.array(presence), played.times, np.array(crops))
    return Film(actor_file.stem, weights, played.rotations, found, focal, 1e3 * spent / len(weights))


def kept(path: Path, actor_file: Path, seconds: float, kind: str, faces: Faces) -> Film:
    """A film, made once for crops of a size."""
    if not path.is_file() or _crops_of(path) != (SIDE, SIDE):
        film = shoot(actor_file, seconds, kind, faces)
        arrays = {name: getattr(film.points, name) for name in ("positions", "presence", "times", "crops")}
        np.savez(path, weights=film.weights, rotations=film.rotations, focal=film.focal_px, ms=film.detection_ms,
                 **arrays)  # fmt: skip
        LOG.info("filmed %s, %s", actor_file.stem, kind)
    with np.load(path, allow_pickle=False) as a:
        header = {"unit": "px", "frame": "image", "fps": _FPS, "image_size": list(_SIZE), "source": actor_file.stem}
        points = FacePoints(header, a["positions"], a["presence"], a["times"], a["crops"])
        return Film(actor_file.stem, a["weights"], a["rotations"], points, float(a["focal"]), float(a["ms"]))


def _crops_of(path: Path) -> tuple[int, ...]:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["crops"].shape[1:]


def measure(film: Film, response: Response, pictures: PictureReader | None = None, smoothing: float = 0.5) -> Score:
    """Capture a film whose camera is known, by its points or by its pictures, too, and compare."""
    settings = CaptureSettings(smoothing=smoothing, focal_px=film.focal_px)
    track = capture(film.points, response, settings, SilentReporter(), pictures)
    assert track.weights_raw is not None
    began = time.process_time()  # of one core, whatever else the machine does
    _time_fit(film, response, pictures)
    spent = time.process_time() - began
    truth, got = film.weights, track.weights
    moving = truth.std(0) > MOVES
    off = np.abs(got - truth)
    each = np.array([correlation(got[:, k], truth[:, k]) for k in range(len(SHAPES))])
    turned = _UPRIGHT.T @ matrix_from_quaternion(track.rotations)
    apart = np.swapaxes(film.rotations, 1, 2) @ turned
    mean = nearest_rotation(apart.mean(0))
    errors = np.degrees(np.linalg.norm(rotvec_from_matrix(apart @ mean.T), axis=1))
    rough, soft = (np.abs(np.diff(w, 2, axis=0)).mean() for w in (track.weights_raw, got))
    shapes = np.where(moving[:, None], np.stack([each, off.mean(0)], 1), np.nan)
    some = moving.any()
    return Score(
        float(off[:, moving].mean()) if some else np.nan, float(off.mean()),
        float(each[moving].mean()) if some else np.nan,
        correlation(got[:, moving].ravel(), truth[:, moving].ravel()) if some else np.nan, float(errors.mean()),
        float(np.degrees(np.linalg.norm(rotvec_from_matrix(mean)))), float(soft / rough),
        1e3 * spent / len(truth), shapes,
    )  # fmt: skip


def _time_fit(film: Film, response: Response, pictures: PictureReader | None) -> None:
    """What a film costs behind detection, less what is read once."""
    seen = np.isfinite(film.points.positions).all((1, 2))
    rays = (film.points.positions[seen, :, :2] - (np.array(_SIZE) - 1) / 2) / film.focal_px
    depth = film.points.positions[seen, :, 2] / film.focal_px
    fitter = Fitter(response)
    rows = spread(rays)
    who = fitter.identity(rays[rows], depth[rows])
    shown = None
    if pictures is not None and film.points.crops is not None:
        for points in film.points.positions[seen]:
            cut(_BLANK, points)
        shown = Shown(film.points.crops[seen], seen[seen], pictures)
    Reader(response).express(fitter, rays, depth, who, np.ones(len(SHAPES)), film=shown)


def correlation(a: Array, b: Array) -> float:
    """Pearson's; 0 where either is constant."""
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 1e-9 else 0.0


def summary(scores: dict[tuple[str, str, str], list[Score]]) -> Table:
    """A row for each rig, kind of film and way to read it."""
    table = Table(
        "Face capture, people left out", ("rig", "film", "read from", "films", "error, moving", "error, all",
        "correlation", "joint", "head, deg", "frames differ, deg", "jitter of each frame's", "ms a frame"),
        note="Targets: error <= 0.08, correlation >= 0.85, head <= 3 degrees, jitter <= 0.5, time <= 6 ms.",
    )  # fmt: skip
    names = ("moving", "everything", "correlation", "pooled", "turned_deg", "tilted_deg", "jitter", "fit_ms")
    for key, some in scores.items():
        table.add(*key, len(some), *(float(np.nanmean([getattr(one, name) for one in some])) for name in names))
    return table


def by_shape(scores: Sequence[Score]) -> Table:
    """A row for each shape that moves in any film of the template's rig, by all that there is."""
    table = Table("The same by shape, the template's rig", ("shape", "films", "correlation", "error"))
    values = np.stack([one.shapes for one in scores])
    counts = np.isfinite(values[..., 0]).sum(0)
    rows = [(SHAPES[k], int(counts[k]), *np.nanmean(values[:, k], 0)) for k in np.flatnonzero(counts)]
    for name, count, found, error in sorted(rows, key=lambda row: -row[2]):
        table.add(name, count, float(found), float(error))
    return table


def main(arguments: Sequence[str]) -> int:
    """Film, capture, compare."""
    parser = argparse.ArgumentParser(prog="python -m inference bench face", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="where actors and films are kept (default: a temporary folder)")
    parser.add_argument("--seconds", type=float, default=3.4, help="of each film")
    parser.add_argument("--people", type=int, default=99, help="actors of each rig at most")
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=list(_KINDS), help="how much is acted")
    parser.add_argument("--out", type=Path, help="write the tables here as .json and .md")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        (work / "films").mkdir(parents=True, exist_ok=True)
        training.cast(options.data, Run(work / "actors"), people=0, only_held_out=True)
        response, scores, own = load_response(), {}, []
        ways = {"points": None, "pictures, too": load_pictures(response)}
        files = [file for file in sorted((work / "actors").glob("*.npz")) if training.is_held_out(file.stem)]
        with Faces() as faces:
            for rig in _RIGS:
                chosen = [file for file in files if rig_of(file.stem) == rig][: options.people]
                for kind in options.kinds:
                    paths = {file: work / "films" / f"{file.stem}_{kind}_{options.seconds:g}.npz" for file in chosen}
                    films = [kept(path, file, options.seconds, kind, faces) for file, path in paths.items()]
                    for way, pictures in ways.items():
                        scores[rig, kind, way] = [measure(film, response, pictures) for film in films]
                    own += scores[rig, kind, way] if rig == _RIGS[0] else []
        write([summary(scores), by_shape(own)], options.out)
    return 0
