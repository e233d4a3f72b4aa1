"""Silhouettes and joints of a clip to one body in motion: GC-SSN, its hypotheses, one shape, and a fit to what is seen.

Every frame is read on its own, as seen and mirrored, and with each limb's depth turned round. Of these, a path over
time is chosen that agrees with the joints, looks like people, and does not jump (Viterbi 1967). Then one shape is
found for the clip, and poses are fitted, a stretch at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .. import nets
from ..core.artifacts import BodyParameters, Keypoints3D
from ..core.filters import whittaker
from ..core.rotations import between, continuous, matrix_from_quaternion, quaternion_from_matrix
from ..nets.gc_body import KEYPOINTS, PARENTS, PARTS, GcBody, usual_spread
from ..nets.gc_ssn import Estimate, Generator, Seen
from ..nets.pose_prior import PosePrior
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from ..runtime import weights
from .model import spread
from .refine import TOGETHER, Adam, Body, Evidence, Fit, Known, Sight, fit, height, keypoints_of, misses, overlap
from .represent import VIEW_FROM_CAMERA, Crops, View, crop

Array = np.ndarray
_STRETCH = 160  # frames that are fitted at a time
_LENGTHS = ("torso-scale-vert-incr", "upperlegs-height-incr", "lowerlegs-height-incr")  # for the very tall
_SHAPED = (40, 8, 24)  # steps to find the shape: least before masks' edges, of these at masks, then at edges
_TRACED = 12  # of the steps of a stretch, at masks' edges
_LOOKS = 12  # frames that the shape is found from
_SKIN = 600  # points of the skin while the shape is not fitted
_ENLARGING, _PLACING = 80, 20  # steps by which a body is made as tall as a distance says, and is then moved
_FLAT = 1.014  # readings lie flatter than people do, so that these are taller at a distance; of training people
_ENOUGH = 8  # joints in space that say how large somebody is
_GOOD_MISS = 0.06  # of a joint in a crop, at which a pose is believed about two thirds
_GOOD_IOU = 0.55
_JUMP = 1.5  # cost of a metre of joint travel from a frame to the next
_AWAY_S = 0.25  # somebody who was out of sight longer than this may be anywhere
_BETWEEN = 1e-6  # weight of what is put between two frames, to smooth over shorter gaps
_GENDERS = {"unknown": None, "male": 0.1, "female": 0.9}  # of the shape; as people are drawn in training
_OPPOSITE = {"L": "R", "R": "L"}
_NAMES = [name for name, _, _ in PARTS]
_MIRROR = [_NAMES.index(n[:-1] + _OPPOSITE[n[-1]]) if n[-2] == "." else k for k, n in enumerate(_NAMES)]
_SWAPPED = [KEYPOINTS.index({2: 5, 3: 6, 4: 7, 5: 2, 6: 3, 7: 4, 9: 12, 10: 13, 11: 14, 12: 9, 13: 10, 14: 11, 15: 16,
                             16: 15, 17: 18, 18: 17, 19: 22, 20: 23, 21: 24, 22: 19, 23: 20, 24: 21}.get(k, k))
            for k in KEYPOINTS]  # fmt: skip
_LIMBS = [tuple(_NAMES.index(f"{part}.{side}") for part in limb)
          for limb in (("upperarm", "forearm", "hand"), ("thigh", "shin", "foot")) for side in "LR"]  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How a clip becomes a body; lengths in metres.

    refine: steps of fitting for each stretch; hypotheses: whether other readings of a frame are weighed; distance_m:
    between the first view's camera and the pelvis in the first frame that shows it; sex: "female", "male", or
    "unknown", which leaves it to what is seen.
    """

    refine: int = 60
    smoothing: float = 0.5
    hypotheses: bool = True
    min_confidence: float = 0.3
    height_m: float | None = None
    distance_m: float | None = None
    loose_clothes: bool = False
    sex: str = "unknown"


@dataclass(frozen=True)
class Networks:
    """What is learnt: the generator, the body it speaks of, with skin and without, and the prior over poses."""

    generator: Generator
    body: GcBody
    prior: PosePrior

    @cached_property
    def bare(self) -> GcBody:
        """The body without skin: of a long clip that would be much."""
        return self.body.thinned(0)


@dataclass(frozen=True)
class Found:
    """The result for the frames `at` that show somebody; `level` (3, 3) took the artifact's frame to the body's."""

    body: Body
    at: Array
    level: Array
    iou: Array
    confidence: Array
    evidence: Evidence


def load_networks() -> Networks:
    """Load the published weights.

    Raises:
        WeightsError: missing or damaged.
    """
    found = [nets.load(weights.locate(name)) for name in ("gc-ssn", "gc-body", "pose-prior")]
    generator, body, prior = (net.requires_grad_(requires_grad=False) for net in found)
    assert isinstance(generator, Generator) and isinstance(body, GcBody) and isinstance(prior, PosePrior)
    return Networks(generator, body, prior)


def regress(
    views: Sequence[View], settings: Settings, report: Reporter, *, keypoints_3d: Keypoints3D | None = None,
    networks: Networks | None = None,
) -> BodyParameters:  # fmt: skip
    """Read a clip of one person.

    The network reads each frame in the first of the views that shows the person; all, and joints in space of the same
    frames, are fitted to.

    Returns:
        The body in the frame of `keypoints_3d`, else in the first view's camera frame.
    Raises:
        InputError: fewer than three frames show the person.
    """
    known = networks or load_networks()
    level = _level(views[0], keypoints_3d)
    crops = [crop(view, known.generator.config.side, settings.min_confidence, level) for view in views]
    seen = np.any([each.seen for each in crops], 0)
    times = views[0].keypoints.times
    if int(seen.sum()) < 3:
        raise InputError(f"{int(seen.sum())} of {len(seen)} frames show enough of a person; at least 3 are needed.")
    step_s = float(np.median(np.diff(times))) if len(times) > 1 else 1 / 30
    at = np.flatnonzero(seen)
    alone = keypoints_3d is None or keypoints_3d.header.get("frame") == "camera"  # nothing tells how large things are
    distances = _distances(settings, crops[0].seen) if alone else None
    space, sure = _space(keypoints_3d, level)
    evidence = Evidence(
        crops, space, sure, settings.height_m, distances, _GENDERS[settings.sex], settings.loose_clothes, step_s
    ).part(at)
    report.progress("regress", 0, 1)
    start = _read(evidence, known, settings)
    body = _fitted(start, evidence, known, settings, report)
    body = _smoothed(body, evidence, settings)
    ious, miss = overlap(body, evidence, known.body), misses(body, evidence, known.bare)
    confidence = _trust(ious, miss, evidence)
    found = Found(body, at, level, ious[0], confidence, evidence)
    return _parameters(views, found, known, keypoints_3d)


def _level(view: View, space: Keypoints3D | None) -> Array:
    """(3, 3) from the frame of the result to one with z up."""
    floor = None if space is None else space.header.get("floor_from_frame")
    if floor is not None:
        return np.array(floor)[:3, :3]
    if space is not None and space.header.get("frame") == "world":
        return np.eye(3)
    return VIEW_FROM_CAMERA @ view.camera.rotation


def _space(space: Keypoints3D | None, level: Array) -> tuple[Tensor | None, Tensor | None]:
    if space is None:
        return None, None
    index = list(KEYPOINTS)
    points = torch.from_numpy(space.positions[:, index] @ level.T).float()
    return points, torch.from_numpy(np.nan_to_num(space.confidence[:, index])).float()


def _distances(settings: Settings, seen: Array) -> Tensor | None:
    if settings.distance_m is None or not seen.any():
        return None
    out = torch.full((len(seen),), torch.nan)
    out[int(np.flatnonzero(seen)[0])] = settings.distance_m
    return out


@torch.no_grad()
def _read(evidence: Evidence, known: Networks, settings: Settings) -> Body:
    """What the network reads of the crops, in the evidence's frame; of several readings, a path over time."""
    crops = _shown(evidence.crops)
    seen = Seen(
        torch.from_numpy(crops.masks), torch.from_numpy(crops.joints).float(),
        torch.from_numpy(crops.confidence).float(), torch.from_numpy(crops.half).float(),
    )  # fmt: skip
    readings = [_estimated(known.generator, seen)]
    if settings.hypotheses:
        readings.append(_mirrored(known.generator, seen))
    shape = torch.stack([reading.shape for reading in readings]).mean(0)
    sure = seen.confidence.sum(1, keepdim=True)
    one = (shape * sure).sum(0) / sure.sum()
    one = torch.cat([one[:6].clamp(0, 1), one[6:].clamp(-1, 1)])
    if evidence.gender is not None:
        one[known.bare.shape_names.index("gender")] = evidence.gender
    bodies = [_placed(reading, crops, one) for reading in readings]
    if settings.hypotheses:
        bodies += [_limb_turned(bodies[0], known.bare, crops, limb) for limb in _LIMBS]
    return _path(bodies, evidence, known) if len(bodies) > 1 else bodies[0]


def _shown(crops: Sequence[Crops]) -> Crops:
    """Of each frame, the crop of the first view that shows the person."""
    which, rows = np.argmax([each.seen for each in crops], 0), np.arange(len(crops[0].half))
    if not which.any():
        return crops[0]
    return Crops(*(np.stack([getattr(each, item.name) for each in crops])[which, rows] for item in fields(Crops)))


def _estimated(net: Generator, seen: Seen) -> Estimate:
    """What the network makes of many frames, some at a time: all at once would take half a megabyte of each."""
    parts = []
    for at in torch.arange(len(seen.joints)).split(TOGETHER):
        mask = None if seen.mask is None else seen.mask[at]
        parts.append(net(Seen(mask, seen.joints[at], seen.confidence[at], seen.half[at])))
    return Estimate(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _mirrored(net: Generator, seen: Seen) -> Estimate:
    """What the network makes of the mirror image, mirrored back."""
    assert seen.mask is not None
    joints = seen.joints[:, _SWAPPED] * torch.tensor([-1.0, 1.0])
    found = _estimated(net, Seen(seen.mask.flip(2), joints, seen.confidence[:, _SWAPPED], seen.half))
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    camera = found.camera * torch.tensor([1.0, -1.0, 1.0])
    return Estimate(found.shape, flip @ found.rotations[:, _MIRROR] @ flip, camera)


def _placed(reading: Estimate, crops: Crops, shape: Tensor) -> Body:
    """An estimate in crops' cameras, in the frame that the crops are seen from."""
    sight = Sight.of(crops)
    scale, x, y = reading.camera.unbind(1)
    view = torch.stack([x / scale, 1 / (scale * sight.half), -y / scale], 1)
    whole = sight.turn.transpose(1, 2) @ reading.rotations[:, 0]
    rotations = torch.cat([whole[:, None], reading.rotations[:, 1:]], 1)
    return Body(shape, rotations, sight.world(view[:, None])[:, 0])


def _limb_turned(body: Body, model: GcBody, crops: Crops, limb: tuple[int, ...]) -> Body:
    """The same body with one limb as far behind its joint as it was before it: the same picture, nearly."""
    posed = model(body.shape[None], body.rotations)
    away = torch.from_numpy(crops.turn).float()[:, 1]
    turned = posed.rotations.clone()
    ends = (*limb[1:], limb[-1] + 2 if _NAMES[limb[-1]].startswith("foot") else limb[-1])
    for part, end in zip(limb, ends, strict=True):
        if part == end:  # a hand, which goes where the forearm goes
            continue
        along = posed.joints[:, end] - posed.joints[:, part]
        other = along - 2 * (along * away).sum(1, keepdim=True) * away
        swing = matrix_from_quaternion(between(along.numpy().astype(float), other.numpy().astype(float)))
        turned[:, part] = torch.from_numpy(swing).float() @ posed.rotations[:, part]
    parents = [max(parent, 0) for parent in PARENTS]
    local = turned[:, parents].transpose(2, 3) @ turned
    local[:, 0] = turned[:, 0]
    if _NAMES[limb[-1]].startswith("hand"):
        local[:, limb[-1]] = body.rotations[:, limb[-1]]
    return Body(body.shape, local, body.place)


def _path(bodies: Sequence[Body], evidence: Evidence, known: Networks) -> Body:
    """One reading a frame, by how well each agrees with what is seen and with the reading before."""
    costs, joints = [], []
    noise = torch.full((len(bodies[0].place),), 0.15)
    for body in bodies:
        posed = known.bare(body.shape[None], body.rotations)
        correction = known.prior.correction(body.rotations, noise)
        unlike = ((correction**2) / known.prior.spread).mean(1).numpy()
        cost = np.nan_to_num(_mean(misses(body, evidence, known.bare))) + 1.5 * unlike
        if evidence.space is not None:
            gap = (keypoints_of(known.bare, posed) + body.place[:, None] - evidence.space).norm(dim=-1).numpy()
            cost = cost + np.nan_to_num(_mean((gap - _mean(gap.T)[:, None]).T))
        costs.append(cost)
        joints.append(posed.joints.numpy())
    cost, where = np.stack(costs, 1), np.stack(joints, 1)  # (T, H), (T, H, 22, 3)
    steps = evidence.steps.numpy()
    best, came = cost[0], []
    for frame in range(1, len(cost)):
        travel = np.linalg.norm(where[frame][:, None] - where[frame - 1][None], axis=-1).mean(-1)
        total = best[None] + _JUMP * travel / steps[frame - 1]
        came.append(total.argmin(1))
        best = total.min(1) + cost[frame]
    chosen = [int(best.argmin())]
    for back in reversed(came):
        chosen.append(int(back[chosen[-1]]))
    pick = chosen[::-1]
    rows = torch.arange(len(pick))
    rotations = torch.stack([body.rotations for body in bodies])[pick, rows]
    place = torch.stack([body.place for body in bodies])[pick, rows]
    return Body(bodies[0].shape, rotations, place)


def _fitted(start: Body, evidence: Evidence, known: Networks, settings: Settings, report: Reporter) -> Body:
    """Shape from some of the frames, then all poses, a stretch at a time."""
    count = len(start.place)
    if not settings.refine:
        return start
    if evidence.space is not None:
        start = _laid_on(start, evidence, known.bare)
        start = _sized(start, _told_height(start, evidence, known.bare), evidence, known.bare)
    if evidence.height_m is not None:
        start = _sized(start, evidence.height_m, evidence, known.bare)
    some = np.unique(np.linspace(0, count - 1, min(count, _LOOKS)).astype(int))
    smooth = 0.0 if len(some) < count else settings.smoothing
    least, masked, edged = _SHAPED
    how = Fit(max(settings.refine, least) + edged, masked, edged, shape=True, smooth=smooth)
    shape = fit(start.part(some), evidence.part(some), Known(known.body, known.prior, how), report).shape
    start = _rescaled(replace(start, shape=shape), start.shape, evidence, known.bare)
    pose = Fit(settings.refine, masked=0, traced=_TRACED, shape=False, smooth=settings.smoothing)
    body = _in_stretches(start, evidence, known, pose, report)
    if evidence.distance_m is None or evidence.space is not None:
        return body
    # What is seen fixes distance over height, and so a distance gives the height.
    ratio = evidence.distance_m / Sight.of(evidence.crops[0]).view(body.place[:, None])[:, 0].norm(dim=-1)
    tall = float(_FLAT * ratio[ratio.isfinite()].mean() * height(known.bare, body.shape))
    move = replace(pose, steps=_PLACING, traced=_PLACING // 2, pose=False)
    return _in_stretches(_enlarged(body, tall, evidence, known), evidence, known, move, report)


def _told_height(body: Body, evidence: Evidence, model: GcBody) -> float:
    """Height of a body as large as joints in space are."""
    assert evidence.space is not None
    known = evidence.space.isfinite().all(-1, keepdim=True)
    each = known.sum(1, keepdim=True)
    spreads = []
    for points in (keypoints_of(model, model(body.shape[None], body.rotations)), evidence.space.nan_to_num()):
        middle = (points * known).sum(1, keepdim=True) / each.clamp(min=1)
        spreads.append((((points - middle) * known) ** 2).sum((1, 2)))
    enough = each[:, 0, 0] >= _ENOUGH
    ratio = (spreads[1] / spreads[0])[enough].sqrt().median() if enough.any() else 1.0
    return float(height(model, body.shape) * ratio)


def _in_stretches(start: Body, evidence: Evidence, known: Networks, how: Fit, report: Reporter) -> Body:
    """Poses and places fitted, or places alone, a stretch at a time, the shape as it is."""
    parts, count, thin = [], len(start.place), known.body.thinned(_SKIN)
    for begin in range(0, count, _STRETCH):
        at = np.arange(begin, min(count, begin + _STRETCH))
        parts.append(fit(start.part(at), evidence.part(at), Known(thin, known.prior, how), report))
        report.progress("regress", int(at[-1]) + 1, count)
    return Body(start.shape, torch.cat([p.rotations for p in parts]), torch.cat([p.place for p in parts]))


def _sized(body: Body, tall: float, evidence: Evidence, model: GcBody) -> Body:
    """The same body `tall` metres high, or as near as its parameters take it, and as large to the eye."""
    low, high = body.shape.clone(), body.shape.clone()
    low[model.shape_names.index("height")], high[model.shape_names.index("height")] = 0.0, 1.0
    longer = high.clone()
    longer[[model.shape_names.index(name) for name in _LENGTHS]] = 1.0
    way = torch.linspace(0, 1, 21)[:, None]
    shapes = torch.cat([torch.lerp(low, high, way), torch.lerp(high, longer, way[1:])])
    heights = np.array([float(height(model, shape)) for shape in shapes])
    at = float(np.interp(tall, heights, np.arange(len(heights))))
    shape = torch.lerp(shapes[int(at)], shapes[min(int(at) + 1, len(shapes) - 1)], at - int(at))
    return _rescaled(Body(shape, body.rotations, body.place), body.shape, evidence, model)


def _enlarged(body: Body, tall: float, evidence: Evidence, known: Networks) -> Body:
    """The same body `tall` metres high in the proportions that it has, as nearly as its parameters take it.

    Poses stay: fitted again to a shape that was not fitted with them they came out worse.
    """
    model = known.body.thinned(_SKIN)
    start = _sized(body, tall, evidence, known.bare).shape
    wanted = _at_rest(model, body.shape) * (tall / height(model, body.shape))
    shape = start.clone().requires_grad_()
    adam = Adam([shape])
    for step in range(_ENLARGING):
        apart = ((_at_rest(model, shape) - wanted) ** 2).sum(-1)
        apart = apart[: -len(PARTS)].mean() + apart[-len(PARTS) :].mean()
        change = (((shape - start) / usual_spread(model)) ** 2).mean()
        loss = apart + 20 * (height(model, shape) - tall) ** 2 + 1e-4 * change
        adam.step(torch.autograd.grad(loss, [shape]), [0.05 * (1 - step / _ENLARGING)])
        with torch.no_grad():
            shape[:6].clamp_(0, 1)
            shape[6:].clamp_(-1, 1)
            if evidence.gender is not None:
                shape[model.shape_names.index("gender")] = evidence.gender
    return _rescaled(replace(body, shape=shape.detach()), body.shape, evidence, known.bare)


def _at_rest(model: GcBody, shape: Tensor) -> Tensor:
    """(N + K + 22, 3) skin points, keypoints and joints of a shape (S,) at rest, relative to the pelvis joint."""
    skin, joints = model.rest(shape[None])
    return torch.cat([skin[0], joints[0]]) - joints[0, :1]


def _rescaled(body: Body, before: Tensor, evidence: Evidence, model: GcBody) -> Body:
    """Move bodies along their rays where their size has changed, so that they look as large as they did."""
    if evidence.space is not None:
        return body
    sizes = [model.rest(shape[None])[1][0].norm(dim=-1).sum() for shape in (body.shape, before)]
    sight = Sight.of(evidence.crops[0])
    view = sight.view(body.place[:, None]) * (sizes[0] / sizes[1])
    return Body(body.shape, body.rotations, sight.world(view)[:, 0])


def _laid_on(body: Body, evidence: Evidence, model: GcBody) -> Body:
    """Turn and move bodies onto the joints in space, rigidly, frame by frame."""
    assert evidence.space is not None and evidence.space_confidence is not None
    posed = model(body.shape[None], body.rotations)
    mine = keypoints_of(model, posed)
    known = evidence.space.isfinite().all(-1)
    weight = (evidence.space_confidence * known)[..., None]
    enough = known.sum(1) >= 4
    total = weight.sum(1).clamp(min=1e-6)
    theirs = evidence.space.nan_to_num()
    middle, target = (mine * weight).sum(1) / total, (theirs * weight).sum(1) / total
    cross = ((theirs - target[:, None]) * weight).transpose(1, 2) @ (mine - middle[:, None])
    u, _, v = torch.linalg.svd(cross)
    sign = torch.ones(len(u), 3)
    sign[:, 2] = torch.det(u @ v)
    turn = torch.where(enough[:, None, None], u @ torch.diag_embed(sign) @ v, torch.eye(3))
    place = target - (turn @ middle[..., None])[..., 0]
    rotations = torch.cat([(turn @ body.rotations[:, 0])[:, None], body.rotations[:, 1:]], 1)
    return Body(body.shape, rotations, torch.where(enough[:, None], place, body.place))


def _smoothed(body: Body, evidence: Evidence, settings: Settings) -> Body:
    """Take out what jitter is left, most where least is seen."""
    count = len(body.place)
    if not settings.smoothing or count < 5:
        return body
    at = np.append(0, np.cumsum(evidence.steps.numpy())).astype(int)
    frames = int(at[-1]) + 1
    sure = np.full(frames, _BETWEEN)
    sure[at] = np.clip(np.max([crops.confidence.mean(1) for crops in evidence.crops], 0), 0.05, 1.0)
    strength = settings.smoothing * 4.0 * (1 / 30 / evidence.step_s) ** 4 * _together(at, evidence.step_s)
    quaternions = continuous(quaternion_from_matrix(body.rotations.numpy().astype(float)))
    turned = whittaker(_held(quaternions, at, frames), np.repeat(sure[:, None], len(PARTS), 1), strength)[at]
    turned /= np.linalg.norm(turned, axis=-1, keepdims=True)
    places = _held(body.place.numpy().astype(float)[:, None], at, frames)
    place = whittaker(places, sure[:, None], 2 * strength)[at, 0]
    return Body(body.shape, torch.from_numpy(matrix_from_quaternion(turned)).float(), torch.from_numpy(place).float())


def _together(at: Array, step_s: float) -> Array:
    """(T - 3, 1) 1 where four frames of a clip are one motion, 0 where somebody was away between; at: who is seen."""
    gap = np.repeat(np.diff(at), np.diff(at)) * step_s > _AWAY_S
    return 1.0 - np.max([gap[:-2], gap[1:-1], gap[2:]], 0)[:, None]


def _mean(values: Array) -> Array:
    """Mean over the first axis of what is known, NaN where nothing is."""
    count = np.isfinite(values).sum(0)
    return np.where(count > 0, np.nansum(values, 0) / np.maximum(count, 1), np.nan)


def _trust(ious: Sequence[Array], miss: Array, evidence: Evidence) -> Array:
    """(T,) in [0, 1]: how well a pose agrees with joints and masks, and how much of the person was in sight."""
    joints = np.exp(-np.nan_to_num(_mean(miss), nan=1.0) / (2 * _GOOD_MISS))
    masks = _mean(np.stack(ious)) if len(ious) else joints
    covered = np.clip(np.nan_to_num(masks, nan=0.8) / (1.4 * _GOOD_IOU), 0, 1)
    sight = np.max([(crops.confidence > 0).mean(1) for crops in evidence.crops], 0)
    return np.clip(joints * covered * np.sqrt(sight) * 1.15, 0.0, 1.0)


def _parameters(views: Sequence[View], found: Found, known: Networks, space: Keypoints3D | None) -> BodyParameters:
    """The artifact of all frames: those that showed nobody keep what is between their neighbours."""
    from .model import load_model

    first, model, body, at = views[0], load_model(), found.body, found.at
    count = len(first.keypoints.times)
    posed = known.bare(body.shape[None], body.rotations)
    turned = found.level.T @ posed.rotations.numpy().astype(float)
    pose = continuous(spread(turned, model.bones, model.parents))
    root = body.place.numpy().astype(float) @ found.level
    plane, scale = Sight.of(found.evidence.crops[0]).plane(body.place[:, None])
    camera = torch.cat([scale[:, None], plane[:, 0] / scale[:, None]], 1).numpy()
    iou, confidence = np.full(count, np.nan), np.zeros(count)
    iou[at], confidence[at] = found.iou, found.confidence
    header = {
        "unit": "m", "frame": "camera" if space is None else space.header["frame"], "fps": first.keypoints.fps,
        "skeleton": "anny", "bones": list(model.bones), "shape_names": list(known.body.shape_names), "model": "anny",
        "image_size": list(first.keypoints.image_size), "cameras": [view.camera.to_header() for view in views],
        "sources": [view.keypoints.header.get("source", "") for view in views],
    }  # fmt: skip
    if space is not None and "floor_from_frame" in space.header:
        header["floor_from_frame"] = space.header["floor_from_frame"]
    moving = (_held(values, at, count) for values in (pose, root, camera))
    pose, root, camera = moving
    shape = body.shape.numpy().astype(float)
    return BodyParameters(header, pose, root, shape, confidence, first.keypoints.times, camera, iou)


def _held(values: Array, at: Array, count: int) -> Array:
    """Values of frames `at` for all frames: between two known ones in between, and outside as the nearest."""
    out = np.empty((count, *values.shape[1:]))
    flat = values.reshape(len(at), -1)
    filled = np.stack([np.interp(np.arange(count), at, column) for column in flat.T], 1)
    out[:] = filled.reshape(out.shape)
    if values.ndim == 3 and values.shape[-1] == 4:
        out /= np.linalg.norm(out, axis=-1, keepdims=True)
    return out
