"""Left and right exchanged by a detector, found and undone in one view."""

from __future__ import annotations

import numpy as np

from ..core.skeletons import LEFT_HAND, MIRROR_137, RIGHT_HAND

Array = np.ndarray

# What a detector exchanges together. The 70 face points belong to none: they come from a detector of their own.
HEAD = np.array([15, 16, 17, 18])
ARMS = np.array([2, 3, 4, 5, 6, 7, *range(LEFT_HAND.start, LEFT_HAND.stop), *range(RIGHT_HAND.start, RIGHT_HAND.stop)])
LEGS = np.array([9, 10, 11, 12, 13, 14, 19, 20, 21, 22, 23, 24])
WHOLE_BODY = np.concatenate([HEAD, ARMS, LEGS])


def swap_sides(
    positions: Array, confidence: Array, mask: Array, joints: Array = WHOLE_BODY
) -> tuple[Array, Array]:
    """Exchange left and right of `joints` in the frames where `mask` is true.

    Args:
        positions: (T, 137, D) in the order OPENPOSE_137; D is 2 or 3.
        confidence: (T, 137).
        mask: (T,) bool.
        joints: both sides of every pair to exchange: `WHOLE_BODY` (no face points), `HEAD`, `ARMS` or `LEGS`.
    Returns:
        New arrays of the same shapes; hands go with `ARMS`.
    """
    source = np.arange(positions.shape[1])
    source[joints] = np.asarray(MIRROR_137)[joints]
    mask = np.asarray(mask, bool)
    swapped = np.where(mask[:, None, None], positions[:, source], positions)
    return swapped, np.where(mask[:, None], confidence[:, source], confidence)
