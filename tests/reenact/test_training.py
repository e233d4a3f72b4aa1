"""Films and what is learnt from them: twins hold the same pose, mirrors are mirrors, a run goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inference.core.face_shapes import SHAPES
from inference.nets.face_features import FaceFeatures, FeaturesConfig
from inference.nets.latent_pose import LatentPose, LatentPoseConfig
from inference.reenact import losses
from inference.training import face_films, narrow_pose, reenactment
from inference.training.reenactment import Bank, coefficients_of, draw, mirrored
from inference.training.script import Run

RECIPE = {
    "seed": 1, "steps": 4, "warm_up": 2, "batch": 4, "poses": 6, "sources": 2, "lr": 1e-3, "beta": 0.9, "warmup": 2,
    "cooldown": 2,
    "clip": 5.0, "average": 0.9, "bfloat16": False, "adversarial_after": 2, "lr_discriminator": 2e-4,
    "discriminator_blocks": 4, "checkpoint_minutes": 10,
    "net": {
        "size": 32, "pose_size": 32, "width": 8, "widest": 16, "identity": 24, "pose": 12, "encoder": "plain",
        "encoder_width": 8, "pose_encoder": "plain", "pose_width": 0.125, "coefficients": 58,
    },
    "weights": {
        "laplacian": 5.0, "perceptual": 0.3, "face": 5.0, "mask": 0.5, "coefficients": 0.3, "twins": 0.2,
        "adversarial": 0.02, "matching": 1.0, "embedding": 0.01,
    },
}  # fmt: skip


def films(count: int, frames: int = 8) -> dict[str, np.ndarray]:
    """A white bar on grey; its height says the pose, its width the person, in a ring as `face_films.shoot` makes it."""
    half, rng = frames // 2, np.random.default_rng(0)
    images = np.zeros((count, frames, 32, 32, 3), np.uint8)
    masks = np.zeros((count, frames, 32, 32), np.uint8)
    weights = np.zeros((count, frames, len(SHAPES)), np.float16)
    poses = rng.integers(4, 28, (count, half))
    for film in range(count):
        for frame in range(frames):
            height = poses[(film + (frame >= half)) % count, frame % half]
            masks[film, frame, 4:30, 6:26] = 255
            images[film, frame, 4:30, 6:26] = 90
            images[film, frame, height : height + 3, 8 : 10 + film] = 240
            weights[film, frame, 24] = height / 28
    rotations = np.broadcast_to(np.eye(3, dtype=np.float16), (count, frames, 3, 3))
    landmarks = np.zeros((count, frames, 478, 2), np.float16)
    return {"images": images, "masks": masks, "weights": weights, "rotations": rotations, "landmarks": landmarks}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films")
    np.savez(path / "films.npz", **films(6))
    np.savez(path / "held_out.npz", **films(2))
    return path


@pytest.fixture(scope="module")
def bank(folder: Path) -> Bank:
    return reenactment.load(folder / "films.npz")


def test_twins_hold_the_same_pose_and_are_of_other_people(bank: Bank) -> None:
    for film in range(6):
        for frame in range(8):
            other, there = bank.twin(film, frame)
            assert other != film and bank.twin(other, there) == (film, frame)
            assert np.array_equal(bank.coefficients[film, frame], bank.coefficients[other, there])
    batch = draw(bank, 5, 3, np.random.default_rng(1))
    assert batch.identity.shape == (10, 3, 3, 32, 32) and batch.driver.shape == (10, 3, 32, 32)
    assert torch.equal(batch.coefficients[:5], batch.coefficients[5:])
    assert (batch.film[:5] != batch.film[5:]).all()
    assert ((batch.truth > 0) & (batch.mask == 0)).sum() == 0, "a target is nothing where its mask is nothing"


def test_a_mirrored_pose_is_the_pose_of_the_mirrored_face() -> None:
    weights = np.zeros(len(SHAPES))
    weights[SHAPES.index("mouthSmileLeft")], weights[SHAPES.index("jawRight")], weights[SHAPES.index("jawOpen")] = (
        1,
        2,
        3,
    )
    turn = face_films.turns_of(np.array([[0.2, -0.3, 0.5]]))[0]
    found = mirrored(coefficients_of(weights, turn))
    assert found[SHAPES.index("mouthSmileRight")] == 1 and found[SHAPES.index("mouthSmileLeft")] == 0
    assert found[SHAPES.index("jawLeft")] == 2 and found[SHAPES.index("jawOpen")] == 3
    flip = np.diag([-1.0, 1.0, 1.0])
    assert np.allclose(found[52:].reshape(2, 3), (flip @ turn @ flip)[:2], atol=1e-6)
    assert np.allclose(mirrored(found), coefficients_of(weights, turn), atol=1e-6)


def test_training_lowers_its_losses_and_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    features = FaceFeatures(FeaturesConfig((4, 8))).eval().requires_grad_(False)
    net = reenactment.train(RECIPE, folder, features, Run(tmp_path))
    assert isinstance(net, LatentPose)
    again = reenactment.train(RECIPE, folder, features, Run(tmp_path))
    for mine, theirs in zip(again.state_dict().values(), net.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), "a finished run takes no further step"
    on = reenactment.train({**RECIPE, "steps": 6}, folder, features, Run(tmp_path))
    assert any(not torch.equal(a, b) for a, b in zip(on.state_dict().values(), net.state_dict().values(), strict=True))


def test_losses_are_least_for_the_truth() -> None:
    g = torch.Generator().manual_seed(2)
    truth, mask = torch.rand(2, 3, 32, 32, generator=g), (torch.rand(2, 1, 32, 32, generator=g) > 0.5).float()
    features = FaceFeatures(FeaturesConfig((4, 8))).eval()
    assert losses.mask_loss(mask, mask) == pytest.approx(0, abs=1e-5)
    assert losses.laplacian(truth, truth) == 0 and losses.perceptual(features, truth, truth) == 0
    other = torch.rand(2, 3, 32, 32, generator=g)
    assert losses.mask_loss(1 - mask, mask) > 1 and losses.laplacian(other, truth) > 0.1
    assert losses.perceptual(features, other, truth) > 0
    wide = torch.zeros(1, 1, 36, 36)
    wide[..., 8:28, 8:28] = 1.0
    assert losses.central(wide).min() > 0.999, "the face is the middle of a crop that was enlarged by 1.8"


@pytest.mark.data
def test_people_in_the_same_pose_are_turned_alike_and_lie_where_their_landmarks_say(data_dir: Path) -> None:
    mediapipe = pytest.importorskip("mediapipe")
    from inference.head.wrap import load_template
    from inference.training.studio import performers

    template = load_template()
    with mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.3
    ) as finder:
        one = performers.cast(data_dir, performers.HELD_OUT[0], template, finder)
    layout, rng = performers.Layout(template), np.random.default_rng(3)
    who = performers.perform([one], layout, rng, mixed=False)
    poses = face_films.Poses(
        np.zeros((2, len(SHAPES))), np.stack([np.eye(3), face_films.turns_of(np.array([[0.6, 0, 0]]))[0]])
    )
    poses.weights[1, SHAPES.index("jawOpen")] = 1.0
    take = face_films.Take(poses, np.array([0.0, -0.8, 0.0]), 0.0, 5)
    film = face_films.film(who, template, [take], 64, rng)
    assert film.images.shape == (2, 64, 64, 3) and np.abs(film.rotations[0] - np.eye(3)).max() < 0.1
    straight, turned = film.landmarks
    assert 20 < straight[1, 0] < 44 and (film.masks[0, 30:40, 28:36] == 255).all() and film.masks[0, 0, 0] == 0
    lips = [np.linalg.norm(marks[0] - marks[17]) for marks in film.landmarks]
    assert lips[1] > lips[0] + 3, "the jaw opens"
    nose = [(2 * marks[1, 0] - marks[234, 0] - marks[454, 0]) / 30 for marks in (straight, turned)]
    assert abs(nose[0]) < 0.2 < abs(nose[1]), "the head turns"


def test_a_descriptor_in_other_directions_tells_the_generator_the_same() -> None:
    config = LatentPoseConfig(**{**RECIPE["net"], "gain": 10.0, "spectral": False})  # type: ignore[arg-type]
    torch.manual_seed(4)
    net, g = LatentPose(config).eval(), torch.Generator().manual_seed(5)
    images, who = torch.rand(40, 3, 32, 32, generator=g), torch.randn(40, 24, generator=g)
    with torch.no_grad():
        found = net.embedder.pose(images)
        directions = np.random.default_rng(6).normal(size=(12, 12))
        other = LatentPose(config).eval()
        other.load_state_dict(narrow_pose.narrowed(net.state_dict(), directions, found.numpy(), config))
        poses = other.embedder.pose(images)
        assert not torch.allclose(poses, found, atol=1e-2)
        assert torch.allclose(other.generator(who, poses).rgb, net.generator(who, found).rgb, atol=2e-3)
        assert torch.allclose(other.reader(poses), net.reader(found), atol=1e-3)


def test_directions_that_poses_explain_come_before_those_of_people() -> None:
    rng = np.random.default_rng(7)
    poses, people = rng.normal(size=(80, 4, 2)), rng.normal(size=(80, 1, 3))
    ring = np.concatenate([poses, np.roll(poses, -1, 0)], 1)  # each film holds its poses, then the next one's
    mixed = np.concatenate([ring, np.broadcast_to(3 * people, (80, 8, 3))], -1) @ rng.normal(size=(5, 5))
    kept = narrow_pose.explained(mixed, ring.reshape(-1, 2))[:, :2]
    read = mixed.reshape(-1, 5) @ kept
    who = np.broadcast_to(people, (80, 8, 3)).reshape(-1, 3)
    assert abs(np.corrcoef(read.T, who.T)[:2, 2:]).max() < 0.3
    back = np.linalg.lstsq(read, ring.reshape(-1, 2), rcond=None)[0]
    assert np.abs(read @ back - ring.reshape(-1, 2)).mean() < 0.15
