"""How well clean heads lie on dense ones, and whether their 52 shapes do what they are called.

python -m inference.bench.head_mesh --data DIR [--out FILE] [--people NAME ...]

True heads stand in for fitted ones, so that only the wrapping is measured; `measure` takes any.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.artifacts import HeadMesh, HeadSurface
from ..head.frame import from_sphere
from ..head.nearest import Meshed
from ..head.seams import depth_in_eye, seen_when_closed
from ..head.template import PARTS, Template, triangulate
from ..head.wrap import FACE_REACH, load_template, wrap
from ..training import portraits
from ..training.head_template import skin_surface

LOG = logging.getLogger("understudy.bench")
Array = np.ndarray
_NOSE = 4
_REGIONS = {
    "brow.L": (276, 283, 282, 295, 285, 300, 293, 334, 296, 336),
    "brow.R": (46, 53, 52, 65, 55, 70, 63, 105, 66, 107),
    "eye.L": (249, 390, 373, 374, 380, 381, 382, 398, 384, 385, 386, 387, 388, 466),
    "eye.R": (7, 163, 144, 145, 153, 154, 155, 173, 157, 158, 159, 160, 161, 246),
    "iris.L": (473, 474, 475, 476, 477),
    "iris.R": (468, 469, 470, 471, 472),
    "cheek.L": (280, 352, 411, 425, 330, 347, 266, 426),
    "cheek.R": (50, 123, 187, 205, 101, 118, 36, 206),
    "nose.L": (358, 327, 294, 278, 344, 440),
    "nose.R": (129, 98, 64, 48, 115, 220),
    "mouth.L": (291, 409, 270, 269, 375, 321, 405, 308, 415, 310, 324, 318),
    "mouth.R": (61, 185, 40, 39, 146, 91, 181, 78, 191, 80, 95, 88),
    "mouth": (0, 17, 13, 14, 11, 12, 15, 16, 37, 267, 84, 314),
    "jaw": (152, 148, 176, 149, 377, 400, 378, 199, 175),
}


_WANTED = {  # where shapes move the face, by the beginnings of their names; the first that fits counts
    "brow": ("brow",), "eyeLook": ("iris",), "eye": ("eye",), "cheekPuff": ("cheek",), "cheek": ("cheek", "eye"),
    "nose": ("nose", "cheek"), "jaw": ("jaw",), "mouth": ("mouth",), "tongue": ("mouth",),
}  # fmt: skip
_WHOLE = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")  # sides to go to, not sides of the face


def wanted_regions(shape: str) -> list[str]:
    """Where a shape should move the face, by its ARKit name."""
    places = next(places for start, places in _WANTED.items() if shape.startswith(start))
    side = {True: ".L", False: ".R"}[shape.endswith("Left")]
    if shape in _WHOLE or not shape.endswith(("Left", "Right")):
        side = ""
    return [name for name in _REGIONS if name.startswith(places) and name.endswith(side)]


@dataclass(frozen=True)
class ShapeFigure:
    """What a shape moves: mean and largest landmark in its regions, and the mean of all others; millimetres."""

    name: str
    inside_mm: float
    largest_mm: float
    outside_mm: float

    @property
    def holds(self) -> bool:
        """It moves what it should, and that more than the rest."""
        return self.inside_mm > 0.3 and self.inside_mm > 1.5 * self.outside_mm


@dataclass(frozen=True)
class MeshFigures:
    """Of one head.

    face_mm: mean distance from the wrapped face to the dense surface; face_95_mm: its 95th percentile; lids_mm: the
    least clearance of lids before eyeballs over all shapes; lips_mm: the largest gap between lips at rest;
    blink_percent: how much of an eyeball is seen from the front when it is closed, of what is seen when it is open.
    """

    face_mm: float
    face_95_mm: float
    lids_mm: float
    lips_mm: float
    blink_percent: float
    shapes: tuple[ShapeFigure, ...]


def measure(template: Template, mesh: HeadMesh, surface: HeadSurface) -> MeshFigures:
    """All figures of one head."""
    distance, weight = face_distances(template, mesh, surface)
    order = np.argsort(distance)
    within = np.cumsum(weight[order]) / weight.sum()
    rest = mesh.vertices
    lids = min(depth_in_eye(template, rest + key, side, rest).min() for key in mesh.shape_keys for side in "LR")
    upper, lower = rest[template.lips[:, 0]], rest[template.lips[:, 1]]
    return MeshFigures(
        1e3 * float(np.average(distance, weights=weight)),
        1e3 * float(distance[order][np.searchsorted(within, 0.95)]),
        1e3 * float(lids),
        1e3 * float(np.clip(upper[:, 2] - lower[:, 2], 0, None).max()),
        100.0 * max(_seen_in_blink(template, mesh, side) for side in ("Left", "Right")),
        tuple(shape_figure(template, mesh, str(name)) for name in mesh.shape_key_names),
    )


def face_distances(template: Template, mesh: HeadMesh, surface: HeadSurface) -> tuple[Array, Array]:
    """Distances (S,) metres from places on the wrapped skin near the nose to the surface, and their areas (S,)."""
    vertices = mesh.vertices if mesh.posed is None else mesh.posed
    triangles = triangulate(template.faces[template.face_part == PARTS.index("skin")])
    corner = vertices[triangles].astype(float)
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    places = np.concatenate([corner.mean(1), *((corner[:, k] + corner[:, (k + 1) % 3]) / 2 for k in range(3))])
    near = np.linalg.norm(places - template.landmarks(vertices)[_NOSE], axis=1) < FACE_REACH
    found = Meshed(surface.vertices, surface.faces).nearest(places[near])
    return np.linalg.norm(found.points - places[near], axis=1), np.tile(area, 4)[near]


def shape_figure(template: Template, mesh: HeadMesh, name: str) -> ShapeFigure:
    """What one shape moves."""
    key = mesh.shape_keys[list(mesh.shape_key_names).index(name)]
    moved = 1e3 * np.linalg.norm(template.landmarks(key), axis=1)
    if name == "tongueOut":
        tongue = 1e3 * np.linalg.norm(key[template.vertices_of("tongue")], axis=1)
        return ShapeFigure(name, float(tongue.mean()), float(tongue.max()), float(moved.mean()))
    inside = np.unique(np.concatenate([_REGIONS[region] for region in wanted_regions(name)]))
    outside = np.setdiff1d(np.arange(len(moved)), inside)
    return ShapeFigure(name, float(moved[inside].mean()), float(moved[inside].max()), float(moved[outside].mean()))


def _seen_in_blink(template: Template, mesh: HeadMesh, side: str) -> float:
    key = mesh.shape_keys[list(mesh.shape_key_names).index(f"eyeBlink{side}")]
    return seen_when_closed(template, mesh.vertices, mesh.vertices + key, side[0])


def report(figures: dict[str, MeshFigures]) -> str:
    """Markdown: a row a head, then a row a shape with means over heads."""
    lines = ["| head | face, mean mm | 95 % mm | lids clear mm | lips apart mm | seen through closed lids % | shapes |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, one in figures.items():
        held = sum(shape.holds for shape in one.shapes)
        lines.append(
            f"| {name} | {one.face_mm:.2f} | {one.face_95_mm:.2f} | {one.lids_mm:.2f} | {one.lips_mm:.2f} "
            f"| {one.blink_percent:.0f} | {held} of {len(one.shapes)} |"
        )
    lines += [
        "",
        "| shape | where it should move, mean mm | largest mm | elsewhere, mean mm | holds |",
        "|---|---|---|---|---|",
    ]
    for shapes in zip(*(one.shapes for one in figures.values()), strict=True):
        mean = [np.mean([getattr(shape, key) for shape in shapes]) for key in ("inside_mm", "largest_mm", "outside_mm")]
        held = sum(shape.holds for shape in shapes)
        lines.append(f"| {shapes[0].name} | {mean[0]:.2f} | {mean[1]:.2f} | {mean[2]:.2f} | {held} of {len(shapes)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure true heads that are not trained on."""
    import mediapipe

    from ..training.face_points import place

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--people", nargs="+", default=[*portraits.HELD_OUT, "ict_900", "ict_901", "ict_902", "ict_903"]
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    template, figures = load_template(), {}
    with mediapipe.solutions.face_mesh.FaceMesh(  # type: ignore[attr-defined]
        static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.3
    ) as finder:
        for name in options.people:
            head = portraits.make(options.data, name)
            marks, surface = from_sphere(place(head, finder)), skin_surface(head)
            figures[name] = measure(template, wrap(template, surface, marks), surface)
            LOG.info("%s: %.2f mm", name, figures[name].face_mm)
    text = report(figures)
    LOG.info("\n%s", text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
