"""Calibrations as plain data: OpenCap, BioCV, CMU Panoptic and projection matrices.

OpenCap, checked against its own code and Pose2Sim's reader: a pickle a camera (`intrinsicMat`, `distortion`,
`imageSize` as height and width, `rotation`, `translation` in millimetres, world to camera), read as data and never
unpickled, or the same names in JSON. Its world is that of an upright board: x right, y down, z into the board; it is
turned so that Z is up. A board that lay on the floor gives another world, and the file does not say which it was.

BioCV (.calib), checked against two readers: width, height, 3 x 3 matrix, 3 or 4 rows of [R | t] in millimetres, a line
of k1 k2 p1 p2 k3; Z up; one file a camera, named after it.

CMU Panoptic JSON: `K`, `distCoef` (k1 k2 p1 p2 k3), `R`, `t` in centimetres from a world whose y points down, which is
turned. As recalled from the data set's own page, not checked against it.

Projection matrices: 3 x 4 each, as text (twelve numbers in one or three lines; a line `# name width height` may stand
before each), as JSON ({"name": matrix}), or as NumPy's arrays (N, 3, 4), also of names such as `world_mat_0`. They hold
neither the size of the image nor the unit nor the lens; what is taken instead stands in the notes.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.errors import InputError
from ...protocol.files import atomic_write_text
from ..artifacts import UNREADABLE, first_line
from ..cameras import Camera, CameraSet
from .camera_parts import Z_UP_FROM_Y_DOWN, Given, five, metres_of, moved_world, numbers, rescaled, rig
from .number_pickle import read_number_pickle
from .text import read_bytes

Array = np.ndarray
MAX_DATA_BYTES = 8 << 20
_OPENCAP_TURN = np.diag([-1.0, -1.0, 1.0]) @ Z_UP_FROM_Y_DOWN  # as Pose2Sim turns it: Z up, half a turn about it
_OPENCAP_KEYS = ("intrinsicMat", "rotation", "translation")
_MATRIX_WORDS = 12


def read_opencap(paths: Sequence[Path]) -> CameraSet:
    """Read pickles of OpenCap, one camera each, named after their folders (or files).

    Raises:
        InputError: one holds anything but numbers, or no camera.
    """
    cameras = []
    for path in paths:
        found = read_number_pickle(read_bytes(path, MAX_DATA_BYTES), path.name)
        if not is_opencap(found):
            raise InputError(f"{path.name} holds no camera of OpenCap.")
        generic = path.stem.lower().startswith(("cameraintrinsics", "calib"))
        cameras.append(_opencap(path.parent.name or path.stem if generic else path.stem, path, found))
    return _opencap_rig(paths[0], cameras)


def is_opencap(document: Any) -> bool:
    """Tell whether a dictionary is a camera of OpenCap."""
    return isinstance(document, dict) and all(key in document for key in _OPENCAP_KEYS)


def read_json_rig(path: Path, document: Any) -> CameraSet:
    """Read CMU Panoptic's JSON, OpenCap's names in JSON, or projection matrices.

    Raises:
        InputError: none of them.
    """
    if is_opencap(document):
        return _opencap_rig(path, [_opencap(path.stem, path, document)])
    if isinstance(document, dict) and document and all(is_opencap(value) for value in document.values()):
        return _opencap_rig(path, [_opencap(name, path, value) for name, value in document.items()])
    listed = document.get("cameras") if isinstance(document, dict) else document
    if isinstance(listed, list) and listed and all(isinstance(one, dict) and "K" in one for one in listed):
        return _panoptic(path, listed)
    if isinstance(document, dict):
        matrices = [(str(name), _inner(value), None) for name, value in document.items()]
    elif isinstance(document, list):
        matrices = [(f"cam_{index}", _inner(value), None) for index, value in enumerate(document)]
    else:
        matrices = []
    if matrices and all(isinstance(matrix, list) for _, matrix, _ in matrices):
        return _projections(path, matrices)
    raise InputError(f"{path.name} is JSON, but no calibration that is known.")


def read_biocv(paths: Sequence[Path]) -> CameraSet:
    """Read .calib files, one camera each.

    Raises:
        InputError: one is not of this form.
    """
    cameras = [_biocv(path) for path in paths]
    return rig(paths[0].parent if len(paths) > 1 else paths[0], cameras)


def read_rows(path: Path, text: str) -> CameraSet:
    """Read lines of numbers: BioCV's form, or projection matrices.

    Raises:
        InputError: neither.
    """
    counts = [len(line.split()) for line in text.split("\n") if line.strip() and not line.startswith("#")]
    if counts[:5] in ([1, 1, 3, 3, 3], [2, 3, 3, 3, 4], [2, 3, 3, 3, 3]):
        return read_biocv([path])
    matrices: list[tuple[str, Any, list[float] | None]] = []
    title: list[str] = []
    values: list[float] = []
    for line in text.split("\n"):
        if line.startswith("#"):
            title = line[1:].split()
        elif line.strip():
            values += _floats(path, line)
            if len(values) >= _MATRIX_WORDS:
                name, size = _title(title, len(matrices))
                matrices.append((name, values, size))
                title, values = [], []
    if values or not matrices:
        raise InputError(f"{path.name} holds numbers, but not twelve for each 3 x 4 projection matrix.")
    return _projections(path, matrices)


def read_arrays(path: Path) -> CameraSet:
    """Read projection matrices of a .npy or .npz.

    Raises:
        InputError: damaged, too large, or no matrices.
    """
    content = read_bytes(path, MAX_DATA_BYTES)
    try:
        if content.startswith(b"\x93NUMPY"):
            found = {"": np.load(path, mmap_mode="r", allow_pickle=False)}
        else:
            with zipfile.ZipFile(path) as archive:
                claimed = sum(entry.file_size for entry in archive.infolist())
            if claimed > MAX_DATA_BYTES:
                raise InputError(f"{path.name} unpacks to {claimed:,} bytes; at most {MAX_DATA_BYTES:,} are read.")
            with np.load(path, allow_pickle=False) as data:
                found = {name: data[name] for name in data.files}
    except UNREADABLE as error:
        raise InputError(f"{path.name} is not a readable array: {first_line(error)}") from error
    matrices: list[tuple[str, Any, list[float] | None]] = []
    for name, array in found.items():
        if array.dtype.kind not in "fiu" or array.shape[-2:] not in ((3, 4), (4, 4)) or array.ndim > 3:
            continue
        stack = array.reshape(-1, *array.shape[-2:])[:, :3]
        if array.ndim == 2 and re.fullmatch("(scale|camera)_mat(_inv)?_?[0-9]*", name):
            continue  # what stands beside world_mat in such files
        matrices += [(f"{name or 'cam'}_{i}" if array.ndim == 3 else name or "cam_0", one, None)
                     for i, one in enumerate(stack)]  # fmt: skip
    if not matrices:
        raise InputError(f"{path.name} holds {', '.join(sorted(found))[:80] or 'nothing'}, and no 3 x 4 matrices.")
    return _projections(path, matrices)


def write_biocv(folder: Path, cameras: CameraSet) -> None:
    """Write a .calib file for each camera.

    Raises:
        InputError: a lens or a name that it cannot hold.
    """
    texts = {}
    for camera in cameras:
        if not re.fullmatch("[A-Za-z0-9_. -]+", camera.name) or camera.name.startswith("."):
            raise InputError(f"BioCV cannot hold the name {camera.name[:60]!r}.", "Use letters, digits, _ and -.")
        pose = np.concatenate([camera.rotation, 1000 * camera.translation[:, None]], 1)
        rows = [*_rows(camera.matrix), "", *_rows(pose), "", *_rows(five(camera, "BioCV")[None])]
        texts[camera.name] = "\n".join([str(camera.size[0]), str(camera.size[1]), *rows, ""])
    for name, text in texts.items():
        atomic_write_text(folder / f"{name}.calib", text)


def write_panoptic(path: Path, cameras: CameraSet) -> None:
    """Write CMU Panoptic's JSON.

    Raises:
        InputError: a lens that it cannot hold.
    """
    listed = []
    for camera in cameras:
        down = moved_world(camera, Z_UP_FROM_Y_DOWN.T)
        listed.append(
            {
                "name": camera.name,
                "type": "hd",
                "resolution": list(camera.size),
                "K": camera.matrix.tolist(),
                "distCoef": five(camera, "CMU Panoptic's file").tolist(),
                "R": down.rotation.tolist(),
                "t": (100 * down.translation[:, None]).tolist(),
            }
        )
    document = {"calibDataSource": "understudy", "cameras": listed}
    atomic_write_text(path, json.dumps(document, indent=1, allow_nan=False))


def write_projections(path: Path, cameras: CameraSet) -> None:
    """Write 3 x 4 matrices as text, metres, with the name and size of each camera before it.

    Raises:
        InputError: a camera has distortion, which a matrix cannot hold.
    """
    text = ""
    for camera in cameras:
        if camera.fisheye or np.any(camera.distortion):
            raise InputError(
                f"{camera.name} has lens distortion, which a projection matrix cannot hold.", "Write another format."
            )
        matrix = camera.matrix @ camera.camera_from_world[:3]
        title = re.sub(r"\s+", "_", camera.name) or "cam"
        text += f"# {title} {camera.size[0]} {camera.size[1]}\n" + "\n".join(_rows(matrix)) + "\n"
    atomic_write_text(path, text)


def _opencap(name: str, path: Path, found: dict[str, Any]) -> Camera:
    where = f"{path.name}, camera {name[:60]}"
    size = found.get("imageSize")
    if size is not None:
        size = numbers(where, "imageSize", size, (2,))[::-1]  # height and width
    camera = Given(
        where,
        name,
        size,
        found["intrinsicMat"],
        found["rotation"],
        found["translation"],
        distortion=found.get("distortion", ()),
        metres=0.001,
    ).camera()
    return moved_world(camera, _OPENCAP_TURN)


def _opencap_rig(path: Path, cameras: Sequence[Camera]) -> CameraSet:
    note = f"{path.name}: OpenCap does not say how its board stood; it is taken as upright, and the floor as unknown."
    return rig(path, cameras, [note])


def _panoptic(path: Path, listed: list[dict[str, Any]]) -> CameraSet:
    cameras = []
    for index, one in enumerate(listed):
        name = str(one.get("name", f"cam_{index}"))
        camera = Given(
            f"{path.name}, camera {name[:60]}",
            name,
            one.get("resolution"),
            one["K"],
            one.get("R"),
            one.get("t"),
            distortion=one.get("distCoef", ()),
            metres=0.01,
        ).camera()
        cameras.append(moved_world(camera, Z_UP_FROM_Y_DOWN))
    return rig(path, cameras)


def _biocv(path: Path) -> Camera:
    text = read_bytes(path, MAX_DATA_BYTES).decode("latin-1")
    lines = [line for line in text.splitlines() if line.strip()]
    values = [_floats(path, line) for line in lines[:64]]
    words = [value for line in values[:2] for value in line]
    start = 2 if values and len(values[0]) == 1 else 1
    pose = values[start + 3 : -1]
    if len(words) < 2 or len(pose) not in (3, 4) or len(values) != len(lines):
        raise InputError(f"{path.name} is no calibration of BioCV: width, height, 3 rows of 3, 3 of 4, distortion.")
    where = f"{path.name}"
    extrinsic = numbers(where, "[R | t]", pose[:3], (3, 4))
    return Given(
        where,
        path.name.split(".")[0] or path.name,
        words[:2],
        values[start : start + 3],
        extrinsic[:, :3],
        extrinsic[:, 3],
        distortion=values[-1][:5],
        metres=0.001,
    ).camera()


def _projections(path: Path, matrices: Sequence[tuple[str, Any, list[float] | None]]) -> CameraSet:
    notes, cameras = [], []
    for name, values, size in matrices:
        where = f"{path.name}, camera {name[:60]}"
        matrix, rotation, translation = decompose(where, numbers(where, "projection matrix", values, (3, 4)))
        cameras.append(Given(where, name, size, matrix, rotation, translation).camera())
    metres, note = metres_of(path, np.stack([camera.centre for camera in cameras]))
    notes.append(note)
    unsized = next((camera for camera, (_, _, size) in zip(cameras, matrices, strict=True) if size is None), None)
    if unsized is not None:
        notes.append(
            f"{path.name} does not say the size of the images: twice the principal point is taken, "
            f"{unsized.size[0]} x {unsized.size[1]} px for {unsized.name[:60]}."
        )
    notes.append(f"{path.name} says nothing of lens distortion and of which way is up: none, and Z.")
    return rig(path, [rescaled(camera, metres) for camera in cameras], notes)


def decompose(where: str, projection: Array) -> tuple[Array, Array, Array]:
    """Split P = K [R | t], K with a positive diagonal and 1 at its end, R a rotation (Hartley & Zisserman 6.2.4).

    Raises:
        InputError: the matrix is singular.
    """
    front = projection[:, :3]
    scale = np.linalg.norm(front[2])
    if scale < 1e-12 or abs(np.linalg.det(front)) < 1e-9 * np.linalg.norm(front) * scale * scale:
        raise InputError(f"{where}: its projection matrix is singular, so that it is none of a camera.")
    projection = projection * (np.sign(np.linalg.det(front)) / scale)
    front = projection[:, :3]
    turned, upper = np.linalg.qr(front[::-1].T)  # RQ from QR of the matrix stood on its head
    matrix, rotation = upper.T[::-1, ::-1], turned.T[::-1]
    signs = np.sign(np.diag(matrix))
    matrix, rotation = matrix * signs, signs[:, None] * rotation
    translation = np.linalg.solve(matrix, projection[:, 3])
    return matrix / matrix[2, 2], rotation, translation


def _inner(value: Any) -> Any:
    return next((value[key] for key in ("P", "projection", "matrix") if key in value), None) if isinstance(
        value, dict
    ) else value  # fmt: skip


def _title(words: Sequence[str], index: int) -> tuple[str, list[float] | None]:
    name = words[0] if words else f"cam_{index}"
    if len(words) >= 3 and all(re.fullmatch(r"\d{1,5}", word) for word in words[1:3]):
        return name, [float(words[1]), float(words[2])]
    return name, None


def _floats(path: Path, line: str) -> list[float]:
    try:
        return [float(word[:64]) for word in line.replace(",", " ").split()]
    except ValueError as error:
        raise InputError(f"{path.name}: {line[:40]!r} is not a line of numbers.") from error


def _rows(values: Array) -> list[str]:
    return [" ".join(repr(float(value)) for value in row) for row in np.atleast_2d(values)]
