"""Weights read from a film's pictures beside its points: lids, lips and brows that no point follows.

Every crop is carried onto the person's own face at rest, so that what is seen there is what the face does; a network
(`nets/face_expression.py`) reads it against all other frames of the film.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..core.face_shapes import SHAPES
from .crop import Unfold, carried
from .fit import Fitted, Fitter
from .mirror import TURN, Mirror
from .response import Response

if TYPE_CHECKING:
    from torch import Tensor

    from ..nets.face_expression import FaceExpression

Array = np.ndarray
LEAST_PX = 60.0  # of a face whose picture says something
_CHUNK = 32  # frames that are held as numbers
_SHAPES = len(SHAPES)


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
        self.mirror = Mirror(response)
        self._unfold = Unfold(response.mean)

    @property
    def information(self) -> Array:
        """(52, 52) inverse of the covariance of errors."""
        return self.net.information.double().numpy()

    def read(
        self, fitter: Fitter, rays: Array, fitted: Fitted, sides: tuple[Array, Array], film: Film
    ) -> tuple[Array, Array]:  # fmt: skip
        """Guess weights (T, 52), and turns (T, 3) rad that follow the fitted rotations, for one film.

        The mean of what is seen in the pictures and in their mirror images. rays (T, 478, 2), what was fitted to them,
        `reader.both_sides` (T, N).
        """
        who = fitted.identity
        pictures = self._unfold(film.crops, carried(rays, fitter.rest(fitted.poses, who)))
        people = who, self.mirror.who(who)
        points = np.stack([features(one, seen) for one, seen in zip(people, sides, strict=True)])
        plain, other = self._found(np.stack([pictures, pictures[..., ::-1]]), points, film.shown)
        weights = plain[:, :_SHAPES] + other[:, :_SHAPES][:, self.mirror.weights]
        return weights / 2, (plain[:, _SHAPES:] + other[:, _SHAPES:] * TURN) / 2

    def _found(self, pictures: Array, points: Array, shown: Array) -> Array:
        """(F, T, 52 + 3) what the network says of films' pictures (F, T, H, W) uint8, points (F, T, N), shown (T,)."""
        import torch

        parts = (pictures, points, np.stack([shown] * len(points)))
        chunks = list(zip(*(torch.from_numpy(part).split(_CHUNK, 1) for part in parts), strict=True))
        with torch.inference_mode():
            usual = self._usual(chunks)
            seen = [self.net.see(some.float(), beside, which, usual) for some, beside, which in chunks]
            return self.net.read(torch.cat(seen, 1)).double().numpy()

    def _usual(self, chunks: Sequence[tuple[Tensor, ...]]) -> Tensor:
        """(F, 1, H, W) what films mostly show."""
        import torch

        from ..nets.face_expression import usual_picture

        found, weights = [], []
        for some, beside, which in chunks:
            share = self.net.calm(beside)
            found.append(usual_picture(some.float(), which, share))
            weights.append((share * which).sum(1))
        share = torch.stack(weights)
        share = share / share.sum(0).clamp_min(1e-6)
        return (share[..., None, None, None] * torch.stack(found)).sum(0)


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
