"""A real detector's errors, as seen on rendered people, moved to imagined ones.

`studio/detections.py` films avatars with known truth and writes what the detector saw. What it was off by, and what it
missed, depends on the pose and the side from which a person is seen: each imagined window takes the errors of a window
whose person looks alike in the image. The windows' mirror images serve too.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.artifacts import read_npz
from ..core.skeletons import MIRROR_137
from .motions import split_of

_MIRROR_25 = list(MIRROR_137[:25])
_ALIKE = 12  # windows from which the errors are drawn
_LOST = 0.25  # of the box: a detector this far off on half of the joints follows something else
_SEEN = 0.3  # least confidence


class Observed(NamedTuple):
    """M windows of T frames: looks (M, 50) of the last frame, errors (M, T, 25, 2) in boxes, valid (M, T, 25)."""

    looks: Tensor
    errors: Tensor
    valid: Tensor


def load(path: Path, window: int, *, split: str = "train") -> Observed:
    """Read the errors of one split's sequences, every frame being the last of a window."""
    file = read_npz(path)
    rows = np.flatnonzero([split_of(str(clip).removeprefix("motion_")) == split for clip in file["clip"]])
    truth = file["truth_m"][rows, :, :25].astype(np.float64)
    focal = file["matrix"][rows][:, [0, 1], [0, 1]][:, None, None]
    centre = file["matrix"][rows][:, :2, 2][:, None, None]
    points = torch.from_numpy(truth[..., :2] / truth[..., 2:] * focal)
    seen = torch.from_numpy(file["positions_px"][rows, :, :25] - centre)
    valid = torch.from_numpy(file["confidence"][rows, :, :25] >= _SEEN) & torch.isfinite(seen).all(-1)
    at = torch.arange(points.shape[1])[:, None] - torch.arange(window - 1, -1, -1)
    points, seen, valid = (x[:, at.clamp_min(0)].flatten(0, 1) for x in (points, seen, valid))
    errors = (seen - points) / box(points)[:, None, None, None]
    off = torch.where(valid, errors.norm(dim=-1), torch.nan)[:, -1].nanmedian(1).values
    keep = torch.isfinite(points).all(-1).all(-1).all(-1) & (off < _LOST)
    points, errors, valid = points[keep], torch.where(valid[..., None], errors, 0.0)[keep], valid[keep]
    flip = torch.tensor([-1.0, 1.0], dtype=points.dtype)
    points = torch.cat([points, points[:, :, _MIRROR_25] * flip])
    errors = torch.cat([errors, errors[:, :, _MIRROR_25] * flip])
    valid = torch.cat([valid, valid[:, :, _MIRROR_25]])
    return Observed(look(points).float(), errors.float(), valid)


def box(points: Tensor) -> Tensor:
    """(B,) largest diagonal over T of the box of (B, T, 25, 2) points."""
    return (points.amax(2) - points.amin(2)).norm(dim=-1).amax(1)


def look(points: Tensor) -> Tensor:
    """(B, 50): the last frame about the mid-hip, over its window's box."""
    last = points[:, -1] - points[:, -1, 8:9]
    return (last / box(points)[:, None, None]).flatten(1)


def spoil(observed: Observed, points: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Give perfectly seen windows (B, T, 25, 2) the errors of windows that look alike, 0.6 to 1.3 times as large.

    Returns:
        (B, T, 25, 2) and (B, T, 25) whether the detector saw the point.
    """
    near = torch.cdist(look(points), observed.looks).topk(_ALIKE, largest=False).indices
    which = torch.randint(0, _ALIKE, (len(points), 1), generator=generator)
    row = near.gather(1, which)[:, 0]
    strength = 0.6 + 0.7 * torch.rand(len(points), generator=generator)
    return points + observed.errors[row] * (box(points) * strength)[:, None, None, None], observed.valid[row]
