"""Calibrations in YAML and OpenCV's XML: OpenCV itself, EasyMocap, ROS camera_info.

OpenCV's FileStorage, as its samples write it: one camera with `camera_matrix` and `distortion_coefficients`, or a
stereo pair with `M1 D1 M2 D2 R T` (also `K1`, `cameraMatrix1`) in one file or in intrinsics and extrinsics side by
side. R and T take points of the first camera into the second, in the unit of the board, which stands nowhere: how far
the cameras are apart decides, and a note says so. The world is the first camera's, taken as level: Z up, y forward.

EasyMocap: `intri.yml` with K_, dist_ and sometimes H_, W_ of each name; `extri.yml` with R_ (Rodrigues), Rot_ (matrix)
and T_, from world to camera, Z up, in the unit of its board (metres in its documents). Without H_ and W_ the size of
the image is taken for twice the principal point, and a note says so.

ROS: one camera_info file a camera, metres (REP 103), OpenCV's axes. Poses come from a `transform` (translation and
rotation x y z w of the camera in the world, as tf gives them), or, of a rectified stereo pair, from the projection
matrices (CameraInfo.msg: P[0, 3] = -fx * baseline), the world then being the rectified left camera's, taken as level.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.errors import InputError
from ...protocol.files import atomic_write_text
from ..cameras import Camera, CameraSet
from ..rotations import matrix_from_quaternion, quaternion_from_matrix, rotvec_from_matrix
from .camera_parts import Z_UP_FROM_Y_DOWN, Given, five, metres_of, moved_world, numbers, rescaled, rig
from .plain_xml import Node, parse_xml
from .text import read_bytes, read_text
from .yaml_subset import parse_yaml

Array = np.ndarray
MAX_YAML_BYTES = 1 << 20
_STEREO = (("M1", "D1", "M2", "D2"), ("K1", "D1", "K2", "D2"),
           ("cameraMatrix1", "distCoeffs1", "cameraMatrix2", "distCoeffs2"))  # fmt: skip
_SINGLE = (("camera_matrix", "distortion_coefficients"), ("cameraMatrix", "distCoeffs"), ("Camera_Matrix",
           "Distortion_Coefficients"), ("K", "D"))  # fmt: skip
_SIZES = (("image_width", "image_height"), ("image_Width", "image_Height"), ("width", "height"))
_LENSES = {"plumb_bob": 5, "radtan": 5, "rational_polynomial": 8, "equidistant": 4, "fisheye": 4, "none": 0, "": 0}
_ANY_LENS = np.array([[1000.0, 0.0, 500.0], [0.0, 1000.0, 500.0], [0.0, 0.0, 1.0]])
_FISHEYES = {"equidistant", "fisheye"}


def read_storage(path: Path) -> dict[str, Any]:
    """Read a file of YAML or of OpenCV's XML as a dictionary.

    Raises:
        InputError: too large, damaged, or not a dictionary.
    """
    content = read_bytes(path, MAX_YAML_BYTES)
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        document = _from_xml(parse_xml(content, path.name))
    else:
        document = parse_yaml(read_text(path, MAX_YAML_BYTES).replace("\t", "    "), path.name)
    if not isinstance(document, dict):
        raise InputError(f"{path.name} holds no names with values.")
    return document


def read_yaml_rig(path: Path, document: dict[str, Any]) -> CameraSet:
    """Tell EasyMocap, ROS and OpenCV apart by their keys and read one.

    Raises:
        InputError: none of them.
    """
    if "names" in document:
        return read_easymocap(path.parent)
    if _stereo_keys(document) or ("R" in document and "T" in document):
        return _stereo(path, document)
    if any(key in document for key in ("transform", "projection_matrix", "distortion_model", "camera_name")):
        return read_ros([path])
    keys = next((keys for keys in _SINGLE if keys[0] in document), None)
    if keys is None:
        raise InputError(f"{path.name} holds {', '.join(map(str, document))[:80] or 'nothing'}, and no camera.")
    return rig(path, [_level(_alone(path, document, keys))], [_no_pose(path)])


def read_easymocap(folder: Path) -> CameraSet:
    """Read intri.yml and extri.yml of a folder.

    Raises:
        InputError: one is missing, or they do not fit together.
    """
    inner, outer = (read_storage(folder / name) for name in ("intri.yml", "extri.yml"))
    names = inner.get("names")
    if not isinstance(names, list) or not names:
        raise InputError(f"{folder.name}/intri.yml names no cameras.")
    cameras, guessed = [], []
    for name in map(_named, names):
        where = f"{folder.name}, camera {name[:60]}"
        turn = outer.get(f"Rot_{name}", outer.get(f"R_{name}"))
        size = [inner.get(f"W_{name}"), inner.get(f"H_{name}")]
        if None in size:
            guessed.append(name)
        cameras.append(
            Given(
                where,
                name,
                None if None in size else size,
                _matrix(inner.get(f"K_{name}")),
                _matrix(turn),
                _matrix(outer.get(f"T_{name}")),
                distortion=_matrix(inner.get(f"dist_{name}", inner.get(f"D_{name}", ()))),
            ).camera()
        )
    metres, note = metres_of(folder, np.stack([camera.centre for camera in cameras]))
    notes = [note]
    if guessed:
        first = cameras[[camera.name for camera in cameras].index(guessed[0])]
        notes.append(
            f"{folder.name} does not say the size of the images of {', '.join(guessed)[:100]}: twice the principal "
            f"point is taken, {first.size[0]} x {first.size[1]} px for {guessed[0][:60]}."
        )
    return rig(folder, [rescaled(camera, metres) for camera in cameras], notes)


def read_ros(paths: Sequence[Path]) -> CameraSet:
    """Read camera_info files, one camera each.

    Raises:
        InputError: one is none, or several have no poses.
    """
    read = [_ros(path) for path in paths]
    notes = []
    unknown = [camera.name for camera, posed in read if not posed]
    if unknown and len(read) > 1:
        raise InputError(
            f"{', '.join(unknown)[:200]} say nothing of where the cameras stand.",
            "Add `transform:` with translation [x, y, z] and rotation [x, y, z, w] of the camera in the world.",
        )
    if unknown:
        notes.append(_no_pose(paths[0]))
    return rig(paths[0].parent if len(paths) > 1 else paths[0], [camera for camera, _ in read], notes)


def write_easymocap(folder: Path, cameras: CameraSet) -> None:
    """Write intri.yml and extri.yml into a folder.

    Raises:
        InputError: a lens or a name that they cannot hold.
    """
    inner, outer = [_names_text(cameras)], [_names_text(cameras)]
    for camera in cameras:
        _check_name(camera, "EasyMocap")
        name = camera.name
        inner.append(_matrix_text(f"K_{name}", camera.matrix))
        inner.append(_matrix_text(f"dist_{name}", five(camera, "EasyMocap")))
        inner.append(f"H_{name}: {camera.size[1]}\nW_{name}: {camera.size[0]}\n")
        outer.append(_matrix_text(f"R_{name}", rotvec_from_matrix(camera.rotation)[:, None]))
        outer.append(_matrix_text(f"Rot_{name}", camera.rotation))
        outer.append(_matrix_text(f"T_{name}", camera.translation[:, None]))
    for name, parts in (("intri.yml", inner), ("extri.yml", outer)):
        atomic_write_text(folder / name, "%YAML:1.0\n---\n" + "".join(parts))


def write_opencv(path: Path, cameras: CameraSet) -> None:
    """Write a stereo pair as OpenCV's samples do, or one camera; R and T in metres, from the first to the second.

    Raises:
        InputError: more than two cameras.
    """
    if len(cameras) > 2:
        raise InputError(f"OpenCV's file holds one camera or a pair, not {len(cameras)}.", "Write aniposelib's style.")
    first, last = cameras[0], cameras[len(cameras) - 1]
    if len(cameras) == 2 and (first.fisheye != last.fisheye or first.size != last.size):
        raise InputError(f"{first.name} and {last.name} differ in size or lens, which OpenCV's file cannot hold.")
    text = f"image_width: {first.size[0]}\nimage_height: {first.size[1]}\nfisheye_model: {int(first.fisheye)}\n"
    if len(cameras) == 1:
        text += _matrix_text("camera_matrix", first.matrix) + _matrix_text("distortion_coefficients", first.distortion)
    else:
        for number, camera in enumerate(cameras, 1):
            text += _matrix_text(f"M{number}", camera.matrix) + _matrix_text(f"D{number}", camera.distortion)
        turn = last.rotation @ first.rotation.T
        text += _matrix_text("R", turn) + _matrix_text("T", (last.translation - turn @ first.translation)[:, None])
    atomic_write_text(path, "%YAML:1.0\n---\n" + text)


def write_ros(folder: Path, cameras: CameraSet) -> None:
    """Write a camera_info file for each camera, with the camera's pose in the world as `transform`.

    Raises:
        InputError: a lens or a name that it cannot hold.
    """
    for camera in cameras:
        _check_name(camera, "A file of ROS")
    for camera in cameras:
        atomic_write_text(folder / f"{camera.name}.yaml", _ros_text(camera))


def _stereo_keys(document: dict[str, Any]) -> tuple[str, ...] | None:
    return next((keys for keys in _STEREO if keys[0] in document and keys[2] in document), None)


def _stereo(path: Path, document: dict[str, Any]) -> CameraSet:
    """Read a pair; where half of it stands in another file beside this one, that as well."""
    keys = _stereo_keys(document)
    if keys is None or "R" not in document or "T" not in document:
        for other in sorted(path.parent.glob("*.yml")) + sorted(path.parent.glob("*.xml")):
            stem = other.stem.lower()
            if other != path and stem.startswith(("intrinsic", "extrinsic")):
                document = {**read_storage(other), **document}
                break
        keys = _stereo_keys(document)
    if keys is None or "R" not in document or "T" not in document:
        missing = "cameras" if keys is None else "R or T"
        raise InputError(f"{path.name} is half of a stereo calibration: no {missing} in it or beside it.")
    where = f"{path.name}, R and T"
    second = Given(where, "", None, _ANY_LENS, _matrix(document["R"]), _matrix(document["T"])).camera()
    cameras = [
        _alone(path, document, keys[:2], "1"),
        replace(_alone(path, document, keys[2:], "2"), rotation=second.rotation, translation=second.translation),
    ]
    metres, note = metres_of(path, np.stack([camera.centre for camera in cameras]))
    notes = [note, f"{path.name}: the world is the first camera's, taken as level; where the floor is, is not known."]
    if _size(document) is None:
        notes.append(f"{path.name} does not say the size of the images: twice the principal point is taken.")
    return rig(path, [_level(rescaled(camera, metres)) for camera in cameras], notes)


def _alone(path: Path, document: dict[str, Any], keys: Sequence[str], number: str = "") -> Camera:
    """Read one camera's lens; it stands at the origin."""
    return Given(
        f"{path.name}, {keys[0]}",
        f"{path.stem}_{number}" if number else path.stem,
        _size(document),
        _matrix(document[keys[0]]),
        np.eye(3),
        np.zeros(3),
        distortion=_matrix(document.get(keys[1], ())),
        fisheye=document.get("fisheye_model", 0) in (1, True, "1"),
    ).camera()


def _ros(path: Path) -> tuple[Camera, bool]:
    document = read_storage(path)
    if "K" in document and "camera_matrix" not in document:  # the message as it is printed
        printed = {"camera_matrix": "K", "distortion_coefficients": "D", "rectification_matrix": "R",
                   "projection_matrix": "P"}  # fmt: skip
        document = document | {ours: document[theirs] for ours, theirs in printed.items() if theirs in document}
    name = str(document.get("camera_name") or path.stem)
    where = f"{path.name}, camera {name[:60]}"
    model = str(document.get("distortion_model", "plumb_bob")).lower()
    if model not in _LENSES:
        raise InputError(f"{where} has the lens {model[:40]!r}; known are {', '.join(filter(None, _LENSES))}.")
    camera = Given(
        where,
        name,
        _size(document),
        _matrix(document.get("camera_matrix")),
        np.eye(3),
        np.zeros(3),
        distortion=_matrix(document.get("distortion_coefficients", ())),
        fisheye=model in _FISHEYES,
    ).camera()
    pose = next((document[key] for key in ("transform", "tf", "extrinsics") if key in document), None)
    if pose is not None:
        return _posed(where, camera, pose), True
    if document.get("projection_matrix") is None or document.get("rectification_matrix") is None:
        return _level(camera), False
    projection = numbers(where, "projection_matrix", _matrix(document["projection_matrix"]), (3, 4))
    rectified = (
        Given(where, name, _size(document), camera.matrix, _matrix(document["rectification_matrix"]), np.zeros(3))
        .camera()
        .rotation
    )
    focal = np.where(np.diag(projection) > 0, np.diag(projection), 1.0)
    aside = np.array([projection[0, 3] / focal[0], projection[1, 3] / focal[1], 0.0])
    posed = replace(camera, rotation=rectified.T, translation=rectified.T @ aside)
    return _level(posed), bool(np.any(aside)) or not np.allclose(rectified, np.eye(3))


def _posed(where: str, camera: Camera, pose: Any) -> Camera:
    """Apply tf's translation and rotation, which take the camera into the world."""
    place, turn = (pose.get(key) for key in ("translation", "rotation")) if isinstance(pose, dict) else (None, None)
    if isinstance(place, dict):
        place = [place.get(axis) for axis in "xyz"]
    if isinstance(turn, dict):
        turn = [turn.get(axis) for axis in "xyzw"]
    x, y, z, w = numbers(where, "transform's rotation", turn, (4,))
    length = float(np.linalg.norm([w, x, y, z]))
    if abs(length - 1) > 0.01:
        raise InputError(f"{where}: the quaternion of its transform has length {length:.3g}, not 1.")
    rotation = matrix_from_quaternion(np.array([w, x, y, z]) / length).T
    centre = numbers(where, "transform's translation", place, (3,))
    return replace(camera, rotation=rotation, translation=-rotation @ centre)


def _level(camera: Camera) -> Camera:
    return moved_world(camera, Z_UP_FROM_Y_DOWN)


def _no_pose(path: Path) -> str:
    return f"{path.name} says nothing of where the camera stands."


def _size(document: dict[str, Any]) -> list[Any] | None:
    for wide, high in _SIZES:
        if document.get(wide) and document.get(high):
            return [document[wide], document[high]]
    for key in ("image_size", "imageSize", "size"):
        if isinstance(document.get(key), list):
            return document[key]
    return None


def _matrix(value: Any) -> Any:
    """Give the numbers of a matrix as OpenCV and ROS write it, in its shape, or of a list as it is."""
    if not isinstance(value, dict):
        return value
    rows, columns, data = value.get("rows"), value.get("cols"), value.get("data")
    if isinstance(data, str):
        data = [_float(word) for word in data.split()]
    if not isinstance(data, list) or type(rows) is not int or type(columns) is not int or rows * columns != len(data):
        return [None]  # refused by who wants its numbers
    return data


def _float(word: str) -> Any:
    try:
        return float(word[:64])
    except ValueError:
        return word


def _named(value: Any) -> str:
    return str(value)


def _from_xml(root: Node) -> dict[str, Any]:
    if root.tag != "opencv_storage":
        raise InputError(f"<{root.tag[:40]}> is not a calibration that is known.")
    return {node.tag: _xml_value(node) for node in root.children}


def _xml_value(node: Node) -> Any:
    if node.children and all(child.tag == "_" for child in node.children):
        return [_xml_value(child) for child in node.children]
    if node.children:
        return {child.tag: child.text if child.tag == "data" else _xml_value(child) for child in node.children}
    text = node.text.strip().strip('"')
    number = _float(text)
    return int(number) if isinstance(number, float) and number.is_integer() and "." not in text else number


def _check_name(camera: Camera, who: str) -> None:
    if not re.fullmatch("[A-Za-z0-9_-]+", camera.name):
        raise InputError(f"{who} cannot hold the name {camera.name[:60]!r}.", "Use letters, digits, _ and -.")


def _names_text(cameras: Iterable[Camera]) -> str:
    return "names:\n" + "".join(f'  - "{camera.name}"\n' for camera in cameras)


def _matrix_text(key: str, values: Array) -> str:
    table = np.atleast_2d(np.asarray(values, float))
    data = ", ".join(repr(float(value)) for value in table.ravel())
    rows, columns = table.shape
    return f"{key}: !!opencv-matrix\n   rows: {rows}\n   cols: {columns}\n   dt: d\n   data: [ {data} ]\n"


def _ros_text(camera: Camera) -> str:
    lens = np.asarray(camera.distortion, float)
    if len(lens) > 8:
        raise InputError(f"{camera.name} has a lens of {len(lens)} coefficients, which ROS cannot hold.")
    model = "equidistant" if camera.fisheye else "plumb_bob" if len(lens) <= 5 else "rational_polynomial"
    matrices = {
        "camera_matrix": camera.matrix,
        "distortion_coefficients": lens[None],
        "rectification_matrix": np.eye(3),
        "projection_matrix": np.concatenate([camera.matrix, np.zeros((3, 1))], 1),
    }
    w, x, y, z = (float(value) for value in quaternion_from_matrix(camera.rotation.T))
    text = f"image_width: {camera.size[0]}\nimage_height: {camera.size[1]}\ncamera_name: {camera.name}\n"
    text += f"distortion_model: {model}\n"
    for key, values in matrices.items():
        data = ", ".join(repr(float(value)) for value in values.ravel())
        text += f"{key}:\n  rows: {values.shape[0]}\n  cols: {values.shape[1]}\n  data: [{data}]\n"
    place = ", ".join(repr(float(value)) for value in camera.centre)
    return text + f"transform:\n  translation: [{place}]\n  rotation: [{x!r}, {y!r}, {z!r}, {w!r}]\n"
