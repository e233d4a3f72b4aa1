"""Artifacts come back as they went, and nothing but an artifact is taken for one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from inference.core.artifacts import Keypoints2D, Keypoints3D, atomic_write
from inference.core.skeletons import OPENPOSE_137
from inference.protocol.errors import InputError, ResourceError


def _keypoints(frames: int = 4) -> Keypoints2D:
    rng = np.random.default_rng(0)
    header = {
        "unit": "px", "frame": "image", "fps": 30.0, "skeleton": "openpose137",
        "joints": list(OPENPOSE_137), "image_size": [640, 480],
    }  # fmt: skip
    positions, confidence = rng.normal(size=(frames, 137, 2)), rng.uniform(size=(frames, 137))
    return Keypoints2D(header, positions, confidence, np.arange(frames) / 30)


def test_an_artifact_comes_back_as_it_went(tmp_path: Path) -> None:
    saved = _keypoints()
    saved.save(tmp_path / "名前 $(x) '.npz")
    loaded = Keypoints2D.load(tmp_path / "名前 $(x) '.npz")
    assert np.array_equal(loaded.positions, saved.positions) and loaded.header == saved.header
    assert loaded.world_m is None


def test_the_header_is_json_text_that_names_kind_and_schema(tmp_path: Path) -> None:
    _keypoints().save(tmp_path / "k.npz")
    with np.load(tmp_path / "k.npz", allow_pickle=False) as data:
        header = json.loads(str(data["header"]))
    assert header["kind"] == "keypoints_2d" and header["schema"] == 1


def test_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    _keypoints().save(tmp_path / "k.npz")
    with pytest.raises(InputError, match="keypoints_2d.*keypoints_3d"):
        Keypoints3D.load(tmp_path / "k.npz")


@pytest.mark.parametrize("junk", [b"", b"not a zip", b"PK\x03\x04 cut off", os.urandom(4096)])
def test_junk_is_refused_with_its_name(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "junk.npz").write_bytes(junk)
    with pytest.raises(InputError, match=r"junk\.npz"):
        Keypoints2D.load(tmp_path / "junk.npz")


def test_a_pickle_inside_is_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", header=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError):
        Keypoints2D.load(tmp_path / "evil.npz")


def test_arrays_that_disagree_are_refused_with_their_shapes(tmp_path: Path) -> None:
    good = _keypoints()
    Keypoints2D(good.header, good.positions, good.confidence[:2], good.times).save(tmp_path / "k.npz")
    with pytest.raises(InputError, match=r"\(2, 137\)"):
        Keypoints2D.load(tmp_path / "k.npz")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.npz"
    target.write_bytes(b"old")

    def fail(_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ResourceError, match="No space left"):
        atomic_write(target, fail)
    assert target.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a.npz"]
