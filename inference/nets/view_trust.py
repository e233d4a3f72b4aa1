"""How far to believe each view of each point, from geometry alone: the algebraic method behind any detector.

The published network reads confidences off the picture (Iskakov 2019, section 3.1). Here a small network, blind to the
order of the views, reads them off what every detector gives: its score, how far a ray passes from where the others
meet, whether the ray of the other side fits better, how the neighbours on the body fare, and how long the limbs come
out. The point is the weighted linear triangulation, as published; two rounds, since better points show better which
views err. Every point comes with its expected error.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..core.skeletons import BODY_25_PARENTS, HAND_21_PARENTS, MIRROR_137

NAME = "view-trust"
SCHEMA = 1
_POINTS = 137
_FEATURES = 16
_MOST_PAIRS = 21
_LEAST = 1e-4  # a view that is not believed still counts so much, lest two others be parallel
_FAR = 0.25  # of the height: no residual counts as longer
_SCALE = 0.02  # of the height: where a ray begins to be an outlier before the network has looked


@dataclass(frozen=True)
class ViewTrustConfig:
    """Shape of the network."""

    hidden: int = 64
    embedding: int = 8
    rounds: int = 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class Trusted(NamedTuple):
    """What comes out.

    points (B, J, 3) metres, NaN where fewer than two views see one; weights (B, V, J) in (0, 1), 0 where not seen;
    error (B, J) metres: two of three points (68 %) lie nearer to the truth; rounds: the points after every round.
    """

    points: Tensor
    weights: Tensor
    error: Tensor
    rounds: tuple[Tensor, ...]


class Views(NamedTuple):
    """What V cameras see of one person in B frames.

    directions (B, V, J, 2): undistorted x / z and y / z; score (B, V, J), 0 where not seen; rotation (B, V, 3, 3) and
    translation (B, V, 3): x_cam = R x_world + t, metres; height (B,) of the person, metres.
    """

    directions: Tensor
    score: Tensor
    rotation: Tensor
    translation: Tensor
    height: Tensor


class ViewTrust(nn.Module):
    """Confidences of views, and the points that follow from them."""

    mirror: Tensor
    parents: Tensor

    def __init__(self, config: ViewTrustConfig) -> None:
        super().__init__()
        self.config = config
        hidden, inputs = config.hidden, _FEATURES + config.embedding + config.rounds
        self.joint = nn.Embedding(_POINTS, config.embedding)
        self.view = nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.trust = nn.Sequential(nn.Linear(3 * hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1))
        self.doubt = nn.Sequential(nn.Linear(2 * hidden + 2, hidden), nn.SiLU(), nn.Linear(hidden, 1))
        self.register_buffer("mirror", torch.tensor(MIRROR_137), persistent=False)
        self.register_buffer("parents", _parents(), persistent=False)

    def forward(self, views: Views) -> Trusted:
        """Believe and intersect."""
        seen = views.score > 0
        points = meet(views)
        weights, error, rounds = views.score, points[..., 0], []
        for index in range(self.config.rounds):
            features = self._look(views, points, seen, index)
            each = self.view(features)
            mean, most = _pool(each, seen)
            both = torch.cat([mean, most], -1)
            believed = _told(self.trust, each, both)[..., 0]
            weights = (torch.sigmoid(believed) + _LEAST) * seen
            points, spread = solve(views, weights)
            rounds.append(points)
            given = torch.stack([spread.clamp(1e-3, 30).log(), weights.sum(1).clamp_min(1e-3).log()], -1)
            error = torch.exp(self.doubt(torch.cat([both, given.detach()], -1))[..., 0]) * views.height[:, None]
        known = seen.sum(1) >= 2
        points = torch.where(known[..., None], points, points.new_full((), torch.nan))
        return Trusted(points, weights, error, tuple(rounds))

    def _look(self, views: Views, points: Tensor, seen: Tensor, index: int) -> Tensor:
        """(B, V, J, F) what can be known of every view of every point."""
        height = views.height[:, None, None]
        joints = points.shape[1]
        own, depth = residuals(views, points)
        other, _ = residuals(views._replace(directions=views.directions[:, :, self.mirror[:joints]]), points)
        swapped_seen = seen[:, :, self.mirror[:joints]]
        far = own.norm(dim=-1) / height
        far_other = torch.where(swapped_seen, other.norm(dim=-1) / height, far.new_full((), _FAR))
        far, far_other = (torch.where(seen, value, torch.zeros_like(value)) for value in (far, far_other))
        alone = without_one(views, own, seen) / height
        count = seen.sum(1, keepdim=True).expand_as(far)
        up = self.parents[:joints]
        length = (points - points[:, up]).norm(dim=-1)[:, None] / height
        typical = _median(far, seen)
        columns = [
            views.score, seen, _log(far), _log(far_other), _log(alone), _log(far[:, :, up]), seen[:, :, up],
            views.score[:, :, up], (own[..., 0] / height).clamp(-_FAR, _FAR) * 10,
            (own[..., 1] / height).clamp(-_FAR, _FAR) * 10, count / 6, _log(length.expand_as(far)),
            (depth / height / 4).clamp(-1, 4), _log(typical[:, :, None].expand_as(far)),
            torch.log(_leverage(views, seen) + 1e-2), seen.float().mean(2, keepdim=True).expand_as(far),
        ]  # fmt: skip
        which = torch.zeros(self.config.rounds, device=far.device)
        which[index] = 1.0
        name = self.joint.weight[: far.shape[2]].expand(*far.shape, -1)
        return torch.cat([torch.stack([c.float() for c in columns], -1), name, which.expand(*far.shape, -1)], -1)


def meet(views: Views) -> Tensor:
    """(B, J, 3) where most rays meet: of all pairs' intersections and that of all, the one of the least doubt.

    As `core.triangulation.consensus`, for scenes with cameras of their own.
    """
    best, _ = solve(views, views.score)
    least = _total_doubt(views, best)
    for pair in _pairs(views.score.shape[1]):
        some = _some(views, pair)
        points, _ = solve(some, (some.score > 0).float())
        found = (some.score > 0).all(1)
        doubt = torch.where(found, _total_doubt(views, points), torch.inf)
        better = doubt < least
        best, least = torch.where(better[..., None], points, best), torch.where(better, doubt, least)
    scale = _SCALE * views.height[:, None, None]
    for _ in range(2):
        far = residuals(views, best)[0].norm(dim=-1) / scale
        best, _ = solve(views, views.score / (1 + far.square()).square() + 1e-6 * (views.score > 0))
    return best


def solve(views: Views, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted linear triangulation in double precision, differentiable in the weights.

    Returns:
        (B, J, 3) points, anything where fewer than two views have weight, and (B, J) how much a unit of noise on every
        ray spreads them.
    """
    turn, place, seen = views.rotation.double(), views.translation.double(), views.directions.double()
    w = weights.double()[..., None]  # (B, V, J, 1)
    rows = turn[:, :, None, :2] - seen[..., None] * turn[:, :, None, 2:]  # (B, V, J, 2, 3)
    values = seen * place[:, :, None, 2:] - place[:, :, None, :2]  # (B, V, J, 2)
    weighted = rows * w[..., None]
    normal = torch.einsum("bvjki,bvjkl->bjil", weighted, rows)
    right = torch.einsum("bvjki,bvjk->bji", weighted, values)
    normal = normal + 1e-9 * torch.eye(3, dtype=normal.dtype, device=normal.device)
    inverse = inverted(normal)
    points = (inverse @ right[..., None])[..., 0]
    spread = inverse.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(0).sqrt()
    return points.float(), spread.float()


def inverted(symmetric: Tensor) -> Tensor:
    """(..., 3, 3) inverses in closed form, many times faster than a call of LAPACK for each."""
    a, b, c = symmetric[..., 0, 0], symmetric[..., 0, 1], symmetric[..., 0, 2]
    d, e, f = symmetric[..., 1, 1], symmetric[..., 1, 2], symmetric[..., 2, 2]
    aa, ab, ac = d * f - e * e, c * e - b * f, b * e - c * d
    bb, bc, cc = a * f - c * c, b * c - a * e, a * d - b * b
    adjugate = torch.stack([aa, ab, ac, ab, bb, bc, ac, bc, cc], -1).unflatten(-1, (3, 3))
    return adjugate / (a * aa + b * ab + c * ac)[..., None, None]


def residuals(views: Views, points: Tensor) -> tuple[Tensor, Tensor]:
    """(B, V, J, 2) metres by which rays pass points (B, J, 3), at their depth, and the depths (B, V, J)."""
    camera = torch.einsum("bvij,bkj->bvki", views.rotation, points) + views.translation[:, :, None]
    depth = camera[..., 2]
    return views.directions * depth[..., None] - camera[..., :2], depth


def without_one(views: Views, own: Tensor, seen: Tensor) -> Tensor:
    """(B, V, J) metres by which a ray would pass the point of all others, by the leverage of its equations."""
    turn = views.rotation[:, :, None]
    rows = (turn[..., :2, :] - views.directions[..., None] * turn[..., 2:, :]) * seen[..., None, None]
    normal = torch.einsum("bvjki,bvjkl->bjil", rows, rows) + 1e-6 * torch.eye(3, device=rows.device)
    hat = torch.einsum("bvjki,bjil,bvjml->bvjkm", rows, inverted(normal), rows)
    rest = (torch.eye(2, device=rows.device) - hat).diagonal(dim1=-2, dim2=-1).clamp_min(0.02)
    return (own / rest).norm(dim=-1) * seen


def build(config: dict[str, Any]) -> ViewTrust:
    """Build the network that a header describes."""
    return ViewTrust(ViewTrustConfig(**config))


def _pairs(count: int) -> list[tuple[int, int]]:
    pairs = list(combinations(range(count), 2))
    if count == 2 or len(pairs) <= _MOST_PAIRS:
        return pairs
    step = len(pairs) / _MOST_PAIRS
    return [pairs[int(i * step)] for i in range(_MOST_PAIRS)]


def _some(views: Views, which: tuple[int, ...]) -> Views:
    index = list(which)
    parts = (views.directions, views.score, views.rotation, views.translation)
    directions, score, rotation, translation = (part[:, index] for part in parts)
    return Views(directions, score, rotation, translation, views.height)


def _total_doubt(views: Views, points: Tensor) -> Tensor:
    offset, depth = residuals(views, points)
    far = (offset.norm(dim=-1) / (_SCALE * views.height[:, None, None])).square()
    return (torch.where(depth > 0, far / (1 + far), 1.0) * views.score).sum(1)


def _leverage(views: Views, seen: Tensor) -> Tensor:
    """(B, V, J) sine of the widest angle between a ray and another that sees the point."""
    rays = torch.cat([views.directions, torch.ones_like(views.directions[..., :1])], -1)
    rays = torch.einsum("bvji,bvik->bvjk", rays, views.rotation)
    rays = nn.functional.normalize(rays, dim=-1) * seen[..., None]
    cosine = torch.einsum("bvji,bwji->bvwj", rays, rays).abs()
    both = seen[:, :, None] & seen[:, None]
    sine = torch.where(both, (1 - cosine.square()).clamp_min(0), 0.0)
    return sine.amax(2).sqrt()


def _told(net: nn.Sequential, each: Tensor, both: Tensor) -> Tensor:
    """Run a network on (B, V, J, H) features beside those of all views (B, J, 2 H), which are looked at once."""
    first = net[0]
    assert isinstance(first, nn.Linear)
    own, common = first.weight.split([each.shape[-1], both.shape[-1]], dim=1)
    hidden = nn.functional.linear(each, own) + nn.functional.linear(both, common, first.bias)[:, None]
    return net[1:](hidden)


def _pool(each: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and maximum (B, J, H) over the views that see."""
    mask = seen[..., None]
    mean = (each * mask).sum(1) / mask.sum(1).clamp_min(1)
    most = torch.where(mask, each, each.new_full((), -1e4)).amax(1)
    return mean, torch.where(mask.any(1), most, torch.zeros_like(most))


def _median(far: Tensor, seen: Tensor) -> Tensor:
    """(B, V) median over the points that a view sees."""
    values = torch.where(seen, far, far.new_full((), torch.nan))
    return values.nanmedian(dim=2).values.nan_to_num(0.0)


def _log(value: Tensor) -> Tensor:
    """Lengths of a few thousandths to a quarter of the height, spread evenly over about -2 to 2."""
    return torch.log(value.clamp(0, _FAR) + 2e-3) + 4.0


def _parents() -> Tensor:
    """(137,) the neighbour of each point on the way to the trunk; the trunk's own is its other end."""
    body = [8 if parent < 0 else parent for parent in BODY_25_PARENTS]
    body[8] = 1
    face = [0] * 70
    left = [7 if parent < 0 else 95 + parent for parent in HAND_21_PARENTS]
    right = [4 if parent < 0 else 116 + parent for parent in HAND_21_PARENTS]
    return torch.tensor([*body, *face, *left, *right])
