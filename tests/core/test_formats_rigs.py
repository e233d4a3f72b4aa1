"""Calibrations of every program: written and read again, read as the programs write them, and never trusted."""

from __future__ import annotations

import json
import os
import pickle  # noqa: TID251 - to write what must not be run
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inference.core.cameras import Camera, CameraSet, level_rotation, project
from inference.core.formats.calibration import FOLDER_STYLES, STYLES, read_calibration, style_for, write_calibration
from inference.core.formats.number_pickle import read_number_pickle
from inference.core.formats.plain_xml import parse_xml
from inference.core.formats.yaml_subset import parse_yaml
from inference.protocol.errors import InputError

FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
POINTS = np.random.default_rng(0).uniform([-1, -1, 0], [1, 1, 2], (50, 3))
NAMES = {"qualisys": "rig.qca.txt", "vicon": "rig.xcp", "opencv": "rig.yml", "panoptic": "rig.json",
         "projection": "rig.txt", "easymocap": "rig", "ros": "rig", "biocv": "rig"}  # fmt: skip


def _looking(rng: np.random.Generator, name: str) -> Camera:
    """A camera on a circle about the origin, level or nearly so, that sees POINTS."""
    angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(4, 7)
    centre = np.array([away * np.cos(angle), away * np.sin(angle), rng.uniform(0.8, 2.5)])
    level = level_rotation(np.array([0, 0, 1.0]) - centre)
    rotation = Rotation.from_rotvec(rng.normal(scale=0.05, size=3)).as_matrix() @ level
    focal = rng.uniform(900, 1500)
    matrix = np.array([[focal, 0, rng.uniform(900, 1000)], [0, focal * rng.uniform(0.98, 1.02), 540], [0, 0, 1]])
    lens = rng.normal(scale=[0.05, 0.02, 0.001, 0.001, 0.005])
    return Camera(name, (1920, 1080), matrix, lens, rotation, -rotation @ centre)


def _rig(seed: int, style: str, count: int = 3) -> CameraSet:
    """A rig that the style can hold."""
    rng = np.random.default_rng(seed)
    cameras = [_looking(rng, f"cam{i}") for i in range(2 if style == "opencv" else count)]
    lens = {"pose2sim": [1, 1, 1, 1, 0], "vicon": [1, 1, 0, 0, 1], "projection": [0, 0, 0, 0, 0]}.get(style, [1] * 5)
    return CameraSet(tuple(replace(camera, distortion=camera.distortion * lens) for camera in cameras))


@given(seed=st.integers(0, 5000), style=st.sampled_from(STYLES))
@FUZZ
def test_every_format_comes_back_as_it_went(tmp_path: Path, seed: int, style: Any) -> None:
    rig, path = _rig(seed, style), tmp_path / f"{style}{seed}" / NAMES.get(style, "rig.toml")
    write_calibration(path, rig, style)
    again = read_calibration(path)
    assert len(again) == len(rig) and [camera.size for camera in again] == [camera.size for camera in rig]
    points = POINTS
    if style == "opencv":  # its world is its first camera, taken as level
        turn = again[0].camera_from_world
        points = POINTS @ rig[0].rotation.T + rig[0].translation
        points = (points - turn[:3, 3]) @ turn[:3, :3]
    else:
        assert again.names == rig.names
    for before, after in zip(rig, again, strict=True):
        assert np.allclose(project(before, POINTS), project(after, points), atol=1e-5, equal_nan=True)
        assert np.allclose(before.matrix, after.matrix, atol=1e-7)


def test_each_ending_names_a_format_that_reads_it_back(tmp_path: Path) -> None:
    for name in ("rig.toml", "rig.qca.txt", "rig.xcp", "rig.json"):
        style = style_for(tmp_path / name)
        write_calibration(tmp_path / name, _rig(1, style), style)
        assert len(read_calibration(tmp_path / name)) == 3
    with pytest.raises(InputError, match="does not end in"):
        style_for(tmp_path / "rig.doc")
    with pytest.raises(InputError, match="no format 'c3d'"):
        write_calibration(tmp_path / "rig.c3d", _rig(1, "anipose"), "c3d")  # type: ignore[arg-type]


def test_freemocap_is_written_in_millimetres(tmp_path: Path) -> None:
    rig = _rig(2, "freemocap")
    write_calibration(tmp_path / "rig.toml", rig, "freemocap")
    assert f"world_position = [{1000 * rig[0].centre[0]!r}"[:30] in (tmp_path / "rig.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["fisheye", "rational"])
def test_other_lenses_go_where_they_can_be_held_and_are_refused_elsewhere(tmp_path: Path, kind: str) -> None:
    lens = np.array([0.02, -0.01, 0.003, 0.001]) if kind == "fisheye" else np.array([0.1, 0.05, 0, 0, 0, 0.2, 0.1, 0])
    rig = CameraSet(tuple(replace(c, distortion=lens, fisheye=kind == "fisheye") for c in _rig(3, "ros")))
    for style in STYLES:
        if style == "opencv":
            continue
        path = tmp_path / style / NAMES.get(style, "rig.toml")
        if style in ("anipose", "freemocap", "caliscope", "ros"):
            write_calibration(path, rig, style)  # type: ignore[arg-type]
            after = read_calibration(path)[0]
            assert np.allclose(project(after, POINTS), project(rig[0], POINTS), atol=1e-5)
        else:
            with pytest.raises(InputError, match="cam0 has"):
                write_calibration(path, rig, style)  # type: ignore[arg-type]
            assert not path.exists() or not list(path.iterdir())


QUALISYS = """<?xml version="1.0" encoding="UTF-8"?>
<calibration calibrated="2021-01-01" source="x.qca" type="regular" wandLength="601">
 <results std-dev="0.6" min-max-diff="1.1"/>
 <cameras>
  <camera active="1" calibrated="true" message="" point-count="1209" avg-residual="1.09" serial="11504"
    model="Miqus Video" viewrotation="0">
   <fov_marker left="0" top="0" right="1279" bottom="1023"/>
   <fov_video left="10" top="20" right="1279" bottom="1023"/>
   <transform x="4535.825195" y="2769.378418" z="2769.282471" r11="-0.536727" r12="0.836500" r13="-0.110422"
     r21="-0.502294" r22="-0.211616" r23="0.838403" r31="0.677957" r32="0.505458" r33="0.533749"/>
   <intrinsic focallength="24.65" sensorMinU="0.0" sensorMaxU="81919.0" sensorMinV="0.0" sensorMaxV="65535.0"
     focalLengthU="112913.171875" focalLengthV="112939.687500" centerPointU="39733.140625" centerPointV="34227.234375"
     skew="0.0" radialDistortion1="-0.126807" radialDistortion2="0.106581" radialDistortion3="0.0"
     tangentalDistortion1="-0.002296" tangentalDistortion2="-0.003104"/>
  </camera>
  <camera active="1" serial="7" model="Oqus 300" viewrotation="0"/>
 </cameras>
</calibration>
"""


def test_a_file_of_qualisys_is_read_as_qtm_means_it(tmp_path: Path) -> None:
    (tmp_path / "c.qca.txt").write_text(QUALISYS, encoding="utf-8")
    rig = read_calibration(tmp_path / "c.qca.txt")
    camera = rig[0]
    assert rig.names == ["11504"] and "1 marker cameras are left out" in rig.notes[0]
    assert camera.size == (1270, 1004)
    assert camera.matrix[0] == pytest.approx([112913.171875 / 64, 0, 39733.140625 / 64 - 10])
    assert camera.matrix[1, 2] == pytest.approx(34227.234375 / 64 - 20)
    assert camera.centre == pytest.approx([4.5358, 2.7694, 2.7693], abs=1e-3)
    assert camera.distortion == pytest.approx([-0.126807, 0.106581, -0.002296, -0.003104, 0])
    u, v = project(camera, np.array([0.0, 0.0, 0.0]))  # the wand's origin stands in front of it, upright
    assert 0 < u < 1270 and 0 < v < 1004
    assert project(camera, np.array([0.0, 0.0, 1.0]))[1] < v


def test_theias_form_of_it_is_in_whole_pixels_and_from_world_to_camera(tmp_path: Path) -> None:
    camera = _rig(5, "anipose")[0]
    pose = " ".join(f'r{r + 1}{c + 1}="{camera.rotation[r, c]!r}"' for r in range(3) for c in range(3))
    place = " ".join(f'{axis}="{1000 * value!r}"' for axis, value in zip("xyz", camera.translation, strict=True))
    k1, k2, p1, p2, k3 = camera.distortion
    (tmp_path / "c.txt").write_text(
        f'<calibration><cameras><camera active="1" serial="a" viewrotation="0"><transform {place} {pose}/>'
        f'<intrinsic focallength="4" sensorMinU="0" sensorMaxU="1919" sensorMinV="0" sensorMaxV="1079" '
        f'focalLengthU="{camera.matrix[0, 0]!r}" focalLengthV="{camera.matrix[1, 1]!r}" '
        f'centerPointU="{camera.matrix[0, 2]!r}" centerPointV="{camera.matrix[1, 2]!r}" skew="0" '
        f'radialDistortion1="{k1!r}" radialDistortion2="{k2!r}" radialDistortion3="{k3!r}" '
        f'tangentalDistortion1="{p1!r}" tangentalDistortion2="{p2!r}"/></camera></cameras></calibration>'
        .replace("np.float64(", "").replace(')"', '"'), encoding="utf-8",
    )  # fmt: skip
    assert np.allclose(project(read_calibration(tmp_path / "c.txt")[0], POINTS), project(camera, POINTS), atol=1e-4)


VICON = """<?xml version="1.0" encoding="UTF-8" standalone="no" ?>
<Cameras VERSION="3">
 <Camera DEVICEID="2100001" DISPLAY_TYPE="Vue" TYPE="FFV" SYSTEM="DV" PIXEL_ASPECT_RATIO="1" SENSOR_SIZE="1920 1080"
   SKEW="0" USERID="1" NAME="">
  <ControlFrames/>
  <KeyFrames>
   <KeyFrame FOCAL_LENGTH="1050.5" FRAME="0" ORIENTATION="0.7071067811865475 0 0 0.7071067811865475"
     POSITION="100 -3000 1200" PRINCIPAL_POINT="955.1 541.2" VICON_RADIAL="0 0"
     VICON_RADIAL2="ViconRadial2 955.1 541.2 -0.1 0.05 0.01" WORLD_ERROR="0.3"/>
  </KeyFrames>
 </Camera>
 <Camera DEVICEID="5" DISPLAY_TYPE="Vantage" TYPE="T40" SENSOR_SIZE="100 100"><KeyFrames/></Camera>
</Cameras>
"""


def test_a_file_of_vicon_is_read_as_vicon_means_it(tmp_path: Path) -> None:
    (tmp_path / "c.xcp").write_text(VICON, encoding="utf-8")
    rig = read_calibration(tmp_path / "c.xcp")
    camera = rig[0]
    assert rig.names == ["2100001"] and camera.size == (1920, 1080)
    assert camera.centre == pytest.approx([0.1, -3.0, 1.2])
    assert camera.distortion == pytest.approx([-0.1, 0.05, 0, 0, 0.01])
    assert any("approximation" in note for note in rig.notes)
    # turned about x by 90 degrees from the world: x right, z of the world becomes -y, y the depth
    assert project(camera, np.array([0.1, 0.0, 1.2])) == pytest.approx([955.1, 541.2])
    assert project(camera, np.array([0.1, 0.0, 1.5]))[1] < 541.2
    moving = VICON.replace("</KeyFrames>", '<KeyFrame FRAME="3"/></KeyFrames>', 1)
    (tmp_path / "c.xcp").write_text(moving, encoding="utf-8")
    with pytest.raises(InputError, match="2 key frames"):
        read_calibration(tmp_path / "c.xcp")


def _storage(path: Path, values: dict[str, Any]) -> None:
    """Write by OpenCV itself, as YAML or XML by the name."""
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for key, value in values.items():
        storage.write(key, value)
    storage.release()


@pytest.mark.parametrize("suffix", ["yml", "xml"])
def test_what_opencv_writes_is_read(tmp_path: Path, suffix: str) -> None:
    left, right = _rig(6, "opencv")
    turn = right.rotation @ left.rotation.T
    apart = right.translation - turn @ left.translation
    pair = {"M1": left.matrix, "D1": left.distortion[None], "M2": right.matrix, "D2": right.distortion[:, None]}
    _storage(tmp_path / f"whole.{suffix}", {**pair, "R": turn, "T": 1000 * apart[:, None], "image_width": 1920,
                                            "image_height": 1080, "calibration_time": "Mon 1: 2 # 3"})  # fmt: skip
    rig = read_calibration(tmp_path / f"whole.{suffix}")
    assert "taken for millimetres" in rig.notes[0] and rig[0].size == (1920, 1080)
    assert np.linalg.norm(rig[1].centre - rig[0].centre) == pytest.approx(np.linalg.norm(apart))
    assert rig[0].rotation @ [0, 0, -1.0] == pytest.approx([0, 1, 0])  # what is down in the picture is down
    halves = tmp_path / "halves"
    halves.mkdir()
    _storage(halves / f"intrinsics.{suffix}", pair)
    _storage(halves / f"extrinsics.{suffix}", {"R": turn, "T": apart[:, None], "R1": np.eye(3), "Q": np.eye(4)})
    for name in ("intrinsics", "extrinsics"):
        again = read_calibration(halves / f"{name}.{suffix}")
        assert np.allclose(again[1].centre, rig[1].centre, atol=1e-9)
        assert any("twice the principal point" in note for note in again.notes)
    (halves / f"extrinsics.{suffix}").unlink()
    with pytest.raises(InputError, match="half of a stereo calibration|no R or T|no camera"):
        read_calibration(halves / f"intrinsics.{suffix}")


def test_a_camera_of_opencvs_sample_is_read(tmp_path: Path) -> None:
    camera = _rig(7, "anipose")[0]
    values = {"image_width": 1920, "image_height": 1080, "board_width": 9, "flags": 0, "fisheye_model": 1,
              "camera_matrix": camera.matrix, "distortion_coefficients": np.array([[0.1, 0.01, 0, 0]]).T}  # fmt: skip
    _storage(tmp_path / "camera.yml", values)
    rig = read_calibration(tmp_path / "camera.yml")
    assert rig[0].fisheye and rig[0].distortion == pytest.approx([0.1, 0.01, 0, 0])
    assert "nothing of where the camera stands" in rig.notes[0]


def test_what_opencv_reads_is_what_we_write(tmp_path: Path) -> None:
    rig = _rig(8, "opencv")
    write_calibration(tmp_path / "rig.yml", rig, "opencv")
    storage = cv2.FileStorage(str(tmp_path / "rig.yml"), cv2.FILE_STORAGE_READ)
    assert np.allclose(storage.getNode("M2").mat(), rig[1].matrix)
    assert storage.getNode("T").mat().shape == (3, 1)
    write_calibration(tmp_path / "easy", rig, "easymocap")
    inner = cv2.FileStorage(str(tmp_path / "easy/intri.yml"), cv2.FILE_STORAGE_READ)
    assert inner.getNode("names").at(1).string() == "cam1"
    assert np.allclose(inner.getNode("K_cam1").mat(), rig[1].matrix)
    assert inner.getNode("dist_cam1").mat().shape == (1, 5)
    assert inner.getNode("W_cam1").real() == 1920
    outer = cv2.FileStorage(str(tmp_path / "easy/extri.yml"), cv2.FILE_STORAGE_READ)
    assert np.allclose(cv2.Rodrigues(outer.getNode("R_cam1").mat())[0], rig[1].rotation)


def test_easymocaps_own_layout_is_read(tmp_path: Path) -> None:
    (tmp_path / "intri.yml").write_text(
        '%YAML:1.0\n---\nnames:\n  - "01"\nK_01: !!opencv-matrix\n  rows: 3\n  cols: 3\n  dt: d\n'
        "  data: [1000.000, 0.000, 500.000,\n    0.000, 1000.000, 400.000,\n    0.000, 0.000, 1.000]\n"
        "dist_01: !!opencv-matrix\n  rows: 1\n  cols: 5\n  dt: d\n  data: [0.1, 0., -0.001, 1.e-3, .02]\n",
        encoding="utf-8",
    )
    (tmp_path / "extri.yml").write_text(
        '%YAML:1.0\n---\nnames:\n  - "01"\nR_01: !!opencv-matrix\n  rows: 3\n  cols: 1\n  dt: d\n'
        "  data: [1.57079632679, 0., 0.]\nT_01: !!opencv-matrix\n  rows: 3\n  cols: 1\n  dt: d\n  data: [0., 1., 3.]\n",
        encoding="utf-8",
    )
    for path in (tmp_path, tmp_path / "intri.yml", tmp_path / "extri.yml"):
        if path.name == "extri.yml":
            continue
        rig = read_calibration(path)
        assert rig.names == ["01"] and rig[0].size == (1000, 800)
        assert rig[0].distortion == pytest.approx([0.1, 0, -0.001, 0.001, 0.02])
        assert rig[0].rotation @ [0, 0, 1.0] == pytest.approx([0, -1, 0], abs=1e-9)
        assert any("1000 x 800 px for 01" in note for note in rig.notes)


ROS = """image_width: 640
image_height: 480
camera_name: {name}
camera_matrix:
  rows: 3
  cols: 3
  data: [526.69, 0, 312.33, 0, 525.75, 246.22, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.0186, -0.0807, 0.00067, -0.0018, 0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [500.0, 0, 310.36, {shift}, 0, 500.0, 246.88, 0, 0, 0, 1, 0]
"""


def test_a_stereo_pair_of_ros_stands_where_its_projections_say(tmp_path: Path) -> None:
    for name, shift in (("left", 0), ("right", -60.0)):
        (tmp_path / f"{name}.yaml").write_text(ROS.format(name=name, shift=shift), encoding="utf-8")
    (tmp_path / "left.yaml").write_text(ROS.format(name="left", shift=-0.0001), encoding="utf-8")
    rig = read_calibration(tmp_path)
    assert rig.names == ["left", "right"] and rig[0].size == (640, 480)
    assert rig[1].centre - rig[0].centre == pytest.approx([0.12, 0, 0], abs=1e-5)  # 60 / 500 to the right
    alone = read_calibration(tmp_path / "right.yaml")
    assert len(alone) == 1


def test_a_pose_of_tf_is_of_the_camera_in_the_world(tmp_path: Path) -> None:
    text = ROS.format(name="a", shift=0) + (
        "transform:\n  translation: {x: 1.0, y: 2.0, z: 3.0}\n  rotation: {x: -0.70710678, y: 0, z: 0, w: 0.70710678}\n"
    )
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    camera = read_calibration(tmp_path / "a.yaml")[0]
    assert camera.centre == pytest.approx([1, 2, 3])
    assert project(camera, np.array([1.0, 7.0, 3.0])) == pytest.approx([312.33, 246.22], abs=1e-3)  # it looks along y
    (tmp_path / "b.yaml").write_text(ROS.format(name="b", shift=0), encoding="utf-8")
    with pytest.raises(InputError, match="b say nothing of where"):
        read_calibration(tmp_path)


def _opencap(camera: Camera) -> dict[str, Any]:
    """As OpenCap writes it: millimetres, an upright board's world (x right, y down, z into the board)."""
    board = np.array([[-1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]])  # this world to the board's
    return {"intrinsicMat": camera.matrix, "distortion": camera.distortion[None],
            "imageSize": np.array([[1080.0], [1920.0]]), "rotation": camera.rotation @ board.T,
            "translation": 1000 * camera.translation[:, None], "rotation_EulerAngles": np.zeros((3, 1))}  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_opencaps_pickles_are_read_without_unpickling(tmp_path: Path, protocol: int) -> None:
    rig = _rig(9, "anipose")
    for camera in rig:
        folder = tmp_path / camera.name
        folder.mkdir()
        with (folder / "cameraIntrinsicsExtrinsics.pickle").open("wb") as stream:
            pickle.dump(_opencap(camera), stream, protocol=protocol)
    again = read_calibration(tmp_path)
    assert again.names == rig.names and again[0].size == (1920, 1080) and "upright" in again.notes[0]
    for before, after in zip(rig, again, strict=True):
        assert np.allclose(project(before, POINTS), project(after, POINTS), atol=1e-6)
    as_lists = {camera.name: {key: value.tolist() for key, value in _opencap(camera).items()} for camera in rig}
    (tmp_path / "rig.json").write_text(json.dumps(as_lists), encoding="utf-8")
    assert np.allclose(read_calibration(tmp_path / "rig.json")[2].centre, rig[2].centre)


class _Canary:
    """What runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_wants_to_run_a_command_does_not(tmp_path: Path, protocol: int) -> None:
    canary = tmp_path / "canary"
    for hidden in (_Canary(canary), {**_opencap(_rig(1, "anipose")[0]), "rotation": _Canary(canary)}):
        content = pickle.dumps(hidden, protocol=protocol)
        (tmp_path / "c.pickle").write_bytes(content)
        with pytest.raises(InputError, match=r"holds more than numbers \(it names .*system\); none of it was executed"):
            read_calibration(tmp_path / "c.pickle")
        assert not canary.exists()
    pickle.loads(content)  # the canary does sing
    assert canary.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\neval\n(S'1'\ntR.", b"c__builtin__\nexec\n(S'1'\ntR.", b"cnumpy\nload\n(S'x'\ntR.",
        b"(S'1'\nios\nsystem\n.", b"cnumpy\nndarray\n)\x81.", b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cos\nsystem\n(I0\ntS'b'\ntR.", b"\x80\x02\x82\x01.", b"Pid\n.",
        b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbcos\nsystem\n(S'x'\ntR.",
    ],
)  # fmt: skip
def test_programs_in_pickles_are_refused(program: bytes) -> None:
    with pytest.raises(InputError):
        read_number_pickle(program, "p")


def test_pickles_that_grow_are_refused_in_time() -> None:
    bomb = b"(l" + b"".join(b"p%d\n0(g%d\ng%d\nl" % (i, i, i) for i in range(20_000)) + b"."
    start = time.process_time()
    for program in (bomb, b"\x80\x04]\x94" + b"(" * 500_000 + b".", b"I" + b"9" * 500_000 + b"\n."):
        try:
            read_number_pickle(program, "p")
        except InputError as error:
            assert len(error.message) < 300
    assert time.process_time() - start < 3.0


def test_biocvs_layout_is_read(tmp_path: Path) -> None:
    camera = _rig(11, "anipose")[0]
    rows = ["1920", "1080", *(" ".join(map(str, row)) for row in camera.matrix), ""]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = camera.rotation, 1000 * camera.translation
    rows += [*(" ".join(map(str, row)) for row in pose), "", " ".join(map(str, camera.distortion)), ""]
    (tmp_path / "00.mp4.calib").write_text("\n".join(rows), encoding="utf-8")
    for path in (tmp_path, tmp_path / "00.mp4.calib"):
        again = read_calibration(path)
        assert again.names == ["00"]
        assert np.allclose(project(again[0], POINTS), project(camera, POINTS), atol=1e-6)


def test_panoptics_world_has_y_down_and_centimetres(tmp_path: Path) -> None:
    one = {"name": "00_00", "type": "hd", "resolution": [1920, 1080], "panel": 0, "node": 0,
           "K": [[1400, 0, 960], [0, 1400, 540], [0, 0, 1]], "distCoef": [-0.28, 0.18, 0, 0, 0.04],
           "R": np.eye(3).tolist(), "t": [[0], [0], [300.0]]}  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps({"calibDataSource": "x", "cameras": [one]}), encoding="utf-8")
    camera = read_calibration(tmp_path / "c.json")[0]
    assert camera.centre == pytest.approx([0, -3, 0])
    assert project(camera, np.array([0.0, 0.0, 1.0]))[1] < 540  # what is up in the world is up in the picture


@given(seed=st.integers(0, 1000), kind=st.sampled_from(["txt", "txt1", "json", "npz", "npy"]))
@FUZZ
def test_projection_matrices_are_taken_apart_and_notes_say_what_was_assumed(
    tmp_path: Path, seed: int, kind: str
) -> None:
    rig = _rig(seed, "projection")
    signs = np.random.default_rng(seed).choice([-3.0, 0.2], 3)
    stack = np.stack([s * c.matrix @ c.camera_from_world[:3] for c, s in zip(rig, signs, strict=True)])
    path = tmp_path / f"p{kind}.{kind[:3] if kind != 'json' else 'json'}"
    if kind.startswith("txt"):
        width = 4 if kind == "txt" else 12
        path.write_text("\n".join(" ".join(map(str, row)) for row in stack.reshape(-1, width)), encoding="utf-8")
    elif kind == "json":
        path.write_text(json.dumps({name: one.tolist() for name, one in zip("abc", stack, strict=True)}), "utf-8")
    elif kind == "npz":
        np.savez(path, **{f"world_mat_{i}": one for i, one in enumerate(stack)}, scale_mat_0=np.eye(4))
    else:
        np.save(path, stack)
    again = read_calibration(path)
    for before, after in zip(rig, again, strict=True):
        assert np.allclose(project(before, POINTS), project(after, POINTS), atol=1e-6)
        assert np.linalg.det(after.rotation) == pytest.approx(1.0)
    assert len(again.notes) == 3 and "does not say its unit" in again.notes[0]


def test_singular_projections_and_folders_of_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("1 0 0 0\n0 1 0 0\n1 1 0 0\n", encoding="utf-8")
    with pytest.raises(InputError, match="singular"):
        read_calibration(tmp_path / "p.txt")
    (tmp_path / "p.txt").write_text("1 0 0 0\n0 1 0 0\n1 1 0\n", encoding="utf-8")
    with pytest.raises(InputError, match="not twelve"):
        read_calibration(tmp_path / "p.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        read_calibration(tmp_path / "empty")


YAML = {
    "a: 1\nb:\n  - 1\n  - x: 2\n    y: [1, 2.5,\n -3.e-1]\n  -\n    - 4\n": {
        "a": 1,
        "b": [1, {"x": 2, "y": [1, 2.5, -0.3]}, [4]],
    },
    "a: {x: 1, 'y z': \"a, b: c # d\"} # e\nb: 'it''s'\nc: ~\nd: .nan\n": {
        "a": {"x": 1, "y z": "a, b: c # d"},
        "b": "it's",
        "c": None,
        "d": float("nan"),
    },
    '%YAML:1.0\n---\nn:\n- 01\n- "02"\nm: !!opencv-matrix\n   rows: 1\n   data: []\n...\n': {
        "n": ["01", "02"],
        "m": {"rows": 1, "data": []},
    },
    "": None,
}


@pytest.mark.parametrize(("text", "value"), YAML.items())
def test_yaml_as_calibrations_are_written_is_understood(text: str, value: Any) -> None:
    assert str(parse_yaml(text, "y")) == str(value)


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\nb: *x\n", "a: !!python/object/apply:os.system ['x']\n", "a: |\n  text\n", "a: [1, 2\n", "a: [1 2]]\n",
        "a: 1\n  b: 2\n", "a: 1\na: 2\n", "? a\n: b\n", "a: " + "[" * 40 + "]" * 40 + "\n", "- - - - " * 30 + "x\n",
        "".join(" " * i + f"k{i}:\n" for i in range(40)), "a: [1, {b]\n", "a: {1: }\n", "\x00: 3\n: 4\n",
    ],
)  # fmt: skip
def test_yaml_of_another_kind_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(InputError, match="is not YAML as calibrations are written") as error:
        parse_yaml(text, "y.yml")
    assert "\n" not in error.value.message


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "<a>&lol;</a>",
        "<a>" * 50 + "</a>" * 50, "<a>" + "<b/>" * 200_001 + "</a>", "<a", "", "<a></b>",
        '<?xml version="1.0" encoding="klingon"?><a/>', "<a " + " ".join(f'x{i}=""' for i in range(300)) + "/>",
    ],
)  # fmt: skip
def test_xml_of_another_kind_is_refused(text: str) -> None:
    start = time.process_time()
    with pytest.raises(InputError):
        parse_xml(text.encode(), "x.xml")
    assert time.process_time() - start < 3.0


def _torn(content: bytes, chance: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(max(len(out), 1))
        match chance.randrange(5):
            case 0:
                out[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del out[at : at + chance.randint(1, 40)]
            case 2:
                pieces = [b"0", b"9" * 30, b"-", b"[", b"nan", b"\x00", b"<", b'"', b"1e999", b",", b"\n", b":", b"{"]
                out[at:at] = chance.choice(pieces)
            case 3:
                out[at:at] = out[at : at + 60] * chance.randint(1, 3)
            case _:
                out = out[: max(1, at)] if chance.random() < 0.2 else out
    return bytes(out)


@pytest.mark.parametrize("style", [*STYLES, "opencap"])
def test_damaged_calibrations_of_every_kind(tmp_path: Path, style: Any) -> None:
    if style == "opencap":
        path = whole = tmp_path / "c.pickle"
        path.write_bytes(pickle.dumps(_opencap(_rig(1, "anipose")[0]), protocol=4))
    else:
        path = tmp_path / NAMES.get(style, "rig.toml")
        write_calibration(path, _rig(1, style), style)
        whole = sorted(path.iterdir())[-1] if style in FOLDER_STYLES else path
    content = whole.read_bytes()
    assert len(read_calibration(path)) >= 1
    for seed in range(120):
        whole.write_bytes(_torn(content, random.Random(seed)))
        start = time.process_time()
        try:
            for camera in read_calibration(path):
                assert np.isfinite(camera.matrix).all() and np.isfinite(camera.translation).all()
                assert np.isfinite(camera.distortion).all() and np.linalg.det(camera.rotation) > 0.99
        except InputError as error:
            assert len(error.message) < 700
        assert time.process_time() - start < 2.0


@given(content=st.binary(max_size=300), suffix=st.sampled_from(["txt", "json", "yml", "xcp", "pickle", "calib", "npz"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
def test_any_bytes_under_any_name_are_read_or_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"any.{suffix}"
    path.write_bytes(content)
    try:
        read_calibration(path)
    except InputError as error:
        assert "any" in error.message
