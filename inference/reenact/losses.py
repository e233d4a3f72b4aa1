"""How far a made picture is from a true one, for meta-training and for personalisation (Burkov 2020, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..nets.face_features import FaceFeatures
from ..nets.latent_pose import Picture
from .crop import ENLARGE

_LEVELS = 4
_PARTS = (range(36, 42), range(42, 48), range(48, 68))  # eyes and mouth of the 70 landmarks
_PART_PX = 16  # side of a part's picture
_MARGIN = 1.6  # of a part about its landmarks; it is at least _LEAST of the picture's side
_LEAST = 0.14


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


def parts(found: Tensor, truth: Tensor, landmarks: Tensor) -> Tensor:
    """`laplacian` of both eyes and the mouth alone, each in a square about its true landmarks.

    Args:
        found, truth: (B, 3, S, S); landmarks: (B, 70, 2) as parts of the side.
    """
    total = found.new_zeros(())
    both = torch.cat([found, truth])
    for part in _PARTS:
        marks = landmarks[:, list(part)]
        low, high = marks.amin(1), marks.amax(1)
        side = (_MARGIN * (high - low).amax(1)).clamp_min(_LEAST)
        affine = torch.zeros(len(found), 2, 3)
        affine[:, 0, 0] = affine[:, 1, 1] = side
        affine[:, :, 2] = low + high - 1
        grid = functional.affine_grid(affine, [len(found), 3, _PART_PX, _PART_PX], align_corners=False)
        seen = functional.grid_sample(both, grid.repeat(2, 1, 1, 1), padding_mode="border", align_corners=False)
        total = total + laplacian(*seen.chunk(2))
    return total / len(_PARTS)


def steepness(pictures: Tensor) -> Tensor:
    """Mean size of the difference of neighbouring pixels in (B, 3, S, S)."""
    return pictures.diff(dim=-1).abs().mean() + pictures.diff(dim=-2).abs().mean()


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
