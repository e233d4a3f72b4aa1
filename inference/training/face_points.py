"""Where the detector's 478 face points lie in space on the heads of `portraits.py`, from several views of each.

python -m inference.training.face_points --data DIR --portraits DIR --out FILE

The file holds `names` (N,) and `points` (N, 478, 3) in the unit sphere of `head.frame`, NaN for heads on which the
detector finds no face in three views.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import mediapipe
import numpy as np

from ..core.triangulation import Rays, intersect, refine
from ..head.frame import CENTRE, to_sphere
from . import portraits
from .script import LOG, Run, make_parser, work_as_job
from .studio import heads
from .studio.portrait import Light, Portrait
from .studio.render import look_at

Array = np.ndarray
POINTS = 478
_AZIMUTHS = (-35, -22, -10, 0, 10, 22, 35)  # degrees
_SIZE = 400  # px


def place(head: heads.Head, mesh: Any) -> Array:
    """(478, 3) points of a head in the unit sphere, from seven views under even light."""
    light = Light(np.array([[0.75] * 3, *[[0.0] * 3] * 3]), np.array([0.0, -0.8, 0.6]), np.full(3, 0.25))
    portrait, cameras, seen = Portrait(head), [], []
    for degrees in _AZIMUTHS:
        at = np.radians(degrees)
        eye = CENTRE + [0.9 * np.sin(at), -0.9 * np.cos(at), 0.05]
        camera = look_at("view", (_SIZE, _SIZE), 1.05 * _SIZE * 0.9 / 0.36, eye, CENTRE - [0.0, 0.06, 0.02])
        image, mask, _ = portrait.photograph(camera, light)
        image = np.where(mask[..., None] > 0.5, image, 120).astype(np.uint8)
        found = mesh.process(image).multi_face_landmarks
        if found:
            cameras.append(camera)
            seen.append([[mark.x * _SIZE - 0.5, mark.y * _SIZE - 0.5] for mark in found[0].landmark])
    if len(cameras) < 3:
        return np.full((POINTS, 3), np.nan)
    pixels = np.array(seen)
    rays = Rays.of(cameras, pixels, np.ones(pixels.shape[:2]))
    return to_sphere(refine(intersect(rays), rays, scale=0.003))


def main() -> None:
    """Place the points of every scene."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--portraits", type=Path, required=True)
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    names = sorted(path.stem for path in options.portraits.glob("*.npz") if not path.stem.endswith("partial"))
    found = []
    with mediapipe.solutions.face_mesh.FaceMesh(  # type: ignore[attr-defined]
        static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.3
    ) as mesh:
        for name in run.each("place", names):
            found.append(place(portraits.make(options.data, name), mesh))
            LOG.info("%s %s", name, "no face" if np.isnan(found[-1]).any() else "")
    np.savez(options.out, names=np.array(names), points=np.array(found, np.float32))


if __name__ == "__main__":
    main()
