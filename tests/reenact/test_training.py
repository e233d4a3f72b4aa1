"""Films and what is learnt from them: twins hold the same pose, mirrors are mirrors, a run goes on where it stopped."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from understudy.tests.motion.roads import Road
from understudy.tests.reenact import clips

from inference.bench.reenact_measures import follows, retrieval
from inference.core.artifacts import PoseDescriptors
from inference.core.face_shapes import SHAPES
from inference.nets.face_features import FaceFeatures, FeaturesConfig
from inference.nets.latent_pose import LatentPose, LatentPoseConfig
from inference.protocol.requests import ReenactRequest
from inference.reenact import losses
from inference.reenact.network import load
from inference.training import face_films, pose_encoder, reenactment, weigh_pose
from inference.training.reenactment import Bank, Drawing, coefficients_of, draw, mirrored
from inference.training.script import Run, read_recipe

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
    batch = draw(bank, 5, Drawing(3), np.random.default_rng(1))
    assert batch.identity.shape == (10, 3, 3, 32, 32) and batch.driver.shape == (10, 3, 32, 32)
    assert torch.equal(batch.coefficients[:5], batch.coefficients[5:])
    assert (batch.film[:5] != batch.film[5:]).all()
    assert ((batch.truth > 0) & (batch.mask == 0)).sum() == 0, "a target is nothing where its mask is nothing"


def test_twins_stay_within_the_ring_of_their_file(folder: Path) -> None:
    two = reenactment.load(folder / "films.npz", folder / "held_out.npz")
    assert two.images.shape[0] == 8
    for film in range(8):
        for frame in range(8):
            other, there = two.twin(film, frame)
            assert (other < 6) == (film < 6) and two.twin(other, there) == (film, frame)
            assert np.array_equal(two.coefficients[film, frame], two.coefficients[other, there])


def test_drivers_may_have_more_pixels_than_what_is_made(bank: Bank) -> None:
    how = Drawing(2, augmented=False, size=16, coarse=0.5)
    batch = draw(bank, 8, how, np.random.default_rng(1))
    assert batch.identity.shape == (16, 2, 3, 16, 16) and batch.truth.shape == (16, 3, 16, 16)
    assert batch.driver.shape == (16, 3, 32, 32) and batch.mask.shape == (16, 1, 16, 16)
    full = draw(bank, 8, Drawing(2, augmented=False), np.random.default_rng(1))
    assert (functional.avg_pool2d(full.truth, 2) - batch.truth).abs().max() < 0.02
    off = (batch.driver - full.driver).abs().amax((1, 2, 3))
    assert (off == 0).any() and (off > 0.05).any(), "some of them are shown in no more pixels"


def test_twins_may_lie_at_places_of_their_own(folder: Path) -> None:
    bank = reenactment.load(folder / "films.npz")
    together, own = (draw(bank, 20, Drawing(0, apart=way), np.random.default_rng(2)).landmarks for way in (False, True))
    assert torch.equal(together[:20], together[20:]) and not torch.equal(own[:20], own[20:])


def test_an_encoder_goes_on_from_one_of_smaller_pictures_and_says_the_same_of_their_means() -> None:
    config = LatentPoseConfig(**RECIPE["net"])  # type: ignore[arg-type]
    torch.manual_seed(2)
    learnt, images = LatentPose(config).eval(), torch.rand(5, 3, 64, 64)
    poses = pose_encoder.Poses(replace(config, pose_size=64, pose_fold=2, pose=20))
    poses.begin(learnt)
    with torch.no_grad():
        wanted, found = learnt.embedder.pose(functional.avg_pool2d(images, 2)), poses.encoder(images)
        assert torch.allclose(found[:, :12], wanted, atol=1e-4)
        assert torch.allclose(poses.reader(found), learnt.reader(wanted), atol=1e-4)
        assert torch.equal(poses.average["encoder"](images), found)


def test_what_is_kept_lies_between_what_an_encoder_was_and_became_and_its_reader_follows(bank: Bank) -> None:
    config = LatentPoseConfig(**RECIPE["net"])  # type: ignore[arg-type]
    torch.manual_seed(5)
    first, last = pose_encoder.Poses(config).average, pose_encoder.Poses(config).average
    for share, like in ((0.0, last), (1.0, first)):
        mean = pose_encoder.between(first, last, {"begun": share})
        assert all(torch.allclose(a, b) for a, b in zip(mean.parameters(), like.parameters(), strict=True))
    net, recipe = LatentPose(config), {"seed": 1, "batch": 8, "lr": 1e-2, "net": RECIPE["net"], "augmented": False}
    pictures = draw(bank, 8, Drawing(0, augmented=False), np.random.default_rng(1))
    off = []
    for steps in (0, 15):
        pose_encoder.read_again(net, bank, {**recipe, "read_again": steps})
        with torch.no_grad():
            off.append((net.reader(net.embedder.pose(pictures.driver)) - pictures.coefficients).square().mean())
    assert off[1] < 0.5 * off[0]


def test_twins_are_missed_least_where_they_are_nearest() -> None:
    g = torch.Generator().manual_seed(3)
    people, sharpness = torch.randn(10, 6, generator=g), torch.tensor(3.0, requires_grad=True)
    twins, strangers = people + 0.1 * torch.randn(10, 6, generator=g), torch.randn(10, 6, generator=g)
    found, lost = (pose_encoder.missed(torch.cat([people, other]), sharpness) for other in (twins, strangers))
    assert found < 0.1 and lost > 1
    lost.backward()
    assert sharpness.grad is not None and sharpness.grad.isfinite()


def test_poses_are_read_alike_from_pictures_that_are_alike() -> None:
    torch.manual_seed(4)
    net = LatentPose(LatentPoseConfig(**{**RECIPE["net"], "size": 16})).eval()  # type: ignore[arg-type]
    truth, other = torch.rand(2, 4, 3, 16, 16)
    assert reenactment.misread(net, truth, truth, bfloat16=False) < 1e-9
    assert reenactment.misread(net, other, truth, bfloat16=False) > 1e-6


def test_strong_expressions_are_of_few_shapes_and_none_is_weak() -> None:
    rng = np.random.default_rng(2)
    strong, drawn = face_films.Poses.strong(300, rng), face_films.Poses.drawn(300, rng)
    chosen = [k for k, name in enumerate(SHAPES) if name.startswith(("brow", "cheek", "nose", "mouthPress"))]
    shown = strong.weights[:, chosen]
    assert shown[shown > 0].min() >= 0.5 and (strong.weights[:, chosen] > 0).sum(1).max() <= 6
    assert np.abs(strong.turns - np.eye(3)).mean() < np.abs(drawn.turns - np.eye(3)).mean()


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


def test_a_pose_encoder_learns_alone_and_the_generator_keeps_its_poses(folder: Path, tmp_path: Path) -> None:
    plain = {"gain": 10.0, "spectral": False, "hidden": 512}
    net_config = {**RECIPE["net"], **plain}
    learnt = LatentPose(LatentPoseConfig(**net_config)).eval()  # type: ignore[arg-type]
    recipe = {
        "seed": 1, "steps": 30, "batch": 16, "stretched": 0.0, "twins": 0.1, "lr": 2e-3, "muon_lr": 0.02, "decay": 0.01,
        "warmup": 5, "cooldown": 20, "average": 0.9, "checkpoint_minutes": 10, "measured_every": 100, "net": net_config,
    }  # fmt: skip
    for name in ("none", "poses", "made"):
        (tmp_path / name).mkdir()
    before = pose_encoder.train({**recipe, "steps": 0}, folder, learnt, Run(tmp_path / "none"))
    net = pose_encoder.train(recipe, folder, learnt, Run(tmp_path / "poses"))
    held = reenactment.load(folder / "held_out.npz")
    scores = [reenactment.r2_of_poses(one, held)["r2_shapes"] for one in (before, net)]
    assert scores[1] > scores[0] + 0.1 and load(tmp_path / "poses" / "reenactment.safetensors").pose_numbers == 12
    features = FaceFeatures(FeaturesConfig((4, 8))).eval().requires_grad_(False)
    keeping = {
        **RECIPE,
        "net": net_config,
        "keeps_poses": True,
        "muon_lr": 0.01,
        "decay": 0.01,
        "poses": 0,
        "warm_up": 0,
    }
    keeping["weights"] = {**RECIPE["weights"], "coefficients": 0.0, "twins": 0.0, "parts": 1.0}
    made = reenactment.train(keeping, folder, features, Run(tmp_path / "made"), learnt=net)
    for name, value in net.state_dict().items():
        same = torch.equal(value, made.state_dict()[name])
        assert same or not name.startswith(("embedder.pose_encoder.", "reader.")), name
    assert not torch.equal(net.generator.constant.constant, made.generator.constant.constant)


@pytest.fixture(scope="module")
def by_landmarks(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A keypoint-driven network after a step, its generator begun from one that is driven by pictures."""
    out = tmp_path_factory.mktemp("landmarks")
    changes = ['net.pose_encoder="landmarks"', "net.pose=140", "net.pose_size=256", "net.mask=false"]
    changes += ["net.spectral=false", "steps=1", "poses=0", "warm_up=1"]
    recipe = out / "recipe.toml"
    recipe.write_text("\n".join(written(RECIPE)))
    features = FaceFeatures(FeaturesConfig((4, 8))).eval().requires_grad_(False)
    learnt = LatentPose(LatentPoseConfig(**{**RECIPE["net"], "hidden": 512, "spectral": False}))  # type: ignore[arg-type]
    reenactment.train(read_recipe(recipe, changes), folder, features, Run(out), learnt=learnt)
    return out / "reenactment.safetensors"


def written(values: dict[str, Any]) -> list[str]:
    """Lines of TOML."""
    plain = [f"{name} = {json.dumps(value)}" for name, value in values.items() if not isinstance(value, dict)]
    inner = [(name, value) for name, value in values.items() if isinstance(value, dict)]
    return [*plain, *(line for name, value in inner for line in (f"[{name}]", *written(value)))]


def test_a_keypoint_driven_network_learns_is_saved_and_drives_frames(by_landmarks: Path) -> None:
    net = load(by_landmarks)
    assert net.net.config.pose_encoder == "landmarks" and not net.net.config.mask
    shown = np.stack([clips.face(turned, (160, 160)) for turned in (-10, 10)])
    nobody = np.full((1, 160, 160, 3), 90, np.uint8)
    poses = net.pose(np.concatenate([shown, nobody]))
    assert np.isnan(poses[2]).all(), "nobody's landmarks are not known"
    eyes = poses[:2].reshape(2, 70, 2)[:, 68:]
    assert np.abs(eyes[..., 0].mean(1)).max() < 0.2, "landmarks are about the middle of the picture"
    across = eyes[:, 1] - eyes[:, 0]
    tilts = np.arctan(across[:, 1] / across[:, 0])
    assert 0.2 < abs(tilts[0] - tilts[1]) < 0.5, "they turn as the picture does, by 20 degrees"
    rgb, alpha = net.frame(net.identity(shown), poses[:2])
    assert rgb.shape == (2, 32, 32, 3) and np.abs(rgb[0] - rgb[1]).max() > 0 and (alpha == 1).all()


def test_a_film_drives_a_keypoint_driven_network_and_frames_without_a_face_are_held(
    by_landmarks: Path, tmp_path: Path
) -> None:
    Image.fromarray(clips.face()).save(tmp_path / "ada.png")
    clips.film(tmp_path / "driver.mp4", [0, 5, None, -5])
    road, request = Road(tmp_path / "job"), {"driver": tmp_path / "driver.mp4", "network": by_landmarks, "movie": False}
    assert road.run(ReenactRequest(source=(tmp_path / "ada.png",), iterations=0, **request)) == 0, road.message
    assert len(list((road.folder.artifacts / "frames").iterdir())) == 4
    driven = PoseDescriptors.load(road.folder.artifacts / "driver.npz")
    assert np.isfinite(driven.descriptors).all() and driven.seen[:2].all() and not driven.seen[2]
    assert np.array_equal(driven.descriptors[2], driven.descriptors[1])
    fitted = Road(tmp_path / "fitted")
    assert fitted.run(ReenactRequest(source=(tmp_path / "ada.png",), iterations=1, **request)) != 0
    assert "cannot be fitted" in fitted.message


def test_what_another_network_has_learnt_is_taken_over_as_far_as_the_new_descriptor_tells_it() -> None:
    changes = {"gain": 10.0, "dense": 16, "hidden": 40, "spectral": False}
    config = LatentPoseConfig(**{**RECIPE["net"], **changes})  # type: ignore[arg-type]
    torch.manual_seed(8)
    learnt, net = LatentPose(config), LatentPose(replace(config, pose=14))
    torch.nn.init.normal_(learnt.generator.start.weight, std=0.1)
    encoder = copy.deepcopy(learnt.embedder.pose_encoder.state_dict())
    last = {"head.2.weight": torch.randn(14, 12) @ encoder["head.2.weight"], "head.2.bias": torch.randn(14)}
    net.embedder.pose_encoder.load_state_dict({**encoder, **last})  # says the same in other numbers
    images, who = torch.rand(60, 3, 32, 32), torch.randn(60, 24)
    reenactment.take_over(net, learnt, images, images)
    with torch.no_grad():
        wanted = learnt.eval().generator(who, learnt.embedder.pose(images)).rgb
        found = net.eval().generator(who, net.embedder.pose(images)).rgb
    assert wanted.std(0).mean() > 0.01 and (found - wanted).abs().mean() < 0.1 * wanted.std(0).mean()


def test_without_masks_all_pictures_of_a_sample_have_one_background(bank: Bank) -> None:
    batch = draw(bank, 4, Drawing(2, augmented=False, masked=False), np.random.default_rng(3))
    assert torch.equal(batch.truth, batch.driver)
    behind = batch.driver[..., :2, :]  # above everybody
    for k in range(2):
        assert torch.equal(batch.identity[:, k, :, :2], behind)
    assert behind.max() > 0


def test_the_same_samples_are_drawn_whether_drivers_are_changed_or_not(bank: Bank) -> None:
    changed, plain = (draw(bank, 4, Drawing(2, augmented=way), np.random.default_rng(3)) for way in (True, False))
    assert torch.equal(changed.truth, plain.truth) and torch.equal(changed.identity, plain.identity)
    assert not torch.equal(changed.driver, plain.driver)


def test_losses_are_least_for_the_truth() -> None:
    g = torch.Generator().manual_seed(2)
    truth, mask = torch.rand(2, 3, 32, 32, generator=g), (torch.rand(2, 1, 32, 32, generator=g) > 0.5).float()
    features = FaceFeatures(FeaturesConfig((4, 8))).eval()
    assert losses.mask_loss(mask, mask) == pytest.approx(0, abs=1e-5)
    assert losses.laplacian(truth, truth) == 0 and losses.perceptual(features, truth, truth) == 0
    other = torch.rand(2, 3, 32, 32, generator=g)
    assert losses.mask_loss(1 - mask, mask) > 1 and losses.laplacian(other, truth) > 0.1
    assert losses.perceptual(features, other, truth) > 0
    marks = torch.full((2, 70, 2), 0.5)
    marks[:, 48:68, 0] += torch.linspace(-0.1, 0.1, 20)
    below, above = truth.clone(), truth.clone()
    below[..., 26:, :], above[..., 14:18, 14:18] = 0.0, 0.0
    assert losses.parts(below, truth, marks) == 0 < losses.parts(above, truth, marks), "eyes and mouth alone count"
    assert losses.steepness(functional.avg_pool2d(truth, 3, 1, 1)) < 0.6 * losses.steepness(truth)
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
        other.load_state_dict(weigh_pose.narrowed(net.state_dict(), directions, found.numpy(), config))
        poses = other.embedder.pose(images)
        assert not torch.allclose(poses, found, atol=1e-2)
        assert torch.allclose(other.generator(who, poses).rgb, net.generator(who, found).rgb, atol=2e-3)
        assert torch.allclose(other.reader(poses), net.reader(found), atol=1e-3)


def test_weighed_descriptors_are_near_in_the_same_pose_wherever_the_face_is_in_the_crop() -> None:
    rng = np.random.default_rng(9)
    poses, places = rng.normal(size=(200, 4, 2)), rng.normal(size=(200, 4, 2))
    ring = [np.concatenate([one, np.roll(one, -1, 0)], 1) for one in (poses, places)]
    people = np.broadcast_to(rng.normal(size=(200, 1, 2)), (200, 8, 2))
    mixing = rng.normal(size=(6, 6))
    found = np.concatenate([ring[0], 3 * ring[1], 0.2 * people], -1) @ mixing
    truths = [one.reshape(-1, 2) for one in ring]
    weighing = weigh_pose.weigh(found, *truths)
    assert weighing.shares[1] > 0.9 and weighing.shares[2] < 0.1, "two of six directions are pose"
    asked = np.concatenate([rng.normal(size=(20, 2))] * 2), 3 * rng.normal(size=(40, 2)), 0.2 * rng.normal(size=(40, 2))
    before = np.concatenate(asked, 1) @ mixing
    after = before @ weighing.directions
    same = [retrieval(values.reshape(2, 20, -1)) for values in (before, after)]
    assert same[0] < 0.5 and same[1] > 0.9
    assert np.linalg.matrix_rank(weighing.directions) == 6, "nothing is lost"


def test_directions_that_poses_explain_come_before_those_of_people() -> None:
    rng = np.random.default_rng(7)
    poses, people = rng.normal(size=(80, 4, 2)), rng.normal(size=(80, 1, 3))
    ring = np.concatenate([poses, np.roll(poses, -1, 0)], 1)  # each film holds its poses, then the next one's
    mixed = np.concatenate([ring, np.broadcast_to(3 * people, (80, 8, 3))], -1) @ rng.normal(size=(5, 5))
    kept = weigh_pose.explained(mixed, ring.reshape(-1, 2))[:, :2]
    read = mixed.reshape(-1, 5) @ kept
    who = np.broadcast_to(people, (80, 8, 3)).reshape(-1, 3)
    assert abs(np.corrcoef(read.T, who.T)[:2, 2:]).max() < 0.3
    back = np.linalg.lstsq(read, ring.reshape(-1, 2), rcond=None)[0]
    assert np.abs(read @ back - ring.reshape(-1, 2)).mean() < 0.15


def test_how_far_lips_follow_is_the_slope_of_what_is_found() -> None:
    truth = np.array([0.0, 0.1, 0.3, np.nan, 0.2])
    assert follows(0.2 + 0.5 * truth, truth) == pytest.approx(0.5)
    assert np.isnan(follows(truth[:3], truth[:3])), "three are too few"
