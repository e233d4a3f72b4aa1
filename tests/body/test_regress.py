"""From what is seen of a drawn person to their body, and what becomes of it when less is seen."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from inference.body.model import load_model, spread
from inference.body.regress import Settings, load_networks, regress
from inference.body.represent import VIEW_FROM_CAMERA, View, crop
from inference.body.silhouette import Shadow, overlap
from inference.core.artifacts import BodyMesh, BodyParameters, Keypoints2D
from inference.core.body import place_bones
from inference.core.cameras import pinhole, project
from inference.core.metrics import pa_mpjpe
from inference.core.rotations import matrix_from_rotvec
from inference.core.skeletons import OPENPOSE_137
from inference.nets.gc_body import KEYPOINTS, PARTS
from inference.nets.gc_ssn import rotation_from_six
from inference.protocol.errors import InputError
from inference.protocol.events import SilentReporter

FRAMES = 8
SHAPE = {"gender": 0.2, "age": 0.67, "weight": 0.6, "height": 0.5}
CAMERA = pinhole("camera", (640, 720), 720.0)
Seen = tuple[View, BodyMesh, BodyParameters]


@cache
def filmed() -> Seen:
    """Somebody who sways and raises an arm, half turned to the camera, four metres away."""
    known, model = load_networks(), load_model()
    mesh = model.mesh(SHAPE, keys=False)
    local = rotation_from_six(known.prior.mean[:-3].view(21, 6))
    local = torch.cat([torch.eye(3)[None], local]).repeat(FRAMES, 1, 1, 1).numpy().astype(float)
    sway, lift = np.linspace(-0.3, 0.3, FRAMES), np.linspace(0, 0.8, FRAMES)
    names = [name for name, _, _ in PARTS]
    turn = matrix_from_rotvec(np.stack([0 * sway, 0 * sway, 0.5 + sway], 1))
    local[:, 0] = VIEW_FROM_CAMERA.T @ turn
    arm = names.index("upperarm.L")
    local[:, arm] = matrix_from_rotvec(np.stack([0 * lift, -lift, 0 * lift], 1)) @ local[:, arm]
    with torch.no_grad():
        shape = torch.tensor([[model.complete(SHAPE).get(name, 0.0) for name in known.body.shape_names]])
        posed = known.body(shape.expand(FRAMES, -1).float(), torch.from_numpy(local).float())
    place = np.tile([0.2, -0.1, 4.0], (FRAMES, 1))
    pose = spread(posed.rotations.numpy().astype(float), model.bones, model.parents)
    header = {"unit": "m", "frame": "camera", "fps": 30.0, "skeleton": "anny", "bones": list(model.bones),
              "shape_names": list(known.body.shape_names), "model": "anny"}  # fmt: skip
    times = np.arange(FRAMES) / 30
    truth = BodyParameters(header, pose, place, shape[0].numpy(), np.ones(FRAMES), times)
    shadow = Shadow(mesh, truth, CAMERA)
    masks = [shadow.outline(frame, CAMERA.size) for frame in range(FRAMES)]
    positions = np.full((FRAMES, len(OPENPOSE_137), 2), np.nan)
    middle = (posed.keypoints + known.body.centres(posed)).numpy() / 2
    positions[:, list(KEYPOINTS)] = project(CAMERA, middle + place[:, None])
    info = {"unit": "px", "frame": "image", "fps": 30.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
            "image_size": list(CAMERA.size)}  # fmt: skip
    keypoints = Keypoints2D(info, positions, np.isfinite(positions).all(-1).astype(float), times)
    return View(keypoints, lambda frame: masks[frame], CAMERA), mesh, truth


@cache
def read(**settings: float | str) -> BodyParameters:
    return regress([filmed()[0]], Settings(**{"refine": 30, **settings}), SilentReporter())  # type: ignore[arg-type]


def mesh_of(found: BodyParameters) -> BodyMesh:
    return load_model().mesh(dict(zip(found.header["shape_names"], found.shape.tolist(), strict=True)), keys=False)


def test_the_body_covers_the_mask_and_stands_where_the_person_does() -> None:
    view, _, truth = filmed()
    found = read()
    shadow = Shadow(mesh_of(found), found, CAMERA)
    ious = [overlap(shadow.outline(frame, CAMERA.size), view.masks(frame)) for frame in range(FRAMES)]  # type: ignore[arg-type]
    assert np.mean(ious) > 0.8, ious
    assert np.abs(found.root[:, :2] / found.root[:, 2:] - truth.root[:, :2] / truth.root[:, 2:]).max() < 0.02
    assert found.confidence.min() > 0.5


def test_joints_lie_near_the_true_ones_but_for_the_size_that_one_camera_cannot_see() -> None:
    _, mesh, truth = filmed()
    found = read()
    mine, theirs = (place_bones(m, p.pose, p.root)[1] for m, p in ((mesh_of(found), found), (mesh, truth)))
    assert pa_mpjpe(mine, theirs) < 0.06


def test_a_known_distance_gives_the_height() -> None:
    _, mesh, truth = filmed()
    found = read(distance_m=float(np.linalg.norm(truth.root[0])))
    assert abs(np.ptp(mesh_of(found).vertices[:, 2]) - np.ptp(mesh.vertices[:, 2])) < 0.08


def test_a_known_height_is_kept() -> None:
    found = read(height_m=1.65)
    assert abs(np.ptp(mesh_of(found).vertices[:, 2]) - 1.65) < 0.03


@pytest.mark.parametrize(("sex", "value"), [("female", 0.9), ("male", 0.1)])
def test_a_known_sex_is_kept(sex: str, value: float) -> None:
    found = read(sex=sex)
    assert abs(dict(zip(found.header["shape_names"], found.shape, strict=True))["gender"] - value) < 0.06
    assert found.confidence.mean() > read().confidence.mean() - 0.05


def test_frames_without_anybody_are_held_without_confidence() -> None:
    view = filmed()[0]
    positions, confidence = view.keypoints.positions.copy(), view.keypoints.confidence.copy()
    positions[3:5], confidence[3:5] = np.nan, 0.0
    found = regress([replace(view, keypoints=replace(view.keypoints, positions=positions, confidence=confidence))],
                    Settings(refine=5), SilentReporter())  # fmt: skip
    assert (found.confidence[3:5] == 0).all() and (found.confidence[[2, 5]] > 0).all()
    assert np.allclose(np.linalg.norm(found.pose, axis=-1), 1)


def test_somebody_who_comes_back_elsewhere_is_not_drawn_across_the_time_between() -> None:
    view, away, shift = filmed()[0], 30, 120.0
    count = 2 * FRAMES + away
    order = np.r_[0:FRAMES, np.full(away, -1), FRAMES - 1 : -1 : -1]
    side = np.where(np.arange(count) < FRAMES, -shift, shift)
    positions = np.where((order >= 0)[:, None, None], view.keypoints.positions[order], np.nan)
    positions[..., 0] += side[:, None]
    confidence = np.where((order >= 0)[:, None], view.keypoints.confidence[order], 0.0)
    keypoints = replace(view.keypoints, positions=positions, confidence=confidence, times=np.arange(count) / 30)

    def mask(at: int) -> np.ndarray | None:
        return np.roll(view.masks(int(order[at])), int(side[at]), 1) if order[at] >= 0 else None  # type: ignore[arg-type]

    found = regress([View(keypoints, mask, CAMERA)], Settings(refine=20), SilentReporter())
    seen = order >= 0
    hips = positions[seen][:, [9, 12], 0].mean(1)
    assert np.abs(project(CAMERA, found.root[seen])[:, 0] - hips).max() < 8
    assert found.confidence[seen].min() > 0.9 and (found.confidence[~seen] == 0).all()


def test_every_camera_says_when_somebody_is_there() -> None:
    view = filmed()[0]
    confidence = view.keypoints.confidence.copy()
    confidence[4:] = 0
    late = replace(view, keypoints=replace(view.keypoints, confidence=confidence))
    both = regress([late, view], Settings(refine=0), SilentReporter())
    alone = regress([view], Settings(refine=0), SilentReporter())
    assert both.confidence.min() > 0.5
    assert np.abs(both.root - alone.root).max() < 0.1
    none = replace(view, keypoints=replace(view.keypoints, confidence=0 * confidence))
    assert regress([none, view], Settings(refine=0), SilentReporter()).confidence.min() > 0.5


def test_a_long_clip_is_read_as_a_short_one_is() -> None:
    view = filmed()[0]
    many = np.tile(np.arange(FRAMES), 30)
    keypoints = replace(view.keypoints, positions=view.keypoints.positions[many],
                        confidence=view.keypoints.confidence[many], times=np.arange(len(many)) / 30)  # fmt: skip
    plain = Settings(refine=0, smoothing=0.0, hypotheses=False)
    long = regress([View(keypoints, lambda at: view.masks(many[at]), CAMERA)], plain, SilentReporter())
    short = regress([view], plain, SilentReporter())
    assert np.abs(long.root[-FRAMES:] - short.root).max() < 1e-4
    assert np.abs(np.abs((long.pose[-FRAMES:] * short.pose).sum(-1)) - 1).max() < 1e-5


def test_half_a_person_is_believed_less() -> None:
    view = filmed()[0]
    confidence = view.keypoints.confidence.copy()
    confidence[:, [9, 10, 11, 12, 13, 14, 19, 20, 21, 22, 23, 24]] = 0
    cut = view.keypoints.positions[:, [9, 12], 1].max()
    rows = np.arange(CAMERA.size[1])[:, None]
    half = View(replace(view.keypoints, confidence=confidence), lambda i: view.masks(i) & (rows < cut), CAMERA)  # type: ignore[operator]
    found = regress([half], Settings(refine=30), SilentReporter())
    assert found.confidence.mean() < read().confidence.mean()
    names = [name for name, _, _ in PARTS]
    heads = place_bones(mesh_of(found), found.pose, found.root)[1]
    assert np.isfinite(heads).all() and len(names) == 22


def test_nobody_is_refused() -> None:
    view = filmed()[0]
    nobody = replace(view.keypoints, confidence=np.zeros_like(view.keypoints.confidence))
    with pytest.raises(InputError, match="0 of 8 frames"):
        regress([replace(view, keypoints=nobody)], Settings(refine=0), SilentReporter())


def test_a_crop_looks_at_the_person_wherever_they_stand() -> None:
    view, _, truth = filmed()
    crops = crop(view, 64, 0.3, VIEW_FROM_CAMERA)
    assert np.abs(crops.joints).max() <= 1 / 1.2 + 1e-3
    seen = crops.turn[0] @ (VIEW_FROM_CAMERA @ truth.root[0]) + crops.shift[0]
    plane = np.array([seen[0], -seen[2]]) / seen[1] / crops.half[0]
    assert np.abs(plane).max() < 0.5 and crops.masks[0].mean() > 0.05
    assert np.allclose(np.linalg.det(crops.turn), 1)
