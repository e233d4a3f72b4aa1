"""Confidences tuned to a rig: they come from earlier captures alone, and are kept only where they help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference import nets
from inference.core.artifacts import Keypoints2D
from inference.core.cameras import CameraSet, project
from inference.core.skeletons import BODY
from inference.motion import tune
from inference.motion.fit import FitSettings, fit
from inference.motion.triangulate import TriangulateSettings, triangulate
from inference.nets.view_trust import ViewTrust
from inference.protocol.errors import Cancelled, InputError, RequestError
from inference.protocol.events import SilentReporter
from inference.protocol.requests import TuneRequest
from inference.runtime import weights

from .test_triangulate import film, person, rig

FRAMES = 80


def with_a_liar(views: list[Keypoints2D]) -> list[Keypoints2D]:
    """In this rig a low score means a position that is far off, and is often wrong about it the other way."""
    generator, out = np.random.default_rng(5), []
    for view in views:
        wrong = generator.random(view.confidence.shape) < 0.25
        away = generator.normal(0.0, 60.0, view.positions.shape)
        confidence = np.where(wrong, 0.95, 0.6) * (view.confidence > 0)
        out.append(
            Keypoints2D(view.header, view.positions + np.where(wrong[..., None], away, 0.0), confidence, view.times)
        )
    return out


def write_job(job: Path, cameras: CameraSet) -> Path:
    truth = person(FRAMES)
    views = with_a_liar(film(truth, cameras, noise_px=1.0))
    found = triangulate(views, cameras, TriangulateSettings("ransac"), SilentReporter())
    found = found.with_header(views=list(cameras.names))
    for view, camera in zip(views, cameras, strict=True):
        view.save(job / "artifacts" / f"keypoints_2d_{camera.name}.npz")
    found.save(job / "artifacts" / "keypoints_3d.npz")
    fit(found, FitSettings(floor=False), SilentReporter()).save(job / "artifacts" / "body_motion.npz")
    return job


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp("capture"), rig(4))


def test_a_take_gives_back_what_was_seen_and_by_how_much_it_missed(job: Path) -> None:
    take = tune.read_take(job)
    cameras = rig(4)
    assert take.poses.shape == (FRAMES, 137, 3) and take.scores.shape == (4, FRAMES, 137)
    seen = Keypoints2D.load(job / "artifacts" / f"keypoints_2d_{cameras[0].name}.npz")
    pixels = np.linalg.norm(seen.positions - project(cameras[0], person(FRAMES)), axis=-1)[:, BODY]
    metres = np.linalg.norm(take.misses[0][:, BODY], axis=-1)
    known = np.isfinite(pixels) & (take.scores[0][:, BODY] > 0)
    far = pixels[known] > 40.0
    assert np.median(metres[known][far]) > 5 * np.median(metres[known][~far])


def test_imagined_captures_are_what_the_cameras_would_see(job: Path) -> None:
    take = tune.read_take(job)
    exact = tune.Take(take.poses, 0 * take.misses, take.scores, take.rotation, take.translation, take.height)
    views, truth = tune.imagine([exact], 16, np.random.default_rng(0))
    net = nets.load(weights.locate("view-trust"))
    assert isinstance(net, ViewTrust)
    figures = tune.measure(net, views, truth)
    assert figures["error_mm"] < 25.0  # but for the exchanged sides


def test_tuning_to_a_rig_helps_on_frames_that_were_kept_apart(job: Path, tmp_path: Path) -> None:
    numbers = tune.run(TuneRequest((job,), minutes=0.5, threads=1), tmp_path, SilentReporter())
    assert numbers["kept"] and numbers["after"]["error_mm"] < 0.95 * numbers["before"]["error_mm"]
    assert (tmp_path / "report.json").is_file()
    tuned = tmp_path / "artifacts" / tune.WEIGHTS
    cameras = rig(4)
    truth = person(20, seed=3)
    views = with_a_liar(film(truth, cameras, noise_px=1.0))

    def miss(path: Path | None) -> float:
        found = triangulate(views, cameras, TriangulateSettings("algebraic", tuned=path), SilentReporter())
        return float(np.nanmean(np.linalg.norm(found.positions - truth, axis=-1)[:, BODY]))

    assert miss(tuned) < miss(None)


def test_tuning_that_is_stopped_writes_nothing(job: Path, tmp_path: Path) -> None:
    class Impatient(SilentReporter):
        def progress(self, stage: str, done: int, total: int) -> None:
            raise Cancelled(f"{stage} {done} of {total}")

    with pytest.raises(Cancelled):
        tune.run(TuneRequest((job,), minutes=1.0, threads=1), tmp_path, Impatient())
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_learnt_from_is_told(job: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no earlier capture"):
        TuneRequest()
    with pytest.raises(InputError, match="keypoints_3d.npz"):
        tune.run(TuneRequest((tmp_path,), minutes=0.1), tmp_path / "out", SilentReporter())
    other = write_job(tmp_path / "other", rig(3, seed=2))
    with pytest.raises(InputError, match="different numbers of cameras: .* 4, other 3"):
        tune.run(TuneRequest((job, other), minutes=0.1), tmp_path / "out", SilentReporter())
