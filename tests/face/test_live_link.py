"""Files of Live Link Face come in and go out with what they say; what is none is told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.core.artifacts import FaceTrack
from inference.core.face_shapes import SHAPES, find_bones, find_shape, match_shapes, visemes_of
from inference.core.formats.live_link import read_live_link, write_live_link
from inference.core.rotations import quaternion_from_rotvec, rotate
from inference.protocol.errors import InputError


def track(count: int = 90, fps: float = 60.0) -> FaceTrack:
    """A face of random weights that turns, nods and looks about."""
    rng = np.random.default_rng(0)
    slow = np.cumsum(rng.normal(size=(count, 3)) * 0.01, 0)
    eyes = quaternion_from_rotvec(rng.normal(size=(count, 2, 3)) * [0.1, 0.0, 0.1])
    header = {"unit": "m", "frame": "camera, upright", "fps": fps, "shapes": list(SHAPES)}
    return FaceTrack(
        header, rng.random((count, 52)), quaternion_from_rotvec(slow), np.zeros((count, 3)), eyes, np.ones(count),
        np.arange(count) / fps,
    )  # fmt: skip


def test_a_face_comes_back_from_a_phones_file_as_it_went(tmp_path):
    saved = track()
    write_live_link(tmp_path / "a.csv", saved)
    read = read_live_link(tmp_path / "a.csv")
    assert np.allclose(read.weights, saved.weights, atol=1e-8) and read.fps == pytest.approx(60.0, rel=1e-3)
    assert np.allclose(read.times, saved.times, atol=1e-4)
    for ours, theirs in ((read.rotations, saved.rotations), (read.eyes, saved.eyes)):
        assert np.abs(np.abs((ours * theirs).sum(-1)) - 1).max() < 1e-8


@pytest.mark.parametrize("fps", [10.0, 15.0, 20.0, 30000 / 1001, 90.0, 240.0])
def test_films_of_any_rate_keep_their_times_in_a_phones_file(tmp_path, fps):
    saved = track(300, fps)
    saved.times[200:] += 0.99999 - saved.times[200] % 1  # the last moment of a second
    write_live_link(tmp_path / "a.csv", saved)
    assert np.allclose(read_live_link(tmp_path / "a.csv").times, saved.times, atol=1e-3)


def test_axes_are_arkits(tmp_path):
    """Yaw turns the face to its left, pitch down: about its up and its left."""
    names = ["Timecode", "BlendShapeCount", *(s[0].upper() + s[1:] for s in SHAPES), "HeadYaw", "HeadPitch", "HeadRoll"]
    rows = [
        ["00:00:00:00.000", "61", *["0"] * 52, "0.5", "0", "0"],
        ["00:00:00:01.000", "61", *["0"] * 52, "0", "0.5", "0"],
    ]
    (tmp_path / "a.csv").write_text("\n".join(",".join(row) for row in (names, *rows)))
    looks = rotate(read_live_link(tmp_path / "a.csv").rotations, np.array([0.0, -1.0, 0.0]))
    assert np.allclose(looks[0], [np.sin(0.5), -np.cos(0.5), 0], atol=1e-9)
    assert np.allclose(looks[1], [0, -np.cos(0.5), -np.sin(0.5)], atol=1e-9)


def test_frames_without_a_face_are_bridged_and_marked(tmp_path):
    seen = np.ones(90)
    seen[30:40] = 0
    write_live_link(tmp_path / "a.csv", replace(track(), confidence=seen))
    read = read_live_link(tmp_path / "a.csv")
    assert np.array_equal(read.confidence, seen)
    assert np.allclose(read.weights[34], read.weights[29] + (read.weights[40] - read.weights[29]) * 5 / 11, atol=1e-8)


def test_heads_of_any_spelling_and_rows_of_a_spreadsheet_are_read(tmp_path):
    """Where only shapes were, the head would be still and frames without a face would count."""
    saved = replace(track(), confidence=np.arange(90) % 30 != 7)
    write_live_link(tmp_path / "a.csv", saved)
    first, rest = (tmp_path / "a.csv").read_text().split("\n", 1)
    heads = first.replace("BlendShape", "Blendshape").replace("HeadYaw", "headYaw").replace("Timecode", "timecode")
    zeros = rest.replace(",0" + 61 * ",", ",0" + 61 * ",0.0")
    (tmp_path / "b.csv").write_text(f"{heads}\n{zeros}" + 62 * "," + "\n")
    as_it_was, other = read_live_link(tmp_path / "a.csv"), read_live_link(tmp_path / "b.csv")
    assert np.array_equal(other.rotations, as_it_was.rotations)
    assert np.array_equal(other.confidence, saved.confidence)


def test_rows_that_a_busy_phone_wrote_twice_are_left_out(tmp_path):
    write_live_link(tmp_path / "a.csv", track())
    rows = (tmp_path / "a.csv").read_text().splitlines()
    (tmp_path / "b.csv").write_text("\n".join([*rows[:12], rows[11], *rows[12:50], rows[48], *rows[50:]]))
    plain, other = read_live_link(tmp_path / "a.csv"), read_live_link(tmp_path / "b.csv")
    assert np.array_equal(other.times, plain.times) and np.array_equal(other.weights, plain.weights)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 frames"),
        ("a,b\n1,2\n", "columns of 0 of the 52"),
        ("Timecode," + ",".join(SHAPES) + "\n00:00:00:00," + ",".join(["x"] * 52) + "\n", "row 2: 'x' is not a number"),
        ("Timecode," + ",".join(SHAPES) + "\nnoon," + ",".join(["0"] * 52) + "\n", "row 2: 'noon' is no timecode"),
        ("Timecode," + ",".join(SHAPES) + "\n00:00:00:00," + "," * 51 + "\n", "none of its 1 frames"),
        ("Timecode," + ",".join(SHAPES) + 2 * ("\n00:00:00:01," + ",".join(["0"] * 52)), "do not rise at row 3"),
    ],
)
def test_what_is_no_such_file_is_refused_with_the_row(tmp_path, text, said):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=said.replace(".", r"\.")):
        read_live_link(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("eyeBlink_L", "eyeBlinkLeft"), ("EyeBlinkLeft", "eyeBlinkLeft"), ("head.jawOpen", "jawOpen"),
        ("blendShape1.browInnerUp_R", "browInnerUp"), ("CC_Base_BodyjawOpen", "jawOpen"),
        ("MOUTH_SMILE_LEFT", "mouthSmileLeft"), ("mouthSmile.R", "mouthSmileRight"), ("viseme_aa", "viseme_aa"),
        ("Key 1", ""), ("", ""), ("Basis", ""),
    ],
)  # fmt: skip
def test_shapes_are_found_in_any_spelling(name, shape):
    assert find_shape(name) == shape


def test_both_halves_of_a_shape_are_its_keys():
    assert match_shapes(["browInnerUp_L", "browInnerUp_R", "other"]) == {
        "browInnerUp": ["browInnerUp_L", "browInnerUp_R"]
    }


def test_bones_of_head_and_eyes_are_found_among_helpers():
    names = ["spine.006", "head", "eye.L", "eye.R", "lid.T.L", "master_eye.L", "DEF-eye.L"]
    assert find_bones(names) == {"head": "head", "eye.L": "eye.L", "eye.R": "eye.R"}
    mixamo = ["mixamorig:Head", "mixamorig:HeadTop_End", "mixamorig:LeftEye", "mixamorig:RightEye"]
    assert find_bones(mixamo) == {"head": "mixamorig:Head", "eye.L": "mixamorig:LeftEye", "eye.R": "mixamorig:RightEye"}


def test_visemes_share_a_frame_and_the_nearest_has_most():
    weights = np.zeros((2, 52))
    weights[1, [SHAPES.index("mouthPucker"), SHAPES.index("mouthFunnel"), SHAPES.index("jawOpen")]] = 0.8, 0.4, 0.15
    shown = visemes_of(weights)
    assert np.allclose(shown.sum(1), 1) and shown[0].argmax() == 0 and shown[1].argmax() == 14
