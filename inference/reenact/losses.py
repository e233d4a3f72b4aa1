"""How far a made picture is from a true one, for meta-training and for personalisation (Burkov 2020, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..nets.face_features import FaceFeatures
from ..nets.latent_pose import Picture
from .crop import ENLARGE

_LEVELS = 4


def mask_loss(found: Tensor, truth: Tensor) -> Tensor:
    """-log of the Dice overlap of masks (B, 1, S, S), over the whole batch."""
    return -torch.log(2 * (found * truth).sum() / (found.square().sum() + truth.square().sum()) + 1e-6)


def laplacian(found: Tensor, truth: Tensor) -> Tensor:
    """L1 between the Laplacian pyramids of pictures (B, 3, S, S), each band counting as much."""
    off, total = found - truth, found.new_zeros(())
    for _ in range(_LEVELS):
        smaller = functional.avg_pool2d(off, 2)
        total = total + (off - functional.interpolate(smaller, scale_factor=2.0, mode="bilinear")).abs().mean()
        off = smaller
    return total + off.abs().mean()


def perceptual(net: FaceFeatures, found: Tensor, truth: Tensor) -> Tensor:
    """Sum over a network's feature maps of their mean L1, each over how large the true ones are."""
    with torch.no_grad():
        wanted = net(truth)
    seen = net(found)
    parts = [(a - b).abs().mean() / b.abs().mean().clamp_min(1e-3) for a, b in zip(seen, wanted, strict=True)]
    return torch.stack(parts).sum()


def central(images: Tensor) -> Tensor:
    """The face alone: the middle 1 / 1.8 of a crop, at the crop's size."""
    side = images.shape[-1]
    inner = round(side / ENLARGE)
    low = (side - inner) // 2
    part = images[..., low : low + inner, low : low + inner]
    return functional.interpolate(part, size=(side, side), mode="bilinear", align_corners=False)


def matching(found: list[Tensor], truth: list[Tensor]) -> Tensor:
    """Mean over blocks of the L1 between what a discriminator saw in made and in true pictures."""
    return torch.stack([(a - b.detach()).abs().mean() for a, b in zip(found, truth, strict=True)]).mean()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """What a discriminator is to make small, from its scores."""
    return torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()


def reconstruction(picture: Picture, truth: Tensor, mask: Tensor, features: FaceFeatures) -> dict[str, Tensor]:
    """All but the adversarial losses, by name, unweighted: truth (B, 3, S, S) is already times its mask."""
    return {
        "laplacian": laplacian(picture.rgb, truth),
        "perceptual": perceptual(features, picture.rgb, truth),
        "face": laplacian(central(picture.rgb), central(truth)),
        "mask": mask_loss(picture.mask, mask),
    }
