"""The network in numpy, on disk, and made one person's own."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage import data

from inference.core.descriptors import REGIONS
from inference.core.face_shapes import SHAPES
from inference.nets.latent_pose import LatentPose, LatentPoseConfig
from inference.nets.latent_pose_discriminator import Discriminator, DiscriminatorConfig
from inference.protocol.errors import InputError, WeightsError
from inference.protocol.events import SilentReporter
from inference.reenact import network
from inference.reenact.augment import augment
from inference.reenact.drive import region_changes
from inference.reenact.network import Network
from inference.reenact.person import Person
from inference.reenact.personalise import personalise

TINY = LatentPoseConfig(
    size=32, pose_size=32, width=8, widest=16, identity=24, pose=12, encoder="resnet10", encoder_width=8,
    pose_width=0.25, fine=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> Network:
    return network.new(TINY, seed=3)


@pytest.fixture(scope="module")
def person() -> tuple[np.ndarray, np.ndarray]:
    """A red disc before blue, in two places, and its mask."""
    rows, columns = np.indices((32, 32))
    masks = np.stack([(rows - 16) ** 2 + (columns - x) ** 2 < 80 for x in (13, 19)])
    images = np.where(masks[..., None], [200, 40, 30], [20, 30, 180]).astype(np.uint8)
    return images, (masks * 255).astype(np.uint8)


def test_pictures_of_any_size_and_kind_give_the_same_descriptors(tiny: Network) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    assert tiny.identity(images).shape == (24,) and tiny.pose(images).shape == (3, 12)
    assert np.allclose(tiny.pose(images / 255.0), tiny.pose(images), atol=1e-6)
    larger = images.repeat(4, 1).repeat(4, 2)
    assert np.allclose(tiny.pose(larger), tiny.pose(images), atol=1e-5)


def test_frames_do_not_depend_on_what_they_are_made_with(tiny: Network) -> None:
    rng = np.random.default_rng(1)
    who, poses = rng.normal(size=24).astype(np.float32), rng.normal(size=(20, 12)).astype(np.float32)
    rgb, alpha = tiny.frame(who, poses)
    assert rgb.shape == (20, 32, 32, 3) and alpha.shape == (20, 32, 32)
    assert rgb.min() >= 0 and rgb.max() <= 1 and alpha.min() >= 0 and alpha.max() <= 1
    assert np.allclose(tiny.frame(who, poses[7:8])[0], rgb[7:8], atol=1e-5)


def test_a_network_is_the_same_after_it_was_saved(tiny: Network, tmp_path: Path) -> None:
    tiny.save(tmp_path / "net.safetensors")
    again = network.load(tmp_path / "net.safetensors")
    images = np.random.default_rng(2).random((2, 32, 32, 3))
    assert np.array_equal(again.pose(images), tiny.pose(images)) and again.size == 32


def test_a_converted_checkpoint_of_the_authors_is_loaded_with_its_averages(tmp_path: Path) -> None:
    config = LatentPoseConfig(size=32, width=8, widest=16)
    torch.manual_seed(0)
    trained, average = LatentPose(config), LatentPose(config)
    state = dict(trained.state_dict())
    state |= {f"running_averages.{name}": value for name, value in average.state_dict().items()}
    state["optimizer_G.state.0.exp_avg"] = torch.zeros(3)
    save_file(state, tmp_path / "converted.safetensors", metadata={"converted_from": "model.pth"})
    loaded = network.load(tmp_path / "converted.safetensors")
    poses = np.random.default_rng(3).normal(size=(1, 256)).astype(np.float32)
    who = np.zeros(512, np.float32)
    assert np.allclose(loaded.frame(who, poses)[0], Network(average.eval()).frame(who, poses)[0], atol=1e-5)


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError):
        network.load(tmp_path / "a.safetensors")


def test_augmenting_changes_a_picture_but_not_its_kind() -> None:
    rng, image = np.random.default_rng(4), np.random.default_rng(5).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    made = [augment(image, rng) for _ in range(200)]
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one in made)
    changed = np.mean([not np.array_equal(one, image) for one in made])
    assert 0.85 < changed < 1.0  # half are stretched, and of six numbers of changes one is none


@pytest.mark.parametrize("judged", [False, True])
def test_personalising_brings_a_network_nearer_to_the_person(
    tiny: Network, person: tuple[np.ndarray, np.ndarray], tmp_path: Path, judged: bool
) -> None:
    images, masks = person
    judge = Discriminator(DiscriminatorConfig(32, 8, 16, 24, 4, 3)) if judged else None
    own = personalise(
        tiny, images, masks, iterations=24, report=SilentReporter(), folder=tmp_path, discriminator=judge
    )  # fmt: skip
    assert own.personal and not tiny.personal
    truth = images / 255 * (masks / 255)[..., None]
    poses = tiny.pose(images)
    before, after = (
        np.abs(net.frame(who, poses)[0] - truth).mean() for net, who in ((tiny, tiny.identity(images)), (own, None))
    )
    assert after < 0.99 * before
    assert np.array_equal(own.pose(images), poses), "the pose encoder stays as it is"


def test_personalising_goes_on_where_it_was_cut_off_to_the_same_numbers(
    tiny: Network, person: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    class CutOff(SilentReporter):
        def progress(self, stage: str, done: int, total: int) -> None:  # noqa: ARG002 - as the protocol has it
            if done == 22:
                raise KeyboardInterrupt

    images, masks = person
    whole = personalise(tiny, images, masks, iterations=24, report=SilentReporter(), folder=tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        personalise(tiny, images, masks, iterations=24, report=CutOff(), folder=tmp_path / "b")
    rest = personalise(tiny, images, masks, iterations=24, report=SilentReporter(), folder=tmp_path / "b")
    for mine, theirs in zip(rest.net.state_dict().values(), whole.net.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_pose_encoders_statistics_drift_only_when_asked(
    tiny: Network, person: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    images, masks = person
    drifted = personalise(
        tiny, images, masks, iterations=3, report=SilentReporter(), folder=tmp_path, drifting=True
    )  # fmt: skip
    assert not np.allclose(drifted.pose(images), tiny.pose(images), atol=1e-4)


def test_personalising_without_pictures_is_refused(tiny: Network, tmp_path: Path) -> None:
    none = np.zeros((0, 32, 32, 3), np.uint8)
    with pytest.raises(InputError, match="0 and 0"):
        personalise(tiny, none, none[..., 0], iterations=5, report=SilentReporter(), folder=tmp_path)


@pytest.mark.parametrize("region", ["lips", "eyes"])
def test_the_published_network_moves_one_region_and_leaves_the_other_and_the_turn(region: str) -> None:
    net, portrait = network.load(None), data.astronaut()[:240, 110:350]
    crops = [portrait[k : k + 176, k : k + 176] for k in (0, 20, 40, 60)]
    poses = net.pose(np.stack([cv2.resize(crop, (net.pose_size,) * 2) for crop in crops]) / np.float32(255))
    person = Person(net, None, poses[0], "", "", 0)
    keep = region_changes(region, person, poses)
    read = net.coefficients(np.stack([poses[0] + keep @ (pose - poses[0]) for pose in poses]).astype(np.float32))
    assert read is not None
    changed = np.abs(read - read[0]).max(0)
    moved = {
        name: changed[[shape.startswith(REGIONS[name]) for shape in SHAPES] + [False] * 6].max() for name in REGIONS
    }
    other = max(*(value for name, value in moved.items() if name != region), changed[52:].max())
    assert moved[region] > 3 * other
