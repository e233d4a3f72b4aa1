"""Small heads with known truth: a box of quads with a triangle, two eyes, shape keys, and what a job writes beside."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
from understudy.inference.core.artifacts import HeadMesh, HeadSurface

NECK = (0.0, 0.1, -0.12)
SCALE = 1.1
KEYS = ("jawOpen", "eyeLookUpLeft", "mouthSmileLeft")
CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
SIDES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


def head_mesh(**header) -> HeadMesh:
    """A skull of six quads, one of them cut into triangles, and two eyes of six quads each."""
    skull = CUBE * [0.08, 0.1, 0.12] + [0.0, 0.1, 0.0]
    eyes = [CUBE * 0.012 + [side * 0.031, 0.02, 0.035] for side in (1, -1)]
    faces = [SIDES[:5], [[1, 5, 7, -1], [1, 7, 3, -1]], SIDES + 8, SIDES + 16]
    vertices = np.concatenate([skull, *eyes]).astype(np.float32)
    corners = np.concatenate(faces).astype(np.int32)
    part = np.repeat([0, 1, 2], [7, 6, 6]).astype(np.int32)
    keys = np.zeros((len(KEYS), len(vertices), 3), np.float32)
    keys[0, 0, 2] = -0.02
    keys[1, 8:16, 2] = 0.003
    keys[2, 4, 0] = 0.01
    uv = np.random.default_rng(0).random((len(corners), 4, 2)).astype(np.float32)
    values = {
        "unit": "m", "frame": "heads", "parts": ["skin", "eye.L", "eye.R"], "neck": list(NECK), "scale": SCALE,
        "expression": {"jawOpen": 0.4}, **header,
    }  # fmt: skip
    return HeadMesh(values, vertices, corners, uv, part, keys, np.array(KEYS))


def head_surface() -> HeadSurface:
    """A box of twelve triangles, each vertex of a colour of its own."""
    triangles = np.concatenate([SIDES[:, :3], SIDES[:, [0, 2, 3]]]).astype(np.int32)
    vertices = (CUBE * 0.1 + [0.0, 0.1, 0.0]).astype(np.float32)
    colors = np.random.default_rng(1).integers(0, 256, (8, 3)).astype(np.uint8)
    normals = (CUBE / np.sqrt(3)).astype(np.float32)
    return HeadSurface({"unit": "m", "frame": "heads", "scale": SCALE}, vertices, triangles, colors, normals)


def write_job(folder: Path, *, body: bool = False) -> Path:
    """Write what a job leaves behind that is applied; give the clean mesh's file."""
    artifacts = folder / "artifacts"
    head_mesh().save(artifacts / "head_mesh.npz")
    head_surface().save(artifacts / "head_surface.npz")
    if body:
        head_mesh(neck=[0.0, 0.1, -1.5]).save(artifacts / "body_mesh.npz")
    colours = {"texture": (0.8, 0.5, 0.4, 1.0), "normal": (0.5, 0.5, 1.0, 1.0), "portrait": (1, 0, 0, 1)}
    for name, colour in colours.items():
        write_picture(artifacts / f"{name}.png", colour)
    return artifacts / "head_mesh.npz"


def write_picture(path: Path, colour, size: int = 16) -> Path:
    """Write a picture of one colour."""
    image = bpy.data.images.new(path.stem, size, size)
    image.pixels.foreach_set(np.tile(np.array(colour, np.float32), size * size))
    image.filepath_raw, image.file_format = str(path), "PNG"
    image.save()
    bpy.data.images.remove(image)
    return path
