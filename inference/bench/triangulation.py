"""Learned triangulation: error against the number of cameras, joints that nobody sees, honesty, speed and memory.

    python -m inference bench triangulation --data DIR [--only SECTION ...] [--plot FILE.png]

People that no network was trained on, as in `bench/lifter.py`; rigs at random, each filming a clip of ten frames; the
simulated detector of `training/rigs.py`. aniposelib is measured where it is installed.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import nets
from ..core import triangulation as core
from ..core.cameras import Camera, CameraSet
from ..motion import whole_clip
from ..motion.views import Located
from ..motion.views import Scene as Seen
from ..nets import joint_volume, motion_prior
from ..nets.joint_volume import JointVolume
from ..nets.motion_prior import MotionPrior
from ..nets.view_trust import Views, ViewTrust
from ..runtime.weights import locate
from ..training import captures, motions, rigs, surface
from . import triangulation_peers as peers
from .sections import check_data, parser_of
from .table import Table, write

COUNTS = (2, 3, 4, 6, 8, 10, 12)
CLIPS, FRAMES = 32, 10
SECTIONS = ("accuracy", "peers", "speed", "memory")
_BODY_SEED = 1001
# aniposelib's RANSAC takes ten seconds a clip with four cameras, a minute with six, and every camera more doubles it
_PEER_CLIPS = {2: 4, 4: 4}
_CAP = 1.0  # metres; no error counts as more, so that parallel rays do not decide a mean
_TOLD = 8  # points that two views must see before anything is asked of those that none sees
_TAKE = (18000, 8)  # frames and cameras of a ten-minute take
_FEET, _HANDS = slice(19, 25), slice(95, 137)
_WHOLE, _WHOLE_TEMPORAL = "whole clip", "whole clip, temporal"
_PART = 2 * FRAMES  # frames that are looked at together: whole clips
_FOCAL, _FPS = 1000.0, 30.0  # pixels, of the cameras that the whole clip is given; frames a second of clips

Method = Callable[[Views], Tensor]


class Capture(NamedTuple):
    """Frames of `FRAMES` a clip: what is seen, the truth (B, 137, 3), the sizes (B, V) of the person in the views."""

    views: Views
    truth: Tensor
    box: Tensor

    def part(self, which: slice) -> Capture:
        """Some of the frames."""
        return Capture(Views(*(value[which] for value in self.views)), self.truth[which], self.box[which])


class Learned(NamedTuple):
    """All networks."""

    trust: ViewTrust
    volume: JointVolume
    prior: MotionPrior

    def run(self, views: Views) -> dict[str, tuple[Tensor, Tensor]]:
        """Points and expected errors of clips of `FRAMES` frames: (B, 137, 3) and, of the body, (B, 25, 3), metres."""
        with torch.inference_mode():
            placed, trusted = joint_volume.place(self.volume, self.trust, views)
            moving = self.prior(views, trusted, FRAMES)
        found = {"algebraic": trusted, "volumetric": placed, "temporal": moving}
        return {name: (one.points.clone(), one.error.clone()) for name, one in found.items()}

    def run_all(self, views: Views) -> dict[str, tuple[Tensor, Tensor]]:
        """The same of many frames, of which not all fit into memory at once."""
        parts = [slice(start, start + _PART) for start in range(0, len(views.height), _PART)]
        runs = [self.run(Views(*(value[part] for value in views))) for part in parts]
        return {
            name: (torch.cat([r[name][0] for r in runs]), torch.cat([r[name][1] for r in runs])) for name in runs[0]
        }


def whole(views: Views, ran: dict[str, tuple[Tensor, Tensor]], first: str = "volumetric") -> tuple[Tensor, Tensor]:
    """Points (B, 137, 3) and their expected errors of clips of `FRAMES` frames, each placed as a whole.

    The body of the method `first` and the algebraic one's hands and face are what it starts from.
    """
    (points, error), (body_points, body_error) = ran["algebraic"], ran[first]
    points = torch.cat([body_points, points[:, 25:]], 1).double().numpy()
    error = torch.cat([body_error, error[:, 25:]], 1).double().numpy()
    found = []
    for start in range(0, len(points), FRAMES):
        clip = slice(start, start + FRAMES)
        seen = _scene(Views(*(value[clip] for value in views)))
        located = Located(points[clip], error[clip], seen.weight)
        found.append(whole_clip.place(seen, located, fps=_FPS, height=float(views.height[start])).located)
    placed, expected = (np.concatenate([getattr(part, name) for part in found]) for name in ("points", "error"))
    return torch.as_tensor(placed), torch.as_tensor(expected)


def _scene(views: Views) -> Seen:
    """Frames of one rig as the stage has them, in cameras of a thousand pixels."""
    matrix = np.array([[_FOCAL, 0.0, 0.5 * _FOCAL], [0.0, _FOCAL, 0.5 * _FOCAL], [0.0, 0.0, 1.0]])
    turns, places = views.rotation[0].double().numpy(), views.translation[0].double().numpy()
    size = (int(_FOCAL), int(_FOCAL))
    cameras = CameraSet(
        tuple(
            Camera(str(index), size, matrix, np.zeros(5), turn, place)
            for index, (turn, place) in enumerate(zip(turns, places, strict=True))
        )
    )
    score = views.score.swapaxes(0, 1).double().numpy()
    pixels = views.directions.swapaxes(0, 1).double().numpy() * _FOCAL + 0.5 * _FOCAL
    return Seen(cameras, np.where((score > 0)[..., None], pixels, np.nan), score, score)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write."""
    parser = parser_of("triangulation", __doc__, list(SECTIONS))
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--plot", type=Path, help="draw the error against the number of cameras")
    parser.add_argument("--take", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.take:
        sys.stdout.write(f"{solve_take():.1f}\n")
        return 0
    data = check_data(options.data)
    tables: list[Table] = []
    learned = load()
    if {"accuracy", "peers"} & set(options.only):
        bank = held_out(data)
        filmed = {count: film(bank, count, options.clips) for count in COUNTS}
        if "accuracy" in options.only:
            results = {count: measure(capture, learned) for count, capture in filmed.items()}
            tables += accuracy(results)
            tables.append(unseen(bank, learned, options.clips))
            if options.plot is not None:
                plot(results, options.plot)
        if "peers" in options.only:
            tables.append(beside_aniposelib(filmed, learned))
    if "speed" in options.only:
        tables.append(speed(learned))
    if "memory" in options.only:
        tables.append(memory())
    write(tables, options.out)
    return 0


def load() -> Learned:
    """The published weights."""
    trust, volume, prior = (nets.load(locate(name)) for name in ("view-trust", "joint-volume", "motion-prior"))
    assert isinstance(trust, ViewTrust) and isinstance(volume, JointVolume) and isinstance(prior, MotionPrior)
    return Learned(trust, volume, prior)


def held_out(data: Path) -> captures.Bank:
    """People and motions that were left out of training."""
    bodies = surface.build_bodies(40, np.random.default_rng(_BODY_SEED), ict=data / "heads" / "ict_facekit_linear.npz")
    parts = [motions.load(data, split, bodies.rest_directions) for split in ("val", "test")]
    offset = len(parts[0].names)
    both = motions.Motions(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("rotations", "root")),
        clip=np.concatenate([parts[0].clip, parts[1].clip + offset]),
        weights=np.concatenate([np.full(len(part.clip), 1.0 / len(part.clip)) for part in parts]),
        names=parts[0].names + parts[1].names,
    )
    return captures.bank(both, bodies, np.random.default_rng(0), hand_frames=1000)


def film(bank: captures.Bank, count: int, clips: int, *, hidden: float = 0.0) -> Capture:
    """Clips of random people before random rigs of `count` cameras."""
    g = torch.Generator().manual_seed(7)
    people = captures.sample_people(bank, clips, FRAMES, g, augment=False)
    scene = rigs.film(people, count, g, rigs.DETECTOR, replace(rigs.RIG, hidden=hidden))
    return Capture(scene.views, scene.truth, peers.boxes(scene.views, scene.truth))


def classical(capture: Capture) -> dict[str, Tensor]:
    """Points (B, 137, 3) of the ways that learn nothing."""
    g = torch.Generator().manual_seed(3)
    return {
        "DLT": peers.linear(capture.views),
        "RANSAC": peers.ransac(capture.views, capture.box, g, huber=False),
        "RANSAC + Huber": peers.ransac(capture.views, capture.box, g.manual_seed(3), huber=True),
    }


def measure(capture: Capture, learned: Learned) -> dict[str, dict[str, float]]:
    """Figures of every method, in mm and per cent; see `accuracy`."""
    ours = learned.run_all(capture.views)
    ours |= {_WHOLE: whole(capture.views, ours), _WHOLE_TEMPORAL: whole(capture.views, ours, "temporal")}
    count = (capture.views.score > 0).sum(1)
    out = {}
    for name, points in [*classical(capture).items(), *((name, value[0]) for name, value in ours.items())]:
        miss = (points - capture.truth[:, : points.shape[1]]).norm(dim=-1).clamp_max(_CAP)
        both = count[:, : miss.shape[1]] >= 2
        body = miss[:, :25][both[:, :25]]
        out[name] = {"mean": 1e3 * float(body.mean()), "median": 1e3 * float(body.median())}
        out[name]["feet"] = 1e3 * float(miss[:, _FEET][both[:, _FEET]].mean())
        if miss.shape[1] > 25:
            out[name]["hands"] = 1e3 * float(miss[:, _HANDS][both[:, _HANDS]].mean())
        if name in ours:
            inside = miss <= ours[name][1]
            out[name]["inside"] = 100 * float(inside[:, :25][both[:, :25]].float().mean())
    return out


def accuracy(results: dict[int, dict[str, dict[str, float]]]) -> list[Table]:
    """The tables of the figures of every number of cameras."""
    heads = [f"{count} cameras" for count in results]
    names = list(next(iter(results.values())))
    note = (
        "25 body points that two or more views see; errors beyond 1 m count as 1 m. RANSAC + Huber is the baseline as "
        "published with learnable triangulation. Temporal and whole clip: the ten frames of a clip together; the whole "
        "clip starts from the volumetric points, or from the temporal ones."
    )
    tables = [Table("Error against the number of cameras: mean (mm)", ("method", *heads), note=note)]
    tables.append(Table("The same: median (mm)", ("method", *heads)))
    for table, figure in zip(tables, ("mean", "median"), strict=True):
        for name in names:
            table.add(name, *(row[name][figure] for row in results.values()))
    goals = Table("Against the goals", ("goal", "reached", "wanted"))
    last = results[12]["RANSAC + Huber"]["mean"]
    four = results[4]["RANSAC + Huber"]["mean"]
    goals.add("algebraic with 4 cameras over RANSAC with 12", results[4]["algebraic"]["mean"] / last, "at most 1")
    goals.add("volumetric with 2 cameras over RANSAC with 12", results[2]["volumetric"]["mean"] / last, "at most 1")
    goals.add("temporal with 2 cameras over RANSAC with 12", results[2]["temporal"]["mean"] / last, "-")
    goals.add("whole clip with 2 cameras over RANSAC with 12", results[2][_WHOLE]["mean"] / last, "-")
    goals.add("whole clip with 4 cameras over RANSAC with 12", results[4][_WHOLE]["mean"] / last, "-")
    goals.add(
        "4 cameras: algebraic below RANSAC (%)", 100 - 100 * results[4]["algebraic"]["mean"] / four, "at least 25"
    )
    goals.add(
        "4 cameras: volumetric below RANSAC (%)", 100 - 100 * results[4]["volumetric"]["mean"] / four, "at least 45"
    )
    honest = Table("Errors inside the expected error (%; 68 wanted)", ("method", *heads))
    for name in ("algebraic", "volumetric", "temporal", _WHOLE):
        honest.add(name, *(row[name]["inside"] for row in results.values()))
    ends = Table("Feet (six points) and hands (42), mean (mm)", ("method", *heads))
    for end in ("feet", "hands"):
        for name in names:
            if end in results[2][name]:
                ends.add(f"{name}, {end}", *(row[name][end] for row in results.values()))
    return [*tables, goals, honest, ends]


def unseen(bank: captures.Bank, learned: Learned, clips: int) -> Table:
    """Limbs that are hidden from every camera, behind a table say: where those who know people put them."""
    table = Table(
        "Limbs hidden from every camera (mm)",
        ("method", "cameras", "hidden points", "mean", "median", "inside one sigma (%)", "the rest: mean"),
        note="In every clip one or both arms, legs, their ends, or the head are seen by no camera: the linear way has "
        f"no answer. Frames in which two views see {_TOLD} points or more. Target: 120.",
    )  # fmt: skip
    for count in (2, 4, 8):
        capture = film(bank, count, clips, hidden=1.0)
        ran = learned.run_all(capture.views)
        seen = (capture.views.score[:, :, :25] > 0).sum(1)
        told = ((seen >= 2).sum(1) >= _TOLD)[:, None]
        lost, rest = (seen == 0) & told, (seen >= 2) & told
        ran[_WHOLE] = whole(capture.views, ran)
        for name in ("volumetric", "temporal", _WHOLE):
            points, error = ran[name]
            miss = (points[:, :25] - capture.truth[:, :25]).norm(dim=-1).clamp_max(_CAP)
            inside = miss <= error[:, :25]
            figures = (miss[lost].mean(), miss[lost].median(), 0.1 * inside[lost].double().mean(), miss[rest].mean())
            table.add(name, count, int(lost.sum()), *(1e3 * float(figure) for figure in figures))
    return table


def plot(results: dict[int, dict[str, dict[str, float]]], file: Path) -> None:
    """Draw the mean error of every method against the number of cameras."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.0, 4.2))
    styles = {"DLT": ("0.7", ":"), "RANSAC": ("0.45", "--"), "RANSAC + Huber": ("0.2", "-."), "algebraic": ("C0", "-"),
              "volumetric": ("C3", "-"), "temporal": ("C1", "-"), _WHOLE: ("C2", "-")}  # fmt: skip
    for name, (colour, line) in styles.items():
        axes.plot(list(results), [row[name]["mean"] for row in results.values()], line, color=colour, marker="o",
                  markersize=4, label=name)  # fmt: skip
    axes.axhline(results[12]["RANSAC + Huber"]["mean"], color="0.85", linewidth=0.8, zorder=0)
    axes.set(xlabel="cameras", ylabel="mean error (mm)", yscale="log", xticks=list(results))
    axes.set_ylim(top=260)
    axes.set_yticks([20, 30, 50, 70, 100, 150], labels=["20", "30", "50", "70", "100", "150"])
    axes.minorticks_off()
    axes.grid(visible=True, color="0.92")
    axes.legend(frameon=False, ncols=3)
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def beside_aniposelib(filmed: dict[int, Capture], learned: Learned) -> Table:
    """Its two ways and ours on the same clips."""
    table = Table(
        "Beside aniposelib, the same points: mean / median (mm), seconds",
        ("cameras", "points", "its RANSAC", "its optimised", "RANSAC + Huber", "algebraic", "volumetric", "temporal",
         "its RANSAC (s)", "RANSAC (s)", "times faster"),
        note="Body points that two or more views see; its RANSAC tries every set of views, 2^n for n cameras. Its "
        "optimised one sees the ten frames of a clip together and is told the limbs; temporal sees them together, too.",
    )  # fmt: skip
    if not peers.aniposelib_is_there():
        table.note = "aniposelib is not installed: `pip install aniposelib` somewhere, and name that in PYTHONPATH."
        return table
    for count, clips in _PEER_CLIPS.items():
        whole = filmed[count]
        cut = [whole.part(slice(FRAMES * i, FRAMES * (i + 1))) for i in range(clips)]
        cut = [Capture(body(c.views), c.truth[:, :25], c.box) for c in cut]
        together = Capture(body(whole.part(slice(FRAMES * clips)).views), whole.truth[: FRAMES * clips, :25],
                           whole.box[: FRAMES * clips])  # fmt: skip
        start = time.perf_counter()
        ransac = np.concatenate([peers.aniposelib_ransac(c.views) for c in cut])
        middle = time.perf_counter()
        optimised = np.concatenate([peers.aniposelib_optimised(c.views) for c in cut])
        g, before = torch.Generator().manual_seed(3), time.perf_counter()
        plain = peers.ransac(together.views, together.box, g, huber=True)
        taken = time.perf_counter() - before
        found = [torch.as_tensor(ransac), torch.as_tensor(optimised), plain]
        found += [points[:, :25] for points, _ in learned.run(whole.part(slice(FRAMES * clips)).views).values()]
        both = (together.views.score > 0).sum(1) >= 2
        cells = []
        for points in found:
            miss = (points - together.truth).norm(dim=-1)[both].nan_to_num(_CAP).clamp_max(_CAP)
            cells.append(f"{1e3 * float(miss.mean()):.1f} / {1e3 * float(miss.median()):.1f}")
        table.add(count, int(both.sum()), *cells, middle - start, taken, (middle - start) / taken)
    return table


def body(views: Views) -> Views:
    """The 25 points of the body alone."""
    return views._replace(directions=views.directions[:, :, :25], score=views.score[:, :, :25])


def speed(learned: Learned) -> Table:
    """How fast each method is, four cameras, all cores."""
    table = Table(
        f"Speed, four cameras, {os.cpu_count()} shared cores",
        ("method", "figure", "", "target"),
        note="Fastest of five runs.",
    )
    g = torch.Generator().manual_seed(1)
    people = torch.rand(64, 137, 3, generator=g) * torch.tensor([0.6, 0.6, 1.7])
    views = rigs.film(people, 4, g, rigs.DETECTOR, rigs.RIG).views
    points = 400_000
    directions = views.directions[:1].permute(1, 0, 2, 3).reshape(4, -1, 2).repeat(1, points // 137 + 1, 1)[:, :points]
    weight = np.ones((4, points))
    rays = core.Rays(directions.double().numpy(), weight, views.rotation[0].double().numpy(),
                     views.translation[0].double().numpy())  # fmt: skip
    table.add("DLT", points / fastest(lambda: core.intersect(rays)) / 1e6, "million points a second", "at least 1")
    with torch.inference_mode():
        algebraic = fastest(lambda: learned.trust(views)) / 64
        part = Views(*(value[:16] for value in views))
        volumetric = fastest(lambda: joint_volume.place(learned.volume, learned.trust, part)) / 16
        few = Views(*(value[:32] for value in views))
        temporal = fastest(lambda: motion_prior.place(learned.prior, learned.trust, few, 32)) / 32
    table.add("algebraic, 137 points", 1e3 * algebraic, "ms a frame", "at most 1")
    table.add("volumetric and algebraic, 25 and 137 points", 1e3 * volumetric, "ms a frame", "at most 100")
    table.add("temporal and algebraic, 25 and 137 points", 1e3 * temporal, "ms a frame", "-")
    return table


def fastest(work: Callable[[], object], runs: int = 5) -> float:
    """Seconds of the fastest run."""
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def memory() -> Table:
    """The most memory that the stage takes for a ten-minute take of eight cameras, in a process of its own."""
    command = [sys.executable, "-m", "inference", "bench", "triangulation", "--take"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    frames, count = _TAKE
    table = Table(f"A take of {frames} frames and {count} cameras, 137 keypoints", ("figure", "measured", "target"))
    table.add("most memory (GB)", peak, "at most 2")
    table.add("seconds", float(done.stdout.split()[-1]), "-")
    return table


def solve_take() -> float:
    """Triangulate a long take by the stage, with what it chooses itself; gives the seconds."""
    from ..core.artifacts import Keypoints2D
    from ..core.skeletons import OPENPOSE_137
    from ..motion.triangulate import TriangulateSettings, triangulate
    from ..protocol.events import SilentReporter
    from . import views as rig

    frames, count = _TAKE
    rng = np.random.default_rng(0)
    cameras = rig.random_rig(count, np.array([0.0, 0.0, 0.9]), rng)
    stands = 1.7 * load().volume.settle.typical.double().numpy() + [0.0, 0.0, 0.9]
    person = np.concatenate([stands, stands[:1].repeat(70, 0), stands[7:8].repeat(21, 0), stands[4:5].repeat(21, 0)])
    person += rng.normal(0, 0.01, person.shape)
    moves = np.sin(np.arange(frames) / 40.0)[:, None, None] * [0.5, 0.3, 0.0]
    views = []
    for camera in cameras:
        seen = rig.project(camera, person + moves) + rng.normal(0, 3.0, (frames, len(OPENPOSE_137), 2))
        header = {"unit": "px", "frame": "image", "fps": 30.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
                  "image_size": list(camera.size), "source": "", "view": camera.name}  # fmt: skip
        score = rng.uniform(0.4, 1.0, seen.shape[:2])
        views.append(Keypoints2D(header, seen.astype(np.float32), score.astype(np.float32), np.arange(frames) / 30.0))
    start = time.perf_counter()
    triangulate(views, cameras, TriangulateSettings(whole_clip=True), SilentReporter())
    return time.perf_counter() - start
