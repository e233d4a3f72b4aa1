"""Damaged files of every format are read or refused, at once, and never with another error."""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from understudy.tests.hostile.mutation import mutated
from understudy.tests.openpose_files import write_openpose

from inference.core.artifacts import Artifact, BodyMotion, Keypoints2D, Keypoints3D
from inference.core.cameras import CameraSet
from inference.core.formats.calibration import read_calibration
from inference.core.formats.keypoints2d import read_keypoints
from inference.core.formats.markers import read_markers
from inference.core.formats.smpl import read_smpl
from inference.core.formats.trc import write_trc
from inference.core.skeletons import OPENPOSE_137
from inference.protocol.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 60
LIMIT_S = 2.0
FRAMES = 12
ODD = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -(10**30), 1e308, -1e308, 5e-324, "", "a", "-1", "1.jpg",
    "9" * 400, [], {}, [[]], [None], [0.5] * 3, [[1, 2, 3]] * 17, [1.0] * 75, {"a": 1}, [[[1, 2], [3, 4]]],
]  # fmt: skip


def _people() -> np.ndarray:
    """(T, 137, 3) somebody who drifts."""
    points = np.random.default_rng(0).uniform([150, 60], [350, 420], (137, 2)) + 2.0 * np.arange(FRAMES)[:, None, None]
    return np.concatenate([points, np.full((FRAMES, 137, 1), 0.8)], axis=-1)


def _documents() -> dict[str, Any]:
    """A clip in each way that JSON files hold one."""
    rows = [row[:17] for row in _people()]
    flat = [row.ravel().tolist() for row in rows]
    apart = [{"keypoints": row[:, :2].tolist(), "keypoint_scores": row[:, 2].tolist()} for row in rows]
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(FRAMES)]
    parts = {"foot_kpts": 18, "face_kpts": 204, "lefthand_kpts": 63, "righthand_kpts": 63}
    whole = {name: [1.0] * count for name, count in parts.items()}
    rows_of = {f"{i}.jpg": {"version": 1, "people": [{"pose_keypoints_2d": k}]} for i, k in enumerate(flat)}
    return {
        "alphapose": [{"image_id": f"{i}.jpg", "keypoints": k, "score": 2.0, "idx": 1} for i, k in enumerate(flat)],
        "alphapose-open": rows_of,
        "mmpose": {
            "meta_info": {"keypoint_id2name": {str(i): f"joint{i}" for i in range(3)}},
            "instance_info": [{"frame_id": i, "instances": [one]} for i, one in enumerate(apart)],
        },
        "mmpose-list": [[one] for one in apart],
        "coco": {
            "images": images,
            "annotations": [{"image_id": i, "keypoints": k, **whole} for i, k in enumerate(flat)],
        },
    }  # fmt: skip


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a document; of long lists of numbers, some."""
    out: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        out = [(value, key) for key in value]
    elif isinstance(value, list):
        out = [(value, index) for index in range(len(value))][:20]
    return out + [place for container, key in out for place in _places(container[key])]


def _damaged(document: Any, chance: random.Random) -> Any:
    """A copy in which one to three things are replaced, taken away, doubled or wrapped."""
    whole = [copy.deepcopy(document)]
    for _ in range(chance.randint(1, 3)):
        container, key = chance.choice([(whole, 0), *_places(whole[0])])
        match chance.randrange(5):
            case 0 | 1:
                container[key] = copy.deepcopy(chance.choice(ODD))
            case 2 if container is not whole:
                del container[key]
            case 3:
                container[key] = [container[key]]
            case _ if isinstance(container, list) and container is not whole:
                container.insert(0, copy.deepcopy(container[key]))
            case _ if isinstance(container, dict):
                container[chance.choice(["people", "id", "0", "image_id", "keypoints"])] = container[key]
    return whole[0]


def _survives(read: Callable[[], object]) -> None:
    start = time.process_time()
    try:
        read()
    except InputError as error:
        assert len(error.message) < 600
    assert time.process_time() - start < LIMIT_S


def _read(path: Path) -> Keypoints2D:
    found = read_keypoints(path, image_size=(640, 480), fps=30)
    assert found.positions.shape[1:] == (137, 2) and not np.isinf(found.positions).any()
    assert found.confidence.min() >= 0 and found.confidence.max() <= 1
    return found


@pytest.mark.parametrize("name", sorted(_documents()))
def test_damaged_documents(tmp_path: Path, name: str) -> None:
    document, path = _documents()[name], tmp_path / "clip.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert len(_read(path).positions) == FRAMES
    for seed in range(ROUNDS):
        path.write_text(json.dumps(_damaged(document, random.Random(seed))), encoding="utf-8")
        _survives(lambda: _read(path))


def _ours() -> Keypoints2D:
    header = {
        "unit": "px", "frame": "image", "fps": 30.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "image_size": [640, 480],
    }  # fmt: skip
    people = _people()
    return Keypoints2D(header, people[..., :2], people[..., 2], np.arange(FRAMES) / 30)


def test_damaged_folders_of_openpose(tmp_path: Path) -> None:
    write_openpose(tmp_path, _ours())
    assert len(_read(tmp_path).positions) == FRAMES
    files = sorted(tmp_path.iterdir())
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        file = chance.choice(files)
        before = file.read_bytes()
        if seed % 2:
            file.write_bytes(mutated(before, chance))
        else:
            file.write_text(json.dumps(_damaged(json.loads(before), chance)), encoding="utf-8")
        _survives(lambda: _read(tmp_path))
        file.write_bytes(before)


@pytest.mark.parametrize("name", ["ours.npz", "plain.npz", "packed.npz", "points.npy", "cameras.npy"])
def test_damaged_arrays(tmp_path: Path, name: str) -> None:
    people, path = _people()[:, :33], tmp_path / name
    if name == "ours.npz":
        _ours().save(path)
    elif name == "plain.npz":
        np.savez(path, positions=people[..., :2], confidence=people[..., 2])
    elif name == "packed.npz":
        np.savez_compressed(path, keypoints=people)
    else:
        np.save(path, people if name == "points.npy" else people[None])
    content = path.read_bytes()
    assert len(_read(path).positions) == FRAMES
    for seed in range(ROUNDS):
        path.write_bytes(mutated(content, random.Random(seed)))
        _survives(lambda: _read(path))


def test_headers_of_our_own_artifacts_that_were_changed(tmp_path: Path) -> None:
    ours, path = _ours(), tmp_path / "k.npz"
    for seed in range(ROUNDS):
        header = _damaged({"kind": "keypoints_2d", "schema": 1, **ours.header}, random.Random(seed))
        text = np.array(json.dumps(header))
        np.savez(path, header=text, positions=ours.positions, confidence=ours.confidence, times=ours.times)
        _survives(lambda: _read(path))


def test_damaged_artifacts_of_a_motion(tmp_path: Path) -> None:
    content = (ROOT / "tests/golden/body_motion.npz").read_bytes()
    path = tmp_path / "m.npz"
    for seed in range(ROUNDS):
        path.write_bytes(mutated(content, random.Random(seed)))
        _survives(lambda: BodyMotion.load(path))


@pytest.mark.parametrize("kind", [Keypoints2D, Keypoints3D, BodyMotion])
def test_artifacts_whose_arrays_were_exchanged(tmp_path: Path, kind: type[Artifact]) -> None:
    path = tmp_path / "a.npz"
    golden = BodyMotion.load(ROOT / "tests/golden/body_motion.npz")
    arrays = {f.name: getattr(golden, f.name) for f in fields(golden) if f.name != "header"}
    ones = np.ones((FRAMES, 137))
    arrays |= {"positions": _people()[..., :2], "confidence": ones, "validity": ones, "times": np.arange(FRAMES) / 30}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    header = {"kind": kind.kind, "schema": 1, **golden.header, **_ours().header}
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        given = dict(arrays)
        for name in chance.sample(sorted(given), 3):
            others = [np.array(1.0), np.zeros(0), np.array("a"), np.full((2, 3), np.nan), given[name].T]
            given[name] = chance.choice(others)
        np.savez(path, header=np.array(json.dumps(header)), **given)
        _survives(lambda: kind.load(path))


def test_damaged_calibrations(tmp_path: Path) -> None:
    content = (ROOT / "inference/demo/demo.toml").read_bytes()
    path = tmp_path / "c.toml"
    for seed in range(5 * ROUNDS):
        path.write_bytes(mutated(content, random.Random(seed)))

        def read() -> None:
            cameras = read_calibration(path)
            assert isinstance(cameras, CameraSet)
            assert all(np.isfinite(c.matrix).all() and np.isfinite(c.translation).all() for c in cameras)

        _survives(read)


@pytest.mark.parametrize("name", ["walk_floats.c3d", "walk_whole.c3d", "walk_analog.c3d", "text.trc"])
def test_damaged_markers(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".trc"):
        write_trc(path, read_markers(ROOT / "tests/golden/walk_floats.c3d"))
        content = path.read_bytes()
    else:
        content = (ROOT / "tests/golden" / name).read_bytes()
    for seed in range(5 * ROUNDS):
        path.write_bytes(mutated(content, random.Random(seed)))

        def read() -> None:
            found = read_markers(path)
            assert not np.isinf(found.positions).any() and np.isfinite(found.times).all()

        _survives(read)


@pytest.mark.parametrize("packed", [False, True])
def test_damaged_poses_of_smpl(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "poses.npz"
    arrays: dict[str, Any] = {"poses": np.zeros((FRAMES, 156)), "trans": np.zeros((FRAMES, 3)), "mocap_framerate": 60.0}
    (np.savez_compressed if packed else np.savez)(path, **arrays)
    content = path.read_bytes()
    assert len(read_smpl(path).times) == FRAMES
    for seed in range(2 * ROUNDS):
        path.write_bytes(mutated(content, random.Random(seed)))
        _survives(lambda: read_smpl(path))
    chance = random.Random(0)
    for _ in range(2 * ROUNDS):
        given = dict(arrays)
        odd = [np.array(1.0), np.zeros(0), np.zeros((0, 72)), np.array("a"), np.full((2, 3), np.nan), np.zeros((1, 72)),
               np.full((FRAMES, 72), 1e300), np.zeros((2, 2, 2, 2)), np.array([None])]  # fmt: skip
        for key in chance.sample(["poses", "trans", "mocap_framerate", "body_pose", "global_orient", "Rh"], 2):
            given[key] = chance.choice(odd)
        np.savez(path, **given)
        _survives(lambda: read_smpl(path))
