"""A network made for one person, by steps of fitting to their pictures (Burkov 2020, section 3.4).

What the identity encoder says becomes a vector that is fitted along with the generator; the pose encoder stays as it
is. Steps are counted, not passes over the pictures: too many make everybody's expressions the ones that the pictures
show, too few leave a gap to the person.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .. import nets
from ..nets.face_features import FaceFeatures
from ..nets.latent_pose import LatentPose, Picture
from ..nets.latent_pose_discriminator import Discriminator
from ..protocol.errors import InputError, WeightsError
from ..protocol.events import Reporter
from ..protocol.files import atomic_path
from ..runtime import weights
from . import losses
from .augment import augment
from .network import Network, prepared

Array = np.ndarray
FEATURES = "face-features"
WEIGHTS = {"laplacian": 5.0, "perceptual": 0.3, "face": 5.0, "mask": 0.5, "adversarial": 0.02, "matching": 1.0}
_RATE, _RATE_DISCRIMINATOR = 5e-4, 8e-4
_AVERAGE = 0.972
_BATCH = 8
_KEEP_EVERY = 20  # steps
_BETAS, _EPS = (0.0, 0.999), 1e-5
_KEPT = "personalise.safetensors"


def personalise(  # noqa: PLR0913 - what a person is made of, and how
    network: Network, images: Array, masks: Array, *, iterations: int, report: Reporter, folder: Path, seed: int = 0,
    discriminator: Discriminator | None = None, drifting: bool = False,
) -> Network:  # fmt: skip
    """Fit a network to pictures (K, S, S, 3) of one person, uint8 or in [0, 1], with masks (K, S, S) alike.

    Args:
        folder: where unfinished work is kept; a call with the same arguments goes on from there, to the same result.
        discriminator: judges along, its only row set to the person; without one the adversarial losses are left out.
        drifting: let the statistics of the pose encoder's normalisations follow the person's pictures, as the original
            does without meaning to.
    Raises:
        InputError: there are no pictures, or as many masks as not.
        WeightsError: what was kept in the folder is damaged, or the network is driven by landmarks.
    """
    if network.net.config.pose_encoder == "landmarks":
        raise WeightsError(
            "A network that is driven by landmarks cannot be fitted to a person.", "Ask for 0 iterations."
        )
    if len(images) == 0 or len(images) != len(masks):
        raise InputError(f"Personalising needs pictures and as many masks; there are {len(images)} and {len(masks)}.")
    run = _Run(network, network.identity(images), discriminator)
    run.to(network.device)
    step, features = run.restore(folder), _features(network.device)
    truth = prepared(images, network.size, network.device)
    cover = prepared(np.repeat(np.asarray(masks)[..., None], 3, -1), network.size, network.device)[:, :1]
    # the driver's augmentations work on bytes
    drivers = prepared(images, network.pose_size, "cpu").permute(0, 2, 3, 1).numpy()
    seen = (drivers * 255 + 0.5).astype(np.uint8)
    while step < iterations:
        report.progress("personalise", step, iterations)
        rng = np.random.default_rng([seed, step])
        chosen = (
            rng.permutation(len(images))[:_BATCH]
            if len(images) >= _BATCH
            else rng.integers(len(images), size=_BATCH // 2)
        )
        driver = prepared(np.stack([augment(seen[k], rng) for k in chosen]), network.pose_size, network.device)
        run.step(driver, truth[chosen] * cover[chosen], cover[chosen], features, drifting=drifting)
        step += 1
        if step % _KEEP_EVERY == 0 and step < iterations:
            run.keep(folder, step)
    report.progress("personalise", iterations, iterations)
    return Network(run.average.eval(), network.device)


class _Run(nn.Module):
    """The network being fitted, its running average, and what judges it."""

    def __init__(self, network: Network, identity: Array, discriminator: Discriminator | None) -> None:
        super().__init__()
        config = replace(network.net.config, personal=True)
        self.net = LatentPose(config)
        missing = self.net.load_state_dict(network.net.state_dict(), strict=False).missing_keys
        assert set(missing) <= {"generator.identity_embedding"}, missing
        who = torch.from_numpy(identity)[None]
        with torch.no_grad():
            self.net.generator.identity_embedding.copy_(who)
        self.average = copy.deepcopy(self.net)
        self.made = torch.optim.RAdam(self.net.generator.parameters(), _RATE, _BETAS, _EPS)
        self.judge, self.told = None, None
        if discriminator is not None:
            self.judge = Discriminator(replace(discriminator.config, rows=1))
            state = {n: value for n, value in discriminator.state_dict().items() if not n.startswith("embed.")}
            self.judge.load_state_dict(state, strict=False)
            with torch.no_grad():
                self.judge.embed.weight_orig.copy_(who)
            self.told = torch.optim.RAdam(self.judge.parameters(), _RATE_DISCRIMINATOR, _BETAS, _EPS)

    def step(self, driver: Tensor, truth: Tensor, mask: Tensor, features: FaceFeatures, *, drifting: bool) -> None:
        """Fit to a batch."""
        self.net.embedder.eval()
        self.net.embedder.pose_encoder.train(drifting)
        self.net.generator.train()
        with torch.no_grad():
            pose = self.net.embedder.pose(driver)
        picture = self.net.generator(None, pose)
        found = losses.reconstruction(picture, truth, mask, features)
        if not self.net.config.mask:
            del found["mask"]
        if self.judge is not None:
            found |= self._judged(picture, truth)
        self.made.zero_grad()
        torch.stack([WEIGHTS[name] * value for name, value in found.items()]).sum().backward()
        self.made.step()
        if self.judge is not None and self.told is not None:
            self.told.zero_grad()
            who = self.judge.embed(torch.zeros(len(truth), dtype=torch.long, device=truth.device))
            scores = [self.judge(shown, who)[0] for shown in (truth, picture.rgb.detach())]
            losses.hinge(scores[0], scores[1]).backward()
            self.told.step()
        self._follow()

    def _judged(self, picture: Picture, truth: Tensor) -> dict[str, Tensor]:
        assert self.judge is not None
        self.judge.train()
        who = self.judge.embed(torch.zeros(len(truth), dtype=torch.long, device=truth.device)).detach()
        score, fake = self.judge(picture.rgb, who)
        with torch.no_grad():
            _, real = self.judge(truth, who)
        return {"adversarial": -score.mean(), "matching": losses.matching(fake, real)}

    @torch.no_grad()
    def _follow(self) -> None:
        for mine, theirs in zip(self.average.parameters(), self.net.parameters(), strict=True):
            mine.lerp_(theirs, 1 - _AVERAGE)
        for mine, theirs in zip(self.average.buffers(), self.net.buffers(), strict=True):
            mine.copy_(theirs)

    def keep(self, folder: Path, step: int) -> None:
        """Write everything that a later call needs."""
        tensors = {f"state.{name}": value.contiguous().clone() for name, value in self.state_dict().items()}
        for which, optimiser in enumerate(self._optimisers()):
            for index, state in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{which}.{index}.{n}": torch.as_tensor(v).clone() for n, v in state.items()}
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / _KEPT) as temporary:
            save_file(tensors, temporary, metadata={"step": str(step)})

    def restore(self, folder: Path) -> int:
        """Take up what was kept; gives its step, 0 where there is nothing."""
        path = folder / _KEPT
        if not path.exists():
            return 0
        try:
            with safe_open(path, "pt") as file:
                step = int((file.metadata() or {})["step"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            self.load_state_dict({n[6:]: value for n, value in tensors.items() if n.startswith("state.")})
            for which, optimiser in enumerate(self._optimisers()):
                state: dict[int, dict[str, Tensor]] = {}
                for name, value in tensors.items():
                    kind, number, *rest = name.split(".")
                    if kind == "optimiser" and number == str(which):
                        state.setdefault(int(rest[0]), {})[rest[1]] = value
                optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())[:200]
            raise WeightsError(f"The kept steps in {path} are damaged: {text}", "Remove the file.") from error
        return step

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        return [self.made, *([self.told] if self.told is not None else [])]


def _features(device: str) -> FaceFeatures:
    net = nets.load(weights.locate(FEATURES))
    if not isinstance(net, FaceFeatures):
        raise WeightsError(f"The weights {FEATURES!r} are of another network.")
    return net.to(device).requires_grad_(False)
