"""Photos of many people for `head_shape`: who they are, how far their heads reach, and what the detector reads there.

People are drawn in turn from the head model and from mixtures of avatars (`studio/mixed.py`), some of them with an
avatar's wig, and all are laid by their skin on one reference, so that size and place say nothing. Nobody of
`portraits.held_out` is among them, nor is an avatar of theirs in a mixture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ..core.cameras import Camera, project, unproject
from ..head.crop import of_points
from ..head.frame import CENTRE, similarity
from ..head.guess import FACE_M, closed
from ..head.nearest import Meshed
from ..nets.head_shape import RINGS, SPOKES, directions
from ..sight.faces import Faces, square_of
from . import portraits
from .script import LOG, Run
from .studio import heads, mixed
from .studio.heads import Head
from .studio.portrait import Light, Portrait
from .studio.render import look_at

Array = np.ndarray
SIDE = 112  # px of a kept crop, of which the middle 96 are read
MARGIN = 8
NOSE_TIP = np.array([0.0, -0.0305, -0.0031])
_PHOTO = 224  # px
_FINE = 768  # texels of a side over which textures are made smaller
_WIGS = 0.4  # of people wear one
_SMILES = 0.3  # of those of the head model
_FRONT = slice(0, RINGS * SPOKES, 23)  # directions that are laid on the reference
_PRESENT = 0.5  # of a face that the detector reads
_OUTSIDE = 0.3  # metres from the centre, where rays begin
_LEAST_M = 0.03  # of a radius: shorter rays come in through an open neck
_REFERENCE, _OPEN_M = 40, 0.1  # people whose mean all others are laid on; where none of them has skin
_PHOTOS = 4  # from in front, from the left, from the right, and from anywhere
_SCALED = 0.15  # of the logarithm of the scale by which a head is laid on the reference
_DRAWN_FROM = 3000  # seeds of the head model
_HIDDEN_M = 0.004  # a point may be so far behind what the camera sees of it


@dataclass(frozen=True)
class Subject:
    """Somebody in photos.

    radii (V,) metres, NaN where nothing is, and skin (V,), those of the skin alone; images (P, S, S, 3) uint8, masks
    (P, S, S) uint8; points (P, 478, 3): x, y and guessed depth, in sides of the crop, its middle 96 pixels being 0 to
    1; places (P, 478, 3) metres, NaN where the camera does not see what the detector shows.
    """

    radii: Array
    skin: Array
    images: Array
    masks: Array
    points: Array
    places: Array


def names(data: Path, people: int) -> list[str]:
    """Whom to draw: one of two from the head model, one of two mixed; avatars themselves first."""
    avatars = [name for name in heads.valid_names(data) if name not in portraits.HELD_OUT]
    others = [name for k in range(people) for name in (f"ict_{_DRAWN_FROM + k}", f"mix_{k}")]
    return [*avatars, *others][:people]


def make(data: Path, name: str) -> Head:
    """Somebody in the frame of heads, cut off at its sphere.

    Two in five of those who are drawn or mixed wear a wig; three in ten of those who are drawn smile.
    """
    kind, seed = name.split("_", 1)
    avatars = tuple(item for item in heads.valid_names(data) if item not in portraits.HELD_OUT)
    if kind not in {"ict", "mix"}:
        return portraits.make(data, name)
    rng = np.random.default_rng([19, *name.encode()])
    wig = rng.random() < _WIGS
    if kind == "mix":
        head = mixed.make(data, int(seed), avatars)
    else:
        other = np.random.default_rng([23, *name.encode()])
        also = heads.smile(other) if other.random() < _SMILES else None
        head = heads.make_ict(data, int(seed), hair=not wig, also=also).canonical()
    if wig:
        head = mixed.wigged(data, head, str(rng.choice(mixed.wigs(data, avatars))), rng)
    return portraits.cut_off(head)


def reach(portrait: Portrait) -> Array:
    """(V,) metres from the centre to the outside of a head, NaN where nothing is."""
    rays = directions()
    found = _OUTSIDE - portrait.meet(CENTRE + _OUTSIDE * rays, -rays)
    return np.where(found > _LEAST_M, found, np.nan)


def bare(head: Head, rays: Array) -> Array:
    """(N,) metres from the centre to the skin along rays (N, 3), NaN where there is none."""
    found = Meshed(head.vertices, head.faces[head.skin]).cast(CENTRE + _OUTSIDE * rays, -rays)
    return np.where(found.face >= 0, _OUTSIDE - found.depth, np.nan)


def lay(head: Head, mesh: Meshed, steps: int = 30) -> tuple[float, Array, Array]:
    """Scale, rotation and translation that bring the skin of a face onto a `closed` one, as faces are measured."""
    rays = directions()[_FRONT]
    points = CENTRE + rays * bare(head, rays)[:, None]
    points = points[np.linalg.norm(points - NOSE_TIP, axis=1) < FACE_M]
    total = similarity(points, points)
    for _ in range(steps):
        moved = total[0] * points @ total[1].T + total[2]
        total = similarity(points, mesh.nearest(moved).points)
    return total


def photograph(head: Head, faces: Faces, count: int, rng: np.random.Generator) -> Subject | None:
    """Photos of a head from in front of it and from its sides, and what is read; None where nothing is."""
    portrait, found = Portrait(head), []
    radii, skin = reach(portrait), bare(head, directions())
    for k in range(count):
        camera = _camera(rng, k)
        image, mask, depth = portrait.photograph(camera, Light.drawn(rng), supersample=1)
        shown = (image + (1 - mask[..., None]) * rng.uniform(40, 220, 3)).clip(0, 255).astype(np.uint8)
        face = _read(faces, shown, project(camera, head.landmarks))
        if face is None:
            continue
        square = of_points(face[:, :2])
        wider = replace(square, side=square.side * SIDE / (SIDE - 2 * MARGIN))
        cover = wider.cut((mask * 255).astype(np.uint8), SIDE)
        points = square.place(face[:, :2], face[:, 2])
        found.append((wider.cut(image, SIDE), cover, points, _places(camera, depth, face[:, :2])))
    if not found:
        return None
    images, masks, points, places = (np.stack(column) for column in zip(*found, strict=True))
    return Subject(radii, skin, images, masks, points.astype(np.float32), places.astype(np.float32))


def _read(faces: Faces, image: Array, marks: Array) -> Array | None:
    """(478, 3) px: the median of three readings of the face about six landmarks (6, 2) px; None where there is none."""
    low, high = marks.min(0), marks.max(0)
    seen = faces.read_square(image, (*(low + high) / 2, 2.6 * float((high - low).max()), 0.0))
    seen = faces.read_square(image, square_of(seen[0])) if seen and seen[1] > _PRESENT else None
    if seen is None:
        return None
    x, y, side, angle = square_of(seen[0])
    varied = [faces.read_square(image, (x, y, side * size, angle + turn)) for turn, size in ((0.1, 0.92), (-0.1, 1.1))]
    return np.median([seen[0], *(other[0] for other in varied if other)], 0)


def _camera(rng: np.random.Generator, k: int) -> Camera:
    """Of somebody's kth photo: in front, left, right, anywhere; from 0.35 to 1.6 m, as selfies and portraits."""
    side = rng.uniform(15, 60)
    at = np.radians((rng.normal() * 8, -side, side, rng.uniform(-52, 52))[k % 4])
    up, distance = np.radians(np.clip(2 + rng.normal() * 7, -20, 20)), np.exp(rng.uniform(np.log(0.35), np.log(1.6)))
    face = np.array([0.0, 0.03, -0.01])
    eye = face + distance * np.array([np.sin(at) * np.cos(up), -np.cos(at) * np.cos(up), np.sin(up)])
    focal = _PHOTO * rng.uniform(0.85, 1.1) * distance / 0.34
    middle = face + rng.normal(size=3) * 0.012
    return look_at("photo", (_PHOTO, _PHOTO), focal, eye, middle, roll_rad=rng.normal() * 0.05)


def _places(camera: Camera, depth: Array, pixels: Array) -> Array:
    """(478, 3) metres where pixels see something, NaN elsewhere and where its depth jumps."""
    held = np.where(depth > 0, depth, np.nan).astype(np.float32)
    x, y = pixels[:, 0].astype(np.float32), pixels[:, 1].astype(np.float32)
    at = cv2.remap(held, x, y, cv2.INTER_LINEAR, borderValue=[float("nan")] * 4)[:, 0].astype(float)
    near = cv2.remap(cv2.erode(np.nan_to_num(held), np.ones((3, 3))), x, y, cv2.INTER_NEAREST)[:, 0]
    far = cv2.remap(cv2.dilate(np.nan_to_num(held, nan=9.0), np.ones((3, 3))), x, y, cv2.INTER_NEAREST)[:, 0]
    at[(far - near) > 3 * _HIDDEN_M] = np.nan
    return unproject(camera, pixels, at)


def mean_reach(data: Path, people: list[str]) -> Array:
    """(V,) metres: the mean of some people's skin, to lay others on."""
    parts = [bare(make(data, name), directions()) for name in people]
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.nanmean(parts, 0), nan=_OPEN_M)


def draw(data: Path, people: int, run: Run) -> None:
    """Photograph everybody who is missing in the folder."""
    run.out.mkdir(parents=True, exist_ok=True)
    everybody = names(data, people)
    path = run.out / "reference.npy"
    if not path.exists():
        spread = np.linspace(0, len(everybody) - 1, _REFERENCE).astype(int)
        np.save(path, mean_reach(data, [everybody[k] for k in spread]))
    reference = closed(np.load(path, allow_pickle=False))
    with Faces() as faces:
        for name in run.each("photograph", everybody):
            target = run.out / f"{name}.npz"
            if target.exists():
                continue
            rng = np.random.default_rng([5, *name.encode()])
            head = make(data, name).coarser(_FINE, 3)
            laid = lay(head, reference)
            head = head.moved(*laid)
            count = _PHOTOS if name.startswith(("ict_", "mix_")) else 3 * _PHOTOS
            fits = abs(np.log(laid[0])) < _SCALED
            found = photograph(head, faces, count, rng) if fits else None
            if found is None:
                LOG.info("%s is left out: scale %.2f, or no face is found", name, laid[0])
                continue
            partial = target.with_suffix(".partial.npz")
            np.savez(partial, **vars(found))
            partial.replace(target)
