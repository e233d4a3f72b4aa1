"""Place joints in a volume into which the rays of all views were cast, also those that no view sees.

The image-free form of volumetric triangulation (Iskakov 2019, section 3.2; trained as VoxelPose, Tu 2020): a heat map
about a 2D keypoint, cast into space, is a tube about its ray, so it is evaluated at the nodes of a cube around the
person directly. A volume network that has seen how people stand turns tubes into joints. What comes out is the
posterior of two measurements: the volume's, and the rays that were believed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import v2v
from .triangulation import cube, soft_argmax_3d
from .v2v import V2V, V2VConfig
from .view_trust import Views, residuals

NAME = "joint-volume"
SCHEMA = 1


@dataclass(frozen=True)
class JointVolumeConfig:
    """Shape of the network.

    side: of the cube, metres for a person of 1.7 m; size: nodes along it; tube: standard deviation of the cast heat
    maps, of the same unit.
    """

    joints: int = 25
    side: float = 2.4
    size: int = 32
    tube: float = 0.06
    volume: V2VConfig = field(
        default_factory=lambda: V2VConfig(25, 25, first=16, kernel=3, widths=(24, 48, 96), fronts=1, back=False)
    )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class Placed(NamedTuple):
    """What comes out.

    points (B, J, 3) metres; error (B, J) metres: 68 % lie nearer to the truth; volume (B, J, 3): the volume's own word
    before rays were heard; heat (B, J, D, D, D) and grid (B, D, D, D, 3).
    """

    points: Tensor
    error: Tensor
    volume: Tensor
    heat: Tensor
    grid: Tensor


class JointVolume(nn.Module):
    """Joints from rays and from how people stand."""

    def __init__(self, config: JointVolumeConfig) -> None:
        super().__init__()
        self.config = config
        self.volume_net = V2V(config.volume)
        self.sharpness = nn.Parameter(torch.zeros(config.joints))
        # how far, as logarithms of the height, the volume and a believed ray are off; and their sum's last word
        self.volume_error = nn.Parameter(torch.full((config.joints,), -3.3))
        self.ray_error = nn.Parameter(torch.full((config.joints,), -4.2))
        self.doubt = nn.Sequential(nn.Linear(4, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, views: Views, weights: Tensor, centre: Tensor) -> Placed:
        """Place the joints of B frames.

        Args:
            views: what V cameras see; weights (B, V, J) in (0, 1), 0 where not seen; centre (B, 3) of the pelvis,
                metres, within some decimetres.
        """
        height = views.height
        side = self.config.side * height / 1.7
        unit = cube(torch.zeros_like(centre), 1.0, self.config.size)
        grid = unit * side[:, None, None, None, None] + centre[:, None, None, None]
        heat = self.volume_net(cast(views, weights, grid, self.config.tube / 1.7))
        volume, heat = soft_argmax_3d(heat * self.sharpness.exp()[:, None, None, None], grid)
        spread = torch.einsum("bjxyz,bxyzc->bjc", heat, grid.square()) - volume.square()
        spread = (spread.clamp_min(0).sum(-1) + 1e-6).sqrt() / height[:, None]
        volume_error = self.volume_error.exp() * (1 + (spread / 0.05).square()).sqrt()
        points, left = fuse(views, weights, volume, volume_error, self.ray_error.exp())
        count = (weights > 0.2).sum(1)
        told = torch.stack([left.log(), spread.clamp_min(1e-3).log(), weights.sum(1).clamp_min(1e-2).log(), count], -1)
        error = left * torch.exp(self.doubt(told.detach())[..., 0]) * height[:, None]
        return Placed(points, error, volume, heat, grid)


def cast(views: Views, weights: Tensor, grid: Tensor, tube: float) -> Tensor:
    """(B, J, D, D, D) mean over the believed views of tubes about their rays; 0 where nobody sees."""
    nodes, side = grid.flatten(1, 3), grid.shape[1:4]
    total = views.directions.new_zeros(*weights.shape[:1], weights.shape[2], nodes.shape[1])
    width = (tube * views.height).square()[:, None, None]
    for view in range(weights.shape[1]):
        camera = torch.einsum("bij,bnj->bni", views.rotation[:, view], nodes) + views.translation[:, None, view]
        depth = camera[..., 2].clamp_min(1e-3)
        seen = views.directions[:, view]
        # squared distance between ray and node at the node's depth, without a (B, J, N, 2) array
        x, y = camera[..., 0], camera[..., 1]
        across = seen.square().sum(-1)[..., None] * depth.square()[:, None]
        across = across - 2 * (seen[..., :1] * (x * depth)[:, None] + seen[..., 1:] * (y * depth)[:, None])
        across = (across + (x.square() + y.square())[:, None]).clamp_min_(0)
        tubes = torch.exp(across.div_(-2 * width)) * (camera[..., 2] > 0)[:, None]
        total = total + weights[:, view, :, None] * tubes
    return (total / weights.sum(1).clamp_min(1e-3)[..., None]).unflatten(-1, side)


def middle(points: Tensor, error: Tensor) -> Tensor:
    """(B, 3) where the pelvis must be, from points (B, J, 3), NaN where unknown, and how sure (B, J) they are.

    The hips where they are known, else the surest of the rest.
    """
    known = points.isfinite().all(-1)
    weight = known / error.square().clamp_min(1e-6)
    weight[:, [8, 9, 12]] *= 50.0
    weight[:, 15:19] *= 0.1  # the head is far from it
    total = (torch.where(known[..., None], points, 0.0) * weight[..., None]).sum(1)
    return total / weight.sum(1).clamp_min(1e-9)[:, None]


def fuse(views: Views, weights: Tensor, prior: Tensor, prior_error: Tensor, ray_error: Tensor) -> tuple[Tensor, Tensor]:
    """Where believed rays pull a point whose place is known to within `prior_error`: the Gaussian posterior.

    Args:
        prior: (B, J, 3) metres; prior_error (B, J) and ray_error (J,), standard deviations as parts of the height.
    Returns:
        (B, J, 3) metres and (B, J) standard deviation of a coordinate, a part of the height.
    """
    turn = views.rotation.double()
    offset, depth = residuals(views, prior)
    seen = views.directions.double() - offset.double() / depth.double().clamp_min(0.1)[..., None]
    rows = turn[:, :, None, :2] - seen[..., None] * turn[:, :, None, 2:]
    precision = (weights.double() / ray_error.double().square())[..., None] * (depth > 0.1)[..., None]
    normal = torch.einsum("bvjki,bvjkl->bjil", rows * precision[..., None], rows)
    right = torch.einsum("bvjki,bvjk->bji", rows * precision[..., None], offset.double())
    eye = torch.eye(3, dtype=normal.dtype, device=normal.device)
    normal = normal + eye / prior_error.double().square()[..., None, None]
    inverse = torch.linalg.inv(normal)
    step = (inverse @ right[..., None])[..., 0]
    left = (inverse.diagonal(dim1=-2, dim2=-1).sum(-1) / 3).sqrt()
    return prior + step.float(), left.float()


def build(config: dict[str, Any]) -> JointVolume:
    """Build the network that a header describes."""
    return JointVolume(JointVolumeConfig(**{**config, "volume": v2v.build(config["volume"]).config}))
