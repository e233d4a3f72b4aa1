"""Pictures of one person from several calibrated cameras, cropped as the networks want them, with true joints.

Three kinds of folders are read. Joints and cameras are in millimetres, as in the published networks.

Human3.6M: `SUBJECT/ACTION/imageSequence[-undistorted]/CAMERA/img_NNNNNN.jpg` (from 1) beside labels in one file: the
arrays `subject_names`, `camera_names`, `action_names`, `cameras` (subject, camera) with fields R, t, K, dist, and
`table` with fields subject_idx, action_idx, frame_idx (from 0), keypoints (17, 3), bbox_by_camera_tlbr (camera, 4), all
zero where a view is missing. The published labels are a pickle of just these arrays; as `.npz` they need none.

CMU Panoptic: `SEQUENCE/calibration_SEQUENCE.json`, `SEQUENCE/hdPose3d_stage1_coco19/body3DScene_NNNNNNNN.json` and
`SEQUENCE/hdImgs/CAMERA/CAMERA_NNNNNNNN.jpg`; centimetres, y down, 19 joints of (x, y, z, confidence) a body.

Rendered people: the studio's avatars in recorded motions before random cameras, made while training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from ..core.artifacts import UNREADABLE, first_line
from ..core.cameras import Camera, project
from ..core.skeletons import BODY_25
from ..nets.pose_resnet import normalise
from ..protocol.errors import InputError

Array = np.ndarray
H36M_17 = (
    "RAnkle", "RKnee", "RHip", "LHip", "LKnee", "LAnkle", "Pelvis", "Spine", "Thorax", "Head", "RWrist", "RElbow",
    "RShoulder", "LShoulder", "LElbow", "LWrist", "Neck",
)  # fmt: skip
COCO_19 = (
    "Neck", "Nose", "MidHip", "LShoulder", "LElbow", "LWrist", "LHip", "LKnee", "LAnkle", "RShoulder", "RElbow",
    "RWrist", "RHip", "RKnee", "RAnkle", "LEye", "LEar", "REye", "REar",
)  # fmt: skip
TRAIN_SUBJECTS, TEST_SUBJECTS = ("S1", "S5", "S6", "S7", "S8"), ("S9", "S11")
DAMAGED = {"S9": ("Greeting-2", "SittingDown-2", "Waiting-1")}  # misplaced truth, as recalled from the published reader
_SURE = 0.1  # a joint of Panoptic's that is believed
_PAD = 0.1  # of the box around projected joints, where nobody gives a box


class Example(NamedTuple):
    """One person at one moment.

    pictures (V, H, W, 3) uint8 RGB; projections (V, 3, 4) of those very pictures; joints (J, 3) mm, valid (J,) bool.
    """

    pictures: Array
    projections: Array
    joints: Array
    valid: Array


class Source(Protocol):
    """A numbered set of examples. `pelvis`: the joints whose mean is the rough place of a person."""

    pelvis: tuple[int, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class Batch(NamedTuple):
    """images (B, V, 3, H, W) normalised; projections (B, V, 3, 4); joints (B, J, 3) mm; valid (B, J); pelvis (B, 3)."""

    images: Tensor
    projections: Tensor
    joints: Tensor
    valid: Tensor
    pelvis: Tensor


def collate(source: Source, indices: Sequence[int], *, bgr: bool = False) -> Batch:
    """Lay examples of as many views side by side; `bgr` as in `pose_resnet.normalise`, for published weights."""
    examples = [source[int(index)] for index in indices]
    fewest = min(len(example.pictures) for example in examples)
    pictures = torch.as_tensor(np.stack([example.pictures[:fewest] for example in examples]))
    joints = torch.as_tensor(np.stack([np.where(e.valid[:, None], e.joints, 0.0) for e in examples])).float()
    return Batch(
        normalise(pictures.permute(0, 1, 4, 2, 3).float() / 255, bgr=bgr),
        torch.as_tensor(np.stack([example.projections[:fewest] for example in examples])).float(),
        joints, torch.as_tensor(np.stack([example.valid for example in examples])),
        joints[:, list(source.pelvis)].mean(1),
    )  # fmt: skip


def crop(picture: Array, camera: Camera, box: Sequence[float], size: int) -> tuple[Array, Array]:
    """Cut a box out and scale it to a square, and say what projects onto it.

    The lens is undone; what lies outside of the picture is black. Coordinates scale about the origin, without half
    pixels, as the published networks have it.

    Args:
        box: left, top, right, bottom px; squared on its longer side.
    Returns:
        (size, size, 3) uint8, and (3, 4) in the unit of the camera's translation.
    """
    if np.any(camera.distortion):
        picture = cv2.undistort(picture, camera.matrix, np.asarray(camera.distortion, float))
    left, top, right, bottom = squared(box)
    side = right - left
    canvas = np.zeros((side, side, 3), np.uint8)
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if x1 > x0 and y1 > y0:
        canvas[y0 - top : y1 - top, x0 - left : x1 - left] = picture[y0:y1, x0:x1]
    matrix = np.array(camera.matrix, float)
    matrix[:2, 2] -= left, top
    matrix[:2] *= size / side
    pose = np.concatenate([camera.rotation, np.reshape(camera.translation, (3, 1))], 1)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA), matrix @ pose


def squared(box: Sequence[float], scale: float = 1.0) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the square with the box's centre and its longer side, times `scale`, whole px."""
    left, top, right, bottom = box
    side = max(2, round(max(right - left, bottom - top) * scale))
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    return x, y, x + side, y + side


def box_around(points: Array) -> tuple[float, float, float, float]:
    """Left, top, right, bottom around the finite of (J, 2) px, with a margin for what lies beyond the joints."""
    known = points[np.isfinite(points).all(-1)]
    if not len(known):
        return 0.0, 0.0, 2.0, 2.0
    low, high = known.min(0), known.max(0)
    pad = _PAD * float((high - low).max()) + 1.0
    return float(low[0] - pad), float(low[1] - pad), float(high[0] + pad), float(high[1] + pad)


class Human36M:
    """Human3.6M in the layout of the published multi-view labels."""

    pelvis: tuple[int, ...] = (H36M_17.index("Pelvis"),)

    def __init__(  # noqa: PLR0913 - what the recipe says
        self, root: Path, labels: Path, *, subjects: Sequence[str] = TRAIN_SUBJECTS, size: int = 384,
        undistorted: bool = True, scale: float = 1.0, every: int = 1, damaged: bool = False,
    ) -> None:  # fmt: skip
        """Read the labels.

        Args:
            undistorted: pictures lie in `imageSequence-undistorted`, and their lens is taken to be perfect.
            every: keep one of so many frames; damaged: keep the actions of S9 whose truth is misplaced.
        Raises:
            InputError: no such labels, a pickle, or none of the subjects.
        """
        arrays = _read_labels(labels)
        self.root, self.size, self.undistorted, self.scale = root, size, undistorted, scale
        self._names = {name: [str(n) for n in arrays[f"{name}_names"]] for name in ("subject", "camera", "action")}
        self._cameras, table = arrays["cameras"], arrays["table"]
        wanted = [self._names["subject"].index(name) for name in subjects if name in self._names["subject"]]
        keep = np.isin(table["subject_idx"], wanted)
        for subject, actions in {} if damaged else DAMAGED.items():
            if subject in self._names["subject"]:
                bad = [self._names["action"].index(name) for name in actions if name in self._names["action"]]
                here = table["subject_idx"] == self._names["subject"].index(subject)
                keep &= ~(here & np.isin(table["action_idx"], bad))
        self._table = table[keep][::every]
        if not len(self._table):
            raise InputError(f"{labels.name} holds no frame of {', '.join(subjects)}; it has {self._names['subject']}.")

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Example:
        row = self._table[index]
        pictures, projections = [], []
        for view, camera in enumerate(self._row_cameras(int(row["subject_idx"]))):
            top, left, bottom, right = (float(v) for v in row["bbox_by_camera_tlbr"][view])
            if bottom <= top or right <= left:
                continue
            box = squared((left, top, right, bottom), self.scale)
            picture, projection = crop(_read_picture(self._path(row, view)), camera, box, self.size)
            pictures.append(picture)
            projections.append(projection)
        joints = np.asarray(row["keypoints"], float)[:, :3]
        return Example(np.stack(pictures), np.stack(projections), joints, np.isfinite(joints).all(-1))

    def _row_cameras(self, subject: int) -> list[Camera]:
        out = []
        for name, values in zip(self._names["camera"], self._cameras[subject], strict=True):
            distortion = np.zeros(5) if self.undistorted else np.asarray(values["dist"], float)
            out.append(
                Camera(
                    name, (0, 0), np.asarray(values["K"], float), distortion, np.asarray(values["R"], float),
                    np.asarray(values["t"], float).reshape(3),
                )
            )  # fmt: skip
        return out

    def _path(self, row: Any, view: int) -> Path:
        sequence = "imageSequence-undistorted" if self.undistorted else "imageSequence"
        subject, action = self._names["subject"][row["subject_idx"]], self._names["action"][row["action_idx"]]
        folder = self.root / subject / action / sequence / self._names["camera"][view]
        return folder / f"img_{int(row['frame_idx']) + 1:06d}.jpg"


def _read_labels(path: Path) -> dict[str, Array]:
    needed = ("subject_names", "camera_names", "action_names", "cameras", "table")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not hasattr(archive, "files"):
                raise ValueError("one array")
            return {name: archive[name] for name in needed}
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (*UNREADABLE, AttributeError) as error:
        raise InputError(
            f"{path.name} does not hold the arrays {', '.join(needed)} without pickle: {first_line(error)}",
            "Where you trust the published .npy, save it anew: numpy.savez('labels.npz', **numpy.load('labels.npy', "
            "allow_pickle=True).item())",
        ) from error


class Panoptic:
    """Sequences of CMU Panoptic, seen by its HD cameras."""

    pelvis: tuple[int, ...] = (COCO_19.index("MidHip"),)

    def __init__(
        self, root: Path, sequences: Sequence[str], cameras: Sequence[str], *, size: int = 384, every: int = 1
    ) -> None:
        """List the bodies of all frames; `cameras` as "00_03".

        Raises:
            InputError: a sequence or a camera is missing, or nobody is in it.
        """
        self.root, self.size = root, size
        self._cameras: dict[str, list[Camera]] = {}
        self._bodies: list[tuple[str, int, Array]] = []
        for name in sequences:
            self._cameras[name] = _panoptic_cameras(root / name / f"calibration_{name}.json", cameras)
            files = sorted((root / name / "hdPose3d_stage1_coco19").glob("body3DScene_*.json"))
            for file in files[::every]:
                for body in _json(file).get("bodies", ()):
                    joints = np.array(body["joints19"], float).reshape(-1, 4)
                    self._bodies.append((name, int(file.stem.rpartition("_")[2]), joints))
        if not self._bodies:
            raise InputError(f"{root} holds no body of {', '.join(sequences) or 'no sequence'}.")

    def __len__(self) -> int:
        return len(self._bodies)

    def __getitem__(self, index: int) -> Example:
        sequence, frame, body = self._bodies[index]
        joints, valid = 10.0 * body[:, :3], body[:, 3] > _SURE
        pictures, projections = [], []
        for camera in self._cameras[sequence]:
            path = self.root / sequence / "hdImgs" / camera.name / f"{camera.name}_{frame:08d}.jpg"
            ideal = replace(camera, distortion=np.zeros(5))
            box = box_around(project(ideal, joints[valid]))
            picture, projection = crop(_read_picture(path), camera, box, self.size)
            pictures.append(picture)
            projections.append(projection)
        return Example(np.stack(pictures), np.stack(projections), joints, valid)


def _panoptic_cameras(path: Path, names: Sequence[str]) -> list[Camera]:
    known = {str(entry.get("name")): entry for entry in _json(path).get("cameras", ()) if entry.get("type") == "hd"}
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(f"{path.name} knows no HD camera {', '.join(missing)}; it knows {', '.join(known) or 'none'}.")
    out = []
    for name in names:
        entry = known[name]
        width, height = entry["resolution"]
        out.append(
            Camera(
                name, (int(width), int(height)), np.array(entry["K"], float), np.array(entry["distCoef"], float),
                np.array(entry["R"], float), 10.0 * np.array(entry["t"], float).reshape(3),
            )
        )  # fmt: skip
    return out


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON.") from error


def _read_picture(path: Path) -> Array:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise InputError(f"There is no picture {path}.")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


class Rendered:
    """People of the studio in recorded motions, before random cameras; the same index gives the same example."""

    names = BODY_25[:15]
    pelvis: tuple[int, ...] = (names.index("MidHip"),)

    def __init__(
        self, data: Path, count: int, *, views: int = 3, size: int = 128, avatars: int = 4, seed: int = 0,
        motion: str = "motion_snu.npz",
    ) -> None:  # fmt: skip
        """Prepare avatars and clips; pictures are cast when they are asked for, and kept."""
        from .studio import avatars as people

        files = sorted((data / "avatars_valid").glob("*.npz"))
        rng = np.random.default_rng(seed)
        chosen = [files[int(i)] for i in rng.choice(len(files), min(avatars, len(files)), replace=False)]
        with np.load(data / "motion" / motion, allow_pickle=False) as archive:
            clips = [str(name) for name in archive["clip_names"]]
        rig = people.RIGS[motion.removesuffix(".npz")]
        self._people = []
        for path in chosen:
            avatar = people.load_avatar(path)
            clip = people.load_motion(data / "motion" / motion, clips[int(rng.integers(len(clips)))])
            self._people.append((avatar, *people.retarget(avatar, clip, rig)))
        self._count, self._views, self._size, self._seed = count, views, size, seed
        self._kept: dict[int, Example] = {}
        self._stages: dict[int, Any] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        if index not in self._kept:
            self._kept[index] = self._film(index)
        return self._kept[index]

    def _film(self, index: int) -> Example:
        from .studio import avatars as people
        from .studio.render import Room, Stage

        rng = np.random.default_rng([self._seed, index])
        who = index % len(self._people)
        avatar, turns, joints = self._people[who]
        frame = int(rng.integers(len(turns)))
        here = slice(frame, frame + 1)
        points = people.true_keypoints(avatar, turns[here], joints[here])[0, :15] @ people.Z_UP_FROM_Y_UP.T
        vertices = people.skin(avatar, turns[frame], joints[frame]) @ people.Z_UP_FROM_Y_UP.T
        ground = vertices[:, 2].min()
        if who not in self._stages:
            self._stages[who] = Stage(avatar.faces, avatar.uv, avatar.face_texture, avatar.textures)
        stage = self._stages[who]
        stage.pose(vertices - [0.0, 0.0, ground])
        points = points - [0.0, 0.0, ground]
        wall = tuple(rng.uniform(0.2, 0.8, 3))
        room = Room(light=tuple(rng.normal(0, 0.5, 3) + [0, 0, 0.8]), ambient=float(rng.uniform(0.4, 0.7)), wall=wall)
        pictures, projections = [], []
        for camera in _around(points, self._views, self._size, rng):
            picture, _ = stage.photograph(camera, room, supersample=1)
            pictures.append(picture)
            pose = np.concatenate([camera.rotation, 1000.0 * camera.translation[:, None]], 1)
            projections.append(camera.matrix @ pose)
        return Example(np.stack(pictures), np.stack(projections), 1000.0 * points, np.isfinite(points).all(-1))


def _around(points: Array, count: int, size: int, rng: np.random.Generator) -> list[Camera]:
    """Cameras on a ring that look at a person so that the person fills most of their square pictures."""
    from .studio.render import look_at

    middle = np.nanmean(points, 0)
    reach = float(np.nanmax(np.linalg.norm(points - middle, axis=-1))) + 0.15
    start = rng.uniform(0, 2 * np.pi)
    cameras = []
    for view in range(count):
        angle = start + (view + rng.uniform(-0.25, 0.25)) * 2 * np.pi / max(count, 3)
        distance = rng.uniform(3.0, 5.0)
        eye = np.array([*(middle[:2] + distance * np.array([np.cos(angle), np.sin(angle)])), rng.uniform(0.8, 2.2)])
        focal = 0.5 * size * distance / (1.15 * reach) * rng.uniform(0.85, 1.0)
        target = middle + rng.normal(0, 0.05, 3)
        cameras.append(look_at(f"view{view + 1}", (size, size), float(focal), eye, target))
    return cameras
