"""Joints of a few frames that follow each other, from rays, from how people stand and from how they move.

What settles a pose behind the volume (`settle`), given time: it starts from the algebraic method's points, as that
does, and attends over frames beside joints. What a view hid for a moment, others know of the moments about it; what
nobody sees at all is placed where people who move so have it.

The world is metres with z up, to within some degrees; frames are 1/60 to 1/15 s apart.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from . import joint_volume
from .settle import JOINTS, Rough, Settle, SettleConfig, Settled
from .view_trust import Trusted, Views, ViewTrust

NAME = "motion-prior"
SCHEMA = 1


@dataclass(frozen=True)
class MotionPriorConfig:
    """Shape of the network."""

    settle: SettleConfig = field(default_factory=lambda: SettleConfig(reach=9))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class MotionPrior(nn.Module):
    """See the module's text."""

    def __init__(self, config: MotionPriorConfig) -> None:
        super().__init__()
        self.config = config
        self.settle = Settle(config.settle)

    def forward(self, views: Views, trusted: Trusted, frames: int) -> Settled:
        """Place the 25 joints of B frames, every `frames` of which follow each other before the same cameras.

        Args:
            views: of 25 points or more; trusted: what `ViewTrust` says of them.
        """
        views = views._replace(directions=views.directions[:, :, :JOINTS], score=views.score[:, :, :JOINTS])
        rough = Rough(trusted.points[:, :JOINTS], trusted.error[:, :JOINTS])
        centre = self._centre(views, rough, frames)
        return self.settle(views, trusted.weights[:, :, :JOINTS], centre, rough, frames=frames)

    @staticmethod
    def _centre(views: Views, rough: Rough, frames: int) -> Tensor:
        """(B, 3) of the pelvis; frames that know no point take the clip's."""
        centre = joint_volume.middle(views, rough.points, rough.error)
        known = rough.points.isfinite().all(-1).any(1)
        clips = torch.where(known[:, None], centre, torch.nan).unflatten(0, (-1, frames))
        usual = clips.nanmedian(1).values.repeat_interleave(frames, 0)
        return torch.where(known[:, None] | usual.isnan(), centre, usual)


def place(net: MotionPrior, trust: ViewTrust, views: Views, frames: int) -> tuple[Settled, Trusted]:
    """Run the algebraic method, which says whom to believe, and the network behind it."""
    trusted = trust(views)
    return net(views, trusted, frames), trusted


def build(config: dict[str, Any]) -> MotionPrior:
    """Build the network that a header describes."""
    return MotionPrior(MotionPriorConfig(SettleConfig(**config["settle"])))
