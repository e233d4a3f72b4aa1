"""Published checkpoints by their keys: our modules with the original's numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..protocol.errors import WeightsError
from .body_regressors import SpinRegressor, StrapsRegressor
from .latent_pose import Embedder, Generator, LatentPoseConfig
from .latent_pose_discriminator import Discriminator, DiscriminatorConfig
from .neus import Background, ColorNet, NeusConfig, SdfNet, Variance
from .pose_resnet import PoseResNet, PoseResNetConfig
from .triangulation import AlgebraicConfig, AlgebraicNet, VolumetricConfig, VolumetricNet
from .v2v import V2V, V2VConfig

State = Mapping[str, Tensor]


def import_original(name: str, state: State, **options: Any) -> nn.Module:
    """Build our module from a state dict in the original's key layout, in evaluation mode and compatible arithmetic.

    Args:
        name: "triangulation-algebraic", "triangulation-volumetric", "pose-resnet", "v2v", "neus-sdf", "neus-color",
            "neus-variance", "neus-nerf", "latent-pose-embedder", "latent-pose-generator", "latent-pose-discriminator",
            "spin-regressor", "straps-regressor".
        state: tensors by the original's keys, with or without `module.` before them.
        options: what no key tells: `style` of the residual blocks, `heatmap_multiplier`, `softmax`, `aggregation`,
            `side`, `size`, `volume_multiplier`, `vertical`, `features` of the colour net, `identity` numbers of a
            generator's first input, `pool` of an embedder's, `start` (157,) of STRAPS' passes.
    Raises:
        WeightsError: an unknown name, or keys and shapes that are not the original's.
    """
    if name not in _IMPORTERS:
        raise WeightsError(f"{name!r} is not one of {', '.join(_IMPORTERS)}.")
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        net = _IMPORTERS[name](state, options)
        net.load_state_dict(state, strict=True)
    except (KeyError, RuntimeError, TypeError, IndexError) as error:
        text = " ".join(str(error).split())[:300]  # torch writes a line for each tensor
        raise WeightsError(f"These weights are not those of {name!r}: {text}") from error
    return net.eval()


def _part(state: State, prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _count(state: State, pattern: str) -> int:
    return len({match[1] for key in state if (match := re.match(pattern, key))})


def _read_backbone(state: State, options: dict[str, Any]) -> PoseResNetConfig:
    depth = sum(_count(state, rf"layer{stage}\.(\d+)\.") for stage in range(1, 5))
    convolutions = 3 if "layer1.0.conv3.weight" in state else 2
    rows = sorted((key for key in state if re.fullmatch(r"deconv_layers\.\d+\.weight", key)), key=_number)
    deconv = tuple(state[key].shape[1] for key in rows if state[key].ndim == 4)

    def head(name: str) -> int:
        key = f"{name}.head.4.weight"
        return len(state[key]) if key in state else 0

    return PoseResNetConfig(
        layers=2 + depth * convolutions, joints=len(state["final_layer.weight"]), deconv=deconv,
        algebraic=head("alg_confidences"), volumetric=head("vol_confidences"), style=options.get("style", "simple"),
    )  # fmt: skip


def _number(key: str) -> int:
    return int(key.split(".")[1])


def _read_volume(state: State) -> V2VConfig:
    first, inputs, kernel = state["front_layers.0.block.0.weight"].shape[:3]
    levels = _count(state, r"encoder_decoder\.encoder_res(\d+)\.")
    inner = [state[f"encoder_decoder.encoder_res{i}.res_branch.0.weight"].shape[0] for i in range(1, levels + 1)]
    wide = state["front_layers.1.res_branch.0.weight"].shape[0]
    return V2VConfig(
        inputs=inputs, joints=len(state["output_layer.weight"]), first=first, kernel=kernel, widths=(wide, *inner),
        fronts=_count(state, r"front_layers\.(\d+)\.") - 1, back=any(key.startswith("back_layers.") for key in state),
    )  # fmt: skip


def _given(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _algebraic(state: State, options: dict[str, Any]) -> nn.Module:
    backbone = _read_backbone(_part(state, "backbone."), options)
    extra = _given(options, "heatmap_multiplier", "softmax")
    return AlgebraicNet(AlgebraicConfig(backbone=backbone, compatible=True, **extra))


def _volumetric(state: State, options: dict[str, Any]) -> nn.Module:
    backbone = _read_backbone(_part(state, "backbone."), options)
    aggregation = options.get("aggregation", "conf" if backbone.volumetric else "softmax")
    return VolumetricNet(
        VolumetricConfig(
            backbone=backbone, volume=_read_volume(_part(state, "volume_net.")), aggregation=aggregation,
            compatible=True, **_given(options, "side", "size", "volume_multiplier", "vertical"),
        )
    )  # fmt: skip


def _layers(state: State) -> int:
    return _count(state, r"lin(\d+)\.weight_v")


def _bands(encoded: int, channels: int) -> int:
    return (encoded - channels) // (2 * channels)


def _distance(state: State, options: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    depth = _layers(state) - 1
    width, encoded = state["lin0.weight_v"].shape
    narrow = [i for i in range(depth) if len(state[f"lin{i}.weight_v"]) != width]
    return SdfNet(
        NeusConfig(
            width=width, depth=depth, skip=narrow[0] + 1 if narrow else 0, points=_bands(encoded, 3),
            features=len(state[f"lin{depth}.bias"]) - 1,
        )
    )  # fmt: skip


def _colour(state: State, options: dict[str, Any]) -> nn.Module:
    width, inputs = state["lin0.weight_v"].shape
    features = options.get("features", 256)
    return ColorNet(
        NeusConfig(
            color_width=width, color_depth=_layers(state) - 1, features=features,
            directions=_bands(inputs - 6 - features, 3),
        )
    )  # fmt: skip


def _background(state: State, options: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    width, seen = state["pts_linears.0.weight"].shape
    depth = _count(state, r"pts_linears\.(\d+)\.")
    wide = [i for i in range(1, depth) if state[f"pts_linears.{i}.weight"].shape[1] != width]
    looked = state["views_linears.0.weight"].shape[1] - width
    return Background(width, depth, _bands(seen, 4), _bands(looked, 3), wide[0] - 1 if wide else depth)


def _embedder(state: State, options: dict[str, Any]) -> nn.Module:
    return Embedder(
        LatentPoseConfig(
            identity=len(state["identity_encoder.fc.weight"]), pose=len(state["pose_encoder.classifier.1.weight"]),
            **_given(options, "pool"),
        )
    )  # fmt: skip


def _generator(state: State, options: dict[str, Any]) -> nn.Module:
    blocks = _count(state, r"decoder_blocks\.(\d+)\.block\.")
    ups = _count(state, r"decoder_blocks\.(\d+)\.block\.4\.")
    outputs, width = state[f"decoder_blocks.{blocks + 2}.weight_orig"].shape[:2]
    _, widest, start, _ = state["constant.constant"].shape
    personal = "identity_embedding" in state
    identity = state["identity_embedding"].shape[1] if personal else options.get("identity", 512)
    return Generator(
        LatentPoseConfig(
            size=start << ups, width=width, widest=widest, blocks=blocks - ups, identity=identity,
            pose=state["affine_params_projector.0.weight_orig"].shape[1] - identity, mask=outputs > 3,
            personal=personal,
        )
    )  # fmt: skip


def _discriminator(state: State, options: dict[str, Any]) -> nn.Module:
    blocks = 1 + _count(state, r"blocks\.(\d+)\.")
    halvings = 1 + _count(state, r"blocks\.(\d+)\.skip\.")  # where all but the last two blocks widen or halve
    rows, identity = state["embed.weight_orig"].shape
    widest = max(len(state[f"blocks.{k}.block.5.weight_orig"]) for k in range(max(blocks - 2, 1)))
    return Discriminator(
        DiscriminatorConfig(
            size=options.get("size", 4 << halvings), width=len(state["down_block.0.weight_orig"]), widest=widest,
            identity=identity, blocks=blocks, rows=rows,
        )
    )  # fmt: skip


def _spin(state: State, options: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    hidden, inputs = state["fc1.weight"].shape
    known = sum(len(state[f"{name}.weight"]) for name in ("decpose", "decshape", "deccam"))
    return SpinRegressor(encoder="conv1.weight" in state, features=inputs - known, hidden=hidden)


def _straps(state: State, options: dict[str, Any]) -> nn.Module:
    first = state.get("image_encoder.conv1.weight")
    outputs, second = state["ief_module.fc3.weight"].shape
    widths, features = (len(state["ief_module.fc1.weight"]), second), state["ief_module.fc1.weight"].shape[1] - outputs
    net = StrapsRegressor(inputs=0 if first is None else first.shape[1], widths=widths, features=features)
    if "start" in options:
        net.start.copy_(torch.as_tensor(options["start"]))
    return net


_IMPORTERS: dict[str, Callable[[State, dict[str, Any]], nn.Module]] = {
    "triangulation-algebraic": _algebraic,
    "triangulation-volumetric": _volumetric,
    "pose-resnet": lambda state, options: PoseResNet(_read_backbone(state, options)),
    "v2v": lambda state, _: V2V(_read_volume(state)),
    "neus-sdf": _distance,
    "neus-color": _colour,
    "neus-variance": lambda _state, _options: Variance(),
    "neus-nerf": _background,
    "latent-pose-embedder": _embedder,
    "latent-pose-generator": _generator,
    "latent-pose-discriminator": _discriminator,
    "spin-regressor": _spin,
    "straps-regressor": _straps,
}
