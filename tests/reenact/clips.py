"""Films of one real face that moves in known ways, and a network that has learnt nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage import data

from inference.nets.latent_pose import CPU
from inference.reenact.network import new
from inference.runtime.video import write_movie

Array = np.ndarray
COEFFICIENTS = 55  # as many as the published network reads: 52 shapes and a rotation
SMALL = replace(CPU, width=8, widest=64)


def face(turned_deg: float = 0.0, size: tuple[int, int] = (240, 240)) -> Array:
    """(H, W, 3) uint8: the NASA portrait's face, turned in the picture, in a picture of (width, height)."""
    picture = data.astronaut()
    scale = 0.8 * min(size) / 200
    matrix = cv2.getRotationMatrix2D((225.0, 125.0), turned_deg, scale)
    matrix[:, 2] += np.array([size[0] / 2 - 225.0, size[1] / 2 - 125.0])
    return cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REFLECT_101)


def film(
    path: Path, turns_deg: Sequence[float | None], *, fps: float = 25.0, size: tuple[int, int] = (240, 240)
) -> Path:
    """Write a film of the face, turned by so many degrees in each frame; None for a frame without a face."""
    nobody = np.full((size[1], size[0], 3), 90, np.uint8)
    with write_movie(path, fps, size) as movie:
        for turned in turns_deg:
            movie.write(nobody if turned is None else face(turned, size))
    return path


def network(path: Path, *, coefficients: int = COEFFICIENTS) -> Path:
    """Write a small network that has learnt nothing, and whose frames yet differ visibly from pose to pose."""
    made = new(SMALL, seed=1, coefficients=coefficients)
    encoder, shown = made.net.embedder.pose_encoder, np.stack([face(turned, (64, 64)) for turned in range(-12, 13, 4)])
    pixels = torch.as_tensor(shown).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        for layer in encoder.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = 1.0
        encoder.train()
        encoder(pixels)
        encoder.eval()
        last = linear(encoder)[-1]
        found = encoder(pixels)
        last.bias.copy_((last.bias - found.mean(0)) / found.std(0).mean())
        last.weight.div_(found.std(0).mean())
        identity = [
            layer for layer in made.net.embedder.identity_encoder.modules() if isinstance(layer, torch.nn.Linear)
        ]
        identity[-1].weight.mul_(0.3)
    made.save(path)
    return path


def linear(net: torch.nn.Module) -> list[torch.nn.Linear]:
    """All linear layers of a network, in order."""
    return [layer for layer in net.modules() if isinstance(layer, torch.nn.Linear)]
