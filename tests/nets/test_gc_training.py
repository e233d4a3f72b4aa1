"""Training GC-SSN: both regimes, from bodies filmed here, and where a stopped run goes on."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference import nets
from inference.core.rotations import matrix_from_rotvec
from inference.nets.gc_body import PARTS, GcBody
from inference.nets.gc_ssn import Generator
from inference.nets.pose_prior import PosePrior, PriorConfig
from inference.runtime import weights
from inference.training import gc_ssn
from inference.training.gc_bank import Bank, draw_poses, film, loosened, shrugged, turned_out
from inference.training.motions import Motions
from inference.training.script import Run

RECIPES = Path(gc_ssn.__file__).parent / "recipes"
SMALL = {"mask_every": 2, "steps": 2, "batch": 2, "joint_batch": 6, "points": 60, "save_s": 0}


@pytest.fixture(scope="module")
def body() -> GcBody:
    net = nets.load(weights.locate("gc-body"))
    assert isinstance(net, GcBody)
    return net.requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def recorded() -> Motions:
    rng = np.random.default_rng(0)
    rotations = matrix_from_rotvec(0.3 * rng.normal(size=(20, len(PARTS), 3))).astype(np.float32)
    return Motions(rotations, np.zeros((20, 3), np.float32), np.zeros(20, int), np.ones(20, np.float32), ("made/up",))


@pytest.fixture(scope="module")
def bank(body: GcBody, recorded: Motions, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    rng = np.random.default_rng(1)
    folder = tmp_path_factory.mktemp("bank")
    film(recorded, body, body, 8, rng, run=Run(folder), varied=True).save(folder / "bank.npz")
    return Bank.load(folder / "bank.npz")


@pytest.mark.parametrize("name", ["gc_ssn", "gc_n"])
def test_a_network_learns_and_goes_on_where_it_was_stopped(body: GcBody, bank: Bank, tmp_path: Path, name: str) -> None:
    recipe: dict[str, Any] = tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8")) | SMALL
    recipe["net"] |= {"side": 32, "width": 8, "hidden": 32}
    prior = PosePrior(PriorConfig(hidden=16))
    begun = gc_ssn.train(recipe, gc_ssn.Banks(bank, bank, bank), body, prior, Run(tmp_path))
    after_two = {key: value.clone() for key, value in begun.state_dict().items()}
    again = gc_ssn.train(recipe, gc_ssn.Banks(bank, bank, bank), body, prior, Run(tmp_path))
    assert all(torch.equal(value, after_two[key]) for key, value in again.state_dict().items())
    further = gc_ssn.train(recipe | {"steps": 3}, gc_ssn.Banks(bank, bank, bank), body, prior, Run(tmp_path))
    changed = {key for key, value in further.state_dict().items() if not torch.equal(value, after_two[key])}
    assert {"read.0.weight", "regressor.2.weight", "out.weight", "stages.0.first.weight"} <= changed
    published = nets.load(tmp_path / "gc_ssn.safetensors")
    assert isinstance(published, Generator)
    assert all(torch.isfinite(value).all() for value in published.state_dict().values())


def test_drawn_poses_move_clavicles_and_leave_arms_where_they_pointed(recorded: Motions) -> None:
    still = replace(recorded, rotations=np.broadcast_to(np.eye(3, dtype=np.float32), recorded.rotations.shape))
    index = {name: k for k, (name, _, _) in enumerate(PARTS)}
    plain = draw_poses(still, 50, np.random.default_rng(0))
    assert np.allclose(plain[:, 1:], np.eye(3), atol=1e-6)
    varied = draw_poses(still, 50, np.random.default_rng(0), varied=True)
    assert np.abs(varied[:, index["clavicle.L"]] - np.eye(3)).max() > 0.05
    loose = loosened(recorded.rotations.astype(float), np.random.default_rng(0))
    shrug = shrugged(loose, np.random.default_rng(1))
    for side in "LR":
        clavicle, arm = index[f"clavicle.{side}"], index[f"upperarm.{side}"]
        assert np.allclose(loose[:, clavicle] @ loose[:, arm], shrug[:, clavicle] @ shrug[:, arm], atol=1e-6)


def test_some_legs_are_turned_out_at_the_hip_and_spread_like_dancers_not_across() -> None:
    index = {name: k for k, (name, _, _) in enumerate(PARTS)}
    pose = np.broadcast_to(np.eye(3), (500, len(PARTS), 3, 3)).copy()
    turned = turned_out(pose, np.random.default_rng(0))
    still = (np.abs(turned - pose).max((1, 2, 3)) < 1e-9).mean()
    assert 0.7 < still < 0.9
    for side, outwards in (("L", 1.0), ("R", -1.0)):
        thigh = turned[:, index[f"thigh.{side}"]]
        toes, knees = (outwards * (thigh @ np.array(axis))[:, 0] for axis in ((0, -1.0, 0), (0, 0, -1.0)))
        assert toes.min() > -0.3 and 0.7 < toes.max() < 0.9
        assert knees.min() > -0.1 and 0.4 < knees.max() < 0.6


@pytest.mark.parametrize("side", ["L", "R"])
def test_a_clavicle_rises_with_its_arm(side: str) -> None:
    index = {name: k for k, (name, _, _) in enumerate(PARTS)}
    clavicle, arm = index[f"clavicle.{side}"], index[f"upperarm.{side}"]
    outwards = np.array([1.0 if side == "L" else -1.0, 0.0, 0.0])
    pose = np.broadcast_to(np.eye(3), (200, len(PARTS), 3, 3)).copy()
    up = matrix_from_rotvec(np.array([0.0, -2.0 * outwards[0], 0.0]))  # from out and down to nearly straight up
    pose[:, arm] = up
    lifted = shrugged(pose, np.random.default_rng(0))[:, clavicle] @ outwards
    assert lifted[:, 2].min() >= 0.0 and 0.1 < lifted[:, 2].mean() < 0.3


def test_joints_laid_over_others_do_not_say_how_large_or_which_way_they_are() -> None:
    g = torch.Generator().manual_seed(0)
    wanted = torch.randn(3, 14, 3, generator=g)
    turn = torch.from_numpy(matrix_from_rotvec(np.array([0.5, -1.0, 2.0]))).float()
    points = (1.7 * wanted @ turn.T + 4.0).requires_grad_()
    assert gc_ssn.aligned_miss(points, wanted) < 1e-5
    bent = (points.detach() + 0.1 * torch.randn(3, 14, 3, generator=g)).requires_grad_()
    miss = gc_ssn.aligned_miss(bent, wanted)
    miss.backward()
    assert bent.grad is not None
    assert gc_ssn.aligned_miss(bent.detach() - 0.1 * bent.grad, wanted) < miss
