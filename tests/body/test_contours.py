"""Edges of silhouettes, against discs and bars whose edges are known."""

import numpy as np
import pytest
import torch

from inference.body import contours
from inference.body.represent import Crops

SIDE = 64


def crops(masks: np.ndarray, framed: np.ndarray | None = None) -> Crops:
    count = len(masks)
    return Crops(
        np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3)), np.ones(count), np.zeros((count, 23, 2)),
        np.ones((count, 23)), masks.astype(np.float32), masks.any((1, 2)),
        np.ones(masks.shape, bool) if framed is None else framed,
    )  # fmt: skip


def covered(inside, fine: int = 8) -> np.ndarray:
    """(S, S) share of each pixel in which `inside(x, y)` holds."""
    at = (np.arange(SIDE * fine) + 0.5) * 2 / (SIDE * fine) - 1
    shown = inside(at[None], at[:, None]).astype(float)
    return shown.reshape(SIDE, fine, SIDE, fine).mean((1, 3))


def disc(radius: float = 0.5) -> np.ndarray:
    return covered(lambda x, y: np.hypot(x - 0.1, y + 0.2) < radius)


def test_an_edge_is_found_to_a_tenth_of_a_pixel_and_looks_outward():
    edges = contours.trace(crops(disc()[None]))
    away = edges.places[0].numpy() - [0.1, -0.2]
    assert edges.known.all()
    assert np.abs(np.linalg.norm(away, axis=1) - 0.5).max() < 0.1 * 2 / SIDE
    outward = (away * edges.normals[0].numpy()).sum(1) / 0.5
    assert outward.min() > 0.98


def test_distances_outside_are_those_of_a_ruler():
    edges = contours.trace(crops(disc()[None]))
    points = torch.tensor([[[0.1, -0.2], [0.1 + 0.5 + 0.2, -0.2], [0.1, -0.2 + 0.5 + 0.3]]])
    read = torch.nn.functional.grid_sample(edges.away[:, None], points[:, :, None], align_corners=False)[0, 0, :, 0]
    assert read.tolist() == pytest.approx([0.0, 0.2, 0.3], abs=1 / SIDE)


def test_a_smaller_disc_of_skin_grows_and_a_larger_one_shrinks_to_the_edge():
    edges = contours.trace(crops(disc()[None]))
    turn = torch.linspace(0, 2 * torch.pi, 200)[:-1]
    ring = torch.stack([turn.cos(), turn.sin()], -1)
    for start in (0.42, 0.53):
        radius = torch.tensor(start, requires_grad=True)
        for _ in range(60):
            points = (radius * ring + torch.tensor([0.1, -0.2]))[None]
            loss = contours.miss(points, edges, contours.pair(points, edges), wide=False)
            with torch.no_grad():
                radius -= 0.003 * torch.autograd.grad(loss, radius)[0].sign()
        assert radius.item() == pytest.approx(0.5, abs=0.01)


def test_wide_clothes_need_no_filling_but_hold_what_sticks_out():
    edges = contours.trace(crops(disc()[None]))
    turn = torch.linspace(0, 2 * torch.pi, 200)[:-1]
    ring = torch.stack([turn.cos(), turn.sin()], -1)

    def miss(radius: float, *, wide: bool) -> float:
        points = (radius * ring + torch.tensor([0.1, -0.2]))[None]
        return contours.miss(points, edges, contours.pair(points, edges), wide=wide).item()

    assert miss(0.45, wide=True) < 0.5 * miss(0.45, wide=False)
    assert miss(0.54, wide=True) == pytest.approx(miss(0.54, wide=False), rel=0.05)


def test_the_border_of_a_picture_is_nobodys_edge():
    mask = covered(lambda x, y: (np.abs(x) < 0.3) & (y < 0.25) & (y > -0.6))
    framed = np.ones((SIDE, SIDE), bool)
    framed[40:] = False  # the picture ends where the mask does
    edges = contours.trace(crops(mask[None], framed[None]))
    places, known = edges.places[0].numpy(), edges.known[0].numpy() > 0
    assert not known[places[:, 1] > 0.2].any()
    assert known[np.abs(places[:, 1]) < 0.1].all()
    assert edges.away[0, 41:].max() == 0


def test_frames_without_a_mask_have_no_edge():
    edges = contours.trace(crops(np.stack([disc(), np.zeros((SIDE, SIDE))])))
    assert edges.known[0].all()
    assert not edges.known[1].any()
    points = torch.zeros(2, 5, 2)
    index, found = contours.pair(points, edges)
    assert index.shape == found.shape == (2, edges.places.shape[1])
    assert torch.isfinite(contours.miss(points, edges, (index, found), wide=False))
