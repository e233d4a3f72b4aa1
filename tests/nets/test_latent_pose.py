"""Latent pose: published checkpoints reproduce the original's arithmetic, written out here plainly and apart."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from inference import nets
from inference.nets import latent_pose
from inference.nets.latent_pose import Embedder, Generator, LatentPose, LatentPoseConfig
from inference.nets.latent_pose_discriminator import Discriminator, DiscriminatorConfig
from inference.protocol.errors import WeightsError

State = dict[str, Tensor]
TINY = LatentPoseConfig(
    size=32, pose_size=32, width=8, widest=16, identity=24, pose=12, encoder="resnet10", encoder_width=8,
    pose_width=0.25, fine=True, coefficients=5,
)  # fmt: skip


def scrambled(state: State, seed: int) -> State:
    """Random numbers in the shapes of a state: variances positive, singular vectors of unit length, not yet right."""
    g, out = torch.Generator().manual_seed(seed), {}
    for name, value in state.items():
        if not value.is_floating_point():
            out[name] = value
            continue
        drawn = torch.randn(value.shape, generator=g)
        if name.endswith("running_var"):
            out[name] = 0.5 + drawn.abs()
        elif value.ndim > 1:
            out[name] = drawn * (2.0 / value[0].numel()) ** 0.5
        else:
            out[name] = 1 + 0.1 * drawn if name.endswith("weight") else 0.1 * drawn
    for name in [name.removesuffix("_orig") for name in out if name.endswith("weight_orig")]:
        rows = out[f"{name}_orig"].reshape(len(out[f"{name}_orig"]), -1)
        v = functional.normalize(rows.t() @ out[f"{name}_u"], dim=0)
        out[f"{name}_v"], out[f"{name}_u"] = v, functional.normalize(rows @ v, dim=0)
    return out


def spectral(state: State, name: str) -> Tensor:
    """W / (u^T W v) with the vectors as stored."""
    weight = state[f"{name}.weight_orig"]
    sigma = state[f"{name}.weight_u"] @ weight.reshape(len(weight), -1) @ state[f"{name}.weight_v"]
    return weight / sigma


def conv(state: State, name: str, x: Tensor) -> Tensor:
    weight = spectral(state, name)
    return functional.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)


def batch_norm(state: State, name: str, x: Tensor) -> Tensor:
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scale = state[f"{name}.weight"] / (var + 1e-5).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{name}.bias"][:, None, None]


def plain_resnext(state: State, images: Tensor) -> Tensor:
    """ResNeXt-50 32x4d with torchvision's keys."""

    def unit(x: Tensor, conv_name: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{conv_name}.weight"]
        x = functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups)
        return batch_norm(state, norm, x)

    x = functional.max_pool2d(unit(images, "conv1", "bn1", 2).relu(), 3, 2, 1)
    for layer, depth in enumerate((3, 4, 6, 3), 1):
        for block in range(depth):
            at, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = unit(x, f"{at}.conv1", f"{at}.bn1").relu()
            y = unit(y, f"{at}.conv2", f"{at}.bn2", stride, 32).relu()
            y = unit(y, f"{at}.conv3", f"{at}.bn3")
            if f"{at}.downsample.0.weight" in state:
                x = unit(x, f"{at}.downsample.0", f"{at}.downsample.1", stride)
            x = (x + y).relu()
    return x.mean((2, 3)) @ state["fc.weight"].t() + state["fc.bias"]


def plain_mobilenet(state: State, images: Tensor) -> Tensor:
    """MobileNetV2 with torchvision's keys, read off the shapes: a 3x3 filter of one input channel is depthwise."""
    strides = {0: 2, 2: 2, 4: 2, 7: 2, 14: 2}
    x = images
    for index in range(19):
        before, at = x, f"features.{index}"
        names = sorted(
            (k.removesuffix(".weight") for k, v in state.items() if k.startswith(f"{at}.") and v.ndim == 4),
            key=lambda name: [int(n) for n in re.findall(r"\d+", name)],
        )
        for name in names:
            weight = state[f"{name}.weight"]
            deep = weight.shape[1] == 1
            filters = weight.shape[-1] == 3
            x = functional.conv2d(
                x, weight, None, strides.get(index, 1) if filters else 1, 1 if filters else 0,
                groups=len(weight) if deep else 1,
            )  # fmt: skip
            parts = name.split(".")
            norm = ".".join([*parts[:-1], str(int(parts[-1]) + 1)])
            x = batch_norm(state, norm, x)
            linear = name == names[-1] and 0 < index < 18
            x = x if linear else x.clamp(0, 6)
        if 0 < index < 18 and before.shape == x.shape:
            x = x + before
    return x.mean((2, 3)) @ state["classifier.1.weight"].t() + state["classifier.1.bias"]


def plain_generator(state: State, identity: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
    """The released generator: parameters of all normalisations in one row, bias before weight."""

    def linear(name: str, x: Tensor) -> Tensor:
        return (
            x @ spectral(state, f"affine_params_projector.{name}").t() + state[f"affine_params_projector.{name}.bias"]
        )

    row = linear("2", linear("0", torch.cat([identity, pose], 1)).relu())
    used = 0

    def adain(x: Tensor) -> Tensor:
        nonlocal used
        channels = x.shape[1]
        bias, weight = row[:, used : used + channels], row[:, used + channels : used + 2 * channels]
        used += 2 * channels
        mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
        return (x - mean) / (var + 1e-4).sqrt() * weight[:, :, None, None] + bias[:, :, None, None]

    def twice(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    x = state["constant.constant"].repeat(len(pose), 1, 1, 1)
    block = 0
    while any(key.startswith(f"decoder_blocks.{block}.block.") for key in state):
        at = f"decoder_blocks.{block}"
        up = f"{at}.block.4.weight_orig" in state
        y = adain(x).relu()
        y = conv(state, f"{at}.block.{4 if up else 3}", twice(y) if up else y)
        y = conv(state, f"{at}.block.{8 if up else 7}", adain(y).relu())
        if up:
            x = conv(state, f"{at}.skip.1", twice(x))
        elif f"{at}.skip.0.weight_orig" in state:
            x = conv(state, f"{at}.skip.0", x)
        x, block = x + y, block + 1
    out = conv(state, f"decoder_blocks.{block + 2}", adain(x).relu()).tanh()
    assert used == row.shape[1]
    mask = 0.5 * out[:, 3:] + 0.5
    return (0.75 * out[:, :3] + 0.5) * mask, mask


def plain_discriminator(state: State, images: Tensor, who: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The discriminator, with ReLUs that overwrite what they read as in the original."""
    out = functional.avg_pool2d(
        conv(state, "down_block.2", functional.relu(conv(state, "down_block.0", images))), 2
    ) + functional.avg_pool2d(conv(state, "skip.0", images), 2)
    found, block = [out], 0
    while f"blocks.{block}.block.2.weight_orig" in state:
        at = f"blocks.{block}"
        down = out.shape[-1] > 4
        y = conv(state, f"{at}.block.2", functional.relu(out, inplace=True))
        y = conv(state, f"{at}.block.5", functional.relu(y, inplace=True))
        x = conv(state, f"{at}.skip.0", out) if f"{at}.skip.0.weight_orig" in state else out
        out = functional.avg_pool2d(y, 2) + functional.avg_pool2d(x, 2) if down else x + y
        found.append(out)
        block += 1
    pooled = torch.relu(out).sum((2, 3))
    score = pooled @ spectral(state, "linear").t() + state["linear.bias"]
    return score[:, 0] + (pooled * spectral(state, "embed")[who]).sum(1), found


def far(found: Tensor, wanted: Tensor) -> float:
    """Largest difference against the largest number."""
    return float((found - wanted).abs().max() / wanted.abs().max())


@torch.no_grad()
def test_a_published_embedder_gives_the_originals_descriptors() -> None:
    state = scrambled(Embedder(LatentPoseConfig()).state_dict(), 1)
    assert state["identity_encoder.layer1.0.conv2.weight"].shape == (128, 4, 3, 3)
    assert state["pose_encoder.features.18.0.weight"].shape == (1280, 320, 1, 1)
    embedder = nets.import_original("latent-pose-embedder", state)
    assert isinstance(embedder, Embedder)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    parts = (
        {k.removeprefix(p): v for k, v in state.items() if k.startswith(p)}
        for p in ("identity_encoder.", "pose_encoder.")
    )
    who, how = next(parts), next(parts)
    assert far(embedder.identity(images[None]), plain_resnext(who, images).mean(0, keepdim=True)) < 1e-4
    assert far(embedder.pose(images), plain_mobilenet(how, images)) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("personal", [False, True])
def test_a_published_generator_gives_the_originals_pictures(personal: bool) -> None:
    config = LatentPoseConfig(size=64, width=8, widest=32, identity=20, pose=12, personal=personal)
    state = scrambled(Generator(config).state_dict(), 3)
    generator = nets.import_original("latent-pose-generator", state, identity=20)
    g = torch.Generator().manual_seed(4)
    identity, pose = torch.randn(3, 20, generator=g), torch.randn(3, 12, generator=g)
    found = generator(None if personal else identity, pose)
    rgb, mask = plain_generator(state, state["identity_embedding"].repeat(3, 1) if personal else identity, pose)
    assert far(found.rgb, rgb) < 1e-4 and far(found.mask, mask) < 1e-4


def test_the_published_generator_has_the_published_size() -> None:
    generator = Generator(latent_pose.PAPER)
    assert generator.affine_params_projector["2"].weight_orig.shape == (13056, 768)  # type: ignore[union-attr]
    assert sum(p.numel() for p in generator.parameters()) == pytest.approx(37.5e6, rel=0.01)


@torch.no_grad()
def test_a_published_discriminator_gives_the_originals_scores_and_features() -> None:
    state = scrambled(Discriminator(DiscriminatorConfig(64, 8, 16, 24, 6, 5)).state_dict(), 5)
    discriminator = nets.import_original("latent-pose-discriminator", state, size=64)
    assert isinstance(discriminator, Discriminator)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(6))
    who = torch.tensor([3, 1])
    score, found = discriminator(images, discriminator.embed(who))
    wanted, features = plain_discriminator(state, images, who)
    assert far(score, wanted) < 1e-4 and len(found) == len(features)
    assert max(far(a, b) for a, b in zip(found, features, strict=True)) < 1e-4
    assert all(feature.min() >= 0 for feature in found[:-1]) and found[-1].min() < 0


def test_keys_of_another_network_are_refused() -> None:
    state = Generator(dataclasses.replace(TINY)).state_dict()
    with pytest.raises(WeightsError, match="not those of 'latent-pose-discriminator'"):
        nets.import_original("latent-pose-discriminator", state)


def test_training_divides_weights_by_their_largest_singular_value() -> None:
    from inference.nets.spectral import SpectralLinear

    layer = SpectralLinear(12, 7)
    for _ in range(60):
        layer.effective()
    assert float(torch.linalg.matrix_norm(layer.effective().detach(), 2)) == pytest.approx(1.0, abs=1e-3)


@torch.no_grad()
def test_the_pose_alone_changes_how_a_person_looks_not_who_drives() -> None:
    torch.manual_seed(0)
    net = LatentPose(TINY).eval()
    images = torch.rand(2, 3, 3, 32, 32)
    same = net(images, images[:1, 0].expand(2, -1, -1, -1))
    assert not torch.allclose(same.rgb[0], same.rgb[1])
    assert (same.mask > 0).all() and (same.mask < 1).all()
    assert same.rgb.shape == (2, 3, 32, 32)
