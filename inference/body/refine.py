"""Bodies fitted a little better to what is seen: gradient steps on the losses that the network was trained with.

One shape for a clip, a pose a frame. Joints, silhouettes and joints in space pull; the prior over poses and smoothness
over time hold. What is fitted is in one frame, z up; each view's crops see it through cameras of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..nets.gc_body import GcBody, Posed, usual_spread
from ..nets.gc_ssn import NEAR, rotation_from_six, six_from_rotation, soft_iou, splat
from ..nets.pose_prior import PosePrior, pose_vector
from ..protocol.events import Reporter
from .contours import Edges, miss, pair, trace
from .represent import Crops

Array = np.ndarray
TOGETHER = 200  # frames whose skin is held in memory
_SCALE = 0.1  # of a joint's miss in a crop, above which it counts less
_SPACE_M = 0.05  # of a joint's miss in space, likewise
_CROWN, _SOLE_M = 1.0916, 0.0912  # from the joints of head and ankles to the height; to 5 mm over 4,000 shapes
_SPACE = 2.0  # weight of joints in space
_UNLIKE = 0.6  # weight of how unlike people a pose is
_MASKS, _EDGES = 0.6, 8.0  # weights of silhouettes, as a whole and by their edges
_WANTED, _PAIRED = 3, 4  # steps between two lookups of what is human, and of what belongs to an edge
_CENTRES = 0.5  # keypoints lie about halfway between skin and joint centre


@dataclass(frozen=True)
class Body:
    """A body in motion: shape (S,), rotations (T, 22, 3, 3) local, place (T, 3) of the pelvis joint, metres, z up."""

    shape: Tensor
    rotations: Tensor
    place: Tensor

    def part(self, at: Array) -> Body:
        """Only some of the frames."""
        index = torch.from_numpy(at)
        return Body(self.shape, self.rotations[index], self.place[index])


@dataclass(frozen=True)
class Evidence:
    """What is known of T frames: crops of each view; joints in space (T, K, 3), NaN where not, with their confidence.

    height_m: of the person, if known; distance_m (T,): of the pelvis from the first view's camera, NaN where not known;
    gender: of the shape, 0 to 1, if known; wide: whether masks show clothes that are wider than the body. step_s: time
    from frame to frame; frames (T,): their numbers in the clip, where some of it is left out.
    """

    crops: Sequence[Crops]
    space: Tensor | None = None
    space_confidence: Tensor | None = None
    height_m: float | None = None
    distance_m: Tensor | None = None
    gender: float | None = None
    wide: bool = False
    step_s: float = 1 / 30
    frames: Array | None = None

    @property
    def steps(self) -> Tensor:
        """(T - 1,) frames of the clip from each of these to the next."""
        if self.frames is None:
            return torch.ones(len(self.crops[0].half) - 1)
        return torch.from_numpy(np.diff(self.frames)).float()

    def part(self, at: Array) -> Evidence:
        """Only some of the frames."""
        index = torch.from_numpy(at)
        pick = lambda values: None if values is None else values[index]  # noqa: E731
        frames = at if self.frames is None else self.frames[at]
        return Evidence([crops[at] for crops in self.crops], pick(self.space), pick(self.space_confidence),
                        self.height_m, pick(self.distance_m), self.gender, self.wide, self.step_s,
                        frames)  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """How bodies are fitted.

    steps: all; traced: the last of them, which look at masks' edges; masked: those before, which look at whole masks;
    shape, pose: whether these move, too, or only places.
    """

    steps: int
    masked: int
    traced: int
    shape: bool
    pose: bool = True
    rate: float = 0.05
    smooth: float = 1.0


def keypoints_of(body: GcBody, posed: Posed) -> Tensor:
    """(T, K, 3) where detectors see the keypoints, about."""
    return posed.keypoints + _CENTRES * (body.centres(posed) - posed.keypoints)


class Sight(NamedTuple):
    """What a fit needs of a view's crops, as tensors; see `Crops`."""

    turn: Tensor
    shift: Tensor
    half: Tensor
    joints: Tensor
    confidence: Tensor

    @classmethod
    def of(cls, crops: Crops) -> Sight:
        """Of T crops."""
        return cls(*(torch.from_numpy(getattr(crops, name)).float() for name in cls._fields))

    def view(self, places: Tensor) -> Tensor:
        """Places (T, N, 3) in the view frames of the crops' cameras."""
        return places @ self.turn.transpose(1, 2) + self.shift[:, None]

    def world(self, places: Tensor) -> Tensor:
        """The inverse of `view`."""
        return (places - self.shift[:, None]) @ self.turn

    def plane(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Points (T, N, 3) in each frame's crop (T, N, 2), and crop halves a metre (T,) at the points' mean depth."""
        view = self.view(points)
        middle = view[..., 1].mean(1).clamp(min=0.1)
        depth = torch.maximum(view[..., 1], NEAR * middle[:, None])
        plane = torch.stack([view[..., 0], -view[..., 2]], -1) / depth[..., None]
        return plane / self.half[:, None, None], 1 / (middle * self.half)

    def off(self, keypoints: Tensor) -> Tensor:
        """(T, K) distance of keypoints (T, K, 3) from what was seen, in halves of the crop."""
        return ((self.plane(keypoints)[0] - self.joints) ** 2).sum(-1).add(1e-8).sqrt()


class Adam:
    """Adam (Kingma 2015) over some tensors. Torch's own imports its compiler first, which takes seconds."""

    def __init__(self, values: Sequence[Tensor], beta: tuple[float, float] = (0.9, 0.999)) -> None:
        self._values, self._beta, self._count = values, beta, 0
        self._mean, self._square = ([torch.zeros_like(value) for value in values] for _ in range(2))

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rates: Sequence[float]) -> None:
        """Move each value against its gradient."""
        self._count += 1
        first, second = (1 - beta**self._count for beta in self._beta)
        for k, (value, gradient) in enumerate(zip(self._values, gradients, strict=True)):
            self._mean[k].lerp_(gradient, 1 - self._beta[0])
            self._square[k].lerp_(gradient**2, 1 - self._beta[1])
            value.sub_(rates[k] / first * self._mean[k] / ((self._square[k] / second).sqrt() + 1e-8))


@dataclass(frozen=True)
class Known:
    """What is learnt of bodies, and how these are fitted with it."""

    body: GcBody
    prior: PosePrior
    how: Fit


def fit(start: Body, evidence: Evidence, known: Known, report: Reporter) -> Body:
    """Take gradient steps from `start`.

    Raises:
        Cancelled: somebody asked to stop.
    """
    how = known.how
    six = six_from_rotation(start.rotations).clone().requires_grad_(how.pose)
    place = start.place.clone().requires_grad_()
    shape = start.shape.clone().requires_grad_(how.shape)
    moving = [(six, 1.0), (place, 1.0), (shape, 2.0)]
    values, faster = zip(*(pair for pair in moving if pair[0].requires_grad), strict=True)
    adam, energy = Adam(values), Energy(start, evidence, known)
    for step in range(how.steps):
        report.progress("refine", step, how.steps)
        left = how.steps - step
        silhouettes = "edges" if left <= how.traced else "masks" if left <= how.masked + how.traced else ""
        loss = energy(Body(shape, rotation_from_six(six), place), silhouettes)
        rate = how.rate * (1 - 0.8 * step / how.steps)
        adam.step(torch.autograd.grad(loss, values), [rate * factor for factor in faster])
        with torch.no_grad():
            shape[:6].clamp_(0, 1)
            shape[6:].clamp_(-1, 1)
    return Body(shape.detach(), rotation_from_six(six).detach(), place.detach())


class Energy:
    """One number: how badly a moving body agrees with what is known.

    What it should be like by the prior, and which skin belongs to which edge, is looked up every few steps.
    """

    def __init__(self, start: Body, evidence: Evidence, known: Known) -> None:
        self._start, self._evidence, self._known = start, evidence, known
        self._bare = known.body.thinned(0)
        self._sights = [Sight.of(crops) for crops in evidence.crops]
        self._g = torch.Generator().manual_seed(0)
        self._steps = self._edged = 0
        self._wanted = torch.zeros(())
        self._edges: list[Edges] = []
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def __call__(self, current: Body, silhouettes: str = "") -> Tensor:
        """`silhouettes`: "masks" compares them by splats, "edges" by their outlines, "" not at all."""
        evidence, body = self._evidence, self._known.body if silhouettes else self._bare
        posed = body(current.shape[None], current.rotations)
        keypoints = keypoints_of(body, posed) + current.place[:, None]
        change = (current.shape - self._start.shape) / usual_spread(body)
        loss = _UNLIKE * self._unlike_people(current) + 0.02 * (change**2).mean()
        for sight in self._sights:
            loss = loss + 4.0 * _off(keypoints, sight) / len(self._sights)
        if silhouettes:
            look = self._uncovered if silhouettes == "masks" else self._off_edges
            loss = loss + look(posed.points + current.place[:, None])
        if evidence.space is not None and evidence.space_confidence is not None:
            loss = loss + _SPACE * _apart(keypoints, evidence.space, evidence.space_confidence)
        if len(current.place) > 2:
            moved = posed.joints + current.place[:, None]
            steps = evidence.steps[:, None, None]  # what lies between the frames that show somebody takes its time
            speed = (moved[1:] - moved[:-1]) / steps
            jerk = (speed[1:] - speed[:-1]) * 2 / (steps[1:] + steps[:-1])
            loss = loss + self._known.how.smooth * 0.02 / evidence.step_s * jerk.norm(dim=-1).mean()
        if evidence.distance_m is not None and evidence.space is not None:
            loss = loss + 20 * self._misplaced(current.place, evidence.distance_m)
        if evidence.height_m is not None:
            loss = loss + 20 * (height(body, current.shape) - evidence.height_m) ** 2
        if evidence.gender is not None:
            loss = loss + 20 * (current.shape[body.shape_names.index("gender")] - evidence.gender) ** 2
        return loss

    def _misplaced(self, place: Tensor, wanted: Tensor) -> Tensor:
        """Squared relative errors of the distances (T,) that are known."""
        known = wanted.isfinite()
        away = self._sights[0].view(place[:, None])[known, 0].norm(dim=-1)
        return ((away / wanted[known] - 1) ** 2).sum()

    def _unlike_people(self, current: Body) -> Tensor:
        prior, pose = self._known.prior, pose_vector(current.rotations)
        if self._steps % _WANTED == 0:
            noise = 0.05 + 0.25 * torch.rand(len(pose), generator=self._g)
            self._wanted = (pose + prior.correction(current.rotations, noise, self._g)).detach()
        self._steps += 1
        return (((pose - self._wanted) ** 2) / prior.spread).mean()

    def _uncovered(self, skin: Tensor) -> Tensor:
        """1 - IoU of silhouettes and masks, and what sticks out; where clothes are wide, unfilled masks count less."""
        found = []
        for crops, sight in zip(self._evidence.crops, self._sights, strict=True):
            kept = torch.from_numpy(np.flatnonzero(crops.masked))
            plane, scale = sight.plane(skin)
            mask = torch.from_numpy(crops.masks)[kept]
            mine = splat(plane[kept], scale[kept], mask.shape[-1]) * torch.from_numpy(crops.framed)[kept]
            size = mask.sum((1, 2)).clamp(min=1.0)
            out = ((mine * (1 - mask)).sum((1, 2)) / size).clamp(max=1.0)
            if self._evidence.wide:
                each = out + 0.3 * (mask * (1 - mine)).sum((1, 2)) / size
            else:
                each = 1 - soft_iou(mine, mask) + 0.2 * out
            found.append(each.sum() / max(len(kept), 1))
        return _MASKS * torch.stack(found).sum()

    def _off_edges(self, skin: Tensor) -> Tensor:
        planes = [sight.plane(skin)[0] for sight in self._sights]
        if not self._edges:
            self._edges = [trace(crops) for crops in self._evidence.crops]
        if self._edged % _PAIRED == 0:
            self._pairs = [pair(plane.detach(), edges) for plane, edges in zip(planes, self._edges, strict=True)]
        self._edged += 1
        found = [miss(plane, edges, pairs, wide=self._evidence.wide)
                 for plane, edges, pairs in zip(planes, self._edges, self._pairs, strict=True)]  # fmt: skip
        return _EDGES * torch.stack(found).mean()


def height(body: GcBody, shape: Tensor) -> Tensor:
    """Standing height of a shape (S,), metres, from its heels to the crown."""
    joints = body.rest(shape[None])[1][0]
    return _CROWN * (joints[5, 2] - joints[[18, 19], 2].mean()) + _SOLE_M


def _off(keypoints: Tensor, sight: Sight) -> Tensor:
    off = sight.off(keypoints)
    miss = off * 0.3 + _SCALE * off**2 / (off**2 + _SCALE**2)
    return (miss * sight.confidence).sum() / sight.confidence.sum().clamp(min=1.0)


def _apart(keypoints: Tensor, space: Tensor, confidence: Tensor) -> Tensor:
    known = space.isfinite().all(-1)
    square = ((keypoints - space.nan_to_num()) ** 2).sum(-1)
    miss = (square + 1e-8).sqrt() + _SPACE_M * square / (square + _SPACE_M**2)
    weight = confidence * known
    return (miss * weight).sum() / weight.sum().clamp(min=1.0)


@torch.no_grad()
def overlap(current: Body, evidence: Evidence, body: GcBody) -> list[Array]:
    """(T,) IoU of the body with each view's masks, NaN where there is none; hard, at the crops' resolution."""
    out = [np.full(len(current.place), np.nan) for _ in evidence.crops]
    for at in torch.arange(len(current.place)).split(TOGETHER):
        skin = body(current.shape[None], current.rotations[at]).points + current.place[at, None]
        for crops, found in zip(evidence.crops, out, strict=True):
            some = crops[at.numpy()]
            plane, scale = Sight.of(some).plane(skin)
            mask = torch.from_numpy(some.masks)
            mine = (splat(plane, scale, mask.shape[-1]) > 0.5) * torch.from_numpy(some.framed)
            same = soft_iou(mine.float(), (mask > 0.5).float()).numpy()
            found[at.numpy()] = np.where(some.masked, same, np.nan)
    return out


@torch.no_grad()
def misses(current: Body, evidence: Evidence, body: GcBody) -> Array:
    """(V, T) mean distance of keypoints in crops, in halves of the crop, NaN where nothing was seen."""
    out, posed = [], body(current.shape[None], current.rotations)
    keypoints = keypoints_of(body, posed) + current.place[:, None]
    for crops in evidence.crops:
        total = crops.confidence.sum(1)
        mean = (Sight.of(crops).off(keypoints).numpy() * crops.confidence).sum(1) / np.maximum(total, 1e-6)
        out.append(np.where(total > 0, mean, np.nan))
    return np.stack(out)
