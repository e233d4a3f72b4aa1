"""Markers of C3D and TRC files become joints where the joints are."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from understudy.tests.core import skins
from understudy.tests.motion import bodies

from inference.core.artifacts import Keypoints3D
from inference.core.formats.c3d import read_c3d
from inference.core.formats.marker_sets import Body, find_landmarks, plain
from inference.core.formats.markers import read_markers
from inference.core.formats.trc import read_trc, write_trc
from inference.core.humanoid import motion_keypoints
from inference.core.skeletons import BODY_25, OPENPOSE_137
from inference.protocol.errors import InputError

LIMBS = ("Hip", "Knee", "Ankle", "Shoulder", "Elbow", "Wrist")
SIDED = [f"{side}{part}" for side in "LR" for part in LIMBS]


def rows(*names: str) -> list[int]:
    return [OPENPOSE_137.index(name) for name in names]


def errors_mm(found: Keypoints3D, truth: np.ndarray, *names: str) -> np.ndarray:
    """(T, n) distances; NaN where not seen."""
    return 1000 * np.linalg.norm(found.positions[:, rows(*names)] - truth[:, rows(*names)], axis=-1)


def c3d(path, labels, points, *, processor=84, scale=-1.0, unit="mm", fps=100.0, more=None) -> Path:
    """Write a C3D file of (T, M, 3) points, NaN in gaps, as a processor of 84 Intel, 85 DEC or 86 MIPS does."""
    order = ">" if processor == 86 else "<"

    def floats(values: np.ndarray) -> bytes:
        data = np.asarray(values, f"{order}f4")
        if processor != 85:
            return data.tobytes()
        words = (np.asarray(values, np.float32) * 4).astype("<f4").view("<u2").reshape(-1, 2)[:, ::-1]
        return np.ascontiguousarray(words).tobytes()

    def record(group: int, name: str, body: bytes) -> bytes:
        return struct.pack("bb", len(name), group) + name.encode() + struct.pack(f"{order}H", 2 + len(body)) + body

    def letters(texts: list[str]) -> bytes:
        length = max(map(len, texts))
        return struct.pack("bBBB", -1, 2, length, len(texts)) + "".join(t.ljust(length) for t in texts).encode() + b"\0"

    count, items = points.shape[:2]
    blocks = [labels[at : at + 255] for at in range(0, len(labels), 255)]
    section = b"\x00\x00\x00" + bytes([processor]) + record(-1, "POINT", b"\0")
    section += record(1, "USED", struct.pack(f"{order}bBHB", 2, 0, items, 0))
    section += record(1, "RATE", struct.pack("bB", 4, 0) + floats(np.array([fps])) + b"\0")
    section += record(1, "SCALE", struct.pack("bB", 4, 0) + floats(np.array([scale])) + b"\0")
    section += record(1, "UNITS", struct.pack("bBB", -1, 1, len(unit)) + unit.encode() + b"\0") if unit else b""
    for index, block in enumerate(blocks):
        section += record(1, f"LABELS{index + 1 if index else ''}", letters(block))
    for name, body in (more or {}).items():
        section += record(1, name, body)
    section += b"\0" * (512 - len(section) % 512)
    section = section[:2] + bytes([len(section) // 512]) + section[3:]
    start = 2 + len(section) // 512
    head = bytes([2, 80]) + struct.pack(f"{order}5H", items, 0, 1, min(count, 65535), 0)
    head += floats(np.array([scale])) + struct.pack(f"{order}2H", start, 0) + floats(np.array([fps]))
    lost = np.isnan(points).any(axis=-1)
    values = np.concatenate([np.nan_to_num(points), np.where(lost, -1.0, 0.0)[..., None]], axis=-1)
    if scale < 0:
        data = floats(values.ravel())
    else:
        values[..., :3] /= scale
        data = np.round(values).astype(f"{order}i2").tobytes()
    path.write_bytes(head.ljust(512, b"\0") + section + data + b"\0" * (-len(data) % 512))
    return path


@pytest.mark.parametrize(("name", "tolerance"), [("walk_floats", 1e-6), ("walk_whole", 1.1e-4), ("walk_analog", 1e-6)])
def test_files_of_other_libraries_hold_what_was_written(name: str, tolerance: float) -> None:
    """Written by py-c3d, as floats and as whole numbers, and by ezc3d with forces beside the points."""
    _, labels, truth = skins.walk()
    found = read_c3d(skins.GOLDEN / f"{name}.c3d")
    metres = found.positions * {"mm": 0.001, "m": 1.0}[found.unit]
    assert [label.removeprefix("Sam:") for label in found.labels] == list(labels) and found.fps == skins.FPS
    assert np.array_equal(np.isnan(metres), np.isnan(truth)) and np.nanmax(np.abs(metres - truth)) < tolerance


@pytest.mark.parametrize("processor", [84, 85, 86])
@pytest.mark.parametrize("scale", [-1.0, 0.1])
def test_every_processors_numbers_are_read(tmp_path: Path, processor: int, scale: float) -> None:
    _, labels, truth = skins.walk()
    path = c3d(tmp_path / "a.c3d", list(labels), 1000 * truth, processor=processor, scale=scale)
    found = read_c3d(path)
    assert found.labels == labels and found.unit == "mm" and found.fps == pytest.approx(100)
    assert np.array_equal(np.isnan(found.positions), np.isnan(truth))
    assert np.nanmax(np.abs(found.positions - 1000 * truth)) < (1e-3 if scale < 0 else 0.051)


def test_more_than_255_labels_and_65535_frames_are_read(tmp_path: Path) -> None:
    labels = [f"P{i}" for i in range(300)]
    points = np.random.default_rng(0).uniform(1, 2, (12, 300, 3))
    found = read_c3d(c3d(tmp_path / "a.c3d", labels, points))
    assert list(found.labels) == labels and found.positions.shape == (12, 300, 3)
    points = np.tile(np.arange(1.0, 70001.0)[:, None, None], (1, 1, 3))
    long = struct.pack("<bBfB", 4, 0, 70000.0, 0)
    found = read_c3d(c3d(tmp_path / "b.c3d", ["P"], points, more={"LONG_FRAMES": long}))
    assert len(found.positions) == 70000 and found.positions[-1, 0, 0] == 70000.0


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = c3d(tmp_path / "a.c3d", ["P"], np.ones((1000, 1, 3)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"claims 1,000 frames and has room for \d+: it is cut off"):
        read_c3d(path)


@pytest.mark.parametrize("medial", [False, True])
def test_joints_lie_inside_of_their_markers(medial: bool) -> None:
    motion = bodies.moving(240)
    places = skins.plug_in_gait(medial=medial)
    found = Body(find_landmarks(list(places)), skins.worn(motion, places)).joints()
    truth = motion_keypoints(motion)
    limits = {"Knee": 3, "Ankle": 3, "Elbow": 3} if medial else {"Knee": 10, "Ankle": 8, "Elbow": 8}
    for name in SIDED:
        off = 1000 * np.linalg.norm(found[name] - truth[:, OPENPOSE_137.index(name)], axis=-1)
        assert np.mean(off) < {"Hip": 1, "Wrist": 1, "Shoulder": 10, **limits}[name[1:]], name
    for name in ("Nose", "LEar", "REye"):
        assert 1000 * np.linalg.norm(found[name] - truth[:, OPENPOSE_137.index(name)], axis=-1).max() < 15


def test_a_hidden_marker_of_the_pelvis_is_put_where_the_others_say() -> None:
    motion, labels, _ = skins.walk()
    positions = skins.worn(motion, skins.plug_in_gait())
    whole = Body(find_landmarks(labels), positions).joints()
    hidden = positions.copy()
    hidden[5:30, labels.index("LASI")] = np.nan
    hidden[10:20, labels.index("RBHD")] = np.nan
    found = Body(find_landmarks(labels), hidden).joints()
    for name in ("LHip", "RHip", "Nose"):
        assert np.abs(found[name] - whole[name]).max() < 1e-6


def test_a_gap_stays_a_gap() -> None:
    found = read_markers(skins.GOLDEN / "walk_floats.c3d")
    knee = found.positions[:, OPENPOSE_137.index("LKnee")]
    assert np.isnan(knee[skins.GAP]).all() and np.isfinite(np.delete(knee, np.r_[skins.GAP], axis=0)).all()
    assert not found.validity[skins.GAP.start, OPENPOSE_137.index("LKnee")]
    assert np.isfinite(found.positions[:, OPENPOSE_137.index("RKnee")]).all()


def test_a_walk_has_its_joints_in_metres_with_z_up() -> None:
    motion, _, _ = skins.walk()
    truth = motion_keypoints(motion)
    for name in ("walk_floats", "walk_whole", "walk_analog"):
        found = read_markers(skins.GOLDEN / f"{name}.c3d")
        assert np.nanmax(errors_mm(found, truth, *SIDED)) < 12 and found.header["notes"] == []
        assert found.header["frame"] == "world" and found.fps == skins.FPS
        hand = found.confidence[:, rows("LHandWrist", "LHandIndex1", "LHandIndex4")]
        assert np.allclose(hand, [0.6, 0.6, 0.1])  # nobody saw the fingers


@pytest.mark.parametrize(("label", "name"), [
    ("Sam:LASI", "LASI"), ("L.ASIS", "LASIS"), ("R_FLE", "RFLE"), ("WaistLFront", "WAISTLFRONT"),
    ("Left Knee", "LKNEE"), ("RightHeel", "RHEEL"), ("knee_lat.R", "RKNEELAT"), ("r.ASIS_study", "RASIS"),
])  # fmt: skip
def test_labels_are_told_whatever_their_spelling(label: str, name: str) -> None:
    assert plain(label) == name


SETS = {
    "CMU": "#FWT #BWT #KNE #ANK #HEE #TOE #SHO #ELB #IWR #OWR #FIN #FHD #BHD",
    "Helen Hayes": "#.ASIS V.Sacral #.Knee.Lat #.Knee.Med #.Ankle.Lat #.Heel #.Toe #.Acromium #.Elbow.Lat #.Wrist.Rad",
    "IOR": "#ASIS #PSIS #LE #ME #LM #MM #CA #FM #VM #AC",
    "ISB": "#_IAS #_IPS #_FLE #_FME #_FAL #_TAM #_FCC #_FM1 #_FM5 #_SAE #_HLE #_HME #_RSP #_USP",
    "Qualisys": "Waist#Front Waist#Back #KneeOut #AnkleOut #HeelBack #Forefoot2 #ShoulderTop #ElbowOut #WristOut"
    " #WristIn",
    "OpenCap": "#.ASIS_study #.PSIS_study #_knee_study #_mknee_study #_ankle_study #_mankle_study #_calc_study"
    " #_toe_study #_5meta_study #_shoulder_study #_lelbow_study #_melbow_study #_lwrist_study #_mwrist_study",
    "joint centres": "#HJC #KJC #AJC #SJC #EJC #WJC",
    "joints": "#Hip #Knee #Ankle #BigToe #Heel #Shoulder #Elbow #Wrist",
    "snakes": "left_hip right_hip left_knee right_knee left_ankle right_ankle left_shoulder right_shoulder",
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_sets_of_markers_are_understood(name: str) -> None:
    labels = [label.replace("#", s) for label in SETS[name].split() for s in ("LR" if "#" in label else "_")]
    motion = bodies.moving(60)
    gait = skins.plug_in_gait(medial=True)
    kinds = {"asis": "ASI", "psis": "PSI", "knee": "KNE", "knee_in": "KNM", "ankle": "ANK", "ankle_in": "MMA",
             "heel": "HEE", "toe": "TOE", "shoulder": "SHO", "elbow": "ELB", "elbow_in": "ELBM", "wrist_thumb": "WRA",
             "wrist_little": "WRB", "knuckle": "FIN", "head_front": "FHD", "head_back": "BHD"}  # fmt: skip
    worn = dict(zip(gait, np.moveaxis(skins.worn(motion, gait), 1, 0), strict=True))
    truth = motion_keypoints(motion)
    found = find_landmarks(labels)
    assert len(found) == len(labels), set(range(len(labels))) - set(found.values())
    positions = np.full((60, len(labels), 3), np.nan)
    for landmark, column in found.items():
        kind, _, side = landmark.partition(".")
        if landmark in OPENPOSE_137 or kind.endswith("_centre"):
            joint = landmark if landmark in OPENPOSE_137 else side + kind.removesuffix("_centre").capitalize()
            positions[:, column] = truth[:, OPENPOSE_137.index(joint)]
        elif kind in ("mt1", "mt5"):
            inside = {"mt1": 0.03, "mt5": -0.05}[kind] * (1 if side == "R" else -1)
            positions[:, column] = worn[f"{side}TOE"] + [inside, 0, 0]
        else:
            positions[:, column] = worn["SACR" if kind == "sacrum" else f"{side}{kinds[kind]}"]
    joints = Body(found, positions).joints()
    for side in "LR":
        for part in ("Hip", "Knee", "Ankle", "Shoulder"):
            off = np.linalg.norm(joints[f"{side}{part}"] - truth[:, OPENPOSE_137.index(f"{side}{part}")], axis=-1)
            assert 1000 * off.mean() < 25, (name, side, part)


def placed(path: Path, positions: np.ndarray, labels: tuple[str, ...], **options) -> Keypoints3D:
    return read_markers(c3d(path / "a.c3d", list(labels), positions, **options))


@pytest.mark.parametrize(("unit", "factor", "said"), [
    ("mm", 1000.0, ""), ("m", 1.0, ""), ("inch", 1 / 0.0254, ""), ("", 1000.0, "does not say its unit"),
    ("m", 1000.0, "says m; it was taken to be in millimetres"), ("mm", 100.0, "says mm; it was taken to be in centi"),
])  # fmt: skip
def test_the_unit_is_the_files_if_that_makes_a_person(tmp_path: Path, unit: str, factor: float, said: str) -> None:
    motion, labels, metres = skins.walk()
    found = placed(tmp_path, metres * factor, labels, unit=unit)
    assert np.nanmax(errors_mm(found, motion_keypoints(motion), *SIDED)) < 12
    assert any(said in note for note in found.header["notes"]) if said else not found.header["notes"]


@pytest.mark.parametrize("axis", ["+Y", "-Y", "+X", "-Z"])
def test_whatever_axis_is_up_the_person_stands_along_z(tmp_path: Path, axis: str) -> None:
    motion, labels, metres = skins.walk()
    order = {"+Y": [[1, 0, 0], [0, 0, 1], [0, -1, 0]], "-Y": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
             "+X": [[0, 0, 1], [0, 1, 0], [-1, 0, 0]], "-Z": [[1, 0, 0], [0, -1, 0], [0, 0, -1]]}[axis]  # fmt: skip
    found = placed(tmp_path, 1000 * metres @ np.array(order, float).T, labels)
    assert any(f"{axis} is up" in note for note in found.header["notes"])
    heights = motion_keypoints(motion)[:, rows(*SIDED), 2]
    assert np.nanmax(np.abs(found.positions[:, rows(*SIDED), 2] - heights)) < 0.012


def test_of_two_subjects_the_one_seen_most_is_taken(tmp_path: Path) -> None:
    motion, labels, metres = skins.walk()
    other = metres + [3.0, 0, 0]
    other[:25] = np.nan
    both = np.concatenate([other, metres, np.ones((len(metres), 1, 3))], axis=1)
    names = (*(f"Eve:{label}" for label in labels), *(f"Sam:{label}" for label in labels), "*55")
    found = placed(tmp_path, 1000 * both, names)
    assert np.nanmax(errors_mm(found, motion_keypoints(motion), *SIDED)) < 12
    assert any("holds Eve, Sam; Sam, seen most" in note for note in found.header["notes"])


def test_labels_that_cannot_be_understood_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels LTHI, RTHI, XYZ; LShoulder, RShoulder, .*cannot be told") as caught:
        placed(tmp_path, np.ones((20, 3, 3)), ("LTHI", "RTHI", "XYZ"))
    assert "LASI RASI" in caught.value.hint
    _, labels, metres = skins.walk()
    keep = [i for i, label in enumerate(labels) if "ANK" not in label]
    with pytest.raises(InputError, match="LAnkle, RAnkle cannot be told"):
        placed(tmp_path, 1000 * metres[:, keep], tuple(labels[i] for i in keep))


def test_what_was_written_as_trc_is_read_again(tmp_path: Path) -> None:
    truth = bodies.keypoints_of(bodies.moving(30))
    positions = truth.positions.copy()
    positions[:, 25:] = np.nan
    positions[4:7, BODY_25.index("LKnee")] = np.nan
    written = bodies.seen(positions)
    write_trc(tmp_path / "a.trc", written)
    found = read_markers(tmp_path / "a.trc")
    assert found.fps == written.fps and len(found.times) == 30
    body = [i for i, name in enumerate(BODY_25) if name != "Neck"]  # it is put between the shoulders
    assert np.allclose(found.positions[:, body], positions[:, body], atol=2e-6, equal_nan=True)
    assert np.array_equal(found.validity[:, body], written.validity[:, body])


def test_trc_files_of_other_programs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.trc"
    path.write_text(
        "PathFileType\t4\t(X/Y/Z)\tC:\\take 1.trc\nDataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\n"
        "60.00\t60.00\t2\t2\tmm\t60.00\nFrame#\tTime\tLASI\t\t\tRASI\t\t\t\n\t\tX1\tY1\tZ1\tX2\tY2\tZ2\n\n"
        "1\t0.000\t1.5\t2\t3\t4\t5\t6\t\n2\t0.017\t\t\t\t4\t5\t6\n"
    )
    found = read_trc(path)
    assert found.labels == ("LASI", "RASI") and found.unit == "mm" and found.fps == 60 and found.up == "+Y"
    assert np.array_equal(found.positions[0], [[1.5, 2, 3], [4, 5, 6]]) and np.isnan(found.positions[1, 0]).all()


@pytest.mark.parametrize(("content", "words"), [
    (b"", "neither a C3D nor a TRC"), (b"\x02\x50" + b"\0" * 30, "not a C3D file"),
    (b"\x02\x50" + b"\0" * 1022, "unknown processor"), (b"PathFileType 4\n\n\n\n\n", "names 0 markers"),
    (b"PathFileType 4\na\nb\nFrame#\tTime\tA\t\t\n\n1\t0\tx\t2\t3\n", "line 6"),
    (b"PathFileType 4\na\nb\nFrame#\tTime\tA\t\t\n\n", "no frames"),
])  # fmt: skip
def test_what_is_no_file_of_markers_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_markers(tmp_path / "a")
    with pytest.raises(InputError, match="missing"):
        read_markers(tmp_path / "missing.c3d")
