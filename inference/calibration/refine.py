"""A calibration that has moved, put right by the people in the clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.cameras import CameraSet
from ..core.metrics import limb_std
from ..core.triangulation import intersect
from ..motion.rig_checks import check_cheirality, check_height, measured_height
from ..motion.views import check_image_sizes, check_people, check_rotations, match_cameras, synchronise
from ..protocol.events import Reporter
from .alignment import difference, lay_over
from .bundle import FIXED, Lens
from .result import Calibrated
from .scene import Footage, agreed, bundled, error_figures, errors_px, footage, placed

_LENSES = Lens(focal=0.02, principal=0.01, k1=0.02)  # what a lens changes by zoom, focus and stabilisation
_ROUNDS = 2
_FAR = 0.05  # of the baseline: a camera that has surely moved
_FAR_DEG = 3.0


def refine_calibration(
    views: Sequence[Keypoints2D],
    cameras: CameraSet,
    report: Reporter,
    *,
    lenses: bool = False,
    min_confidence: float = 0.3,
) -> Calibrated:
    """Adjust the poses of cameras, and their lenses if asked for, to what all views saw of the people.

    The result stays in the given world: most cameras keep their places, one that was knocked does not pull them along.
    Raises:
        InputError: views and calibration do not fit together, or too little is seen by several cameras.
    """
    given = match_cameras(views, cameras)
    check_image_sizes(views, given, report)
    check_rotations(given)
    views = synchronise(views, report)
    check_people(views, min_confidence, report)
    found = footage(views, given, min_confidence)
    check_cheirality(found.scene)
    check_height(measured_height(intersect(found.scene.rays()).reshape(*found.scene.weight.shape[1:], 3)))
    current = given
    adjusted = None
    for _ in range(_ROUNDS):
        found = agreed(views, found, current, min_confidence)
        adjusted = bundled(found, given, _LENSES if lenses else FIXED, report=report)
        current = lay_over(adjusted.cameras, given).cameras(adjusted.cameras)
    assert adjusted is not None
    return Calibrated(current, _figures(found, given, current, adjusted.clock, min_confidence), _notes(given, current))


def _figures(
    found: Footage, given: CameraSet, cameras: CameraSet, clock: np.ndarray, min_confidence: float
) -> dict[str, object]:
    before, after = (replace(found.scene, cameras=rig) for rig in (given, cameras))
    in_step = replace(after, positions=after.positions + clock[:, None, None, None] * found.speed)
    moved = difference(tuple(cameras), tuple(given))
    errors = [errors_px(scene, min_confidence) for scene in (before, after, in_step)]
    rows = zip(*(error_figures(error) for error in errors), strict=True)
    return {
        "method": "refine",
        "frames": len(found.frames),
        "reprojection_before_px": round(float(np.nanmean(errors[0])), 3),
        "reprojection_px": round(float(np.nanmean(errors[1])), 3),
        "reprojection_in_step_px": round(float(np.nanmean(errors[2])), 3),
        "limb_std_before_mm": round(1000 * limb_std(placed(before)), 2),
        "limb_std_mm": round(1000 * limb_std(placed(after)), 2),
        "height_m": round(measured_height(placed(after)), 3),
        "cameras": [
            {
                "name": camera.name,
                "reprojection_before_px": one["mean"],
                "reprojection_px": two["mean"],
                "reprojection_median_px": two["median"],
                "reprojection_p95_px": two["p95"],
                "reprojection_in_step_px": three["mean"],
                "moved_m": round(float(metres), 4),
                "turned_deg": round(float(degrees), 3),
                "clock_ms": round(1000 * float(ahead), 2),
            }
            for camera, (one, two, three), metres, degrees, ahead in zip(
                cameras, rows, moved.metres, moved.degrees, clock, strict=True
            )
        ],
        "scale": "as given",
    }


def _notes(given: CameraSet, cameras: CameraSet) -> tuple[str, ...]:
    moved, notes = difference(tuple(cameras), tuple(given)), []
    for camera, metres, share, degrees in zip(cameras, moved.metres, moved.share, moved.degrees, strict=True):
        if share > _FAR or degrees > _FAR_DEG:
            notes.append(
                f"Camera {camera.name} was {100 * metres:.0f} cm and {degrees:.1f} degrees away from where its "
                "calibration put it."
            )
    return tuple(notes)
