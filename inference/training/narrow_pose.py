"""Leave in the pose descriptor what poses explain, in units of what people make of the same pose.

python -m inference.training.narrow_pose RECIPE.toml --films DIR --out DIR --keep N

It changes the checkpoint in `--out`: of the descriptor's directions those are kept whose spread between poses (as far
as weights, turn, and place in the crop explain it linearly) is largest against their spread between twins, as linear
discriminant analysis has it. All that reads the descriptor is linear in it first, so it is told the mean of what it
misses; training goes on from there, with `pose = N` and the former `hidden` in the recipe.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.linalg import eigh

from ..reenact.network import Network
from .reenactment import READERS, Training, background, coefficients_of

Array = np.ndarray
_MARKS = [33, 263, 1, 61, 291, 152, 10, 234, 454]
RIDGE = 50.0


def explained(descriptors: Array, truth: Array) -> Array:
    """Directions (D, D), the best first, of descriptors (N, T, D) in a ring of films by truth (N * T, K)."""
    among = within(descriptors)
    x = descriptors.reshape(-1, descriptors.shape[-1])
    x = x - x.mean(0)
    told = truth @ np.linalg.solve(truth.T @ truth + RIDGE * np.eye(truth.shape[1]), truth.T @ x)
    floor = 1e-4 * np.trace(among) / len(among) * np.eye(len(among))
    return eigh(told.T @ told / len(told), among + floor)[1][:, ::-1]


def within(descriptors: Array) -> Array:
    """(D, D) covariance between people in the same pose, of descriptors (N, T, D) in a ring of films."""
    half = descriptors.shape[1] // 2
    apart = (np.roll(descriptors, -1, 0)[:, :half] - descriptors[:, half:]).reshape(-1, descriptors.shape[-1])
    return apart.T @ apart / len(apart) / 2


def poses_of(weights: Array, rotations: Array, landmarks: Array) -> Array:
    """(N * T, K) what a pose is, place and size in the crop included, each of unit spread."""
    coefficients = coefficients_of(weights, rotations).reshape(-1, 58)
    return np.concatenate([turned_poses(coefficients), place_of(landmarks)], 1)


def turned_poses(coefficients: Array) -> Array:
    """Coefficients (M, 58) and turns squared, each of unit spread."""
    return _unit(np.concatenate([coefficients, coefficients[:, 52:] ** 2], 1))


def place_of(landmarks: Array) -> Array:
    """Where a face is in its crop and how large, (N * T, 3), each of unit spread: landmarks (N, T, 478, 2)."""
    marks = landmarks[:, :, _MARKS].astype(np.float32).reshape(-1, len(_MARKS), 2)
    middle = marks.mean(1)
    size = np.sqrt(np.square(marks - middle[:, None]).sum((1, 2)))[:, None]
    return _unit(np.concatenate([middle, size], 1))


def _unit(values: Array) -> Array:
    return (values - values.mean(0)) / (values.std(0) + 0.05)


def narrowed(state: dict[str, torch.Tensor], directions: Array, x: Array, config: Any) -> dict[str, torch.Tensor]:
    """A state of the network whose descriptor is directions.T (x - mean of x): x (N, D) are descriptors."""
    mean, kept = torch.tensor(x.mean(0)).float(), torch.tensor(directions.T.copy()).float()
    z = (x - x.mean(0)) @ directions
    back = torch.tensor(np.linalg.lstsq(z, x - x.mean(0), rcond=None)[0].T.copy()).float()
    out = dict(state)
    out["embedder.pose_encoder.head.2.weight"] = kept @ state["embedder.pose_encoder.head.2.weight"]
    out["embedder.pose_encoder.head.2.bias"] = kept @ (state["embedder.pose_encoder.head.2.bias"] - mean)
    for name in READERS:
        weight = f"{name}weight_orig" if "projector" in name else f"{name}weight"
        if weight in state:
            who, how = state[weight][:, : config.identity], state[weight][:, config.identity :]
            gain = config.gain if "projector" in name else 1.0
            out[f"{name}bias"] = state[f"{name}bias"] + gain * (how @ mean)
            out[weight] = torch.cat([who, how @ back], 1)
    out["reader.0.bias"] = state["reader.0.bias"] + state["reader.0.weight"] @ mean
    out["reader.0.weight"] = state["reader.0.weight"] @ back
    vector = "generator.affine_params_projector.0.weight_v"  # of no use where layers are not limited
    out[vector] = torch.nn.functional.normalize(torch.ones(config.identity + len(kept)), dim=0)
    return out


def main() -> None:
    """Change a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", type=int, required=True)
    options = parser.parse_args()
    recipe, path = tomllib.loads(options.recipe.read_text(encoding="utf-8")), options.out / "checkpoint.safetensors"
    with np.load(options.films / "films.npz", allow_pickle=False) as arrays:
        images, masks = arrays["images"], arrays["masks"][..., None] / np.float32(255)
        truth = poses_of(arrays["weights"], arrays["rotations"], arrays["landmarks"])
    with safe_open(path, "pt") as file:
        step = file.metadata()["step"]
    run = Training(recipe, len(images))
    run.load_state_dict({name[4:]: value for name, value in load_file(path).items() if name.startswith("net.")})
    net, rng = Network(run.average.eval()), np.random.default_rng(9)
    behind = np.stack([background(images.shape[2], rng) for _ in range(len(images))])
    seen = ((i + b * (1 - m)).astype(np.uint8) for i, b, m in zip(images, behind, masks, strict=True))
    found = np.stack([net.pose(film) for film in seen])
    kept, flat = explained(found, truth)[:, : options.keep], found.reshape(-1, found.shape[-1])
    whole = {name: value for name, value in run.state_dict().items() if name.startswith("discriminator.")}
    for name in ("net", "average"):
        state = narrowed(getattr(run, name).state_dict(), kept, flat, run.net.config)
        whole |= {f"{name}.{key}": value for key, value in state.items()}
    save_file({f"net.{k}": v.contiguous().clone() for k, v in whole.items()}, path, metadata={"step": step})


if __name__ == "__main__":
    main()
