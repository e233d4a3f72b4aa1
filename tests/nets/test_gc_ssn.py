"""The body of 22 parts against anny's own, and GC-SSN's way from pictures to bodies and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inference import nets
from inference.nets import gc_ssn, import_original
from inference.nets.gc_body import KEYPOINTS, PARTS, GcBody, part_of_bone
from inference.nets.gc_ssn import GcConfig, Generator, Seen, project, rotation_from_six, six_from_rotation, splat
from inference.nets.pose_prior import PosePrior, pose_vector
from inference.runtime import weights


@pytest.fixture(scope="module")
def body() -> GcBody:
    net = nets.load(weights.locate("gc-body"))
    assert isinstance(net, GcBody)
    return net.requires_grad_(requires_grad=False)


def turned(count: int, parts: int, angle: float, g: torch.Generator) -> torch.Tensor:
    return rotation_from_six(six_from_rotation(torch.eye(3)) + angle * torch.randn(count, parts, 6, generator=g))


def random_body(body: GcBody, count: int, angle: float = 0.4) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    shape = torch.rand(count, len(body.shape_names), generator=g)
    shape[:, 6:] = 2 * shape[:, 6:] - 1
    return shape, turned(count, len(PARTS), angle, g)


def test_the_body_of_parts_stands_and_moves_as_anny_does(body: GcBody) -> None:
    from anny import Anny

    model = Anny(topology="makehuman", local_changes="all")
    shape, rotations = random_body(body, 3)
    posed = body(shape, rotations)
    parts = part_of_bone(model.bone_labels, model.bone_parents)
    kwargs = {
        "phenotype_kwargs": {name: shape[:, k].double() for k, name in enumerate(body.config.phenotypes)},
        "local_changes_kwargs": {name: shape[:, 6 + k].double() for k, name in enumerate(body.config.changes)},
    }
    rest = model(**kwargs)["rest_bone_poses"][..., :3, :3]
    pose = torch.eye(4, dtype=model.dtype).repeat(3, len(parts), 1, 1)
    pose[..., :3, :3] = posed.rotations[:, parts].double() @ rest
    heads = model(pose_parameters=pose, pose_parameterization="world-orient", **kwargs)["bone_poses"][..., :3, 3]
    index = [model.bone_labels.index(bone) for _, _, bone in PARTS]
    wanted = (heads - heads[:, :1])[:, index]
    assert (posed.joints - wanted).abs().max() < 1e-5


def test_six_numbers_are_a_rotation_and_back() -> None:
    matrix = turned(5, 7, 1.0, torch.Generator().manual_seed(1))
    assert torch.allclose(rotation_from_six(six_from_rotation(matrix)), matrix, atol=1e-6)
    assert torch.allclose(torch.det(matrix), torch.ones(5, 7), atol=1e-5)


def test_a_small_field_of_view_is_weak_perspective() -> None:
    g = torch.Generator().manual_seed(2)
    points, camera = torch.randn(2, 9, 3, generator=g), torch.tensor([[0.8, 0.1, -0.2], [0.5, 0.0, 0.3]])
    flat = torch.stack(
        [camera[:, :1] * points[..., 0] + camera[:, 1:2], -camera[:, :1] * points[..., 2] + camera[:, 2:]], -1
    )
    assert torch.allclose(project(points, camera, torch.full((2,), 1e-5)), flat, atol=1e-4)


def hard(body: GcBody, shape: torch.Tensor, rotations: torch.Tensor, camera: torch.Tensor, half: float) -> np.ndarray:
    """The silhouette of anny's whole mesh, triangle by triangle, at 256 px."""
    import cv2

    from inference.body.model import load_model, spread
    from inference.core.body import Skin, global_turns, place_bones

    model = load_model()
    mesh = model.mesh(dict(zip(body.shape_names, shape.tolist(), strict=True)), keys=False)
    posed = body(shape[None], rotations[None])
    pose = spread(posed.rotations.numpy().astype(float), model.bones, model.parents)
    turns = global_turns(pose, model.parents)
    _, heads = place_bones(mesh, pose, np.zeros((1, 3)))
    skin = torch.from_numpy(Skin(mesh).vertices(turns[0], heads[0]))[None].float()
    plane = project(skin, camera[None], torch.tensor([half]))[0].numpy()
    pixel = np.round((plane + 1) * 128 * 16 - 8).astype(np.int32)
    out = np.zeros((256, 256), np.uint8)
    for face in mesh.faces:
        cv2.fillConvexPoly(out, pixel[face[face >= 0]], (255,), shift=4)
    return out.reshape(64, 4, 64, 4).mean((1, 3)) > 127


def test_splats_overlap_exact_silhouettes(body: GcBody) -> None:
    camera, half = torch.tensor([0.85, 0.0, 0.1]), 0.25
    found = []
    for seed in range(4):
        g = torch.Generator().manual_seed(seed)
        shape = torch.cat([torch.rand(6, generator=g) * 0.6 + 0.2, torch.zeros(12)])
        shape[1] = 0.67
        rotations = turned(1, len(PARTS), 0.15, g)[0]
        mask = hard(body, shape, rotations, camera, half)
        posed = body(shape[None], rotations[None])
        mine = splat(project(posed.points, camera[None], torch.tensor([half])), camera[None, 0], 64)[0] > 0.5
        found.append((mine.numpy() & mask).sum() / (mine.numpy() | mask).sum())
    assert np.mean(found) > 0.85, found  # points lie a pixel apart: half of one at every edge


def test_losses_reach_pose_shape_and_camera_through_the_splat(body: GcBody) -> None:
    shape, rotations = random_body(body, 2, 0.2)
    six = six_from_rotation(rotations).requires_grad_()
    shape, camera = shape.requires_grad_(), torch.tensor([[0.7, 0.0, 0.1]] * 2).requires_grad_()
    posed = body(shape, rotation_from_six(six))
    splat(project(posed.points, camera, torch.full((2,), 0.2)), camera[:, 0], 64)[:, :, :32].sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in (six, shape, camera))


@pytest.mark.parametrize("masked", [True, False])
def test_the_generator_reads_with_and_without_a_mask(*, masked: bool) -> None:
    net = Generator(GcConfig(hidden=32)).eval()
    net.begin(torch.zeros(18), torch.eye(3).repeat(22, 1, 1))
    joints = torch.zeros(3, len(KEYPOINTS), 2)
    mask = torch.ones(3, 64, 64) if masked else None
    found = net(Seen(mask, joints, torch.ones(joints.shape[:2]), torch.full((3,), 0.2)))
    assert torch.allclose(torch.det(found.rotations), torch.ones(3, 22), atol=1e-4)  # three in a batch: no wrong axis
    assert (found.camera[:, 0] > 0).all()


def test_the_published_prior_prefers_people_to_knees_that_bend_backwards() -> None:
    prior = nets.load(weights.locate("pose-prior"))
    assert isinstance(prior, PosePrior)
    standing = rotation_from_six(prior.mean[:-3].view(1, 21, 6))
    standing = torch.cat([torch.eye(3)[None, None], standing], 1)
    names = [name for name, _, _ in PARTS]
    broken = standing.clone()
    bend = torch.tensor([[1.0, 0, 0], [0, 0.17, 0.985], [0, -0.985, 0.17]])  # 80 degrees forward at the knee
    for part in ("shin.L", "shin.R"):
        broken[:, names.index(part)] = bend
    noise = torch.full((1,), 0.2)
    strange = [float((prior.correction(one, noise) ** 2).sum()) for one in (standing, broken)]
    assert strange[1] > 5 * strange[0]
    assert pose_vector(standing).shape == (1, prior.size)


def plain_spin(state: dict[str, torch.Tensor], features: torch.Tensor) -> list[torch.Tensor]:
    """HMR's head as SPIN's code has it, written out."""
    pose, shape, cam = (state[f"init_{n}"].expand(len(features), -1) for n in ("pose", "shape", "cam"))
    for _ in range(3):
        x = torch.cat([features, pose, shape, cam], 1) @ state["fc1.weight"].T + state["fc1.bias"]
        x = x @ state["fc2.weight"].T + state["fc2.bias"]
        pose = pose + x @ state["decpose.weight"].T + state["decpose.bias"]
        shape = shape + x @ state["decshape.weight"].T + state["decshape.bias"]
        cam = cam + x @ state["deccam.weight"].T + state["deccam.bias"]
    columns = pose.reshape(-1, 3, 2)
    first = columns[:, :, 0] / columns[:, :, 0].norm(dim=1, keepdim=True)
    second = columns[:, :, 1] - (first * columns[:, :, 1]).sum(1, keepdim=True) * first
    second = second / second.norm(dim=1, keepdim=True)
    matrix = torch.stack([first, second, torch.linalg.cross(first, second)], -1)
    return [matrix.view(len(features), 24, 3, 3), shape, cam]


def random_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {name: torch.randn(*shape, generator=g) * 0.05 for name, shape in shapes.items()}


def test_spins_regressor_gives_the_originals_numbers() -> None:
    shapes: dict[str, tuple[int, ...]] = {"init_pose": (1, 144), "init_shape": (1, 10), "init_cam": (1, 3)}
    for name, (rows, columns) in {"fc1": (1024, 2205), "fc2": (1024, 1024), "decpose": (144, 1024),
                                  "decshape": (10, 1024), "deccam": (3, 1024)}.items():  # fmt: skip
        shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    state = random_state(shapes)
    features = torch.randn(3, 2048, generator=torch.Generator().manual_seed(1))
    found = import_original("spin-regressor", state)(features)
    for mine, theirs in zip(found, plain_spin(state, features), strict=True):
        assert (mine - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_straps_regressor_gives_the_originals_numbers() -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (rows, columns) in {"fc1": (512, 669), "fc2": (512, 512), "fc3": (157, 512)}.items():
        shapes |= {f"ief_module.{name}.weight": (rows, columns), f"ief_module.{name}.bias": (rows,)}
    state, start = random_state(shapes), torch.linspace(-1, 1, 157)
    features = torch.randn(3, 512, generator=torch.Generator().manual_seed(1))
    value = start.expand(3, -1)
    for _ in range(3):
        x = torch.cat([features, value], 1)
        for name in ("fc1", "fc2"):
            x = (x @ state[f"ief_module.{name}.weight"].T + state[f"ief_module.{name}.bias"]).clamp(min=0)
        value = value + x @ state["ief_module.fc3.weight"].T + state["ief_module.fc3.bias"]
    found = import_original("straps-regressor", state, start=start)(features)
    assert torch.allclose(found.camera, value[:, :3], rtol=1e-4, atol=1e-5)
    assert torch.allclose(found.shape, value[:, 147:], rtol=1e-4, atol=1e-5)
    assert torch.allclose(found.rotations, rotation_from_six(value[:, 3:147].view(3, 24, 6)), atol=1e-4)


def test_a_whole_spin_checkpoint_is_read_with_its_encoder() -> None:
    from inference.nets.body_regressors import SpinRegressor

    state = SpinRegressor(encoder=True).state_dict()
    with torch.no_grad():
        found = import_original("spin-regressor", state)(torch.rand(1, 3, 64, 64))
    assert found.rotations.shape == (1, 24, 3, 3)


def test_weights_are_published_whole() -> None:
    net = nets.load(weights.locate("gc-ssn"))
    assert isinstance(net, gc_ssn.Generator)
    assert Path(weights.locate("gc-ssn")).stat().st_size < 40e6
