"""Every usual lie is told to a good rig with a walking person, is found by name, and its change restores the rig."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from inference.calibration.checks import Finding, apply_all, check_calibration, report_findings
from inference.calibration.pipeline import run
from inference.calibration.suspects import turned_picture
from inference.core.artifacts import Keypoints2D
from inference.core.cameras import Camera, CameraSet, level_rotation, project
from inference.core.formats.calibration import read_calibration, write_calibration
from inference.core.skeletons import BODY_25, MIRROR_137, OPENPOSE_137
from inference.protocol.errors import InputError
from inference.protocol.events import SilentReporter
from inference.protocol.requests import CalibrateRequest

FRAMES, FPS = 80, 30.0
PLACES = np.random.default_rng(9).uniform([-1, -1, 0], [1, 1, 1.9], (60, 3))
# A standing person, metres: x to the left, y forward, z up; origin on the floor between the feet.
STANDING = {
    "Nose": (0, 0.11, 1.60), "Neck": (0, 0, 1.45), "RShoulder": (-0.18, 0, 1.43), "RElbow": (-0.22, 0, 1.14),
    "RWrist": (-0.24, 0.05, 0.89), "LShoulder": (0.18, 0, 1.43), "LElbow": (0.22, 0, 1.14),
    "LWrist": (0.24, 0.05, 0.89), "MidHip": (0, 0, 0.93), "RHip": (-0.1, 0, 0.93),
    "RKnee": (-0.1, 0.02, 0.5), "RAnkle": (-0.1, 0, 0.08),
    "LHip": (0.1, 0, 0.93), "LKnee": (0.1, 0.02, 0.5), "LAnkle": (0.1, 0, 0.08), "REye": (-0.03, 0.1, 1.64),
    "LEye": (0.03, 0.1, 1.64), "REar": (-0.07, 0.02, 1.62), "LEar": (0.07, 0.02, 1.62), "LBigToe": (0.12, 0.18, 0.02),
    "LSmallToe": (0.16, 0.14, 0.02), "LHeel": (0.1, -0.05, 0.03), "RBigToe": (-0.12, 0.18, 0.02),
    "RSmallToe": (-0.16, 0.14, 0.02), "RHeel": (-0.1, -0.05, 0.03),
}  # fmt: skip
SWING = {"Wrist": 0.3, "Elbow": 0.13, "Knee": -0.15, "Ankle": -0.3, "Heel": -0.3, "BigToe": -0.3, "SmallToe": -0.3}


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, code: str, text: str) -> None:
        assert code == "calibration"
        self.said.append(text)


def walk(seed: int = 0) -> np.ndarray:
    """(T, 137, 3) of somebody who walks in a bow, NaN where there is no body; feet on z = 0."""
    rng = np.random.default_rng(seed)
    body = np.array([STANDING[name] for name in BODY_25]) * rng.uniform(0.92, 1.1)
    phase = 2 * np.pi * (np.arange(FRAMES) / FPS * 0.9 + rng.uniform())
    points = np.broadcast_to(body, (FRAMES, 25, 3)).copy()
    for joint, name in enumerate(BODY_25):
        side = {"L": 1.0, "R": -1.0}.get(name[0], 0.0)
        points[:, joint, 1] += SWING.get(name[1:], 0.0) * side * np.sin(phase)
    turn = Rotation.from_euler("z", np.linspace(0, 1.5, FRAMES) + rng.uniform(0, 6)).as_matrix()
    points = np.einsum("tij,tkj->tki", turn, points)
    path = np.cumsum(turn[:, :, 1], axis=0) * 0.6 / FPS
    out = np.full((FRAMES, 137, 3), np.nan)
    out[:, :25] = points + path[:, None] - path.mean(0)
    return out


def rig(seed: int = 0, count: int = 4, size: tuple[int, int] = (1920, 1080)) -> CameraSet:
    """Cameras around the middle, some metres away, as people set them up."""
    rng = np.random.default_rng(seed)
    cameras = []
    for index in range(count):
        angle = 2 * np.pi * index / max(count, 3) + rng.uniform(-0.3, 0.3)
        centre = np.array([*(rng.uniform(4.0, 6.5) * np.array([np.cos(angle), np.sin(angle)])), rng.uniform(0.8, 2.6)])
        level = level_rotation(np.array([*rng.uniform(-0.3, 0.3, 2), 0.95]) - centre)
        rotation = Rotation.from_rotvec(rng.normal(scale=0.03, size=3)).as_matrix() @ level
        focal = rng.uniform(0.65, 1.0) * max(size)
        middle = (np.array(size) - 1) / 2 + rng.normal(scale=0.01, size=2) * max(size)
        matrix = np.array([[focal, 0, middle[0]], [0, focal * rng.uniform(0.99, 1.01), middle[1]], [0, 0, 1]])
        lens = rng.normal(scale=[0.06, 0.03, 0.001, 0.001, 0.0])
        cameras.append(Camera(f"cam{index + 1:02d}", size, matrix, lens, rotation, -rotation @ centre))
    return CameraSet(tuple(cameras))


def film(cameras: CameraSet, seed: int = 0, *, noise: float = 3.0, names: bool = False) -> list[Keypoints2D]:
    """What an ordinary detector makes of the walk: noise, outliers and joints that are missing."""
    rng, points, views = np.random.default_rng(seed), walk(seed), []
    for camera in cameras:
        pixels = project(camera, points)
        pixels += rng.normal(scale=noise, size=pixels.shape)
        wild = rng.uniform(size=pixels.shape[:2]) < 0.02
        pixels[wild] += rng.normal(scale=80, size=(int(wild.sum()), 2))
        inside = ((pixels > 0) & (pixels < np.array(camera.size))).all(-1)
        score = np.where(inside & (rng.uniform(size=inside.shape) > 0.08), rng.uniform(0.5, 1.0, inside.shape), 0.0)
        header = {
            "unit": "px", "frame": "image", "fps": FPS, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
            "image_size": list(camera.size), "view": camera.name if names else "",
        }  # fmt: skip
        views.append(Keypoints2D(header, pixels, score, np.arange(FRAMES) / FPS))
    return views


def serious(findings: tuple[Finding, ...]) -> list[str]:
    return [f"{finding.code}@{finding.camera}" for finding in findings if finding.severity != "note"]


def off_px(cameras: CameraSet, truth: CameraSet) -> float:
    """How far, at worst, a camera projects from where it should; exact where nothing is to be estimated."""
    worst = 0.0
    for camera, true in zip(cameras, truth, strict=True):
        error = np.linalg.norm(project(camera, PLACES) - project(true, PLACES), axis=-1)
        worst = max(worst, float(np.nan_to_num(error, nan=1e4).max()))
    return worst


def changed(index: int, change: Callable[[Camera], Camera]) -> Callable[[CameraSet], CameraSet]:
    def lie(cameras: CameraSet) -> CameraSet:
        return CameraSet(tuple(change(camera) if i == index else camera for i, camera in enumerate(cameras)))

    return lie


def every(change: Callable[[Camera], Camera]) -> Callable[[CameraSet], CameraSet]:
    return lambda cameras: CameraSet(tuple(change(camera) for camera in cameras))


def posed(camera: Camera, rotation: np.ndarray, translation: np.ndarray) -> Camera:
    return replace(camera, rotation=rotation, translation=translation)


def world(turn: np.ndarray, shift: tuple[float, float, float] = (0, 0, 0)) -> Callable[[CameraSet], CameraSet]:
    """Describe the same cameras in a world whose points are turn @ old + shift."""
    return every(
        lambda c: posed(c, c.rotation @ turn.T, c.translation - c.rotation @ turn.T @ np.asarray(shift, float))
    )


def order(*which: int) -> Callable[[CameraSet], CameraSet]:
    return lambda cameras: CameraSet(tuple(replace(cameras[j], name=cameras[i].name) for i, j in enumerate(which)))


def turn(axis: str, degrees: float) -> np.ndarray:
    return Rotation.from_euler(axis, degrees, degrees=True).as_matrix()


def knocked(camera: Camera, degrees: float, metres: float) -> Camera:
    rotation = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, -0.7, 0.4])).as_matrix() @ camera.rotation
    return posed(camera, rotation, -rotation @ (camera.centre + metres * np.array([0.6, 0.5, -0.6])))


def lens(camera: Camera, *coefficients: float) -> Camera:
    return replace(camera, distortion=np.array(coefficients))


def focal(camera: Camera, factor: float) -> Camera:
    return replace(camera, matrix=camera.matrix * [[factor, 1, 1], [1, factor, 1], [1, 1, 1]])


def centred_at(camera: Camera, x: float, y: float) -> Camera:
    matrix = camera.matrix.copy()
    matrix[:2, 2] = x, y
    return replace(camera, matrix=matrix)


GL, FLIP_X, FLIP_Y = np.diag([1.0, -1.0, -1.0]), np.diag([-1.0, 1.0, 1.0]), np.diag([1.0, -1.0, 1.0])
IN_ORDER = (-0.1, 0.03, 0.05, 0.001, -0.001)  # k1 k2 k3 p1 p2


def flipped(camera: Camera) -> Camera:
    return posed(camera, FLIP_Y @ camera.rotation, FLIP_Y @ camera.translation)


# name: the lie, what is found first, and how near the change comes to the truth in pixels (None: cannot be changed)
LIES: dict[str, tuple[Callable[[CameraSet], CameraSet], str, float | None]] = {
    "all in millimetres": (every(lambda c: posed(c, c.rotation, 1000 * c.translation)), "units@", 0.01),
    "all in centimetres": (every(lambda c: posed(c, c.rotation, 100 * c.translation)), "units@", 0.01),
    "all in inches": (every(lambda c: posed(c, c.rotation, c.translation / 0.0254)), "units@", 0.01),
    "one in millimetres": (changed(1, lambda c: posed(c, c.rotation, 1000 * c.translation)), "units@cam02", 0.01),
    "y up": (world(turn("x", -90)), "up-axis@", 0.01),
    "upside down": (world(GL), "up-axis@", 0.01),
    "lying along x": (world(turn("y", 90)), "up-axis@", 0.01),
    "a slope": (world(turn("x", 20), (0, 0, 0)), "tilt@", None),
    "under the floor": (world(np.eye(3), (0, 0, -0.59)), "floor@", 12.0),
    "over the floor": (world(np.eye(3), (0, 0, 0.3)), "floor@", 12.0),
    "mirrored world": (every(lambda c: posed(c, c.rotation @ FLIP_X, c.translation)), "mirrored@", 0.01),
    "mirrored pictures": (every(lambda c: posed(c, FLIP_X @ c.rotation, FLIP_X @ c.translation)), "mirrored@", None),
    "one mirrored": (changed(2, flipped), "mirrored@cam03", 0.01),
    "camera to world": (every(lambda c: posed(c, c.rotation.T, c.centre)), "convention@", 0.01),
    "places for translations": (every(lambda c: posed(c, c.rotation, c.centre)), "convention@", 0.01),
    "as OpenGL": (every(lambda c: posed(c, GL @ c.rotation, GL @ c.translation)), "convention@", 0.01),
    "as Blender": (every(lambda c: posed(c, c.rotation.T @ GL, c.centre)), "convention@", 0.01),
    "one as OpenGL": (changed(0, lambda c: posed(c, GL @ c.rotation, GL @ c.translation)), "convention@cam01", 0.01),
    "two exchanged": (order(0, 2, 1, 3), "swapped@", 0.01),
    "all exchanged": (order(2, 0, 3, 1), "swapped@", 0.01),
    "hung upside down": (changed(3, lambda c: turned_picture(c, 2)), "turned@cam04", 0.01),
    "knocked a little": (changed(2, lambda c: knocked(c, 1.2, 0.0)), "biased@cam03", 6.0),
    "knocked": (changed(2, lambda c: knocked(c, 6.0, 0.1)), "moved@cam03", 6.0),
    "moved elsewhere": (changed(1, lambda c: knocked(c, 50.0, 2.5)), "moved@cam02", 6.0),
    "not a number": (changed(1, lambda c: posed(c, c.rotation, np.array([0, np.nan, 1]))), "not-finite@cam02", None),
    "infinite lens": (changed(1, lambda c: lens(c, 0, np.inf, 0, 0, 0)), "not-finite@cam02", 60.0),
    "scaled rotation": (changed(0, lambda c: posed(c, 1.02 * c.rotation, c.translation)), "rotation@cam01", 0.01),
    "negative focal": (changed(0, lambda c: focal(c, -1.0)), "focal@cam01", None),
    "focal in millimetres": (changed(0, lambda c: focal(c, 0.02)), "focal@cam01", None),
    "centre of another image": (changed(3, lambda c: centred_at(c, 400, 300)), "principal-point@cam04", None),
    "folding lens": (changed(0, lambda c: lens(c, -1.5, 0, 0, 0, 0)), "distortion@cam01", None),
    "coefficients in another order": (changed(0, lambda c: lens(c, *IN_ORDER)), "distortion@cam01", None),
    "half the size": (every(lambda c: replace(c, size=(960, 540), matrix=_half(c.matrix))), "size@cam01", 0.01),
    "cropped": (changed(2, lambda c: replace(c, size=(1440, 1080))), "size@cam03", None),
}  # fmt: skip


def _half(matrix: np.ndarray) -> np.ndarray:
    out = matrix * 0.5
    out[:2, 2] = (matrix[:2, 2] + 0.5) / 2 - 0.5
    out[2, 2] = 1.0
    return out


@pytest.mark.parametrize("seed", range(50))
def test_a_good_rig_raises_no_alarm(seed: int) -> None:
    cameras = rig(seed, count=2 + seed % 6, size=(1080, 1920) if seed % 3 == 0 else (1920, 1080))
    assert check_calibration(cameras, views=film(cameras, seed)) == ()
    assert check_calibration(cameras) == ()


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_found_and_put_right(name: str) -> None:
    seed = sorted(LIES).index(name)
    lie, says, near = LIES[name]
    truth = rig(seed)
    told = lie(truth)
    findings = check_calibration(told, views=film(truth, seed))
    assert serious(findings)[:1] == [says], [finding.text for finding in findings]
    first = findings[0]
    assert (
        "\n" not in first.text
        and first.text.endswith((".", "again."))
        and (first.change == "") == (first.apply is None)
    )
    assert any(letter.isdigit() for letter in first.text)
    if near is not None:
        fixed = apply_all(told, findings)
        assert off_px(fixed, truth) < near
        assert fixed.names == truth.names
        assert not [f for f in check_calibration(fixed, views=film(truth, seed)) if f.severity == "error"]


PAIR = {
    "exchanged": (order(1, 0), "swapped@"),
    "one in millimetres": (LIES["one in millimetres"][0], "units@cam02"),
    "one upside down": (changed(1, lambda c: turned_picture(c, 2)), "turned@cam02"),
    "one as OpenGL": (LIES["one as OpenGL"][0], "convention@cam01"),
    "both as Blender": (LIES["as Blender"][0], "convention@"),
    "mirrored world": (LIES["mirrored world"][0], "mirrored@"),
}


@pytest.mark.parametrize("name", PAIR)
def test_two_cameras_are_enough_for_most_lies(name: str) -> None:
    lie, says = PAIR[name]
    truth = rig(sorted(PAIR).index(name) + 100, count=2)
    told = lie(truth)
    findings = check_calibration(told, views=film(truth, 20))
    assert serious(findings) == [says]
    assert off_px(apply_all(told, findings), truth) < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_a_camera_that_was_knocked_is_named_among_three_and_found_but_not_named_among_two(seed: int) -> None:
    three = rig(seed + 100, count=3)
    told = changed(2, lambda c: knocked(c, 1.2, 0.0))(three)
    findings = check_calibration(told, views=film(three, seed))
    assert serious(findings) == ["biased@cam03"] and off_px(apply_all(told, findings), three) < 10
    two = rig(seed + 100, count=2)
    findings = check_calibration(changed(1, lambda c: knocked(c, 6.0, 0.1))(two), views=film(two, seed))
    assert serious(findings)[0] == "disagree@"


def test_two_lies_at_once_are_both_found_and_put_right() -> None:
    truth = rig(3)
    told = world(turn("x", -90))(every(lambda c: posed(c, c.rotation, 1000 * c.translation))(order(1, 0, 2, 3)(truth)))
    findings = check_calibration(told, views=film(truth, 3))
    assert serious(findings) == ["swapped@", "units@", "up-axis@"]
    assert off_px(apply_all(told, findings), truth) < 0.01


def test_clips_named_after_their_cameras_may_come_in_any_order() -> None:
    truth = rig(4)
    views = film(truth, 4, names=True)
    assert check_calibration(truth, views=[views[2], views[0], views[3], views[1]]) == ()
    told = order(0, 2, 1, 3)(truth)
    findings = check_calibration(told, views=[views[2], views[0], views[3], views[1]])
    assert serious(findings) == ["swapped@"] and "cam02" in findings[0].text and "cam03" in findings[0].text
    assert off_px(apply_all(told, findings), truth) < 0.01


@pytest.mark.parametrize("quarters", [1, 3])
def test_phones_held_upright_are_turned_as_their_clips_show(quarters: int) -> None:
    told = rig(5)
    truth = CameraSet(tuple(turned_picture(camera, quarters) for camera in told))
    findings = check_calibration(told, views=film(truth, 5))
    assert serious(findings) == [f"turned@{name}" for name in truth.names]
    assert off_px(apply_all(told, findings), truth) < 0.01
    one = CameraSet((told[0], *truth.cameras[1:]))
    findings = check_calibration(one, views=film(truth, 5))
    assert serious(findings) == ["turned@cam01"] and off_px(apply_all(one, findings), truth) < 0.01
    alone = check_calibration(told, sizes=[(1080, 1920)] * 4)
    assert all(finding.apply is None and "not clear which way" in finding.text for finding in alone)


def test_a_size_written_the_wrong_way_round_is_only_turned_round() -> None:
    truth = rig(6)
    told = CameraSet(tuple(replace(camera, size=camera.size[::-1]) for camera in truth))
    for given in ({"views": film(truth, 6)}, {"sizes": [truth[0].size] * 4}):
        findings = check_calibration(told, **given)  # type: ignore[arg-type]
        assert serious(findings) == [f"turned@{name}" for name in truth.names]
        assert off_px(apply_all(told, findings), truth) < 0.01


def test_clips_of_different_sizes_that_were_exchanged_are_put_back() -> None:
    wide, tall = rig(7), rig(7, size=(1080, 1920))
    truth = CameraSet((wide[0], tall[1], wide[2], tall[3]))
    told = order(1, 0, 2, 3)(truth)
    findings = check_calibration(told, views=film(truth, 7))
    assert serious(findings) == ["swapped@"]
    assert off_px(apply_all(told, findings), truth) < 0.01


def test_padding_of_a_codec_is_only_noted() -> None:
    cameras = rig(8)
    findings = check_calibration(cameras, sizes=[(1920, 1088)] * 4)
    assert [finding.severity for finding in findings] == ["note"] * 4 and "8 px" in findings[0].text


def test_a_mirrored_clip_and_exchanged_sides_are_told_apart() -> None:
    cameras = rig(9)
    views = film(cameras, 9)
    width, side = cameras[1].size[0], np.asarray(MIRROR_137)
    flipped = views[1].positions[:, side].copy()
    flipped[..., 0] = width - 1 - flipped[..., 0]
    mirrored = [views[0], replace(views[1], positions=flipped, confidence=views[1].confidence[:, side]), *views[2:]]
    findings = check_calibration(cameras, views=mirrored)
    assert serious(findings) == ["mirrored@cam02"] and findings[0].apply is None
    exchanged = replace(views[1], positions=views[1].positions[:, side], confidence=views[1].confidence[:, side])
    findings = check_calibration(cameras, views=[views[0], exchanged, *views[2:]])
    assert serious(findings) == ["sides@cam02"] and findings[0].severity == "warning"


def test_copies_and_neighbours_are_named() -> None:
    cameras = rig(10)
    copied = CameraSet((*cameras.cameras, replace(cameras[0], name="copy")))
    assert serious(check_calibration(copied)) == ["duplicate@copy"]
    near = replace(
        cameras[0], name="near", translation=cameras[0].translation + [0.005, 0, 0], rotation=cameras[0].rotation
    )
    assert serious(check_calibration(CameraSet((*cameras.cameras, near)))) == ["baseline@near"]


def test_two_cameras_side_by_side_or_on_one_line_with_the_person_see_no_depth() -> None:
    cameras = rig(11, count=2)
    beside = posed(cameras[0], cameras[0].rotation, cameras[0].translation - [0.25, 0, 0])
    pair = CameraSet((cameras[0], replace(beside, name="beside")))
    assert serious(check_calibration(pair, views=film(pair, 11, noise=1.0)))[0] == "baseline@"


def test_cameras_that_see_nobody_are_named_and_the_others_checked() -> None:
    cameras = rig(12, count=7)
    views = film(cameras, 12)
    for index in (1, 4, 6):
        views[index] = replace(views[index], confidence=np.zeros_like(views[index].confidence))
    findings = check_calibration(cameras, views=views)
    assert serious(findings) == ["blind@cam02", "blind@cam05", "blind@cam07"]
    told = order(2, 1, 0, 3, 4, 5, 6)(cameras)
    findings = check_calibration(told, views=views)
    assert "swapped@" in serious(findings) and off_px(apply_all(told, findings), cameras) < 0.01
    blind = [replace(view, confidence=np.zeros_like(view.confidence)) for view in views]
    assert serious(check_calibration(cameras, views=blind)) == [f"blind@{name}" for name in cameras.names]


def test_different_people_are_not_explained_away() -> None:
    cameras = rig(13)
    findings = check_calibration(cameras, views=[*film(cameras, 13)[:2], *film(cameras, 16)[2:]])
    assert serious(findings)[0].startswith("disagree@") and findings[0].apply is None and "no usual" in findings[0].text


def test_feet_far_under_the_floor_are_found_although_the_views_agree_perfectly() -> None:
    truth = rig(14)
    told = world(np.eye(3), (0, 0, -0.59))(truth)
    (finding,) = check_calibration(told, views=film(truth, 14, noise=0.28))
    assert finding.code == "floor" and "59 cm under the floor" in finding.text


def test_without_clips_a_wrong_axis_shows_in_how_cameras_are_held() -> None:
    told = world(turn("x", -90))(rig(15))
    findings = check_calibration(told)
    assert serious(findings) == ["up-axis@"] and findings[0].severity == "warning"
    assert off_px(apply_all(told, findings), rig(15)) < 0.01


def test_numbers_of_clips_and_cameras_that_differ_are_said() -> None:
    cameras = rig(16)
    (finding,) = check_calibration(cameras, views=film(cameras, 16)[:3])
    assert finding.code == "count" and "3 clips and 4 cameras" in finding.text
    assert check_calibration(CameraSet(())) == ()


@pytest.mark.data
def test_of_real_footage_the_one_camera_that_has_moved_is_named(data_dir: Path) -> None:
    views, cameras = real(data_dir)
    findings = check_calibration(cameras, views=views)
    assert serious(findings) == ["biased@cam03"]
    assert re.search(r"\(\+2\d, \+\d\d\) px aside", findings[0].text)
    fixed = apply_all(cameras, findings)
    assert check_calibration(fixed, views=views) == ()
    for left in (0, 1, 3):
        some = [view for view in range(4) if view != left]
        found = check_calibration(CameraSet(tuple(cameras[i] for i in some)), views=[views[i] for i in some])
        assert serious(found) in ([], ["biased@cam03"])
    assert check_calibration(CameraSet(cameras.cameras[:2] + cameras.cameras[3:]), views=[*views[:2], views[3]]) == ()
    told = order(3, 1, 2, 0)(cameras)
    assert serious(check_calibration(told, views=views)) == ["swapped@", "biased@cam03"]


def real(data_dir: Path) -> tuple[list[Keypoints2D], CameraSet]:
    """The four cameras of Pose2Sim's demonstration and what OpenPose (BODY_25B) saw in them."""
    order_25b = [
        "Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist",
        "LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle", "-", "-", "LBigToe", "LSmallToe", "LHeel", "RBigToe",
        "RSmallToe", "RHeel",
    ]  # fmt: skip
    with np.load(data_dir / "multiview/pose2sim_single/calib_pose2d_ref3d.npz", allow_pickle=False) as data:
        parts = zip(data["image_wh"], data["K"], data["dist_k1k2p1p2"], data["R_w2c"], data["t_w2c"], strict=True)
        cameras = CameraSet(
            tuple(Camera(f"cam{i:02d}", (int(size[0]), int(size[1])), k, np.append(lens, 0), r, t)
                  for i, (size, k, lens, r, t) in enumerate(parts, 1))
        )  # fmt: skip
        seen = data["pose2d"]
    body = np.stack([seen[:, :, order_25b.index(name)] if name in order_25b else np.zeros_like(seen[:, :, 0])
                     for name in BODY_25], axis=2)  # fmt: skip
    for joint, sides in ((1, (2, 5)), (8, (9, 12))):
        body[:, :, joint] = body[:, :, sides].mean(2)
    views = []
    for view, camera in enumerate(cameras):
        points = np.full((len(seen), 137, 3), np.nan)
        points[:, :25] = body[:, view]
        header = {
            "unit": "px", "frame": "image", "fps": 60.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
            "image_size": list(camera.size), "view": camera.name,
        }  # fmt: skip
        score = np.nan_to_num(points[..., 2])
        views.append(Keypoints2D(header, points[..., :2], score, np.arange(len(seen)) / 60))
    return views, cameras


@pytest.mark.parametrize("name", ["all in millimetres", "mirrored world", "scaled rotation", "centre of another image"])
def test_what_the_reader_refuses_can_be_read_as_doubtful_and_put_right(tmp_path: Path, name: str) -> None:
    truth = rig(18)
    told = LIES[name][0](truth)
    rows = [{"name": c.name, "resolution": c.size, "K": c.matrix.tolist(), "distCoef": c.distortion.tolist(),
             "R": (c.rotation @ [[1, 0, 0], [0, 0, 1], [0, -1, 0]]).tolist(), "t": (100 * c.translation).tolist()}
            for c in told]  # fmt: skip
    (tmp_path / "rig.json").write_text(json.dumps({"cameras": rows}), encoding="utf-8")
    if name != "centre of another image":
        with pytest.raises(InputError):
            read_calibration(tmp_path / "rig.json")
    read = read_calibration(tmp_path / "rig.json", doubtful=True)
    findings = check_calibration(read, views=film(truth, 18))
    assert serious(findings)[:1] == [LIES[name][1]]
    assert not [f for f in check_calibration(apply_all(read, findings), views=film(truth, 18)) if f.severity == "error"]


def test_the_task_checks_and_fixes_what_a_capture_would_refuse(tmp_path: Path) -> None:
    truth = rig(19)
    told = LIES["all in millimetres"][0](truth)
    write_calibration(tmp_path / "rig.toml", told)
    for view, camera in zip(film(truth, 19, names=True), truth, strict=True):
        view.save(tmp_path / f"{camera.name}.npz")
    keypoints = tuple(tmp_path / f"{name}.npz" for name in truth.names)
    for fix in (False, True):
        job = tmp_path / f"job{fix}"
        asked = CalibrateRequest(keypoints=keypoints, calibration=tmp_path / "rig.toml", check=True, fix=fix)
        numbers = run(asked, job, SilentReporter())
        assert [finding["code"] for finding in numbers["findings"]] == ["units"]
        assert (job / "artifacts/calibration.toml").exists() == fix and numbers.get("left", []) == []
    assert off_px(read_calibration(tmp_path / "jobTrue/artifacts/calibration.toml"), truth) < 0.01


def test_what_is_found_is_reported_with_what_would_be_changed() -> None:
    listener = Listener()
    report_findings(check_calibration(order(1, 0, 2, 3)(rig(17)), views=film(rig(17), 17)), listener)
    assert len(listener.said) == 1 and "would be exchanged" in listener.said[0]
    report_findings(check_calibration(rig(17), sizes=[(1920, 1088)] * 4), listener)
    assert len(listener.said) == 1


@pytest.mark.parametrize("seed", range(6))
def test_nonsense_ends_in_findings_and_never_in_an_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cameras = rig(seed)
    views = film(cameras, seed)
    wild = changed(seed % 4, lambda c: replace(c, matrix=c.matrix * rng.choice([0, np.nan, 1e9, -1]), size=(0, 0)))(
        cameras
    )
    assert serious(check_calibration(wild, views=views))
    noise = [replace(view, positions=rng.uniform(0, 1000, view.positions.shape)) for view in views]
    assert serious(check_calibration(cameras, views=noise))
    empty = [replace(view, positions=view.positions[:0], confidence=view.confidence[:0], times=view.times[:0])
             for view in views]  # fmt: skip
    assert serious(check_calibration(cameras, views=empty))
    lost = [replace(view, positions=np.full_like(view.positions, np.nan)) for view in views]
    assert serious(check_calibration(cameras, views=lost))
