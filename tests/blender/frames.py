"""Finished frames with known truth: each of a grey of its own, opaque on the left and clear on the right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from understudy.inference.core.artifacts import PoseDescriptors
from understudy.inference.core.formats.pictures import encode_png, to_bytes
from understudy.inference.protocol.files import atomic_write_bytes

SIDE = 8
NETWORK = "0" * 64


def grey(number: int) -> float:
    """Brightness of a frame, sRGB."""
    return 0.1 + 0.04 * (number % 20)


def write_job(
    folder: Path, numbers=range(5, 17), *, fps=24.0, driver="", is_film=False, start_s=0.0, times=None
) -> Path:
    """Write what a job leaves behind that is applied; give the description of its frames."""
    for number in numbers:
        rgba = np.ones((SIDE, SIDE, 4))
        rgba[..., :3], rgba[:, SIDE // 2 :, 3] = grey(number), 0.0
        atomic_write_bytes(folder / "artifacts" / "frames" / f"frame_{number:04d}.png", encode_png(to_bytes(rgba)))
    manifest = {
        "folder": "frames", "stem": "frame_", "digits": 4, "suffix": ".png", "size": SIDE, "frames": list(numbers),
        "fps": fps, "start_s": start_s, "driver": str(driver), "is_film": is_film, "unseen": [],
        **({} if times is None else {"times": list(times)}),
    }  # fmt: skip
    path = folder / "artifacts" / "reenactment.json"
    path.write_text(json.dumps(manifest))
    descriptors(numbers, fps).save(folder / "artifacts" / "driver.npz")
    return path


def descriptors(numbers=range(5, 17), fps: float = 24.0) -> PoseDescriptors:
    """Descriptors that turn evenly in a plane, a tenth of a radian a frame."""
    angles = 0.1 * np.arange(len(numbers))
    values = np.zeros((len(numbers), 6), np.float32)
    values[:, 0], values[:, 1] = np.cos(angles), np.sin(angles)
    header = {"fps": fps, "network": NETWORK, "source": ""}
    return PoseDescriptors(
        header, values, np.array(numbers), np.arange(len(numbers)) / fps, np.ones(len(numbers), bool)
    )
