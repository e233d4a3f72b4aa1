"""What a face does, from its unfolded pictures and its points, against what else it does in the same film.

A few strided convolutions see the picture, and how it differs from what the film mostly shows; a perceptron sees the
points and who the fit takes the person for. What both say is averaged over a film (Deep Sets, Zaheer et al. 2017): that
is who it is and how it is lit, against which each frame is read.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

NAME = "face-expression"
SCHEMA = 2
_SHAPES, _TURN = 52, 3


@dataclass(frozen=True)
class ExpressionConfig:
    """Shape of the network: picture in px, numbers of `face.pictures.features`, channels, inner widths."""

    width: int = 80
    height: int = 96
    points: int = 310
    channels: tuple[int, ...] = (16, 32, 64, 96)
    inner: int = 192
    film: int = 128

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


class FaceExpression(nn.Module):
    """Frames of films to weights and a turn (F, T, 52 + 3).

    The turn, rad in the head's frame, follows the rotation that the points were fitted with.
    pictures (F, T, H, W) in [0, 255]; points (F, T, N); shown (F, T) bool: which pictures show something.
    information (52, 52): inverse of the covariance of errors, on people who are left out.
    """

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.config = config
        levels = [2, *config.channels]
        layers: list[nn.Module] = []
        for level, (a, b) in enumerate(itertools.pairwise(levels)):
            size = 5 if level == 0 else 3
            layer = nn.Conv2d(a, b, size, 2, size // 2)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            layers += [layer, nn.SiLU()]
        self.convolutions = nn.Sequential(*layers)
        cells = -(-config.width // 2 ** len(config.channels)) * -(-config.height // 2 ** len(config.channels))
        self.face = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.25), nn.Linear(cells * levels[-1], config.inner), nn.LayerNorm(config.inner)
        )
        self.nothing = nn.Parameter(torch.zeros(config.inner))
        self.points = nn.Sequential(
            nn.Dropout(0.05), nn.Linear(config.points, config.inner), nn.GELU(), nn.Dropout(0.2),
            nn.Linear(config.inner, config.inner), nn.LayerNorm(config.inner),
        )  # fmt: skip
        self.usual = nn.Sequential(nn.Linear(2 * config.inner, config.film), nn.GELU())
        self.both = nn.Sequential(
            nn.GELU(), nn.Dropout(0.2), nn.Linear(2 * config.inner + config.film, config.inner), nn.GELU(),
            nn.Dropout(0.2),
        )  # fmt: skip
        self.weights = nn.Linear(config.inner, _SHAPES + _TURN)
        self.information: Tensor
        self.register_buffer("information", torch.eye(_SHAPES))

    def forward(self, pictures: Tensor, points: Tensor, shown: Tensor) -> Tensor:
        """See the class."""
        usual = usual_picture(pictures, shown, self.calm(points))
        return self.read(self.see(pictures, points, shown, usual))

    def calm(self, points: Tensor) -> Tensor:
        """(F, T) how much each frame counts for a film's usual picture: more the less its points say that it does."""
        return 1.0 / (0.2 + points[..., -2 - _SHAPES : -2].clamp_min(0).sum(-1))

    def see(self, pictures: Tensor, points: Tensor, shown: Tensor, usual: Tensor) -> Tensor:
        """(F, T, M) what each frame shows beside the usual picture (F, 1, H, W) of its film."""
        flat = levelled(pictures)
        flat = torch.stack([flat, flat - usual], 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        seen = self.face(self.convolutions(flat)).unflatten(0, pictures.shape[:2])
        seen = torch.where(shown[..., None], seen, self.nothing.to(seen.dtype))
        return torch.cat([seen, self.points(points)], -1)

    def read(self, seen: Tensor) -> Tensor:
        """(F, T, 52 + 3) weights and turns of films' frames (F, T, M)."""
        usual = self.usual(seen).mean(1, keepdim=True).expand(-1, seen.shape[1], -1)
        return self.weights(self.both(torch.cat([seen, usual], -1)))


def levelled(pictures: Tensor) -> Tensor:
    """Pictures (F, T, H, W) with mean 0 and deviation 1, but for dark ones."""
    flat = pictures - pictures.mean((2, 3), keepdim=True)
    return flat / (flat.square().mean((2, 3), keepdim=True).sqrt() + 4.0)


def usual_picture(pictures: Tensor, shown: Tensor, share: Tensor) -> Tensor:
    """(F, 1, H, W) the levelled pictures of each film, in shares (F, T), of those that are shown."""
    share = (share * shown)[..., None, None]
    return (levelled(pictures) * share).sum(1, keepdim=True) / share.sum(1, keepdim=True).clamp_min(1e-6)


def build(config: dict[str, Any]) -> FaceExpression:
    """Build the network that a header describes."""
    return FaceExpression(ExpressionConfig(**{**config, "channels": tuple(config["channels"])}))
