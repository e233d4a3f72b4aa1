"""How a head is lit, from its own colours: a smooth function of the normal, to be divided out.

Light is a polynomial of the normal of degree two, that is spherical harmonics to the second band (Ramamoorthi 2001),
fitted to the logarithm of what is seen; colours are linear, not sRGB.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
_ROUNDS = 6
_LIMIT = 0.9  # of the logarithm of what is divided out


def to_linear(srgb: Array) -> Array:
    """SRGB in 0 to 1 to linear light."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0) + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Array) -> Array:
    """Linear light to sRGB in 0 to 1."""
    safe = np.clip(linear, 0, 1)
    return np.where(safe <= 0.0031308, safe * 12.92, 1.055 * safe ** (1 / 2.4) - 0.055)


def basis(normals: Array) -> Array:
    """(N, 8) harmonics of normals (N, 3), without the constant."""
    x, y, z = normals.T
    return np.stack([x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], -1)


def fit_light(linear: Array, normals: Array, weights: Array) -> Array:
    """(8, 3) coefficients of the light's logarithm about its mean, robustly: spots and brows are not light."""
    seen, rows = np.log(np.clip(linear, 1e-3, 1.0)), np.concatenate([basis(normals), np.ones((len(normals), 1))], 1)
    trust = weights.copy()
    pull = np.diag([2.0, 2.0, 2.0, *[8.0] * 5, 0.0]) * 0.01 * max(weights.sum(), 1e-9)
    found = np.zeros((9, 3))
    for _ in range(_ROUNDS):
        found = np.linalg.solve(rows.T @ (trust[:, None] * rows) + pull, rows.T @ (trust[:, None] * seen))
        off = np.abs(seen - rows @ found).mean(1)
        trust = weights / (1 + (off / 0.15) ** 2)
    return found[:-1]


def relit(linear: Array, normals: Array, light: Array, strength: float, towards: Array) -> Array:
    """(N, 3) colours with a share of the light divided out, as bright as a face that looks `towards` (3,)."""
    change = basis(normals) @ light - basis(towards[None]) @ light
    change = _LIMIT * np.tanh(strength * change / _LIMIT)
    return linear * np.exp(-change)
