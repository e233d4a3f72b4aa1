"""Calibrations come back as they went; what cannot be a calibration is refused by its number."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inference.core.cameras import Camera, CameraSet
from inference.core.formats.calibration import check_sizes, read_calibration, write_calibration
from inference.protocol.errors import InputError


def _rig(seed: int, *, k3: float = 0.0, count: int = 3) -> CameraSet:
    rng = np.random.default_rng(seed)
    return CameraSet(
        tuple(
            Camera(
                f"cam {i} \"名前\" '$(x)'",
                (1088, 1920),
                np.array([[rng.uniform(900, 1700), 0, 540], [0, rng.uniform(900, 1700), 950], [0, 0, 1]]),
                np.append(rng.normal(scale=0.05, size=4), k3),
                Rotation.random(random_state=seed + i).as_matrix(),
                rng.normal(scale=3, size=3),
            )
            for i in range(count)
        )
    )


@given(st.integers(0, 5000), st.sampled_from(["anipose", "pose2sim"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
def test_a_calibration_comes_back_as_it_went(tmp_path: Path, seed: int, style: str) -> None:
    rig = _rig(seed, k3=0.02 if style == "anipose" else 0.0)
    write_calibration(tmp_path / "rig.toml", rig, style)  # type: ignore[arg-type]
    for a, b in zip(rig, read_calibration(tmp_path / "rig.toml"), strict=True):
        assert (a.name, a.size) == (b.name, b.size)
        assert np.allclose(a.matrix, b.matrix) and np.allclose(a.distortion, b.distortion)
        assert np.allclose(a.rotation, b.rotation, atol=1e-9) and np.allclose(a.translation, b.translation)


def test_a_third_radial_coefficient_is_never_dropped_in_silence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="k3"):
        write_calibration(tmp_path / "rig.toml", _rig(0, k3=0.02), "pose2sim")


def test_millimetres_of_freemocap_become_metres(tmp_path: Path) -> None:
    path, metres = tmp_path / "rig.toml", _rig(1)
    write_calibration(path, CameraSet(tuple(replace(c, translation=1000 * c.translation) for c in metres)))
    text = path.read_text(encoding="utf-8").replace("[metadata]", "[metadata]\nsquare_length_mm = 57.0")
    path.write_text(text, encoding="utf-8")
    for a, b in zip(metres, read_calibration(path), strict=True):
        assert np.allclose(b.translation, a.translation)


CAMERA = """[a]
name = "a"
size = [640, 480]
matrix = [[500.0, 0.0, 320.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]]
distortions = [0.0, 0.0, 0.0, 0.0]
rotation = [0.0, 0.0, 0.0]
translation = [0.0, 0.0, 0.0]
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("rotation = [0.0, 0.0, 0.0]", "rotation = [[-1.0,0,0],[0,1.0,0],[0,0,1.0]]", "mirror"),
        ("rotation = [0.0, 0.0, 0.0]", "rotation = [[2.0,0,0],[0,1.0,0],[0,0,1.0]]", "R R"),
        ("500.0, 0.0, 320.0", "-500.0, 0.0, 320.0", "focal lengths are -500"),
        ("500.0, 0.0, 320.0", "500.0, 0.0, 900.0", "principal point"),
        ("size = [640, 480]", "", "size is missing"),
        ("translation = [0.0, 0.0, 0.0]", "translation = [0.0, nan, 0.0]", "not finite"),
        ("translation = [0.0, 0.0, 0.0]", "translation = [0.0, 0.0]", "shape"),
        ("distortions = [0.0,", "distortions = [4000.0,", "distortions"),
        ('name = "a"', 'name = "a"\nfisheye = true', "fisheye"),
        ('name = "a"', 'name = "a"\nrotation_count = 1', "rotation_count"),
        (CAMERA, "x = 1", "no camera"),
        (CAMERA, "= =", "not TOML"),
    ],
)
def test_what_cannot_be_a_camera_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    (tmp_path / "rig.toml").write_text(CAMERA.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=says):
        read_calibration(tmp_path / "rig.toml")


def test_units_that_cannot_be_metres_are_named(tmp_path: Path) -> None:
    other = CAMERA.replace("[a]", "[b]").replace('"a"', '"b"').replace("translation = [0.0,", "translation = [4500.0,")
    (tmp_path / "rig.toml").write_text(CAMERA + other, encoding="utf-8")
    with pytest.raises(InputError, match="4,500 m apart"):
        read_calibration(tmp_path / "rig.toml")


def test_two_cameras_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rig.toml").write_text(CAMERA + CAMERA.replace("[a]", "[b]"), encoding="utf-8")
    with pytest.raises(InputError, match="2 cameras 'a'"):
        read_calibration(tmp_path / "rig.toml")


def test_a_line_of_40_kilobytes_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "rig.toml").write_text(".".join(["a"] * 20_000) + " = 1\n", encoding="utf-8")
    start = time.monotonic()
    with pytest.raises(InputError, match="39,999|40,003|characters"):
        read_calibration(tmp_path / "rig.toml")
    assert time.monotonic() - start < 2.0


def test_sizes_that_disagree_are_both_named() -> None:
    with pytest.raises(InputError, match=r"1080 x 1920.*1088 x 1920"):
        check_sizes(_rig(0, count=1), [(1080, 1920)])
