"""Faces whose points are made by the very response that they are fitted with come back; gaps are held and told."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.optimize import minimize

from inference.core.artifacts import FacePoints
from inference.core.face_shapes import SHAPES
from inference.core.rotations import matrix_from_quaternion, matrix_from_rotvec, rotvec_from_matrix
from inference.face.capture import CaptureSettings, capture, filled
from inference.face.fit import Fitter, Poses, spread
from inference.face.response import load_response, read_response, save_response
from inference.face.solve import bounded
from inference.protocol.errors import InputError, WeightsError
from inference.protocol.events import SilentReporter

FACING = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
FPS, FOCAL, SIZE = 30.0, 700.0, (640, 480)


@cache
def response():
    """What is shipped."""
    return load_response()


class Told(SilentReporter):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, code: str, text: str) -> None:
        """Keep one."""
        self.said.append(f"{code}: {text}")


@cache
def fitter():
    """Of what is shipped."""
    return Fitter(response())


def acted(count: int = 36):
    """Weights, poses and points of a jaw that opens and closes, a blink and a head that turns."""
    t = np.arange(count) / FPS
    weights = np.zeros((count, 52))
    weights[:, SHAPES.index("jawOpen")] = 0.35 - 0.35 * np.cos(4 * t)
    weights[:, [SHAPES.index("eyeBlinkLeft"), SHAPES.index("eyeBlinkRight")]] = np.exp(-(((t - 0.6) / 0.1) ** 2))[
        :, None
    ]
    turned = np.stack([0.1 * np.sin(2 * t), 0.05 * np.sin(t), 0.3 * np.sin(1.5 * t)], 1)
    poses = Poses(FACING @ matrix_from_rotvec(turned), np.tile([0.02, 0.0, 0.6], (count, 1)))
    who = np.random.default_rng(0).normal(size=len(response().modes)) * 0.5
    placed, _ = fitter().placed(weights, poses, who)
    points = placed[..., :2] / placed[..., 2:] * FOCAL + (np.array(SIZE) - 1) / 2
    depth = (placed[..., 2:] - placed[:, :1, 2:]) / placed[..., 2:] * FOCAL
    return weights, poses, np.concatenate([points, depth], -1)


def as_points(values, fps: float = FPS) -> FacePoints:
    """What a detector would have said."""
    header = {
        "unit": "px",
        "frame": "image",
        "fps": fps,
        "image_size": list(SIZE),
        "source": "/films/a.mp4",
        "start": 0,
    }
    seen = np.isfinite(values).all((1, 2))
    return FacePoints(header, values, seen.astype(float), np.arange(len(values)) / fps)


def test_the_fit_finds_what_its_own_points_do():
    weights, poses, points = acted()
    rays, depth = (points[..., :2] - (np.array(SIZE) - 1) / 2) / FOCAL, points[..., 2] / FOCAL
    rows = spread(rays)
    fitted = fitter().express(rays, depth, fitter().identity(rays[rows], depth[rows]), np.zeros(52))
    jaw = SHAPES.index("jawOpen")
    assert np.corrcoef(fitted.weights[:, jaw], weights[:, jaw])[0, 1] > 0.98
    apart = np.swapaxes(poses.rotations, 1, 2) @ fitted.poses.rotations
    assert np.degrees(np.linalg.norm(rotvec_from_matrix(apart), axis=1)).max() < 4
    assert fitted.misfit.max() < 0.6


def test_a_track_has_the_heads_turning_in_upright_axes():
    _, poses, points = acted()
    track = capture(as_points(points), response(), CaptureSettings(smoothing=0, focal_px=FOCAL), SilentReporter())
    upright = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]) @ poses.rotations
    apart = np.swapaxes(upright, 1, 2) @ matrix_from_quaternion(track.rotations)
    assert np.degrees(np.linalg.norm(rotvec_from_matrix(apart), axis=1)).mean() < 4
    assert track.weights.min() >= 0 and track.weights.max() <= 1
    assert np.allclose(np.linalg.norm(track.eyes, axis=-1), 1)


def test_smoothing_takes_jitter_off():
    _, _, points = acted()
    shaken = points + np.random.default_rng(1).normal(size=points.shape) * 0.6
    track = capture(as_points(shaken), response(), CaptureSettings(focal_px=FOCAL), SilentReporter())
    rough, soft = (np.abs(np.diff(np.asarray(w), n=2, axis=0)).mean() for w in (track.weights_raw, track.weights))
    assert soft < 0.5 * rough


def test_frames_without_a_face_are_held_then_fade_and_are_told():
    _, _, points = acted(90)
    points[30:75] = np.nan
    told = Told()
    track = capture(as_points(points), response(), CaptureSettings(focal_px=FOCAL, hold_s=0.3), told)
    assert np.array_equal(track.confidence == 0, ~np.isfinite(points).all((1, 2)))
    assert np.allclose(track.weights[33], track.weights[29]) and track.weights[52].max() == 0
    assert np.isfinite(track.rotations).all()
    assert (
        len(told.said) == 1 and "45 of 90 frames show no face, in 1 gap" in told.said[0] and "30 to 74" in told.said[0]
    )


def test_too_few_faces_are_refused_with_numbers():
    _, _, points = acted(20)
    points[2:] = np.nan
    with pytest.raises(InputError, match="2 of 20 frames show a face; at least 3"):
        capture(as_points(points), response(), CaptureSettings(), SilentReporter())
    points[:] = np.nan
    with pytest.raises(InputError, match=r"No face is seen in any of the 20 frames of a\.mp4"):
        capture(as_points(points), response(), CaptureSettings(), SilentReporter())


def test_what_a_neutral_frame_shows_is_taken_off():
    _, _, points = acted()
    plain = capture(as_points(points), response(), CaptureSettings(focal_px=FOCAL, smoothing=0), SilentReporter())
    level = capture(
        as_points(points), response(), CaptureSettings(focal_px=FOCAL, smoothing=0, neutral=0), SilentReporter()
    )
    assert level.weights[0].mean() <= plain.weights[0].mean()
    assert np.median(level.weights[:3], 0).max() < 0.1


def test_clips_of_four_and_of_120_frames_a_second_are_fitted():
    for fps in (4.0, 120.0):
        _, _, points = acted(24)
        track = capture(as_points(points, fps), response(), CaptureSettings(focal_px=FOCAL), SilentReporter())
        assert np.isfinite(track.weights).all() and track.fps == fps


def test_gaps_are_bridged_when_short():
    weights = np.zeros((4, 52))
    weights[2:, 0] = 1.0
    out = filled(weights, np.array([0, 1, 4, 5]), np.arange(6) / 30, 0.5)
    assert np.allclose(out[:, 0], [0, 0, 1 / 3, 2 / 3, 1, 1])


def test_what_is_held_longer_is_not_bridged_for_longer():
    weights = np.zeros((2, 52))
    weights[0] = 1.0
    out = filled(weights, np.array([0, 15]), np.arange(16) / 10, 2.0)
    assert np.allclose(out[:11, 0], 1.0) and (np.diff(out[:, 0]) <= 0).all() and np.abs(np.diff(out[:, 0])).max() < 0.4


@pytest.mark.parametrize(("count", "size"), [(1, 5), (2, 4), (3, 4), (40, 6)])
def test_bounded_problems_are_solved_exactly(count, size):
    rng = np.random.default_rng(count)
    root = rng.normal(size=(count, size, size))
    hessian, gradient = root @ np.swapaxes(root, 1, 2) + 0.1 * np.eye(size), 3 * rng.normal(size=(count, size))
    stiff = rng.uniform(0, 5, size)

    def cost(flat):
        x = flat.reshape(count, size)
        bend = np.diff(x, 2, axis=0)
        slope = np.einsum("tij,tj->ti", hessian, x) - gradient
        for shift, factor in ((0, 1), (1, -2), (2, 1)):
            slope[shift : count - 2 + shift] += factor * stiff * bend if count > 2 else 0
        return 0.5 * np.einsum("ti,tij,tj", x, hessian, x) - (gradient * x).sum() + 0.5 * (
            stiff * bend**2
        ).sum(), slope.ravel()

    best = minimize(cost, np.full(count * size, 0.5), jac=True, bounds=[(0, 1)] * (count * size), method="L-BFGS-B",
                    options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-10})  # fmt: skip
    assert np.abs(bounded(hessian, gradient, stiff).ravel() - best.x).max() < 1e-5


def test_a_response_comes_back_as_it_went_and_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "r.safetensors"
    save_response(path, response())
    assert np.allclose(read_response(path).shapes, response().shapes, atol=1e-6)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"r\.safetensors cannot be read"):
        read_response(path)
