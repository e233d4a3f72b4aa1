"""Calibrations come back as they went; what cannot be a calibration is refused by its number."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inference.core.cameras import Camera, CameraSet, project
from inference.core.formats.calibration import read_calibration, write_calibration
from inference.core.rotations import rotvec_from_matrix
from inference.protocol.errors import InputError

FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


def _rig(
    seed: int = 0, *, k3: float = 0.0, names: tuple[str, ...] = ("cam 0 \"名前\" '$(x)'", "b\\\t\U0001f3a5", "c.d")
) -> CameraSet:
    rng = np.random.default_rng(seed)
    return CameraSet(
        tuple(
            Camera(
                name,
                (1088, 1920),
                np.array([[rng.uniform(900, 1700), 0, 540], [0, rng.uniform(900, 1700), 950], [0, 0, 1]]),
                np.append(rng.normal(scale=0.05, size=4), k3),
                Rotation.random(random_state=seed + i).as_matrix(),
                rng.normal(scale=3, size=3),
            )
            for i, name in enumerate(names)
        )
    )


def _equal(a: CameraSet, b: CameraSet) -> bool:
    return len(a) == len(b) and all(
        (x.name, x.size) == (y.name, y.size)
        and all(
            np.allclose(getattr(x, part), getattr(y, part), rtol=1e-12, atol=1e-12)
            for part in ("matrix", "distortion", "rotation", "translation")
        )
        for x, y in zip(a, b, strict=True)
    )


@given(seed=st.integers(0, 5000), style=st.sampled_from(["anipose", "pose2sim"]))
@FUZZ
def test_a_calibration_comes_back_as_it_went(tmp_path: Path, seed: int, style: Literal["anipose", "pose2sim"]) -> None:
    rig = _rig(seed, k3=0.02 if style == "anipose" else 0.0)
    write_calibration(tmp_path / "rig.toml", rig, style)
    assert _equal(read_calibration(tmp_path / "rig.toml"), rig)


@given(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
@FUZZ
def test_any_name_comes_back(tmp_path: Path, name: str) -> None:
    for style in ("anipose", "pose2sim"):
        write_calibration(tmp_path / "rig.toml", _rig(names=(name,)), style)
        assert read_calibration(tmp_path / "rig.toml").names == [name]


def test_pose2sim_and_aniposelib_find_what_they_look_for(tmp_path: Path) -> None:
    for style, table, coefficients in (("pose2sim", "cam01", 4), ("anipose", "cam_0", 5)):
        write_calibration(tmp_path / "rig.toml", _rig(names=("cam01",)), style)  # type: ignore[arg-type]
        written = tomllib.loads((tmp_path / "rig.toml").read_text(encoding="utf-8"))
        assert written[table]["name"] == "cam01" and len(written[table]["distortions"]) == coefficients
        assert len(written[table]["rotation"]) == 3 and written[table]["fisheye"] is False
        assert set(written) == {table, "metadata"}


def test_a_third_radial_coefficient_is_never_dropped_in_silence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="k3 = 0.02"):
        write_calibration(tmp_path / "rig.toml", _rig(k3=0.02), "pose2sim")
    write_calibration(tmp_path / "rig.toml", _rig(k3=0.02), "anipose")
    assert all(camera.distortion[4] == 0.02 for camera in read_calibration(tmp_path / "rig.toml"))


@pytest.mark.data
def test_the_calibration_of_a_real_clip_comes_back(data_dir: Path, tmp_path: Path) -> None:
    with np.load(data_dir / "multiview/pose2sim_single/calib_pose2d_ref3d.npz", allow_pickle=False) as data:
        rig = CameraSet(
            tuple(
                Camera(f"cam{i + 1:02d}", (int(size[0]), int(size[1])), data["K"][i],
                       np.append(data["dist_k1k2p1p2"][i], 0), data["R_w2c"][i], data["t_w2c"][i])
                for i, size in enumerate(data["image_wh"])
            )
        )  # fmt: skip
        point = np.nanmean(data["ref3d_m"].astype(float), axis=(0, 1))
    write_calibration(tmp_path / "rig.toml", rig, "pose2sim")
    for a, b in zip(rig, read_calibration(tmp_path / "rig.toml"), strict=True):
        assert np.allclose(project(a, point), project(b, point), atol=1e-3)


CAMERA = """[a]
name = "a"
size = [640, 480]
matrix = [[500.0, 0.0, 320.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]]
distortions = [0.0, 0.0, 0.0, 0.0]
rotation = [0.0, 0.0, 0.0]
translation = [0.0, 0.0, 0.0]
"""


def _two(apart: float) -> str:
    other = CAMERA.replace("[a]", "[b]").replace('"a"', '"b"')
    return CAMERA + other.replace("translation = [0.0,", f"translation = [{apart},")


def _file(tmp_path: Path, text: str) -> Path:
    (tmp_path / "rig.toml").write_text(text, encoding="utf-8")
    return tmp_path / "rig.toml"


@pytest.mark.parametrize(
    "extra",
    [
        "[metadata]\ncharuco_square_size = 58.0\n",
        "[metadata.board]\nsquare_length_mm = 57.0\n",
        "world_position = [-1500.0, 0.0, 0.0]\n",
    ],
)
def test_millimetres_of_freemocap_become_metres(tmp_path: Path, extra: str) -> None:
    rig = read_calibration(_file(tmp_path, _two(1500.0) + extra))
    assert np.allclose(rig[1].translation, [1.5, 0.0, 0.0])


def test_squares_of_a_board_are_no_unit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="squares measure 1 mm"):
        read_calibration(_file(tmp_path, _two(40.0) + "[metadata]\ncharuco_square_size = 1\n"))


def test_caliscope_numbers_cameras_leaves_some_out_and_once_wrote_matrices(tmp_path: Path) -> None:
    rotation = Rotation.from_rotvec([0.3, -1.2, 0.5]).as_matrix()
    text = ""
    for i, ignore in enumerate(("false", "true", "false")):
        table = CAMERA.replace("[a]", f"[cameras.{i}]").replace('name = "a"', f"cam_id = {i}\nignore = {ignore}")
        table = table.replace(
            "rotation = [0.0, 0.0, 0.0]", f"rotation = {rotation.round(9).tolist()}\nrotation_count = 0"
        )
        text += table.replace("translation = [0.0,", f"translation = [{i}.5,")
    rig = read_calibration(_file(tmp_path, text))
    assert rig.names == ["cam_0", "cam_2"]
    assert np.allclose(rotvec_from_matrix(rig[1].rotation), [0.3, -1.2, 0.5], atol=1e-8)
    assert np.allclose(rig[1].rotation @ rig[1].rotation.T, np.eye(3), atol=1e-15)


def _changed(old: str, new: str, says: str) -> tuple[str, str]:
    assert old in CAMERA
    return CAMERA.replace(old, new), says


ROTATION, TRANSLATION = "rotation = [0.0, 0.0, 0.0]", "translation = [0.0, 0.0, 0.0]"
IMPOSSIBLE = [
    _changed(ROTATION, "rotation = [[-1.0,0,0],[0,1.0,0],[0,0,1.0]]", "mirrored: its rotation has determinant -1"),
    _changed(ROTATION, "rotation = [[2.0,0,0],[0,1.0,0],[0,0,1.0]]", "differs from the identity by 3"),
    _changed(ROTATION, "rotation = [[1.0,0],[0,1.0,0],[0,0,1.0]]", "lists of different lengths"),
    _changed(ROTATION, "rotation = 1.5", "rotation has shape .., expected .3,. or .3, 3."),
    _changed(ROTATION, 'rotation = ["0", "0", "0"]', "rotation is not made of numbers"),
    _changed(ROTATION, "", "rotation is missing"),
    _changed("500.0, 0.0, 320.0", "-500.0, 0.0, 320.0", "focal lengths are -500 and 500 px"),
    _changed("500.0, 0.0, 320.0", "0.5, 0.0, 320.0", "focal lengths are 0.5 and 500 px"),
    _changed(
        "500.0, 0.0, 320.0", "500.0, 0.0, 900.0", r"principal point \(900, 240\) lies outside the image of 640 x 480"
    ),
    _changed("[0.0, 0.0, 1.0]]", "[0.0, 0.0, 2.0]]", "its matrix is not"),
    _changed(", [0.0, 0.0, 1.0]]", "]", r"matrix has shape \(2, 3\), expected \(3, 3\)"),
    _changed("size = [640, 480]", "", "size is missing"),
    _changed("size = [640, 480]", "size = [0, 480]", "size is 0 x 480 px"),
    _changed("size = [640, 480]", f"size = [640, {'9' * 400}]", "size is not made of numbers"),
    _changed("size = [640, 480]", "size = [640, 1979-05-27]", "size is not made of numbers"),
    _changed(TRANSLATION, "translation = [0.0, nan, 0.0]", "translation holds .*nan"),
    _changed(TRANSLATION, "translation = [0.0, inf, 0.0]", "translation holds .*inf"),
    _changed(TRANSLATION, "translation = [0.0, 0.0]", "translation has shape"),
    _changed("distortions = [0.0,", "distortions = [4000.0,", "not those of a lens"),
    _changed("distortions = [0.0,", "distortions = [-9.0,", "not those of a lens"),
    _changed("0.0, 0.0, 0.0, 0.0]", "0.0, " * 12 + "0.1, 0.0]", "14 distortion coefficients"),
    _changed("0.0, 0.0, 0.0, 0.0]\n", "0.0, 0.0, 0.0, 0.0, 0.1]\nfisheye = true\n", "is a fisheye with 5"),
    _changed('name = "a"', 'name = "a"\nfisheye = 3', "fisheye is 3"),
    _changed('name = "a"', 'name = "a"\nrotation_count = 1', "rotation_count = 1"),
    _changed('name = "a"', 'name = "a"\nrotation_count = "x"', "rotation_count = 'x'"),
    _changed('name = "a"', 'name = "a"\nignore = true', "holds no camera .* 1 are ignored"),
    ("x = 1", "no camera"),
    ("", "no camera"),
    ("cameras = 7", "no camera"),
    ("= =", "not TOML"),
    ("a = " + "9" * 4000 + "x", "not TOML"),
    ("a = 2024-13-45", "not TOML"),
    ("a = " + "[\n" * 20_000, "nested too deeply"),
    ("# comment\n" * 7000, "70,000 bytes; at most 65,536"),
    (CAMERA + CAMERA.replace("[a]", "[b]"), "names 2 cameras 'a'"),
    (_two(4500.0), "two cameras stand 4,500 m apart"),
    (_two(0.002), "all 2 cameras stand within 2.0 mm"),
]


@pytest.mark.parametrize(("text", "says"), IMPOSSIBLE, ids=[says for _, says in IMPOSSIBLE])
def test_what_cannot_be_a_calibration_is_refused_in_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        read_calibration(_file(tmp_path, text))
    assert "\n" not in error.value.message and error.value.message.startswith("rig.toml")


def test_a_likely_unit_is_suggested(tmp_path: Path) -> None:
    for apart, unit in ((4500.0, "millimetres"), (250.0, "centimetres")):
        with pytest.raises(InputError) as error:
            read_calibration(_file(tmp_path, _two(apart)))
        assert unit in error.value.hint


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 20_000) + " = 1\n",
        "[" + ".".join(["a"] * 60) + "]\n" + "".join(f"b{i}." + ".".join(["a"] * 60) + "=1\n" for i in range(480)),
        "[" + ".".join(["a"] * 2000) + "]\n" + "".join(f"k{i}=1\n" for i in range(7000)),
        "\u2028".join(["a." * 1500] * 14) + "=1",
    ],
)
def test_dotted_keys_cost_no_time(tmp_path: Path, text: str) -> None:
    start = time.process_time()
    with pytest.raises(InputError):
        read_calibration(_file(tmp_path, text))
    assert time.process_time() - start < 2.0


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | st.just(CAMERA.encode()).flatmap(
    lambda whole: st.tuples(st.integers(0, len(whole)), st.binary(max_size=4)).map(lambda cut: whole[: cut[0]] + cut[1])
))  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
def test_any_file_is_read_or_refused_and_nothing_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "any.toml").write_bytes(content)
    try:
        assert len(read_calibration(tmp_path / "any.toml")) == 1
    except InputError as error:
        assert "any.toml" in error.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        read_calibration(tmp_path / "nothing.toml")
    with pytest.raises(InputError, match="cannot be read"):
        read_calibration(tmp_path)
