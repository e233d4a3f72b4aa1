"""Calibration on real footage: refined by the person, found from the person alone; and what keeps the error up.

    python -m inference bench calibration --data DIR [--only refine pairs people ...] [--out FILE]

The four-camera clip of Pose2Sim's demo (BSD-3), our own detector's raw keypoints, 100 frames. Its calibration is no
truth: cam03 of it disagrees with the others by about (+21, +17) px.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from ..calibration.alignment import difference, lay_over
from ..calibration.people import calibrate_from_people
from ..calibration.refine import refine_calibration
from ..calibration.scene import bundled, footage
from ..core.artifacts import Keypoints2D
from ..core.cameras import Camera, CameraSet
from ..core.metrics import limb_std
from ..core.skeletons import BODY, BODY_25
from ..motion.sides import agree_on_sides
from ..motion.triangulate import TriangulateSettings, triangulate
from ..motion.views import Scene, assemble
from ..protocol.events import SilentReporter
from . import motion
from .sections import check_data, parser_of
from .table import Table, each, write
from .views import JOINTS

Array = np.ndarray
_SEEN = 0.3
_METHODS = ("dlt", "ransac", "algebraic", "volumetric", "temporal")
_WHOLE, _KEPT, _CONSTANT = "whole clip", "whole clip, cameras kept", "limbs kept constant"


def bench_refine(views: Sequence[Keypoints2D], given: CameraSet) -> list[Table]:
    """The given calibration beside the refined ones, by every way of triangulating."""
    table = Table(
        "Refining the calibration of four real cameras",
        ("calibration", "triangulation", "limb length std (mm)", "reprojection mean (px)", "median (px)",
         "over 20 px (%)", "mean without those (px)"),
        note="17 joints, every view that saw them, nothing cut off but in the last column. Targets after refinement: "
        "8 mm, 7 px. 'limbs kept constant': the joints of the bundle adjustment itself; 'whole clip': what `motion` "
        "does, bones constant too, so here only the reprojection is a test, by the cameras as it moved them.",
    )  # fmt: skip
    joints = Table(
        "What keeps the mean error up: refined, ransac (px)",
        ("joint", *(camera.name for camera in given)),
        note="Means over the clip. What stands out is hidden from that camera, and guessed by the detector.",
    )
    quiet = SilentReporter()
    rigs = {"as given": given}
    for name, lenses in (("poses refined", False), ("poses and lenses refined", True)):
        start = time.perf_counter()
        rigs[name] = refine_calibration(views, given, quiet, lenses=lenses).cameras
        table.note += f" {name}: {time.perf_counter() - start:.1f} s."
    for name, rig in rigs.items():
        for method, (points, cameras) in _points(views, rig).items():
            errors = _errors(views, cameras, points)
            seen = errors[np.isfinite(errors)]
            table.add(
                name, method, 1000 * limb_std(points), float(seen.mean()), float(np.median(seen)),
                100 * float((seen > 20).mean()), float(seen[seen <= 20].mean()),
            )  # fmt: skip
            if name == "poses refined" and method == "ransac":
                means = np.nanmean(errors, axis=1).T
                for joint, row in zip(JOINTS, means, strict=True):
                    joints.add(BODY_25[joint], *(float(value) for value in row))
    return [table, joints]


def bench_pairs(views: Sequence[Keypoints2D], given: CameraSet) -> list[Table]:
    """Limb lengths by two cameras alone: all pairs."""
    refined = refine_calibration(views, given, SilentReporter()).cameras
    ways = (*_METHODS, _WHOLE, _CONSTANT)
    table = Table(
        "Limb length std with two cameras (mm)",
        ("cameras", *(f"{way}, {name}" for name in ("given", "refined") for way in ways)),
        note="Target: 14 mm for every pair.",
    )
    for pair in combinations(range(len(given)), 2):
        seen = [views[index] for index in pair]
        cells = []
        for rig in (given, refined):
            part = CameraSet(tuple(rig[index] for index in pair))
            found = _points(seen, part)
            cells += [1000 * limb_std(found[way][0]) for way in ways]
        table.add(" and ".join(given[index].name for index in pair), *cells)
    return [table]


def bench_people(views: Sequence[Keypoints2D], given: CameraSet) -> list[Table]:
    """From the person alone, against the given calibration and against it refined, after a similarity."""
    refined = refine_calibration(views, given, SilentReporter()).cameras
    table = Table(
        "Four cameras from the person alone: how far they are from the calibration",
        ("focal length", "against", "camera", "place (% of the mean baseline)", "direction (degrees)",
         "gravity (degrees)", "focal length (%)", "s"),
        note="After a least-squares similarity. Targets: 3 %, 1.5 degrees.",
    )  # fmt: skip
    for text, focal in (("found", None), ("known", float(given[0].matrix[0, 0]))):
        start = time.perf_counter()
        found = calibrate_from_people(views, SilentReporter(), focal_px=focal).cameras
        seconds = time.perf_counter() - start
        for name, rig in (("given", given), ("refined", refined)):
            laid = lay_over(found, rig, robust=False)
            off = difference(tuple(laid.cameras(found)), tuple(rig))
            tilt = float(np.degrees(np.arccos(laid.turn[2, 2])))
            for index, camera in enumerate(rig):
                longer = 100 * (found[index].matrix[0, 0] / camera.matrix[0, 0] - 1)
                table.add(text, name, camera.name, 100 * float(off.share[index]), float(off.degrees[index]), tilt,
                          float(longer), seconds)  # fmt: skip
    return [table]


def _points(views: Sequence[Keypoints2D], rig: CameraSet) -> dict[str, tuple[Array, CameraSet]]:
    """(T, 25, 3) by every way of triangulating, and the cameras that belong to them."""
    quiet, out = SilentReporter(), {}
    ways = {method: TriangulateSettings(method) for method in _METHODS}
    ways |= {_WHOLE: TriangulateSettings(whole_clip=True)}
    ways |= {_KEPT: TriangulateSettings(whole_clip=True, move_cameras=False)}
    for name, settings in ways.items():
        placed = triangulate(views, rig, settings, quiet)
        cameras = CameraSet(tuple(Camera.from_header(header) for header in placed.header["cameras"]))
        out[name] = (placed.positions[:, BODY], cameras)
    found = footage(views, rig, _SEEN)
    found = replace(found, scene=_agreed(views, rig).at(found.frames))
    fixed = np.zeros((len(rig), 2))
    out[_CONSTANT] = (bundled(found, rig, moved=fixed, report=quiet).points, rig)
    return out


def _agreed(views: Sequence[Keypoints2D], rig: CameraSet) -> Scene:
    scene = assemble(views, rig, _SEEN).body()
    return scene.exchanged(agree_on_sides(scene.rays(), 25, fps=views[0].fps, height=1.6))


def _errors(views: Sequence[Keypoints2D], rig: CameraSet, points: Array) -> Array:
    """(N, T, 17) px, NaN where a view did not see the joint."""
    scene = _agreed(views, rig)
    scene = scene.at(slice(0, len(points)))
    error = np.linalg.norm(scene.error_px(points)[:, :, JOINTS], axis=-1)
    return np.where(scene.confidence[:, :, JOINTS] >= _SEEN, error, np.nan)


SECTIONS: dict[str, Callable[[Sequence[Keypoints2D], CameraSet], list[Table]]] = {
    "refine": bench_refine,
    "pairs": bench_pairs,
    "people": bench_people,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen sections and print their tables."""
    parser = parser_of("calibration", __doc__, list(SECTIONS))
    parser.add_argument("--keypoints", type=Path, help="a folder of keypoints_2d files in place of detection")
    args = parser.parse_args(arguments)
    clips, given = motion.footage(check_data(args.data))
    if args.keypoints is not None:
        views = [Keypoints2D.load(next(args.keypoints.glob(f"*{clip.stem}*.npz"))) for clip in clips]
    else:
        views = motion.detections(clips, unswap=False)
    tables = []
    for name in each(args.only):
        tables += SECTIONS[name](views, given)
    write(tables, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
