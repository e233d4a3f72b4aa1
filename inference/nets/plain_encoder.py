"""One descriptor from one small picture by a handful of strided convolutions, for training without an accelerator.

Of what was tried on one processor core, nothing learnt poses from so few samples: it costs a tenth of MobileNetV2 a
picture, and its head sees where in the picture things are.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

_GROUPS = 8


class PlainEncoder(nn.Module):
    """Pictures (N, 3, S, S) in [0, 1] to descriptors (N, outputs); width: channels of the first level.

    fold: pixels of a side that become channels before the first convolution, so that larger pictures cost hardly more.
    """

    def __init__(self, outputs: int, *, size: int, width: int = 32, fold: int = 1) -> None:
        super().__init__()
        self.fold = fold
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.features = nn.Sequential(
            _unit(3 * fold**2, widths[0], 2), _unit(widths[0], widths[1], 2), _unit(widths[1], widths[1], 1),
            _unit(widths[1], widths[2], 2), _unit(widths[2], widths[2], 1), _unit(widths[2], widths[3], 2),
        )  # fmt: skip
        cells = size // fold // 16
        self.head = nn.Sequential(nn.Linear(widths[3] * cells**2, 8 * width), nn.SiLU(), nn.Linear(8 * width, outputs))

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        folded = functional.pixel_unshuffle(2 * images - 1, self.fold)
        return self.head(self.features(folded).flatten(1))


def _unit(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(_GROUPS, outputs), nn.SiLU())
