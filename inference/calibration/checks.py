"""The lie detector: what is wrong with a calibration, whose fault it is, and what would put it right.

A calibration can be wrong and look fine: a reprojection error of 0.28 px has been seen with feet 59 cm under the floor.
So nothing here counts as proof by itself: the numbers of each camera, the sizes of the clips, whether the views agree,
and what they make of the person - height, which way is up, where the feet stand - are looked at one after the other,
each with the findings before it put right, so that one lie does not look like ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import permutations, product

import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.cameras import Camera, CameraSet
from ..protocol.events import Reporter
from . import worlds
from .evidence import Agreement, Seen, agree, gather
from .lenses import Finding, check_lens, check_numbers, check_rotation, on_camera
from .suspects import AGREE, biased, exchanged_files, explain, order_finding, turned_picture

__all__ = ["Finding", "apply_all", "check_calibration", "report_findings"]

Array = np.ndarray
Size = tuple[int, int]
_PADDING = 0.02  # of the image: padding of video codecs (1080 -> 1088), not another calibration
_SAME_SHAPE = 0.01
_FEW_FILES = 6  # up to so many every order is tried
_BLIND = 0.05  # of a view's frames
_DOUBTFUL = ("not-finite", "focal", "duplicate")  # codes that forbid looking at the clips


def check_calibration(
    cameras: CameraSet, *, views: Sequence[Keypoints2D] = (), sizes: Sequence[Size] | None = None
) -> tuple[Finding, ...]:
    """Look for everything that is usually wrong, in the order in which it must be put right.

    Args:
        views: 2D keypoints of the clips, one for each camera, in its order or called after it; without them only the
            cameras themselves are looked at.
        sizes: of the clips, where there are no views.
    """
    if not len(cameras):
        return ()
    views = _in_order(views, cameras)
    if views and len(views) != len(cameras):
        text = f"There are {len(views)} clips and {len(cameras)} cameras in the calibration."
        return (Finding("", "count", "error", text),)
    found = [finding for camera in cameras if (finding := check_numbers(camera))]
    if any(finding.severity == "error" and finding.apply is None for finding in found):
        return tuple(found)
    now = apply_all(cameras, found)
    sights = gather(views) if len(views) > 1 else None
    for step in (_check_sizes, _check_cameras, _check_views):
        new = step(now, sights, _sizes(views, sizes))
        found += new
        now = apply_all(now, new)
    return tuple(found)


def apply_all(cameras: CameraSet, findings: Iterable[Finding]) -> CameraSet:
    """Put right what can be, in the order of the findings."""
    for finding in findings:
        if finding.apply is not None:
            cameras = finding.apply(cameras)
    return cameras


def report_findings(findings: Iterable[Finding], report: Reporter) -> None:
    """Say errors and warnings, each with what would put it right."""
    for finding in findings:
        if finding.severity != "note":
            report.warning("calibration", f"{finding.text} {finding.change}".strip())


def _in_order(views: Sequence[Keypoints2D], cameras: CameraSet) -> list[Keypoints2D]:
    """Put views in the order of the cameras where all are called after one."""
    named = {str(view.header.get("view", "")): view for view in views}
    if len(named) == len(views) and set(named) == set(cameras.names):
        return [named[name] for name in cameras.names]
    return list(views)


def _sizes(views: Sequence[Keypoints2D], sizes: Sequence[Size] | None) -> list[Size] | None:
    if views:
        return [view.image_size for view in views]
    return None if sizes is None else list(sizes)


def _check_sizes(cameras: CameraSet, sights: tuple[Seen, Array] | None, sizes: list[Size] | None) -> list[Finding]:
    """Compare the sizes of clips with those the cameras were calibrated for."""
    if sizes is None or len(sizes) != len(cameras):
        return []
    found = _check_files(cameras, sights, sizes)
    cameras = apply_all(cameras, found)
    exchanged = [camera for camera, size in zip(cameras, sizes, strict=True) if _is_exchanged(camera.size, size)]
    if exchanged:
        found += _check_turned(cameras, exchanged, sights)
    for camera, size in zip(cameras, sizes, strict=True):
        if camera.size != size and not _is_exchanged(camera.size, size):
            found.append(_size_finding(camera, size))
    return found


def _check_files(cameras: CameraSet, sights: tuple[Seen, Array] | None, sizes: list[Size]) -> list[Finding]:
    """Where clips have the sizes of each other's cameras, they may have been exchanged, or each turned."""
    given, few = [camera.size for camera in cameras], len(cameras) <= _FEW_FILES
    if sights is None or given == sizes or sorted(given) != sorted(sizes) or not few:
        return []
    fitting = [order for order in permutations(range(len(cameras))) if [given[j] for j in order] == sizes]
    tried = [(agree(exchanged_files(order)(cameras).cameras, sights[0].some(20)).score, order) for order in fitting]
    score, order = min(tried)
    return [order_finding(cameras, order)] if score <= AGREE else []


def _is_exchanged(calibrated: Size, seen: Size) -> bool:
    return calibrated != seen and calibrated == seen[::-1]


def _check_turned(cameras: CameraSet, exchanged: Sequence[Camera], sights: tuple[Seen, Array] | None) -> list[Finding]:
    """Width and height are exchanged: the clips were turned, this way or that, or the numbers are only written so."""
    ways = ["resized"] if all(_is_centred(c, (c.size[1], c.size[0])) for c in exchanged) else [1, 3, "resized"]
    few = len(exchanged) <= 3
    choices = product(ways, repeat=len(exchanged)) if few else ([way] * len(exchanged) for way in ways)
    best, least = [ways[0]] * len(exchanged), np.inf
    for choice in choices:
        found = [_turn_finding(camera, way) for camera, way in zip(exchanged, choice, strict=True)]
        if sights is None:
            break
        score = agree(apply_all(cameras, found).cameras, sights[0]).score
        if score < least:
            best, least = list(choice), score
    known = sights is not None or ways == ["resized"]
    return [_turn_finding(camera, way, known=known) for camera, way in zip(exchanged, best, strict=True)]


def _is_centred(camera: Camera, size: Size) -> bool:
    off = (camera.matrix[:2, 2] - (np.array(size) - 1) / 2) / np.array(size)
    here = (camera.matrix[:2, 2] - (np.array(camera.size) - 1) / 2) / np.array(camera.size)
    return bool(np.abs(off).max() < 0.1 < np.abs(here).max())


def _turn_finding(camera: Camera, way: int | str, *, known: bool = True) -> Finding:
    width, height = camera.size
    text = (
        f"The clip of {camera.name} is {height} x {width} px, but {camera.name} was calibrated at {width} x {height} px"
    )
    if not known:
        text += ": the clip was turned, and without seeing a person it is not clear which way."
        return Finding(camera.name, "turned", "error", text)
    if way == "resized":
        change = f"Width and height of {camera.name} would be exchanged, nothing else."
        return Finding(
            camera.name, "turned", "error", f"{text}: the two are exchanged in the calibration.", change,
            on_camera(camera.name, lambda other: replace(other, size=other.size[::-1])),
        )  # fmt: skip
    turn = "clockwise" if way == 1 else "anticlockwise"
    change = f"The calibration of {camera.name} would be turned {turn} by 90 degrees."
    return Finding(
        camera.name, "turned", "error", f"{text}: the clip was turned {turn}.", change,
        on_camera(camera.name, lambda other: turned_picture(other, int(way))),
    )  # fmt: skip


def _size_finding(camera: Camera, size: Size) -> Finding:
    ratio = np.array(size, float) / np.array(camera.size, float)
    text = (
        f"The clip of {camera.name} is {size[0]} x {size[1]} px, but {camera.name} was calibrated at "
        f"{camera.size[0]} x {camera.size[1]} px"
    )
    if np.abs(ratio - 1).max() <= _PADDING:
        off = int(np.abs(np.array(size) - camera.size).max())
        return Finding(camera.name, "size", "note", f"{text}: points may be off by {off} px where the clip was padded.")
    if abs(ratio[0] / ratio[1] - 1) <= _SAME_SHAPE:
        change = f"The lens of {camera.name} would be scaled by {ratio[0]:.4g}."
        apply = on_camera(camera.name, lambda other: _resized(other, size))
        return Finding(camera.name, "size", "error", f"{text}: it was scaled.", change, apply)
    return Finding(camera.name, "size", "error", f"{text}: it was cropped, and the calibration does not say where.")


def _resized(camera: Camera, size: Size) -> Camera:
    """Scale a picture; the middle of the first pixel is (0, 0), so that corners are at -0.5."""
    scale = np.array(size, float) / np.array(camera.size, float)
    matrix = camera.matrix.copy()
    matrix[:2, :2] *= scale[:, None]
    matrix[:2, 2] = (matrix[:2, 2] + 0.5) * scale - 0.5
    return replace(camera, size=size, matrix=matrix)


def _check_cameras(cameras: CameraSet, sights: tuple[Seen, Array] | None, _: list[Size] | None) -> list[Finding]:
    found = [finding for camera in cameras if (finding := check_rotation(camera))]
    for camera in cameras:
        found += list(check_lens(camera))
    found += list(worlds.check_places(cameras))
    mirrored = [camera.name for camera in cameras if np.linalg.det(camera.rotation) < 0]
    if mirrored and sights is None:
        text = f"The rotations of {', '.join(mirrored)} are mirrored: their determinant is -1."
        found.append(Finding(mirrored[0] if len(mirrored) == 1 else "", "mirrored", "error", text))
    if sights is None and not mirrored:
        found += list(worlds.check_upright_cameras(cameras))
    return found


def _check_views(cameras: CameraSet, sights: tuple[Seen, Array] | None, _: list[Size] | None) -> list[Finding]:
    """Look at whether the views agree, and what they make of the person."""
    if sights is None:
        return []
    seen, share = sights
    found = [
        Finding(
            camera.name, "blind", "warning", f"{camera.name} shows somebody in only {100 * part:.0f} % of the frames."
        )
        for camera, part in zip(cameras, share, strict=True)
        if part < _BLIND
    ]
    able = [view for view, part in enumerate(share) if part >= _BLIND]
    if len(able) < 2:
        return found
    some = tuple(cameras[view] for view in able)
    new, some, sights_now, agreement = explain(some, seen.views(able))
    found += [_widened(finding, cameras, able) for finding in new]
    if agreement.score <= 2 * AGREE:
        new, some = biased(some, sights_now)
        found += new
        found += _check_world(CameraSet(some), agree(some, sights_now) if new else agreement)
    return found


def _widened(finding: Finding, cameras: CameraSet, able: Sequence[int]) -> Finding:
    """Let a change of the cameras that see somebody leave the others where they are."""
    change = finding.apply
    if change is None or len(able) == len(cameras):
        return finding

    def apply(rig: CameraSet) -> CameraSet:
        done = change(replace(rig, cameras=tuple(rig[view] for view in able)))
        out = list(rig.cameras)
        for place, camera in zip(able, done, strict=True):
            out[place] = camera
        return replace(rig, cameras=tuple(out))

    return replace(finding, apply=apply)


def _check_world(cameras: CameraSet, agreement: Agreement) -> list[Finding]:
    found, points = list(worlds.check_depth(cameras, agreement.points)), agreement.points
    finding = worlds.check_unit(points)
    if finding is not None:
        found.append(finding)
        if finding.apply is not None:
            after = finding.apply(cameras)
            spread = [np.ptp([camera.centre for camera in rig], axis=0).max() for rig in (cameras, after)]
            points = points * (spread[1] / max(spread[0], 1e-9))
    finding = worlds.check_up(points)
    if finding is not None:
        found.append(finding)
        if finding.apply is not None:
            points = points @ (finding.apply(cameras)[0].rotation.T @ cameras[0].rotation).T
    finding = worlds.check_floor(points)
    return found if finding is None else [*found, finding]
