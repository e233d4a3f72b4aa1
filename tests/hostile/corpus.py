# ruff: noqa: E501 - bytes of files, as they stand
"""Malformed files of every format that is read, the same each time: `python -m tests.hostile.corpus FOLDER`.

Each must be refused with a typed error, in 2 seconds and 1 GiB. Some carry a canary: where anything in them is run or
followed, a file called `canary` appears.
"""

from __future__ import annotations

import io
import json
import pickle  # noqa: TID251 - it is what must not be run
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary"
Case = tuple[str, str, bytes]  # reader, name of the file, content


class Fires:
    """Touches the canary where it is unpickled."""

    def __init__(self, how: str = "os.system") -> None:
        self.how = how

    def __reduce__(self) -> Any:
        import builtins
        import importlib
        import os
        import subprocess

        command = f"touch {CANARY}"
        return {
            "os.system": (os.system, (command,)),
            "eval": (builtins.eval, (f"open('{CANARY}','w')",)),
            "exec": (builtins.exec, (f"open('{CANARY}','w')",)),
            "popen": (subprocess.Popen, (["touch", CANARY],)),
            "import": (importlib.import_module, ("this",)),
        }[self.how]


def dumped(value: Any, protocol: int = 4) -> bytes:
    return pickle.dumps(value, protocol)


def npy(header: str | None = None, data: bytes = b"", **changes: Any) -> bytes:
    """An .npy file by hand."""
    words = {"descr": "'<f8'", "fortran_order": "False", "shape": "(2, 3)"} | changes
    text = header if header is not None else "{" + ", ".join(f"'{k}': {v}" for k, v in words.items()) + ", }"
    raw = text.encode("latin-1", "replace") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw) % 65536) + raw + data


def npz(entries: dict[str, bytes], *, packed: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)
    return out.getvalue()


def array(value: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(value), allow_pickle=False)
    return out.getvalue()


def cut(content: bytes, *parts: float) -> Iterator[tuple[str, bytes]]:
    for part in parts:
        yield f"cut at {part:g}", content[: int(part * len(content))]


GENERAL: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\0",
    "zeros": b"\0" * 4096,
    "noise": np.random.default_rng(7).bytes(20_000),
    "elf": b"\x7fELF" + b"\2\1\1" + b"\0" * 400,
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "shell": f"#!/bin/sh\ntouch {CANARY}\n".encode(),
    "python": f"__import__('os').system('touch {CANARY}')".encode(),
    "pickle": dumped(Fires()),
    "gzip": b"\x1f\x8b\x08\0" + b"\0" * 100,
}
KINDS = {
    "keypoints": "json", "artifact": "npz", "points": "npy", "calibration": "toml", "calibration_xml": "xml",
    "calibration_yaml": "yml", "calibration_pickle": "pickle", "markers_c3d": "c3d", "markers_trc": "trc",
    "smpl": "npz", "mapping": "json", "batch": "json", "request": "json", "photo": "png", "film": "mp4",
    "weights": "safetensors", "gltf": "glb", "checkpoint": "pt", "bvh": "bvh", "fbx": "fbx",
}  # fmt: skip


def general() -> Iterator[Case]:
    """What is no file of its kind at all."""
    for kind, suffix in KINDS.items():
        for name, content in GENERAL.items():
            yield kind, f"{name}.{suffix}", content


def texts() -> Iterator[Case]:
    """JSON, TOML, YAML and XML that are meant to hurt their parsers."""
    deep = {"[": "]", '{"a":': "}"}
    bad_json = {
        "nan": b'{"version": 1.0, "people": [{"pose_keypoints_2d": [NaN, 1, 1]}]}',
        "infinity": b"[[1, 2, Infinity]]",
        "digits": b"[" + b"9" * 1_000_000 + b"]",
        "half a surrogate": b'{"people": "\xed\xa0\x80"}',
        "utf-16": '{"people": []}'.encode("utf-16"),
        "comment": b'{"people": [] /* none */}',
        "trailing": b'{"people": []} x',
        "a number": b"1e400",
        "null": b"null",
        "a text": b'"people"',
        "unclosed": b'{"people": [',
        **{f"deep {a[0]}": a.encode() * 100_000 + b"1" + b.encode() * 100_000 for a, b in deep.items()},
    }
    for kind in ("keypoints", "mapping", "batch", "request", "calibration_json"):
        for name, content in bad_json.items():
            yield kind, f"{name}.json", content
    dots = ".".join("a" * 1 for _ in range(20_000))
    bad_toml = {
        "dotted": f"{dots} = 1".encode(),
        "long line": b"a = '" + b"x" * 8000 + b"'",
        "large": b"a = 1\n" * 20_000,
        "deep": b"a = " + b"[" * 5000 + b"]" * 5000,
        "date": b"a = 1979-13-45",
        "twice": b"[cam_0]\nsize = [1, 1]\n[cam_0]\nsize = [1, 1]\n",
        "nan": b"[cam_0]\nname='0'\nsize=[640,480]\nmatrix=[[nan,0,320],[0,500,240],[0,0,1]]\n"
        b"distortions=[0,0,0,0]\nrotation=[0,0,0]\ntranslation=[0,0,0]\n",
        "no rotation": b"[cam_0]\nname='0'\nsize=[640,480]\nmatrix=[[500,0,320],[0,500,240],[0,0,1]]\n",
        "a matrix of words": b"[cam_0]\nname='0'\nsize=[640,480]\nmatrix='__import__(\"os\")'\nrotation=[0,0,0]\n"
        b"translation=[0,0,0]\ndistortions=[0,0,0,0]\n",
        "huge size": b"[cam_0]\nname='0'\nsize=[1e308,-5]\nmatrix=[[500,0,320],[0,500,240],[0,0,1]]\n"
        b"distortions=[0,0,0,0]\nrotation=[0,0,0]\ntranslation=[0,0,0]\n",
    }
    for name, content in bad_toml.items():
        yield "calibration", f"{name}.toml", content
    lol = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    bad_xml = {
        "laughs": f'<!DOCTYPE x [<!ENTITY a0 "ha">{lol}]><calibration>&a9;</calibration>'.encode(),
        "outside": b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><calibration>&f;</calibration>',
        "network": b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><calibration/>',
        "deep": b"<a>" * 50_000 + b"</a>" * 50_000,
        "unclosed": b"<calibration><cameras><camera>",
        "attributes": b"<calibration " + b" ".join(f'a{n}="1"'.encode() for n in range(100_000)) + b"/>",
        "camera of words": b'<calibration><cameras><camera serial="a"><intrinsic focalLengthU="x"/></camera></cameras>'
        b"</calibration>",
        "other": b"<svg/>",
    }
    for name, content in bad_xml.items():
        yield "calibration_xml", f"{name}.xml", content
    anchors = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
    bad_yaml = {
        "laughs": anchors.encode(),
        "python object": f"K: !!python/object/apply:os.system ['touch {CANARY}']".encode(),
        "python name": b"K: !!python/name:os.system",
        "merge": b"a: &a\n  <<: *a\n",
        "deep": b"[" * 20_000,
        "matrix without data": b"%YAML:1.0\n---\nK: !!opencv-matrix\n   rows: 3\n   cols: 3\n   dt: d\n",
        "matrix of too many": b"%YAML:1.0\n---\nK: !!opencv-matrix\n   rows: 1000000\n   cols: 1000000\n   dt: d\n   data: [ 1 ]\n",
        "tabs": b"a:\n\tb: 1\n",
        "binary": b"K: !!binary |\n  gASVIQAAAAAAAACMBXBvc2l4\n",
    }  # fmt: skip
    for name, content in bad_yaml.items():
        yield "calibration_yaml", f"{name}.yml", content


def documents() -> Iterator[Case]:
    """JSON that parses and does not say what it must."""
    batch = {"format": "understudy-batch", "version": 1, "program": "inference", "output": "out"}
    item = {"out": "a", "task": "selftest", "request": {}}
    outs = ["../a", "/tmp/a", "a/../../b", "C:\\a", "\\\\host\\share\\a", f"$(touch {CANARY})", f"`touch {CANARY}`", "con",
            "a\0b", "a.json", "", ".", "a" * 500]  # fmt: skip
    for number, out in enumerate(outs):
        yield "batch", f"out {number}.json", json.dumps({**batch, "items": [{**item, "out": out}]}).encode()
    changes: list[dict[str, Any]] = [
        {"items": []}, {"items": [item] * 2}, {"items": {}}, {"items": [{**item, "task": "live"}]}, {"version": 99},
        {"program": "sh"}, {"output": "\0"}, {"items": [{**item, "shell": "x"}]}, {"items": [{**item, "request": []}]},
    ]  # fmt: skip
    for number, change in enumerate(changes):
        yield "batch", f"changed {number}.json", json.dumps({**batch, "items": [item], **change}).encode()
    order = {"protocol": 1, "task": "selftest", "request": {}, "run_id": "x", "app": ""}
    wrong: list[dict[str, Any]] = [
        {"protocol": 2}, {"task": "__import__"}, {"task": ["selftest"]}, {"request": {"steps": -1}},
        {"request": {"steps": 1e99}}, {"request": {"steps": True}}, {"request": {"unknown": 1}}, {"request": [1]},
        {"request": {"fault": "sudden"}}, {"task": "motion", "request": {"video": ["a\0b"]}},
        {"task": "motion", "request": {"video": "a.mp4"}}, {"task": "motion", "request": {"keypoints": [[]]}},
        {"task": "motion", "request": {"video": [""]}}, {"task": "motion", "request": {"video": ["a"] * 20_000}},
        {"task": "motion", "request": {"video": ["a.mp4"], "person": [[1]]}},
    ]  # fmt: skip
    for number, change in enumerate(wrong):
        yield "request", f"wrong {number}.json", json.dumps({**order, **change}).encode()
    mapping = {"format": "understudy-mapping", "version": 1, "name": "x", "bones": {}}
    for number, change in enumerate(
        [{"format": "x"}, {"version": 7}, {"version": True}, {"bones": []}, {"name": 3}, {"bones": {"hips": 5}},
         {"bones": {"no such role": "a"}}, {"bones": {"hips": ["a"] * 9999}}]
    ):  # fmt: skip
        yield "mapping", f"wrong {number}.json", json.dumps({**mapping, **change}).encode()
    people: dict[str, Any] = {
        "no people": {"version": 1.3}, "people of numbers": {"people": [1, 2]}, "odd count": [[[1, 2]] * 7],
        "a list of words": ["a", "b"], "coco without images": {"annotations": [{"keypoints": [1] * 51}]},
        "alphapose without name": [{"keypoints": [1.0] * 51}], "nobody": {"people": []},
        "huge": [{"image_id": "0.jpg", "keypoints": [1e308] * 51, "score": 1}], "nested": [[[[[[1]]]]]],
    }  # fmt: skip
    for name, document in people.items():
        yield "keypoints", f"{name}.json", json.dumps(document).encode()


def arrays() -> Iterator[Case]:
    """.npy and .npz whose headers lie, whose entries lead elsewhere, and that would run something."""
    heads = {
        "objects": npy(descr="'|O'", data=dumped(np.array([Fires()], object))),
        "shape of too many": npy(shape="(4294967296, 4294967296)"),
        "shape below zero": npy(shape="(-2, 3)", data=b"\0" * 48),
        "shape of words": npy(shape="('a',)"),
        "no shape": npy("{'descr': '<f8', 'fortran_order': False}"),
        "a call": npy(f"__import__('os').system('touch {CANARY}')"),
        "deep": npy("(" * 3000 + ")" * 3000),
        "void": npy(descr="[('a','<f8'),('b','|O')]"),
        "texts": npy(descr="'<U1000000'", shape="(1,)"),
        "cut": npy(data=b"\0" * 40),
        "version 9": b"\x93NUMPY\x09\x00\x10\x00" + b" " * 16,
        "header of 4 GiB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
        "dates": npy(descr="'<M8[s]'", data=b"\0" * 48),
        "complex": npy(descr="'<c16'", data=b"\0" * 96),
        "a number": array(3.0),
        "one axis": array(np.zeros(5)),
        "nothing": array(np.zeros((0, 17, 3))),
        "seven axes": array(np.zeros((1,) * 7)),
    }  # fmt: skip
    for name, content in heads.items():
        yield "points", f"{name}.npy", content
    header = {"kind": "body_motion", "schema": 1, "unit": "m", "frame": "world", "fps": 30, "skeleton": "humanoid"}
    golden = (ROOT / "tests/golden/body_motion.npz").read_bytes()
    packages = {
        "objects": npz({"header.npy": npy(descr="'|O'", data=dumped(np.array([Fires()], object)))}),
        "slip": npz({"../../canary": b"x", "header.npy": array(json.dumps(header))}),
        "bomb": npz({"poses.npy": npy(shape="(80000000,)") + b"\0" * 320_000_000}, packed=True),
        "no header": npz({"rotations.npy": array(np.zeros((2, 3, 4)))}),
        "header of numbers": npz({"header.npy": array(np.zeros(3))}),
        "header no json": npz({"header.npy": array("{")}),
        "header deep": npz({"header.npy": array("[" * 100_000)}),
        "header nan": npz({"header.npy": array('{"kind": "body_motion", "fps": NaN}')}),
        "newer": npz({"header.npy": array(json.dumps(header | {"schema": 99}))}),
        "schema of words": npz({"header.npy": array(json.dumps(header | {"schema": "1; DROP"}))}),
        "other kind": npz({"header.npy": array(json.dumps(header | {"kind": "keypoints_2d"}))}),
        "no arrays": npz({"header.npy": array(json.dumps(header))}),
        "many": npz({f"{n}.npy": b"" for n in range(12_000)}),
        **dict(cut(golden, 0.02, 0.3, 0.7, 0.95, 0.999)),
        "middle gone": golden[:2000] + golden[9000:],
    }  # fmt: skip
    for name, content in packages.items():
        yield "artifact", f"{name}.npz", content
    times = np.arange(4) / 30
    smpl = {
        "objects": npz({"poses.npy": npy(descr="'|O'", data=dumped(np.array([Fires()], object)))}),
        "bomb": npz({"poses.npy": npy(shape="(80000000,)") + b"\0" * 320_000_000}, packed=True),
        "no poses": npz({"trans.npy": array(np.zeros((4, 3)))}),
        "odd poses": npz({"poses.npy": array(np.zeros((4, 71)))}),
        "nan": npz({"poses.npy": array(np.full((4, 156), np.nan)), "trans.npy": array(np.zeros((4, 3)))}),
        "endless": npz({"poses.npy": array(np.full((4, 156), np.inf)), "trans.npy": array(np.zeros((4, 3)))}),
        "words": npz({"poses.npy": array(np.array(["a"]))}),
        "other times": npz({"poses.npy": array(np.zeros((4, 156))), "trans.npy": array(np.zeros((9, 3)))}),
        "times": npz({"times.npy": array(times)}),
    }  # fmt: skip
    for name, content in smpl.items():
        yield "smpl", f"{name}.npz", content


def pickles() -> Iterator[Case]:
    """Calibrations and checkpoints that are programs."""
    for how in ("os.system", "eval", "exec", "popen", "import"):
        for protocol in (0, 2, 4):
            name = f"{how} {protocol}"
            yield "calibration_pickle", f"{name}.pickle", dumped({"intrinsicMat": Fires(how)}, protocol)
            yield "checkpoint", f"{name}.pt", checkpoint(dumped({"a": Fires(how)}, protocol))
    more = {
        "inst": f"(S'touch {CANARY}'\nios\nsystem\n.".encode(),
        "obj": b"(cos\nsystem\n" + f"S'touch {CANARY}'\no.".encode(),
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"Pcanary\n.",
        "endless": b"\x80\x04]\x94",
        "bottom": b"\x80\x040.",
        "memo": b"\x80\x04h\x05.",
        "huge long": b"\x80\x02\x8b\xff\xff\xff\x7f",
        "huge text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "frames": b"\x80\x04" + b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f" * 3,
        "nested": b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b".",
        "doubling": b"\x80\x04]\x94" + b"h\x00h\x00\x86" * 50_000 + b".",
    }
    for name, content in more.items():
        yield "calibration_pickle", f"{name}.pickle", content
        yield "checkpoint", f"{name}.pt", checkpoint(content)
    storage = "ctorch\nFloatStorage\n"
    tensor = (
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
        + storage.encode() + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuM\xe8\x03tQK\x00%s\x89ccollections\nOrderedDict\n)RtRs."
    )  # fmt: skip
    shapes = {
        "behind its storage": b"M\xe8\x03\x85K\x01\x85",
        "below zero": b"J\xff\xff\xff\xff\x85K\x01\x85",
        "steps": b"K\x02K\x02\x86K\x05K\x07\x86",
        "too large": b"J\xff\xff\xff\x7f\x85K\x01\x85",
    }
    for name, shape in shapes.items():
        yield "checkpoint", f"tensor {name}.pt", checkpoint(tensor.replace(b"%s", shape), {"a/data/0": b"\0" * 16})
    yield "checkpoint", "slip.pt", checkpoint(b"\x80\x02}.", {"../canary": b"x"})
    yield "checkpoint", "twice.pt", checkpoint(b"\x80\x02}.", {"b/data.pkl": b"\x80\x02}."})
    yield "checkpoint", "bomb.pt", checkpoint(b"\x80\x02}.", {"a/data/0": b"\0" * 300_000_000}, packed=True)
    yield "checkpoint", "nothing.pt", checkpoint(b"\x80\x02}.")
    yield "checkpoint", "old format.pt", dumped(0x1950A86A20F9469CFC6C, 2) + dumped(1001, 2) + dumped(Fires(), 2)


def checkpoint(description: bytes, more: dict[str, bytes] | None = None, *, packed: bool = False) -> bytes:
    return npz({"a/data.pkl": description, **(more or {})}, packed=packed)


def markers() -> Iterator[Case]:
    """C3D and TRC: whole files with one thing wrong."""
    for source in ("walk_floats.c3d", "walk_whole.c3d"):
        good = (ROOT / "tests/golden" / source).read_bytes()
        for name, content in cut(good, 0.0, 0.001, 0.05):
            yield "markers_c3d", f"{source} {name}.c3d", content
        for name, at, value in (
            ("parameters nowhere", 0, b"\xff"), ("no magic", 1, b"\0"),
        ):  # fmt: skip
            yield "markers_c3d", f"{source} {name}.c3d", good[:at] + value + good[at + len(value) :]
        start = 512 * (good[0] - 1)
        yield (
            "markers_c3d",
            f"{source} parameters of noise.c3d",
            (good[: start + 4] + np.random.default_rng(1).bytes(600) + good[start + 604 :]),
        )
    head = "PathFileType\t4\t(X/Y/Z)\tx.trc\n"
    names = "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames\n"
    bodies = {
        "only a head": head,
        "no rate": head + names + "x\tx\t2\t1\tmm\tx\t1\t2\nFrame#\tTime\tA\n\t\tX1\tY1\tZ1\n\n1\t0\t1\t2\t3\n",
        "rate zero": head + names + "0\t0\t2\t1\tmm\t0\t1\t2\nFrame#\tTime\tA\n\t\tX1\tY1\tZ1\n\n1\t0\t1\t2\t3\n",
        "unit of stone": head
        + names
        + "30\t30\t1\t1\tfurlong\t30\t1\t1\nFrame#\tTime\tA\n\t\tX1\tY1\tZ1\n\n1\t0\t1\t2\t3\n",
        "a million markers": head
        + names
        + "30\t30\t1\t1000000000\tmm\t30\t1\t1\nFrame#\tTime\tA\n\t\tX1\tY1\tZ1\n\n1\t0\t1\n",
        "words": head + names + "30\t30\t1\t1\tmm\t30\t1\t1\nFrame#\tTime\tA\n\t\tX1\tY1\tZ1\n\n1\t0\ta\tb\tc\n",
        "no rows": head + names + "30\t30\t0\t1\tmm\t30\t1\t0\nFrame#\tTime\tA\n\t\tX1\tY1\tZ1\n\n",
        "one line": "x" * 5_000_000,
    }
    for name, text in bodies.items():
        yield "markers_trc", f"{name}.trc", text.encode()


def png(width: int, height: int, data: bytes | None = None, *, depth: int = 8, kind: int = 2) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = zlib.compress(b"\0" * 4000) if data is None else data
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def pictures() -> Iterator[Case]:
    """Photos and films."""
    cases = {
        "50000 wide.png": png(50_000, 50_000),
        "14000 wide.png": png(14_000, 14_000),
        "2 billion wide.png": png(2**31 - 1, 2**31 - 1),
        "zero wide.png": png(0, 10),
        "tiny.png": png(2, 2),
        "depth 3.png": png(100, 100, depth=3),
        "short.png": png(300, 300),
        "bomb.png": png(30_000, 30_000, zlib.compress(b"\0" * 50_000_000)),
        "head only.jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0",
        "65535 wide.jpg": b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00\xff\xd9",
        "script.ps": f"%!PS-Adobe-3.0 EPSF-3.0\n(touch {CANARY}) (w) file\n".encode(),
        "script.eps": f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n(%pipe%touch {CANARY}) (w) file\n".encode(),
        "vector.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "circle.tif": b"II*\0\x08\0\0\0\x01\0\0\1\3\0\1\0\0\0\x64\0\0\0\x08\0\0\0",
        "nowhere.tif": b"II*\0\xff\xff\xff\x7f",
        "nothing.gif": b"GIF89a\xff\xff\xff\xff\0\0\0",
        "size below zero.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, -100, -100, 1, 24, 0, 0, 0, 0, 0, 0),
        "nothing.webp": b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff",
    }  # fmt: skip
    for name, content in cases.items():
        yield "photo", name, content
    good = (ROOT / "inference/demo/front.mp4").read_bytes()
    films = {
        **{f"{name}.mp4": content for name, content in cut(good, 0.001, 0.01, 0.5)},
        "playlist.m3u8": f"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXTINF:1,\n{CANARY}\n".encode(),
        "playlist.mp4": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
        "concat.mp4": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "slides.mp4": b"[Scripts]\nfile=/etc/passwd\n",
        "box of nothing.mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\0\x08moov",
        "box without end.mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\xff\xff\xff\xffmdat",
        "boxes in boxes.mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\xff\xffmoov" * 5000,
        "raw.avi": b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrl",
        "raw.mkv": b"\x1aE\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xff" + b"\0" * 100,
        "text.mov": b"a film",
    }  # fmt: skip
    for name, content in films.items():
        yield "film", name, content


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def weights() -> Iterator[Case]:
    """Weights whose headers lie."""
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    lifter = {"__metadata__": {"net": "lifter", "schema": "1", "config": "{}"}}
    cases: dict[str, bytes] = {
        "header of 2**60": safetensors({}, length=1 << 60),
        "header of 120 MB": safetensors(b" " * 1000, length=120_000_000),
        "behind the end": safetensors({"a": {**one, "data_offsets": [0, 1 << 40]}}, b"\0" * 8),
        "below zero": safetensors(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}', b"\0" * 8),
        "overlap": safetensors({"a": one, "b": {**one, "data_offsets": [4, 12]}}, b"\0" * 12),
        "hole": safetensors({"a": one, "b": {**one, "data_offsets": [16, 24]}}, b"\0" * 24),
        "shape overflows": safetensors({"a": {**one, "shape": [1 << 62, 1 << 62]}}, b"\0" * 8),
        "shape of words": safetensors({"a": {**one, "shape": ["2"]}}, b"\0" * 8),
        "dtype": safetensors({"a": {**one, "dtype": "PICKLE"}}, b"\0" * 8),
        "no json": safetensors(b"{", b"\0" * 8),
        "deep": safetensors(b"[" * 100_000 + b"]" * 100_000),
        "twice": safetensors(b'{"a":%s,"a":%s}' % ((json.dumps(one).encode(),) * 2), b"\0" * 8),
        "no net": safetensors({"a": one}, b"\0" * 8),
        "a path": safetensors({"__metadata__": {"net": "../../x", "schema": "1", "config": "{}"}, "a": one}, b"\0" * 8),
        "newer": safetensors({"__metadata__": {"net": "lifter", "schema": "99", "config": "{}"}, "a": one}, b"\0" * 8),
        "config of nothing": safetensors({**lifter, "a": one}, b"\0" * 8),
        "config no json": safetensors({"__metadata__": {**lifter["__metadata__"], "config": "{"}, "a": one}, b"\0" * 8),
        "config huge": safetensors(
            {"__metadata__": {**lifter["__metadata__"], "config": '{"width": 1000000000}'}, "a": one}, b"\0" * 8),
    }  # fmt: skip
    shipped = (ROOT / "inference/weights/view_trust.safetensors").read_bytes()
    cases |= dict(cut(shipped, 0.00005, 0.01, 0.5, 0.999))
    for name, content in cases.items():
        yield "weights", f"{name}.safetensors", content


def glb(table: Any, data: bytes = b"", **changes: int) -> bytes:
    text = table if isinstance(table, bytes) else json.dumps({"asset": {"version": "2.0"}, **table}).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", changes.get("length", len(text)), b"JSON") + text
    body += (
        struct.pack("<I4s", changes.get("binary", len(data)), b"BIN\0") + data if data or "binary" in changes else b""
    )
    return struct.pack("<4sII", b"glTF", changes.get("version", 2), changes.get("total", 12 + len(body))) + body


def scenes() -> Iterator[Case]:
    """glTF that leads outside, claims what is not there, or turns in circles."""
    view = {"buffer": 0, "byteLength": 8}
    accessor = {"bufferView": 0, "componentType": 5126, "count": 2, "type": "SCALAR"}
    buffers = {"buffers": [{"byteLength": 8}]}
    addresses = ["../canary", "..\\canary", "/etc/passwd", "C:\\Windows\\win.ini", "\\\\127.0.0.1\\share\\x", "//127.0.0.1/x",
                 "http://127.0.0.1:9/x", "file:///etc/passwd", "%2e%2e/canary", "a/%2e%2e/%2e%2e/x", "a\0b", "missing.bin"]  # fmt: skip
    for number, address in enumerate(addresses):
        yield "gltf", f"buffer {number}.glb", glb({"buffers": [{"byteLength": 1, "uri": address}]})
        yield (
            "gltf",
            f"image {number}.gltf",
            json.dumps({"asset": {"version": "2.0"}, "images": [{"uri": address}]}).encode(),
        )
    cases: dict[str, bytes] = {
        "version 1": glb({}, version=1),
        "total": glb({}, total=1 << 31),
        "length": glb({}, length=1 << 30),
        "binary": glb({}, b"\0" * 8, binary=1 << 30),
        "no asset": glb(b"{}"),
        "nan": glb(b'{"asset": {"version": "2.0"}, "x": NaN}'),
        "deep": glb(b"[" * 100_000),
        "buffer behind": glb({"buffers": [{"byteLength": 1 << 40}]}, b"\0" * 8),
        "buffer below zero": glb({"buffers": [{"byteLength": -1}]}, b"\0" * 8),
        "view behind": glb({**buffers, "bufferViews": [{**view, "byteOffset": 4}]}, b"\0" * 8),
        "view of nobody": glb({**buffers, "bufferViews": [{**view, "buffer": 7}]}, b"\0" * 8),
        "accessor behind": glb({**buffers, "bufferViews": [view], "accessors": [{**accessor, "count": 3}]}, b"\0" * 8),
        "accessor of nobody": glb({**buffers, "bufferViews": [], "accessors": [accessor]}, b"\0" * 8),
        "accessor huge": glb({"accessors": [{**accessor, "count": 1 << 60}]}),
        "accessor kind": glb({"accessors": [{**accessor, "type": "VEC9"}]}),
        "own child": glb({"nodes": [{"children": [0]}]}),
        "circle": glb({"nodes": [{"children": [1]}, {"children": [2]}, {"children": [0]}]}),
        "two parents": glb({"nodes": [{"children": [2]}, {"children": [2]}, {}]}),
        "child of nobody": glb({"nodes": [{"children": [5]}]}),
        "deep nodes": glb({"nodes": [*({"children": [n + 1]} for n in range(5000)), {}]}),
        "nodes of words": glb({"nodes": ["a"]}),
        "many": glb({"nodes": [{}] * 200_001}),
    }  # fmt: skip
    for name, content in cases.items():
        yield "gltf", f"{name}.glb", content


def motions() -> Iterator[Case]:
    """BVH whose joints and rows are not what they say."""
    good = (ROOT / "tests/golden/figure.bvh").read_text()
    joints, _, rows = good.partition("MOTION\n")
    first = rows.splitlines()[2]
    joint = "JOINT a\n{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n"
    deep = (
        "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n" + joint * 3000 + "}\n" * 3001
    )
    wide = deep[: deep.index("JOINT")] + (joint + "}\n") * 20_000 + "}\n"
    motion = "MOTION\nFrames: 1\nFrame Time: 0.1\n"
    cases = {
        "deep": deep + motion + "0 " * 9003, "wide": wide + motion + "0 " * 60_003,
        "no joints": "HIERARCHY\n" + motion + "0\n", "no motion": joints, "no rows": f"{joints}{motion}",
        "not closed": good.replace("}\nMOTION", "MOTION"), "closed twice": good.replace("MOTION", "}\nMOTION"),
        "no offset": good.replace("OFFSET 0.000000 0.000000 0.900000\n", ""),
        "offset of words": good.replace("OFFSET 0.000000 0.000000 0.900000", "OFFSET a b c"),
        "offset nan": good.replace("0.900000", "nan", 1), "offset endless": good.replace("0.900000", "1e999", 1),
        "offset far away": good.replace("0.900000", "9e30", 1), "two numbers": good.replace(" 0.900000", "", 1),
        "channel of nobody": good.replace("Xposition", "Wposition", 1), "channel twice": good.replace("Xpos", "Ypos", 1),
        "more channels said": good.replace("CHANNELS 6", "CHANNELS 7", 1),
        "fewer channels said": good.replace("CHANNELS 6", "CHANNELS -1", 1),
        "huge count": good.replace("CHANNELS 6", "CHANNELS 99999999999999999999", 1),
        "frames of words": good.replace("Frames: ", "Frames: x"), "frames below zero": good.replace("Frames: ", "Frames: -"),
        "time zero": good.replace("0.041667", "0"), "time below zero": good.replace("0.041667", "-1"),
        "time nan": good.replace("0.041667", "nan"), "time endless": good.replace("0.041667", "inf"),
        "time tiny": good.replace("0.041667", "1e-300"), "row short": good.replace(first, first.rsplit(None, 1)[0]),
        "row long": good.replace(first, first + " 0"), "row nan": good.replace(first, "nan" + first[first.index(" ") :]),
        "row endless": good.replace(first, "1e999" + first[first.index(" ") :]),
        "row of words": good.replace(first, "$(touch canary)" + first[first.index(" ") :]),
        "row of hex": good.replace(first, "0x10" + first[first.index(" ") :]),
        "row without end": good + "0 " * 1_000_000, "name without end": good.replace("Hips", "H" * 2_000_000),
        "latin-1": good.replace("Hips", "H\xfcfte"),
        "utf-16": good.encode("utf-16").decode("latin-1"), "code": good.replace("Hips", "H\n__import__('os')\n{"),
        "cut row": good.rstrip()[:-300], "cut joints": good[: len(joints) // 2],
    }  # fmt: skip
    for name, text in cases.items():
        yield "bvh", f"{name}.bvh", text.encode("latin-1", "replace")


FBX = b"Kaydara FBX Binary  \x00\x1a\x00" + struct.pack("<I", 7400)
Record = tuple[bytes, list[bytes], list[Any]]  # name, values, records inside


def fbx_text(text: bytes) -> bytes:
    return b"S" + struct.pack("<I", len(text)) + text


def fbx(*records: Record, head: bytes = FBX) -> bytes:
    """An .fbx file by hand, 32-bit addresses."""
    out = bytearray(head)

    def write(record: Record) -> None:
        name, values, inside = record
        at, content = len(out), b"".join(values)
        out.extend(struct.pack("<IIIB", 0, len(values), len(content), len(name)) + name + content)
        for each in inside:
            write(each)
        if inside:
            out.extend(b"\0" * 13)
        struct.pack_into("<I", out, at, len(out))

    for record in records:
        write(record)
    return bytes(out) + b"\0" * 13


def figures() -> Iterator[Case]:
    """FBX whose records, arrays and limbs are not what they say."""
    golden = (ROOT / "tests/golden/figure.fbx").read_bytes()

    def number(value: int) -> bytes:
        return b"L" + struct.pack("<q", value)

    def array(count: int, packed: int, length: int, data: bytes = b"") -> bytes:
        return b"d" + struct.pack("<III", count, packed, length) + data

    def scene(*links: tuple[int, int]) -> bytes:
        ids = sorted({one for link in links for one in link})
        models: list[Any] = [
            (b"Model", [number(one), fbx_text(b"a\x00\x01Model"), fbx_text(b"LimbNode")], []) for one in ids
        ]
        lines: list[Any] = [(b"C", [fbx_text(b"OO"), number(a), number(b)], []) for a, b in links]
        return fbx((b"Objects", [], models), (b"Connections", [], lines))

    def holding(*values: bytes) -> bytes:
        return fbx((b"Objects", [], [(b"Geometry", [number(1), *values], [])]))

    nested: Record = (b"a", [], [])
    for _ in range(500):
        nested = (b"a", [], [nested])
    bomb = zlib.compress(b"\0" * 4_000_000, 9)
    stop = struct.pack("<IIIB", 1 << 31, 0, 0, 7) + b"Objects"
    cases = {
        "own child": scene((1, 1)), "circle": scene((1, 2), (2, 3), (3, 1)),
        "chain": scene(*((n, n + 1) for n in range(5000))),
        "deep": fbx((b"Objects", [], [nested])), "no objects": fbx((b"Definitions", [], [])), "nothing": FBX,
        "version 0": FBX[:-4] + b"\0" * 4, "version 99": FBX[:-4] + struct.pack("<I", 99_000), "head": FBX[:20],
        "wide addresses": fbx((b"Objects", [], []), head=FBX[:-4] + struct.pack("<I", 7700)),
        "behind": FBX + stop, "backwards": FBX + struct.pack("<IIIB", 3, 0, 0, 7) + b"Objects",
        "in itself": FBX + struct.pack("<IIIB", len(FBX), 0, 0, 7) + b"Objects",
        "name behind": FBX + struct.pack("<IIIB", len(FBX) + 20, 0, 0, 255) + b"Objects",
        "many values": fbx((b"Objects", [number(1)], [])).replace(struct.pack("<II", 1, 9), struct.pack("<II", 9**9, 9)),
        "text behind": holding(b"S" + struct.pack("<I", 1 << 31)), "kind": holding(b"Zabc"),
        "raw behind": holding(b"R\xff\xff\xff\xff"), "array cut": holding(array(100, 0, 800, b"\0" * 10)),
        "array short": holding(array(100, 0, 8, b"\0" * 8)), "array huge": holding(array(1 << 31, 0, 8, b"\0" * 8)),
        "array packing": holding(array(1, 7, 8, b"\0" * 8)),
        "bomb": holding(array((1 << 32) - 1, 1, len(bomb), bomb)),
        "bombs": holding(*[array(500_000, 1, len(bomb), bomb)] * 2000),
        "text deep": b"; FBX 7.4.0 project file\nFBXHeaderExtension: {\n" + b"a: {\n" * 100_000,
        "text unclosed": b"; FBX 7.4.0 project file\nObjects: {\n", "text closed": b"; FBX\n" + b"}\n" * 9,
        "text other": b"; FBX 7.4.0 project file\nDefinitions: {\n}\n", "text binary": b"; FBX\n\0Objects: {}",
        **dict(cut(golden, 0.001, 0.05, 0.3, 0.6, 0.8)), "middle gone": golden[:20_000] + golden[50_000:],
    }  # fmt: skip
    for name, content in cases.items():
        yield "fbx", f"{name}.fbx", content


MAKERS: tuple[Callable[[], Iterator[Case]], ...] = (
    general, texts, documents, arrays, pickles, markers, pictures, weights, scenes, motions, figures,
)  # fmt: skip


def write(folder: Path) -> int:
    """Write the corpus, a folder for each reader; give the number of files."""
    count = 0
    for make in MAKERS:
        for kind, name, content in make():
            path = folder / kind / name.replace("/", "_").replace("\0", "_")
            path.parent.mkdir(parents=True, exist_ok=True)
            assert not path.exists(), path
            path.write_bytes(content)
            count += 1
    return count


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
