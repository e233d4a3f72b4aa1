"""What could explain that views do not agree: every usual lie is tried, and the one that makes them agree is named.

A change that is tried is a `Suspect`: other cameras, or what a view would have seen had its clip not been mirrored or
its sides exchanged. The best is taken, the search goes on from there, and where nothing makes all views agree, none of
it is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

import numpy as np

from ..core.cameras import Camera, CameraSet, project
from .evidence import Agreement, Seen, agree, misses, resect
from .lenses import Finding, on_camera

Array = np.ndarray
Cameras = tuple[Camera, ...]
AGREE = 0.03  # of the person's size: the error of views that mean the same
_BETTER = 0.8  # of the error that is left, for a change to be believed on the way
_CLEARLY = 0.5  # of the error at the beginning, in the end
_ALL_ORDERS = 5  # up to so many clips every order is tried
_ROUNDS = 4
_FEW, _MORE, _LIKELY = 10, 30, 8  # frames on which all suspects are tried, and the likely ones again
_OFFSET = 0.012  # of the person's size: a constant offset worth a word
_CONSTANT = 1.3  # times its own scatter
_ODD = 0.6  # of the error of the next best pair of three
_FLIPS = {
    "from the camera to the world": lambda c: _pose(c, c.rotation.T, -c.rotation.T @ c.translation),
    "with the camera's place as translation": lambda c: _pose(c, c.rotation, -c.rotation @ c.translation),
    "with y up and z backwards, as OpenGL and Blender have it":
        lambda c: _pose(c, _GL @ c.rotation, _GL @ c.translation),
    "from the camera to the world, with y up and z backwards":
        lambda c: _pose(c, _GL @ c.rotation.T, -_GL @ c.rotation.T @ c.translation),
}  # fmt: skip
_GL = np.diag([1.0, -1.0, -1.0])
_MIRRORS = {"x": np.diag([-1.0, 1.0, 1.0]), "y": np.diag([1.0, -1.0, 1.0]), "z": np.diag([1.0, 1.0, -1.0])}
_UNITS = {"millimetres": 1e-3, "centimetres": 1e-2, "a thousandth of the others'": 1e3}


@dataclass(frozen=True)
class Suspect:
    """One explanation: its finding, the cameras and sights as they would be."""

    finding: Finding
    cameras: Cameras
    seen: Seen


def explain(cameras: Cameras, seen: Seen) -> tuple[list[Finding], Cameras, Seen, Agreement]:
    """Find what makes the views agree, or name the view that is farthest off.

    Returns:
        Findings, and the cameras, sights and agreement after them.
    """
    start = here = agree(cameras, seen)
    mirrored = all(np.linalg.det(camera.rotation) < 0 for camera in cameras)
    if start.score <= AGREE and not mirrored:
        return [], cameras, seen, start
    found: list[Finding] = []
    now, sights = cameras, seen
    for _ in range(_ROUNDS):
        suspect = _best(now, sights)
        after = agree(suspect.cameras, suspect.seen)
        if not (after.score < _BETTER * here.score or (mirrored and after.score <= AGREE)):
            break
        here, mirrored = after, False
        now, sights = suspect.cameras, suspect.seen
        found.append(suspect.finding)
        if here.score <= AGREE:
            return found, now, sights, here
    moved = _moved(cameras, seen, start)
    if moved is not None and moved[2].score <= max(AGREE, _CLEARLY * start.score):
        return moved[0], moved[1], seen, moved[2]
    if found and len(cameras) > 2 and here.score < min(_CLEARLY * start.score, 2 * AGREE):
        return found, now, sights, here
    return [_disagree(cameras, start)], cameras, seen, start


def biased(cameras: Cameras, seen: Seen) -> tuple[list[Finding], Cameras]:
    """Find cameras that see everything a little aside of where the others do: a calibration that has moved.

    One such camera makes all others look so, thus the worst is set aside before the next is judged.
    """
    found: list[Finding] = []
    trusted, now = list(range(len(cameras))), list(cameras)
    while len(trusted) > 2:
        judged = [(_offset(now, seen, view, trusted), view) for view in trusted]
        judged = [(offset, view) for offset, view in judged if offset is not None]
        if not judged:
            break
        odd = _odd_one(now, seen, trusted) if len(trusted) == 3 else None
        judged = [pair for pair in judged if odd in (None, pair[1])]
        if not judged:
            break
        (middle, scatter, frames), view = max(judged, key=lambda pair: float(np.linalg.norm(pair[0][0])))
        aside = float(np.linalg.norm(middle))
        if aside < _OFFSET * seen.size[view] or aside < _CONSTANT * scatter:
            break
        trusted.remove(view)
        fixed = _fitted(now, seen, view, trusted)
        found.append(_offset_finding(now[view], fixed, middle, scatter, frames))
        now[view] = fixed
    return found, tuple(now)


def turned_picture(camera: Camera, quarters: int) -> Camera:
    """Give the camera of the same picture turned clockwise by so many quarters."""
    for _ in range(quarters % 4):
        (width, height), old, lens = camera.size, camera.matrix, camera.distortion.copy()
        matrix = np.array([[old[1, 1], 0.0, height - 1 - old[1, 2]], [0.0, old[0, 0], old[0, 2]], [0.0, 0.0, 1.0]])
        turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        if not camera.fisheye and len(lens) > 3:  # (p2, p1) and the thin prism turn like vectors
            lens[2], lens[3] = camera.distortion[3], -camera.distortion[2]
            if len(lens) == 12:
                lens[8:] = np.concatenate([-camera.distortion[10:], camera.distortion[8:10]])
        camera = replace(
            camera,
            size=(height, width),
            matrix=matrix,
            distortion=lens,
            rotation=turn @ camera.rotation,
            translation=turn @ camera.translation,
        )
    return camera


def exchanged_files(order: Sequence[int]) -> Callable[[CameraSet], CameraSet]:
    """Give view i the camera `order[i]`, under the name that view i has."""

    def apply(cameras: CameraSet) -> CameraSet:
        return replace(cameras, cameras=tuple(replace(cameras[j], name=cameras[i].name) for i, j in enumerate(order)))

    return apply


def order_finding(rig: CameraSet, order: Sequence[int]) -> Finding:
    """Say that clip i is that of camera `order[i]`."""
    names = rig.names
    moved = [i for i, j in enumerate(order) if i != j]
    named = ", ".join(f"that of {names[i]} belongs to {names[order[i]]}" for i in moved)
    return Finding(
        "",
        "swapped",
        "error",
        f"{len(moved)} clips are exchanged: {named}.",
        f"The calibrations of {', '.join(names[i] for i in moved)} would be exchanged to fit the clips.",
        exchanged_files(order),
    )


def _best(cameras: Cameras, seen: Seen) -> Suspect:
    """Try every suspect on a few frames, and the best of them on some more; of equals the first is taken."""
    few, more = seen.some(_FEW), seen.some(_MORE)
    tried = [
        (agree(suspect.cameras, suspect.seen, steps=0).score, at) for at, suspect in enumerate(_suspects(cameras, few))
    ]
    likely = sorted(tried)[:_LIKELY]
    every = list(_suspects(cameras, more))
    again = [(round(agree(every[at].cameras, every[at].seen).score, 4), at) for _, at in likely]
    at = min(again)[1]
    return next(suspect for index, suspect in enumerate(_suspects(cameras, seen)) if index == at)


def _suspects(cameras: Cameras, seen: Seen) -> Iterator[Suspect]:
    yield from _conventions(cameras, seen)
    yield from _orders(cameras, seen)
    for view in range(len(cameras)):
        yield from _of_one(cameras, seen, view)
    for unit, factor in _UNITS.items():
        for camera in cameras:
            yield _other_unit(CameraSet(cameras), seen, camera.name, unit, factor)


def _conventions(cameras: Cameras, seen: Seen) -> Iterator[Suspect]:
    rig = CameraSet(cameras)
    if all(np.linalg.det(camera.rotation) < 0 for camera in cameras):
        for axis, flip in _MIRRORS.items():
            for side, change in (("camera", _camera_flip(flip)), ("world", _world_flip(flip))):
                yield _suspect(rig, seen, Finding(
                    "", "mirrored", "error",
                    f"All {len(cameras)} cameras are mirrored: their rotations have determinant -1.",
                    f"The {axis} axis of the {side} would be turned round in all cameras.",
                    _everywhere(change),
            ))  # fmt: skip
        return
    for words, change in _FLIPS.items():
        yield _suspect(rig, seen, Finding(
            "", "convention", "error",
            f"The poses of all {len(cameras)} cameras make sense only when they are read {words}.",
            "All poses would be turned into those from the world to the camera, z pointing forward.",
            _everywhere(change),
            ))  # fmt: skip


def _orders(cameras: Cameras, seen: Seen) -> Iterator[Suspect]:
    """Try other orders of the clips: all of few, else all exchanges of two and circles of three."""
    count, rig = len(cameras), CameraSet(cameras)
    identity = tuple(range(count))
    if count <= _ALL_ORDERS:
        orders = [order for order in permutations(identity) if order != identity]
    else:
        orders = [_placed(identity, pair, pair[::-1]) for pair in combinations(identity, 2)]
        for three in combinations(identity, 3):
            orders += [_placed(identity, three, three[1:] + three[:1]), _placed(identity, three, three[2:] + three[:2])]
    for order in orders:
        if all(cameras[i].size == cameras[j].size for i, j in enumerate(order)):
            yield _suspect(rig, seen, order_finding(rig, order))


def _of_one(cameras: Cameras, seen: Seen, view: int) -> Iterator[Suspect]:
    rig, camera = CameraSet(cameras), cameras[view]
    name, square = camera.name, camera.size[0] == camera.size[1]
    for quarters in (1, 2, 3) if square else (2,):
        yield _suspect(rig, seen, Finding(
            name, "turned", "error",
            f"The clip of {name} is turned by {90 * quarters} degrees against its calibration.",
            f"The calibration of {name} would be turned by {90 * quarters} degrees.",
            on_camera(name, _turned(quarters)),
            ))  # fmt: skip
    if np.linalg.det(camera.rotation) < 0:
        for axis, flip in _MIRRORS.items():
            yield _suspect(rig, seen, Finding(
                name, "mirrored", "error",
                f"The rotation of {name} is mirrored: its determinant is -1.",
                f"The {axis} axis of {name} would be turned round.",
                on_camera(name, _camera_flip(flip)),
            ))  # fmt: skip
    for words, change in _FLIPS.items():
        yield _suspect(rig, seen, Finding(
            name, "convention", "error",
            f"The pose of {name} makes sense only when it is read {words}.",
            f"The pose of {name} would be turned into that from the world to the camera, z pointing forward.",
            on_camera(name, change),
            ))  # fmt: skip
    text = f"Left and right are exchanged in the clip of {name} throughout."
    yield Suspect(Finding(name, "sides", "warning", text), cameras, seen.exchanged(view))
    text = f"The clip of {name} is mirrored."
    hint = f"{text} Mirror it back (a setting of front cameras), then capture again."
    yield Suspect(Finding(name, "mirrored", "error", hint), cameras, seen.flipped(view, camera.size[0]))


def _other_unit(rig: CameraSet, seen: Seen, name: str, unit: str, factor: float) -> Suspect:
    return _suspect(
        rig,
        seen,
        Finding(
            name,
            "units",
            "error",
            f"The translation of {name} is in {unit}, that of the others is not.",
            f"The translation of {name} would be multiplied by {factor:g}.",
            on_camera(name, _scaled(factor)),
        ),
    )


def _suspect(rig: CameraSet, seen: Seen, finding: Finding) -> Suspect:
    assert finding.apply is not None
    return Suspect(finding, finding.apply(rig).cameras, seen)


def _moved(cameras: Cameras, seen: Seen, start: Agreement) -> tuple[list[Finding], Cameras, Agreement] | None:
    """Find the camera without which the others agree, and put it where it must stand."""
    count = len(cameras)
    if count < 3:
        return None
    without = []
    for view in range(count):
        others = [other for other in range(count) if other != view]
        without.append((agree([cameras[i] for i in others], seen.views(others)), view))
    left, view = min(without, key=lambda pair: pair[0].score)
    if left.score > min(AGREE, _CLEARLY * start.score):
        return None
    other = resect(cameras[view], left.points, seen, view)
    name = cameras[view].name
    off = start.each[view] * seen.size[view]
    text = f"{name} does not fit the other cameras, which agree without it (it is {off:.0f} px off)."
    if other is None:
        return [Finding(name, "moved", "error", text)], cameras, start
    fixed = (*cameras[:view], other, *cameras[view + 1 :])
    after = agree(fixed, seen)
    if not after.score < _CLEARLY * start.score:
        return [Finding(name, "moved", "error", f"{text} No other place makes it fit.")], cameras, left
    return [Finding(name, "moved", "error", text, *_put(cameras[view], other))], fixed, after


def _put(before: Camera, after: Camera) -> tuple[str, Callable[[CameraSet], CameraSet]]:
    """Say how a camera would be moved, and do it."""
    metres = float(np.linalg.norm(after.centre - before.centre))
    cosine = (np.trace(after.rotation @ before.rotation.T) - 1) / 2
    degrees = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    change = f"{before.name} would be turned by {degrees:.2f} degrees and moved by {100 * metres:.1f} cm."
    return change, on_camera(before.name, lambda c: _pose(c, after.rotation, after.translation))


def _disagree(cameras: Cameras, agreement: Agreement) -> Finding:
    each = np.nan_to_num(agreement.each, nan=-1.0)
    worst = int(np.argmax(each))
    name = cameras[worst].name if len(cameras) > 2 else ""
    share = 100 * float(max(each.max(), 0.0))
    who = f"{name} is farthest off" if name else "they may show different people or moments"
    return Finding(
        name,
        "disagree",
        "error" if agreement.score > 4 * AGREE else "warning",
        f"The views miss each other by {share:.1f} % of the person's size, and no usual mistake explains it; {who}.",
    )


def _offset(
    cameras: Sequence[Camera], seen: Seen, view: int, trusted: Sequence[int]
) -> tuple[Array, float, int] | None:
    """Give the median offset of a view from what the others make of the person, px, and its scatter."""
    others = [other for other in trusted if other != view]
    points = agree([cameras[i] for i in others], seen.views(others), steps=3).points
    error = misses(cameras[view], points, seen, view)
    if np.isfinite(error).sum() < 30:
        return None
    off = _signed(cameras[view], points, seen, view)
    off = off[np.isfinite(off).all(-1)]
    if len(off) < 30:
        return None
    middle = np.median(off, axis=0)
    return middle, float(np.median(np.linalg.norm(off - middle, axis=-1))), len(off)


def _signed(camera: Camera, points: Array, seen: Seen, view: int) -> Array:
    return seen.pixels[view] - project(camera, points)


def _odd_one(cameras: Sequence[Camera], seen: Seen, trusted: Sequence[int]) -> int:
    """Give the one of three without which the other two agree much better than any other pair; -1 where none is."""
    scores = []
    for left in trusted:
        others = [other for other in trusted if other != left]
        scores.append((agree([cameras[i] for i in others], seen.views(others)).misfit, left))
    scores.sort()
    return scores[0][1] if scores[0][0] < _ODD * scores[1][0] else -1


def _fitted(cameras: Sequence[Camera], seen: Seen, view: int, trusted: Sequence[int]) -> Camera:
    points = agree([cameras[i] for i in trusted], seen.views(list(trusted)), steps=3).points
    return resect(cameras[view], points, seen, view) or cameras[view]


def _offset_finding(before: Camera, after: Camera, middle: Array, scatter: float, rays: int) -> Finding:
    return Finding(
        before.name,
        "biased",
        "warning",
        f"{before.name} sees everything ({middle[0]:+.0f}, {middle[1]:+.0f}) px aside of where the other cameras put "
        f"it ({rays} rays, scatter {scatter:.0f} px): it has moved since it was calibrated.",
        *_put(before, after),
    )


def _placed(identity: tuple[int, ...], where: Sequence[int], what: Sequence[int]) -> tuple[int, ...]:
    out = list(identity)
    for i, j in zip(where, what, strict=True):
        out[i] = j
    return tuple(out)


def _everywhere(change: Callable[[Camera], Camera]) -> Callable[[CameraSet], CameraSet]:
    return lambda cameras: replace(cameras, cameras=tuple(change(camera) for camera in cameras))


def _pose(camera: Camera, rotation: Array, translation: Array) -> Camera:
    return replace(camera, rotation=rotation, translation=translation)


def _turned(quarters: int) -> Callable[[Camera], Camera]:
    return lambda camera: turned_picture(camera, quarters)


def _scaled(factor: float) -> Callable[[Camera], Camera]:
    return lambda camera: replace(camera, translation=camera.translation * factor)


def _camera_flip(flip: Array) -> Callable[[Camera], Camera]:
    return lambda camera: _pose(camera, flip @ camera.rotation, flip @ camera.translation)


def _world_flip(flip: Array) -> Callable[[Camera], Camera]:
    return lambda camera: _pose(camera, camera.rotation @ flip, camera.translation)
