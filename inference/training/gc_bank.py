"""Filmed bodies for GC-SSN: recorded poses on drawn shapes before drawn cameras, as masks and keypoints, with truth.

Frames: the view frame has the camera's place as its origin and is level with the camera: x right, y forward, z up.
Crops are squares about the person on the plane at distance one; the camera looks at their middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_closing
from torch import Tensor

from ..core.artifacts import read_npz
from ..core.rotations import matrix_from_rotvec
from ..nets.gc_body import PARENTS, PARTS, GcBody
from .motions import Motions
from .script import Run
from .surface import rest_directions as directions_of

Array = np.ndarray
SIDE = 96  # of the stored masks
MARGIN = 1.5  # side of a stored box over that of the person
_MIRROR = [
    next((i for i, (other, _, _) in enumerate(PARTS) if other == name[:-1] + {"L": "R", "R": "L"}.get(name[-1], "")), k)
    for k, (name, _, _) in enumerate(PARTS)
]
_INDEX = {name: k for k, (name, _, _) in enumerate(PARTS)}
_LEG, _ARM = ("thigh", "shin", "foot", "toes"), ("upperarm", "forearm", "hand")
_LIMBS = (  # what is taken from another recording at a time
    [k for name, k in _INDEX.items() if name.split(".")[0] in _LEG],
    *([_INDEX[f"{part}.{side}"] for part in limb] for limb in (_ARM, _LEG) for side in "LR"),
    [_INDEX[name] for name in ("spine_low", "spine_mid", "chest")],
)
_GRAFTED = 0.15  # of each limb
# Degrees (standard deviations) by which parts are turned at random: rigs and people differ in how they stand at rest,
# and the recordings that are trained on hold clavicles still.
_LOOSE = {
    "spine_low": 3, "spine_mid": 3, "chest": 3, "neck": 6, "head": 5, "clavicle": 5, "upperarm": 6, "forearm": 4,
    "hand": 8, "thigh": 3, "shin": 1, "foot": 5, "toes": 4,
}  # fmt: skip
_WILD = 0.6  # some are looser than others: standard deviation of the logarithm of how loose
_SHRUG_DEG = 25.0  # at most, of a clavicle whose arm points up
_TURNED_OUT = 0.2  # of the people turn their legs out at the hip,
_TURN_OUT_DEG, _SPREAD_DEG = (-15.0, 60.0), (-5.0, 35.0)  # by so much, and spread them


@dataclass(frozen=True)
class Bank:
    """N filmed bodies.

    rotations (N, 22, 3, 3) local, the first in the view frame; shape (N, S); place (N, 3) of the pelvis joint, metres,
    view frame; half (N,) half the side of the stored box, at distance one; masks (N, SIDE, SIDE) bool, or none of them;
    keypoints (N, 2, K, 3) relative to the pelvis joint, on the skin and as joint centres.
    """

    rotations: Tensor
    shape: Tensor
    place: Tensor
    half: Tensor
    masks: Tensor
    keypoints: Tensor

    def save(self, path: Path) -> None:
        """Write one npz."""
        arrays = {name: getattr(self, name).numpy() for name in self.__dataclass_fields__}
        np.savez(path, **{**arrays, "masks": np.packbits(arrays["masks"].reshape(-1, SIDE * SIDE), axis=1)})

    @staticmethod
    def load(path: Path) -> Bank:
        """Read what `save` wrote."""
        arrays = read_npz(path)
        masks = np.unpackbits(arrays["masks"], axis=1).reshape(-1, SIDE, SIDE).astype(bool)  # none: (0, SIDE, SIDE)
        return Bank(**{name: torch.from_numpy(value) for name, value in {**arrays, "masks": masks}.items()})


def draw_shapes(count: int, body: GcBody, rng: np.random.Generator) -> Tensor:
    """(count, S): mostly adults, one in ten a child, every build."""
    names = body.config.phenotypes
    out = rng.beta(2.0, 2.0, (count, len(names)))
    woman = rng.random(count) < 0.5
    out[:, names.index("gender")] = np.clip(rng.normal(np.where(woman, 0.9, 0.1), 0.12), 0, 1)
    grown = rng.uniform(0.58, 0.95, count)
    out[:, names.index("age")] = np.where(rng.random(count) < 0.1, rng.uniform(0.25, 0.58, count), grown)
    changes = 0.3 * rng.normal(size=(count, len(body.config.changes)))
    return torch.from_numpy(np.concatenate([out, changes.clip(-1, 1)], 1)).float()


def local_rotations(turned: Array) -> Array:
    """Rotations of parts from rest to the world (N, 22, 3, 3), relative to their parents'."""
    out = turned.copy()
    for part, parent in enumerate(PARENTS[1:], 1):
        out[:, part] = turned[:, parent].transpose(0, 2, 1) @ turned[:, part]
    return out


def draw_poses(motions: Motions, count: int, rng: np.random.Generator, *, varied: bool = False) -> Array:
    """(count, 22, 3, 3) local rotations of recorded frames: turned about, mirrored, some with the legs of others.

    varied: arms, backs and single legs of others, too, looser, legs turned out and clavicles that move; to train on.
    """
    chance = motions.weights / motions.weights.sum()
    picked = rng.choice(len(chance), count, p=chance)
    out = local_rotations(motions.rotations[picked].astype(float))
    other = local_rotations(motions.rotations[rng.choice(len(chance), count, p=chance)].astype(float))
    for limb in _LIMBS if varied else _LIMBS[:1]:
        grafted = np.flatnonzero(rng.random(count) < _GRAFTED)
        out[grafted[:, None], limb] = other[grafted[:, None], limb]
    if varied:
        out = shrugged(turned_out(loosened(out, rng), rng), rng)
    flip = np.diag([-1.0, 1.0, 1.0])
    mirrored = np.flatnonzero(rng.random(count) < 0.5)
    out[mirrored] = flip @ out[mirrored][:, _MIRROR] @ flip
    yaw = np.zeros((count, 3))
    yaw[:, 2] = rng.uniform(-np.pi, np.pi, count)
    out[:, 0] = matrix_from_rotvec(yaw) @ out[:, 0]
    return out


def loosened(rotations: Array, rng: np.random.Generator) -> Array:
    """Local rotations (N, 22, 3, 3) with every part but the first turned a little at random."""
    degrees = np.array([0.0, *(_LOOSE[name.split(".")[0]] for name, _, _ in PARTS[1:])])
    wild = np.exp(_WILD * rng.normal(size=(len(rotations), 1, 1)))
    turns = np.radians(degrees)[:, None] * wild * rng.normal(size=(*rotations.shape[:2], 3))
    return rotations @ matrix_from_rotvec(turns)


def turned_out(rotations: Array, rng: np.random.Generator) -> Array:
    """Local rotations, the legs of some turned about the pelvis' upright axis and spread, as dancers do."""
    out = rotations.copy()
    some = rng.random(len(out)) < _TURNED_OUT
    both = rng.random(len(out)) < 0.5  # alike
    first = rng.uniform(0, 1, (len(out), 2))
    for side, sign in (("L", 1.0), ("R", -1.0)):
        share = np.where(both[:, None], first, rng.uniform(0, 1, (len(out), 2)))
        turn, spread = np.zeros((len(out), 3)), np.zeros((len(out), 3))
        turn[:, 2] = sign * some * np.radians(np.interp(share[:, 0], (0, 1), _TURN_OUT_DEG))
        spread[:, 1] = -sign * some * np.radians(np.interp(share[:, 1], (0, 1), _SPREAD_DEG))
        thigh = _INDEX[f"thigh.{side}"]
        out[:, thigh] = matrix_from_rotvec(spread) @ matrix_from_rotvec(turn) @ out[:, thigh]
    return out


def shrugged(rotations: Array, rng: np.random.Generator) -> Array:
    """Local rotations with clavicles that rise with the arms, up to 25 degrees; arms keep where they point."""
    out = rotations.copy()
    for side, sign in (("L", -1.0), ("R", 1.0)):
        clavicle, arm = _INDEX[f"clavicle.{side}"], _INDEX[f"upperarm.{side}"]
        pointing = out[:, clavicle] @ out[:, arm] @ np.array([-sign, 0.0, -1.0]) / np.sqrt(2)  # at rest: out and down
        raised = np.clip((np.arcsin(np.clip(pointing[:, 2], -1, 1)) + 0.5) / 2.0, 0, 1)
        turn = np.zeros((len(out), 3))
        turn[:, 1] = sign * np.radians(_SHRUG_DEG) * raised * rng.random(len(out))
        lift = matrix_from_rotvec(turn)
        back = out[:, clavicle].transpose(0, 2, 1) @ lift.transpose(0, 2, 1) @ out[:, clavicle]
        out[:, clavicle], out[:, arm] = lift @ out[:, clavicle], back @ out[:, arm]
    return out


def tilted(rotations: Array, rng: np.random.Generator) -> Array:
    """Local rotations, the first as a camera sees it that looks down a little and is held level more or less."""
    count = len(rotations)
    tilt = np.zeros((count, 3))
    tilt[:, 0] = np.radians(np.clip(rng.normal(6, 10, count), -25, 45))
    tilt[:, 1] = np.radians(rng.normal(0, 3, count))
    return np.concatenate([(matrix_from_rotvec(tilt) @ rotations[:, 0])[:, None], rotations[:, 1:]], 1)


def rest_directions() -> Array:
    """(22, 3) where the parts of the average body point at rest, as `motions.load` wants it."""
    from anny import Anny

    model: Any = Anny()
    heads = model(phenotype_kwargs={"age": 0.67})["rest_bone_heads"][0].detach().numpy()
    return directions_of({"heads": dict(zip(model.bone_labels, heads, strict=True))})


def film(
    motions: Motions, body: GcBody, dense: GcBody | None, count: int, rng: np.random.Generator, *, run: Run,
    varied: bool = False,
) -> Bank:  # fmt: skip
    """Film `count` bodies; `varied` as in `draw_poses`.

    Args:
        dense: the body with enough points to draw masks with; without it there are none.
    """
    rotations, shape = draw_poses(motions, count, rng, varied=varied), draw_shapes(count, body, rng)
    rotations = tilted(rotations, rng)
    turned = torch.from_numpy(rotations).float()
    distance = torch.from_numpy(np.exp(rng.uniform(np.log(1.8), np.log(9.0), count))).float()
    some = run.each("film", torch.arange(count).split(32))
    parts = [_film(body, dense, shape[at], turned[at], distance[at]) for at in some]
    place, half, masks, keypoints = (torch.cat(part) for part in zip(*parts, strict=True))
    return Bank(turned, shape, place, half, masks, keypoints)


@torch.no_grad()
def _film(body: GcBody, dense: GcBody | None, shape: Tensor, rotations: Tensor, distance: Tensor) -> list[Tensor]:
    posed = body(shape, rotations)
    skin = posed.points if dense is None else dense(shape, rotations).points
    low, high = skin.amin(1), skin.amax(1)
    middle = (low + high) / 2
    place = -middle
    place[:, 1] += distance * (high - low).amax(1) / 1.7 + (high - low)[:, 1] / 2
    seen = skin + place[:, None]
    plane = torch.stack([seen[..., 0], -seen[..., 2]], -1) / seen[..., 1:2]
    # The camera looks at the middle of what it sees, so the person is moved until this is the middle of the picture.
    off = (plane.amin(1) + plane.amax(1)) / 2
    place = place - torch.stack([off[:, 0], torch.zeros_like(distance), -off[:, 1]], 1) * place[:, 1:2]
    seen = skin + place[:, None]
    plane = torch.stack([seen[..., 0], -seen[..., 2]], -1) / seen[..., 1:2]
    half = MARGIN * plane.abs().amax((1, 2))
    masks = torch.zeros(0, SIDE, SIDE, dtype=torch.bool) if dense is None else _drawn(plane / half[:, None, None])
    keypoints = torch.stack([posed.keypoints, body.centres(posed)], 1)
    return [place, half, masks, keypoints]


def _drawn(plane: Tensor) -> Tensor:
    """Masks (B, SIDE, SIDE) of skin points (B, N, 2) in [-1, 1]."""
    pixel = ((plane + 1) * SIDE).long().clamp(0, 2 * SIDE - 1)  # at twice the resolution
    fine = torch.zeros(len(plane), 4 * SIDE * SIDE, dtype=torch.bool)
    fine.scatter_(1, pixel[..., 1] * 2 * SIDE + pixel[..., 0], value=True)
    fine = fine.view(-1, 2 * SIDE, 2 * SIDE).numpy()
    closed = np.stack([binary_closing(one, iterations=2) for one in fine])
    return torch.from_numpy(closed.reshape(-1, SIDE, 2, SIDE, 2).sum((2, 4)) >= 2)
