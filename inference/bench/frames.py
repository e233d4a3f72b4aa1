"""Frames of a reenactment that are killed again and again: what is left, and whether the pixels are the same.

    python -m inference bench frames --data DIR [--weights FILE] [--kills 3] [--frames 300] [--out FILE]

A photo is driven by real films of the data set, once without a break and once with kills at random frames.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..runtime.video import probe, read_frames, write_movie
from .table import Table, write

_ROOT = Path(__file__).resolve().parents[2]
_PHOTO, _FILMS = "faces/skimage_astronaut.png", "video_mono/asl_*.mkv"


def film(data: Path, path: Path, count: int) -> None:
    """Join the films of one size until there are so many frames."""
    sources = sorted(data.glob(_FILMS))
    size = probe(sources[0]).size
    left = count
    with write_movie(path, 30.0, size) as movie:
        for source in sources:
            if probe(source).size == size:
                for _, _, rgb in read_frames(source, stop=left):
                    movie.write(rgb)
                    left -= 1


def start(words: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Run the command as a user does."""
    command = [sys.executable, "-m", "inference", "reenact", *words, "--out", str(folder)]
    return subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def frames(folder: Path) -> dict[str, str]:
    """Hash of each whole frame by its name."""
    found = sorted((folder / "artifacts" / "frames").glob("frame_*"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def kill_at(words: Sequence[str], folder: Path, count: int) -> int:
    """Run until so many frames are there, then kill; how many there were."""
    process = start(words, folder)
    while process.poll() is None and len(frames(folder)) < count:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len(frames(folder))


def main(arguments: Sequence[str]) -> int:
    """Measure."""
    parser = argparse.ArgumentParser(prog="bench frames", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--iterations", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        film(options.data, folder / "driver.mp4", options.frames)
        words = ["--source", str(options.data / _PHOTO), "--driver", str(folder / "driver.mp4"), "--no-movie"]
        words += ["--iterations", str(options.iterations)]
        words += ["--network", str(options.weights)] if options.weights else []
        whole, broken = folder / "whole", folder / "broken"
        table = Table(f"{options.frames} frames, killed {options.kills} times", ["what", "figure", "wanted"])
        assert start(words, whole).wait() == 0
        stops = sorted(np.random.default_rng(0).choice(options.frames - 1, options.kills, replace=False) + 1)
        left = [kill_at(words, broken, int(stop)) for stop in stops]
        assert start(words, broken).wait() == 0
        first, second = frames(whole), frames(broken)
        same = sum(first[name] == second.get(name) for name in first)
        report = json.loads((whole / "report.json").read_text(encoding="utf-8"))
        table.add("whole frames after each kill", ", ".join(map(str, left)), None)
        table.add("frames with the same pixels", f"{same} of {len(first)}", f"{options.frames} of {options.frames}")
        table.add("ms a frame, file included", report["ms_a_frame"], None)
        table.add("ms a frame to follow and describe the driver", 1e3 * report["seconds"]["drive"] / len(first), None)
        write([table], options.out)
    return 0
