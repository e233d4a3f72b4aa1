"""Figures of heads from photos: people left out, by the protocol of H3DS, against simpler ways and other priors.

python -m inference bench head --data DIR [--people N] [--compare NAME=FILE ...] [--keep DIR] [--out FILE]
python -m inference bench head --data DIR --only priors --quality draft --compare NAME=FILE ... --figure FILE

`--compare` adds other priors (files that training.multi_neus wrote); `--keep` keeps each measured fit, so that a run
that was stopped goes on where it was; `--figure` draws PSNR against rank.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import mediapipe
import numpy as np
import torch
from scipy.ndimage import zoom

from .. import nets
from ..core.cameras import Camera
from ..head import surface
from ..head.camera import place
from ..head.frame import from_sphere, similarity
from ..head.prior import Prior
from ..head.render import picture_from
from ..head.seen import Seen
from ..head.surface import FitSettings, Fitted, Fitting, load_prior
from ..head.wrap import load_template
from ..nets.multi_neus import MultiNeus, MultiNeusConfig
from ..nets.neus_render import Grid, NearConfig, RenderConfig, near_surface, render
from ..protocol.events import SilentReporter
from ..sight.faces import Faces
from ..training import portraits
from . import heads
from .head_spread import spread
from .heads import Person, Predicted, Score, mesh_of, score
from .table import Table, write

LOG = logging.getLogger("understudy.bench")
Array = np.ndarray
VIEWS = {"front": (0.0,), "left": (45.0,), "right": (-45.0,), "three": (0.0, 45.0, -45.0)}
_NOVEL = (25.0, 60.0)  # degrees: where pictures are asked for that nobody took
_AVATARS = ("Black_M_2", "AIAN_M_2", "White_F_2", "Hispanic_F_1", "MENA_M_1", "Asian_F_3")  # portraits.HELD_OUT
_DRAWN = tuple(f"ict_{seed}" for seed in portraits.HELD_OUT_MODEL)


@dataclass(frozen=True)
class Shot:
    """A person in photos, as the detector sees them."""

    person: Person
    seed: int
    photos: list[Seen]


class Kept:
    """Results by name, in memory and in a file."""

    def __init__(self, folder: Path | None, quality: str) -> None:
        self.path = folder / f"head_{quality}.json" if folder else None
        self.rows: dict[str, Any] = {}
        if self.path and self.path.exists():
            self.rows = json.loads(self.path.read_text(encoding="utf-8"))

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """What is known, or is found now."""
        if name not in self.rows:
            self.rows[name] = make()
            LOG.info("%s %s", name, self.rows[name])
            if self.path:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_text(json.dumps(self.rows, indent=1), encoding="utf-8")
        return self.rows[name]


class Studio:
    """The people left out, and how heads are fitted to photos of them."""

    def __init__(self, data: Path, settings: FitSettings) -> None:
        self.data, self.settings = data, settings
        self.met: dict[str, Person] = {}

    def person(self, name: str) -> Person:
        """Somebody, met once."""
        if name not in self.met:
            with mediapipe.solutions.face_mesh.FaceMesh(  # type: ignore[attr-defined]
                static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.3
            ) as mesh:
                self.met[name] = heads.meet(self.data, name, mesh)
        return self.met[name]

    def shot(self, name: str, view: str) -> Shot:
        """Somebody photographed from some sides under one light; every other camera notes its focal length."""
        person, seed, photos = self.person(name), sum(map(ord, name)), []
        with Faces() as faces:
            for degrees in VIEWS[view]:
                image, mask, camera = heads.photograph(person, degrees, seed)
                focal = float(camera.matrix[0, 0]) if seed % 2 else None
                photos.append(heads.seen(faces, name, image, mask, focal))
        return Shot(person, seed, photos)


def main(arguments: Sequence[str]) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="inference bench head", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--people", type=int, default=6, help="avatars, and as many drawn from the head model")
    parser.add_argument("--sides", type=int, default=2, help="of each: also from left, right and in three photos")
    parser.add_argument("--few", type=int, default=2, help="of each: for the other priors and a single scene")
    parser.add_argument("--compare", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--quality", choices=("draft", "default", "high"), default="default")
    parser.add_argument("--only", choices=("accuracy", "priors", "spread", "speed"), help="this table alone")
    parser.add_argument(
        "--figure", type=Path, help="PNG: PSNR after both stages against the rank of priors that are called 'rank N'"
    )
    parser.add_argument("--reader", type=Path, help="what training.head_shape wrote, in place of the published")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    kept, studio = Kept(options.keep, options.quality), Studio(options.data, FitSettings.of(options.quality))
    prior = load_prior()
    if options.reader:
        prior.reader = nets.load(options.reader)  # type: ignore[assignment]
    others = {n: Path(f) for n, f in (item.split("=", 1) for item in options.compare)}
    made: dict[str, Callable[[], Table]] = {
        "accuracy": lambda: accuracy(studio, prior, kept, options.people, options.sides),
        "simpler": lambda: simpler(studio, prior, kept, options.people, options.few),
        "priors": lambda: priors(studio, others, kept, options.few, options.figure),
        "spread": lambda: _spread(studio, prior, kept, options.people, options.sides),
        "speed": lambda: speed(studio, prior, kept),
    }
    write([make() for name, make in made.items() if options.only in (None, name)], options.out)
    return 0


def accuracy(studio: Studio, prior: Prior, kept: Kept, people: int, sides: int) -> Table:
    """How far fitted heads are from the true ones, against the average head."""
    title = "Heads from photos: mean distance true to predicted, mm (face / head), and its ratio to the average head's"
    columns = ("people", "photos", "average head", "after stage 1", "after stage 2", "face ratio", "head ratio", "goal")
    table = Table(title, columns)
    groups = {"avatars": _AVATARS, "head model": _DRAWN}
    for view, goal in (("front", "0.6 / 0.75"), ("left", "0.6 / 0.75"), ("right", "0.6 / 0.75"), ("three", "0.45")):
        for group, names in groups.items():
            count = people if view == "front" else sides
            rows = [
                kept.get(f"{name} {view}", lambda n=name, v=view: _measured(studio, prior, n, v))
                | {"average": _averaged(studio, prior, kept, name)}
                for name in names[:count]
            ]
            if rows:
                table.add(f"{len(rows)} {group}", view, *_means(rows), goal)
    return table


def _means(rows: list[dict[str, Any]]) -> tuple[Any, ...]:
    values = {key: np.array([row[key] for row in rows]) for key in ("average", "first", "second")}
    ratio = values["second"] / values["average"]
    texts = [f"{v[:, 0].mean():.2f} / {v[:, 1].mean():.2f}" for v in values.values()]
    return *texts, float(ratio[:, 0].mean()), float(ratio[:, 1].mean())


def _measured(studio: Studio, prior: Prior, name: str, view: str) -> dict[str, Any]:
    """Fit one person; scores of both stages, times, and pictures from where nobody stood."""
    shot = studio.shot(name, view)
    fitting = begin(shot.photos, prior, studio.settings)
    began = time.monotonic()
    fitting.first()
    first, middle = fitting.result(), time.monotonic()
    fitting.second()
    second, end = fitting.result(), time.monotonic()
    return {
        "first": score(shot.person, head_of(first)), "second": score(shot.person, head_of(second)),
        "seconds": [middle - began, end - middle],
        "psnr": [novel_psnr(shot, first), novel_psnr(shot, second)], "figures": second.figures,
    }  # fmt: skip


def _averaged(studio: Studio, prior: Prior, kept: Kept, name: str) -> Score:
    """The average head against a person, whom photos do not change."""
    return kept.get(f"the average head: {name}", lambda: score(studio.person(name), average_head(prior)))


def _spread(studio: Studio, prior: Prior, kept: Kept, people: int, sides: int) -> Table:
    """Ways of the first stage beside each other."""

    def fit(shot: Shot, settings: FitSettings) -> Predicted:
        fitting = begin(shot.photos, prior, settings)
        fitting.first()
        return head_of(fitting.result())

    groups = {"avatars": _AVATARS[:people], "head model": _DRAWN[:people]}
    average = lambda name: Score(*_averaged(studio, prior, kept, name))  # noqa: E731
    views = {view: people if view == "front" else sides for view in VIEWS}
    return spread(studio, prior, kept, groups, views, fit=fit, average=average)


def begin(photos: list[Seen], prior: Prior, settings: FitSettings) -> Fitting:
    """A fit that has not moved yet."""
    torch.manual_seed(settings.seed)
    report = SilentReporter()
    return Fitting(photos, prior, surface.begin(photos, prior, settings, report), settings, report, None, None)


def head_of(fitted: Fitted) -> Predicted:
    """The dense surface of a fit."""
    return mesh_of(fitted.field, fitted.landmarks)


@cache
def average_head(prior: Prior) -> Predicted:
    """The surface where the mean of all training heads' distances is zero, with the mean of their face points."""
    grids = [Grid.of(prior.net.field(scene), 44).values[0, 0] for scene in range(prior.net.config.scenes)]
    finer = zoom(torch.stack(grids).mean(0).numpy(), 129 / 44, order=3, grid_mode=False)
    return heads.mesh_of_values(np.asarray(finer), from_sphere(prior.shape.points.double().numpy()))


def novel_psnr(shot: Shot, fitted: Fitted) -> float:
    """Of pictures from other sides, inside the true mask, after the heads are aligned by their face points."""
    scale, rotation, move = similarity(fitted.landmarks, shot.person.points)
    errors = []
    for degrees in _NOVEL:
        image, mask, camera = heads.photograph(shot.person, degrees, shot.seed)
        turned = camera.rotation @ rotation
        moved = (camera.rotation @ move + camera.translation) / scale
        seen, there = picture_from(fitted.field, replace(camera, rotation=turned, translation=moved), step=4)
        inside = there & (mask[::4, ::4] > 0.9)
        errors.append(np.square(seen[inside] - image[::4, ::4][inside] / 255.0).mean())
    return float(-10 * np.log10(np.mean(errors)))


def simpler(studio: Studio, prior: Prior, kept: Kept, people: int, few: int) -> Table:
    """The same people by simpler ways."""
    title = "The same by simpler ways, one frontal photo: mean distance, mm (face / head)"
    table = Table(title, ("way", "avatars", "head model"))
    ways: dict[str, tuple[int, Callable[[Shot], Score]]] = {
        "the nearest training head": (people, lambda shot: score(shot.person, _nearest_head(shot, prior))),
        "the template, fitted to face points": (people, lambda shot: score(shot.person, _template_head(shot, prior))),
        "the prior, fitted to face points": (people, lambda shot: score(shot.person, _pointed_head(shot, prior))),
        "one scene alone (NeuS)": (few, lambda shot: score(shot.person, _lone_head(shot, prior))),
    }
    rows = [[_averaged(studio, prior, kept, name) for name in names[:people]] for names in (_AVATARS, _DRAWN)]
    table.add("the average head", *(_text(np.array(row)) for row in rows))
    for way, (count, measure) in ways.items():
        cells = []
        for names in (_AVATARS, _DRAWN):
            rows = [kept.get(f"{way}: {name}", lambda n=name, m=measure: m(studio.shot(n, "front")))
                    for name in names[:count]]  # fmt: skip
            cells.append(_text(np.array(rows)))
        table.add(way, *cells)
    rows = [[kept.rows[f"{name} front"]["second"] for name in names[:people]] for names in (_AVATARS, _DRAWN)]
    table.add("ours, after stage 2", *(_text(np.array(row)) for row in rows))
    return table


def _text(rows: Array) -> str:
    return f"{rows[:, 0].mean():.2f} / {rows[:, 1].mean():.2f}"


def _nearest_head(shot: Shot, prior: Prior) -> Predicted:
    placed = place(shot.photos, prior.shape)
    known = from_sphere(prior.net.landmarks.double().numpy())  # type: ignore[operator]
    miss = []
    for points in known:
        scale, rotation, move = similarity(points, placed.face)
        miss.append(np.linalg.norm(scale * points @ rotation.T + move - placed.face, axis=1).mean())
    best = int(np.argmin(miss))
    return mesh_of(prior.net.field(best), known[best])


def _pointed_head(shot: Shot, prior: Prior) -> Predicted:
    placed = place(shot.photos, prior.shape)
    tint = torch.zeros(prior.color.size)
    return mesh_of(prior.field(torch.from_numpy(placed.z).float(), tint), placed.face)


def _template_head(shot: Shot, prior: Prior) -> Predicted:
    """The template's people, to the face points that were placed in space."""
    template, placed = load_template(), place(shot.photos, prior.shape)
    marks, where = template.landmark_weights, template.landmark_vertices
    known = np.flatnonzero(np.isfinite(marks).all(1) & (np.arange(len(marks)) < 468))
    start = np.einsum("nk,nkc->nc", marks[known], template.vertices[where[known]])
    modes = np.einsum("nk,mnkc->mnc", marks[known], template.identity[:, where[known]])
    scale, rotation, move = similarity(start, placed.face[known])
    basis = (scale * modes @ rotation.T).reshape(len(modes), -1).T / 0.006
    missing = (placed.face[known] - (scale * start @ rotation.T + move)).ravel() / 0.006
    z = np.linalg.solve(basis.T @ basis + np.eye(len(modes)), basis.T @ missing)
    vertices = scale * (template.vertices + np.tensordot(z, template.identity, 1)) @ rotation.T + move
    skin = template.triangles[np.isin(template.triangles, template.vertices_of("skin")).all(1)]
    return Predicted(vertices, skin, placed.face)


def _lone_head(shot: Shot, prior: Prior) -> Predicted:
    """NeuS without a prior: a sphere that learns from this photo alone."""
    torch.manual_seed(0)
    settings = FitSettings(first=0, second=1500, second_lr=1e-3, camera_lr=0.0, held=0.0, shading_weight=0.0)
    fitting = begin(shot.photos, prior, settings)
    fitting.net = MultiNeus(MultiNeusConfig(1, sdf=(), color=(), landmarks=478, net=prior.net.config.net))
    fitting.second()
    fitted = fitting.result()
    return mesh_of(fitted.field, place(shot.photos, prior.shape).face)


def priors(studio: Studio, files: dict[str, Path], kept: Kept, few: int, figure: Path | None = None) -> Table:
    """Other priors under the same fit, and pictures from other sides after each stage (figure 17 of the thesis)."""
    title = "Priors, one frontal photo: distances in mm (face / head), and PSNR of pictures from 25 and 60 degrees, dB"
    columns = ("prior", "of each scene: SDF, colour", "people", "face / head after stage 1", "after stage 2",
               "PSNR after stage 1", "after stage 2")  # fmt: skip
    table, known, ranks = Table(title, columns), load_prior(), {}
    for name, file in {"published": None, **files}.items():
        prior, rows = _read(file, known), []
        for person in (*_AVATARS[:few], *_DRAWN[:few]):
            key = f"{person} front" if file is None else f"{name}: {person} front"
            rows.append(kept.get(key, lambda p=person, k=prior: _measured(studio, k, p, "front")))
        shape = prior.net.config
        psnr = [float(np.mean([row["psnr"][k] for row in rows])) for k in (0, 1)]
        own = ", ".join("".join(f"{net}{i}" for i in layers) for net, layers in (("S", shape.sdf), ("C", shape.color)))
        table.add(name, own, shape.scenes, *(_text(np.array([row[stage] for row in rows]))
                                             for stage in ("first", "second")), *psnr)  # fmt: skip
        ranks[name] = (shape.rank if shape.kind == "low-rank" else None, psnr)
    if figure:
        plot(ranks, figure)
    return table


def plot(ranks: dict[str, tuple[int | None, list[float]]], file: Path) -> None:
    """Draw PSNR (after stage 1, 2) of priors against their ranks; those called "rank N" are a line, others levels."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.0, 4.2))
    line = {rank: psnr for name, (rank, psnr) in ranks.items() if rank is not None and name == f"rank {rank}"}
    others = {name: psnr for name, (rank, psnr) in ranks.items() if name not in (f"rank {rank}", "published")}
    for stage, style in enumerate(("--", "-")):
        axes.plot(list(line), [psnr[stage] for psnr in line.values()], style, color="C0", marker="o", markersize=4,
                  label=f"low-rank, after stage {stage + 1}")  # fmt: skip
        for number, (name, psnr) in enumerate(others.items()):
            axes.axhline(psnr[stage], linestyle=style, color=f"C{number + 1}", linewidth=1.0,
                         label=name if stage else None)  # fmt: skip
    axes.set(xlabel="rank", ylabel="PSNR from 25 and 60 degrees (dB)", xscale="log")
    axes.set_xticks(list(line), labels=[str(rank) for rank in line])
    axes.minorticks_off()
    axes.grid(visible=True, color="0.92")
    axes.legend(frameon=False, fontsize="small", ncols=2)
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def _read(file: Path | None, known: Prior) -> Prior:
    return known if file is None else Prior(nets.load(file), known.relief, known.reader)  # type: ignore[arg-type]


def speed(studio: Studio, prior: Prior, kept: Kept) -> Table:
    """A training step by plain NeuS and by ours, on the same rays of the same field; memory of a whole fit."""
    table = Table("Time and memory", ("what", "plain NeuS", "ours", "times", "goal"))
    found = kept.get("speed", lambda: _speed(studio.shot(_AVATARS[0], "front"), prior))
    table.add("a training step of 448 rays, ms", found["plain_ms"], found["ours_ms"],
              found["plain_ms"] / found["ours_ms"], ">= 3")  # fmt: skip
    table.add("a picture of 96 x 96, ms", found["plain_picture_ms"], found["picture_ms"],
              found["plain_picture_ms"] / found["picture_ms"], ">= 3")  # fmt: skip
    table.add("PSNR between the two pictures, dB", None, found["psnr"], None, "")
    seconds = [row["seconds"] for key, row in kept.rows.items() if key.endswith(" front") and ":" not in key]
    if seconds:
        table.add(
            "a fit, default quality, s (stage 1, 2)",
            None,
            ", ".join(f"{s:.0f}" for s in np.mean(seconds, 0)),
            None,
            "360",
        )
    table.add("peak memory of this process, GB", None, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, None,
              "<= 4")  # fmt: skip
    return table


def _speed(shot: Shot, prior: Prior) -> dict[str, float]:
    fitting = begin(shot.photos, prior, FitSettings(first=60, second=0))
    fitting.first()
    net, views = fitting.alone(), fitting.views
    g, plain = torch.Generator().manual_seed(0), RenderConfig()
    grid = Grid.of(net.field(0), 48)
    which = views.drawn(448, g)
    origins, directions = (value.detach() for value in views.rays(which))

    def step(near: bool) -> None:  # noqa: FBT001 - which of two ways
        field = net.field(0)
        if near:
            found = near_surface(field, grid, origins, directions, NearConfig())
            seen = render(field, origins[found.active], directions[found.active], plain, depths=found.depths)
        else:
            seen = render(field, origins, directions, plain)
        (seen.color.mean() + 0.1 * seen.eikonal).backward()

    field = fitting.result().field
    camera = shot_camera(fitting)
    times = {"plain_ms": _timed(lambda: step(near=False), 3), "ours_ms": _timed(lambda: step(near=True), 9)}
    times["picture_ms"] = _timed(lambda: picture_from(field, camera, step=1), 3)
    times["plain_picture_ms"] = _timed(lambda: picture_from(field, camera, step=1, plain=True), 1)
    ours, there = picture_from(field, camera, step=1)
    other, _ = picture_from(field, camera, step=1, plain=True)
    times["psnr"] = float(-10 * np.log10(np.square(ours - other)[there].mean()))
    return times


def shot_camera(fitting: Fitting) -> Camera:
    """The first photo's camera, of 96 by 96 pixels."""
    camera = fitting.views.to_cameras()[0]
    scale = 96 / max(camera.size)
    matrix = camera.matrix.copy()
    matrix[:2] *= scale
    return replace(camera, size=(96, 96), matrix=matrix)


def _timed(act: Callable[[], Any], times: int) -> float:
    """Median milliseconds."""
    act()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        found.append(1e3 * (time.perf_counter() - began))
    return float(np.median(found))
