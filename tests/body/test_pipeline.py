"""The road from files to a body: people made up with known joints and outlines, usual ones and unusual ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from understudy.tests.body.bodies import parameters_of
from understudy.tests.body.test_foreign import arrays
from understudy.tests.motion.bodies import keypoints_of, moving

import inference
from inference import nets
from inference.body.job import BodyJob
from inference.body.model import load_model, spread
from inference.body.pipeline import run
from inference.body.see import see
from inference.body.silhouette import Shadow
from inference.core.artifacts import BodyMesh, BodyParameters, Keypoints2D, Keypoints3D
from inference.core.body import place_bones
from inference.core.cameras import Camera, project
from inference.core.rotations import matrix_from_rotvec
from inference.core.skeletons import OPENPOSE_137
from inference.nets.gc_body import KEYPOINTS, PARENTS, PARTS, GcBody
from inference.protocol.errors import Cancelled, InputError
from inference.protocol.events import SilentReporter
from inference.protocol.requests import BodyRequest
from inference.runtime import weights

Array = np.ndarray
FRAMES, SIZE = 12, (480, 640)
FROM_CAMERA = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
QUICK: dict[str, Any] = {"refine": 6, "lift": False, "overlay": False, "focal_px": 640.0}


class Notes(SilentReporter):
    """Keeps what was warned of."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def warning(self, code: str, text: str) -> None:
        self.said[code] = text


def body_net() -> GcBody:
    net = nets.load(weights.locate("gc-body"))
    assert isinstance(net, GcBody)
    return net


def film(folder: Path, shape: dict[str, float], *, shift_px: float = 0.0) -> tuple[BodyMesh, Array]:
    """Keypoints and masks of somebody of a shape who lifts an arm and a knee before a camera; their body and joints.

    Writes `keypoints.npz` and `masks/`. shift_px: how far to the right of the middle they stand.
    """
    net, model = body_net(), load_model()
    time = np.linspace(0, 1, FRAMES)
    turns = np.zeros((FRAMES, len(PARTS), 3))
    names = [name for name, _, _ in PARTS]
    turns[:, names.index("upperarm.L"), 1] = -0.9 * time
    turns[:, names.index("thigh.R"), 0] = -0.7 * time
    turns[:, names.index("shin.R"), 0] = 0.9 * time
    turns[:, 0, 2] = 0.3
    local = matrix_from_rotvec(turns)
    world = local.copy()
    for part, parent in enumerate(PARENTS):
        if parent >= 0:
            world[:, part] = world[:, parent] @ local[:, part]
    vector = torch.tensor([[model.complete(shape).get(name, 0.0) for name in net.shape_names]]).float()
    with torch.no_grad():
        posed = net(vector.expand(FRAMES, -1), torch.from_numpy(local).float())
    place = np.array([shift_px / 640 * 4.0, 4.0, 0.0])
    mesh = model.mesh(shape, keys=False)
    pose = spread(FROM_CAMERA.T @ world, model.bones, model.parents)
    moving = parameters_of(mesh, pose, np.tile(place @ FROM_CAMERA, (FRAMES, 1)))
    camera = Camera("c", SIZE, np.array([[640.0, 0, 239.5], [0, 640, 319.5], [0, 0, 1]]))
    points = np.full((FRAMES, 137, 2), np.nan)
    points[:, list(KEYPOINTS)] = project(camera, (posed.keypoints.numpy() + place) @ FROM_CAMERA)
    inside = ((points > 0) & (points < SIZE)).all(-1)
    header = {"unit": "px", "frame": "image", "fps": 30.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
              "image_size": list(SIZE), "source": "", "view": "c"}  # fmt: skip
    Keypoints2D(header, np.where(inside[..., None], points, np.nan), 0.9 * inside, np.arange(FRAMES) / 30).save(
        folder / "keypoints.npz"
    )
    (folder / "masks").mkdir()
    for frame, mask in enumerate(Shadow(mesh, moving, camera).outlines(SIZE)):
        cv2.imwrite(str(folder / "masks" / f"{frame:03d}.png"), mask.astype(np.uint8) * 255)
    return mesh, place_bones(mesh, moving.pose, moving.root)[1]


def made(folder: Path, notes: SilentReporter | None = None, **settings: Any) -> tuple[dict[str, Any], BodyParameters]:
    request = BodyRequest(keypoints=folder / "keypoints.npz", **{"masks": folder / "masks", **QUICK, **settings})
    numbers = run(request, folder / "job", notes or SilentReporter())
    return numbers, BodyParameters.load(folder / "job" / "artifacts" / "body_parameters.npz")


def upright(mesh: BodyMesh, parameters: BodyParameters) -> Array:
    """(T,) metres of the head above the feet, on the floor."""
    floor = np.array(parameters.header["floor_from_frame"])
    _, heads = place_bones(mesh, parameters.pose, parameters.root)
    level = heads @ floor[:3, :3].T + floor[:3, 3]
    index = {name: row for row, name in enumerate(mesh.header["bones"])}
    assert abs(level[:, [index["foot.L"], index["foot.R"]], 2].min(1)).max() < 0.3
    return level[:, index["head"], 2] - level[:, [index["foot.L"], index["foot.R"]], 2].min(1)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"gender": 0.3}, "adult"),
        ({"age": 1 / 3, "height": 0.4}, "child"),
        ({"weight": 1.0, "measure-waist-circ-incr": 1.0, "stomach-pregnant-incr": 1.0}, "large"),
    ],
)
def test_people_of_all_kinds_become_bodies_that_stand_and_fit(
    shape: dict[str, float], said: str, tmp_path: Path
) -> None:
    mesh, _ = film(tmp_path, shape)
    numbers, parameters = made(tmp_path, height_m=mesh.header["measures_m"]["height"])
    assert numbers["silhouette_iou"]["median"] > 0.55, said
    assert numbers["measures_m"]["height"] == pytest.approx(mesh.header["measures_m"]["height"], abs=0.12)
    body = BodyMesh.load(tmp_path / "job" / "artifacts" / "body_mesh.npz")
    assert (upright(body, parameters) > 0.5 * numbers["measures_m"]["height"]).all()
    assert json.loads((tmp_path / "job" / "report.json").read_text()) == numbers
    assert "Measures" in (tmp_path / "job" / "report.html").read_text()


def test_half_a_body_gets_a_warning_and_less_confidence(tmp_path: Path) -> None:
    for name in ("whole", "half"):
        (tmp_path / name).mkdir()
    film(tmp_path / "whole", {})
    film(tmp_path / "half", {}, shift_px=250.0)
    notes = Notes()
    numbers, _ = made(tmp_path / "half", notes)
    assert "less than half of the body" in notes.said["cut-off"]
    assert numbers["confidence"] < made(tmp_path / "whole")[0]["confidence"]


def test_legs_out_of_sight_are_said_to_be_guessed(tmp_path: Path) -> None:
    film(tmp_path, {})
    seen, notes = Keypoints2D.load(tmp_path / "keypoints.npz"), Notes()
    confidence = seen.confidence.copy()
    confidence[:, [10, 11, 13, 14, *range(19, 25)]] = 0.0
    replace(seen, confidence=confidence).save(tmp_path / "keypoints.npz")
    looked_at(tmp_path, notes, keypoints=tmp_path / "keypoints.npz", masks=tmp_path / "masks")
    assert "neither knees nor feet" in notes.said["legs-unseen"]


def test_joints_in_space_of_other_moments_are_told(tmp_path: Path) -> None:
    folder, notes = captured(tmp_path / "capture", np.arange(FRAMES) / 30, start=0), Notes()
    space, view = (folder / "artifacts" / f"keypoints_{name}.npz" for name in ("3d", "2d"))
    looked_at(tmp_path, notes, keypoints=view, keypoints_3d=space)
    assert "other-times" not in notes.said
    later = Keypoints3D.load(space)
    replace(later, times=later.times + 0.5).save(space)
    looked_at(tmp_path, notes, keypoints=view, keypoints_3d=space)
    assert "by up to 0.50 s" in notes.said["other-times"]


def emptied(folder: Path) -> None:
    for file in (folder / "masks").iterdir():
        cv2.imwrite(str(file), np.zeros(SIZE[::-1], np.uint8))


def doubled(folder: Path) -> None:
    for file in (folder / "masks").iterdir():
        mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(file), np.maximum(mask, np.roll(mask, 130, 1)))


@pytest.mark.parametrize(("spoil", "said"), [(emptied, "show nobody"), (doubled, "show more than this person")])
def test_masks_that_cannot_be_believed_are_left_out_and_named(
    spoil: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    film(tmp_path, {})
    spoil(tmp_path)
    notes = Notes()
    numbers, parameters = made(tmp_path, notes)
    assert f"{FRAMES} of {FRAMES} masks {said}" in notes.said["masks"]
    assert "No mask" in notes.said["no-masks"]
    assert numbers["silhouette_iou"] is None and np.isfinite(parameters.pose).all()


def test_masks_of_another_size_and_joints_of_another_clip_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    film(tmp_path, {})
    for file in (tmp_path / "masks").iterdir():
        cv2.imwrite(str(file), np.zeros((300, 300), np.uint8))
    with pytest.raises(InputError, match="300 x 300 px do not belong to pictures of 480 x 640 px"):
        made(tmp_path)
    assert not (tmp_path / "job" / "artifacts" / "body_parameters.npz").exists()


def captured(folder: Path, times: Array, *, start: int) -> Path:
    """The job folder of a capture of one view, whose frames from `start` on have these times."""
    motion = moving(len(times)).with_header(start=start)
    space = keypoints_of(motion, frame="camera")
    camera = Camera("c", SIZE, np.array([[640.0, 0, 239.5], [0, 640, 319.5], [0, 0, 1]]))
    header = {"unit": "px", "frame": "image", "fps": 1.0 / float(np.diff(times).mean()), "skeleton": "openpose137",
              "joints": list(OPENPOSE_137), "image_size": list(SIZE), "source": "", "view": "c"}  # fmt: skip
    points = np.arange(len(times))[:, None, None] + np.full((1, 137, 2), 100.0)
    view = Keypoints2D(header, points, np.full((len(times), 137), 0.9), times)
    motion.save(folder / "artifacts" / "body_motion.npz")
    replace(space, times=times).with_header(cameras=[camera.to_header()]).save(folder / "artifacts/keypoints_3d.npz")
    view.save(folder / "artifacts" / "keypoints_2d.npz")
    return folder


def looked_at(folder: Path, report: SilentReporter | None = None, **settings: Any) -> Any:
    """What the body wing's first stage makes of its input."""
    request = BodyRequest(**{"lift": False, **settings})
    return see(BodyJob(request, folder / "job" / "artifacts", report or SilentReporter()))


@pytest.mark.parametrize("steps_ms", [[40] * 29, [16, 33, 120, 16, 16, 33, 34] * 4 + [16]])
def test_a_capture_that_began_later_is_looked_at_in_its_own_frames(tmp_path: Path, steps_ms: list[int]) -> None:
    times = np.cumsum([0, *steps_ms]) / 1000
    (shown,) = looked_at(tmp_path, capture=captured(tmp_path / "capture", times, start=6)).views
    assert (shown.frames == 6 + np.arange(30)).all()
    assert (shown.keypoints.positions[:, 0, 0] == 100 + np.arange(30)).all()


def test_masks_of_a_film_are_those_of_the_frames_that_a_capture_holds(tmp_path: Path) -> None:
    film(tmp_path, {})
    folder = captured(tmp_path / "capture", np.arange(FRAMES) / 30, start=6)
    (tmp_path / "keypoints.npz").replace(folder / "artifacts" / "keypoints_2d.npz")
    masks = tmp_path / "masks"
    for frame in reversed(range(FRAMES)):
        (masks / f"{frame:03d}.png").replace(masks / f"{frame + 6:03d}.png")
    for frame in range(6):
        cv2.imwrite(str(masks / f"{frame:03d}.png"), np.zeros(SIZE[::-1], np.uint8))
    (shown,) = looked_at(tmp_path, capture=folder, view="c", masks=masks).views
    assert [file and file.stem for file in shown.masks.files] == [f"{frame + 6:03d}" for frame in range(FRAMES)]
    (masks / "017.png").unlink()
    with pytest.raises(InputError, match="masks holds 17 masks for 18 frames"):
        looked_at(tmp_path, capture=folder, view="c", masks=masks)


def test_what_a_capture_saw_of_others_and_in_earlier_runs_is_left_aside(tmp_path: Path) -> None:
    folder = captured(tmp_path / "capture", np.arange(12) / 30, start=0)
    view = Keypoints2D.load(folder / "artifacts" / "keypoints_2d.npz")
    replace(view, positions=view.positions + 200).save(folder / "artifacts" / "keypoints_2d_person2.npz")
    view.with_header(view="side").save(folder / "artifacts" / "keypoints_2d_side.npz")
    (shown,) = looked_at(tmp_path, capture=folder).views
    assert (shown.keypoints.positions[0] == 100).all()


def in_two_views(folder: Path, delay_s: float) -> Path:
    """The job folder of a capture of views a and b, whose film began earlier."""
    captured(folder, np.arange(FRAMES) / 30, start=0)
    artifacts = folder / "artifacts"
    space, view = Keypoints3D.load(artifacts / "keypoints_3d.npz"), Keypoints2D.load(artifacts / "keypoints_2d.npz")
    cameras = [{**space.header["cameras"][0], "name": name} for name in "ab"]
    space.with_header(cameras=cameras, views=["a", "b"], clips=[[0.0, 1.0], [delay_s, 1.0]]).save(
        artifacts / "keypoints_3d.npz"
    )
    view.with_header(view="a").save(artifacts / "keypoints_2d_a.npz")
    count = FRAMES + round(30 * delay_s)
    long = replace(view, positions=np.full((count, 137, 2), 100.0), confidence=np.full((count, 137), 0.9),
                   times=np.arange(count) / 30)  # fmt: skip
    long.with_header(view="b").save(artifacts / "keypoints_2d_b.npz")
    return folder


def test_a_view_that_began_earlier_keeps_saying_so(tmp_path: Path) -> None:
    sight = looked_at(tmp_path, capture=in_two_views(tmp_path / "capture", 1.0))
    assert [int(shown.frames[0]) for shown in sight.views] == [0, 30]
    assert sight.clips == [[0.0, 1.0], [1.0, 1.0]]
    alone = looked_at(tmp_path, capture=tmp_path / "capture", view="b")
    assert alone.clips == [[1.0, 1.0]]


def test_one_film_is_not_taken_for_those_of_several_cameras(tmp_path: Path) -> None:
    folder = in_two_views(tmp_path / "capture", 0.0)
    clip = Path(inference.__file__).parent / "demo" / "front.mp4"
    with pytest.raises(InputError, match="One clip was given beside a capture of 2 views: a, b"):
        looked_at(tmp_path, capture=folder, video=clip)
    with pytest.raises(InputError, match="do not belong to a clip of"):
        looked_at(tmp_path, capture=folder, video=clip, view="b")


def test_joints_in_space_of_several_cameras_are_seen_by_the_one_that_saw_the_keypoints(tmp_path: Path) -> None:
    artifacts = in_two_views(tmp_path / "capture", 0.0) / "artifacts"
    given: dict[str, Any] = {"keypoints_3d": artifacts / "keypoints_3d.npz"}
    (shown,) = looked_at(tmp_path, keypoints=artifacts / "keypoints_2d_b.npz", **given).views
    assert shown.camera.name == "b"
    with pytest.raises(InputError, match="are of 2 cameras, a, b; the keypoints name none of them"):
        looked_at(tmp_path, keypoints=artifacts / "keypoints_2d.npz", **given)


@pytest.mark.parametrize("fps", [None, 30.0])
def test_keypoints_that_begin_in_the_middle_of_a_film_have_masks_from_there(tmp_path: Path, fps: float | None) -> None:
    film(tmp_path, {})
    keypoints = Keypoints2D.load(tmp_path / "keypoints.npz")
    replace(keypoints, times=(6 + np.arange(FRAMES)) / keypoints.fps).save(tmp_path / "keypoints.npz")
    for frame in range(FRAMES, FRAMES + 6):
        cv2.imwrite(str(tmp_path / "masks" / f"{frame:03d}.png"), np.zeros(SIZE[::-1], np.uint8))
    (shown,) = looked_at(tmp_path, keypoints=tmp_path / "keypoints.npz", masks=tmp_path / "masks", fps=fps).views
    assert shown.frames.tolist() == list(range(6, FRAMES + 6))


def test_a_body_of_ones_own_model_is_not_taken_for_one_of_ours(tmp_path: Path) -> None:
    mesh, _ = film(tmp_path, {})
    np.savez(tmp_path / "model.npz", **arrays(mesh))
    assert made(tmp_path, model=tmp_path / "model.npz")[1].header["model"] == "model"
    numbers, parameters = made(tmp_path)
    assert numbers["model"] == "anny" and parameters.pose.shape[1] == len(mesh.parents)


def test_a_look_at_other_frames_that_was_cancelled_costs_no_masks(tmp_path: Path) -> None:
    class Impatient(SilentReporter):
        def progress(self, stage: str, done: int, total: int) -> None:
            del stage, total
            if done > 2:
                raise Cancelled()

    clip = {"video": Path(inference.__file__).parent / "demo" / "front.mp4", "stop": 16}
    before = looked_at(tmp_path, **clip)
    with pytest.raises(Cancelled):
        looked_at(tmp_path, Impatient(), **{**clip, "start": 1})
    again = looked_at(tmp_path, **clip)
    assert sum(file is not None for file in before.views[0].masks.files) >= 10
    assert again.views[0].masks == before.views[0].masks
