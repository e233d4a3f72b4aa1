"""Weights read from points whose pose and person are known: what the linear fit cannot see, learnt.

The fit says where the head is and who it is; what is left of the points then is a face held still. A small network
reads the 52 weights from it. Its guesses, with their errors' covariance, take the place of the points in a bounded
problem over time (`solve`), and poses follow the weights; where there are pictures, these turn them, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.face_shapes import SHAPES
from ..core.rotations import matrix_from_rotvec
from .fit import Fitted, Fitter, Poses
from .mirror import Mirror
from .pictures import Film
from .response import Response, view_features
from .solve import bounded

Array = np.ndarray
_SHAPES = len(SHAPES)
_POSE_STEPS = 1


class Reader:
    """The network of a response."""

    def __init__(self, response: Response) -> None:
        self.response = response
        self._layers = [(w, b) for w, b in zip(response.reader_weights(), response.reader_biases(), strict=True)]

    def express(
        self, fitter: Fitter, rays: Array, depth: Array, who: Array, stiff: Array, *,
        parts: Sequence[Array] | None = None, film: Film | None = None,
    ) -> Fitted:  # fmt: skip
        """What a known face does; arguments as those of `Fitter.express`.

        parts: rows of frames that follow each other, all by default; film: pictures, where there are some.
        """
        first = fitter.express(rays, depth, who, np.zeros(_SHAPES))
        if film is None:
            known, turn = self.response.information, None
            guess = self.read(features(fitter, rays, first, who, self.response))
        else:
            known = film.reader.information
            sides = both_sides(fitter, rays, first, who, film.reader.mirror)
            guess, turn = film.reader.read(fitter, rays, first, sides, film)
        information = np.broadcast_to(known, (len(rays), *known.shape)).copy()
        wanted = guess @ known
        raw = bounded(information, wanted, np.zeros(_SHAPES))
        weights = raw.copy()
        for rows in (parts or [np.arange(len(rays))]) if stiff.any() else []:
            weights[rows] = bounded(information[rows], wanted[rows], stiff, start=raw[rows])
        poses = fitter.posed(rays, weights, who, first.poses, _POSE_STEPS)
        if turn is not None:
            poses = self._turned(poses, first.poses.rotations @ matrix_from_rotvec(turn))
        return Fitted(who, weights, poses, first.misfit, raw)

    def _turned(self, poses: Poses, rotations: Array) -> Poses:
        """Poses with other rotations (T, 3, 3), the face's middle where it is."""
        return Poses(rotations, poses.translations + (poses.rotations - rotations) @ self.response.mean.mean(0))

    def read(self, seen: Array) -> Array:
        """(T, 52) guesses, from `features` (T, N)."""
        x = seen
        for place, (weight, bias) in enumerate(self._layers):
            x = x @ weight.T + bias
            if place < len(self._layers) - 1:
                x = x * 0.5 * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))  # GELU, by tanh
        return x


def features(fitter: Fitter, rays: Array, fitted: Fitted, who: Array, response: Response) -> Array:
    """(T, N) what the network sees: the points against the person's neutral face, the fit's own weights, the view."""
    left = fitter.residuals(rays, np.zeros((len(rays), _SHAPES)), fitted.poses, who)
    return join_features(left, fitted.weights, views_of(fitted.poses), response)


def both_sides(fitter: Fitter, rays: Array, fitted: Fitted, who: Array, mirror: Mirror) -> tuple[Array, Array]:
    """`features`, and those of the mirror image."""
    left = fitter.residuals(rays, np.zeros((len(rays), _SHAPES)), fitted.poses, who)
    views, response = views_of(fitted.poses), fitter.response
    other = mirror.left(left), fitted.weights[:, mirror.weights], mirror.views(views)
    return join_features(left, fitted.weights, views, response), join_features(*other, response)


def join_features(left: Array, weights: Array, views: Array, response: Response) -> Array:
    """`features` from their parts: residuals (T, 478, 2), the fit's weights (T, 52), the view (T, 2)."""
    coded = (left.reshape(len(left), -1) - response.code_mean) @ response.code.T
    return np.concatenate([coded, weights, views], 1)


def views_of(poses: Poses) -> Array:
    """(T, 2) from where a face is seen."""
    return 2.0 * view_features(poses.rotations, poses.translations)[:, :2]
