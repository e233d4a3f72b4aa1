"""Rigs and clips that are wrong: one sentence with numbers and names, or a result that says what it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from inference.core.artifacts import Keypoints2D, Keypoints3D
from inference.core.cameras import Camera, CameraSet, level_rotation
from inference.core.skeletons import BODY
from inference.motion.fit import FitSettings, fit
from inference.motion.triangulate import Method, TriangulateSettings, choose, triangulate
from inference.motion.views import assemble
from inference.protocol.errors import InputError, RequestError
from inference.protocol.events import SilentReporter
from inference.protocol.requests import MotionRequest

from .test_triangulate import Listener, film, person, rig

GEOMETRIC: tuple[Method, ...] = ("dlt", "ransac", "algebraic")


def placed(
    views: Sequence[Keypoints2D], cameras: CameraSet, method: Method = "ransac", report: SilentReporter | None = None
) -> Keypoints3D:
    return triangulate(views, cameras, TriangulateSettings(method), report or SilentReporter())


def refused(views: Sequence[Keypoints2D], cameras: CameraSet) -> str:
    with pytest.raises(InputError) as caught:
        placed(views, cameras)
    return str(caught.value)


def standing(centre: Sequence[float], name: str, *, focal: float = 1000.0) -> Camera:
    rotation = level_rotation(np.array([0.0, 0.0, 1.0]) - np.asarray(centre, float))
    matrix = np.array([[focal, 0, 960], [0, focal, 540], [0, 0, 1]])
    return Camera(name, (1920, 1080), matrix, np.zeros(5), rotation, -rotation @ np.asarray(centre, float))


def blind(view: Keypoints2D, frames: slice = slice(None)) -> Keypoints2D:
    positions, confidence = np.array(view.positions), np.array(view.confidence)
    positions[frames], confidence[frames] = np.nan, 0.0
    return replace(view, positions=positions, confidence=confidence)


def assert_honest(found: Keypoints3D) -> None:
    """What is unknown is marked so, everywhere; what is known is finite, everywhere."""
    known = np.isfinite(found.positions).all(-1)
    assert found.expected_error_m is not None and found.views_used is not None
    assert not found.validity[~known].any() and not found.confidence[~known].any()
    assert not found.views_used[:, ~known].any() and np.isnan(found.expected_error_m[~known]).all()
    assert np.isfinite(found.confidence).all() and (found.expected_error_m[known] > 0).all()
    assert np.isfinite(found.expected_error_m[known]).all()


def test_one_view_is_not_triangulated_and_several_are_not_lifted(tmp_path) -> None:
    with pytest.raises(RequestError, match="1 view is not triangulated"):
        MotionRequest(keypoints=(tmp_path,), triangulation="ransac")
    with pytest.raises(RequestError, match="2 views are not lifted"):
        MotionRequest(keypoints=(tmp_path, tmp_path), triangulation="lift")


@pytest.mark.parametrize("angle_deg", [0.0, 180.0], ids=["behind one another", "face to face"])
def test_two_cameras_on_one_line_with_the_person_are_refused(angle_deg: float) -> None:
    angle = np.radians(angle_deg)
    far = [60 * np.cos(angle), 60 * np.sin(angle), 1.0]
    cameras = CameraSet((standing([40.0, 0.0, 1.0], "near", focal=1e4), standing(far, "far", focal=1e4)))
    said = refused(film(person(10), cameras), cameras)
    assert "near, far" in said and "degrees" in said


def test_two_cameras_in_one_place_are_refused_by_name() -> None:
    camera = standing([4.0, 0.0, 1.0], "cam01")
    cameras = CameraSet((camera, replace(camera, name="cam02")))
    assert "cam01, cam02" in refused(film(person(10), cameras, noise_px=0.5), cameras)


def test_a_narrow_pair_is_warned_of_and_its_errors_are_expected_to_be_large() -> None:
    truth, report = person(10), Listener()
    narrow = CameraSet((standing([4.0, 0.0, 1.0], "cam01"), standing([4.0, 0.25, 1.0], "cam02")))
    wide = CameraSet((narrow[0], standing([0.0, 4.0, 1.0], "cam02")))
    vague = placed(film(truth, narrow, noise_px=1.0), narrow, report=report)
    sharp = placed(film(truth, wide, noise_px=1.0), wide)
    assert any("cam01, cam02" in text and "degrees" in text for _, text in report.said)
    assert vague.expected_error_m is not None and sharp.expected_error_m is not None
    assert np.nanmedian(vague.expected_error_m) > 3 * np.nanmedian(sharp.expected_error_m)


def test_a_camera_that_faces_away_is_named() -> None:
    cameras, truth = rig(4), person(10)
    views = film(truth, cameras)
    turned = replace(cameras[2], rotation=np.diag([-1.0, 1.0, -1.0]) @ cameras[2].rotation,
                     translation=np.diag([-1.0, 1.0, -1.0]) @ cameras[2].translation)  # fmt: skip
    wrong = CameraSet((cameras[0], cameras[1], turned, cameras[3]))
    report = Listener()
    try:
        found = placed(views, wrong, report=report)
    except InputError as error:
        assert cameras[2].name in str(error)
    else:
        assert_honest(found)
        assert any(cameras[2].name in text for _, text in report.said)
        assert not found.views_used[2].any()  # type: ignore[index]


@pytest.mark.parametrize("part", ["rotation", "translation", "matrix", "distortion"])
def test_a_camera_that_is_not_finite_is_named(part: str) -> None:
    cameras = rig(3)
    numbers = np.array(getattr(cameras[1], part), float)
    numbers.flat[0] = np.nan
    broken = CameraSet((cameras[0], replace(cameras[1], **{part: numbers}), cameras[2]))
    said = refused(film(person(10), cameras), broken)
    assert cameras[1].name in said and "not finite" in said


@pytest.mark.parametrize("method", GEOMETRIC)
def test_a_camera_that_is_there_twice_does_no_harm_to_the_others(method: Method) -> None:
    cameras, truth = rig(3), person(10)
    twice = CameraSet((*cameras, replace(cameras[0], name="again")))
    found = placed(film(truth, twice, noise_px=0.5), twice, method)
    assert_honest(found)
    assert np.nanmax(np.linalg.norm(found.positions - truth, axis=-1)[:, BODY]) < 0.03


def test_one_camera_in_millimetres_among_metres_is_not_silently_used() -> None:
    cameras, truth = rig(4), person(10)
    wrong = CameraSet((*tuple(cameras)[:3], replace(cameras[3], translation=1000.0 * cameras[3].translation)))
    report = Listener()
    try:
        placed(film(truth, cameras), wrong, report=report)
    except InputError as error:
        assert any(character.isdigit() for character in str(error))
    else:
        assert any(cameras[3].name in text for _, text in report.said)


@pytest.mark.parametrize("method", GEOMETRIC)
def test_twenty_cameras_of_which_fifteen_see_nothing_are_as_good_as_the_five(method: Method) -> None:
    cameras, truth = rig(20), person(10)
    views = [view if index % 4 == 0 else blind(view) for index, view in enumerate(film(truth, cameras, noise_px=0.5))]
    report = Listener()
    found = placed(views, cameras, method, report)
    assert_honest(found)
    assert any(f"{cameras[1].name} in 0 of 10 frames" in text for _, text in report.said)
    assert np.nanmax(np.linalg.norm(found.positions - truth, axis=-1)[:, BODY]) < 0.03


def test_cameras_that_see_nothing_do_not_count_when_a_method_is_chosen() -> None:
    cameras, truth = rig(6), person(10)
    views = [view if index < 2 else blind(view) for index, view in enumerate(film(truth, cameras))]
    method, reason = choose(assemble(views, cameras, 0.3), TriangulateSettings(), fps=30.0, height=1.7)
    assert method == "temporal" and reason == "2 views see the person"


def test_views_that_see_the_person_only_one_after_another_are_refused() -> None:
    cameras, truth = rig(2), person(20)
    first, second = film(truth, cameras)
    said = refused([blind(first, slice(10, None)), blind(second, slice(None, 10))], cameras)
    assert "No limb is seen by two cameras" in said


@pytest.mark.parametrize("method", GEOMETRIC)
def test_a_person_who_leaves_and_comes_back_is_unknown_in_between(method: Method) -> None:
    cameras, truth = rig(4), person(40)
    views = [blind(view, slice(15, 25)) for view in film(truth, cameras, noise_px=0.5)]
    found = placed(views, cameras, method)
    assert_honest(found)
    assert not np.isfinite(found.positions[15:25]).any()
    back = np.linalg.norm(found.positions - truth, axis=-1)[25:, BODY]
    assert np.nanmax(back) < 0.03
    motion = fit(found, FitSettings(floor=False), SilentReporter())
    assert np.isfinite(motion.rotations).all() and np.isfinite(motion.root).all()
    gone = motion.bone_confidence[18:22].max()
    assert gone < motion.bone_confidence[5:10].max()


def test_an_empty_view_is_named_and_the_others_are_used() -> None:
    cameras, truth = rig(4), person(10)
    views = film(truth, cameras, noise_px=0.5)
    report = Listener()
    found = placed([*views[:3], blind(views[3])], cameras, report=report)
    assert_honest(found)
    assert found.views_used is not None and not found.views_used[3].any()
    assert any(cameras[3].name in text and "0 of 10" in text for _, text in report.said)


@pytest.mark.parametrize("method", GEOMETRIC)
def test_noise_alone_is_never_taken_for_knowledge(method: Method) -> None:
    cameras, generator = rig(4), np.random.default_rng(0)
    views = film(person(20), cameras)
    wild = [
        replace(v, confidence=np.where(generator.random(v.confidence.shape) < 0.8, 0.0, v.confidence)) for v in views
    ]
    wild = [replace(v, positions=np.where((v.confidence > 0)[..., None], v.positions, np.nan)) for v in wild]
    assert_honest(placed(wild, cameras, method))
