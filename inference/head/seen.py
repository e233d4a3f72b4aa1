"""What a photo shows of the person whose head is made: the input of every later stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Seen:
    """One photo, upright, cut to the head's surroundings.

    image (H, W, 3) uint8 sRGB; mask (H, W) float32 in [0, 1]: the person - head, hair, neck and what is seen of the
    body; landmarks (478, 2) px, origin at the centre of the top-left pixel, in the order of mediapipe's face mesh;
    depth (478,) px: how far behind the face's middle each is, as guessed by the detector (not metric).
    focal_px: by the camera's own notes in the file, None where there are none; centre_px (2,): where the middle of
    the whole photo lies in `image`, which may be outside of it. yaw_deg: how far the head is turned, as guessed from
    the landmarks, positive to the person's left. edge (H, W) bool: where an outline of the mask is the person's and not
    what a picture with an alpha channel was cut to; None for everywhere.
    """

    name: str
    image: Array
    mask: Array
    landmarks: Array
    depth: Array
    focal_px: float | None
    centre_px: Array
    yaw_deg: float = 0.0
    edge: Array | None = None
