"""The lifter: normalisation, masks, symmetry, loading, and two steps of its training."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from inference import nets
from inference.core.skeletons import MIRROR_137
from inference.nets.lifter import Lifter, LifterConfig, fuse, look_at
from inference.nets.lifter_frame import FrameLifter
from inference.nets.mixer import Mixer
from inference.protocol.errors import WeightsError
from inference.training.muon import orthogonal
from inference.training.observed import Observed, box, look, spoil

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "inference/training/recipes/lifter_toy.toml"
SMALL = LifterConfig(
    hidden=48, blocks=2, part_hidden=24, part_blocks=1,
    mixer_blocks=2, mixer_width=16, mixer_inner=24, mixer_groups=2, mixer_share=3,
)  # fmt: skip


def small_net(config: LifterConfig = SMALL) -> Lifter:
    """A net with random weights and batch-norm statistics, and outputs about the size of a body."""
    torch.manual_seed(0)
    net = Lifter(config)
    for name, value in net.named_buffers():
        if name.endswith("_out_std"):
            value.fill_(0.3)
    assert isinstance(net.mixer, Mixer)
    torch.nn.init.normal_(net.mixer.out, std=0.05)  # it begins as no correction
    torch.nn.init.normal_(net.mixer.last_norm, mean=1.0, std=0.2)
    torch.nn.init.normal_(net.mixer.norm[0], mean=1.0, std=0.2)
    rays, valid, known = windows(64)
    net.train()
    for _ in range(20):
        net(rays, valid, known)
    return net.eval()


def windows(count: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random rays about the middle of the image, a fifth of them invalid."""
    generator = torch.Generator().manual_seed(seed)
    rays = torch.randn(count, 5, 137, 2, generator=generator) * 0.1 + 0.05
    valid = torch.rand(count, 5, 137, generator=generator) > 0.2
    return rays, valid, torch.zeros(count)


def save(net: Lifter, path: Path, header: dict[str, str] | None = None) -> Path:
    metadata = {"net": "lifter", "schema": "1", "config": json.dumps(net.config.to_dict())} | (header or {})
    save_file({name: value.clone() for name, value in net.state_dict().items()}, path, metadata=metadata)
    return path


def test_a_window_without_any_keypoint_gives_a_finite_pose() -> None:
    rays, valid, known = windows(3)
    lifted = small_net()(torch.full_like(rays, torch.nan), torch.zeros_like(valid), known)
    assert torch.isfinite(lifted.positions).all() and torch.isfinite(lifted.error).all()


def test_coordinates_that_are_not_valid_change_nothing() -> None:
    net = small_net()
    rays, valid, known = windows(4)
    other = torch.where(valid[..., None], rays, torch.rand_like(rays) * 1e6)
    assert torch.equal(net(rays, valid, known).positions, net(other, valid, known).positions)


def test_the_mid_hip_is_the_origin() -> None:
    lifted = small_net()(*windows(4))
    assert torch.equal(lifted.positions[:, 8], torch.zeros(4, 3))


def test_the_mirror_image_of_the_hands_input_is_the_other_hand() -> None:
    net = small_net()
    rays, valid, known = windows(4)
    sign = torch.tensor([-1.0, 1.0])
    straight = net.prepare(rays, valid, known)
    mirrored = net.prepare(rays[:, :, list(MIRROR_137)] * sign, valid[:, :, list(MIRROR_137)], known)
    assert straight.hands is not None and mirrored.hands is not None
    torch.testing.assert_close(straight.hands.inputs[:4], mirrored.hands.inputs[4:], atol=1e-4, rtol=1e-4)


def test_the_input_does_not_depend_on_the_scale_of_the_image() -> None:
    net = small_net()
    rays, valid, known = windows(4)
    rays = rays * 0.05  # small angles, where perspective does not tell sizes apart
    one, two = net.prepare(rays, valid, known), net.prepare(rays * 0.5, valid, known)
    torch.testing.assert_close(one.body.inputs[:, :-4], two.body.inputs[:, :-4], atol=0.02, rtol=0)


@pytest.mark.parametrize("origin", [(0.0, 0.0), (0.4, -0.3), (-1.2, 0.9)])
def test_the_virtual_camera_looks_at_the_origin(origin: tuple[float, float]) -> None:
    turn = look_at(torch.tensor([origin]))[0]
    ray = torch.tensor([*origin, 1.0])
    torch.testing.assert_close(turn @ (ray / ray.norm()), torch.tensor([0.0, 0.0, 1.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(turn @ turn.T, torch.eye(3), atol=1e-6, rtol=0)


def test_the_fused_net_gives_the_same_poses() -> None:
    net = small_net()
    batch = windows(5)
    plain, fused = net(*batch), fuse(net)(*batch)
    torch.testing.assert_close(plain.positions, fused.positions, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(plain.error, fused.error, atol=1e-4, rtol=1e-4)


def test_a_single_window_is_lifted_as_among_others() -> None:
    """One row runs in half precision."""
    net = fuse(small_net())
    rays, valid, known = windows(4)
    one, all_four = net(rays[:1], valid[:1], known[:1]), net(rays, valid, known)
    torch.testing.assert_close(one.positions, all_four.positions[:1], atol=2e-3, rtol=0)


def test_the_fused_net_stays_on_the_device_of_the_net() -> None:
    """Nothing of it is left behind: on torch's empty device any tensor from elsewhere would be refused."""
    net = fuse(small_net().to("meta"))
    assert net(*(x.to("meta") for x in windows(2))).positions.device.type == "meta"


def test_a_new_mixer_corrects_nothing() -> None:
    torch.manual_seed(0)
    net, alone = Lifter(SMALL), Lifter(replace(SMALL, mixer_blocks=0))
    alone.load_state_dict({name: value for name, value in net.state_dict().items() if not name.startswith("mixer.")})
    batch = windows(3)
    torch.testing.assert_close(net.eval()(*batch).positions, alone.eval()(*batch).positions)


def test_muon_steps_have_singular_values_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((24, 16), (16, 24)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(2, *shape, generator=generator)))
        assert values.min() > 0.5 and values.max() < 1.4


def test_observed_errors_go_to_windows_that_look_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    people = torch.rand(40, 2, 25, 2, generator=generator) * 100
    errors = torch.arange(1.0, 41.0).view(40, 1, 1, 1).expand(40, 2, 25, 2)
    seen = torch.ones(40, 2, 25, dtype=torch.bool)
    seen[:, :, 3] = False
    found, valid = spoil(Observed(look(people), errors, seen), people * 7 + 5, generator)
    alike = torch.cdist(look(people), look(people)).topk(12, largest=False).indices
    off = ((found - people * 7 - 5)[:, 0, 0, 0] / box(people * 7))[:, None] / (alike + 1)
    assert ((off > 0.59) & (off < 1.31)).any(1).all()
    assert torch.equal(valid, seen)


@pytest.mark.parametrize("window", [1, 5])
@pytest.mark.parametrize("lost", [(), (8,), (8, 1), range(95, 116), range(137)])
def test_one_window_is_lifted_in_numpy_as_in_torch(lost: Sequence[int], window: int) -> None:
    torch.manual_seed(0)
    net = fuse(small_net()) if window > 1 else fuse(Lifter(replace(SMALL, window=1, mixer_blocks=0)).eval())
    rays, valid, _ = windows(1)
    rays, valid = rays[:, -window:], valid[:, -window:]
    valid[:, :, list(lost)] = False
    plain = net(rays, valid, torch.ones(1))
    points, error = FrameLifter(net)(rays[0].numpy(), valid[0].numpy(), 1.0)
    torch.testing.assert_close(plain.positions, torch.from_numpy(points), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(plain.error, torch.from_numpy(error), atol=2e-4, rtol=1e-3)


def test_the_body_alone_is_lifted_as_with_hands_and_face() -> None:
    net = small_net()
    rays, valid, known = windows(5)
    body = net(rays[:, :, :25], valid[:, :, :25], known)
    torch.testing.assert_close(body.positions, net(rays, valid, known).positions[:, :25])


def test_a_weights_file_is_enough_to_build_the_net(tmp_path: Path) -> None:
    net = small_net()
    loaded = nets.load(save(net, tmp_path / "net.safetensors"))
    batch = windows(2)
    torch.testing.assert_close(loaded(*batch).positions, net(*batch).positions)


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    net = small_net()
    halves = {n: v.half() if v.is_floating_point() else v.clone() for n, v in net.state_dict().items()}
    config = json.dumps(net.config.to_dict())
    save_file(halves, tmp_path / "h.safetensors", metadata={"net": "lifter", "schema": "1", "config": config})
    batch = windows(2)
    loaded = nets.load(tmp_path / "h.safetensors")
    torch.testing.assert_close(loaded(*batch).positions, net(*batch).positions, atol=5e-3, rtol=0)


@pytest.mark.parametrize(
    ("header", "words"),
    [({"net": "teapot"}, "teapot"), ({"schema": "99"}, "schema 99"), ({"config": "{"}, "own description"),
     ({"config": json.dumps(replace(SMALL, hidden=50).to_dict())}, "own description")],
)  # fmt: skip
def test_a_weights_file_that_does_not_fit_is_refused(tmp_path: Path, header: dict[str, str], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        nets.load(save(small_net(), tmp_path / "net.safetensors", header))


def test_missing_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no file"):
        nets.load(tmp_path / "nothing.safetensors")
    path = tmp_path / "cut.safetensors"
    path.write_bytes(save(small_net(), tmp_path / "net.safetensors").read_bytes()[:500])
    with pytest.raises(WeightsError, match="damaged"):
        nets.load(path)


def run_training(recipe: Path, data: Path, out: Path, *more: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inference.training.lifter", recipe, "--data", data, "--out", out, *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_training_takes_two_steps_resumes_and_goes_on_with_bodies_alone(data_dir: Path, tmp_path: Path) -> None:
    """The script as it is run, on the toy recipe; the second call finds its work done."""
    for _ in range(2):
        done = run_training(TOY, data_dir, tmp_path)
        assert done.returncode == 0, done.stderr
    assert "step 2 of 2" in done.stderr  # resumed
    first = tmp_path / "lifter.safetensors"
    assert isinstance(nets.load(first), Lifter)
    state = load_file(tmp_path / "checkpoint.safetensors")
    assert any(name.startswith("optimiser.") for name in state)

    recipe, out = tmp_path / "bodies.toml", tmp_path / "more"
    recipe.write_text('after = "lifter_toy.toml"\n' + TOY.read_text().replace("batch_whole = 4", "batch_whole = 0"))
    out.mkdir()
    (tmp_path / "bodies_train.npz").rename(out / "bodies_train.npz")
    (tmp_path / "bodies_val.npz").rename(out / "bodies_val.npz")
    done = run_training(recipe, data_dir, out, "--start", first)
    assert done.returncode == 0, done.stderr
    before, after = load_file(first), load_file(out / "lifter.safetensors")
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"body", "mixer"}


def test_a_recipe_that_follows_another_asks_for_its_weights(tmp_path: Path) -> None:
    done = run_training(TOY.with_name("lifter.toml"), tmp_path, tmp_path)
    assert done.returncode == 2 and "lifter_perceptrons.toml" in done.stderr and "--start" in done.stderr
