"""Place joints in a volume into which the rays of all views were cast, also those that no view sees.

The image-free form of volumetric triangulation (Iskakov 2019, section 3.2; trained as VoxelPose, Tu 2020): a heat map
about a 2D keypoint, cast into space, is a tube about its ray, so it is evaluated at the nodes of a cube around the
person directly. A volume network that has seen how people stand turns tubes into joints; nodes lie a decimetre apart,
so a second network (`settle`, not in the papers) takes the volume's word and the rays themselves, and gives the place.

The world is metres with z up, to within some degrees.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import v2v
from .settle import Rough, Settle, SettleConfig
from .triangulation import cube, soft_argmax_3d
from .v2v import V2V, V2VConfig
from .view_trust import Trusted, Views, ViewTrust

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
    size: int = 24
    tube: float = 0.07
    volume: V2VConfig = field(
        default_factory=lambda: V2VConfig(25, 25, first=16, kernel=3, widths=(16, 32, 64), fronts=1, back=False)
    )
    settle: SettleConfig = field(default_factory=SettleConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class Placed(NamedTuple):
    """What comes out.

    points (B, J, 3) metres; error (B, J) metres: 68 % lie nearer to the truth; volume (B, J, 3): the volume's own word
    and its spread (B, J); heat (B, J, D, D, D) and grid (B, D, D, D, 3); steps: places along the way.
    """

    points: Tensor
    error: Tensor
    volume: Tensor
    spread: Tensor
    heat: Tensor
    grid: Tensor
    steps: tuple[Tensor, ...]


class JointVolume(nn.Module):
    """Joints from rays and from how people stand."""

    def __init__(self, config: JointVolumeConfig) -> None:
        super().__init__()
        self.config = config
        self.volume_net = V2V(config.volume)
        self.sharpness = nn.Parameter(torch.zeros(config.joints))
        self.settle = Settle(config.settle)

    def forward(self, views: Views, weights: Tensor, centre: Tensor, rough: Rough) -> Placed:
        """Place the joints of B frames.

        Args:
            views: what V cameras see, of 25 points or more; weights (B, V, J) in (0, 1), 0 where not seen, and
                `rough`: what `ViewTrust` says; centre (B, 3) of the pelvis, metres, within some decimetres.
        """
        joints = self.config.joints
        views = views._replace(directions=views.directions[:, :, :joints], score=views.score[:, :, :joints])
        weights = weights[:, :, :joints]
        rough = rough._replace(points=rough.points[:, :joints], error=rough.error[:, :joints])
        volume, spread, heat, grid = self.look(views, weights, centre)
        settled = self.settle(views, weights, centre, rough._replace(volume=volume, spread=spread))
        return Placed(settled.points, settled.error, volume, spread, heat, grid, settled.steps)

    def look(self, views: Views, weights: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cast the rays and look at the volume: joints (B, J, 3), their spread (B, J), heat and grid as in `Placed`."""
        side = self.config.side * views.height / 1.7
        unit = cube(torch.zeros_like(centre), 1.0, self.config.size)
        grid = unit * side[:, None, None, None, None] + centre[:, None, None, None]
        evidence = cast(views, weights, grid, self.config.tube / 1.7)
        heat = self.volume_net(evidence.contiguous(memory_format=torch.channels_last_3d)).float()
        volume, heat = soft_argmax_3d(heat * self.sharpness.exp()[:, None, None, None], grid)
        about = grid - centre[:, None, None, None]
        spread = torch.einsum("bjxyz,bxyzc->bjc", heat, about.square()) - (volume - centre[:, None]).square()
        return volume, (spread.clamp_min(0).sum(-1) + 1e-6).sqrt(), heat, grid


def place(net: JointVolume, trust: ViewTrust, views: Views) -> tuple[Placed, Trusted]:
    """Run both methods as they are meant: the algebraic one says where the pelvis is and whom to believe."""
    trusted = trust(views)
    rough = Rough(trusted.points, trusted.error)
    return net(views, trusted.weights, middle(views, trusted.points[:, :25], trusted.error[:, :25]), rough), trusted


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


def middle(views: Views, points: Tensor, error: Tensor) -> Tensor:
    """(B, 3) where the pelvis must be, from points (B, J, 3), NaN where unknown, and how sure (B, J) they are.

    The hips where they are known, else the surest of the rest; where no point is known, as far along the rays of the
    view that sees most as the person's height and size there say.
    """
    known = points.isfinite().all(-1)
    weight = known / error.nan_to_num(1.0).square().clamp_min(1e-6)
    weight[:, [8, 9, 12]] *= 50.0
    weight[:, 15:19] *= 0.1  # the head is far from it
    total = (torch.where(known[..., None], points, 0.0) * weight[..., None]).sum(1)
    found = total / weight.sum(1).clamp_min(1e-9)[:, None]
    return torch.where(known.any(1)[:, None], found, _by_size(views))


def _by_size(views: Views) -> Tensor:
    """(B, 3) where a person of that height would be seen as large as in the view that sees most."""
    rows = torch.arange(len(views.height), device=views.height.device)
    view = (views.score > 0).sum(2).argmax(1)
    seen, directions = views.score[rows, view] > 0, views.directions[rows, view]
    low = torch.where(seen[..., None], directions, torch.inf).amin(1)
    high = torch.where(seen[..., None], directions, -torch.inf).amax(1)
    depth = views.height / (high - low).norm(dim=1).clamp(0.05, 5.0)
    place = functional.pad(0.5 * (high + low), (0, 1), value=1.0) * depth[:, None]
    place = place.nan_to_num(0.0, 0.0, 0.0) - views.translation[rows, view]
    return (views.rotation[rows, view].mT @ place[..., None])[..., 0]


def build(config: dict[str, Any]) -> JointVolume:
    """Build the network that a header describes."""
    parts = {"volume": v2v.build(config["volume"]).config, "settle": SettleConfig(**config["settle"])}
    return JointVolume(JointVolumeConfig(**{**config, **parts}))
