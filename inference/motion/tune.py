"""Confidences of views, tuned to a rig: the published network learns from what was captured with these very cameras.

Earlier captures tell how their people moved, where the cameras stand, and by how much each view missed every joint at
which score. From that, captures with known truth are imagined: poses turned and moved about, seen by the same cameras
with misses of other frames. The last fifth of every capture is kept apart; weights that do no better there are
dropped.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from .. import nets
from ..core.artifacts import BodyMotion, Keypoints2D, Keypoints3D
from ..core.cameras import Camera, normalise
from ..core.skeletons import BODY, MIRROR_137
from ..nets import view_trust
from ..nets.view_trust import Views, ViewTrust
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from ..protocol.files import atomic_write
from ..protocol.requests import TuneRequest
from ..runtime import weights
from ..runtime.device import set_threads

Array = np.ndarray
WEIGHTS = "view_trust.safetensors"
_BATCH, _HELD, _HELD_FRAMES = 32, 0.2, 256
_LR, _HONESTY = 5e-4, 0.3
_FAR = 0.2  # metres; errors beyond count little more
_INSIDE = 0.6827  # share of errors within one sigma
_SHIFT_M, _EXCHANGED, _BLIND = 0.4, 0.03, 0.05
_LEAST_FRAMES = 60


@dataclass(frozen=True)
class Take:
    """One capture, level: poses (T, 137, 3) m, NaN where unknown; what N views made of them.

    misses (N, T, 137, 2) m, at a joint's depth; scores (N, T, 137), 0 where not seen; rotation (N, 3, 3) and
    translation (N, 3): x_cam = R x + t.
    """

    poses: Array
    misses: Array
    scores: Array
    rotation: Array
    translation: Array
    height: float

    def part(self, rows: slice) -> Take:
        """Some of the frames."""
        return Take(
            self.poses[rows], self.misses[:, rows], self.scores[:, rows], self.rotation, self.translation, self.height
        )


def run(request: TuneRequest, folder: Path, report: Reporter) -> dict[str, Any]:
    """Tune to the cameras of earlier captures; writes `artifacts/view_trust.safetensors` and `report.json`.

    Raises:
        InputError: a folder holds no capture of several cameras, or they are too short.
        Cancelled: somebody asked to stop; nothing is written then.
    """
    set_threads(request.threads)
    takes = [read_take(path) for path in request.captures]
    if len({len(take.rotation) for take in takes}) > 1:
        counts = ", ".join(
            f"{path.name} {len(take.rotation)}" for path, take in zip(request.captures, takes, strict=True)
        )
        raise InputError(f"The captures have different numbers of cameras: {counts}.", "Give captures of one rig.")
    frames = sum(len(take.poses) for take in takes)
    if frames < _LEAST_FRAMES:
        raise InputError(
            f"The captures hold {frames} frames; at least {_LEAST_FRAMES} are needed.", "Give longer ones."
        )
    cuts = [max(1, round(len(take.poses) * (1 - _HELD))) for take in takes]
    known = [take.part(slice(0, cut)) for take, cut in zip(takes, cuts, strict=True)]
    held = [take.part(slice(min(cut, len(take.poses) - 1), None)) for take, cut in zip(takes, cuts, strict=True)]
    published = nets.load(weights.locate("view-trust"))
    assert isinstance(published, ViewTrust)
    tuned, steps = train(published, known, seconds=60.0 * request.minutes, report=report)
    test = imagine(held, _HELD_FRAMES, np.random.default_rng(1))
    before, after = measure(published, *test), measure(tuned, *test)
    kept = after["error_mm"] < before["error_mm"]
    if not kept:
        report.warning("tune", "Nothing was gained on the frames kept apart; the published weights are given back.")
    numbers = {
        "captures": [str(path) for path in request.captures], "cameras": len(takes[0].rotation), "frames": frames,
        "steps": steps, "before": before, "after": after, "kept": kept,
    }  # fmt: skip
    _write(folder, tuned if kept else published, numbers)
    report.artifact("view_trust", f"artifacts/{WEIGHTS}")
    return numbers


def read_take(job: Path) -> Take:
    """Read a job folder of `motion`.

    Raises:
        InputError: it is none, or one of a single camera.
    """
    artifacts = job / "artifacts"
    found, motion = Keypoints3D.load(artifacts / "keypoints_3d.npz"), BodyMotion.load(artifacts / "body_motion.npz")
    cameras = [Camera.from_header(header) for header in found.header.get("cameras", [])]
    names = found.header.get("views", [])
    if len(cameras) < 2 or len(names) != len(cameras):
        raise InputError(
            f"{job.name} is not a capture of several cameras.", "Give folders of captures of the rig, made anew."
        )
    turn = np.array(motion.header["floor_from_frame"], float)[:3, :3]
    placed = np.asarray(found.positions, float)
    poses = placed if motion.positions is None else np.where(np.isfinite(motion.positions), motion.positions, placed)
    clips = found.header.get("clips") or [[None, 1.0]] * len(names)
    seen = [
        _missed(Keypoints2D.load(artifacts / f"keypoints_2d_{name}.npz"), camera, placed, found.times, clip)
        for name, camera, clip in zip(names, cameras, clips, strict=True)
    ]
    height = (found.header.get("diagnostics") or {}).get("height_m") or 1.7
    shy = 1.0 / np.sqrt(1.0 - 1.5 / max(len(cameras), 2))  # points lie nearer to their own rays than the truth does
    return Take(
        poses @ turn.T, shy * np.stack([miss for miss, _ in seen]), np.stack([score for _, score in seen]),
        np.stack([camera.rotation @ turn.T for camera in cameras]),
        np.stack([camera.translation for camera in cameras]), float(height),
    )  # fmt: skip


def _missed(view: Keypoints2D, camera: Camera, placed: Array, times: Array, clip: Sequence[Any]) -> tuple[Array, Array]:
    """How far (T, 137, 2) metres a view saw joints from where they were placed, and its scores there."""
    start, rate = clip
    own = np.asarray(view.times, float)
    wanted = times - times[0] + own[0] if start is None else start + rate * (times - times[0])
    place = np.interp(wanted, own, np.arange(len(own)))
    low = np.floor(place).astype(int)
    high, share = np.minimum(low + 1, len(own) - 1), (place - low)[:, None, None]
    pixels = view.positions[low] * (1 - share) + view.positions[high] * share
    scores = np.minimum(view.confidence[low], view.confidence[high])
    inside = placed @ camera.rotation.T + camera.translation
    depth = inside[..., 2:]
    miss = (normalise(camera, pixels) - inside[..., :2] / depth) * depth
    good = np.isfinite(miss).all(-1) & (depth[..., 0] > 0) & (scores > 0)
    return np.where(good[..., None], miss, 0.0), np.where(good, scores, 0.0)


def imagine(takes: Sequence[Take], count: int, generator: np.random.Generator) -> tuple[Views, Tensor]:
    """Captures with known truth (count, 137, 3): poses turned and moved about, seen with misses of other frames."""
    share = np.array([len(take.poses) for take in takes], float)
    chosen = generator.choice(len(takes), count, p=share / share.sum())
    parts = [_imagined(take, int((chosen == index).sum()), generator) for index, take in enumerate(takes)]
    directions, score, rotation, translation, height, truth = (
        torch.from_numpy(np.concatenate(column).astype(np.float32)) for column in zip(*parts, strict=True)
    )
    return Views(directions, score, rotation, translation, height), truth


def _imagined(take: Take, count: int, generator: np.random.Generator) -> tuple[Array, ...]:
    views, frames = take.misses.shape[:2]
    pose = take.poses[generator.integers(frames, size=count)]
    middle = np.nan_to_num(np.nanmedian(pose[:, BODY], axis=1, keepdims=True)) if count else np.zeros((0, 1, 3))
    angle = generator.uniform(0, 2 * np.pi, count)
    turn = np.zeros((count, 3, 3))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angle)
    turn[:, 1, 0], turn[:, 0, 1] = np.sin(angle), -np.sin(angle)
    turn[:, 2, 2] = 1.0
    shift = generator.normal(0.0, _SHIFT_M, (count, 1, 3)) * [1.0, 1.0, 0.0]
    truth = (pose - middle) @ np.swapaxes(turn, 1, 2) + middle + shift
    inside = np.einsum("vij,bkj->bvki", take.rotation, truth) + take.translation[:, None]
    depth = inside[..., 2:]
    source, each = generator.integers(frames, size=(count, views)), np.arange(views)
    directions = inside[..., :2] / depth + take.misses[each, source] / depth
    score = take.scores[each, source] * (generator.random((count, views, 1)) >= _BLIND)
    exchanged = generator.random((count, views)) < _EXCHANGED
    directions[exchanged] = directions[exchanged][:, MIRROR_137]
    score[exchanged] = score[exchanged][:, MIRROR_137]
    good = np.isfinite(directions).all(-1) & (depth[..., 0] > 0.1)
    score = np.where(good, score, 0.0)
    rotation = np.broadcast_to(take.rotation, (count, views, 3, 3))
    translation = np.broadcast_to(take.translation, (count, views, 3))
    return (
        np.where(good[..., None], directions, 0.0), score, rotation, translation, np.full(count, take.height), truth,
    )  # fmt: skip


def train(net: ViewTrust, takes: Sequence[Take], *, seconds: float, report: Reporter) -> tuple[ViewTrust, int]:
    """Train a copy for some time; its expected errors are scaled to what is found in the end."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    tuned = copy.deepcopy(net).train()
    optimiser = torch.optim.Adam(tuned.parameters(), lr=_LR)
    start, steps = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds or not steps:
        report.progress("tune", round(spent), max(round(seconds), 1))
        for group in optimiser.param_groups:
            group["lr"] = _LR * (1.0 - 0.95 * min(spent / seconds, 1.0))
        off, honest = _losses(tuned, *imagine(takes, _BATCH, generator))
        optimiser.zero_grad()
        (off + _HONESTY * honest).backward()
        torch.nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
        optimiser.step()
        steps += 1
    report.progress("tune", max(round(seconds), 1), max(round(seconds), 1))
    tuned.eval()
    _rescale(tuned, *imagine(takes, _HELD_FRAMES, generator))
    return tuned, steps


def _losses(net: ViewTrust, views: Views, truth: Tensor) -> tuple[Tensor, Tensor]:
    """How far off points are, far ones counting little, in units of 5 cm; and how dishonest the expected errors."""
    out = net(views)
    known = _known(views, truth)
    off = torch.zeros(())
    for points in out.rounds:
        error = ((points - truth)[known].square().sum(-1) + 1e-5).sqrt()
        off = off + torch.where(error > _FAR, _FAR * (1 + (error / _FAR).log()), error).mean() / 0.05
    short = ((out.points - truth)[known].detach().norm(dim=-1) + 1e-4).log() - out.error[known].log()
    return off / len(out.rounds), torch.maximum(_INSIDE * short, (_INSIDE - 1) * short).mean()


@torch.no_grad()
def measure(net: ViewTrust, views: Views, truth: Tensor) -> dict[str, float]:
    """Mean error of the body in mm, errors beyond 2 m counting as such, and the share of errors that are expected."""
    out, known = net(views), _known(views, truth)
    error = (out.points - truth).norm(dim=-1)
    inside = (error <= out.error)[known].float().mean()
    body = error[:, BODY][known[:, BODY]].clamp_max(2.0).mean()
    return {"error_mm": round(1e3 * float(body), 2), "inside_percent": round(100 * float(inside), 1)}


@torch.no_grad()
def _rescale(net: ViewTrust, views: Views, truth: Tensor) -> None:
    out, known = net(views), _known(views, truth)
    ratio = ((out.points - truth).norm(dim=-1) / out.error)[known]
    last = net.doubt[-1]
    assert isinstance(last, torch.nn.Linear)
    last.bias.add_(ratio[ratio.isfinite()].quantile(_INSIDE).log())


def _known(views: Views, truth: Tensor) -> Tensor:
    return ((views.score > 0).sum(1) >= 2) & truth.isfinite().all(-1)


def _write(folder: Path, net: ViewTrust, numbers: dict[str, Any]) -> None:
    metadata = {
        "net": view_trust.NAME, "schema": str(view_trust.SCHEMA), "config": json.dumps(net.config.to_dict()),
        "metrics": json.dumps(numbers["after"]),
    }  # fmt: skip
    data = save({name: value.contiguous() for name, value in net.state_dict().items()}, metadata)
    atomic_write(folder / "artifacts" / WEIGHTS, lambda stream: stream.write(data))
    text = json.dumps(numbers, indent=1, allow_nan=False).encode()
    atomic_write(folder / "report.json", lambda stream: stream.write(text))
