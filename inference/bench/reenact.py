"""Figures of reenactment on rendered people who were left out.

python -m inference bench reenact --data DIR [--films DIR] [--weights FILE] [--compare NAME=FILE ...] [--out FILE]

`--films` keeps the films between runs (`training.face_films` shoots those of people left out, and `films.npz`, on
which the linear probes learn), of 128 px, of which networks of smaller pictures see means; `--compare` adds networks
that were trained another way. Beside `--out` a picture shows errors of identity and of pose against each other, one
point a network.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.stats import rankdata

from .. import nets
from ..core.descriptors import smooth
from ..core.face_shapes import SHAPES
from ..nets import latent_pose
from ..nets.face_features import FaceFeatures
from ..reenact import network
from ..reenact.landmarks import Detector
from ..reenact.network import Network
from ..training import face_films
from ..training.reenactment import background, coefficients_of
from ..training.script import Run
from . import reenact_measures as measures
from .table import Table, write

LOG = logging.getLogger("understudy.bench")
Array = np.ndarray
IDENTITY = Path(__file__).with_name("face_identity.safetensors")  # a network of our own that no training has seen
_SHOWN = ("jawOpen", "eyeBlinkLeft", "mouthSmileLeft", "mouthPucker", "browInnerUp")
_FILMED_PX = 128  # side of films where they are shot here
_SOURCES = 8  # frames that say who somebody is
_STEPS = 9  # between two descriptors
_FPS = 25.0  # of the motion without jumps
_SMOOTHED_S = 0.04


@dataclass(frozen=True)
class Seen:
    """Films of people left out: images (people, shots, T, S, S, 3) in [0, 1] times masks (people, shots, T, S, S).

    drivers (people, shots, T, P, P, 3): before some background, as large as they were filmed; coefficients (people,
    shots, T, 58); landmarks (people, shots, T, 478, 2) true, px of drivers.
    """

    images: Array
    masks: Array
    drivers: Array
    coefficients: Array
    landmarks: Array


def read(path: Path, shots: int, size: int) -> Seen:
    """Read films of people left out, to judge pictures of (size, size) px by."""
    with np.load(path, allow_pickle=False) as arrays:
        images, masks = arrays["images"] / np.float32(255), arrays["masks"] / np.float32(255)
        coefficients = coefficients_of(arrays["weights"], arrays["rotations"])
        landmarks = arrays["landmarks"].astype(np.float32)
    rng = np.random.default_rng(3)
    drivers = np.empty_like(images)
    for film, (image, mask) in enumerate(zip(images, masks, strict=True)):  # one background a film
        drivers[film] = image + (background(image.shape[1], rng) / np.float32(255)) * (1 - mask[..., None])
    images, masks = _smaller(images, size), _smaller(masks, size)
    parts = [part.reshape(-1, shots, *part.shape[1:]) for part in (images, masks, drivers, coefficients, landmarks)]
    return Seen(parts[0], parts[1], parts[2], parts[3], parts[4])


def _smaller(pictures: Array, size: int) -> Array:
    """(N, T, S, S, ...) in (size, size) px, each the mean of what it covers."""
    if pictures.shape[2] == size:
        return pictures
    flat = pictures.reshape(-1, *pictures.shape[2:])
    means = [cv2.resize(one, (size, size), interpolation=cv2.INTER_AREA) for one in flat]
    return np.stack(means).reshape(*pictures.shape[:2], *means[0].shape)


def descriptors(net: Network, images: Array) -> Array:
    """(..., D) of pictures (..., S, S, 3)."""
    flat = images.reshape(-1, *images.shape[-3:])
    return net.pose(flat).reshape(*images.shape[:-3], -1)


def disentanglement(named: dict[str, Network], seen: Seen, films: Path, detected: dict[str, Array]) -> list[Table]:
    """What linear probes read from descriptors, and whether the same pose is found on other people."""
    people, shots, poses = seen.images.shape[:3]
    who = np.broadcast_to(np.arange(people)[:, None, None], (people, shots, poses)).ravel()
    first = np.broadcast_to(np.arange(shots)[:, None] == 0, (people, shots, poses)).ravel()
    even = np.broadcast_to(np.arange(poses) % 2 == 0, (people, shots, poses)).ravel()
    table = Table(
        f"Disentanglement: {people} people left out, {poses} poses, chance {100 / people:.1f} %",
        [
            "what", "numbers", "person named in another film, %", "in the same film, %", "R2 turn", "R2 all shapes",
            *(f"R2 {n}" for n in _SHOWN), "R2 lips, lids", "found, %",
        ],
        note="Named: a linear classifier learns from one film of each person, or from every other frame of each film, "
        "whose light, background and framing it then knows as well. Found: the nearest frame of another person is the "
        "one in the same pose.",
    )  # fmt: skip
    with np.load(films, allow_pickle=False) as arrays:
        trained, known = arrays["images"][:, ::2], arrays["masks"][:, ::2, ..., None] / np.float32(255)
        wanted = coefficients_of(arrays["weights"][:, ::2], arrays["rotations"][:, ::2]).reshape(-1, 58)
        opened = measures.openings(arrays["landmarks"][:, ::2].astype(np.float32)).reshape(-1, 2)
    rng = np.random.default_rng(4)
    behind = np.stack([background(trained.shape[2], rng) for _ in range(len(trained))])[:, None]
    trained = (trained + behind * (1 - known)).astype(np.uint8)
    truth, open_truth = seen.coefficients.reshape(-1, 58), measures.openings(seen.landmarks).reshape(-1, 2)
    moving = truth[:, :52].std(0) > 0.02
    for name, net in named.items():
        found, basis = descriptors(net, seen.drivers), descriptors(net, trained)
        flat, basis = found.reshape(-1, found.shape[-1]), basis.reshape(-1, found.shape[-1])
        known, learnt = np.isfinite(flat).all(1), np.isfinite(basis).all(1)  # landmarks are not found in all
        scores = measures.linear_probe(basis[learnt], wanted[learnt], flat[known], truth[known])
        lips = measures.linear_probe(basis[learnt], opened[learnt], flat[known], open_truth[known])
        pooled = _pooled(scores[:52], truth[:, :52], moving)
        same = measures.retrieval(found[:, 0])
        table.add(
            name, flat.shape[1], 100 * measures.identity_probe(flat[known], who[known], first[known]),
            100 * measures.identity_probe(flat[known], who[known], even[known]),
            _pooled(scores[52:], truth[:, 52:]), pooled,
            *(float(scores[SHAPES.index(n)]) for n in _SHOWN), f"{lips[0]:.2f}, {lips[1]:.2f}", 100 * same,
        )  # fmt: skip
    blanks: list[None] = [None] * (len(_SHOWN) + 6)
    for size, marks in detected.items():
        found = 100 * measures.retrieval(measures.normalised(marks))
        table.add(f"landmarks, detected in {size} and normalised", *blanks, found)
    table.add(
        "landmarks, true and normalised", *blanks, 100 * measures.retrieval(measures.normalised(seen.landmarks[:, 0]))
    )
    table.add("wanted", None, f"<= {200 / people:.0f}", None, ">= 0.8", ">= 0.8", *blanks[:6], "best")
    return [table]


def _pooled(scores: Array, truth: Array, chosen: Array | None = None) -> float:
    """One R2 of many, each weighed by its variance."""
    weight = truth.var(0) * (1.0 if chosen is None else chosen)
    return float((scores * weight).sum() / weight.sum())


def driving(named: dict[str, Network], seen: Seen, judge: FaceFeatures, detector: Detector) -> Table:
    """Identity and pose errors where every person is driven by one other; the truth is the person in the same pose."""
    people, every, eyes = len(seen.images), slice(None, None, 2), next(iter(named.values()))
    true_who = _who(judge, seen.images[:, 0])
    average = true_who.mean(1) / np.linalg.norm(true_who.mean(1), axis=-1, keepdims=True)
    table = Table(
        "Driving by another person: errors of identity (1 - cosine), of pose (landmarks over the eyes' distance), and "
        "of the turn (degrees)",
        ["what", "identity", "pose, aligned", "pose", "turn", "lips", "identity, own frames", "pose, own frames",
         "no face found, %"],
    )  # fmt: skip
    targets = np.stack([detector.landmarks(seen.images[a, 1, every]) for a in range(people)])
    turns = np.stack([_turns(eyes, film[every]) for film in seen.images[:, 1]])
    for name, net in named.items():
        cross, own, missing = [], [], []
        for a in range(people):
            who = net.identity(seen.drivers[a, 0, :_SOURCES])
            for b, rows in (((a + 7) % people, cross), (a, own)):
                rgb, known = _driven(net, who, seen.drivers[b, 1, every], seen.masks[a, 1, every])
                marks = np.full(targets[a].shape, np.nan)
                marks[known] = detector.landmarks(rgb)
                missing.append(np.isnan(marks[:, 0, 0]).mean())
                pose = [measures.landmark_error(marks, targets[a], aligned=way) for way in (True, False)]
                unlike = float(1 - (_who(judge, rgb) @ average[a]).mean())
                lips = measures.follows(measures.openings(marks)[:, 0], measures.openings(targets[a])[:, 0])
                rows.append([unlike, *pose, _apart_deg(_turns(eyes, rgb), turns[a][known]), lips])
        (c, ca, cp, ct, cl), (o, oa, _, _, _) = _means(cross), _means(own)
        table.add(name, c, ca, cp, ct, cl, o, oa, 100 * float(np.mean(missing)))
    _add_bounds(table, seen, targets, turns, (judge, detector, eyes))
    others = average @ average.T
    far = float(1 - others[~np.eye(people, dtype=bool)].mean())
    table.note = (
        f"Two different people are {far:.2f} apart by the same measure. The turn is read by the first "
        "network's own pose encoder and head, in made frames and in true ones, so that it is known where no landmarks "
        "are found. Lips: how far landmarks of made frames open them for each unit that those of the true person do. "
        "Of frames of a network without a mask, what lies outside the true person is erased."
    )
    return table


def _driven(net: Network, who: Array, drivers: Array, masks: Array) -> tuple[Array, Array]:
    """Frames (N, S, S, 3) of a person before black, and which drivers (T,) bool said a pose."""
    poses = net.pose(drivers)
    known = np.isfinite(poses).all(1)
    rgb, _ = net.frame(who, poses[known])
    return (rgb if net.net.config.mask else rgb * masks[known][..., None]), known


def _add_bounds(
    table: Table, seen: Seen, targets: Array, turns: Array, judges: tuple[FaceFeatures, Detector, Network]
) -> None:
    """Add what copying the source gives, and the true person."""
    judge, detector, eyes = judges
    true_who = _who(judge, seen.images[:, 0])
    average = true_who.mean(1) / np.linalg.norm(true_who.mean(1), axis=-1, keepdims=True)
    copied, truth = [], []
    for a, wanted in enumerate(targets):
        marks = np.repeat(detector.landmarks(seen.images[a, 0, :1]), len(wanted), 0)
        still = np.repeat(_turns(eyes, seen.images[a, 0, :1]), len(wanted), 0)
        errors = [measures.landmark_error(marks, wanted, aligned=way) for way in (True, False)]
        copied.append([float(1 - true_who[a, 0] @ average[a]), *errors, _apart_deg(still, turns[a])])
        truth.append(1 - (_who(judge, seen.images[a, 1:]) @ average[a]).mean())
    table.add("copying the source", *_means(copied), 0.0, None, None, None)
    table.add("the true person in another film", float(np.mean(truth)), 0.0, 0.0, 0.0, 1.0, None, None, None)


def draw_front(table: Table, path: Path) -> None:
    """Draw a point for each row of `driving`, and below the networks alone, nearer; lower left is better."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8), layout="constrained")
    FigureCanvasAgg(figure)
    measured = {"pose, aligned": "pose, aligned", "pose": "pose", "turn": "turn, degrees"}
    grid = figure.subplots(2, len(measured))
    for which, (column, label) in enumerate(measured.items()):
        place = table.columns.index(column)
        for index, row in enumerate(table.rows):
            unseen = "" if row[-1] is None else f", no face found in {row[-1]:.0f} %"
            for axes in grid[: 1 if row[-1] is None else 2, which]:
                axes.plot(row[1], row[place], "o", color=f"C{index}", label=f"{row[0]}{unseen}", alpha=0.8)
        for axes in grid[:, which]:
            axes.set(xlabel="error of identity", ylabel=f"error of {label}")
            axes.margins(0.15)
            axes.grid(alpha=0.3)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=100)


def _means(rows: list[list[float]]) -> list[float]:
    """Means of columns over what is known; NaN where nothing is."""
    columns = np.array(rows, float).T
    return [float(column[np.isfinite(column)].mean()) if np.isfinite(column).any() else np.nan for column in columns]


@torch.no_grad()
def _who(judge: FaceFeatures, images: Array) -> Array:
    """(..., T, 128) unit vectors of pictures (..., T, S, S, 3) before black."""
    tensor = torch.from_numpy(np.ascontiguousarray(images.reshape(-1, *images.shape[-3:]))).permute(0, 3, 1, 2)
    found = torch.cat([judge.heads(part.float())[0] for part in tensor.split(64)])
    return found.numpy().reshape(*images.shape[:-3], -1)


def _turns(eyes: Network, images: Array) -> Array:
    """(T, 3, 3) how heads are turned in pictures (T, S, S, 3), as a network's own head reads it."""
    read = eyes.coefficients(eyes.pose(images))
    assert read is not None
    first, second = read[:, -6:-3].astype(float), read[:, -3:].astype(float)
    first /= np.linalg.norm(first, axis=-1, keepdims=True)
    second -= (second * first).sum(-1, keepdims=True) * first
    second /= np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], -2)


def _apart_deg(a: Array, b: Array) -> float:
    """Mean angle between rotations (N, 3, 3), degrees."""
    trace = np.einsum("nij,nij->n", a, b)
    return float(np.degrees(np.arccos(np.clip(0.5 * (trace - 1), -1, 1))).mean()) if len(trace) else float("nan")


def between(net: Network, moving: Seen) -> Table:
    """Whether what lies between two descriptors lies between in turn of the head and opening of the jaw."""
    table = Table(
        "Between two descriptors (slerp): rank correlation of what made frames show with the way gone",
        ["person", "turn", "jaw", "turn, descriptor", "jaw, descriptor"],
        note="Frames are read by the network's own pose encoder and head, descriptors by the head alone.",
    )  # fmt: skip
    jaw, yaw = SHAPES.index("jawOpen"), len(SHAPES) + 2  # of the first row of the rotation, sine of the yaw
    for person in range(len(moving.images)):
        found = descriptors(net, moving.drivers[person, 0])
        who = net.identity(moving.drivers[person, 0, ::10])
        truth, row = moving.coefficients[person, 0], []
        for which in (yaw, jaw):
            order = np.argsort(truth[:, which])
            last = order[-2]
            first = order[1] if which == yaw else order[np.argmin(np.abs(truth[order[:20], yaw] - truth[last, yaw]))]
            path = np.stack([slerped(found[first], found[last], t) for t in np.linspace(0, 1, _STEPS)])
            for poses in (net.pose(net.frame(who, path)[0]), path):
                read = net.coefficients(poses)
                assert read is not None
                row.append(_rank_correlation(np.arange(_STEPS), read[:, which]))
        table.add(f"{person + 1}", *row[::2], *row[1::2])
    table.add("mean", *_means([[float(value) for value in row[1:]] for row in table.rows]))  # type: ignore[arg-type]
    table.add("wanted", ">= 0.95", ">= 0.95", None, None)
    return table


def _rank_correlation(a: Array, b: Array) -> float:
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def slerped(first: Array, last: Array, t: float) -> Array:
    """A descriptor between two, on the arc between their directions, of a length between theirs."""
    lengths = np.linalg.norm(first), np.linalg.norm(last)
    a, b = first / lengths[0], last / lengths[1]
    angle = float(np.arccos(np.clip(a @ b, -1, 1)))
    if angle < 1e-4:
        return first + t * (last - first)
    way = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return way * ((1 - t) * lengths[0] + t * lengths[1])


def smoothness(named: dict[str, Network], moving: Seen, detector: Detector) -> Table:
    """How rough descriptors of a smooth motion are in time, beside landmarks."""
    table = Table(
        "Roughness in time (second difference over spread); less is smoother", ["what", "roughness"],
        note="Crops of these films shake from frame to frame; those of a job that is driven by a film do not.",
    )  # fmt: skip
    films = moving.drivers[:, 0]
    found = {name: [net.pose(film) for film in films] for name, net in named.items()}
    for name, paths in found.items():
        table.add(name, float(np.mean([measures.roughness(path) for path in paths])))
    first, paths = next(iter(found.items()))
    times = np.arange(len(paths[0])) / _FPS
    softened = [measures.roughness(smooth(path.astype(float), times, _SMOOTHED_S)) for path in paths]
    table.add(f"{first}, averaged over {_SMOOTHED_S:g} s as a job can be asked to", float(np.mean(softened)))
    marks = [measures.normalised(detector.landmarks(film)) for film in films]
    table.add("landmarks, detected and normalised", float(np.mean([measures.roughness(one) for one in marks])))
    true = [measures.roughness(measures.normalised(film)) for film in moving.landmarks[:, 0]]
    table.add("landmarks, true and normalised", float(np.mean(true)))
    return table


def speed(net: Network) -> Table:
    """Milliseconds on one core."""
    torch.set_num_threads(1)
    table = Table("Speed, one core, ms (the quietest of 15)", ["what", "ms", "wanted"])
    paper = network.new(latent_pose.PAPER).net.embedder.eval()
    picture = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        table.add("pose encoder, paper, 256 px", _quietest(lambda: paper.pose(picture)), "<= 20")
        small, pose = torch.rand(1, 3, net.pose_size, net.pose_size), torch.zeros(1, net.pose_numbers)
        who = torch.zeros(1, net.net.config.identity)
        table.add(f"pose encoder, published, {net.pose_size} px", _quietest(lambda: net.net.embedder.pose(small)), None)
        table.add(f"generator, published, {net.size} px", _quietest(lambda: net.net.generator(who, pose)), "<= 25")
    return table


def _quietest(work: object) -> float:
    times = []
    for _ in range(15):
        began = time.perf_counter()
        work()  # type: ignore[operator]
        times.append(time.perf_counter() - began)
    return 1e3 * min(times)


def main(arguments: Sequence[str]) -> int:
    """Measure everything."""
    parser = argparse.ArgumentParser(
        prog="bench reenact", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--films", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--compare", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with tempfile.TemporaryDirectory() as temporary:
        films = options.films or Path(temporary)
        face_films.shoot_all(options.data, Run(films), films=120, size=_FILMED_PX, rays=1)
        named = {"ours": network.load(options.weights)}
        named |= {name: network.load(Path(file)) for name, file in (text.split("=", 1) for text in options.compare)}
        judge = nets.load(IDENTITY)
        assert isinstance(judge, FaceFeatures)
        size, detector = named["ours"].size, Detector()
        seen, moving = read(films / "held_out.npz", 2, size), read(films / "smooth.npz", 1, size)
        first = seen.drivers[:, 0]
        detected = {
            f"{shown.shape[2]} px": np.stack([detector.landmarks(one) for one in shown])
            for shown in (_smaller(first, size), first)
        }
        driven = driving(named, seen, judge, detector)
        tables = [*disentanglement(named, seen, films / "films.npz", detected), driven]
        tables += [between(named["ours"], moving), smoothness(named, moving, detector), speed(named["ours"])]
        write(tables, options.out)
        if options.out:
            draw_front(driven, options.out.with_suffix(".png"))
    return 0
