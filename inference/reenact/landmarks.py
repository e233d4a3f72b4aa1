"""Where a face's landmarks lie in a small picture: what drives networks that are driven by landmarks."""

from __future__ import annotations

from typing import Any

import cv2
import mediapipe
import numpy as np

from ..core.skeletons import FACE_70_IN_FACEMESH

Array = np.ndarray
_SIDE = 256  # to which pictures are enlarged, px


class Detector:
    """Mediapipe's face mesh on small pictures, which are enlarged."""

    def __init__(self) -> None:
        self._mesh: Any = mediapipe.solutions.face_mesh.FaceMesh(  # type: ignore[attr-defined]
            static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.2
        )

    def landmarks(self, images: Array) -> Array:
        """(B, 478, 2) px of pictures (B, S, S, 3) in [0, 1]; NaN where no face is found."""
        side, found = images.shape[1], np.full((len(images), 478, 2), np.nan)
        for index, image in enumerate(images):
            large = cv2.resize((image * 255).astype(np.uint8), (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
            faces = self._mesh.process(large).multi_face_landmarks
            if faces:
                found[index] = [[mark.x * side - 0.5, mark.y * side - 0.5] for mark in faces[0].landmark]
        return found

    def parts(self, images: Array) -> Array:
        """(B, 70, 2) as parts of the side, iBUG's 68 and the pupils: see `landmarks`."""
        return ((self.landmarks(images)[:, FACE_70_IN_FACEMESH] + 0.5) / images.shape[1]).astype(np.float32)
