"""Keypoint files of other programs are told by their content and come back in one order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.core.artifacts import Keypoints2D
from inference.core.formats.keypoints2d import read_keypoints, write_openpose
from inference.core.skeletons import BODY_25, COCO_17_IN_BODY_25, LEFT_HAND, OPENPOSE_137
from inference.protocol.errors import InputError

SIZE = (640, 480)
FRAMES = 12
COCO = list(COCO_17_IN_BODY_25)


def _truth(seed: int = 0) -> np.ndarray:
    """(T, 137, 2) a person who drifts; neck and mid-hip are midpoints."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([150, 60], [350, 420], size=(137, 2)) + 2.0 * np.arange(FRAMES)[:, None, None]
    points[:, 1], points[:, 8] = (points[:, 2] + points[:, 5]) / 2, (points[:, 9] + points[:, 12]) / 2
    return points


def _keypoints(points: np.ndarray) -> Keypoints2D:
    header = {
        "unit": "px", "frame": "image", "fps": 30.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "image_size": list(SIZE),
    }  # fmt: skip
    return Keypoints2D(header, points, np.full(points.shape[:2], 0.8), np.arange(len(points)) / 30)


def _flat(points: np.ndarray, score: float = 0.8) -> list[float]:
    return np.concatenate([points, np.full((len(points), 1), score)], axis=1).ravel().tolist()


def _write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_openpose_files_come_back_as_they_went(tmp_path: Path) -> None:
    points = _truth()
    points[3, LEFT_HAND] = np.nan
    written = _keypoints(points)
    written.confidence[3, LEFT_HAND] = 0.0
    write_openpose(tmp_path / "op", written)
    read = read_keypoints(tmp_path / "op", image_size=SIZE, fps=30)
    assert np.allclose(read.positions, points, equal_nan=True) and np.allclose(read.confidence, written.confidence)
    assert read.header["source_skeleton"] == "BODY_25"


def test_a_missing_frame_becomes_a_gap(tmp_path: Path) -> None:
    write_openpose(tmp_path / "op", _keypoints(_truth()))
    next((tmp_path / "op").glob("*_000000000004_*")).unlink()
    read = read_keypoints(tmp_path / "op", image_size=SIZE, fps=30)
    assert len(read.positions) == FRAMES and np.isnan(read.positions[4]).all() and np.isfinite(read.positions[5]).all()


@pytest.mark.parametrize(("count", "order"), [(17, COCO), (26, None), (133, None), (136, None), (18, None), (33, None)])
def test_layouts_are_told_by_their_number_of_points(tmp_path: Path, count: int, order: list[int] | None) -> None:
    from inference.core.formats.layouts import BODY_LAYOUTS

    points, layout = _truth(), BODY_LAYOUTS[count]
    folder = tmp_path / "op"
    folder.mkdir()
    for frame, row in enumerate(points):
        body = np.full((count, 2), 7.0)
        body[list(layout.source)] = row[list(layout.target)]
        _write(folder / f"a_{frame:012d}_keypoints.json", {"people": [{"pose_keypoints_2d": _flat(body)}]})
    read = read_keypoints(folder, image_size=SIZE, fps=25)
    assert np.allclose(read.positions[:, list(layout.target)], points[:, list(layout.target)])
    assert np.allclose(read.positions[:, [1, 8]], points[:, [1, 8]])
    if order:
        assert list(layout.target) == order


def test_body_25b_is_not_taken_for_body_25(data_dir: Path, tmp_path: Path) -> None:
    with np.load(data_dir / "multiview/pose2sim_single/calib_pose2d_ref3d.npz", allow_pickle=False) as data:
        pose, names = data["pose2d"][:, 0], [str(name) for name in data["body25b_names"]]
    for frame, row in enumerate(pose):
        document = {"people": [{"pose_keypoints_2d": [float(v) for v in row.ravel()]}]}
        _write(tmp_path / f"a_{frame:012d}_keypoints.json", document)
    read = read_keypoints(tmp_path, image_size=(1088, 1920), fps=60)
    assert read.header["source_skeleton"] == "BODY_25B"
    seen = pose[:, names.index("RWrist"), 2] > 0
    expected = pose[seen, names.index("RWrist"), :2]
    assert np.allclose(read.positions[seen, BODY_25.index("RWrist")], expected, atol=1e-3)


def test_alphapose_follows_one_of_two_people_and_bounds_its_scores(tmp_path: Path) -> None:
    one, other = _truth(), _truth(1)[:, :, ::-1] + [250.0, 0.0]
    rows = []
    for frame in range(FRAMES):
        people = [one, other] if frame % 2 else [other, one]  # the order of rows is not identity
        for person in people:
            flat = _flat(person[frame][COCO], 1.7)
            rows.append({"image_id": f"{frame}.jpg", "category_id": 1, "keypoints": flat, "score": 2.9})
    read = read_keypoints(_write(tmp_path / "alphapose.json", rows), image_size=SIZE, fps=30, person=(250, 240))
    assert np.allclose(read.positions[:, COCO], one[:, COCO]) and read.confidence.max() == 1.0


def test_mmpose_video_predictions(tmp_path: Path) -> None:
    points = _truth()
    info = [
        {"frame_id": i, "instances": [{"keypoints": row[COCO].tolist(), "keypoint_scores": [0.8] * 17}]}
        for i, row in enumerate(points)
    ]
    for name, document in (("a.json", info), ("b.json", {"meta_info": {}, "instance_info": info})):
        read = read_keypoints(_write(tmp_path / name, document), image_size=SIZE, fps=30)
        assert np.allclose(read.positions[:, COCO], points[:, COCO])


def test_coco_wholebody_annotations_know_their_image_size(tmp_path: Path) -> None:
    points = _truth()
    feet = [19, 20, 21, 22, 23, 24]
    document = {
        "images": [{"id": i, "file_name": f"{i:06d}.jpg", "width": 640, "height": 480} for i in range(FRAMES)],
        "annotations": [
            {"image_id": i, "keypoints": _flat(row[COCO]), "foot_kpts": _flat(row[feet]),
             "face_kpts": _flat(row[25:93]), "lefthand_kpts": _flat(row[95:116]), "righthand_kpts": _flat(row[116:137])}
            for i, row in enumerate(points)
        ],
    }  # fmt: skip
    read = read_keypoints(_write(tmp_path / "wholebody.json", document), fps=30)
    assert read.image_size == SIZE
    known = [j for j in range(137) if j not in (93, 94)]
    assert np.allclose(read.positions[:, known], points[:, known])


def test_normalised_coordinates_are_scaled_to_the_image(tmp_path: Path) -> None:
    points = _truth()
    write_openpose(tmp_path / "op", _keypoints(points / np.array(SIZE)))
    read = read_keypoints(tmp_path / "op", image_size=SIZE, fps=30)
    assert np.allclose(read.positions, points)


def test_freemocap_arrays_in_image_space(tmp_path: Path) -> None:
    from inference.core.formats.layouts import BODY_LAYOUTS

    points, layout = _truth(), BODY_LAYOUTS[33]
    body = np.full((FRAMES, 33, 3), 0.5)
    body[:, list(layout.source), :2] = points[:, list(layout.target)]
    np.save(tmp_path / "mediapipe_body_2d_xyc.npy", body)
    hand = np.concatenate([points[:, LEFT_HAND], np.full((FRAMES, 21, 1), 0.5)], axis=-1)
    np.save(tmp_path / "mediapipe_left_hand_2d_xyc.npy", hand)
    read = read_keypoints(tmp_path, image_size=SIZE, fps=30)
    assert np.allclose(read.positions[:, list(layout.target)], points[:, list(layout.target)])
    assert np.allclose(read.positions[:, LEFT_HAND], points[:, LEFT_HAND])


def test_points_in_space_are_not_taken_for_pixels(tmp_path: Path) -> None:
    np.save(tmp_path / "mediapipe_body_3d_xyz.npy", np.random.default_rng(0).normal(scale=800, size=(FRAMES, 33, 3)))
    with pytest.raises(InputError, match="points in space"):
        read_keypoints(tmp_path / "mediapipe_body_3d_xyz.npy", image_size=SIZE, fps=30)


def test_our_own_artifact_is_read(tmp_path: Path) -> None:
    _keypoints(_truth()).save(tmp_path / "k.npz")
    assert np.array_equal(read_keypoints(tmp_path / "k.npz").positions, _truth())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"people": [{"pose_keypoints_2d": [NaN, 1, 1]}]}', "NaN"),
        ('{"people": [{"pose_keypoints_2d": [Infinity, 1, 1]}]}', "Infinity"),
        ("[" * 100_000, "nested"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3, 4]}]}', "4 numbers"),
        (json.dumps({"people": [{"pose_keypoints_2d": [1.0] * 66}]}), "22 points"),
        ('{"people": [{"pose_keypoints_2d": ["a", 2, 3]}]}', "not a number"),
        ('{"people": [{"pose_keypoints_2d": [1e999, 2, 3]}]}', "not finite"),
        ('{"people": 7}', "no list of people"),
        ('{"people": []}', "0 of 1 frames"),
        ("{", "not JSON"),
        ("[]", "none of the keypoint formats"),
        ('"text"', "none of the keypoint formats"),
    ],
)
def test_hostile_files_get_one_sentence(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "bad.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        read_keypoints(tmp_path / "bad.json", image_size=SIZE, fps=30)


def test_binary_junk_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(b"\x80\x00\xff" * 100)
    with pytest.raises(InputError, match="not text"):
        read_keypoints(tmp_path / "bad.json", image_size=SIZE, fps=30)


def test_what_files_do_not_say_is_asked_for_by_its_flag(tmp_path: Path) -> None:
    write_openpose(tmp_path / "op", _keypoints(_truth()))
    with pytest.raises(InputError) as error:
        read_keypoints(tmp_path / "op", fps=30)
    assert "--image-size" in error.value.hint
    with pytest.raises(InputError) as error:
        read_keypoints(tmp_path / "op", image_size=SIZE)
    assert "--fps" in error.value.hint


def test_somebody_in_3_of_12_frames_is_not_enough(tmp_path: Path) -> None:
    keypoints = _keypoints(_truth())
    keypoints.confidence[3:] = 0.0
    write_openpose(tmp_path / "op", keypoints)
    with pytest.raises(InputError, match="3 of 12 frames show a person; at least 10 are needed"):
        read_keypoints(tmp_path / "op", image_size=SIZE, fps=30)


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without a keypoint file"):
        read_keypoints(tmp_path, image_size=SIZE, fps=30)
