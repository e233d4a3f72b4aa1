"""What no photo shows well is painted: eyeballs in the colour of their irises, teeth with gums, tongue and mouth."""

from __future__ import annotations

import numpy as np

Array = np.ndarray
_SCLERA, _VEIN = np.array([0.86, 0.835, 0.81]), np.array([0.78, 0.60, 0.56])
_TOOTH, _GUM = np.array([0.87, 0.84, 0.77]), np.array([0.66, 0.36, 0.35])
_FLESH, _DEEP = np.array([0.62, 0.31, 0.30]), np.array([0.22, 0.08, 0.08])
TEETH = 14


def eyeball(directions: Array, iris: Array, iris_rad: float) -> Array:
    """(N, 3) sRGB of places of an eyeball by their directions (N, 3) from its middle; it looks along -y.

    iris: (3,) sRGB; iris_rad: half the angle under which the iris is seen from the middle.
    """
    angle = np.arccos(np.clip(-directions[:, 1], -1, 1))
    turn = np.arctan2(directions[:, 2], directions[:, 0])
    out = angle / iris_rad
    fibres = sum(np.sin(turn * k + p) / n for n, (k, p) in enumerate([(23, 0.3), (41, 1.9), (67, 4.1), (97, 2.2)], 1))
    fibres = fibres * 0.055 * np.clip((out - 0.35) * 4, 0, 1)
    ring = np.exp(-(((out - 0.55) / 0.13) ** 2)) * 0.16
    inner = np.clip(iris * (0.92 + ring + fibres)[:, None] + 0.02 * ring[:, None], 0, 1)
    limbus = 1 - 0.62 * np.clip((out - 0.80) / 0.2, 0, 1) ** 2
    inner = inner * limbus[:, None]
    pupil = np.clip((out - 0.36) / 0.05, 0, 1)[:, None]
    inner = inner * pupil + np.array([0.02, 0.018, 0.018]) * (1 - pupil)
    corner = np.clip((angle - 0.55) / 0.7, 0, 1)[:, None] * 0.75
    white = _SCLERA * (1 - corner) + _VEIN * corner
    share = np.clip((out - 0.94) / 0.12, 0, 1)[:, None]
    share = share * share * (3 - 2 * share)
    return inner * (1 - share) + white * share


def teeth(places: Array) -> Array:
    """(N, 3) sRGB of places (N, 2) in the strip of a row of teeth: along it, and from the gum round to its back."""
    within = (places[:, 0] * TEETH) % 1.0
    between = np.minimum(within, 1 - within)
    scallop = 0.20 + 0.07 * np.clip(1 - between / 0.25, 0, 1)
    tooth = np.clip((places[:, 1] - scallop) / 0.04, 0, 1)
    tooth *= np.clip((0.93 - places[:, 1]) / 0.06, 0, 1)
    gap = np.clip(between / 0.06, 0, 1) * 0.35 + 0.65
    enamel = _TOOTH * (gap * (0.93 + 0.07 * np.clip((places[:, 1] - 0.3) / 0.3, 0, 1)))[:, None]
    return _GUM * (1 - tooth)[:, None] + enamel * tooth[:, None]


def mouth(depth: Array, lips: Array) -> Array:
    """(N, 3) sRGB of the mouth's inside: as lips (3,) at the rim, dark far behind; `depth` (N,) 0 to 1."""
    near = lips * 0.85
    first, second = np.clip(depth * 4, 0, 1)[:, None], np.clip((depth - 0.25) / 0.6, 0, 1)[:, None]
    return (near * (1 - first) + _FLESH * first) * (1 - second) + _DEEP * second


def tongue(depth: Array) -> Array:
    """(N, 3) sRGB of a tongue; `depth` (N,) 0 at its tip to 1."""
    return np.array([0.70, 0.38, 0.38]) * (1 - 0.55 * depth)[:, None]
