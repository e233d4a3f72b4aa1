"""Calibrations of any program -> `CameraSet`, metres, Z up; and back.

What a file is, is told by its content. Each format's own unit and axes stand where it is read: `calibration_toml`,
`calibration_xml`, `calibration_yaml`, `calibration_data`. Where a file leaves something open, the `CameraSet` carries
a note that says what was taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ...protocol.errors import InputError
from ..cameras import CameraSet
from . import calibration_data as data
from . import calibration_toml as toml
from . import calibration_xml as xml
from . import calibration_yaml as yaml
from .camera_parts import check_plausible
from .plain_xml import parse_xml
from .text import read_bytes, read_json

Style = Literal["anipose", "pose2sim", "freemocap", "caliscope", "qualisys", "vicon", "easymocap", "opencv", "ros",
                "biocv", "panoptic", "projection"]  # fmt: skip
_WRITERS: dict[str, Callable[[Path, CameraSet], None]] = {
    **{style: lambda path, cameras, style=style: toml.write_toml_rig(path, cameras, style)
       for style in ("anipose", "pose2sim", "freemocap", "caliscope")},
    "qualisys": xml.write_qualisys,
    "vicon": xml.write_vicon,
    "easymocap": yaml.write_easymocap,
    "opencv": yaml.write_opencv,
    "ros": yaml.write_ros,
    "biocv": data.write_biocv,
    "panoptic": data.write_panoptic,
    "projection": data.write_projections,
}  # fmt: skip
STYLES = tuple(_WRITERS)
FOLDER_STYLES = ("easymocap", "ros", "biocv")  # these write a folder of files
_SUFFIXES = {".toml": "anipose", ".qca.txt": "qualisys", ".xcp": "vicon", ".json": "panoptic", ".txt": "projection",
             ".yml": "opencv", ".yaml": "opencv"}  # fmt: skip
MAX_BYTES = 8 << 20
_MOST_FILES = 64  # of a folder
_PICKLES = (".pickle", ".pkl")


def read_calibration(path: Path, *, doubtful: bool = False) -> CameraSet:
    """Read a calibration from a file, or from the folder of those programs that write one file a camera.

    Cameras keep the order of the file, or of the names of the files.

    Args:
        doubtful: give what stands there even where no such camera can be, for those who want to find out what is wrong
            (`inference.calibration.checks`) and put it right.

    Raises:
        InputError: not a calibration, or one that cannot be: says which camera and which number.
    """
    path = Path(path)
    cameras = _read_folder(path) if path.is_dir() else _read_file(path)
    if not doubtful:
        check_plausible(path, cameras)
    return cameras


def write_calibration(path: Path, cameras: CameraSet, style: Style = "anipose") -> None:
    """Write what the named program reads; `read_calibration` reads it back. See FOLDER_STYLES.

    Raises:
        InputError: the style cannot hold a lens or a name.
        ResourceError: the disk is full.
    """
    if style not in _WRITERS:
        raise InputError(f"There is no format {style!r} for calibrations; known are {', '.join(STYLES)}.")
    for camera in cameras:
        if not np.isfinite(camera.rotation).all() or np.linalg.det(camera.rotation) <= 0:
            raise InputError(f"The rotation of {camera.name} is mirrored or none; it cannot be written.")
    _WRITERS[style](Path(path), cameras)


def is_plausible(cameras: CameraSet) -> bool:
    """Tell whether `read_calibration` would take these cameras without doubt."""
    try:
        check_plausible(Path(), cameras)
    except InputError:
        return False
    return True


def style_for(path: Path) -> Style:
    """Tell by a name which style to write.

    Raises:
        InputError: its ending says nothing.
    """
    name = Path(path).name.lower()
    style = next((style for suffix, style in _SUFFIXES.items() if name.endswith(suffix)), None)
    if style is None:
        raise InputError(f"{Path(path).name} does not end in {', '.join(_SUFFIXES)}.", "Name the format as well.")
    return style  # type: ignore[return-value]


def _read_file(path: Path) -> CameraSet:
    content = read_bytes(path, MAX_BYTES)
    head = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    for tells, read in _RECOGNISED:
        if tells(path.suffix.lower(), head):
            return read(path)
    return toml.read_toml_rig(path)


def _read_xml(path: Path) -> CameraSet:
    root = parse_xml(read_bytes(path, MAX_BYTES), path.name)
    if root.tag == "opencv_storage":
        return yaml.read_yaml_rig(path, yaml.read_storage(path))
    readers = {"calibration": xml.read_qualisys, "Cameras": xml.read_vicon}
    if root.tag not in readers:
        raise InputError(f"{path.name} is XML of <{root.tag[:40]}>, and no calibration that is known.")
    return readers[root.tag](path, root)


def _read_folder(folder: Path) -> CameraSet:
    """Read EasyMocap's pair, OpenCap's pickles, BioCV's or ROS's files, or the one calibration that lies there."""
    if (folder / "intri.yml").is_file() and (folder / "extri.yml").is_file():
        return yaml.read_easymocap(folder)
    readers: list[tuple[Sequence[str], Callable[[Sequence[Path]], CameraSet]]] = [
        (("*cameraIntrinsicsExtrinsics.pickle", "*/*cameraIntrinsicsExtrinsics.pickle",
          "Videos/*/cameraIntrinsicsExtrinsics.pickle", "*.pickle"), data.read_opencap),
        (("*.calib",), data.read_biocv),
        (("*.yaml",), yaml.read_ros),
    ]  # fmt: skip
    for patterns, read in readers:
        for pattern in patterns:
            files = sorted(folder.glob(pattern))[: _MOST_FILES + 1]
            if len(files) > _MOST_FILES:
                raise InputError(f"{folder.name} has more than {_MOST_FILES} files of cameras.")
            if files:
                return read(files)
    single = sorted(file for suffix in _SUFFIXES for file in folder.glob(f"*{suffix}"))
    if len(single) == 1:
        return _read_file(single[0])
    raise InputError(
        f"{folder.name} cannot be read: it is a folder, and what lies in it is no calibration that is known."
        if not single
        else f"{folder.name} cannot be read: it is a folder with {len(single)} files that may be calibrations.",
        "Choose the file itself.",
    )


def _is_json(suffix: str, head: bytes) -> bool:
    braced = head.startswith(b"{") or re.match(rb"\[\s*(\[\s*[-\d\[]|\{)", head)
    return suffix == ".json" or (suffix != ".toml" and bool(braced))  # a table of TOML begins with [ as well


# the first that tells a file by its suffix and its first bytes; what none tells is TOML
_RECOGNISED: tuple[tuple[Callable[[str, bytes], object], Callable[[Path], CameraSet]], ...] = (
    (lambda suffix, head: head[:1] == b"\x80" or suffix in _PICKLES, lambda path: data.read_opencap([path])),
    (lambda _, head: head.startswith((b"\x93NUMPY", b"PK\x03\x04")), data.read_arrays),
    (lambda _, head: head.startswith(b"<"), _read_xml),
    (_is_json, lambda path: data.read_json_rig(path, read_json(path, MAX_BYTES))),
    (lambda suffix, head: suffix in (".yml", ".yaml") or head.startswith(b"%YAML"),
     lambda path: yaml.read_yaml_rig(path, yaml.read_storage(path))),
    (lambda suffix, _: suffix == ".calib", lambda path: data.read_biocv([path])),
    (lambda suffix, head: suffix != ".toml" and re.match(rb"#[^\n]*\n|[-+]?\.?\d", head),
     lambda path: data.read_rows(path, read_bytes(path, MAX_BYTES).decode("latin-1").replace("\r\n", "\n"))),
)  # fmt: skip
