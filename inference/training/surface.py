"""Bodies with surface-true keypoints: shapes of the parametric model `anny`, boiled down to what a lifter needs.

`anny` (Apache-2.0 code, CC0 MakeHuman data) is called once a shape, in its rest pose. Kept are the joints of 22 rigid
parts, the body keypoints attached to them, the 21 points of a posed hand and the 75 points of a head with expressions.
Posing those few points is a handful of matrix products, so frames cost nothing.

Axes are anny's: x to the character's left, y backwards, z up; metres.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import read_npz
from ..core.rotations import matrix_from_rotvec, unit
from ..nets.gc_body import PARENTS, PARTS

Array = np.ndarray

NAMES = tuple(name for name, _, _ in PARTS)
PART = {name: index for index, name in enumerate(NAMES)}

# BODY_25 points that `anny`'s COCO regressor gives, and the parts that carry them (equal weights).
NAMED_POINTS = {
    2: ("right_shoulder", "clavicle.R", "upperarm.R"), 3: ("right_elbow", "upperarm.R", "forearm.R"),
    4: ("right_wrist", "forearm.R", "hand.R"), 5: ("left_shoulder", "clavicle.L", "upperarm.L"),
    6: ("left_elbow", "upperarm.L", "forearm.L"), 7: ("left_wrist", "forearm.L", "hand.L"),
    9: ("right_hip", "pelvis", "thigh.R"), 10: ("right_knee", "thigh.R", "shin.R"),
    11: ("right_ankle", "shin.R", "foot.R"), 12: ("left_hip", "pelvis", "thigh.L"),
    13: ("left_knee", "thigh.L", "shin.L"), 14: ("left_ankle", "shin.L", "foot.L"),
    19: ("left_big_toe", "toes.L", "toes.L"), 20: ("left_small_toe", "toes.L", "toes.L"),
    21: ("left_heel", "foot.L", "foot.L"), 22: ("right_big_toe", "toes.R", "toes.R"),
    23: ("right_small_toe", "toes.R", "toes.R"), 24: ("right_heel", "foot.R", "foot.R"),
}  # fmt: skip
JOINT_OF_POINT = {
    2: "upperarm.R", 3: "forearm.R", 4: "hand.R", 5: "upperarm.L", 6: "forearm.L", 7: "hand.L", 9: "thigh.R",
    10: "shin.R", 11: "foot.R", 12: "thigh.L", 13: "shin.L", 14: "foot.L",
}  # fmt: skip
BODY_POINTS = tuple(NAMED_POINTS)  # the order of `Bodies.points`
POINT_PARTS = np.array([[PART[a], PART[b]] for _, a, b in NAMED_POINTS.values()])
# The head's 75 points: the 70 of the face, then nose, right eye, left eye, right ear, left ear.
HEAD_BODY_POINTS = (0, 15, 16, 17, 18)
FINGERS = ("finger1", "finger2", "finger3", "finger4", "finger5")


@dataclass(frozen=True)
class Bodies:
    """A bank of S body shapes; lengths in metres.

    joints (S, 22, 3): each part's joint, relative to its parent's joint, in the rest pose (the root's is zero);
    points (S, 2, P, 2, 3): BODY_POINTS relative to the joints of their two parts, in two definitions: the surface
    regressor's and the joint centre;
    head (S, 75, 3): relative to the head joint; expression (E, 75, 3): displacement at full weight;
    hand (S, 16, 3): rest positions of the left hand's wrist and 15 finger joints relative to the wrist;
    tips (S, 5, 3): finger tips relative to the last joint of their finger;
    rest_directions (22, 3): direction of each part in the rest pose of the mean shape;
    height (S,).
    """

    joints: Array
    points: Array
    head: Array
    expression: Array
    hand: Array
    tips: Array
    rest_directions: Array
    height: Array

    def save(self, path: Path) -> None:
        """Write one npz."""
        np.savez(path, **{name: getattr(self, name) for name in self.__dataclass_fields__})

    @staticmethod
    def load(path: Path) -> Bodies:
        """Read what `save` wrote."""
        return Bodies(**read_npz(path))


def build_bodies(count: int, rng: np.random.Generator, *, ict: Path) -> Bodies:
    """Sample adults and measure them.

    Heights are drawn from N(1.64, 0.065) for women and N(1.77, 0.07) for men; the ICT head model `ict`
    tells where the 68 landmarks of a face lie.
    """
    import torch
    from anny import Anny
    from anny.keypoints import KeypointsRegressor

    model = Anny(local_changes="none", facial_actions="all")
    regressor = KeypointsRegressor.coco(model)
    eye = torch.eye(4, dtype=model.dtype)[None, None].repeat(1, model.bone_count, 1, 1)

    def rest(phenotype: dict[str, float], actions: dict[str, float] | None = None) -> dict[str, Any]:
        with torch.no_grad():
            out = model(pose_parameters=eye, phenotype_kwargs=phenotype, facial_actions=actions or {})
            vertices = out["rest_vertices"]
            points = regressor({"vertices": vertices})[0]
        named = dict(zip(regressor.labels, points.numpy(), strict=True))
        heads = dict(zip(model.bone_labels, out["rest_bone_heads"][0].numpy(), strict=True))
        return {"vertices": vertices[0].numpy(), "coco": named, "heads": heads}

    labels = list(model.phenotype_labels)
    mean = rest(dict.fromkeys(labels, 0.5) | {"age": 0.67})
    face = _face_vertices(mean, ict)
    tips = _tip_vertices(mean, model)
    shapes = [_measure(rest(_phenotype(rng, rest, labels)), face, tips) for _ in range(count)]
    neutral = _head_points(mean, face)
    expression = np.stack(
        [_head_points(rest(dict.fromkeys(labels, 0.5) | {"age": 0.67}, {a: 1.0}), face) - neutral
         for a in model.facial_action_labels]
    )  # fmt: skip
    stacked = {name: np.stack([s[name] for s in shapes]).astype(np.float32) for name in shapes[0]}
    directions = rest_directions(mean)
    return Bodies(expression=expression.astype(np.float32), rest_directions=directions, **stacked)


def _phenotype(rng: np.random.Generator, rest: Any, labels: list[str]) -> dict[str, float]:
    woman = rng.random() < 0.5
    out = {name: float(rng.beta(3.0, 3.0)) for name in labels}
    out["gender"] = float(np.clip(rng.normal(0.9 if woman else 0.1, 0.1), 0, 1))
    out["age"] = float(rng.uniform(0.6, 0.9))
    target = rng.normal(1.64, 0.065) if woman else rng.normal(1.77, 0.07)
    low, high = (np.ptp(rest(out | {"height": h})["vertices"][:, 2]) for h in (0.0, 1.0))
    out["height"] = float(np.clip((target - low) / (high - low), 0, 1))
    return out


def _measure(body: dict[str, Any], face: Array, tips: Array) -> dict[str, Array]:
    heads, coco = body["heads"], body["coco"]
    joint = np.stack([heads[bone] for _, _, bone in PARTS])
    joints = joint - np.where(np.array(PARENTS)[:, None] < 0, joint, joint[list(PARENTS)])
    surface = np.stack([coco[label] for label, _, _ in NAMED_POINTS.values()])
    centre = np.stack([joint[PART[JOINT_OF_POINT[p]]] if p in JOINT_OF_POINT else s
                       for p, s in zip(BODY_POINTS, surface, strict=True)])  # fmt: skip
    points = np.stack([surface, centre])[:, :, None] - joint[POINT_PARTS]  # (2, P, 2, 3)
    names = [f"{finger}-{i}.L" for finger in FINGERS for i in (1, 2, 3)]
    wrist = heads["wrist.L"]
    hand = np.stack([np.zeros(3), *(heads[n] - wrist for n in names)])
    last = np.stack([heads[f"{finger}-3.L"] for finger in FINGERS])
    return {
        "joints": joints, "points": points, "head": _head_points(body, face), "hand": hand,
        "tips": body["vertices"][tips] - last, "height": np.array(np.ptp(body["vertices"][:, 2])),
    }  # fmt: skip


def _head_points(body: dict[str, Any], face: Array) -> Array:
    coco, vertices = body["coco"], body["vertices"]
    pupils = [coco["right_eye"], coco["left_eye"]]
    rest = [coco[n] for n in ("nose", "right_eye", "left_eye", "right_ear", "left_ear")]
    return np.stack([*vertices[face], *pupils, *rest]) - body["heads"]["head"]


def rest_directions(mean: dict[str, Any]) -> Array:
    """(22, 3) where parts point at rest, by the `heads` of bones of a body."""
    heads = mean["heads"]
    out = np.zeros((len(PARTS), 3))
    for index, (name, _, bone) in enumerate(PARTS):
        children = [i for i, (_, parent, _) in enumerate(PARTS) if parent == index]
        if name.startswith("hand"):
            out[index] = heads[f"finger3-1{name[4:]}"] - heads[bone]
        elif name.startswith("toes"):
            out[index] = heads[f"toe2-3{name[4:]}"] - heads[bone]
        elif name == "head" or len(children) != 1:
            out[index] = (0.0, 0.0, 1.0)
        else:
            out[index] = heads[PARTS[children[0]][2]] - heads[bone]
    return unit(out)


def _tip_vertices(mean: dict[str, Any], model: Any) -> Array:
    bones = np.asarray(model.vertex_bone_indices)
    weights = np.asarray(model.vertex_bone_weights)
    out = []
    for finger in FINGERS:
        index = model.bone_labels.index(f"{finger}-3.L")
        mine = np.flatnonzero(((bones == index) * weights).sum(1) > 0.5)
        start = mean["heads"][f"{finger}-3.L"]
        along = unit(start - mean["heads"][f"{finger}-2.L"])
        out.append(mine[np.argmax((mean["vertices"][mine] - start) @ along)])
    return np.array(out)


def _face_vertices(mean: dict[str, Any], ict: Path) -> Array:
    """68 vertices of anny nearest to the landmarks of the ICT head, after an affine alignment of the two faces."""
    from scipy.spatial import KDTree

    head = read_npz(ict)
    landmarks = np.array(json.loads(str(head["vertex_indices_json"]))["idx_to_landmark_verts"])
    source = head["neutral_cm"].astype(float) @ np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]) * 0.01
    vertices, coco = mean["vertices"], mean["coco"]
    skull = vertices[:, 2] > coco["nose"][2] - 0.13
    skull &= (vertices[:, 1] < coco["left_ear"][1] + 0.03) & (np.abs(vertices[:, 0]) < 0.12)
    candidates = np.flatnonzero(skull)
    tree = KDTree(vertices[candidates])
    marks = source[landmarks]
    anchors = np.stack([marks[36:42].mean(0), marks[42:48].mean(0), marks[30]])
    targets = np.stack([coco["right_eye"], coco["left_eye"], coco["nose"]])
    scale = np.linalg.norm(targets[0] - targets[1]) / np.linalg.norm(anchors[0] - anchors[1])
    moved = (source - anchors.mean(0)) * scale + targets.mean(0)
    front = moved[:, 1] < coco["left_ear"][1] - 0.02
    for _ in range(30):
        picked = np.flatnonzero(front)[::5]
        distance, nearest = map(np.asarray, tree.query(moved[picked]))
        keep = distance < np.quantile(distance, 0.7)
        homogeneous = np.concatenate([moved[picked][keep], np.ones((int(keep.sum()), 1))], axis=1)
        fit, *_ = np.linalg.lstsq(homogeneous, vertices[candidates][nearest[keep]], rcond=None)
        moved = np.concatenate([moved, np.ones((len(moved), 1))], axis=1) @ fit
    marks = moved[landmarks]
    # what the affine fit leaves at eyes and nose is spread over their neighbourhood
    anchors = np.stack([marks[36:42].mean(0), marks[42:48].mean(0), marks[30]])
    near = np.exp(-np.square(np.linalg.norm(marks[:, None] - anchors, axis=-1) / 0.025))
    marks = marks + near @ np.linalg.solve(_kernel(anchors), targets - anchors)
    return candidates[tree.query(marks)[1]]


def _kernel(points: Array) -> Array:
    return np.exp(-np.square(np.linalg.norm(points[:, None] - points, axis=-1) / 0.025))


def hand_walk(bodies: Bodies, shape: int, frames: int, rng: np.random.Generator) -> Array:
    """Move a left hand smoothly between random, joint-limited poses.

    Returns:
        (frames, 21, 3) metres relative to the wrist, in the rest pose of the hand part; 30 frames a second.
    """
    rest, tips = bodies.hand[shape].astype(float), bodies.tips[shape].astype(float)
    angles = _finger_angles(frames, rng)  # (T, 5, 4): spread, then three flexions
    out = np.zeros((frames, 21, 3))
    palm = unit(np.cross(rest[4], rest[13]))  # from index and little knuckles
    for finger in range(5):
        joints = rest[1 + 3 * finger : 4 + 3 * finger]
        ends = np.concatenate([joints, joints[2:] + tips[finger][None]])
        axis = unit(np.cross(ends[1] - ends[0], ends[3] - ends[1]))
        turn = np.broadcast_to(np.eye(3), (frames, 3, 3))
        point = np.broadcast_to(joints[0], (frames, 3))
        out[:, 1 + 4 * finger] = point
        for link in range(3):
            rotvec = axis * angles[:, finger, 1 + link, None]
            if link == 0:
                rotvec = rotvec + palm * angles[:, finger, 0, None]
            turn = turn @ matrix_from_rotvec(rotvec)
            point = point + turn @ (ends[link + 1] - ends[link])
            out[:, 2 + 4 * finger + link] = point
    return out


def _finger_angles(frames: int, rng: np.random.Generator) -> Array:
    """(T, 5, 4) spread and three flexions, radians, relative to the relaxed rest pose."""
    keys = frames // 6 + 4
    curl = np.zeros((keys, 5))
    kind = rng.integers(0, 7, keys)
    base = rng.random(keys)
    for finger in range(5):
        same = np.clip(base + rng.normal(0, 0.12, keys), 0, 1)
        free = rng.random(keys)
        point = np.where(finger == 1, 0.05, 0.9) if finger else 0.6
        victory = 0.05 if finger in (1, 2) else 0.9
        pinch = 0.55 if finger < 2 else 0.25
        fixed = (np.full(keys, value) for value in (0.0, 1.0, float(point), victory, pinch))  # open, fist, signs
        curl[:, finger] = np.choose(kind, [same, free, *fixed])
    curl = np.clip(curl + rng.normal(0, 0.06, curl.shape), -0.1, 1.05)
    low, high = np.radians([-25.0, -25.0, -20.0]), np.radians([75.0, 85.0, 55.0])
    thumb_low, thumb_high = np.radians([-20.0, -15.0, -25.0]), np.radians([25.0, 45.0, 60.0])
    out = np.zeros((keys, 5, 4))
    wobble = rng.normal(0, 0.08, (keys, 5, 3))
    out[:, 1:, 1:] = low + (high - low) * (curl[:, 1:, None] + wobble[:, 1:])
    out[:, 0, 1:] = thumb_low + (thumb_high - thumb_low) * (curl[:, 0, None] + wobble[:, 0])
    spread = rng.uniform(-1, 1.3, (keys, 1)) * np.radians([8.0, 12.0, 3.0, -6.0, -14.0])
    out[..., 0] = spread * (1 - np.clip(curl, 0, 1)) + rng.normal(0, 0.05, (keys, 5))
    out[:, 0, 0] = rng.normal(0, np.radians(14.0), keys)
    return _smooth_path(out, frames, rng)


def _smooth_path(keys: Array, frames: int, rng: np.random.Generator) -> Array:
    """Visit the keys with pauses and eased moves of random speed: (frames, ...)."""
    steps = np.cumsum(rng.integers(3, 20, len(keys)) * np.where(rng.random(len(keys)) < 0.3, 2, 1))
    time = np.linspace(0, min(frames, steps[-1] - 1), frames)
    right = np.clip(np.searchsorted(steps, time, side="right"), 1, len(keys) - 1)
    left = right - 1
    phase = np.clip((time - steps[left]) / np.maximum(steps[right] - steps[left], 1), 0, 1)
    phase = (phase * phase * (3 - 2 * phase)).reshape(-1, *[1] * (keys.ndim - 1))
    return keys[left] * (1 - phase) + keys[right] * phase


def expression_walk(count: int, frames: int, rng: np.random.Generator) -> Array:
    """(frames, count) smooth expression weights in [0, 1], most of them zero most of the time."""
    keys = frames // 8 + 4
    weights = rng.beta(1.2, 3.0, (keys, count)) * (rng.random((keys, count)) < 0.15)
    return _smooth_path(weights, frames, rng)
