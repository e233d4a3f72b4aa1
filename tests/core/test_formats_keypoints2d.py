"""Keypoint files of other programs are told by their content and come back in one order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from understudy.tests.openpose_files import write_openpose

from inference.core.artifacts import Keypoints2D
from inference.core.formats.keypoints2d import read_keypoints
from inference.core.formats.layouts import BODY_LAYOUTS, Layout
from inference.core.skeletons import BODY_25, COCO_17_IN_BODY_25, LEFT_HAND, OPENPOSE_137, RIGHT_HAND
from inference.protocol.errors import InputError

SIZE = (640, 480)
FRAMES = 12
COCO = list(COCO_17_IN_BODY_25)
_BODY_PX = """
    320 90  320 140  285 140  265 200  255 255  355 140  375 200  385 255  320 260  300 260  297 330  295 400  340 260
    343 330  345 400  313 82  327 82  303 86  337 86  355 418  362 414  343 408  285 418  278 414  297 408
"""


def _truth(shift: float = 0.0, frames: int = FRAMES) -> np.ndarray:
    """(T, 137, 2) a person who stands upright and drifts to the right."""
    points = np.random.default_rng(0).uniform([300, 70], [340, 100], size=(137, 2))
    points[:25] = np.array(_BODY_PX.split(), float).reshape(25, 2)
    points[95:] = np.random.default_rng(1).uniform([250, 240], [390, 280], size=(42, 2))
    return points + [shift, 0.0] + np.stack([0.5 * np.arange(frames), np.zeros(frames)], axis=-1)[:, None]


def _keypoints(points: np.ndarray, score: float = 0.8) -> Keypoints2D:
    header = {
        "unit": "px", "frame": "image", "fps": 30.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "image_size": list(SIZE),
    }  # fmt: skip
    confidence = np.where(np.isfinite(points).all(-1), score, 0.0)
    return Keypoints2D(header, points, confidence, np.arange(len(points)) / 30)


def _in_order(points: np.ndarray, layout: Layout) -> np.ndarray:
    """(T, P, 2) the same person in another program's order; what OPENPOSE_137 lacks is at (7, 7)."""
    out = np.full((len(points), len(layout.joints), 2), 7.0)
    out[:, layout.source] = points[:, layout.target]
    for name, one, other in (("UpperNeck", 2, 5), ("HeadTop", 0, 0)):
        if name in layout.joints:
            out[:, layout.joints.index(name)] = (points[:, one] + points[:, other]) / 2 - [0.0, 8.0]
    return out


def _flat(points: np.ndarray, score: float = 0.8) -> list[float]:
    return np.concatenate([points, np.full((len(points), 1), score)], axis=1).ravel().tolist()


def _write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def _read(path: Path, **options: Any) -> Keypoints2D:
    return read_keypoints(path, **{"image_size": SIZE, "fps": 30.0, **options})


ALL_LAYOUTS = [layout for candidates in BODY_LAYOUTS.values() for layout in candidates]


def test_openpose_files_come_back_as_they_went(tmp_path: Path) -> None:
    points = _truth()
    points[3, LEFT_HAND] = np.nan
    written = _keypoints(points)
    write_openpose(tmp_path / "名前 $(x)", written)
    read = _read(tmp_path / "名前 $(x)")
    assert np.allclose(read.positions, points, equal_nan=True) and np.allclose(read.confidence, written.confidence)
    assert read.header["source_skeleton"] == "BODY_25" and read.header["first_frame"] == 0
    assert np.allclose(read.times, np.arange(FRAMES) / 30)


@given(seed=st.integers(0, 9999), lost=st.floats(0.0, 0.5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
def test_any_person_survives_openpose_files(tmp_path: Path, seed: int, lost: float) -> None:
    rng = np.random.default_rng(seed)
    points = _truth() + rng.normal(scale=2.0, size=(FRAMES, 137, 2))
    points[rng.uniform(size=(FRAMES, 137)) < lost] = np.nan
    points[:, :20] = _truth()[:, :20]
    folder = tmp_path / f"{seed} {lost}"
    write_openpose(folder, _keypoints(points))
    read = _read(folder)
    assert np.allclose(read.positions, points, equal_nan=True)
    assert np.array_equal(read.confidence > 0, np.isfinite(points).all(-1))


def test_a_missing_frame_becomes_a_gap(tmp_path: Path) -> None:
    write_openpose(tmp_path / "op", _keypoints(_truth()))
    next((tmp_path / "op").glob("*_000000000004_*")).unlink()
    read = _read(tmp_path / "op")
    assert len(read.positions) == FRAMES and np.isnan(read.positions[4]).all() and np.isfinite(read.positions[5]).all()


def test_files_are_ordered_by_their_numbers_and_not_by_their_names(tmp_path: Path) -> None:
    for frame, row in enumerate(_truth()):
        document = {"people": [{"pose_keypoints_2d": _flat(row[:25])}]}
        _write(tmp_path / "op" / f"cam2_{frame}_halpe26_keypoints.json", document)
    assert np.allclose(_read(tmp_path / "op").positions[:, :25], _truth()[:, :25])


@pytest.mark.parametrize("layout", ALL_LAYOUTS, ids=lambda layout: layout.name)
def test_layouts_are_told_by_their_points(tmp_path: Path, layout: Layout) -> None:
    points = _truth()
    body = _in_order(points, layout)
    for frame, row in enumerate(body):
        person = {
            "person_id": [-1],
            "pose_keypoints_2d": _flat(row),
            "face_keypoints_2d": [],
            "hand_left_keypoints_2d": [],
        }
        _write(tmp_path / "op" / f"a_{frame:012d}_keypoints.json", {"version": 1.3, "people": [person]})
    read = _read(tmp_path / "op")
    assert read.header["source_skeleton"] == layout.name
    known = sorted({*layout.target, 1, 8})  # neck and mid-hip are derived where they are missing
    assert np.allclose(read.positions[:, known], points[:, known])
    assert np.array_equal(np.flatnonzero(read.confidence[0]), known)


def test_a_derived_neck_is_as_sure_as_the_less_sure_shoulder(tmp_path: Path) -> None:
    scores = np.full((FRAMES, 17, 1), 0.9)
    scores[:, 5] = 0.4
    keypoints = np.concatenate([_truth()[:, COCO], scores], axis=-1)
    rows = [{"image_id": f"{i}.jpg", "keypoints": row.ravel().tolist()} for i, row in enumerate(keypoints)]
    read = _read(_write(tmp_path / "a.json", rows))
    assert np.allclose(read.confidence[:, 1], 0.4) and np.allclose(read.confidence[:, 8], 0.9)


@pytest.mark.data
def test_body_25b_of_a_real_clip_is_not_taken_for_body_25(data_dir: Path, tmp_path: Path) -> None:
    with np.load(data_dir / "multiview/pose2sim_single/calib_pose2d_ref3d.npz", allow_pickle=False) as data:
        views, names = data["pose2d"], [str(name) for name in data["body25b_names"]]
        size = (int(data["image_wh"][0][0]), int(data["image_wh"][0][1]))
    for view in range(4):
        pose = np.nan_to_num(views[:, view].astype(float))
        for frame, row in enumerate(pose):
            _write(
                tmp_path / f"{view}/a_{frame:012d}_keypoints.json",
                {"people": [{"pose_keypoints_2d": row.ravel().tolist()}]},
            )
        read = read_keypoints(tmp_path / str(view), image_size=size, fps=60)
        assert read.header["source_skeleton"] == "BODY_25B" and len(read.positions) == 100
        for joint in ("RWrist", "LBigToe", "Nose"):
            row = pose[:, names.index(joint)]
            seen = row[:, 2] > 0
            assert np.allclose(read.positions[seen, BODY_25.index(joint)], row[seen, :2])
            assert not read.confidence[~seen, BODY_25.index(joint)].any()


def test_one_of_two_people_is_followed_whatever_the_order_of_rows(tmp_path: Path) -> None:
    one, other = _truth(-60.0), _truth(60.0)
    rows = [
        {"image_id": f"{i}.jpg", "category_id": 1, "keypoints": _flat(person[i][COCO]), "score": 2.9}
        for i in range(FRAMES)
        for person in ([one, other] if i % 2 else [other, one])
    ]
    path = _write(tmp_path / "alphapose-results.json", rows)
    assert np.allclose(_read(path, person=(262.0, 200.0)).positions[:, COCO], one[:, COCO])
    assert np.allclose(_read(path, person=(330.0, 60.0, 430.0, 420.0)).positions[:, COCO], other[:, COCO])
    with pytest.raises(InputError, match=r"Nobody is at \(620, 20\) px on frame 0; the nearest of 2 people"):
        _read(path, person=(620.0, 20.0))


def test_a_click_is_on_the_first_frame_that_is_used(tmp_path: Path) -> None:
    rows = [{"image_id": f"{i}.jpg", "keypoints": _flat(_truth(-60.0)[i][COCO])} for i in range(FRAMES)]
    late = _truth(60.0, 40)
    rows += [{"image_id": f"{i}.jpg", "keypoints": _flat(late[i][COCO])} for i in range(5, 40)]
    path = _write(tmp_path / "a.json", rows)
    assert np.isfinite(_read(path, person=(385.0, 200.0), start=6).positions[39, 0]).all()
    with pytest.raises(InputError, match="on frame 0"):
        _read(path, person=(440.0, 200.0))


def test_a_face_or_hand_without_a_body_is_nobody(tmp_path: Path) -> None:
    for i, row in enumerate(_truth()):
        people = [{"face_keypoints_2d": _flat(row[25:95])}, {"pose_keypoints_2d": _flat(row[:25])}]
        _write(tmp_path / f"op/{i}.json", {"people": people})
    read = _read(tmp_path / "op")
    assert np.isfinite(read.positions[:, 0]).all() and np.isnan(read.positions[:, 30]).all()


def test_the_person_seen_longest_is_followed_and_taken_up_after_being_lost(tmp_path: Path) -> None:
    main, passer = _truth(frames=200), _truth(120.0, 200)
    frames = []
    for i in range(200):
        people = [] if 40 <= i < 110 else [_person(main[i])]  # out of sight for more than two seconds
        people += [_person(passer[i])] if 30 <= i < 60 else []
        frames.append({"frame_id": i, "instances": people[::-1]})
    read = _read(_write(tmp_path / "a.json", frames))
    shown = np.isfinite(read.positions[:, 0, 0])
    assert np.array_equal(shown, np.array([not 40 <= i < 110 for i in range(200)]))
    assert np.allclose(read.positions[shown][:, COCO], main[shown][:, COCO])


def test_numbers_that_a_file_gives_people_overrule_their_places(tmp_path: Path) -> None:
    rows = []
    for frame in range(40):
        a, b = _truth(60.0 - 3.0 * frame)[0], _truth(-60.0 + 3.0 * frame)[0]  # they walk through each other
        for number, person in ((7, a), (8, b)):
            rows.append({"image_id": f"{frame}.jpg", "keypoints": _flat(person[COCO]), "idx": [number]})
    read = _read(_write(tmp_path / "a.json", rows), person=(380.0, 200.0))
    assert np.all(np.diff(read.positions[:, 0, 0]) < 0)


def _person(row: np.ndarray) -> dict[str, Any]:
    return {"keypoints": row[COCO].tolist(), "keypoint_scores": [0.8] * 17, "bbox": [[1, 2, 3, 4]], "bbox_score": 0.9}


MMPOSE: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "inferencer, video": lambda people: [{"frame_id": i, "instances": [p]} for i, p in enumerate(people)],
    "demo, saved predictions": lambda people: {
        "meta_info": {}, "instance_info": [{"frame_id": i + 1, "instances": [p]} for i, p in enumerate(people)]
    },
    "a list for each image": lambda people: [[p] for p in people],
}  # fmt: skip


@pytest.mark.parametrize("schema", MMPOSE)
def test_mmpose_writes_predictions_in_several_ways(tmp_path: Path, schema: str) -> None:
    document = MMPOSE[schema]([_person(row) for row in _truth()])
    read = _read(_write(tmp_path / "a.json", document))
    assert len(read.positions) == FRAMES and np.allclose(read.positions[:, COCO], _truth()[:, COCO])


def test_mmpose_writes_a_file_for_each_image_too(tmp_path: Path) -> None:
    for i, row in enumerate(_truth()):
        _write(tmp_path / f"predictions/{i:06d}.json", [_person(row)])
    assert np.allclose(_read(tmp_path / "predictions").positions[:, COCO], _truth()[:, COCO])


def test_names_in_the_file_decide_over_the_number_of_points(tmp_path: Path) -> None:
    names = {
        "right_wrist": "RWrist", "left_wrist": "LWrist", "pelvis": "MidHip", "nose": "Nose", "left_hip": "LHip",
        "right_hip": "RHip", "left_knee": "LKnee", "right_knee": "RKnee", "left_ankle": "LAnkle",
        "right_ankle": "RAnkle", "left_shoulder": "LShoulder", "right_shoulder": "RShoulder", "left_elbow": "LElbow",
        "right_elbow": "RElbow", "left_eye": "LEye", "left_big_toe": "LBigToe", "right-ear": "REar",
    }  # fmt: skip
    index = [BODY_25.index(joint) for joint in names.values()]
    points = _truth()
    document = {
        "meta_info": {"keypoint_id2name": {str(i): name for i, name in enumerate(names)}},
        "instance_info": [
            {"frame_id": i, "instances": [{"keypoints": row[index].tolist(), "keypoint_scores": [0.8] * 17}]}
            for i, row in enumerate(points)
        ],
    }
    read = _read(_write(tmp_path / "a.json", document))
    known = sorted(set(index))
    assert np.allclose(read.positions[:, known], points[:, known])
    assert read.header["source_skeleton"] == "17 named points" and not read.confidence[:, 15].any()


@pytest.mark.parametrize(("key", "person"), [("people", "pose_keypoints_2d"), ("bodies", "joints")])
def test_alphapose_writes_openpose_like_files(tmp_path: Path, key: str, person: str) -> None:
    layout = BODY_LAYOUTS[18][0]
    body = _in_order(_truth(), layout)
    images = {f"{i}.jpg": {"version": "AlphaPose v0.3", key: [{person: _flat(row)}]} for i, row in enumerate(body)}
    whole = _read(_write(tmp_path / "alphapose-results.json", images))
    for name, image in images.items():
        _write(tmp_path / "sep-json" / f"{Path(name).stem}.json", image)
    for read in (whole, _read(tmp_path / "sep-json")):
        assert np.allclose(read.positions[:, layout.target], _truth()[:, layout.target])


def test_the_frames_of_a_video_are_counted_from_zero(tmp_path: Path) -> None:
    rows = [{"image_id": f"{i}.jpg", "keypoints": _flat(row[COCO])} for i, row in enumerate(_truth(frames=20))]
    read = _read(_write(tmp_path / "a.json", rows[5:]))
    assert len(read.positions) == 20 and np.isnan(read.positions[:5]).all()


def test_scores_beyond_one_are_scaled_together(tmp_path: Path) -> None:
    rows = [{"image_id": f"{i}.jpg", "keypoints": _flat(row[COCO], 1.0 + (i % 2))} for i, row in enumerate(_truth())]
    read = _read(_write(tmp_path / "a.json", rows))
    assert np.allclose(read.confidence[0, COCO], 0.5) and np.allclose(read.confidence[1, COCO], 1.0)
    assert read.header["score_scale"] == 2.0


def _wholebody(row: np.ndarray, image: int) -> dict[str, Any]:
    return {
        "image_id": image, "keypoints": _flat(row[COCO], 2), "foot_kpts": _flat(row[19:25], 2),
        "face_kpts": _flat(row[25:93], 1), "lefthand_kpts": _flat(row[95:116], 2), "lefthand_valid": True,
    }  # fmt: skip


def test_coco_wholebody_annotations_know_their_images(tmp_path: Path) -> None:
    points = _truth()
    document = {
        "images": [
            {"id": 100 - i, "file_name": f"{i:06d}.jpg", "width": 640, "height": 480} for i in range(FRAMES + 3)
        ],
        "annotations": [_wholebody(row, 100 - i) for i, row in enumerate(points)],
    }
    read = read_keypoints(_write(tmp_path / "wholebody.json", document), fps=30)
    assert read.image_size == SIZE and read.header["source_skeleton"] == "COCO-WholeBody-133"
    known = [j for j in range(116) if j not in (93, 94)]
    assert len(read.positions) == FRAMES + 3 and np.allclose(read.positions[:FRAMES, known], points[:, known])
    assert not read.confidence[:, RIGHT_HAND].any()
    assert read.confidence[0, 0] == 1.0 and read.confidence[0, 30] == 0.5  # visible, and labelled but hidden


def test_coco_wholebody_results_are_rows_with_parts(tmp_path: Path) -> None:
    rows = [_wholebody(row, 1000 + i) for i, row in enumerate(_truth())]
    read = _read(_write(tmp_path / "results.json", rows))
    assert len(read.positions) == FRAMES and np.allclose(read.positions[:, 95:116], _truth()[:, 95:116])


def test_normalised_coordinates_are_scaled_to_the_image(tmp_path: Path) -> None:
    unit = (_truth() + 0.5) / np.array(SIZE)  # the edge of the first pixel is 0
    for name, points in (("zero to one", unit), ("minus one to one", 2.0 * unit - 1.0)):
        write_openpose(tmp_path / name, _keypoints(points))
        assert np.allclose(_read(tmp_path / name).positions, _truth())


def test_images_too_small_for_the_points_are_refused_with_both_numbers(tmp_path: Path) -> None:
    write_openpose(tmp_path / "op", _keypoints(_truth() + [640.0, 0.0]))
    with pytest.raises(InputError, match="100 % of its points lie outside images of 640 x 480 px"):
        _read(tmp_path / "op")


def _mediapipe(points: np.ndarray) -> np.ndarray:
    """(T, 553, 3) FreeMoCap's order, with a depth that is no score."""
    flat = _in_order(points, BODY_LAYOUTS[553][0])
    flat[:, 33:54], flat[:, 54:75] = points[:, RIGHT_HAND], points[:, LEFT_HAND]
    return np.concatenate([flat, np.full((*flat.shape[:2], 1), -120.0)], axis=-1)


def test_freemocaps_image_space_array_holds_all_cameras(tmp_path: Path) -> None:
    cameras = np.stack([_mediapipe(_truth(shift)) for shift in (0.0, 20.0, 40.0)])
    cameras[1, 3, 33:54] = np.nan
    path = tmp_path / "output_data/raw_data/mediapipe_2dData_numCams_numFrames_numTrackedPoints_pixelXY.npy"
    path.parent.mkdir(parents=True)
    np.save(path, cameras)
    read = _read(tmp_path, view=f"{path.stem}_2")  # the same file, given a second time
    assert np.isnan(read.positions[3, RIGHT_HAND]).all() and not read.confidence[3, RIGHT_HAND].any()
    known = [j for j in range(137) if OPENPOSE_137[j] not in ("LSmallToe", "RSmallToe")]
    assert np.allclose(np.delete(read.positions, 3, 0)[:, known], np.delete(_truth(20.0), 3, 0)[:, known])
    assert np.allclose(_read(path, view="2").positions[:, 0], _truth(40.0)[:, 0])
    with pytest.raises(InputError, match="holds 3 cameras, and the view 'left' names none"):
        _read(path, view="left")


def test_arrays_of_parts_are_put_together(tmp_path: Path) -> None:
    points, layout = _truth(), BODY_LAYOUTS[33][0]
    score = np.full((FRAMES, 33, 1), 0.5)
    np.save(tmp_path / "mediapipe_body.npy", np.concatenate([_in_order(points, layout), score], axis=-1))
    np.save(tmp_path / "mediapipe_left_hand.npy", points[:, LEFT_HAND])
    read = _read(tmp_path)
    assert np.allclose(read.positions[:, layout.target], points[:, layout.target])
    assert np.allclose(read.positions[:, LEFT_HAND], points[:, LEFT_HAND]) and read.confidence[0, 0] == 0.5


@pytest.mark.parametrize("count", [25, 137])
def test_plain_arrays_hold_positions_and_confidence(tmp_path: Path, count: int) -> None:
    points = _truth()[:, :count].astype(np.float32)
    np.savez(tmp_path / "a.npz", positions=points, confidence=np.full(points.shape[:2], 0.7))
    np.save(tmp_path / "a.npy", np.concatenate([points, np.full((FRAMES, count, 1), 0.7)], axis=-1))
    for name in ("a.npz", "a.npy"):
        read = _read(tmp_path / name)
        assert np.allclose(read.positions[:, :count], points) and np.allclose(read.confidence[:, :count], 0.7)


def test_points_in_space_are_not_taken_for_pixels(tmp_path: Path) -> None:
    np.save(tmp_path / "body_3d_xyz.npy", np.random.default_rng(0).uniform(-900, 900, size=(FRAMES, 33, 3)))
    with pytest.raises(InputError, match="points in space"):
        _read(tmp_path / "body_3d_xyz.npy")


def test_our_own_artifact_is_read(tmp_path: Path) -> None:
    _keypoints(_truth()).save(tmp_path / "k.npz")
    assert np.array_equal(read_keypoints(tmp_path / "k.npz").positions, _truth())
    assert read_keypoints(tmp_path / "k.npz", fps=60).times[1] == 1 / 60
    with pytest.raises(InputError, match="640 x 480 px, and 1080 x 1920 px was given"):
        read_keypoints(tmp_path / "k.npz", image_size=(1080, 1920))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"positions": np.full((FRAMES, 137, 2), np.inf)}, "not finite"),
        ({"positions": np.full((FRAMES, 137, 2), "x")}, "positions .*<U1"),
        ({"positions": np.zeros((FRAMES, 136, 2))}, "shape"),
        ({"confidence": np.full((FRAMES, 137), 5.0)}, "confidences outside 0 to 1"),
        ({"confidence": np.full((FRAMES, 137), np.nan)}, "confidences outside 0 to 1"),
        ({"times": np.full(FRAMES, np.nan)}, "not finite"),
        ({"fps": "often"}, "often"),
        ({"fps": -1.0}, "-1.0"),
        ({"image_size": [640]}, r"\[640\]"),
        ({"image_size": [640, 0]}, r"\[640, 0\]"),
        ({"joints": [str(i) for i in range(137)]}, "137 joints in an order of its own"),
        ({"kind": "keypoints_3d"}, "holds 'keypoints_3d', not 'keypoints_2d'"),
    ],
)
def test_a_forged_artifact_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    good = _keypoints(_truth())
    arrays = {"positions": good.positions, "confidence": good.confidence, "times": good.times}
    header = {"kind": "keypoints_2d", "schema": 1, **good.header}
    for name, value in change.items():
        (arrays if name in arrays else header)[name] = value
    np.savez(tmp_path / "k.npz", header=np.array(json.dumps(header)), **arrays)
    with pytest.raises(InputError, match=says):
        read_keypoints(tmp_path / "k.npz")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"people": [{"pose_keypoints_2d": [NaN, 1, 1]}]}', "NaN"),
        ('{"people": [{"pose_keypoints_2d": [Infinity, 1, 1]}]}', "Infinity"),
        ('{"people": [{"pose_keypoints_2d": [1e999, 2, 3]}]}', "not finite"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3, 4]}]}', "4 numbers are not triples"),
        (json.dumps({"people": [{"pose_keypoints_2d": [1.0] * 66}]}), "a body of 22 points is not known; 17, 18"),
        (json.dumps({"people": [{"pose_keypoints_2d": [1.0] * 75}, {"pose_keypoints_2d": [1.0] * 51}]}), "17 and 25"),
        ('{"people": [{"pose_keypoints_2d": ["1", 2, 3]}]}', "not a number"),
        ('{"people": [{"pose_keypoints_2d": [null, 2, 3]}]}', "not a number"),
        ('{"people": [{"pose_keypoints_2d": [[1, 2], [3]]}]}', "different lengths"),
        ('{"people": [{"pose_keypoints_2d": [' + "9" * 400 + ", 2, 3]}]}", "not a number"),
        ('{"people": [{"pose_keypoints_2d": [' + "9" * 5000 + ", 2, 3]}]}", "not JSON"),
        ('{"people": [{"pose_keypoints_2d": {}}]}', "an object"),
        ('{"people": [7]}', "a person is a number"),
        ('{"people": 7}', "people is a number, not a list"),
        ('{"people": []}', "0 of 1 frames"),
        ('{"annotations": [{"keypoints": [], "image_id": []}]}', "image_id"),
        ('{"annotations": 1}', "annotations is a number"),
        ('{"instance_info": [{"frame_id": 1e300, "instances": []}]}', "frame_id"),
        ('[{"frame_id": -5, "instances": []}]', "frame_id is '-5'"),
        ('[{"frame_id": 0, "instances": []}, {"frame_id": 9999999, "instances": []}]', "216,000"),
        ('[{"frame_id": 0, "instances": []}, {"frame_id": 0, "instances": []}]', "2 frames under 1 numbers"),
        ('[{"image_id": "0.jpg", "keypoints": [1, 2, 3]}, {"image_id": "1.jpg"}, 3]', "none of the keypoint formats"),
        ("{", "not JSON"),
        ('{"people": [{"pose_keyp', "not JSON"),
        ("", "not JSON"),
        ("[]", "none of the keypoint formats"),
        ("{}", "none of the keypoint formats"),
        ('"text"', "none of the keypoint formats"),
        ("null", "none of the keypoint formats"),
    ],
)
def test_hostile_files_get_one_sentence(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "bad.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=says) as error:
        _read(tmp_path / "bad.json")
    assert "\n" not in error.value.message and len(error.value.message) < 300


_KEYS = st.sampled_from(
    ["people", "bodies", "pose_keypoints_2d", "keypoints", "joints", "image_id", "instances", "instance_info",
     "frame_id", "annotations", "images", "id", "file_name", "meta_info", "keypoint_id2name", "keypoint_scores",
     "face_kpts", "hand_left_keypoints_2d", "idx", "width", "height", "0.jpg"]
)  # fmt: skip
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats(-1e3, 1e3) | st.sampled_from(["a", "1.jpg", ""])
    | st.lists(st.floats(0, 1), min_size=51, max_size=51),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(_VALUES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
def test_any_json_is_read_or_refused_and_nothing_else(tmp_path: Path, document: Any) -> None:
    path = _write(tmp_path / "any.json", document)
    try:
        read = _read(path)
    except InputError:
        return
    assert read.positions.shape[1:] == (137, 2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.json", b"\x80\x00\xff" * 100),
        ("bad.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (99999999, 33, 3), }\n"),
        ("bad.npy", b"\x93NUMPY\x01\x00v\x00" + b"(" * 118),
        ("bad.npy", b"\x93NUMPY"),
        ("bad.npz", b"PK\x03\x04 and no more"),
    ],
)
def test_binary_junk_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError):
        _read(tmp_path / name)


def test_arrays_that_are_no_keypoints_are_refused(tmp_path: Path) -> None:
    good = _truth()[:, :25]
    infinite = good.copy()
    infinite[0, 0, 0] = np.inf
    for says, array in {
        "expected": good[0], "complex": good.astype(complex), "infinite": infinite, "24 points": good[:, :24],
        "0 of 0 frames": good[:0], "0 of 12 frames": np.full_like(good, np.nan),
    }.items():  # fmt: skip
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(InputError, match=says):
            _read(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not a readable array"):
        _read(tmp_path / "a.npy")


def test_what_files_do_not_say_is_asked_for_by_its_flag(tmp_path: Path) -> None:
    write_openpose(tmp_path / "op", _keypoints(_truth()))
    with pytest.raises(InputError) as error:
        read_keypoints(tmp_path / "op", fps=30)
    assert "--image-size W H" in error.value.hint
    with pytest.raises(InputError) as error:
        read_keypoints(tmp_path / "op", image_size=SIZE)
    assert "--fps F" in error.value.hint


def test_somebody_in_3_of_12_frames_is_not_enough(tmp_path: Path) -> None:
    keypoints = _keypoints(_truth())
    keypoints.confidence[3:] = 0.0
    write_openpose(tmp_path / "op", keypoints)
    with pytest.raises(InputError, match="3 of 12 frames show a person; at least 10 are needed"):
        _read(tmp_path / "op")


def test_folders_that_are_not_one_clip_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without a keypoint file"):
        _read(tmp_path)
    with pytest.raises(InputError, match="no file or folder"):
        _read(tmp_path / "nothing")
    for camera in "ab":
        write_openpose(tmp_path, _keypoints(_truth()), stem=camera)
    with pytest.raises(InputError, match="24 frames whose names do not number them: keep one clip in a folder"):
        _read(tmp_path)
