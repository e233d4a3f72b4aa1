"""Somebody's picture from who they are and from how somebody else looks (latent pose, Burkov 2020).

An identity encoder and a much smaller pose encoder give descriptors; a generator grows a picture and a foreground
mask out of a learnt constant, all its normalisations (AdaIN, Huang 2017) set by the two descriptors. Attributes are
named as in the published checkpoints.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .mobilenet import MobileNetV2
from .plain_encoder import PlainEncoder
from .resnext import ResidualEncoder
from .spectral import SpectralConv2d, SpectralLinear, set_limited

NAME = "latent-pose"
SCHEMA = 1
_START = 4  # side of the constant, px
_EPS = 1e-4
_LATER, _MAPS = 16, 24  # side and number of the maps that descriptors add


@dataclass(frozen=True)
class LatentPoseConfig:
    """Shape of the network.

    size, pose_size: sides of the pictures that the generator makes and the pose encoder sees, px; width, widest:
    channels at the output and at most, doubling with each halving of the size; identity, pose: numbers of the
    descriptors; encoder, encoder_width, pose_encoder, pose_width, fine: kind and width of the encoders
    (`nets/resnext.py`, `nets/mobilenet.py`; `nets/plain_encoder.py` and fine for small pictures; "landmarks": there is
    none, the descriptor is where the driver's landmarks are); pose_fold: of a plain pose encoder (`PlainEncoder`);
    pool: how the descriptors of several pictures of a person meet; mask: whether a foreground is predicted; personal:
    the generator has an identity of its own; gain: of the descriptors on their way to the normalisations, and where it
    is not 1 the generator begins as a short training wants it (`Generator.begin`); dense: descriptors also move the
    constant itself, and with 16 what has grown from it at 16 px, which the original's do not; spectral: whether the
    generator's layers are divided by their largest singular value; hidden: numbers between descriptors and
    normalisations, 0 for the original's; coefficients: numbers that a head reads from the pose descriptor, 0 for none.
    """

    size: int = 256
    pose_size: int = 256
    width: int = 64
    widest: int = 512
    blocks: int = 2
    identity: int = 512
    pose: int = 256
    encoder: str = "resnext50"
    encoder_width: int = 64
    pose_encoder: str = "mobilenet"
    pose_width: float = 1.0
    pose_fold: int = 1
    fine: bool = False
    pool: str = "mean"
    mask: bool = True
    personal: bool = False
    gain: float = 1.0
    dense: int = 0
    spectral: bool = True
    hidden: int = 0
    coefficients: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the header of a weights file."""
        return asdict(self)


PAPER = LatentPoseConfig()
MID = LatentPoseConfig(size=128, pose_size=128, width=32, widest=256)
CPU = LatentPoseConfig(
    size=64,
    pose_size=64,
    width=24,
    widest=192,
    pose=64,
    encoder="resnet10",
    encoder_width=32,
    pose_width=0.5,
    fine=True,
)


class Picture(NamedTuple):
    """rgb (B, 3, S, S), nominally in [-0.25, 1.25], already times the mask; mask (B, 1, S, S) in (0, 1)."""

    rgb: Tensor
    mask: Tensor


class Landmarks(nn.Module):
    """The descriptor of a keypoint-driven network (FSTH+ of Burkov 2020): landmarks as they lie in the picture."""

    def forward(self, points: Tensor) -> Tensor:
        """(B, N, 2) as parts of the side to (B, 2 N) about the middle."""
        return points.flatten(1) - 0.5


class Embedder(nn.Module):
    """Who somebody is and how they look, each from pictures in [0, 1]."""

    def __init__(self, config: LatentPoseConfig) -> None:
        super().__init__()
        self.config, self.pool = config, config.pool
        self.identity_encoder: nn.Module
        self.pose_encoder: nn.Module
        if config.encoder == "plain":
            self.identity_encoder = PlainEncoder(config.identity, size=config.size, width=config.encoder_width)
        else:
            self.identity_encoder = ResidualEncoder(
                config.encoder, config.identity, width=config.encoder_width, fine=config.fine
            )
        if config.pose_encoder == "mobilenet":
            self.pose_encoder = MobileNetV2(config.pose, width=config.pose_width, stride=1 if config.fine else 2)
        elif config.pose_encoder == "plain":
            self.pose_encoder = PlainEncoder(
                config.pose, size=config.pose_size, width=int(64 * config.pose_width), fold=config.pose_fold
            )
        elif config.pose_encoder == "landmarks":
            self.pose_encoder = Landmarks()
        else:  # as large as an identity encoder: what the original advises against
            self.pose_encoder = ResidualEncoder(
                config.pose_encoder, config.pose, width=config.encoder_width, fine=config.fine
            )

    def identity(self, images: Tensor) -> Tensor:
        """(B, K, 3, S, S) pictures of each person to (B, 512)."""
        each = self.identity_encoder(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return each.mean(1) if self.pool == "mean" else each.amax(1)

    def pose(self, images: Tensor) -> Tensor:
        """(B, 3, S, S), or (B, D / 2, 2) landmarks, to (B, D)."""
        return self.pose_encoder(images)


class Constant(nn.Module):
    """What every picture grows from."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.ones(1, channels, _START, _START))


class DecoderBlock(nn.Module):
    """AdaIN, ReLU, (twice the size), convolution, and again, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, *, up: bool) -> None:
        super().__init__()
        first = 4 if up else 3  # of torch's sequence in the original
        self.up, self.norms = up, (inputs, outputs)
        self.block = nn.ModuleDict({
            str(first): SpectralConv2d(inputs, outputs, 3, bias=False),
            str(first + 4): SpectralConv2d(outputs, outputs, 3, bias=False),
        })  # fmt: skip
        self.skip = nn.ModuleDict({str(int(up)): SpectralConv2d(inputs, outputs, 1)} if up or inputs != outputs else {})

    def forward(self, x: Tensor, affine: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W) or twice that; takes two pairs of bias and weight (B, channels)."""
        y = torch.relu(_adain(x, *next(affine)))
        first, second = self.block.values()
        y = first(_doubled(y) if self.up else y)
        y = second(torch.relu(_adain(y, *next(affine))))
        for layer in self.skip.values():
            x = _doubled(layer(x)) if self.up else layer(x)  # a 1x1 convolution commutes with repeating pixels
        return x + y


class Generator(nn.Module):
    """Descriptors to a picture."""

    def __init__(self, config: LatentPoseConfig) -> None:
        super().__init__()
        ups = int(math.log2(config.size // _START))
        widths = [min(config.width << k, config.widest) for k in range(ups, -1, -1)]
        self.constant = Constant(widths[0])
        blocks: list[nn.Module] = [DecoderBlock(widths[0], widths[0], up=False) for _ in range(config.blocks)]
        blocks += [DecoderBlock(a, b, up=True) for a, b in itertools.pairwise(widths)]
        self.channels = [n for block in blocks for n in (block.norms if isinstance(block, DecoderBlock) else ())]
        self.channels.append(widths[-1])
        self.config, self.mask = config, config.mask
        self.decoder_blocks = nn.ModuleDict({str(k): block for k, block in enumerate(blocks)})
        self.decoder_blocks[str(len(blocks) + 2)] = SpectralConv2d(widths[-1], 3 + config.mask, 3)
        joint = config.identity + config.pose
        hidden = config.hidden or max(joint, 512)
        self.affine_params_projector = nn.ModuleDict({
            "0": SpectralLinear(joint, hidden), "2": SpectralLinear(hidden, 2 * sum(self.channels))
        })  # fmt: skip
        if config.personal:
            self.identity_embedding = nn.Parameter(torch.zeros(1, config.identity))
        if config.dense:
            self.start = nn.Linear(joint, self.constant.constant.numel())
            nn.init.zeros_(self.start.weight)
            nn.init.zeros_(self.start.bias)
        if config.dense == _LATER:
            self.later = nn.Sequential(
                nn.Linear(joint, _MAPS * _LATER**2), nn.Unflatten(1, (_MAPS, _LATER, _LATER)),
                nn.Conv2d(_MAPS, min(config.size * config.width // _LATER, config.widest), 1),
            )  # fmt: skip
            for parameter in self.later[2].parameters():
                nn.init.zeros_(parameter)
        set_limited(self, limited=config.spectral)
        if config.gain != 1:
            self.begin()

    @torch.no_grad()
    def begin(self) -> None:
        """Begin for a short training: the constant as noise, which tells places apart, and weights of AdaIN about 1.

        The original begins with ones, and needs tens of thousands of steps before left and right differ.
        """
        nn.init.normal_(self.constant.constant)
        bias = torch.cat([torch.tensor([0.0, 1.0]).repeat_interleave(channels) for channels in self.channels])
        last = self.affine_params_projector["2"]
        assert isinstance(last, SpectralLinear) and last.bias is not None
        last.bias.copy_(bias)

    def forward(self, identity: Tensor | None, pose: Tensor) -> Picture:
        """Identity (B, 512), None for the generator's own, and pose (B, D)."""
        if identity is None:
            identity = self.identity_embedding.expand(len(pose), -1)
        *blocks, last = self.decoder_blocks.values()
        joint = torch.cat([identity, pose], 1)
        affine = self._affine(joint)
        x = self.constant.constant.expand(len(pose), -1, -1, -1)
        if self.config.dense:
            x = x + self.start(joint).reshape(x.shape)
        for block in blocks:
            x = block(x, affine)
            if self.config.dense == x.shape[-1] == _LATER:
                x = x + self.later(joint)
        out = torch.tanh(last(torch.relu(_adain(x, *next(affine)))))
        rgb = 0.75 * out[:, :3] + 0.5
        mask = 0.5 * out[:, 3:] + 0.5 if self.mask else torch.ones_like(rgb[:, :1])
        return Picture(rgb * mask, mask)

    def _affine(self, joint: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Bias and weight of each normalisation in turn; the weight is used as it is."""
        first, second = self.affine_params_projector.values()
        parts = second(torch.relu(first(self.config.gain * joint))).split(
            [n for channels in self.channels for n in (channels, channels)], 1
        )
        return iter(list(zip(parts[::2], parts[1::2], strict=True)))


class LatentPose(nn.Module):
    """Both encoders and the generator, as they are used; perhaps with a head that reads the pose descriptor."""

    def __init__(self, config: LatentPoseConfig) -> None:
        super().__init__()
        self.config = config
        self.embedder = Embedder(config)
        self.generator = Generator(config)
        if config.coefficients:
            self.reader = nn.Sequential(
                nn.Linear(config.pose, 256), nn.ReLU(), nn.Linear(256, config.coefficients)
            )  # fmt: skip

    @classmethod
    def of(cls, embedder: Embedder, generator: Generator) -> LatentPose:
        """Put together what was made apart."""
        config = generator.config
        net = cls(replace(config, pose_size=config.size, pool=embedder.pool))
        net.embedder, net.generator = embedder, generator
        return net.eval()

    def forward(self, images: Tensor, driver: Tensor) -> Picture:
        """Pictures (B, K, 3, S, S) of people, each driven by one picture (B, 3, S, S)."""
        return self.generator(self.embedder.identity(images), self.embedder.pose(driver))


def build(config: dict[str, Any]) -> LatentPose:
    """Build the network that a header describes."""
    return LatentPose(LatentPoseConfig(**config))


def _adain(x: Tensor, bias: Tensor, weight: Tensor) -> Tensor:
    return functional.instance_norm(x, eps=_EPS) * weight[:, :, None, None] + bias[:, :, None, None]


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
