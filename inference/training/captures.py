"""Imagined captures: bodies that move, seen by random cameras through an imperfect detector. All in batches, torch.

A batch is B windows of T frames. Nothing is stored: every window is a new body, camera and error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.skeletons import MIRROR_137
from . import surface
from .motions import Motions
from .observed import Observed, spoil
from .surface import PARENTS, PART, Bodies

SIZES = ((1920, 1080), (1280, 720), (1080, 1920), (720, 1280), (640, 480), (1080, 1080))
_OBSERVED = 0.15  # share of windows with a real detector's errors, where those are known
ASSUMED_FOCAL = 1.0  # times the longer side of the image
_LEGS = [PART[f"{n}.{side}"] for n in ("thigh", "shin", "foot", "toes") for side in "LR"]
_LEFT_ARM, _RIGHT_ARM = ([PART[f"{n}.{s}"] for n in ("clavicle", "upperarm", "forearm", "hand")] for s in "LR")
_UPPER = [PART[n] for n in surface.NAMES if n != "pelvis" and PART[n] not in _LEGS]
# What may come from another clip: parts, what carries them, share of the windows.
_GRAFTS = (
    (_UPPER, PART["pelvis"], 0.12), (_LEGS, PART["pelvis"], 0.12), (_LEFT_ARM + _RIGHT_ARM, PART["chest"], 0.2),
    (_LEFT_ARM, PART["chest"], 0.15), (_RIGHT_ARM, PART["chest"], 0.15),
    ([PART["neck"], PART["head"]], PART["chest"], 0.1),
)  # fmt: skip
# Standard deviation of random turns, radians, at strength 1.
_TURNS = {
    "spine_low": 0.08, "chest": 0.10, "head": 0.20, "clavicle": 0.05, "upperarm": 0.35, "forearm": 0.12, "hand": 0.30,
    "thigh": 0.22, "shin": 0.10, "foot": 0.18,
}  # fmt: skip
# Segments whose lengths vary together: (parts whose offset from their parent is scaled, standard deviation).
_LENGTHS = (
    (("spine_mid", "chest", "neck"), 0.04), (("head",), 0.06), (("clavicle.L", "clavicle.R"), 0.03),
    (("upperarm.L", "upperarm.R"), 0.07), (("forearm.L", "forearm.R"), 0.05), (("hand.L", "hand.R"), 0.05),
    (("thigh.L", "thigh.R"), 0.08), (("shin.L", "shin.R"), 0.045), (("foot.L", "foot.R"), 0.045),
    (("toes.L", "toes.R"), 0.08),
)  # fmt: skip
_LIMBS = ((2, 3, 4), (3, 4), (5, 6, 7), (6, 7), (9, 10, 11, 22, 23, 24), (10, 11, 22, 23, 24), (11, 22, 23, 24),
          (12, 13, 14, 19, 20, 21), (13, 14, 19, 20, 21), (14, 19, 20, 21), (0, 15, 16, 17, 18),
          (9, 10, 11, 12, 13, 14, 19, 20, 21, 22, 23, 24), (10, 11, 13, 14, 19, 20, 21, 22, 23, 24),
          (11, 14, 19, 20, 21, 22, 23, 24))  # fmt: skip


@dataclass(frozen=True)
class Errors:
    """How bad the detector is. `level` scales all; 0 is a perfect detector that sees through people."""

    jitter: float = 0.025  # largest standard deviation from frame to frame, of the diagonal of the person's box
    offset: float = 0.02  # the same for what stays through the window, which is most of a real detector's error
    wrong: float = 0.08  # share with a limb somewhere else
    missing: float = 0.30  # largest rate of missing points
    clean: float = 0.50  # share of windows without noise
    bias: float = 0.4  # share of windows with a detector's systematic offsets
    swaps: float = 0.015
    limbs: float = 0.15  # share with an occluded limb
    parts: float = 0.30  # share without a hand, without a face
    feet: float = 0.45  # share without small toes


class Batch(NamedTuple):
    """What a network learns from; 25 points instead of 137 where the body is alone.

    rays (B, T, 137, 2), valid (B, T, 137), focal_known (B,), target (B, 137, 3) about the mid-hip, camera frame;
    camera (B, T, 137, 3) the truth of every frame; focal_ratio (B,) true over assumed focal length.
    """

    rays: Tensor
    valid: Tensor
    focal_known: Tensor
    target: Tensor
    camera: Tensor
    focal_ratio: Tensor


class Bank(NamedTuple):
    """Everything batches are drawn from, as tensors."""

    rotations: Tensor
    root: Tensor
    first: Tensor  # (N,) first frame of the clip
    cumulative: Tensor  # (N,) sampling weights, summed
    joints: Tensor
    points: Tensor
    head: Tensor
    expression: Tensor
    hands: Tensor  # (S, F, 21, 3)
    faces: Tensor  # (F, E)


def bank(motions: Motions, bodies: Bodies, rng: np.random.Generator, *, hand_frames: int = 3000) -> Bank:
    """Prepare random hands and expressions, and put all into tensors."""
    hands = np.stack([surface.hand_walk(bodies, s, hand_frames, rng) for s in range(0, len(bodies.height), 6)])
    faces = surface.expression_walk(len(bodies.expression), hand_frames, rng)
    starts = np.flatnonzero(np.diff(motions.clip, prepend=-1))
    first = starts[np.searchsorted(starts, np.arange(len(motions.clip)), side="right") - 1]
    arrays = (motions.rotations, motions.root, first, np.cumsum(motions.weights.astype(float)), bodies.joints,
              bodies.points, bodies.head, bodies.expression, hands, faces)  # fmt: skip
    types = (None, None, torch.int64, torch.float64) + (None,) * 6
    return Bank(*(torch.as_tensor(a).to(t or torch.float32) for a, t in zip(arrays, types, strict=True)))


def rand(generator: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform in [low, high)."""
    return torch.rand(*shape, generator=generator) * (high - low) + low


def chance(generator: torch.Generator, probability: float, *shape: int) -> Tensor:
    """True with a probability."""
    return torch.rand(*shape, generator=generator) < probability


def sample_people(
    bank: Bank, count: int, window: int, g: torch.Generator, *, augment: bool = True, parts: bool = True
) -> Tensor:
    """(B, T, 137, 3), or 25 without `parts`, metres, z up: random bodies in random windows at about 30 Hz."""
    last = torch.searchsorted(bank.cumulative, rand(g, count).double() * bank.cumulative[-1]).clamp_max(
        len(bank.first) - 1
    )
    return people_at(bank, last, window, g, augment=augment, parts=parts)


def people_at(
    bank: Bank, last: Tensor, window: int, g: torch.Generator, *, augment: bool = True, parts: bool = True
) -> Tensor:
    """As `sample_people`, for windows ending at the given (B,) frames."""
    count = len(last)
    stride = torch.full((count,), 2)
    if augment:
        stride = torch.tensor([1, 2, 2, 2, 2, 3, 3, 4])[torch.randint(0, 8, (count,), generator=g)]
    back = torch.arange(window - 1, -1, -1)
    index = torch.maximum(last[:, None] - back * stride[:, None], bank.first[last, None])
    turn, root = bank.rotations[index], bank.root[index]
    if augment:
        turn = _mixed(bank, turn, stride, back, g)
        turn = _turned(turn, g)
    shape = torch.randint(0, len(bank.joints), (count,), generator=g)
    joints = bank.joints[shape] * _lengths(count, g) if augment else bank.joints[shape]
    leg = joints[:, [PART["shin.L"], PART["foot.L"]]].norm(dim=-1).sum(1)
    offset = (turn[:, :, list(PARENTS[1:])] @ joints[:, None, 1:, :, None])[..., 0]
    place = [root * leg[:, None, None]]
    for part, parent in enumerate(PARENTS[1:], 1):
        place.append(place[parent] + offset[:, :, part - 1])
    return _points(bank, turn, torch.stack(place, 2), shape, g, speed=stride, parts=parts)


def _mixed(bank: Bank, turn: Tensor, stride: Tensor, back: Tensor, g: torch.Generator) -> Tensor:
    """Give some bodies the upper half, the legs, arms or the head of other clips, carried by what they hang on."""
    out = turn.clone()
    for parts, carrier, share in _GRAFTS:
        some = torch.nonzero(chance(g, share, len(turn)))[:, 0]
        last = torch.searchsorted(bank.cumulative, rand(g, len(some)).double() * bank.cumulative[-1]).clamp_max(
            len(bank.first) - 1
        )
        index = torch.maximum(last[:, None] - back * stride[some, None], bank.first[last, None])
        other = bank.rotations[index]
        onto = out[some, :, carrier] @ other[:, :, carrier].transpose(-1, -2)
        here = some[:, None, None], torch.arange(turn.shape[1])[None, :, None], torch.tensor(parts)
        out[here] = onto[:, :, None] @ other[:, :, parts]
    return out


def _turned(turn: Tensor, g: torch.Generator) -> Tensor:
    """Turn joints at random, the same way through the window, with everything that hangs on them."""
    count = len(turn)
    strength = rand(g, count, 1) ** 2 * 2.2 * chance(g, 0.5, count, 1)
    sigma = torch.tensor([_TURNS.get(name.partition(".")[0], 0.0) for name in surface.NAMES])
    own = rotation(torch.randn(count, len(sigma), 3, generator=g) * sigma[:, None] * strength[..., None])
    total = [own[:, 0]]
    for part, parent in enumerate(PARENTS[1:], 1):
        total.append(total[parent] @ own[:, part])
    return torch.stack(total, 1)[:, None] @ turn


def rotation(rotvec: Tensor) -> Tensor:
    """(..., 3, 3) matrices of rotation vectors (Rodrigues)."""
    angle = rotvec.norm(dim=-1).clamp_min(1e-8)
    x, y, z = (rotvec / angle[..., None]).unbind(-1)
    c, s = angle.cos(), angle.sin()
    t = 1 - c
    rows = [c + x * x * t, x * y * t - z * s, x * z * t + y * s, x * y * t + z * s, c + y * y * t, y * z * t - x * s,
            x * z * t - y * s, y * z * t + x * s, c + z * z * t]  # fmt: skip
    return torch.stack(rows, -1).view(*rotvec.shape[:-1], 3, 3)


def _lengths(count: int, g: torch.Generator) -> Tensor:
    """(B, 22, 1 or 3) factors of the parts' offsets."""
    out = torch.ones(count, len(PARENTS), 3)
    for names, sigma in _LENGTHS:
        factor = torch.randn(count, 1, 1, generator=g).clamp(-2.5, 2.5) * sigma + 1
        out[:, [PART[n] for n in names]] = factor
    # widths of shoulders and hips
    for names, sigma in (
        (("upperarm.L", "upperarm.R", "clavicle.L", "clavicle.R"), 0.07),
        (("thigh.L", "thigh.R"), 0.10),
    ):
        factor = torch.randn(count, 1, generator=g).clamp(-2.5, 2.5) * sigma + 1
        out[:, [PART[n] for n in names], 0] = factor
    return out


def _points(
    bank: Bank, turn: Tensor, place: Tensor, shape: Tensor, g: torch.Generator, *, speed: Tensor, parts: bool
) -> Tensor:
    count, window = turn.shape[:2]
    out = torch.empty(count, window, 137 if parts else 25, 3)
    mix = rand(g, count, 1, 1, 1)
    local = bank.points[shape, 0] * (1 - mix) + bank.points[shape, 1] * mix  # (B, P, 2, 3)
    for end in (0, 1):
        carrier = torch.as_tensor(surface.POINT_PARTS[:, end])
        here = place[:, :, carrier] + (turn[:, :, carrier] @ local[:, None, :, end, :, None])[..., 0]
        out[:, :, surface.BODY_POINTS] = here if end == 0 else 0.5 * (out[:, :, surface.BODY_POINTS] + here)
    out[:, :, 1] = 0.5 * (out[:, :, 2] + out[:, :, 5])
    out[:, :, 8] = 0.5 * (out[:, :, 9] + out[:, :, 12])
    at, turned = place[:, :, PART["head"], None], turn[:, :, PART["head"]].transpose(-1, -2)
    if not parts:
        out[:, :, surface.HEAD_BODY_POINTS] = at + bank.head[shape, None, 70:] @ turned
        return out
    steps = torch.arange(window)
    frames = len(bank.faces)
    rate = (speed.float() / 2 * rand(g, count, low=0.5, high=2.0))[:, None]

    def walk() -> Tensor:
        start = torch.randint(0, frames - 8 * window, (count, 1), generator=g)
        return (start + rate * steps).long().clamp_max(frames - 1)

    face = bank.faces[walk()] * rand(g, count, 1, 1, high=1.2)
    head = bank.head[shape][:, None] + (face @ bank.expression.flatten(1)).view(count, window, 75, 3)
    head = at + head @ turned
    out[:, :, 25:95], out[:, :, surface.HEAD_BODY_POINTS] = head[:, :, :70], head[:, :, 70:]
    for side, (part, points) in enumerate(((PART["hand.L"], slice(95, 116)), (PART["hand.R"], slice(116, 137)))):
        who = torch.randint(0, len(bank.hands), (count, 1), generator=g)
        hand = bank.hands[who, walk()] * rand(g, count, 1, 1, 1, low=0.9, high=1.1)
        if side:
            hand = hand * torch.tensor([-1.0, 1.0, 1.0])
        out[:, :, points] = place[:, :, part, None] + hand @ turn[:, :, part].transpose(-1, -2)
    return out


def film(
    people: Tensor,
    g: torch.Generator,
    errors: Errors,
    *,
    focal_known: float = 0.35,
    hard: bool = True,
    fill: tuple[float, float] = (0.25, 1.15),
    observed: Observed | None = None,
) -> Batch:
    """See (B, T, 137, 3) people with random cameras and a detector of the given errors.

    Where it is `hard`, some are close-ups and some people lie or hang upside down. `fill` is the range of a person's
    height over the image's. With `observed`, bodies of a share of the windows get errors that a real detector made.
    """
    count = len(people)
    people = torch.where(chance(g, 0.5, count)[:, None, None, None], people, mirrored(people))
    size = torch.tensor(SIZES, dtype=torch.float32)[torch.randint(0, len(SIZES), (count,), generator=g)]
    longer = size.amax(1)
    focal = longer * (0.05 + 0.33 * torch.randn(count, generator=g)).exp().clamp(0.55, 2.8)
    body = people[:, -1, :25]
    centre = 0.5 * (body.amin(1) + body.amax(1)) + torch.randn(count, 3, generator=g) * 0.08
    close = chance(g, 0.08 * hard, count)
    centre = torch.where(close[:, None], 0.5 * (people[:, -1, 1] + people[:, -1, 0]) - 0.1, centre)
    turn = _viewpoint(count, g, 0.08 * hard)
    fraction = torch.where(close, rand(g, count, low=1.2, high=3.0), rand(g, count, low=fill[0], high=fill[1]))
    distance = (focal * 1.75 / (fraction * size[:, 1].clamp_max(1.4 * size[:, 0]))).clamp(1.0, 14.0)
    where = torch.randn(count, 2, generator=g).clamp(-2.2, 2.2) * 0.16 * size / focal[:, None]
    shift = torch.cat([where, torch.ones(count, 1)], 1) * distance[:, None]
    camera = (people - centre[:, None, None]) @ turn.transpose(-1, -2)[:, None] + shift[:, None, None]
    pan = torch.randn(count, 1, 1, 3, generator=g) * 0.01 * chance(g, 0.2, count)[:, None, None, None]
    camera = camera + pan * torch.arange(people.shape[1] - 1, -1, -1.0)[:, None, None]
    depth = camera[..., 2:].clamp_min(0.15)
    pixels = camera[..., :2] / depth * focal[:, None, None, None]  # about the principal point
    seen, valid = detect(pixels, camera, size, g, errors)
    if observed is not None:
        rows = torch.nonzero(chance(g, _OBSERVED, count))[:, 0]
        seen[rows, :, :25], found = spoil(observed, pixels[rows, :, :25], g)
        valid[rows, :, :25] = found & _inside(pixels[rows], seen[rows], camera[rows], size[rows])[:, :, :25]
    known = chance(g, focal_known, count)
    used = torch.where(known, focal, ASSUMED_FOCAL * longer)
    target = camera[:, -1] - camera[:, -1, 8:9]
    return Batch(seen / used[:, None, None, None], valid, known.float(), target, camera, focal / used)


def mirrored(people: Tensor) -> Tensor:
    """The same people in a mirror."""
    return people[:, :, MIRROR_137[: people.shape[2]]] * torch.tensor([-1.0, 1.0, 1.0])


def _viewpoint(count: int, g: torch.Generator, tumbled: float) -> Tensor:
    """(B, 3, 3) camera from world: any azimuth, mostly level; a share of people lies or hangs upside down."""
    zero = torch.zeros(count, 1)
    yaw = rotation(torch.cat([zero, zero, rand(g, count, 1, high=2 * math.pi)], 1))
    wild = rotation(
        torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1) * rand(g, count, 1, high=math.pi)
    )
    yaw = torch.where(chance(g, tumbled, count)[:, None, None], wild @ yaw, yaw)
    level = torch.tensor([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    pitch = torch.where(
        chance(g, 0.5, count)[:, None], rand(g, count, 1, low=-8.0, high=15.0), rand(g, count, 1, low=-30.0, high=42.0)
    )
    pitch = rotation(torch.cat([torch.deg2rad(pitch), zero, zero], 1))
    roll = rotation(torch.cat([zero, zero, torch.deg2rad(torch.randn(count, 1, generator=g) * 4)], 1))
    return roll @ pitch @ level @ yaw


def detect(pixels: Tensor, camera: Tensor, size: Tensor, g: torch.Generator, e: Errors) -> tuple[Tensor, Tensor]:
    """What a detector makes of the truth: (B, T, 137, 2) and validity. Every error is drawn per window."""
    count, window = pixels.shape[:2]
    box = (pixels[:, :, :25].amax(2) - pixels[:, :, :25].amin(2)).norm(dim=-1).amax(1)
    seen = _biased(pixels, g, e.bias)
    seen = seen + _noise(seen, camera, box, g, e)
    swap = chance(g, e.swaps, count, window) | chance(g, e.swaps * 0.3, count, 1)
    seen = torch.where(swap[..., None, None], seen[:, :, MIRROR_137[: seen.shape[2]]], seen)
    return seen, _inside(pixels, seen, camera, size) & _present(seen.shape[:3], g, e)


def _inside(pixels: Tensor, seen: Tensor, camera: Tensor, size: Tensor) -> Tensor:
    """(B, T, J) whether a point is in front of the camera and within the image, both in truth and as seen."""
    half = 0.5 * size[:, None, None]
    return ((pixels.abs() < half) & (seen.abs() < half * 1.02)).all(-1) & (camera[..., 2] > 0.2)


def _biased(pixels: Tensor, g: torch.Generator, share: float) -> Tensor:
    """Hips too narrow and too high, shoulders off, as mediapipe's; strengths are drawn per window."""
    count = len(pixels)
    some = chance(g, share, count)[:, None, None]
    out = pixels.clone()
    hip, neck = pixels[:, :, 8:9], pixels[:, :, 1:2]
    up = torch.where(some, rand(g, count, 1, 1, low=-0.03, high=0.15), 0.0)[..., None]
    narrow = torch.where(some, rand(g, count, 1, 1, low=0.55, high=1.15), 1.0)[..., None]
    out[:, :, [9, 12]] = hip + narrow * (pixels[:, :, [9, 12]] - hip) + up * (neck - hip)
    wide = torch.where(some, rand(g, count, 1, 1, low=0.88, high=1.12), 1.0)[..., None]
    rise = torch.where(some, rand(g, count, 1, 1, low=-0.08, high=0.08), 0.0)[..., None]
    out[:, :, [2, 5]] = neck + wide * (pixels[:, :, [2, 5]] - neck) + rise * (neck - hip)
    out[:, :, 8], out[:, :, 1] = out[:, :, [9, 12]].mean(2), out[:, :, [2, 5]].mean(2)
    length = (neck - hip).norm(dim=-1, keepdim=True)
    others = torch.randn(count, 1, 25, 2, generator=g) * 0.03 * some[..., None]
    others[:, :, [1, 2, 5, 8, 9, 12]] = 0.0
    out[:, :, :25] = out[:, :, :25] + others * length
    return out


def _noise(pixels: Tensor, camera: Tensor, box: Tensor, g: torch.Generator, e: Errors) -> Tensor:
    count, window, points = pixels.shape[:3]
    noisy = ~chance(g, e.clean, count)
    rough = torch.where(chance(g, 0.35, count), 1.0, 0.3)  # most detectors shake less than they are off
    jitter = rand(g, count, high=e.jitter) * rough * noisy
    offset = rand(g, count, high=e.offset) * noisy
    # points of hands and faces are as noisy as their own size, or, in a third of windows, as the body's
    own = torch.ones(count, points)
    alike = chance(g, 0.33, count)
    for part in (slice(25, 95), slice(95, 116), slice(116, 137)) if points > 25 else ():
        extent = (pixels[:, -1, part].amax(1) - pixels[:, -1, part].amin(1)).norm(dim=-1) / box.clamp_min(1e-3)
        own[:, part] = torch.where(alike, 1.0, 1.3 * extent)[:, None]
    point = torch.randn(count, 1, points, generator=g).mul(0.4).exp() * own[:, None] * box[:, None, None]
    point = point * (1 + 2 * _hidden(pixels, camera, box))
    heavy = 1 + 4 * chance(g, 0.03, count, window, points)
    noise = torch.randn(count, window, points, 2, generator=g) * (point * jitter[:, None, None] * heavy)[..., None]
    heavy = 1 + 3 * chance(g, 0.04, count, 1, points)
    noise += torch.randn(count, 1, points, 2, generator=g) * (point * offset[:, None, None] * heavy)[..., None]
    noise[:, :, :25] += _misplaced(count, window, g, e.wrong) * box[:, None, None, None]
    noise[:, :, 1] = 0.5 * (noise[:, :, 2] + noise[:, :, 5])
    noise[:, :, 8] = 0.5 * (noise[:, :, 9] + noise[:, :, 12])
    return noise


def _misplaced(count: int, window: int, g: torch.Generator, share: float) -> Tensor:
    """(B, T, 25, 2) of the box: a limb whose end the detector puts somewhere else, for the window's last frames."""
    limb = OCCLUDED[: len(_LIMBS), :25].float()[torch.randint(0, 10, (count,), generator=g)]
    limb = limb * chance(g, share, count, 1)
    limb[:, [2, 3, 5, 6, 9, 10, 12, 13]] *= 0.5  # the middle moves less than the end
    since = torch.randint(0, 2 * window, (count, 1, 1), generator=g) - window
    moved = limb[:, None] * (torch.arange(window)[None, :, None] >= since)
    return moved[..., None] * torch.randn(count, 1, 1, 2, generator=g) * 0.08


def _hidden(pixels: Tensor, camera: Tensor, box: Tensor) -> Tensor:
    """(B, T, 137) 1 where a point lies behind the trunk."""
    hip, neck = pixels[:, :, 8:9], pixels[:, :, 1:2]
    axis = neck - hip
    length = axis.norm(dim=-1).clamp_min(1.0)
    along = ((pixels - hip) * axis).sum(-1) / length**2
    across = ((pixels - hip)[..., 0] * axis[..., 1] - (pixels - hip)[..., 1] * axis[..., 0]).abs() / length
    depth = 0.5 * (camera[:, :, 8:9, 2] + camera[:, :, 1:2, 2])
    behind = (camera[..., 2] > depth + 0.12) & (along > -0.1) & (along < 1.05) & (across < 0.1 * box[:, None, None])
    return behind.float()


def _present(shape: torch.Size, g: torch.Generator, e: Errors) -> Tensor:
    """(B, T, J) false where the detector misses a point."""
    count, window, points = shape
    rate = rand(g, count, 1, 1, high=e.missing) * chance(g, 0.6, count, 1, 1)
    whole = rand(g, count, 1, 1)  # how much of the missing lasts the window long
    drop = torch.rand(count, window, points, generator=g) < rate * (1 - whole)
    always = torch.rand(count, 1, points, generator=g)
    run = torch.randint(1, window + 1, (count, 1, points), generator=g)
    steps = torch.arange(window)[None, :, None]
    drop |= (always < rate * whole) | ((always > 1 - rate * 0.5) & (steps >= window - run))
    which = OCCLUDED[:, :points][torch.randint(0, len(_LIMBS), (count,), generator=g)] & chance(g, e.limbs, count, 1)
    since = torch.randint(0, 2 * window, (count, 1, 1), generator=g) - window
    drop |= which[:, None] & (steps >= since)
    for part in (slice(25, 95), slice(95, 116), slice(116, 137)) if points > 25 else ():
        drop[:, :, part] |= chance(g, e.parts, count, 1, 1) | chance(g, e.parts * 0.3, count, window, 1)
    drop[:, :, [20, 23]] |= chance(g, e.feet, count, 1, 1)
    drop[:, :, [19, 20, 21, 22, 23, 24]] |= chance(g, e.feet * 0.3, count, 1, 1)
    drop[:, :, [15, 16, 17, 18]] |= chance(g, e.feet * 0.1, count, 1, 1)
    drop |= chance(g, e.missing * 0.1, count, window, 1)  # nobody found in the frame
    return ~drop


def _occluded() -> Tensor:
    """(limbs, 137) which points go with an occluded limb; a hand goes with its wrist, the face with the nose."""
    out = torch.zeros(len(_LIMBS), 137, dtype=torch.bool)
    for row, joints in enumerate(_LIMBS):
        out[row, list(joints)] = True
        for joint, part in ((4, slice(116, 137)), (7, slice(95, 116)), (0, slice(25, 95))):
            out[row, part] = joint in joints
    return out


OCCLUDED = _occluded()
