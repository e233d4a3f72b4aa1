"""What is measured of reenactment: what descriptors tell, and how far driven frames are from true ones."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch.nn import functional

Array = np.ndarray
_OUTER = (33, 263)  # outer corners of the eyes
_LIPS, _LIDS = (0, 17), ((159, 145), (386, 374))  # outer rims of the lips; of the lids
_FACE = np.r_[0:468]
_FEW = 4  # values that make no line


def identity_probe(descriptors: Array, people: Array, rows: Array) -> float:
    """How often a linear classifier names the person.

    Args:
        descriptors: (N, D); people: (N,) numbers; rows: (N,) bool, those it learns from, on all others it is asked.
    """
    x = (descriptors - descriptors[rows].mean(0)) / (descriptors[rows].std(0) + 1e-6)
    inputs, names = torch.from_numpy(x).float(), torch.from_numpy(people)
    weight = torch.zeros(x.shape[1], int(people.max()) + 1, requires_grad=True)
    bias = torch.zeros(int(people.max()) + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(inputs[rows] @ weight + bias, names[rows]) + 1e-3 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        found = (inputs[~rows] @ weight + bias).argmax(1)
    return float((found == names[~rows]).float().mean())


def linear_probe(inputs: Array, wanted: Array, asked: Array, truth: Array, *, ridge: float = 1.0) -> Array:
    """R2 (K,) of a linear regression learnt from inputs (N, D) to wanted (N, K), asked on (M, D) with truth (M, K)."""
    mean, std = inputs.mean(0), inputs.std(0) + 1e-6
    x, q = ((part - mean) / std for part in (inputs, asked))
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ (wanted - wanted.mean(0)))
    off = q @ weights + wanted.mean(0) - truth
    return 1 - np.square(off).mean(0) / np.maximum(truth.var(0), 1e-9)


def retrieval(features: Array) -> float:
    """How often the frame of another person that is nearest has the same pose.

    Args:
        features: (people, poses, D), NaN rows where there are none.
    """
    people, poses = features.shape[:2]
    hits = []
    for a in range(people):
        for b in range(people):
            if a != b:
                apart = cdist(features[a], features[b])
                apart[np.isnan(apart)] = np.inf
                hits.append(apart.argmin(1) == np.arange(poses))
    return float(np.mean(hits))


def roughness(features: Array) -> float:
    """Mean size of the second difference of a sequence (T, D) against how far it spreads; less is smoother."""
    known = features[np.isfinite(features).all(1)]
    second = np.linalg.norm(np.diff(known, 2, axis=0), axis=1).mean()
    return float(second / np.sqrt(known.var(0).sum()))


def normalised(landmarks: Array) -> Array:
    """Landmarks (..., N, 2) about their middle and over their size, as numbers (..., 2 N)."""
    face = landmarks[..., _FACE, :]
    face = face - face.mean(-2, keepdims=True)
    size = np.sqrt(np.square(face).sum(-1).mean(-1))[..., None, None]
    return (face / size).reshape(*landmarks.shape[:-2], -1)


def landmark_error(found: Array, truth: Array, *, aligned: bool = False) -> float:
    """Mean distance of landmarks (B, N, 2) over the distance of the outer corners of the true eyes; NaN left out.

    aligned: after the best scale and shift.
    """
    if aligned:
        a, b = found - found.mean(1, keepdims=True), truth - truth.mean(1, keepdims=True)
        scale = (a * b).sum((1, 2)) / np.square(a).sum((1, 2))
        found = a * scale[:, None, None] + truth.mean(1, keepdims=True)
    eyes = np.linalg.norm(truth[:, _OUTER[0]] - truth[:, _OUTER[1]], axis=-1)
    off = np.linalg.norm(found - truth, axis=-1)[:, _FACE].mean(1) / np.maximum(eyes, 0.25 * np.nanmedian(eyes))
    return float(np.nanmean(off)) if np.isfinite(off).any() else float("nan")


def openings(landmarks: Array) -> Array:
    """(..., 2) how far mouth and eyes are open, over the height of the face: landmarks (..., 478, 2)."""
    height = np.linalg.norm(landmarks[..., 10, :] - landmarks[..., 152, :], axis=-1)
    mouth = np.linalg.norm(landmarks[..., _LIPS[0], :] - landmarks[..., _LIPS[1], :], axis=-1)
    eyes = sum(np.linalg.norm(landmarks[..., a, :] - landmarks[..., b, :], axis=-1) for a, b in _LIDS) / 2
    return np.stack([mouth / height, eyes / height], -1)


def follows(found: Array, truth: Array) -> float:
    """How much of a change in truth (T,) is found (T,): the slope of a line through both, where both are known."""
    known = np.isfinite(found) & np.isfinite(truth)
    if known.sum() < _FEW:
        return float("nan")
    found, truth = found[known] - found[known].mean(), truth[known] - truth[known].mean()
    return float((found * truth).sum() / max(np.square(truth).sum(), 1e-9))


def turned(landmarks: Array) -> Array:
    """(...,) how far the tip of the nose lies to the side between the cheeks, -1 to 1: landmarks (..., 478, 2)."""
    left, right, nose = (landmarks[..., k, 0] for k in (454, 234, 1))
    return (2 * nose - left - right) / np.maximum(np.abs(left - right), 1e-6)
