"""SMPL-family `.npz` -> Performance: rotations on SMPL's documented joint hierarchy, without SMPL's body.

AMASS, and what WHAM, GVHMR, TRAM, 4D-Humans, EasyMocap and SMPL-X fitters write. A body model is neither needed nor
shipped: bones have the average person's lengths (`core.humanoid`) in SMPL's T-pose, and their rest axes are SMPL's
(x to the person's left, y up, z ahead), to which the file's rotations refer. SMPL, SMPL-H and SMPL-X share the first 22
joints; 24 adds the palms, 52 the fingers, 55 jaw and eyes too (Loper 2015, Romero 2017, Pavlakos 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...protocol.errors import InputError
from .. import upright
from ..artifacts import MAX_FPS, UNREADABLE, check_npz, first_line
from ..contacts import find_floor
from ..humanoid import bone, default_ends
from ..rig import Mapping, Performance, Rig
from .joint_rotations import CONVERT, read_rotations

Array = np.ndarray
DEFAULT_FPS = 30.0
MAX_FRAMES = 1_000_000
_FARTHEST_M = 1e4
_BODY = (
    ("pelvis", -1), ("left_hip", 0), ("right_hip", 0), ("spine1", 0), ("left_knee", 1), ("right_knee", 2),
    ("spine2", 3), ("left_ankle", 4), ("right_ankle", 5), ("spine3", 6), ("left_foot", 7), ("right_foot", 8),
    ("neck", 9), ("left_collar", 9), ("right_collar", 9), ("head", 12), ("left_shoulder", 13), ("right_shoulder", 14),
    ("left_elbow", 16), ("right_elbow", 17), ("left_wrist", 18), ("right_wrist", 19),
)  # fmt: skip
_PALMS = (("left_hand", 20), ("right_hand", 21))
_FACE = (("jaw", 15), ("left_eye", 15), ("right_eye", 15))
_FINGER_NAMES = {"index": "index", "middle": "middle", "pinky": "little", "ring": "ring", "thumb": "thumb"}


def _hand(side: str, wrist: int, first: int) -> tuple[tuple[str, int], ...]:
    names = [f"{side}_{finger}{i}" for finger in _FINGER_NAMES for i in (1, 2, 3)]
    return tuple((name, wrist if k % 3 == 0 else first + k - 1) for k, name in enumerate(names))


_JOINTS = {
    22: _BODY,
    24: _BODY + _PALMS,
    52: _BODY + _hand("left", 20, 22) + _hand("right", 21, 37),
    55: _BODY + _FACE + _hand("left", 20, 25) + _hand("right", 21, 40),
}
_LIMBS = {
    "hip": "thigh", "knee": "shin", "ankle": "foot", "foot": "toe", "collar": "shoulder", "shoulder": "upper_arm",
    "elbow": "forearm", "wrist": "hand",
}  # fmt: skip
_PELVIS_OVER_HIPS_M = 0.09
_WALKED_M, _SIZES = 1.0, (0.7, 1.4)  # from how far a walk on a person's size is told by it, and which are believed
_SPINE = {"spine1": 0.22, "spine2": 0.48, "spine3": 0.62}  # of the way from the pelvis to the neck
_IN_HEAD = {"jaw": (0.0, -0.02, 0.0), "left_eye": (0.032, -0.09, 0.105), "right_eye": (-0.032, -0.09, 0.105)}
_FROM_SMPL = upright.to_z_up("+Y")  # SMPL's axes, standing in our world: facing -Y
_PELVIS_FROM_ORIGIN = np.array([0.0, -0.22, 0.03])  # of SMPL's template, metres; EasyMocap turns about the origin
_FULL = ("pose_world", "poses", "fullpose", "full_pose", "smpl_poses", "pose", "pred_rotmat", "rotmat", "thetas")
_ROOT = ("global_orient", "root_orient", "pred_global_orient", "global_rot", "orient", "rh")
_BODY_POSE = ("body_pose", "pose_body", "pred_body_pose")
_HANDS = (("left_hand_pose", "pose_lhand", "lhand_pose"), ("right_hand_pose", "pose_rhand", "rhand_pose"))
_BOTH_HANDS = ("pose_hand", "hand_pose")
_PLACE = (
    "trans_world", "transl_world", "trans", "transl", "translation", "root_trans", "smpl_trans", "th", "pred_trans",
    "root_translation", "global_trans",
)  # fmt: skip
_RATES = ("mocap_framerate", "mocap_frame_rate", "fps", "frame_rate", "framerate", "video_fps")
_KNOWN = {*_FULL, *_ROOT, *_BODY_POSE, *_HANDS[0], *_HANDS[1], *_BOTH_HANDS, *_PLACE, *_RATES}
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib")


@dataclass(frozen=True)
class _Group:
    """Arrays of a file whose names share a prefix such as `smpl_params_global/`; names in lower case."""

    prefix: str
    arrays: dict[str, Array]

    def first(self, names: tuple[str, ...]) -> Array | None:
        """The first array of these names that is there."""
        return next((self.arrays[name] for name in names if name in self.arrays), None)

    @property
    def rank(self) -> tuple[bool, bool, str]:
        """In the order in which groups of a file are preferred: the world's before the camera's."""
        world = any(word in self.prefix for word in ("global", "world"))
        return (not world, "cam" in self.prefix, self.prefix)


def read_smpl(path: Path, *, fps: float | None = None) -> Performance:
    """Read one person's motion.

    What the file leaves open is settled and said in `header["notes"]`: the axis that is up, from how the person stands;
    the floor, from the feet; a missing translation (the motion stays in place, feet on the floor) or rate (30).

    Args:
        fps: frames a second, where the file does not say it; it overrules the file's.
    Raises:
        InputError: a file that can run code (.pkl, .pt), no such poses, several people, or not rotations.
    """
    path = Path(path)
    if path.suffix.lower() in _PICKLES:
        raise InputError(f"{path.name} is a pickle, which can run code when it is opened; it is not read.", CONVERT)
    arrays, names = _load(path)
    groups = [group for group in _groups(arrays) if not {*_FULL, *_BODY_POSE}.isdisjoint(group.arrays)]
    if not groups:
        held = ", ".join(sorted(names)[:12]) or "nothing"
        raise InputError(f"{path.name} holds {held[:200]}, and no poses of a SMPL body.", CONVERT)
    group, notes = min(groups, key=lambda one: one.rank), []
    locals_ = _poses(group, path.name, notes)
    if not 1 <= len(locals_) <= MAX_FRAMES:
        raise InputError(f"{path.name} holds {len(locals_):,} frames; 1 to {MAX_FRAMES:,} are read.")
    place = _translation(group, locals_[:, 0], path.name)
    rate = fps or _rate(arrays) or DEFAULT_FPS
    if not (fps or _rate(arrays)):
        notes.append(f"{path.name} does not say its frames a second; {rate:g} were taken.")
    return _perform(locals_, place, rate, path, notes, mocap=any("mocap" in key for key in group.arrays))


def _load(path: Path) -> tuple[dict[str, Array], list[str]]:
    """Arrays of an .npz that say how a body moves, and the names of all; what only pickle could read is left out."""
    try:
        check_npz(path)
        arrays = {}
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                if _last(name) not in _KNOWN:
                    continue  # vertices and betas need SMPL's body
                try:
                    array = archive[name]
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise
                    continue
                if array.dtype.kind in "fiu":
                    arrays[name] = array
            return arrays, list(archive.files)
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except UNREADABLE as error:
        raise InputError(f"{path.name} is not a readable .npz file: {first_line(error)}") from error


def _last(name: str) -> str:
    return name.lower().replace(".", "/").rpartition("/")[2]


def _groups(arrays: dict[str, Array]) -> list[_Group]:
    found: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        last = _last(name)
        found.setdefault(name.lower()[: -len(last)], {})[last] = array
    return [_Group(prefix, inside) for prefix, inside in found.items()]


def _poses(group: _Group, name: str, notes: list[str]) -> Array:
    """(T, J, 3, 3) rotations of each joint in its parent's frame."""
    whole, root, body = group.first(_FULL), group.first(_ROOT), group.first(_BODY_POSE)
    if whole is not None and (body is None or root is None):
        turns = read_rotations(whole, tuple(_JOINTS), "poses", name)
        if (
            root is not None and np.abs(turns[:, 0] - np.eye(3)).max(initial=0.0) < 1e-6
        ):  # EasyMocap keeps the root apart
            turns[:, :1] = _matched(read_rotations(root, (1,), "root orientations", name), len(turns), name)
        return turns
    assert body is not None, "a group is chosen for what it holds"
    turns = read_rotations(body, (21, 23), "body poses", name)
    if root is None:
        notes.append(f"{name} does not say how the body is turned; it faces one way.")
        roots = np.tile(np.eye(3), (len(turns), 1, 1, 1))
    else:
        roots = _matched(read_rotations(root, (1,), "root orientations", name), len(turns), name)
    hands = _fingers(group, len(turns), name, notes)
    return np.concatenate([roots, turns] if hands is None else [roots, turns[:, :21], hands], axis=1)


def _fingers(group: _Group, count: int, name: str, notes: list[str]) -> Array | None:
    both = group.first(_BOTH_HANDS)
    sides = [group.first(names) for names in _HANDS]
    found = [both] if both is not None else [side for side in sides if side is not None]
    if len(found) < (1 if both is not None else 2):
        return None
    joints = 30 // len(found)
    if any(np.size(hand) // max(count, 1) not in (3 * joints, 6 * joints, 9 * joints) for hand in found):
        notes.append(f"The fingers in {name} are in SMPL's own components, which need SMPL's body; they stay straight.")
        return None
    return np.concatenate(
        [_matched(read_rotations(h, (joints,), "hand poses", name), count, name) for h in found], axis=1
    )


def _matched(turns: Array, count: int, name: str) -> Array:
    if len(turns) != count:
        raise InputError(f"{name} holds {count} frames of one part of the body and {len(turns)} of another.")
    return turns


def _translation(group: _Group, root: Array, name: str) -> Array | None:
    """(T, 3) place of the pelvis, up to a constant, in the file's axes; None where the file has none."""
    given = group.first(_PLACE)
    if given is None:
        return None
    place, count = np.asarray(given, float), len(root)
    if place.size != 3 * count:
        raise InputError(f"{name}: its translation has the shape {place.shape} for {count} frames.")
    place = place.reshape(count, 3)
    if not np.isfinite(place).all() or np.abs(place).max() > _FARTHEST_M:
        raise InputError(f"{name}: its translation is not finite, or farther than {_FARTHEST_M:.0f} m away.")
    if "rh" in group.arrays and "th" in group.arrays:
        return place + root @ _PELVIS_FROM_ORIGIN
    return place


def _rate(arrays: dict[str, Array]) -> float | None:
    for name, array in arrays.items():
        if _last(name) in _RATES and array.size == 1:
            rate = float(array.reshape(-1)[0])
            if 0 < rate < MAX_FPS:
                return rate
    return None


def rest_joints(names: tuple[str, ...]) -> Array:
    """(J, 3) joints of the average person in SMPL's T-pose: metres, Z up, facing -Y, soles at z = 0."""
    heads, _ = default_ends()
    pelvis, neck = heads[bone("hips")] + [0.0, 0.0, _PELVIS_OVER_HIPS_M], heads[bone("neck")]
    out = []
    for name in names:
        if name in _SPINE:
            out.append(pelvis + _SPINE[name] * (neck - pelvis))
        elif name in _IN_HEAD:
            out.append(heads[bone("head")] + _IN_HEAD[name])
        else:
            out.append(pelvis if name == "pelvis" else heads[bone(_bone_name(name))])
    return np.array(out)


def _bone_name(joint: str) -> str:
    """Our bone that begins at a joint of SMPL."""
    side, _, part = joint.partition("_")
    if not part:
        return joint  # neck, head
    if part == "hand":
        return f"middle.01.{side[0].upper()}"
    if part[-1].isdigit():
        return f"{_FINGER_NAMES[part[:-1]]}.{int(part[-1]):02d}.{side[0].upper()}"
    return f"{_LIMBS[part]}.{side[0].upper()}"


def smpl_mapping(names: tuple[str, ...]) -> Mapping:
    """Which roles SMPL's joints fill."""
    bones = {"hips": ("pelvis",), "spine": tuple(_SPINE), "neck": ("neck",), "head": ("head",)}
    for side in ("left", "right"):
        letter = side[0].upper()
        bones |= {f"{role}.{letter}": (f"{side}_{joint}",) for joint, role in _LIMBS.items()}
        for theirs, ours in _FINGER_NAMES.items():
            chain = tuple(f"{side}_{theirs}{i}" for i in (1, 2, 3))
            bones |= {f"{ours}.{letter}": chain} if chain[0] in names else {}
    return Mapping("SMPL", bones)


def _perform(
    locals_: Array, place: Array | None, fps: float, path: Path, notes: list[str], *, mocap: bool
) -> Performance:
    names, parents = zip(*_JOINTS[locals_.shape[1]], strict=True)
    rest = np.tile(np.eye(4), (len(names), 1, 1))
    rest[:, :3, :3], rest[:, :3, 3] = _FROM_SMPL, rest_joints(names)
    turns, heads = np.empty_like(locals_), np.zeros((*locals_.shape[:2], 3))
    for row, parent in enumerate(parents):
        turns[:, row] = locals_[:, row] if parent < 0 else turns[:, parent] @ locals_[:, row]
        if parent >= 0:
            offset = _FROM_SMPL.T @ (rest[row, :3, 3] - rest[parent, :3, 3])
            heads[:, row] = heads[:, parent] + turns[:, parent] @ offset
    turn = upright.to_z_up(_up(names, heads, path.name, notes, mocap=mocap))
    if place is not None:
        feet = [names.index(f"{side}_{part}") for side in ("left", "right") for part in ("ankle", "foot")]
        size = _size_by_steps(place @ turn.T, heads[:, feet] @ turn.T)
        heads, rest[:, :3, 3] = place[:, None] + size * heads, size * rest[:, :3, 3]
        if size != 1.0:
            notes.append(
                f"By the length of its steps, {path.name} shows somebody of {100 * size:.0f} % of our average."
            )
    mapping, parents = smpl_mapping(names), np.array(parents)
    rig = Rig(names, parents, rest, _lengths(rest, parents), name="SMPL")
    times = np.arange(len(heads)) / fps
    header = {"fps": fps, "source": path.name, "notes": notes}
    performance = Performance(rig, mapping, turn @ turns, heads @ turn.T, times, name=path.stem, header=header)
    return _stand(performance, moving=place is not None)


def _up(names: tuple[str, ...], heads: Array, name: str, notes: list[str], *, mocap: bool) -> str:
    """The axis along which the person stands; AMASS has Z up, so there only whoever always stands otherwise counts."""
    at = {joint: heads[:, row] for row, joint in enumerate(names)}
    standing = at["head"] - 0.5 * (at["left_ankle"] + at["right_ankle"])
    axis = upright.find_up(standing, share=0.9 if mocap else 0.3)
    if axis:
        notes.append(f"{axis} is up in {name}: along it the head is over the feet.")
        return axis
    axis = "+Z" if mocap else "+Y"
    source = "AMASS" if mocap else "SMPL"
    notes.append(f"The person in {name} does not stand along any axis; {axis} was taken to be up, as in {source}.")
    return axis


def _size_by_steps(place: Array, feet: Array) -> float:
    """Tell how large a person is by what keeps standing feet still; 1 where too few steps are made to tell.

    place (T, 3) of the pelvis; feet (T, 4, 3) from it on the average person, Z up. Of a foot that stands, what the
    pelvis moves is what the foot moves under it, in proportion to the size: least squares over the lowest foot point,
    those frames counting less that do not agree (as Geman and McClure weigh).
    """
    low = feet[..., 2].argmin(axis=1)
    rows = np.arange(len(place) - 1)
    body = np.diff(place[:, :2], axis=0)
    under = (feet[1:] - feet[:-1])[rows, low[:-1], :2]
    kept = low[1:] == low[:-1]
    if not kept.any() or np.linalg.norm(body[kept], axis=-1).sum() < _WALKED_M:
        return 1.0
    size, spread = 1.0, 0.3 * float(np.median(np.linalg.norm(body[kept], axis=-1))) + 1e-6
    for _ in range(20):
        off = np.linalg.norm(body + size * under, axis=-1) / spread
        weight = kept / (1.0 + off**2) ** 2
        total = float(np.sum(weight * np.sum(under**2, axis=-1)))
        if total <= 0:
            return 1.0
        size = -float(np.sum(weight * np.sum(body * under, axis=-1))) / total
    agreeing = float(weight.sum() / kept.sum())
    return size if _SIZES[0] < size < _SIZES[1] and agreeing > 0.4 else 1.0


def _lengths(rest: Array, parents: Array) -> Array:
    """(J,) metres to the farthest child, or half the parent's."""
    out = np.zeros(len(parents))
    for row, parent in enumerate(parents):
        reach = np.linalg.norm(rest[parents == row, :3, 3] - rest[row, :3, 3], axis=-1)
        out[row] = reach.max() if len(reach) else 0.5 * out[parent]
    return np.maximum(out, 0.01)


def _stand(performance: Performance, *, moving: bool) -> Performance:
    """Put the floor at z = 0; without a translation, the lower foot of every frame stands on it."""
    rows = [performance.rig.index[f"{side}_{part}"] for side in ("left", "right") for part in ("ankle", "foot")]
    high = performance.rig.heads[rows, 2]
    points = performance.heads[:, rows]
    if moving:
        floor = find_floor(points, np.ones(points.shape[:2]), performance.fps, clearance=high)
        down = np.full(len(points), 0.0 if floor is None else floor.height)
    else:
        down = (points[..., 2] - high).min(axis=1)
    return replace(performance, heads=performance.heads - down[:, None, None] * [0.0, 0.0, 1.0])
