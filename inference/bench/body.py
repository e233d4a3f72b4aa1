"""Bodies from silhouettes and joints: accuracy on people left out, real footage, heights, resolution, speed.

python -m inference bench body --data DIR [--only networks resolution clips heights footage speed]
       [--compare NAME=FILE ...] [--out FILE]

`--compare` adds rows for other weights of the same network (`training/gc_ssn.py --set cycle=0` and the like).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from .. import nets
from ..body.model import BodyModel, load_model, spread
from ..body.refine import keypoints_of
from ..body.regress import Settings, load_networks, regress
from ..body.represent import View
from ..body.silhouette import Shadow, overlap
from ..calibration.refine import refine_calibration
from ..core.artifacts import BodyMesh, BodyParameters, Keypoints2D, Keypoints3D
from ..core.body import Skin, global_turns, place_bones
from ..core.cameras import Camera, pinhole, project
from ..core.metrics import pa_mpjpe
from ..core.skeletons import OPENPOSE_137
from ..motion.triangulate import TriangulateSettings, triangulate
from ..nets.gc_body import EVALUATED, KEYPOINTS, PARTS, GcBody
from ..nets.gc_ssn import Generator, Seen
from ..protocol.events import SilentReporter
from ..runtime import weights
from ..runtime.device import set_threads
from ..sight.detect import DetectSettings, detect
from ..sight.lift import LiftSettings, lift
from ..training import motions
from ..training.body_points import take_out
from ..training.gc_bank import Bank, draw_shapes, film, local_rotations, rest_directions, tilted
from ..training.gc_ssn import align, look, measure
from ..training.script import Run
from .motion import footage
from .sections import check_data, parser_of
from .table import Table, each, write

Array = np.ndarray
BESIDE = Path(__file__).parent  # other weights that the tables compare with
_FRAMES, _CLIPS = 24, 8  # of a drawn clip, and clips of each split
_HEIGHTS = 120  # clips of each split whose heights are looked at
_LONG = 240  # frames of a clip whose time is taken: eight seconds
_SPLITS = ("val", "test")


@dataclass(frozen=True)
class Clip:
    """A drawn person in motion: what is seen, and the truth."""

    view: View
    mesh: BodyMesh
    truth: BodyParameters
    joints: Array  # (T, 22, 3) of the parts, metres, camera frame


def bench_networks(data: Path, others: dict[str, Path]) -> list[Table]:
    """Single frames of people left out, degraded as in training: the network alone."""
    body = _body()
    banks = dict(_banks(data, body, 1500))
    table = Table(
        "Networks alone, single degraded frames of people left out",
        ("network", "people", "MPJPE mm", "PA-MPJPE mm", "vertices mm", "silhouette IoU", "PA over paired"),
        note="Joints: 14 of limbs, neck and head. Anchors with other data: GC-N 44.2 (H36M) and 56.5 (3DPW) PA, STRAPS "
        "66.8 on 3DPW. Targets: self-supervised at most 65 mm and 1.35 x paired, paired at most 50 mm.",
    )
    found = {name: {split: measure(_load(path), body, bank) for split, bank in banks.items()}
             for name, path in others.items()}  # fmt: skip
    for name, rows in found.items():
        for split, row in rows.items():
            paired = found.get("paired", {}).get(split, {}).get("pa_mm")
            ratio = row["pa_mm"] / paired if paired and not name.startswith("short") else None
            table.add(name, split, row["mpjpe_mm"], row["pa_mm"], row["vertex_mm"], row["iou"], ratio)
    return [table]


def bench_resolution(data: Path, others: dict[str, Path]) -> list[Table]:
    """The same frames as crops of fewer pixels: masks and joints are read no finer than that."""
    body, net = _body(), _load(others["self-supervised"])
    table = Table(
        "Low resolution, the network alone on clean frames",
        ("people", "crop px", "PA-MPJPE mm", "over 128 px"),
        note="Joints are rounded to whole pixels. Target: at 32 px at most 1.2 x that at 128 px.",
    )
    for split, bank in _banks(data, body, 1000):
        found = {pixels: _at_resolution(net, body, bank, pixels) for pixels in (128, 64, 32, 16)}
        for pixels, value in found.items():
            table.add(split, pixels, value, value / found[128])
    return [table]


@torch.no_grad()
def _at_resolution(net: Generator, body: GcBody, bank: Bank, pixels: int) -> float:
    g, out = torch.Generator().manual_seed(0), []
    for picked in torch.arange(len(bank.half)).split(100):
        _, clean, truth = look(bank, picked, pixels, g)
        assert clean.mask is not None
        mask = torch.nn.functional.interpolate((clean.mask > 0.5).float()[:, None], size=(net.config.side,) * 2)[:, 0]
        step = 2 / pixels
        joints = ((clean.joints + 1 - step / 2) / step).round() * step - 1 + step / 2
        found = net(Seen(mask, joints, clean.confidence, clean.half))
        mine = body(found.shape, found.rotations).joints[:, EVALUATED]
        theirs = body(truth.shape, truth.rotations).joints[:, EVALUATED]
        out.append((align(mine, theirs)[0] - theirs).norm(dim=-1).mean(1))
    return 1000 * torch.cat(out).mean().item()


def bench_clips(data: Path, _: dict[str, Path]) -> list[Table]:
    """Drawn people in motion, one camera: the whole road, with and without its parts."""
    table = Table(
        "Clips of drawn people left out, one camera",
        ("people", "way", "PA-MPJPE mm", "vertices mm (PA)", "silhouette IoU", "height off cm", "ms a frame"),
        note=f"{_CLIPS} clips of {_FRAMES} frames each; joints off by 1 % of the person's height. Targets: IoU 0.88 "
        "after fitting; height within 4 cm given one distance. One shape a clip: it does not vary.",
    )
    known = load_networks()
    ways: dict[str, Callable[[Clip], tuple[Settings, Keypoints3D | None]]] = {
        "network alone": lambda _: (Settings(refine=0, hypotheses=False, smoothing=0), None),
        "with hypotheses": lambda _: (Settings(refine=0), None),
        "fitted": lambda _: (Settings(), None),
        "fitted, distance given": lambda clip: (Settings(distance_m=_distance(clip)), None),
        "fitted, with the lifter": lambda clip: (Settings(), _lifted(clip)),
        "with the lifter, distance given": lambda clip: (Settings(distance_m=_distance(clip)), _at_distance(clip)),
    }
    for split in _SPLITS:
        clips = list(draw_clips(data, split, known.body))
        for name, way in ways.items():
            rows, seconds = [], 0.0
            for clip in clips:
                settings, space = way(clip)
                start = time.process_time()
                found = regress([clip.view], settings, SilentReporter(), keypoints_3d=space, networks=known)
                seconds += time.process_time() - start
                rows.append(judge(found, clip))
            pace = 1000 * seconds / (len(clips) * _FRAMES)
            table.add(split, name, *np.nanmean(rows, 0).round(3).tolist(), pace)
    return [table]


def bench_heights(data: Path, _: dict[str, Path]) -> list[Table]:
    """How tall a body comes out when the distance in the first frame is given, on more people than the clips have."""
    table = Table(
        "Heights of drawn people left out, one camera, distance in the first frame given",
        ("people", "clips", "off by cm", "standard error", "too tall by cm", "within 4 cm"),
        note=f"Clips of {_FRAMES} frames, joints off by 1 % of the height. Target: off by 4 cm at most.",
    )
    known, model = load_networks(), load_model()
    for seed, split in enumerate(_SPLITS):
        found = []
        for clip in draw_clips(data, split, known.body, _HEIGHTS, seed=100 + seed):
            body = regress([clip.view], Settings(distance_m=_distance(clip)), SilentReporter(), networks=known)
            tall = float(np.ptp(_mesh(body, model).vertices[:, 2]))
            found.append(100 * (tall - float(np.ptp(clip.mesh.vertices[:, 2]))))
        off = np.abs(found)
        error = float(off.std() / np.sqrt(len(off)))
        table.add(split, len(off), float(off.mean()), error, float(np.mean(found)), f"{(off <= 4).mean():.0%}")
    return [table]


def _distance(clip: Clip) -> float:
    return float(np.linalg.norm(clip.joints[0, 0]))


def _lifted(clip: Clip) -> Keypoints3D:
    return lift(clip.view.keypoints, LiftSettings(), SilentReporter(), camera=clip.view.camera)


def _at_distance(clip: Clip) -> Keypoints3D:
    """As the road does it: as large as the distance of the first frame says."""
    found = _lifted(clip)
    hips = found.positions[0, OPENPOSE_137.index("MidHip")]
    return replace(found, positions=found.positions * (_distance(clip) / float(np.linalg.norm(hips))))


def judge(found: BodyParameters, clip: Clip) -> list[float]:
    """PA-MPJPE and PA vertex error in mm, hard silhouette IoU, and how far off the height is in cm."""
    model = load_model()
    mesh = _mesh(found, model)
    mine = _parts(mesh, found, model)
    pa = 1000 * pa_mpjpe(mine[:, EVALUATED], clip.joints[:, EVALUATED])
    shadow, ious, off = Shadow(mesh, found, clip.view.camera), [], []
    (turns, heads), (true_turns, true_heads) = (
        place_bones(m, p.pose, p.root) for m, p in ((mesh, found), (clip.mesh, clip.truth))
    )
    skin, true_skin = Skin(mesh), Skin(clip.mesh)
    for frame in range(0, _FRAMES, 4):
        mask = clip.view.masks(frame)
        assert mask is not None
        ious.append(overlap(shadow.outline(frame, mask.shape[::-1]), mask))  # type: ignore[arg-type]
        pair = (skin.vertices(turns[frame], heads[frame]), true_skin.vertices(true_turns[frame], true_heads[frame]))
        off.append(1000 * pa_mpjpe(pair[0][None, ::7], pair[1][None, ::7]))
    tall = [float(np.ptp(m.vertices[:, 2])) for m in (mesh, clip.mesh)]
    return [pa, float(np.mean(off)), float(np.mean(ious)), 100 * abs(tall[0] - tall[1])]


def _mesh(parameters: BodyParameters, model: BodyModel) -> BodyMesh:
    """The body that parameters describe, at rest."""
    shape = dict(zip(parameters.header["shape_names"], parameters.shape.tolist(), strict=True))
    return model.mesh(shape, keys=False)


def _parts(mesh: BodyMesh, parameters: BodyParameters, model: BodyModel) -> Array:
    """(T, 22, 3) joints of the parts."""
    _, heads = place_bones(mesh, parameters.pose, parameters.root)
    return heads[:, [model.bones.index(bone) for _, _, bone in PARTS]]


def draw_clips(
    data: Path, split: str, body: GcBody, count: int = _CLIPS, frames: int = _FRAMES, *, seed: int = 7
) -> Iterator[Clip]:
    """Film people of drawn shapes, with exact masks, before cameras of known focal length."""
    rng = np.random.default_rng(seed)
    recorded, model = motions.load(data, split, rest_directions()), load_model()
    shapes = draw_shapes(count, body, rng)
    for shape in shapes:
        start = int(rng.integers(len(recorded.clip) - 2 * frames))
        while recorded.clip[start] != recorded.clip[start + 2 * frames - 1]:
            start = int(rng.integers(len(recorded.clip) - 2 * frames))
        yield _film_clip(recorded.rotations[start : start + 2 * frames : 2], shape, model, body, rng)


def _film_clip(turned: Array, shape: torch.Tensor, model: BodyModel, body: GcBody, rng: np.random.Generator) -> Clip:
    yaw = rng.uniform(-np.pi, np.pi)
    spin = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    whole = spin @ turned.astype(float)
    tilt = tilted(np.tile(np.eye(3), (1, 22, 1, 1)), rng)[0, 0]  # of the camera, one for the clip
    camera_from_view = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    parts = camera_from_view @ tilt @ whole
    place = np.array([rng.uniform(-0.4, 0.4), rng.uniform(-0.2, 0.2), rng.uniform(3.0, 5.5)])
    mesh = model.mesh(dict(zip(body.shape_names, shape.tolist(), strict=True)), keys=False)
    camera = pinhole("camera", (640, 720), 720.0)
    count = len(parts)
    header = {"unit": "m", "frame": "camera", "fps": 30.0, "skeleton": "anny", "bones": list(model.bones),
              "shape_names": list(body.shape_names), "model": "anny"}  # fmt: skip
    pose, times = spread(parts, model.bones, model.parents), np.arange(count) / 30
    truth = BodyParameters(header, pose, np.tile(place, (count, 1)), shape.numpy(), np.ones(count), times)
    shadow = Shadow(mesh, truth, camera)
    masks = [shadow.outline(frame, camera.size) for frame in range(count)]
    with torch.no_grad():
        posed = body(shape.expand(count, -1), torch.from_numpy(local_rotations(parts)).float())
        both = torch.stack([posed.keypoints, body.centres(posed)]).numpy()
    share = rng.random((1, len(KEYPOINTS), 1))
    seen = project(camera, both[0] + share * (both[1] - both[0]) + place)
    height_px = 720.0 * np.ptp(mesh.vertices[:, 2]) / place[2]
    positions = np.full((count, len(OPENPOSE_137), 2), np.nan)
    positions[:, KEYPOINTS] = seen + 0.01 * height_px * rng.normal(size=seen.shape)
    confidence = np.isfinite(positions).all(-1).astype(float)
    info = {"unit": "px", "frame": "image", "fps": 30.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
            "image_size": list(camera.size), "source": "", "view": "camera"}  # fmt: skip
    view = View(Keypoints2D(info, positions, confidence, times), lambda frame: masks[frame], camera)
    return Clip(view, mesh, truth, _parts(mesh, truth, model))


def bench_footage(data: Path, _: dict[str, Path]) -> list[Table]:
    """Pose2Sim's four real cameras: each alone against all four, and all four views with the joints of all."""
    clips, cameras = footage(data)
    seen, masks = zip(*(_detected(clip) for clip in clips), strict=True)
    reference = triangulate(list(seen), cameras, TriangulateSettings(), SilentReporter())
    one = Table(
        "Real footage, one camera against four (PA-MPJPE of 12 keypoints of limbs, mm)",
        ("camera", "lifter alone", "body, without it", "body, with the lifter", "silhouette IoU, with"),
        note="Target: better than the lifter alone.",
    )
    known, model = load_networks(), load_model()
    for keypoints, mask, camera in zip(seen, masks, cameras, strict=True):
        alone = Camera(camera.name, camera.size, camera.matrix, camera.distortion)
        view, lifted = View(keypoints, mask, alone), lift(keypoints, LiftSettings(), SilentReporter(), camera=alone)
        found = {name: regress([view], Settings(), SilentReporter(), keypoints_3d=space, networks=known)
                 for name, space in (("body", None), ("both", lifted))}  # fmt: skip
        errors = [_against(_limbs(parameters, model, known.body), reference) for parameters in found.values()]
        one.add(
            camera.name, _against(lifted.positions[:, _LIMBS], reference), *errors, _iou(found["both"], view, model)
        )
    many = Table(
        "Real footage, triangulated joints given: silhouette IoU",
        ("camera", "cameras as given", "cameras refined"),
        note="Target: 0.85 in all. Refined by the person's keypoints alone; as given, cam01 and cam03 are some 20 px "
        "beside the others.",
    )
    refined = refine_calibration(list(seen), cameras, SilentReporter()).cameras
    ious = []
    for rig in (cameras, refined):
        views = [View(k, m, c) for k, m, c in zip(seen, masks, rig, strict=True)]
        space = triangulate(list(seen), rig, TriangulateSettings(), SilentReporter())
        all_four = regress(views, Settings(), SilentReporter(), keypoints_3d=space, networks=known)
        ious.append([_iou(all_four, view, model) for view in views])
    for camera, given, better in zip(cameras, *ious, strict=True):
        many.add(camera.name, given, better)
    return [one, many]


_LIMBS = [2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14]


def _detected(clip: Path) -> tuple[Keypoints2D, Callable[[int], Array | None]]:
    kept: dict[int, Array] = {}
    settings = DetectSettings(face=False, mask=True)
    found = detect(
        clip, settings, SilentReporter(), view=clip.stem, keep_mask=lambda i, mask: kept.update({i: mask > 0})
    )
    return found, kept.get


def _limbs(parameters: BodyParameters, model: BodyModel, body: GcBody) -> Array:
    """(T, 12, 3) where a detector sees the joints of limbs: between skin and joint centre, as the fit has them."""
    turns = global_turns(parameters.pose, model.parents)[:, [model.bones.index(bone) for _, _, bone in PARTS]]
    shape = torch.from_numpy(parameters.shape).float().expand(len(turns), -1)
    with torch.no_grad():
        posed = body(shape, torch.from_numpy(local_rotations(turns)).float())
        found = keypoints_of(body, posed).numpy() + parameters.root[:, None]
    return found[:, [KEYPOINTS.index(point) for point in _LIMBS]]


def _against(points: Array, reference: Keypoints3D) -> float:
    return 1000 * pa_mpjpe(points, reference.positions[:, _LIMBS])


def _iou(parameters: BodyParameters, view: View, model: BodyModel) -> float:
    mesh = _mesh(parameters, model)
    shadow, size = (
        Shadow(mesh, parameters, replace(view.camera, size=view.keypoints.image_size)),
        view.keypoints.image_size,
    )
    found = []
    for frame in range(0, len(parameters.pose), 4):
        mask = view.masks(frame)
        if mask is not None:
            found.append(overlap(shadow.outline(frame, size), mask))
    return float(np.mean(found))


def bench_speed(data: Path, _: dict[str, Path]) -> list[Table]:
    """One thread: reading a clip beyond detection, the mesh of a frame, and memory."""
    known, model = load_networks(), load_model()
    table = Table("Speed, one thread", ("what", "figure", "target"))
    clips = list(draw_clips(data, "val", known.body, 3))
    for name, many in ((f"{_FRAMES}", clips), (f"{_LONG}", list(draw_clips(data, "val", known.body, 1, _LONG)))):
        for effort, settings in (("as published", Settings()), ("of no steps", Settings(refine=0))):
            start = time.process_time()
            for clip in many:
                regress([clip.view], settings, SilentReporter(), networks=known)
            pace = 1000 * (time.process_time() - start) / sum(len(clip.truth.pose) for clip in many)
            table.add(f"a frame of {name} beyond detection, fit {effort} (ms)", pace, "12")
    found = clips[0].truth
    skin, (turns, heads) = Skin(clips[0].mesh), place_bones(clips[0].mesh, found.pose, found.root)
    start = time.process_time()
    for frame in range(_FRAMES):
        skin.vertices(turns[frame], heads[frame])
    table.add(
        f"mesh of a frame, {len(clips[0].mesh.vertices)} vertices (ms)",
        1000 * (time.process_time() - start) / _FRAMES,
        "3",
    )
    table.add("memory at most (GB)", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, "1.5")
    assert model.bones
    return [table]


def _banks(data: Path, body: GcBody, count: int) -> Iterator[tuple[str, Bank]]:
    dense, quiet = take_out(16000, 1, spread=False), Run(Path())
    for seed, split in enumerate(_SPLITS):
        people, rng = motions.load(data, split, rest_directions()), np.random.default_rng(50 + seed)
        yield split, film(people, body, dense, count, rng, run=quiet)


def _body() -> GcBody:
    body = nets.load(weights.locate("gc-body"))
    assert isinstance(body, GcBody)
    return body.requires_grad_(requires_grad=False)


def _load(path: Path) -> Generator:
    net = nets.load(path)
    assert isinstance(net, Generator)
    return net.requires_grad_(requires_grad=False)


PARTS_OF_BENCH: dict[str, Callable[[Path, dict[str, Path]], list[Table]]] = {
    "networks": bench_networks, "resolution": bench_resolution, "clips": bench_clips, "heights": bench_heights,
    "footage": bench_footage, "speed": bench_speed,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the tables."""
    parser = parser_of("body", __doc__, list(PARTS_OF_BENCH))
    parser.add_argument("--compare", action="append", default=[], metavar="NAME=FILE")
    options = parser.parse_args(arguments)
    data = check_data(options.data)
    set_threads(1)
    others = {"self-supervised": weights.locate("gc-ssn")}
    others |= {
        path.stem.removeprefix("gc_").replace("_", " "): path for path in sorted(BESIDE.glob("gc_*.safetensors"))
    }
    others |= {name: Path(path) for name, _, path in (text.partition("=") for text in options.compare)}
    tables = [table for name in each(options.only) for table in PARTS_OF_BENCH[name](data, others)]
    write(tables, options.out)
    return 0
