"""Calibrations in XML: Qualisys (.qca.txt, and Theia's form of it) and Vicon (.xcp).

Qualisys, checked against Pose2Sim's reader and a file of QTM: lengths in millimetres, Z up; `transform` holds the
camera's centre and, row by row, its axes in the world (x right, y up, z backwards); focal lengths and centre in 1/64
pixel of the whole sensor, of which `fov_video` is the part in the film. The distortions are OpenCV's own numbers
(Pose2Sim divides them by 64 and loses them; QTM's values are those of a normalised image). Theia writes the same
elements in whole pixels with the transform from world to camera (its own documentation); the sensor's size tells them
apart. Whether QTM counts from the middle or the corner of a pixel stands nowhere: half a pixel is not settled.

Vicon, by its document on XCP files and three readers that agree: `ORIENTATION` is the quaternion x y z w from world to
camera, in OpenCV's axes, `POSITION` the centre in millimetres, `VICON_RADIAL2` ends with k1 k2 k3. As recalled, Vicon
applies them to what it sees and OpenCV to what it expects, so that they are an approximation for strong lenses. A film
that was turned upside down while it was converted needs its calibration turned as well; the checks against clips tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from ...protocol.errors import InputError
from ...protocol.files import atomic_write_text
from ..cameras import BLENDER_FROM_OPENCV, Camera, CameraSet
from ..rotations import matrix_from_quaternion, quaternion_from_matrix
from .camera_parts import Given, five, rig
from .plain_xml import Node

Array = np.ndarray
_FLIP = BLENDER_FROM_OPENCV[:3, :3]  # QTM's camera has Blender's axes
_SUBPIXELS = 64.0
_WIDEST_IN_PIXELS = 16384  # a larger sensor is one counted in 1/64 pixel
_ROWS = [f"r{row}{column}" for row in (1, 2, 3) for column in (1, 2, 3)]


def read_qualisys(path: Path, root: Node) -> CameraSet:
    """Read QTM's or Theia's calibration; where some cameras film, only those.

    Raises:
        InputError: an element is missing or impossible.
    """
    used, notes = _that_film(path, root.all("cameras/camera"), "QTM", _films_of_qualisys)
    turned = [_serial(path, node) for node in used if node.attributes.get("viewrotation", "0") not in ("0", "")]
    if turned:
        notes.append(
            f"{path.name}: QTM shows {', '.join(turned)[:200]} turned (viewrotation); the calibration is of the film "
            "as the sensor sees it."
        )
    return rig(path, [_qualisys(path, node) for node in used], notes)


def _that_film(
    path: Path, found: list[Node], program: str, films: Callable[[Node], bool]
) -> tuple[list[Node], list[str]]:
    """The cameras that film, or all where none does; and what is to be said of the others."""
    if not found:
        raise InputError(f"{path.name} holds no camera.", f"Export the calibration from {program} again.")
    used = [node for node in found if films(node)] or found
    left = len(found) - len(used)
    return used, [f"{path.name}: {left} marker cameras are left out."] if left else []


def _films_of_qualisys(node: Node) -> bool:
    return "video" in node.attributes.get("model", "").lower()


def _films_of_vicon(node: Node) -> bool:
    return "video" in _kind(node) or "vue" in _kind(node)


def read_vicon(path: Path, root: Node) -> CameraSet:
    """Read an XCP file; where some cameras film, only those. Moving cameras are refused.

    Raises:
        InputError: an element is missing or impossible.
    """
    used, notes = _that_film(path, root.all("Camera"), "Vicon", _films_of_vicon)
    cameras = [_vicon(path, node, notes) for node in used]
    if any(np.any(camera.distortion) for camera in cameras):
        notes.append(f"{path.name}: Vicon's lens model is not OpenCV's; its coefficients are used as an approximation.")
    return rig(path, cameras, notes)


def write_qualisys(path: Path, cameras: CameraSet) -> None:
    """Write what QTM writes.

    Raises:
        InputError: a lens that it cannot hold.
    """
    _write(path, "calibration", "cameras", cameras, _qualisys_text)


def write_vicon(path: Path, cameras: CameraSet) -> None:
    """Write an XCP file.

    Raises:
        InputError: a lens that it cannot hold.
    """
    _write(path, "Cameras", "", cameras, _vicon_text)


def _serial(path: Path, node: Node) -> str:
    name = node.attributes.get("serial") or node.attributes.get("name")
    if not name:
        raise InputError(f"{path.name} has a camera without a serial.")
    return name


def _qualisys(path: Path, node: Node) -> Camera:
    name = _serial(path, node)
    where = f"{path.name}, camera {name[:60]}"
    lens, pose, film = (node.first(tag) for tag in ("intrinsic", "transform", "fov_video"))
    if lens is None or pose is None:
        raise InputError(f"{where} has no intrinsic or no transform.")
    sensor = [_value(where, lens, key) for key in ("sensorMinU", "sensorMaxU", "sensorMinV", "sensorMaxV")]
    theia = sensor[1] - sensor[0] <= _WIDEST_IN_PIXELS
    unit = 1.0 if theia else _SUBPIXELS
    left, top = 0.0, 0.0
    size = [(sensor[1] - sensor[0] + 1) / unit, (sensor[3] - sensor[2] + 1) / unit]
    if film is not None:
        left, top, right, bottom = (_value(where, film, key) for key in ("left", "top", "right", "bottom"))
        size = [right - left + 1, bottom - top + 1]
    fx, fy, cx, cy = (_value(where, lens, key) / unit for key in
                      ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV"))  # fmt: skip
    skew = _value(where, lens, "skew", 0.0) / unit
    k1, k2, k3 = (_value(where, lens, f"radialDistortion{i}", 0.0) for i in (1, 2, 3))
    # the elements are called so, misspelt, by QTM itself
    p1, p2 = (_value(where, lens, f"tangentalDistortion{i}", 0.0) for i in (1, 2))
    rows = np.array([_value(where, pose, key) for key in _ROWS]).reshape(3, 3)
    place = np.array([_value(where, pose, key) for key in "xyz"])
    rotation = np.asarray(rows if theia else _FLIP @ rows)
    return Given(
        where,
        name,
        size,
        [[fx, skew, cx - left], [0, fy, cy - top], [0, 0, 1]],
        rotation,
        place if theia else -np.dot(rotation, place),
        distortion=[k1, k2, p1, p2, k3],
        metres=0.001,
    ).camera()


def _kind(node: Node) -> str:
    return " ".join(node.attributes.get(key, "") for key in ("TYPE", "DISPLAY_TYPE")).lower()


def _vicon(path: Path, node: Node, notes: list[str]) -> Camera:
    name = node.attributes.get("DEVICEID", "")
    where = f"{path.name}, camera {name[:60]}"
    frames = node.all("KeyFrames/KeyFrame")
    if not name or len(frames) != 1:
        raise InputError(
            f"{where} has {len(frames)} key frames; cameras must stand still and be calibrated.",
            "Export the calibration of cameras that do not move.",
        )
    key = frames[0]
    x, y, z, w = _row(where, key, "ORIENTATION", 4)
    if abs(np.hypot(np.hypot(x, y), np.hypot(z, w)) - 1) > 0.01:
        raise InputError(f"{where}: its ORIENTATION is no quaternion of length 1.")
    rotation = matrix_from_quaternion(np.array([w, x, y, z]) / np.linalg.norm([w, x, y, z]))
    focal = _row(where, key, "FOCAL_LENGTH", 1)[0]
    aspect = _value(where, node, "PIXEL_ASPECT_RATIO", 1.0)
    cx, cy = _row(where, key, "PRINCIPAL_POINT", 2)
    return Given(
        where,
        name,
        _row(where, node, "SENSOR_SIZE", 2),
        [[focal, _value(where, node, "SKEW", 0.0), cx], [0, focal / aspect if aspect else 0.0, cy], [0, 0, 1]],
        rotation,
        -rotation @ _row(where, key, "POSITION", 3),
        distortion=_vicon_lens(where, key, notes),
        metres=0.001,
    ).camera()


def _vicon_lens(where: str, key: Node, notes: list[str]) -> list[float]:
    """k1 k2 0 0 k3; of the older model, whose radius is in other units, nothing."""
    words = key.attributes.get("VICON_RADIAL2", "").split()
    if len(words) >= 5:
        k1, k2, k3 = (_number(where, "VICON_RADIAL2", word) for word in [*words[3:6], "0"][:3])
        return [k1, k2, 0.0, 0.0, k3]
    if any(_number(where, "VICON_RADIAL", word) for word in key.attributes.get("VICON_RADIAL", "").split()):
        notes.append(f"{where} has only Vicon's older lens model, which is not read: it is taken for straight.")
    return []


def _row(where: str, node: Node, key: str, least: int) -> Array:
    words = node.attributes.get(key, "").split()
    if len(words) < least:
        raise InputError(f"{where}: {key} has {len(words)} numbers, expected {least}.")
    return np.array([_number(where, key, word) for word in words[:least]])


def _value(where: str, node: Node, key: str, otherwise: float | None = None) -> float:
    word = node.attributes.get(key)
    if word is None:
        if otherwise is not None:
            return otherwise
        raise InputError(f"{where}: {key} is missing.")
    return _number(where, key, word)


def _number(where: str, key: str, word: str) -> float:
    try:
        return float(word[:64])
    except ValueError as error:
        raise InputError(f"{where}: {key} holds {word[:40]!r}, which is no number.") from error


def _write(path: Path, outer: str, inner: str, cameras: CameraSet, text: Callable[[Camera], str]) -> None:
    body = "".join(text(camera) for camera in cameras)
    body = f"<{inner}>\n{body}</{inner}>\n" if inner else body
    document = f'<?xml version="1.0" encoding="UTF-8"?>\n<{outer}>\n{body}</{outer}>\n'
    atomic_write_text(path, document)


def _attributes(values: Mapping[str, object]) -> str:
    return " ".join(f"{key}={quoteattr(str(value))}" for key, value in values.items())


def _qualisys_text(camera: Camera) -> str:
    k1, k2, p1, p2, k3 = five(camera, "Qualisys' file")
    width, height = camera.size
    film = {"left": 0, "top": 0, "right": width - 1, "bottom": height - 1}
    scaled = camera.matrix * _SUBPIXELS
    pose = dict(zip([*"xyz", *_ROWS], [*(camera.centre * 1000), *(_FLIP @ camera.rotation).ravel()], strict=True))
    lens = {
        "focallength": "0.000000", "sensorMinU": 0, "sensorMaxU": width * _SUBPIXELS - 1, "sensorMinV": 0,
        "sensorMaxV": height * _SUBPIXELS - 1, "focalLengthU": scaled[0, 0], "focalLengthV": scaled[1, 1],
        "centerPointU": scaled[0, 2], "centerPointV": scaled[1, 2], "skew": scaled[0, 1], "radialDistortion1": k1,
        "radialDistortion2": k2, "radialDistortion3": k3, "tangentalDistortion1": p1, "tangentalDistortion2": p2,
    }  # fmt: skip
    head = {"active": 1, "calibrated": "true", "serial": camera.name, "model": "Video", "viewrotation": 0}
    return (
        f"<camera {_attributes(head | {'avg-residual': '0'})}>\n<fov_video {_attributes(film)}/>\n"
        f"<transform {_attributes(pose)}/>\n<intrinsic {_attributes(lens)}/>\n</camera>\n"
    )


def _vicon_text(camera: Camera) -> str:
    k1, k2, p1, p2, k3 = five(camera, "Vicon's file")
    if p1 or p2:
        raise InputError(
            f"{camera.name} has tangential distortion ({p1:g}, {p2:g}), which Vicon's file cannot hold.",
            "Write Qualisys' or aniposelib's style.",
        )
    matrix = camera.matrix
    w, x, y, z = quaternion_from_matrix(camera.rotation)
    cx, cy = matrix[0, 2], matrix[1, 2]
    head = {
        "DEVICEID": camera.name, "SENSOR_SIZE": f"{camera.size[0]} {camera.size[1]}", "SKEW": matrix[0, 1],
        "PIXEL_ASPECT_RATIO": matrix[0, 0] / matrix[1, 1], "TYPE": "Video", "SYSTEM": "DV",
    }  # fmt: skip
    key = {
        "FRAME": 0, "FOCAL_LENGTH": matrix[0, 0], "PRINCIPAL_POINT": f"{cx} {cy}", "ORIENTATION": f"{x} {y} {z} {w}",
        "POSITION": " ".join(str(value) for value in camera.centre * 1000), "WORLD_ERROR": 0,
        "VICON_RADIAL2": f"ViconRadial2 {cx} {cy} {k1} {k2} {k3}",
    }  # fmt: skip
    return f"<Camera {_attributes(head)}>\n<KeyFrames>\n<KeyFrame {_attributes(key)}/>\n</KeyFrames>\n</Camera>\n"
