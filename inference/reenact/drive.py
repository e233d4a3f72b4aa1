"""From a driver to what the person is to do: descriptors of every frame, carried over as was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..core.artifacts import PoseDescriptors
from ..core.descriptors import carry_over, hold_and_fade, only, smooth
from ..core.face_shapes import SHAPES
from ..core.stages import content_of
from ..protocol.errors import InputError, RequestError, WeightsError
from ..protocol.requests import ReenactRequest
from ..sight.face_track import FaceTracker
from ..sight.faces import LANDMARKS, Faces
from .crop import crops_of_shot
from .driver import Driver, open_driver
from .job import ReenactJob
from .network import Network
from .person import Person

Array = np.ndarray
FADE_S = 0.5  # in which a picture goes where no face is seen for long, and comes again
_BATCH = 16
_UNKNOWN = np.full((LANDMARKS, 2), np.nan)
_STEP = 1e-3  # of a descriptor's length, for differences
_STILL = 0.03  # of the typical variance: is added to every direction
_LOOKS = 8  # poses whose readings' slopes are averaged


def describe_driver(job: ReenactJob, network: Network, base: str) -> tuple[PoseDescriptors, Array]:
    """Descriptors of the driver's frames, as they are or as another program made them, and (T,) how opaque each is.

    Where no face is seen, another moment stands for it, less opaque the farther it is: see `hold_and_fade`.

    Raises:
        InputError: the driver cannot be read, or shows no face.
        RequestError: frames outside of it are asked for.
    """
    request = job.request
    assert request.driver is not None
    if request.driver.suffix.lower() == ".npz":
        driven = _kept(request, network, base)
        chosen = _chosen(request, driven)
        _refuse_unseen(request.driver.name, driven.seen[chosen])
    else:
        inputs = [content_of(request.driver), request.frames, request.fps, request.driver_face, base]
        driven = job.stage(PoseDescriptors, "driver", "drive", inputs, lambda: _describe(job, network, base))
        chosen = np.ones(len(driven.frames), bool)
    taken, opacity = hold_and_fade(driven.seen, driven.times, hold_s=request.hold_s, fade_s=FADE_S)
    shown = replace(
        driven, descriptors=driven.descriptors[taken][chosen], frames=driven.frames[chosen],
        times=driven.times[chosen], seen=driven.seen[chosen],
        crops=None if driven.crops is None else driven.crops[chosen],
    )  # fmt: skip
    if not shown.seen.all():
        held = f"the pose before is held for {request.hold_s:g} s, then the picture fades out until the next face"
        missing = f"{int((~shown.seen).sum())} of {len(shown.seen)} frames of {request.driver.name}"
        job.warning("unseen", f"{missing} show no face: {held}.")
    return shown, opacity[chosen]


def _kept(request: ReenactRequest, network: Network, base: str) -> PoseDescriptors:
    """Read descriptors that were made before, or were keyed."""
    path = request.driver
    assert path is not None
    try:
        kept = PoseDescriptors.load(path)
    except InputError as error:
        hint = "A face track drives by way of a head: see --driver-head and --driver-track of the command in Blender."
        raise InputError(error.message, hint if "'face_track'" in error.message else error.hint) from error
    if kept.header["network"] != base or kept.descriptors.shape[1] != network.pose_numbers:
        text = f"{path.name} holds {kept.descriptors.shape[1]} numbers a frame of another network"
        raise InputError(f"{text}; this one has {network.pose_numbers}.", "Make them again with this network.")
    return kept


def _chosen(request: ReenactRequest, kept: PoseDescriptors) -> Array:
    """(T,) bool: which of the frames that were kept are asked for."""
    low, high = int(kept.frames[0]), int(kept.frames[-1])
    first, last = request.frame_range() or (low, high)
    name = request.driver.name if request.driver is not None else ""
    if first < low or last > high:
        text = f"{first}-{last} is asked for, and {name} has frames {low}-{high}"
        raise RequestError(text, "Choose among these.", field="frames")
    chosen = (kept.frames >= first) & (kept.frames <= last)
    if not chosen.any():
        raise RequestError(f"no frame of {name} lies in {first}-{last}", field="frames")
    return chosen


def _describe(job: ReenactJob, network: Network, base: str) -> PoseDescriptors:
    driver = open_driver(job.request)
    numbers, times, marks = follow(driver, job)
    seen = np.isfinite(marks).all((1, 2))
    _check(job, driver, numbers, seen)
    crops = crops_of_shot(marks, times)
    descriptors = np.zeros((len(numbers), network.pose_numbers), np.float32)
    waiting: list[tuple[int, Array]] = []
    for place, (_, _, rgb) in enumerate(driver.pictures()):
        job.progress("drive", place, len(numbers))
        if seen[place]:
            waiting.append((place, crops[place].cut(rgb, network.pose_size)))
        if len(waiting) == _BATCH:
            _encode(network, waiting, descriptors)
    _encode(network, waiting, descriptors)
    job.progress("drive", len(numbers), len(numbers))
    told = seen & np.isfinite(descriptors).all(1)
    if (told < seen).any():  # a network that is driven by landmarks looks for them itself
        seen = told
        _check(job, driver, numbers, seen)
    taken, _ = hold_and_fade(seen, times, hold_s=np.inf, fade_s=FADE_S)
    header = {"fps": driver.fps, "network": base, "source": str(driver.path.absolute()), "is_film": driver.is_film}
    squares = np.array([(crop.x, crop.y, crop.side) for crop in crops])
    return PoseDescriptors(header, descriptors[taken], numbers, times, seen, squares)


def follow(driver: Driver, job: ReenactJob) -> tuple[Array, Array, Array]:
    """Follow one face: (T,) numbers of frames, (T,) seconds, (T, 478, 2) landmarks px, NaN where it is not seen."""
    numbers, times, marks = [], [], []
    with Faces() as faces:
        tracker = FaceTracker(faces, driver.fps, job.request.driver_face, report=job)
        for number, time_s, rgb in driver.pictures():
            job.progress("follow", len(numbers), max(driver.count, len(numbers) + 1))
            face = tracker.see(rgb)
            numbers.append(number)
            times.append(time_s)
            marks.append(_UNKNOWN if face is None else face.points[:, :2])
        job.progress("follow", len(numbers), len(numbers))
    return np.array(numbers), np.array(times, float), np.array(marks).reshape(-1, LANDMARKS, 2)


def _encode(network: Network, waiting: list[tuple[int, Array]], descriptors: Array) -> None:
    if waiting:
        descriptors[[place for place, _ in waiting]] = network.pose(np.stack([square for _, square in waiting]))
        waiting.clear()


def _check(job: ReenactJob, driver: Driver, numbers: Array, seen: Array) -> None:
    name = driver.path.name
    if not len(numbers):
        raise InputError(f"{name} gave none of the frames {driver.first}-{driver.last}.", "Convert it and try again.")
    _refuse_unseen(name, seen)
    if job.request.frames and driver.is_film and len(numbers) < driver.count:
        text = f"{name} ends after frame {numbers[-1]}, {driver.count - len(numbers)} before the last one asked for."
        job.warning("short", text)


def _refuse_unseen(name: str, seen: Array) -> None:
    if not seen.any():
        hint = "Give one that shows the face from the front; if driver and source were exchanged, exchange them."
        raise InputError(f"None of {len(seen)} frames of {name} shows a face.", hint)


def wanted_poses(job: ReenactJob, driven: PoseDescriptors, person: Person) -> Array:
    """What the person is to do: (T, D) descriptors.

    Raises:
        RequestError: the reference frame is none of the driver's.
        WeightsError: a region is asked for of a network that reads nothing from poses.
    """
    request = job.request
    poses = smooth(driven.descriptors.astype(float), driven.times, request.smoothing_s)
    reference = None
    if request.mode == "relative":
        number = driven.frames[0] if request.reference is None else request.reference
        if number not in driven.frames:
            text = f"{number} is none of the frames {driven.frames[0]}-{driven.frames[-1]}"
            raise RequestError(text, field="reference")
        reference = poses[int(np.searchsorted(driven.frames, number))]
    keep = None if request.region == "all" else region_changes(request.region, person, poses)
    return carry_over(poses, person.own, strength=request.strength, reference=reference, keep=keep)


def region_changes(region: str, person: Person, poses: Array) -> Array:
    """(D, D) what of a change of pose moves one region of the face, from readings near some poses (N, D).

    Changes are measured by how far the poses spread, so that it does not matter in which units descriptors are.

    Raises:
        WeightsError: this network reads nothing from poses.
    """
    if person.network.coefficients(person.own[None]) is None:
        text = "This network reads no expression from poses, so that no region can be told apart."
        raise WeightsError(text, "Choose the whole face, or the published network.")

    def read(rows: Array) -> Array:
        found = person.network.coefficients(rows)
        assert found is not None
        return found

    places = np.linspace(0, len(poses) - 1, min(_LOOKS, len(poses))).round().astype(int)
    slopes = np.mean([slope(read, pose) for pose in (person.own, *poses[places])], 0)
    names = [*SHAPES, *(f"rotation_{index}" for index in range(len(slopes) - len(SHAPES)))]
    spread = spread_of(poses)
    return spread @ only(region, slopes @ spread, names) @ np.linalg.inv(spread)


def spread_of(poses: Array) -> Array:
    """(D, D) symmetric root of the covariance of poses (N, D), no direction next to nothing; of a single pose, one."""
    off = poses - poses.mean(0)
    covariance = off.T @ off / len(poses)
    typical = np.trace(covariance) / len(covariance)
    if typical <= 0:
        return np.eye(len(covariance))
    values, vectors = np.linalg.eigh(covariance + _STILL * typical * np.eye(len(covariance)))
    return (vectors * np.sqrt(values)) @ vectors.T


def slope(read: Callable[[Array], Array], pose: Array) -> Array:
    """(R, D) how readings change with each number of a pose (D,), by central differences."""
    step = _STEP * max(float(np.linalg.norm(pose)), 1e-6)
    moved = np.eye(len(pose)) * step
    return (read(pose + moved) - read(pose - moved)).T / (2 * step)
