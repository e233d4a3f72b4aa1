"""Weights read from a film's pictures beside its points: lids, lips and brows that no point follows.

Every crop is carried onto the person's own face at rest, so that what is seen there is what the face does; a network
(`nets/face_expression.py`) reads it against all other frames of the film.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .crop import Unfold, carried
from .fit import Fitted, Fitter
from .response import Response

if TYPE_CHECKING:
    from torch import Tensor

    from ..nets.face_expression import FaceExpression

Array = np.ndarray
LEAST_PX = 60.0  # of a face whose picture says something
_CHUNK = 64  # frames that are held as numbers
_SHAPES = 52


@dataclass(frozen=True)
class Film:
    """Pictures of frames: crops (T, SIDE, SIDE) uint8 (`crop.cut`), which of them say something (T,) bool, a reader."""

    crops: Array
    shown: Array
    reader: PictureReader


class PictureReader:
    """A network, and where it looks."""

    def __init__(self, net: FaceExpression, response: Response) -> None:
        self.net = net
        self._unfold = Unfold(response.mean)

    @property
    def information(self) -> Array:
        """(52, 52) inverse of the covariance of errors."""
        return self.net.information.double().numpy()

    def read(self, fitter: Fitter, rays: Array, fitted: Fitted, seen: Array, film: Film) -> tuple[Array, Array]:
        """Guess weights (T, 52), and turns (T, 3) rad that follow the fitted rotations, for one film.

        rays (T, 478, 2), what was fitted to them, `reader.features` (T, N).
        """
        import torch

        places = carried(rays, fitter.rest(fitted.poses, fitted.identity))
        pictures = torch.from_numpy(self._unfold(film.crops, places))[None]
        points = torch.from_numpy(features(fitted.identity, seen))[None]
        there = torch.from_numpy(film.shown)[None]
        chunks = list(zip(*(part.split(_CHUNK, 1) for part in (pictures, points, there)), strict=True))
        with torch.inference_mode():
            usual = self._usual(chunks)
            parts = [self.net.see(some.float(), beside, which, usual) for some, beside, which in chunks]
            found = self.net.read(torch.cat(parts, 1))[0].double().numpy()
        return found[:, :_SHAPES], found[:, _SHAPES:]

    def _usual(self, chunks: Sequence[tuple[Tensor, ...]]) -> Tensor:
        """(1, 1, H, W) what a film mostly shows."""
        import torch

        from ..nets.face_expression import usual_picture

        found, weights = [], []
        for some, beside, which in chunks:
            share = self.net.calm(beside)
            found.append(usual_picture(some.float(), which, share))
            weights.append(float((share * which).sum()))
        share = torch.tensor(weights) / max(sum(weights), 1e-6)
        return torch.tensordot(share, torch.stack(found), 1)


def features(who: Array, seen: Array) -> Array:
    """(T, K + N) float32, what the network sees of points: who it is (K,), and `reader.features` (T, N)."""
    return np.concatenate([np.broadcast_to(who, (len(seen), len(who))), seen], 1).astype(np.float32)


def load_pictures(response: Response) -> PictureReader:
    """Read the one that is shipped.

    Raises:
        WeightsError: it is missing or damaged.
    """
    from ..nets import load
    from ..nets.face_expression import NAME
    from ..runtime.weights import locate

    return PictureReader(load(locate(NAME)), response)  # type: ignore[arg-type]
