"""How far to believe each view of each point, from geometry alone: the algebraic method behind any detector.

The published network reads confidences off the picture (Iskakov 2019, section 3.1). Here a small network, blind to the
order of the views, reads them off what every detector gives: its score, how far a ray passes from where the others
meet, whether the ray of the other side fits better, how the neighbours on the body fare, and how long the limbs come
out. The point is the weighted linear triangulation, as published; two rounds, since better points show better which
views err. Every point comes with its expected error.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        known = equations(views)
        points, leverage = _meet(views, known), torch.log(_leverage(views, seen) + 1e-2)
        weights, spread, both, rounds = views.score, points[..., 0], points, []
        for index in range(self.config.rounds):
            each = self._seen(self._look(views, known, points, leverage), index)
            both = torch.cat(_pool(each, seen), -1)
            believed = _told(self.trust, each, both)[..., 0]
            weights = (torch.sigmoid(believed) + _LEAST) * seen
            points, spread = known.solve(weights)
            rounds.append(points)
        given = torch.stack([spread.clamp(1e-3, 30).log(), weights.sum(1).clamp_min(1e-3).log()], -1)
        error = torch.exp(self.doubt(torch.cat([both, given.detach()], -1))[..., 0]) * views.height[:, None]
        points = torch.where((seen.sum(1) >= 2)[..., None], points, points.new_full((), torch.nan))
        return Trusted(points, weights, error, tuple(rounds))

    def _seen(self, features: Tensor, index: int) -> Tensor:
        """(B, V, J, H) of features (B, V, J, F), of the joints' names and of which round it is, the same for all."""
        first = self.view[0]
        assert isinstance(first, nn.Linear)
        own, name, which = first.weight.split([_FEATURES, self.config.embedding, self.config.rounds], dim=1)
        common = nn.functional.linear(self.joint.weight[: features.shape[2]], name, first.bias) + which[:, index]
        return self.view[1:](nn.functional.linear(features, own) + common)

    def _look(self, views: Views, known: Equations, points: Tensor, leverage: Tensor) -> Tensor:
        """(B, V, J, F) what can be known of every view of every point."""
        height, joints, seen = views.height[:, None, None], points.shape[1], views.score > 0
        mirror, up = self.mirror[:joints], self.parents[:joints]
        placed = _in_cameras(views, points)
        x, y = _past(views.directions, placed)
        x, y, far = x / height, y / height, _length(x, y) / height
        far_other = _length(*_past(views.directions[:, :, mirror], placed)) / height
        zero = far.new_zeros(())
        far_other = torch.where(seen, torch.where(seen[:, :, mirror], far_other, far.new_full((), _FAR)), zero)
        far, alone = torch.where(seen, far, zero), known.alone(x, y, seen)
        near = _log(far)
        length = (points - points[:, up]).norm(dim=-1)[:, None] / height
        columns = [
            views.score, seen, near, _log(far_other), _log(alone), near[:, :, up], seen[:, :, up],
            views.score[:, :, up], x.clamp(-_FAR, _FAR) * 10, y.clamp(-_FAR, _FAR) * 10,
            (seen.sum(1, keepdim=True) / 6).expand_as(far), _log(length).expand_as(far),
            (placed[:, :, 2] / height / 4).clamp(-1, 4), _log(_median(far, seen))[:, :, None].expand_as(far),
            leverage, seen.float().mean(2, keepdim=True).expand_as(far),
        ]  # fmt: skip
        return torch.stack([column.float() for column in columns], -1)


class Equations(NamedTuple):
    """The linear equations of all rays, in double precision: rows (2, 3, B, V, J) of x and y, and what they add.

    products (9, B, V, J): to the six entries of a point's normal matrix and the three of its right side.
    """

    rows: Tensor
    products: Tensor

    def solve(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """As `solve`, for weights (B, V, J)."""
        return _solved((self.products * weights.double()).sum(2))

    def alone(self, x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
        """(B, V, J) how far rays would pass the point of all others, by the leverage of their equations.

        `x` and `y` (B, V, J): how far they pass the point of all.
        """
        normal = (self.products[:6] * seen).sum(2)
        normal[[0, 3, 5]] += 1e-6
        (aa, ab, ac, bb, bc, cc), determinant = _adjugate(normal)
        rest = []
        for a, b, c in self.rows:  # (B, V, J) each
            quadratic = a * a * aa[:, None] + b * b * bb[:, None] + c * c * cc[:, None]
            quadratic = quadratic + 2 * (a * b * ab[:, None] + a * c * ac[:, None] + b * c * bc[:, None])
            rest.append((1 - quadratic / determinant[:, None]).clamp_min(0.02).float())
        return _length(x / rest[0], y / rest[1]) * seen


def equations(views: Views) -> Equations:
    """Write the equations of all rays; weights come later."""
    turn, place = views.rotation.double()[..., None], views.translation.double()[..., None]
    rows, values = [], []
    for axis in (0, 1):
        seen = views.directions[..., axis].double()
        rows.append([turn[:, :, axis, i] - seen * turn[:, :, 2, i] for i in range(3)])
        values.append(seen * place[:, :, 2] - place[:, :, axis])
    (a, b, c), (d, e, f) = rows
    v, w = values
    products = [a * a + d * d, a * b + d * e, a * c + d * f, b * b + e * e, b * c + e * f, c * c + f * f,
                a * v + d * w, b * v + e * w, c * v + f * w]  # fmt: skip
    return Equations(torch.stack([torch.stack(row) for row in rows]), torch.stack(products))


def meet(views: Views) -> Tensor:
    """(B, J, 3) where most rays meet: of all pairs' intersections and that of all, the one of the least doubt.

    As `core.triangulation.consensus`, for scenes with cameras of their own.
    """
    return _meet(views, equations(views))


def _meet(views: Views, known: Equations) -> Tensor:
    seen = views.score > 0
    best, _ = known.solve(views.score)
    least, pairs = _total_doubt(views, best), _pairs(views.score.shape[1])
    products = known.products * seen
    for one, other in pairs:
        points, _ = _solved(products[:, :, one] + products[:, :, other])
        found = seen[:, one] & seen[:, other]
        doubt = torch.where(found, _total_doubt(views, points), torch.inf)
        better = doubt < least
        best, least = torch.where(better[..., None], points, best), torch.where(better, doubt, least)
    scale = (_SCALE * views.height[:, None, None]).square()
    for _ in range(2):
        x, y = _past(views.directions, _in_cameras(views, best))
        best, _ = known.solve(views.score / (1 + (x * x + y * y) / scale).square() + 1e-6 * seen)
    return best


def solve(views: Views, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted linear triangulation in double precision, differentiable in the weights.

    Returns:
        (B, J, 3) points, anything where fewer than two views have weight, and (B, J) how much a unit of noise on every
        ray spreads them.
    """
    return equations(views).solve(weights)


def _solved(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Solve (9, B, J) normal equations, a touch nearer to the origin than they say lest they be singular."""
    a, b, c, d, e, f, x, y, z = sums.unbind(0)
    (aa, ab, ac, bb, bc, cc), determinant = _adjugate([a + 1e-9, b, c, d + 1e-9, e, f + 1e-9])
    points = [aa * x + ab * y + ac * z, ab * x + bb * y + bc * z, ac * x + bc * y + cc * z]
    points = torch.stack([(point / determinant).float() for point in points], -1)
    return points, ((aa + bb + cc) / determinant).clamp_min(0).sqrt().float()


def _adjugate(entries: Sequence[Tensor] | Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """Six entries of the adjugates of symmetric 3 x 3 matrices, and their determinants, of six entries."""
    a, b, c, d, e, f = entries
    adjugate = (d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b)
    return adjugate, a * adjugate[0] + b * adjugate[1] + c * adjugate[2]


def inverted(symmetric: Tensor) -> Tensor:
    """(..., 3, 3) inverses in closed form, many times faster than a call of LAPACK for each."""
    rows = [symmetric[..., i, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))]
    (aa, ab, ac, bb, bc, cc), determinant = _adjugate(rows)
    adjugate = torch.stack([aa, ab, ac, ab, bb, bc, ac, bc, cc], -1).unflatten(-1, (3, 3))
    return adjugate / determinant[..., None, None]


def residuals(views: Views, points: Tensor) -> tuple[Tensor, Tensor]:
    """(B, V, J, 2) metres by which rays pass points (B, J, 3), at their depth, and the depths (B, V, J)."""
    placed = _in_cameras(views, points)
    return torch.stack(_past(views.directions, placed), -1), placed[:, :, 2]


def _in_cameras(views: Views, points: Tensor) -> Tensor:
    """(B, V, 3, J) points (B, J, 3) in the cameras' frames."""
    return views.rotation @ points.mT[:, None] + views.translation[..., None]


def _past(directions: Tensor, placed: Tensor) -> tuple[Tensor, Tensor]:
    """(B, V, J) each: how far rays pass points (B, V, 3, J) of the cameras' frames, in their x and y."""
    x, y, depth = placed.unbind(2)
    return directions[..., 0] * depth - x, directions[..., 1] * depth - y


def build(config: dict[str, Any]) -> ViewTrust:
    """Build the network that a header describes."""
    return ViewTrust(ViewTrustConfig(**config))


def _pairs(count: int) -> list[tuple[int, int]]:
    pairs = list(combinations(range(count), 2))
    if count == 2 or len(pairs) <= _MOST_PAIRS:
        return pairs
    step = len(pairs) / _MOST_PAIRS
    return [pairs[int(i * step)] for i in range(_MOST_PAIRS)]


def _total_doubt(views: Views, points: Tensor) -> Tensor:
    placed = _in_cameras(views, points)
    x, y = _past(views.directions, placed)
    far = (x * x + y * y) / (_SCALE * views.height[:, None, None]).square()
    return (torch.where(placed[:, :, 2] > 0, far / (1 + far), 1.0) * views.score).sum(1)


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


def _length(x: Tensor, y: Tensor) -> Tensor:
    """`torch.hypot`, whose gradient at (0, 0) is not a number."""
    return (x * x + y * y + 1e-12).sqrt()


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
