"""Joints over time: what a frame hears of others, where training begins, and the published network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inference import nets
from inference.nets import motion_prior
from inference.nets.joint_volume import JointVolume
from inference.nets.motion_prior import MotionPrior, MotionPriorConfig
from inference.nets.settle import Rough, SettleConfig, TimeAttention
from inference.nets.view_trust import Views
from inference.runtime.weights import locate, registry
from inference.training import rigs
from inference.training.captures import Errors
from inference.training.motion_prior import begin, covered

FRAMES = 12
FALLIBLE = Errors(jitter=0.01, offset=0.006, wrong=0.0, missing=0.0, clean=0.0, bias=0.0, swaps=0.0, limbs=0.0,
                  parts=0.0, feet=0.0)  # fmt: skip
SOUND = rigs.RigErrors(views_missing=0.0, swaps=0.0, ghosts=0.0, calibration=0.0, height=0.02)
LEFT_ARM = [6, 7]


@pytest.fixture(scope="module")
def prior() -> MotionPrior:
    net = nets.load(locate("motion-prior"))
    assert isinstance(net, MotionPrior)
    return net


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def waving(volume: JointVolume, count: int, *, clips: int = 6) -> rigs.Scene:
    """Clips of the usual pose whose arms swing, before `count` cameras."""
    g = torch.Generator().manual_seed(1)
    people = volume.settle.typical * 1.65 * (1 + 0.05 * torch.randn(clips, 1, 25, 3, generator=g))
    swing = torch.linspace(0.0, 0.35, FRAMES)[None, :, None, None] * torch.tensor([0.0, -1.0, 0.6])
    people = people.repeat(1, FRAMES, 1, 1)
    people[:, :, [4, 7]] += swing
    people[:, :, [3, 6]] += 0.5 * swing
    return rigs.film(people, count, g, FALLIBLE, SOUND)


def without_arm(views: Views, frames: slice) -> Views:
    score = views.score.clone().unflatten(0, (-1, FRAMES))
    score[:, frames, :, LEFT_ARM] = 0.0
    return views._replace(score=score.flatten(0, 1))


def missed(points: Tensor, scene: rigs.Scene) -> Tensor:
    """(clips, T, 25) metres."""
    return (points - scene.truth).norm(dim=-1).unflatten(0, (-1, FRAMES))


def test_the_network_is_published_with_its_figures():
    entry = registry()["motion-prior"]
    assert entry.net == "motion-prior" and entry.metrics
    assert entry.bytes < 10e6


def test_a_frame_hears_others_within_its_reach_and_no_others():
    torch.manual_seed(0)
    attention = TimeAttention(32, 4, reach=2)
    torch.nn.init.normal_(attention.answer.weight, std=0.2)
    one = torch.randn(9, 25, 32)
    other = one.clone()
    other[4] = torch.randn(25, 32)
    changed = (attention(one, 9) - attention(other, 9)).abs().amax((1, 2)) > 1e-6
    assert changed.tolist() == [False, False, True, True, True, True, True, False, False]


def test_clips_do_not_hear_each_other(prior, trust, volume):
    views = waving(volume, 3, clips=2).views
    both = motion_prior.place(prior, trust, views, FRAMES)[0].points
    alone = motion_prior.place(prior, trust, Views(*(value[FRAMES:] for value in views)), FRAMES)[0].points
    assert (both[FRAMES:] - alone).abs().max() < 1e-3


def test_training_begins_as_what_settles_frames_by_themselves(trust, volume):
    views = waving(volume, 3).views
    net = MotionPrior(MotionPriorConfig(SettleConfig(reach=4))).eval()
    begin(net, volume)
    trusted = trust(views)
    centre = torch.randn(len(views.height), 3, generator=torch.Generator().manual_seed(2)) * 0.02
    rough = Rough(trusted.points, trusted.error)
    single = volume.settle(views, trusted.weights, centre, rough)
    timed = net.settle(views, trusted.weights, centre, rough)
    assert torch.equal(single.points, timed.points) and torch.equal(single.error, timed.error)


def test_some_limbs_are_covered_for_a_while():
    gone = covered(400, FRAMES, torch.Generator().manual_seed(0), 0.5)
    some = gone.any(2)
    assert 0.3 < some.any(1).float().mean() < 0.5
    assert (some.any(1) & ~some.all(1)).any() and some.all(1).any()
    starts = (some[:, 1:] & ~some[:, :-1]).sum(1) + some[:, 0]
    assert starts.max() == 1  # in one piece


def test_an_arm_hidden_for_a_moment_is_where_the_moments_about_it_say(prior, trust, volume):
    scene = waving(volume, 3)
    hidden = slice(4, 8)
    views = without_arm(scene.views, hidden)
    together = motion_prior.place(prior, trust, views, FRAMES)[0]
    alone = motion_prior.place(prior, trust, views, 1)[0]
    ours, single = (missed(found.points, scene)[:, hidden][..., LEFT_ARM].mean() for found in (together, alone))
    assert ours < 0.15 and ours < 0.8 * single
    doubt = together.error.unflatten(0, (-1, FRAMES))[..., LEFT_ARM]
    assert doubt[:, hidden].median() > doubt[:, 0].median()


def test_time_takes_noise_away(prior, trust, volume):
    scene = waving(volume, 2)
    together, alone = (motion_prior.place(prior, trust, scene.views, n)[0].points for n in (FRAMES, 1))
    assert missed(together, scene).mean() < missed(alone, scene).mean()
    shake = [missed(p, scene).var(dim=1).mean() for p in (together, alone)]
    assert shake[0] < shake[1]


def test_expected_errors_are_neither_boastful_nor_timid(prior, trust, volume):
    scene = waving(volume, 4)
    found = motion_prior.place(prior, trust, scene.views, FRAMES)[0]
    inside = (found.points - scene.truth).norm(dim=-1) <= found.error
    assert 0.35 < inside.float().mean() < 0.97
