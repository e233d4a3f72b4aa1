"""Pictures beside points: upright crops of one size, faces unfolded to scale, and nothing from what is hidden."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from inference import nets
from inference.core.artifacts import FacePoints
from inference.core.rotations import rotvec_from_matrix
from inference.face.capture import CaptureSettings, capture
from inference.face.crop import ABOVE_EYES_M, HEIGHT, PIXEL_M, SIDE, WIDTH, Unfold, carried, cut
from inference.face.fit import Fitter
from inference.face.mirror import Mirror
from inference.face.pictures import Film, PictureReader, load_pictures
from inference.face.reader import Reader
from inference.face.response import load_response
from inference.nets.face_expression import ExpressionConfig, FaceExpression
from inference.protocol.errors import InputError, WeightsError
from inference.protocol.events import SilentReporter
from inference.runtime.weights import locate
from tests.face.test_capture import FOCAL, acted, as_points

CONFIG = ExpressionConfig(channels=(4, 4, 4, 4), inner=8, film=4)


@cache
def response():
    """What is shipped."""
    return load_response()


def a_net() -> FaceExpression:
    """A small one that has learnt nothing."""
    torch.manual_seed(0)
    return FaceExpression(CONFIG).eval()


def a_face(scale: float = 1.0, turn: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A soft picture and points (478, 2) of the mean face in it, larger and turned about the middle."""
    rng = np.random.default_rng(0)
    size = int(400 * scale)
    picture = cv2.resize(rng.uniform(0, 255, (12, 12, 3)).astype(np.float32), (400, 400), interpolation=cv2.INTER_CUBIC)
    carry = cv2.getRotationMatrix2D((199.5, 199.5), np.degrees(turn), scale)
    carry[:, 2] += (size - 1) / 2 - 199.5
    image = cv2.warpAffine(picture.clip(0, 255).astype(np.uint8), carry, (size, size), flags=cv2.INTER_LINEAR)
    front = response().mean[:, [0, 2]] * [1000, -1000]
    points = front - front.mean(0) + 199.5
    return image, points @ carry[:, :2].T + carry[:, 2]


@pytest.mark.parametrize(("scale", "turn"), [(1.0, 0.5), (3.3, 0.0), (0.8, -0.3)])
def test_a_crop_does_not_tell_how_large_a_face_is_and_how_it_is_tilted(scale: float, turn: float) -> None:
    plain, other = (cut(*a_face(*how)).astype(float) for how in ((1.0, 0.0), (scale, turn)))
    inner = slice(16, -16)
    assert plain.shape == (SIDE, SIDE) and plain.std() > 20
    assert np.abs(plain - other)[inner, inner].mean() < 2.5


def test_a_face_at_rest_unfolds_to_scale_and_in_the_middle() -> None:
    mean = response().mean
    metre, front = 600.0, mean[:, [0, 2]] * [1.0, -1.0]
    places = front * metre + SIDE / 2
    down, across = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    ways = [(2 * way).astype(np.uint8)[None] for way in (across, down)]
    across, down = (Unfold(mean)(way, places[None])[0].astype(float) / 2 for way in ways)
    assert across.shape == (HEIGHT, WIDTH)
    eyes = places[[33, 263]].mean(0)
    assert across[:, WIDTH // 2 - 1 : WIDTH // 2 + 1].mean() == pytest.approx(eyes[0], abs=0.6)
    assert down[0, WIDTH // 2] == pytest.approx(eyes[1] - ABOVE_EYES_M * metre, abs=0.6)
    assert np.diff(across[20:80, 20:60], axis=1).mean() == pytest.approx(PIXEL_M * metre, rel=0.02)


def test_places_are_carried_with_the_points_that_a_crop_is_cut_by() -> None:
    _, points = a_face(2.0, 0.4)
    inside = carried(points[None], points[None])[0]
    assert np.ptp(inside, axis=0).max() == pytest.approx(SIDE) and inside[33, 1] == pytest.approx(inside[263, 1])


def test_a_hidden_picture_counts_nothing_and_the_order_of_frames_neither() -> None:
    net, g = a_net(), torch.Generator().manual_seed(1)
    pictures = 255 * torch.rand(1, 6, HEIGHT, WIDTH, generator=g)
    points, shown = torch.randn(1, 6, CONFIG.points, generator=g), torch.tensor([[True] * 5 + [False]])
    with torch.no_grad():
        weights = net(pictures, points, shown)
        assert weights.shape == (1, 6, 52 + 3)
        other = pictures.clone()
        other[:, 5] = 0
        assert torch.equal(net(other, points, shown), weights)
        other[:, 0] = pictures[:, 1]
        assert not torch.allclose(net(other, points, shown)[:, 2], weights[:, 2], atol=1e-6)
        turned = net(pictures.flip(1), points.flip(1), shown.flip(1)).flip(1)
        assert torch.allclose(turned, weights, atol=1e-5)


def filmed(scale: float = 1.0) -> FacePoints:
    """Points of an act, with crops of noise."""
    points = as_points(acted()[-1])
    crops = np.random.default_rng(2).integers(0, 255, (len(points.times), SIDE, SIDE)).astype(np.uint8)
    size = [int(scale * side) for side in points.image_size]
    return replace(points, positions=points.positions * scale, crops=crops).with_header(image_size=size)


def test_a_film_without_pictures_is_read_by_its_points_alone() -> None:
    reader, settings = PictureReader(a_net(), response()), CaptureSettings(focal_px=FOCAL)
    bare = replace(filmed(), crops=None)
    alone, beside = (capture(bare, response(), settings, SilentReporter(), one) for one in (None, reader))
    assert np.array_equal(alone.weights, beside.weights)


def test_pictures_of_small_faces_are_not_looked_at() -> None:
    reader = PictureReader(a_net(), response())
    for scale, counts in ((1.0, True), (0.2, False)):
        film, settings = filmed(scale), CaptureSettings(focal_px=FOCAL * scale)
        assert film.crops is not None
        first = capture(film, response(), settings, SilentReporter(), reader)
        other = capture(replace(film, crops=255 - film.crops[::-1]), response(), settings, SilentReporter(), reader)
        assert np.allclose(first.weights, other.weights, atol=1e-9) != counts


def test_pictures_turn_the_head_about_the_middle_of_the_face() -> None:
    film, r = filmed(), response()
    middle = (np.array(film.image_size) - 1) / 2
    rays, depth = (film.positions[:9, :, :2] - middle) / FOCAL, film.positions[:9, :, 2] / FOCAL
    fitter, who, poses = Fitter(r), np.zeros(len(r.modes)), []
    for turn in (0.0, 0.1):
        net = a_net()
        with torch.no_grad():
            net.weights.weight.zero_()
            net.weights.bias.copy_(torch.tensor([0.0] * 52 + [turn, 0.0, 0.0]))
        shown = Film(film.crops[:9], np.ones(9, bool), PictureReader(net, r))  # type: ignore[index]
        poses.append(Reader(r).express(fitter, rays, depth, who, np.zeros(52), film=shown).poses)
    apart = rotvec_from_matrix(np.swapaxes(poses[0].rotations, 1, 2) @ poses[1].rotations)
    assert np.allclose(apart, [0.1, 0.0, 0.0], atol=1e-5)
    before, after = (one.rotations @ r.mean.mean(0) + one.translations for one in poses)
    assert np.allclose(before, after, atol=1e-9)


def test_a_face_and_its_mirror_image_are_read_alike() -> None:
    net, mirror, frames = a_net(), Mirror(response()), 40
    reader, rng = PictureReader(net, response()), np.random.default_rng(3)
    assert np.array_equal(mirror.points[mirror.points], np.arange(478))
    assert mirror.points[78] == 308 and mirror.points[33] == 263 and mirror.points[1] == 1
    pictures = rng.integers(0, 255, (2, frames, HEIGHT, WIDTH)).astype(np.uint8)
    points, shown = rng.normal(size=(2, frames, CONFIG.points)).astype(np.float32), np.ones(frames, bool)
    plain = reader._found(pictures, points, shown)
    swapped = reader._found(pictures[::-1].copy(), points[::-1].copy(), shown)
    assert np.allclose(plain, swapped[::-1], atol=1e-5) and not np.allclose(plain[0], plain[1], atol=1e-3)
    with torch.no_grad():
        whole = net(
            torch.from_numpy(pictures).float(), torch.from_numpy(points), torch.ones(2, frames, dtype=torch.bool)
        )
    assert np.allclose(plain, whole.numpy(), atol=1e-5)


def test_crops_of_another_size_are_refused() -> None:
    film = filmed()
    assert film.crops is not None
    with pytest.raises(InputError, match=r"crops are \(36, 128, 127\) uint8, expected \(36, 128, 128\)"):
        replace(film, crops=film.crops[..., 1:]).check("points.npz")


def test_what_is_shipped_is_sure_of_something_and_a_damaged_file_is_refused(tmp_path: Path) -> None:
    assert np.linalg.eigvalsh(load_pictures(response()).information).min() > 4.0
    path = tmp_path / "face_expression.safetensors"
    path.write_bytes(locate("face-expression").read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"face_expression\.safetensors is damaged"):
        nets.load(path)
