"""What passes through the doors between stages.

An artifact is a frozen dataclass of arrays and the few words that make them unambiguous. It is saved as one
uncompressed `.npz` whose `header` entry is JSON text, and is always read with `allow_pickle=False`.
"""

from __future__ import annotations

import json
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import IO, Any, ClassVar, TypeVar

import numpy as np

from ..protocol.errors import InputError
from ..protocol.files import atomic_write

Array = np.ndarray
SCHEMA = 1
MAX_ARTIFACT_BYTES = 8 << 30
MAX_ARRAYS = 10_000  # in one file
PACKED_BYTES, MAX_RATIO = 256 << 20, 50  # larger files unpack to at most so many times their size
MAX_FPS = 1e5
# What numpy and zipfile raise on files that are damaged, or made to look like arrays.
UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, TypeError, OverflowError, MemoryError, SyntaxError, RecursionError,
    NotImplementedError, RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_A = TypeVar("_A", bound="Artifact")


@dataclass(frozen=True)
class Artifact:
    """Base of all artifacts: how they are saved, loaded and checked.

    Every annotated array field is an npz entry; `header` is free JSON that must hold at least what
    `required_header` names.
    """

    kind: ClassVar[str] = ""
    required_header: ClassVar[tuple[str, ...]] = ("unit", "frame", "fps", "skeleton")
    texts: ClassVar[tuple[str, ...]] = ()  # the arrays that hold words
    header: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write the artifact whole or not at all.

        Raises:
            ResourceError: the disk is full.
        """
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "header"}
        arrays = {name: np.asarray(value) for name, value in arrays.items() if value is not None}
        text = json.dumps({"kind": self.kind, "schema": SCHEMA, **self.header}, allow_nan=False)
        atomic_write(path, lambda stream: _write_npz(stream, {"header": np.array(text), **arrays}))

    @classmethod
    def load(cls: type[_A], path: Path) -> _A:
        """Read an artifact of this kind.

        Raises:
            InputError: not such an artifact, damaged, or of a newer schema.
        """
        arrays = read_npz(path)
        header = _read_header(arrays.pop("header", None), path)
        kind = header.get("kind", "something else")
        if kind != cls.kind:
            raise InputError(f"{path.name} holds {str(kind)[:40]!r}, not {cls.kind!r}.")
        schema = header.get("schema", 0)
        if not isinstance(schema, int) or schema > SCHEMA:
            text = f"{path.name} has schema {str(schema)[:40]}; this version reads up to {SCHEMA}."
            raise InputError(text, "Update Understudy.")
        missing = [name for name in cls.required_header if name not in header]
        if missing:
            raise InputError(f"{path.name} lacks {', '.join(missing)} in its header.")
        header = {name: value for name, value in header.items() if name not in ("kind", "schema")}
        _check_values(header, {name: array for name, array in arrays.items() if name not in cls.texts}, path.name)
        for name in cls.texts:
            if name in arrays and arrays[name].dtype.kind != "U":
                raise InputError(f"{path.name}: {name} are of type {arrays[name].dtype}, not words.")
        known = {f.name for f in fields(cls)}
        absent = [f.name for f in fields(cls) if f.default is MISSING and f.name not in {"header", *arrays}]
        if absent:
            raise InputError(f"{path.name} lacks {', '.join(absent)}.")
        artifact = cls(header=header, **{name: value for name, value in arrays.items() if name in known})
        artifact.check(path.name)
        return artifact

    def check(self, name: str) -> None:
        """Raise InputError where arrays disagree with each other."""

    def with_header(self: _A, **values: Any) -> _A:
        """Return a copy with header entries replaced."""
        return replace(self, header={**self.header, **values})

    @property
    def fps(self) -> float:
        """Frames per second of the clip."""
        return float(self.header["fps"])


def _write_npz(stream: IO[bytes], arrays: dict[str, Array]) -> None:
    """Write what `numpy.savez` writes, which leaves its archive open where the disk is full."""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


@dataclass(frozen=True)
class Keypoints2D(Artifact):
    """What a detector saw in one view.

    positions (T, J, 2) px, origin at the centre of the top-left pixel, NaN where not seen;
    confidence (T, J) in [0, 1], 0 where not seen; times (T,) seconds from the start of the clip.
    Header adds: joints, image_size [W, H], source (path of the footage or ""), view (name).
    """

    kind: ClassVar[str] = "keypoints_2d"
    required_header: ClassVar[tuple[str, ...]] = (*Artifact.required_header, "joints", "image_size")
    positions: Array
    confidence: Array
    times: Array
    world_m: Array | None = None  # (T, J, 3) the detector's own 3D guess, where it makes one; benchmarks only

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = self.header["image_size"]
        return int(width), int(height)

    def check(self, name: str) -> None:
        _check_keypoints(self, name, 2)


@dataclass(frozen=True)
class Crowd2D(Artifact):
    """Everybody that a detector saw in one view: a row for each person in each frame, ordered by track, then frame.

    frame (R,) int, 0 is the clip's first; track (R,) int: who, as far as this view alone can tell; positions
    (R, J, 2) px and confidence (R, J) as in Keypoints2D; times (T,) seconds of all frames; look (R, D): square roots
    of the colours of the clothes, NaN where a part of them is not seen; world_m (R, J, 3) as in Keypoints2D.
    """

    kind: ClassVar[str] = "crowd_2d"
    required_header: ClassVar[tuple[str, ...]] = (*Artifact.required_header, "joints", "image_size")
    frame: Array
    track: Array
    positions: Array
    confidence: Array
    times: Array
    look: Array | None = None
    world_m: Array | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = self.header["image_size"]
        return int(width), int(height)

    def check(self, name: str) -> None:
        rows, joints, frames = len(self.frame), len(self.header["joints"]), len(self.times)
        shapes = {
            "frame": (rows,), "track": (rows,), "positions": (rows, joints, 2), "confidence": (rows, joints),
            "times": (frames,),
        }  # fmt: skip
        for entry, shape in shapes.items():
            if np.shape(getattr(self, entry)) != shape:
                raise InputError(f"{name}: {entry} has shape {np.shape(getattr(self, entry))}, expected {shape}.")
        if self.look is not None and (self.look.ndim != 2 or len(self.look) != rows):
            raise InputError(f"{name}: look has shape {self.look.shape} for {rows} rows.")
        if rows and not 0 <= self.frame.min() <= self.frame.max() < frames:
            raise InputError(f"{name}: rows of frames outside the {frames} of the clip.")


@dataclass(frozen=True)
class Keypoints3D(Artifact):
    """Keypoints in space, from one camera or several: the same artifact.

    positions (T, J, 3) metres, NaN where unknown; confidence (T, J) in [0, 1];
    validity (T, J) bool: measured (True) rather than guessed; times (T,) seconds.
    error_px (N, T, J) reprojection error of each view before any truncation, NaN where unseen;
    views_used (N, T, J) bool; expected_error_m (T, J): 68 % of the true errors are smaller, NaN where unknown.
    Header adds: joints, cameras (list of `Camera.to_header()`, one per view; for one camera the assumed one),
    sources (list of footage paths, one per view).
    """

    kind: ClassVar[str] = "keypoints_3d"
    required_header: ClassVar[tuple[str, ...]] = (*Artifact.required_header, "joints")
    positions: Array
    confidence: Array
    validity: Array
    times: Array
    error_px: Array | None = None
    views_used: Array | None = None
    expected_error_m: Array | None = None

    def check(self, name: str) -> None:
        _check_keypoints(self, name, 3)
        if self.expected_error_m is not None and self.expected_error_m.shape != self.confidence.shape:
            shape = self.expected_error_m.shape
            raise InputError(f"{name}: expected_error_m has shape {shape}, expected {self.confidence.shape}.")


@dataclass(frozen=True)
class BodyMotion(Artifact):
    """A skeleton with constant bone lengths, moving.

    rotations (T, B, 4) wxyz, local to the bone's rest (Blender's pose-bone basis); root (T, 3) metres, head of
    bone 0 in `frame`; rest (B, 4, 4) rest matrices in armature space (bone along its local +y), metres;
    parents (B,) int, -1 for the root; bone_confidence (T, B); times (T,);
    contacts (T, 4) in [0, 1]: left heel, left toe, right heel, right toe;
    positions (T, J, 3) metres, the keypoints where the skeleton carries them, NaN where no bone does, and
    confidence (T, J), 0 there; rotations_raw, root_raw: before smoothing.
    World transforms follow `core.kinematics.forward`:
    G_0 = [R(rest_0) R(q_0) | root], G_i = G_parent inv(rest_parent) rest_i R(q_i).
    Header adds: bones, joints, lengths_m (per bone), floor_from_frame (4x4 list: artifact frame -> Z up, floor at
    z = 0), cameras and sources as in Keypoints3D.
    """

    kind: ClassVar[str] = "body_motion"
    required_header: ClassVar[tuple[str, ...]] = (*Artifact.required_header, "bones")
    rotations: Array
    root: Array
    rest: Array
    parents: Array
    bone_confidence: Array
    times: Array
    contacts: Array
    positions: Array | None = None
    confidence: Array | None = None
    rotations_raw: Array | None = None
    root_raw: Array | None = None

    def check(self, name: str) -> None:
        count, bones = self.rotations.shape[:2] if self.rotations.ndim == 3 else (0, 0)
        shapes = {
            "rotations": (count, bones, 4), "root": (count, 3), "rest": (bones, 4, 4), "parents": (bones,),
            "bone_confidence": (count, bones), "times": (count,), "contacts": (count, 4),
        }  # fmt: skip
        if self.positions is not None or self.confidence is not None:
            joints = len(self.header.get("joints", ()))
            shapes |= {"positions": (count, joints, 3), "confidence": (count, joints)}
        for entry, shape in shapes.items():
            if np.shape(getattr(self, entry)) != shape:
                raise InputError(f"{name}: {entry} has shape {np.shape(getattr(self, entry))}, expected {shape}.")
        if len(self.header["bones"]) != bones:
            raise InputError(f"{name}: {len(self.header['bones'])} bone names for {bones} bones.")
        for entry in ("rotations", "root", "rest"):
            if not np.isfinite(getattr(self, entry)).all():
                raise InputError(f"{name}: {entry} holds values that are not finite.")


@dataclass(frozen=True)
class FacePoints(Artifact):
    """What a detector saw of one face.

    positions (T, 478, 3): x, y px, origin at the centre of the top-left pixel, and depth px behind the face's middle,
    NaN where no face was seen; presence (T,) in [0, 1]; times (T,) seconds; crops (T, 128, 128) uint8: small grey
    pictures of the face (`face/crop.py`), where they were kept.
    Header adds: image_size, source.
    """

    kind: ClassVar[str] = "face_points"
    required_header: ClassVar[tuple[str, ...]] = ("unit", "frame", "fps", "image_size")
    positions: Array
    presence: Array
    times: Array
    crops: Array | None = None
    crop_side: ClassVar[int] = 128

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = self.header["image_size"]
        return int(width), int(height)

    def check(self, name: str) -> None:
        count = len(self.times)
        for entry, shape in {"positions": (count, 478, 3), "presence": (count,)}.items():
            if np.shape(getattr(self, entry)) != shape:
                raise InputError(f"{name}: {entry} has shape {np.shape(getattr(self, entry))}, expected {shape}.")
        wanted = (count, self.crop_side, self.crop_side)
        if self.crops is not None and (self.crops.shape != wanted or self.crops.dtype != np.uint8):
            raise InputError(f"{name}: crops are {self.crops.shape} {self.crops.dtype}, expected {wanted} uint8.")


@dataclass(frozen=True)
class FaceTrack(Artifact):
    """What a face does: 52 weights, where the head is and where the eyes look.

    weights (T, 52) in [0, 1], in the order of the header's `shapes` (ARKit's names); rotations (T, 4) wxyz and
    positions (T, 3) metres: the head in the camera's frame, whose axes are x right, y away from the camera, z up; the
    head's own are x to its left, y backwards, z up, so that the unit rotation looks into the camera upright, and its
    origin is that of the frame of heads; eyes (T, 2, 4) wxyz: left and right eye in the head, unit looks ahead;
    confidence (T,) in [0, 1], 0 where no face was seen and what is there was held or faded; times (T,) seconds;
    landmarks (T, 478, 3): x, y px, origin at the centre of the top-left pixel, and depth px, NaN where no face was
    seen; visemes (T, 15) in the order of the header's `visemes`; weights_raw, rotations_raw: each frame by itself.
    Header adds: shapes, image_size, source, visemes, camera (`Camera.to_header()`), identity (list of standard
    deviations of the template's modes), neutral (list of 52: what calibration took off).
    """

    kind: ClassVar[str] = "face_track"
    required_header: ClassVar[tuple[str, ...]] = ("unit", "frame", "fps", "shapes")
    weights: Array
    rotations: Array
    positions: Array
    eyes: Array
    confidence: Array
    times: Array
    landmarks: Array | None = None
    visemes: Array | None = None
    weights_raw: Array | None = None
    rotations_raw: Array | None = None

    def check(self, name: str) -> None:
        names = self.header["shapes"]
        if not isinstance(names, list) or not names or not all(isinstance(one, str) for one in names):
            raise InputError(f"{name}: its shapes are not a list of names.")
        count, shapes = len(self.times), len(names)
        expected = {
            "weights": (count, shapes), "rotations": (count, 4), "positions": (count, 3), "eyes": (count, 2, 4),
            "confidence": (count,), "times": (count,), "landmarks": (count, 478, 3),
            "visemes": (count, len(self.header.get("visemes", ()))), "weights_raw": (count, shapes),
            "rotations_raw": (count, 4),
        }  # fmt: skip
        for entry, shape in expected.items():
            value = getattr(self, entry)
            if value is None:
                continue
            if np.shape(value) != shape:
                raise InputError(f"{name}: {entry} has shape {np.shape(value)}, expected {shape}.")
            if entry != "landmarks" and not np.isfinite(value).all():
                raise InputError(f"{name}: {entry} holds values that are not finite.")
        if not count:
            raise InputError(f"{name} holds no frame.")


@dataclass(frozen=True)
class PoseDescriptors(Artifact):
    """What a driver does, as descriptors that hold little of whose face it is.

    descriptors (T, D), of the last seen frame where none is seen; frames (T,) int, growing: each one's number in the
    driver; times (T,) seconds; seen (T,) bool: whether it shows a face; crops (T, 3) x, y and side of the square that
    was looked at, px, NaN where there is no picture.
    Header adds: network (what the descriptors belong to), source (path of the driver or "").
    """

    kind: ClassVar[str] = "pose_descriptors"
    required_header: ClassVar[tuple[str, ...]] = ("fps", "network")
    descriptors: Array
    frames: Array
    times: Array
    seen: Array
    crops: Array | None = None

    def check(self, name: str) -> None:
        count = len(self.frames)
        if self.descriptors.ndim != 2 or len(self.descriptors) != count or not count:
            shape = self.descriptors.shape
            raise InputError(f"{name}: descriptors have shape {shape}, expected ({max(count, 1)}, numbers).")
        for entry, shape in {"frames": (count,), "times": (count,), "seen": (count,), "crops": (count, 3)}.items():
            value = getattr(self, entry)
            if value is not None and np.shape(value) != shape:
                raise InputError(f"{name}: {entry} has shape {np.shape(value)}, expected {shape}.")
        for entry in ("descriptors", "times"):
            if not np.isfinite(getattr(self, entry)).all():
                raise InputError(f"{name}: {entry} holds values that are not finite.")
        if self.frames.dtype.kind not in "iu" or (np.diff(self.frames) <= 0).any() or self.frames[0] < 0:
            raise InputError(f"{name}: its frames are not whole numbers that grow.")


@dataclass(frozen=True)
class HeadSurface(Artifact):
    """A head with its hair as one dense closed surface.

    vertices (V, 3) float32 metres in the frame of heads (`head.frame`); faces (F, 3) int32; colors (V, 3) uint8 sRGB;
    normals (V, 3) float32, of length 1, outwards.
    Header adds: scale (true metres in a metre of the frame).
    """

    kind: ClassVar[str] = "head_surface"
    required_header: ClassVar[tuple[str, ...]] = ("unit", "frame")
    vertices: Array
    faces: Array
    colors: Array
    normals: Array

    def check(self, name: str) -> None:
        vertices, faces = len(self.vertices), len(self.faces)
        shapes = {"vertices": (vertices, 3), "faces": (faces, 3), "colors": (vertices, 3), "normals": (vertices, 3)}
        _check_mesh(self, name, shapes)

    def placed(self, neck: Sequence[float]) -> HeadSurface:
        """The same in true metres with `neck` (3,) of the frame at the origin."""
        scale = np.float32(self.header.get("scale", 1.0))
        return replace(self, vertices=(self.vertices - np.array(neck, np.float32)) * scale).with_header(scale=1.0)


@dataclass(frozen=True)
class HeadMesh(Artifact):
    """A head, or a body with it, in a clean topology that can be animated.

    vertices (V, 3) float32 metres in the frame of heads (`head.frame`); faces (F, 4) int32, quads, or triangles whose
    last corner is -1; uv (F, 4, 2) float32 of each corner, v up; face_part (F,) int32 into the header's `parts`;
    shape_keys (S, V, 3) float32 metres, offsets from `vertices`; shape_key_names (S,) text;
    neck_loop (N,) int32: vertices of the open border at the neck, in order, none where a body follows; posed (V, 3):
    with the expression of the photographs, as it lies on the dense surface, where `vertices` are neutral.
    Header adds: parts (names: "skin", "eye.L", "eye.R", "teeth", "tongue" and the like), neck ([x, y, z]: where the
    origin of the object belongs, same frame), scale (true metres in a metre of the frame).
    """

    kind: ClassVar[str] = "head_mesh"
    required_header: ClassVar[tuple[str, ...]] = ("unit", "frame", "parts", "neck")
    texts: ClassVar[tuple[str, ...]] = ("shape_key_names",)
    vertices: Array
    faces: Array
    uv: Array
    face_part: Array
    shape_keys: Array
    shape_key_names: Array
    neck_loop: Array | None = None
    posed: Array | None = None

    def check(self, name: str) -> None:
        vertices, faces, keys = len(self.vertices), len(self.faces), len(self.shape_keys)
        shapes = {
            "vertices": (vertices, 3), "faces": (faces, 4), "uv": (faces, 4, 2), "face_part": (faces,),
            "shape_keys": (keys, vertices, 3), "shape_key_names": (keys,),
        }  # fmt: skip
        if self.posed is not None:
            shapes["posed"] = (vertices, 3)
        _check_mesh(self, name, shapes)
        parts, neck = self.header["parts"], self.header["neck"]
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise InputError(f"{name}: its parts are not a list of names.")
        if not isinstance(neck, list) or len(neck) != 3 or not np.isfinite(np.array(neck, float)).all():
            raise InputError(f"{name}: its neck is at {str(neck)[:40]}.")
        if not 0 <= self.face_part.min() <= self.face_part.max() < len(parts):
            raise InputError(f"{name}: faces of parts outside the {len(parts)} that are named.")
        if self.neck_loop is not None and self.neck_loop.size:
            loop = self.neck_loop
            if loop.ndim != 1 or not 0 <= loop.min() <= loop.max() < vertices:
                raise InputError(f"{name}: its neck is made of vertices that are not there.")

    def placed(self) -> HeadMesh:
        """The same in true metres with the neck at the origin: as objects stand in a scene."""
        neck, scale = np.array(self.header["neck"], np.float32), np.float32(self.header.get("scale", 1.0))
        vertices, shape_keys = (self.vertices - neck) * scale, self.shape_keys * scale
        posed = None if self.posed is None else (self.posed - neck) * scale
        placed = replace(self, vertices=vertices, shape_keys=shape_keys, posed=posed)
        return placed.with_header(neck=[0.0, 0.0, 0.0], scale=1.0)


@dataclass(frozen=True)
class BodyParameters(Artifact):
    """A parametric body in motion: one shape a clip, one pose a frame.

    pose (T, B, 4) wxyz: each bone's turn from the rest pose, in the axes of the model's rest pose (x to the person's
    left, y backwards, z up), local to its parent: global turns are G_0 = pose_0, G_i = G_parent pose_i, and the root's
    takes the rest axes to `frame`; root (T, 3) metres, head of bone 0 in `frame`; shape (S,) values of the header's
    `shape_names`, what is not named has its default; confidence (T,) in [0, 1], 0 where the pose is only held;
    times (T,); camera (T, 3): weak perspective s, tx, ty of the crop that was read, u = s (x + tx), v = s (y + ty) in
    [-1, 1]; silhouette_iou (T,) against the person's mask, NaN where there was none.
    Header adds: bones, shape_names, model ("anny" or the name of a file), floor_from_frame (4x4 list), cameras and
    sources as in Keypoints3D, image_size, start, clips as in Keypoints3D.
    """

    kind: ClassVar[str] = "body_parameters"
    required_header: ClassVar[tuple[str, ...]] = (*Artifact.required_header, "bones", "shape_names", "model")
    pose: Array
    root: Array
    shape: Array
    confidence: Array
    times: Array
    camera: Array | None = None
    silhouette_iou: Array | None = None

    def check(self, name: str) -> None:
        count, bones = self.pose.shape[:2] if self.pose.ndim == 3 else (0, 0)
        if not count:
            raise InputError(f"{name}: pose has shape {self.pose.shape}, expected (frames, bones, 4).")
        shapes = {
            "pose": (count, bones, 4), "root": (count, 3), "shape": (len(self.header["shape_names"]),),
            "confidence": (count,), "times": (count,),
        }  # fmt: skip
        if self.camera is not None:
            shapes["camera"] = (count, 3)
        if self.silhouette_iou is not None:
            shapes["silhouette_iou"] = (count,)
        for entry, shape in shapes.items():
            if np.shape(getattr(self, entry)) != shape:
                raise InputError(f"{name}: {entry} has shape {np.shape(getattr(self, entry))}, expected {shape}.")
        if len(self.header["bones"]) != bones:
            raise InputError(f"{name}: {len(self.header['bones'])} bone names for {bones} bones.")
        for entry in ("pose", "root", "shape", "confidence"):
            if not np.isfinite(getattr(self, entry)).all():
                raise InputError(f"{name}: {entry} holds values that are not finite.")


@dataclass(frozen=True)
class Coaching(Artifact):
    """A trainee beside a trainer who does the same: in step, in place, joint by joint.

    times (T,): of the trainee; match (T,) float: the trainer's frame of each; angles, goal (T, J) degrees: what a joint
    shows of the trainee and of the trainer (how far it is bent, or from its place at rest); difference (T, J) degrees:
    between the two, at least 0; pose (T, B, 4) and root (T, 3): the trainer's motion in the trainee's place, as in
    BodyParameters, on the trainee's body; places (T, J, 3) metres: of the trainee's joints; confidence (T,) of both.
    Header adds: joints, joint_bones (the bones that belong to each), bones, tolerance_deg, worst_deg, floor_from_frame,
    trainee and trainer (their jobs' parameters).
    """

    kind: ClassVar[str] = "coaching"
    required_header: ClassVar[tuple[str, ...]] = (
        *Artifact.required_header, "joints", "joint_bones", "bones", "tolerance_deg", "worst_deg",
    )  # fmt: skip
    times: Array
    match: Array
    angles: Array
    goal: Array
    difference: Array
    pose: Array
    root: Array
    places: Array
    confidence: Array

    def check(self, name: str) -> None:
        count, joints, bones = len(self.times), len(self.header["joints"]), len(self.header["bones"])
        shapes = {
            "match": (count,), "angles": (count, joints), "goal": (count, joints), "difference": (count, joints),
            "pose": (count, bones, 4), "root": (count, 3), "places": (count, joints, 3), "confidence": (count,),
        }  # fmt: skip
        for entry, shape in shapes.items():
            if np.shape(getattr(self, entry)) != shape or not count:
                raise InputError(f"{name}: {entry} has shape {np.shape(getattr(self, entry))}, expected {shape}.")
            if not np.isfinite(getattr(self, entry)).all():
                raise InputError(f"{name}: {entry} holds values that are not finite.")


@dataclass(frozen=True)
class BodyMesh(Artifact):
    """A person's body at rest, skinned to its bones: x to the person's left, y backwards, z up.

    vertices (V, 3) float32 metres; faces (F, 4) int32, quads, or triangles whose last corner is -1; uv (F, 4, 2) of
    each corner, v up; bone_index (V, K) int32 and bone_weight (V, K), which sums to 1; parents (B,) int32, -1 for the
    root; heads, tails (B, 3) metres; rolls (B, 3): direction of each bone's x axis; shape_keys (E, V, 3) float32
    offsets of expressions, shape_key_names (E,); parameter_keys (P, V, 3): what each of parameter_names (P,) does to
    this body, with parameter_heads and parameter_tails (P, B, 3), the joints that go with it.
    Header adds: bones, shape (name: value), measures_m (name: metres).
    """

    kind: ClassVar[str] = "body_mesh"
    required_header: ClassVar[tuple[str, ...]] = ("unit", "frame", "bones")
    texts: ClassVar[tuple[str, ...]] = ("shape_key_names", "parameter_names")
    vertices: Array
    faces: Array
    uv: Array
    bone_index: Array
    bone_weight: Array
    parents: Array
    heads: Array
    tails: Array
    rolls: Array
    shape_keys: Array
    shape_key_names: Array
    parameter_keys: Array
    parameter_names: Array
    parameter_heads: Array
    parameter_tails: Array

    def check(self, name: str) -> None:
        vertices, faces, bones = len(self.vertices), len(self.faces), len(self.header["bones"])
        keys, parameters = len(self.shape_keys), len(self.parameter_keys)
        slots = self.bone_index.shape[-1]
        shapes = {
            "vertices": (vertices, 3), "faces": (faces, 4), "uv": (faces, 4, 2), "bone_index": (vertices, slots),
            "bone_weight": (vertices, slots), "parents": (bones,), "heads": (bones, 3), "tails": (bones, 3),
            "rolls": (bones, 3), "shape_keys": (keys, vertices, 3), "shape_key_names": (keys,),
            "parameter_keys": (parameters, vertices, 3), "parameter_names": (parameters,),
            "parameter_heads": (parameters, bones, 3), "parameter_tails": (parameters, bones, 3),
        }  # fmt: skip
        _check_mesh(self, name, shapes)
        if not bones or self.parents[0] >= 0 or not all(0 <= p < i for i, p in enumerate(self.parents) if i):
            raise InputError(f"{name}: its {bones} bones do not hang on one root.")
        if not 0 <= self.bone_index.min() <= self.bone_index.max() < bones:
            raise InputError(f"{name}: vertices follow bones outside the {bones} there are.")


def _check_mesh(mesh: Any, name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise InputError where arrays are not of these shapes, not finite, or faces have no or unknown vertices."""
    for entry, shape in shapes.items():
        if np.shape(getattr(mesh, entry)) != shape:
            raise InputError(f"{name}: {entry} has shape {np.shape(getattr(mesh, entry))}, expected {shape}.")
    for entry in shapes:
        array = getattr(mesh, entry)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{name}: {entry} holds values that are not finite.")
    faces, count = mesh.faces, len(mesh.vertices)
    if not len(faces) or faces.dtype.kind not in "iu":
        raise InputError(f"{name} holds no faces: {len(faces)} of type {faces.dtype}.")
    if faces[:, :3].min() < 0 or faces.min() < -1 or faces.max() >= count:
        raise InputError(f"{name}: faces of vertices outside the {count} there are.")
    scale = mesh.header.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0.1 < scale < 10:
        raise InputError(f"{name} claims a scale of {str(scale)[:40]}.")


def _check_values(header: dict[str, Any], arrays: dict[str, Array], name: str) -> None:
    """Raise InputError where header entries or arrays are not of the kind that their readers take for granted."""
    fps, size = header.get("fps", 1), header.get("image_size", [1, 1])
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps < MAX_FPS:
        raise InputError(f"{name} claims {str(fps)[:40]} frames a second.")
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and 0 < side < 65536 for side in size):
        raise InputError(f"{name} claims images of {str(size)[:40]} px.")
    for entry in ("joints", "bones"):
        names = header.get(entry, [])
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise InputError(f"{name}: its {entry} are not a list of names.")
    for entry, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise InputError(f"{name}: {entry} are of type {array.dtype}, not numbers.")


def _check_keypoints(artifact: Any, name: str, size: int) -> None:
    frames, joints = artifact.positions.shape[:2] if artifact.positions.ndim == 3 else (0, 0)
    if artifact.positions.shape != (frames, joints, size) or not frames:
        raise InputError(f"{name}: positions have shape {artifact.positions.shape}, expected (frames, joints, {size}).")
    if artifact.confidence.shape != (frames, joints):
        raise InputError(f"{name}: confidence has shape {artifact.confidence.shape}, expected {(frames, joints)}.")
    if artifact.times.shape != (frames,):
        raise InputError(f"{name}: times have shape {artifact.times.shape}, expected {(frames,)}.")
    if len(artifact.header["joints"]) != joints:
        raise InputError(f"{name}: {len(artifact.header['joints'])} joint names for {joints} joints.")


def _read_header(entry: Array | None, path: Path) -> dict[str, Any]:
    if entry is None or entry.dtype.kind != "U" or entry.shape != ():
        raise InputError(f"{path.name} has no header: it is not an Understudy artifact.")
    try:
        header = json.loads(str(entry))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name}: its header is not JSON.") from error
    if not isinstance(header, dict):
        raise InputError(f"{path.name}: its header is not a JSON object.")
    return header


def first_line(error: BaseException) -> str:
    """Give the sentence of a library's error without its advice."""
    return str(error).partition("\n")[0][:160]


def check_npz(path: Path) -> None:
    """Look at what an .npz claims, before anything of it is unpacked.

    Raises:
        InputError: larger than 8 GiB unpacked, more than 10,000 arrays, or packed as no numbers of a capture are.
        OSError, BadZipFile and the like: as `UNREADABLE`.
    """
    with zipfile.ZipFile(path) as archive:
        infos, size = archive.infolist(), path.stat().st_size
    total = sum(info.file_size for info in infos)
    if total > MAX_ARTIFACT_BYTES:
        raise InputError(f"{path.name} claims {total / 2**30:.1f} GiB; at most 8 are read.")
    if len(infos) > MAX_ARRAYS or (total > PACKED_BYTES and total > MAX_RATIO * size):
        claim = f"{len(infos):,} arrays of {total / 2**20:,.0f} MiB"
        raise InputError(f"{path.name} ({size / 2**20:.1f} MiB) claims {claim}; no capture packs so well.")


def read_npz(path: Path) -> dict[str, Array]:
    """Load every array of an .npz without pickle, refusing sizes that no capture has.

    Raises:
        InputError: missing, damaged, or larger than 8 GiB unpacked.
    """
    try:
        check_npz(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except UNREADABLE as error:
        raise InputError(f"{path.name} is not a readable .npz file: {first_line(error)}") from error
