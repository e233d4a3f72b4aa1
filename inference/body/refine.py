"""Bodies fitted a little better to what is seen: gradient steps on the losses that the network was trained with.

One shape for a clip, a pose a frame. Joints, silhouettes and joints in space pull; the prior over poses and smoothness
over time hold. What is fitted is in one frame, z up; each view's crops see it through cameras of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..nets.gc_body import GcBody, Posed, usual_spread
from ..nets.gc_ssn import NEAR, rotation_from_six, six_from_rotation, soft_iou, splat
from ..nets.pose_prior import PosePrior, pose_vector
from ..protocol.events import Reporter
from .represent import Crops

Array = np.ndarray
_SCALE = 0.1  # of a joint's miss in a crop, above which it counts less
_SPACE_M = 0.05  # of a joint's miss in space, likewise
_CROWN, _SOLE_M = 1.0916, 0.0912  # from the joints of head and ankles to the height; to 5 mm over 4,000 shapes
_CENTRES = 0.5  # keypoints lie about halfway between skin and joint centre


@dataclass(frozen=True)
class Body:
    """A body in motion: shape (S,), rotations (T, 22, 3, 3) local, place (T, 3) of the pelvis joint, metres, z up."""

    shape: Tensor
    rotations: Tensor
    place: Tensor


@dataclass(frozen=True)
class Evidence:
    """What is known of T frames: crops of each view; joints in space (T, K, 3), NaN where not, with their confidence.

    height_m: of the person, if known; distance_m (T,): of the pelvis from the first view's camera, NaN where not known.
    wide: whether masks show clothes that are wider than the body. step_s: time from frame to frame.
    """

    crops: Sequence[Crops]
    space: Tensor | None = None
    space_confidence: Tensor | None = None
    height_m: float | None = None
    distance_m: Tensor | None = None
    wide: bool = False
    step_s: float = 1 / 30

    def part(self, at: Array) -> Evidence:
        """Only some of the frames."""
        index = torch.from_numpy(at)
        pick = lambda values: None if values is None else values[index]  # noqa: E731
        return Evidence([crops[at] for crops in self.crops], pick(self.space), pick(self.space_confidence),
                        self.height_m, pick(self.distance_m), self.wide, self.step_s)  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """How bodies are fitted: steps, how many of these look at masks, whether the shape moves, how fast."""

    steps: int
    masked: int
    shape: bool
    rate: float = 0.05
    smooth: float = 1.0


def keypoints_of(body: GcBody, posed: Posed) -> Tensor:
    """(T, K, 3) where detectors see the keypoints, about."""
    return posed.keypoints + _CENTRES * (body.centres(posed) - posed.keypoints)


def in_crop(points: Tensor, crops: Crops) -> tuple[Tensor, Tensor]:
    """Points (T, N, 3) in each frame's crop (T, N, 2), and crop halves a metre (T,) at the points' mean depth."""
    turn, shift = (torch.from_numpy(getattr(crops, name)).float() for name in ("turn", "shift"))
    half = torch.from_numpy(crops.half).float()
    view = points @ turn.transpose(1, 2) + shift[:, None]
    middle = view[..., 1].mean(1).clamp(min=0.1)
    depth = torch.maximum(view[..., 1], NEAR * middle[:, None])
    plane = torch.stack([view[..., 0], -view[..., 2]], -1) / depth[..., None]
    return plane / half[:, None, None], 1 / (middle * half)


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
    how, bare = known.how, replace(known, body=known.body.thinned(0))
    six = six_from_rotation(start.rotations).clone().requires_grad_()
    place = start.place.clone().requires_grad_()
    shape = start.shape.clone().requires_grad_(how.shape)
    values, faster = [six, place], [1.0, 1.0]
    if how.shape:
        values, faster = [*values, shape], [*faster, 2.0]
    adam = Adam(values)
    g = torch.Generator().manual_seed(0)
    for step in range(how.steps):
        report.progress("refine", step, how.steps)
        masked = step >= how.steps - how.masked
        current = Body(shape, rotation_from_six(six), place)
        loss = energy(current, start, evidence, known if masked else bare, g)
        rate = how.rate * (1 - 0.8 * step / how.steps)
        adam.step(torch.autograd.grad(loss, values), [rate * factor for factor in faster])
        with torch.no_grad():
            shape[:6].clamp_(0, 1)
            shape[6:].clamp_(-1, 1)
    return Body(shape.detach(), rotation_from_six(six).detach(), place.detach())


def energy(current: Body, start: Body, evidence: Evidence, known: Known, g: torch.Generator) -> Tensor:
    """One number: how badly a moving body agrees with what is known; without skin points, masks say nothing."""
    count, body = len(current.place), known.body
    posed = body(current.shape.expand(count, -1), current.rotations)
    keypoints = keypoints_of(body, posed) + current.place[:, None]
    loss = (
        0.3 * _unlike_people(current, known.prior, g)
        + 0.02 * (((current.shape - start.shape) / usual_spread(body)) ** 2).mean()
    )
    for crops in evidence.crops:
        loss = loss + 4.0 * _off(keypoints, crops) / len(evidence.crops)
        if body.config.points:
            loss = loss + 0.6 * _uncovered(posed.points + current.place[:, None], crops, wide=evidence.wide)
    if evidence.space is not None and evidence.space_confidence is not None:
        loss = loss + 4.0 * _apart(keypoints, evidence.space, evidence.space_confidence)
    if count > 2:
        moved = posed.joints + current.place[:, None]
        jerk = moved[2:] - 2 * moved[1:-1] + moved[:-2]
        loss = loss + known.how.smooth * 0.02 / evidence.step_s * jerk.norm(dim=-1).mean()
    if evidence.height_m is not None:
        loss = loss + 20 * (height(body, current.shape) - evidence.height_m) ** 2
    return loss


def in_view(places: Tensor, crops: Crops) -> Tensor:
    """Places (T, 3) in the view frames of a view's crops."""
    turn, shift = (torch.from_numpy(getattr(crops, name)).float() for name in ("turn", "shift"))
    return (turn @ places[..., None])[..., 0] + shift


def height(body: GcBody, shape: Tensor) -> Tensor:
    """Standing height of a shape (S,), metres, from its heels to the crown."""
    joints = body.rest(shape[None])[1][0]
    return _CROWN * (joints[5, 2] - joints[[18, 19], 2].mean()) + _SOLE_M


def _off(keypoints: Tensor, crops: Crops) -> Tensor:
    sure = torch.from_numpy(crops.confidence).float()
    square = ((in_crop(keypoints, crops)[0] - torch.from_numpy(crops.joints).float()) ** 2).sum(-1)
    miss = (square + 1e-8).sqrt() * 0.3 + _SCALE * square / (square + _SCALE**2)
    return (miss * sure).sum() / sure.sum().clamp(min=1.0)


def _apart(keypoints: Tensor, space: Tensor, confidence: Tensor) -> Tensor:
    known = space.isfinite().all(-1)
    square = ((keypoints - space.nan_to_num()) ** 2).sum(-1)
    miss = (square + 1e-8).sqrt() + _SPACE_M * square / (square + _SPACE_M**2)
    weight = confidence * known
    return (miss * weight).sum() / weight.sum().clamp(min=1.0)


def _uncovered(points: Tensor, crops: Crops, *, wide: bool) -> Tensor:
    """1 - IoU of silhouettes and masks, and what sticks out; where clothes are wide, what is not filled counts less."""
    kept = torch.from_numpy(np.flatnonzero(crops.masked))
    if not len(kept):
        return points.sum() * 0
    plane, scale = in_crop(points, crops)
    mask = torch.from_numpy(crops.masks)[kept]
    mine = splat(plane[kept], scale[kept], mask.shape[-1])
    out = (mine * (1 - mask)).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1.0)
    inside = (mask * (1 - mine)).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1.0)
    if wide:
        return (out.clamp(max=1.0) + 0.3 * inside).mean()
    return (1 - soft_iou(mine, mask)).mean() + 0.2 * out.clamp(max=1.0).mean()


def _unlike_people(current: Body, prior: PosePrior, g: torch.Generator) -> Tensor:
    noise = 0.05 + 0.25 * torch.rand(len(current.place), generator=g)
    pose = pose_vector(current.rotations)
    wanted = (pose + prior.correction(current.rotations, noise, g)).detach()
    return (((pose - wanted) ** 2) / prior.spread).mean()


def overlap(current: Body, evidence: Evidence, body: GcBody) -> list[Array]:
    """(T,) IoU of the body with each view's masks, NaN where there is none; hard, at the crops' resolution."""
    out = []
    with torch.no_grad():
        posed = body(current.shape.expand(len(current.place), -1), current.rotations)
        for crops in evidence.crops:
            plane, scale = in_crop(posed.points + current.place[:, None], crops)
            mask = torch.from_numpy(crops.masks)
            found = soft_iou((splat(plane, scale, mask.shape[-1]) > 0.5).float(), (mask > 0.5).float()).numpy()
            out.append(np.where(crops.masked, found, np.nan))
    return out


def misses(current: Body, evidence: Evidence, body: GcBody) -> Array:
    """(V, T) mean distance of keypoints in crops, in halves of the crop, NaN where nothing was seen."""
    out = []
    with torch.no_grad():
        posed = body(current.shape.expand(len(current.place), -1), current.rotations)
        keypoints = keypoints_of(body, posed) + current.place[:, None]
        for crops in evidence.crops:
            off = (in_crop(keypoints, crops)[0] - torch.from_numpy(crops.joints).float()).norm(dim=-1).numpy()
            total = crops.confidence.sum(1)
            mean = (off * crops.confidence).sum(1) / np.maximum(total, 1e-6)
            out.append(np.where(total > 0, mean, np.nan))
    return np.stack(out)
