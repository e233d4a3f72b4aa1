"""A head that the prior knows is photographed, and found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from safetensors.torch import save

from inference.core.cameras import Camera, level_rotation, pinhole, project
from inference.head.camera import Placed, place
from inference.head.follow import reach
from inference.head.frame import CENTRE, from_sphere
from inference.head.prior import Prior, span_of
from inference.head.render import picture, picture_from
from inference.head.seen import Seen
from inference.head.surface import FitSettings, Fitting, begin, fit, load_prior
from inference.nets.head_shape import directions
from inference.protocol.errors import Cancelled, InputError, WeightsError
from inference.protocol.events import SilentReporter

QUICK = FitSettings(side=48, first=3, second=2, rays=48)


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_prior()


def camera_at(degrees: float, size: int = 200) -> Camera:
    at = np.radians(degrees)
    eye = CENTRE + [0.9 * np.sin(at), -0.9 * np.cos(at), 0.04]
    rotation = level_rotation(CENTRE - eye)
    return replace(pinhole("view", (size, size), 1.9 * size), rotation=rotation, translation=-rotation @ eye)


def photo_of(prior: Prior, scene: int, degrees: float = 0.0, *, focal: bool = True) -> tuple[Seen, np.ndarray]:
    camera = camera_at(degrees)
    image, there = picture_from(prior.net.field(scene), camera)
    points = from_sphere(prior.net.landmarks[scene].double().numpy())  # type: ignore[index]
    depth = (points @ camera.rotation.T + camera.translation)[:, 2]
    metre = camera.matrix[0, 0] / depth.mean()
    return Seen(
        f"{degrees}.png", (image.clip(0, 1) * 255).astype(np.uint8), there.astype(np.float32), project(camera, points),
        (depth - depth.mean()) * metre, float(camera.matrix[0, 0]) if focal else None, np.array([99.5, 99.5]),
    ), points  # fmt: skip


class Steps(SilentReporter):
    """Counts, and cancels where it is told to."""

    def __init__(self, until: int | None = None) -> None:
        self.until, self.last = until, (0, 0)

    def progress(self, stage: str, done: int, total: int) -> None:  # noqa: ARG002 - of its base
        self.last = (done, total)
        if self.until is not None and done >= self.until:
            raise Cancelled("Cancelled.")


def test_directions_explain_the_scenes_and_their_points() -> None:
    rng = torch.Generator().manual_seed(1)
    codes, mix, move = (torch.randn(*shape, generator=rng) for shape in ((40, 3), (3, 25), (3, 12)))
    span = span_of([codes @ mix], (codes @ move).view(40, 4, 3), 10)
    assert span.size == 3  # of 10 that were asked for, there are no more
    z = torch.linalg.lstsq(span.basis, (codes @ mix)[7] - span.mean).solution
    assert (span.rows(z) - (codes @ mix)[7]).abs().max() < 1e-3
    assert (span.face(z) - (codes @ move).view(40, 4, 3)[7]).abs().max() < 1e-3
    scores = torch.linalg.lstsq(span.basis, (codes @ mix - span.mean).T).solution
    assert scores.var(1) == pytest.approx([1.0] * 3, rel=0.05)


def test_cameras_and_face_are_found_from_points(prior: Prior) -> None:
    seen = [photo_of(prior, 5, degrees)[0] for degrees in (0.0, 35.0)]
    truth = photo_of(prior, 5)[1]
    placed = place(seen, prior.shape)
    assert np.linalg.norm(placed.face - truth, axis=1).mean() < 0.003
    for camera, degrees in zip(placed.cameras, (0.0, 35.0), strict=True):
        assert np.linalg.norm(camera.centre - camera_at(degrees).centre) < 0.08
    unknown = place([replace(photo, focal_px=None) for photo in seen], prior.shape)
    assert 0.5 < unknown.cameras[0].matrix[0, 0] / 380 < 2.0


def test_points_of_no_face_are_refused(prior: Prior) -> None:
    photo = photo_of(prior, 5)[0]
    scattered = np.random.default_rng(0).uniform(0, 200, photo.landmarks.shape)
    with pytest.raises(InputError, match="face"):
        place([replace(photo, landmarks=scattered)], prior.shape)


@pytest.mark.slow
@pytest.mark.parametrize(("follow", "points_m"), [(0, 0.003), (600, 0.004)])  # by the span alone; by one look
def test_a_known_head_is_found_again(prior: Prior, follow: int, points_m: float) -> None:
    photo, truth = photo_of(prior, 9)
    shown: list[int] = []
    fitted = fit(
        [photo], prior, FitSettings(side=100, first=60, second=40, rays=256, follow=follow), Steps(),
        preview=lambda image, _: shown.append(image.shape[0]),
    )  # fmt: skip
    assert np.linalg.norm(fitted.landmarks - truth, axis=1).mean() < points_m
    camera = camera_at(30.0)
    known, there = picture_from(prior.net.field(9), camera, step=2)
    seen, also = picture_from(fitted.field, camera, step=2)
    average, _ = picture_from(prior.net.field_of(lambda parameter: parameter.mean(0)), camera, step=2)
    assert (there & also).sum() / (there | also).sum() > 0.93
    assert np.abs(seen - known)[there].mean() < 0.5 * np.abs(average - known)[there].mean()
    assert shown


def test_a_cancelled_fit_goes_on_where_it_was(prior: Prior, tmp_path: Path) -> None:
    photo, _ = photo_of(prior, 3)
    with pytest.raises(Cancelled):
        fit([photo], prior, QUICK, Steps(until=4), folder=tmp_path)
    assert (tmp_path / "fit.safetensors").exists() and not list(tmp_path.glob("*.partial"))
    steps = Steps()
    fitted = fit([photo], prior, QUICK, steps, folder=tmp_path)
    assert steps.last == (5, 5) and np.isfinite(fitted.landmarks).all()
    again = fit([photo], prior, QUICK, Steps(until=1), folder=tmp_path)  # nothing is left to do
    assert np.array_equal(picture(again.field, size=24), picture(fitted.field, size=24))
    assert again.field.bend is not None and fitted.field.bend is not None
    assert again.field.bend.outwards.abs().max() > 0 and again.field.bend.outwards.equal(fitted.field.bend.outwards)
    with safe_open(tmp_path / "fit.safetensors", "pt") as file:
        tensors, note = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    (tmp_path / "fit.safetensors").write_bytes(save(tensors, metadata={**note, "settings": repr(QUICK)}))
    steps = Steps()
    fit([photo], prior, QUICK, steps, folder=tmp_path)  # written by another version, whose fits were others
    assert steps.last == (5, 5)


def test_a_placement_without_what_is_new_is_read(prior: Prior, tmp_path: Path) -> None:
    photo, _ = photo_of(prior, 3)
    placed = place([photo], prior.shape)
    placed.save(tmp_path / "placed.safetensors")
    arrays = load_file(tmp_path / "placed.safetensors")
    del arrays["alone"]
    save_file(arrays, tmp_path / "placed.safetensors")
    again = Placed.load(tmp_path / "placed.safetensors", [photo])
    assert again.alone == () and np.array_equal(again.face, placed.face)


def test_a_fit_that_goes_on_names_unlike_photos_again(prior: Prior, tmp_path: Path) -> None:
    photos, said = [photo_of(prior, 3, degrees)[0] for degrees in (0.0, 30.0)], []

    class Heard(Steps):
        def warning(self, code: str, text: str) -> None:
            said.append((code, text))

    replace(place(photos, prior.shape), alone=(1,)).save(tmp_path / "placed.safetensors")
    fit(photos, prior, replace(QUICK, follow=0), Heard(), folder=tmp_path)
    ((code, text),) = said
    assert code == "photos-unlike" and "1 of 2" in text and "30.0.png" in text


def test_a_fit_is_cancelled_while_its_surface_moves_and_moves_it_again(prior: Prior, tmp_path: Path) -> None:
    photo, _ = photo_of(prior, 3)

    class Impatient(Steps):
        asked = 0

        def progress(self, stage: str, done: int, total: int) -> None:
            super().progress(stage, done, total)
            self.asked += done == QUICK.first
            if self.asked > 50:
                raise Cancelled("Cancelled.")

    settings = replace(QUICK, second=0)
    with pytest.raises(Cancelled):
        fit([photo], prior, settings, Impatient(), folder=tmp_path)
    placed = tmp_path / "whole" / "placed.safetensors"  # of sums that are a bit off come other steps
    placed.parent.mkdir()
    placed.write_bytes((tmp_path / placed.name).read_bytes())
    again, whole = (fit([photo], prior, settings, Steps(), folder=folder) for folder in (tmp_path, placed.parent))
    assert np.array_equal(picture(again.field, size=24), picture(whole.field, size=24))
    assert again.field.bend is not None and whole.field.bend is not None
    assert again.field.bend.outwards.equal(whole.field.bend.outwards)


def test_a_fit_that_is_told_of_no_look_is_not_bent_to_one(prior: Prior, tmp_path: Path) -> None:
    photo, _ = photo_of(prior, 3)
    fit([photo], prior, replace(QUICK, first=1, second=0, follow=1), Steps(), folder=tmp_path)
    assert Placed.load(tmp_path / "placed.safetensors", [photo]).radii is not None
    fitted = fit([photo], prior, replace(QUICK, first=1, second=0, follow=0), Steps(), folder=tmp_path)
    assert fitted.field.bend is None


@pytest.mark.slow
def test_the_surface_is_where_the_look_has_it(prior: Prior) -> None:
    """In mean over a face: what the net can't learn of it is bent."""
    front = directions()[:, 1] < -0.6
    for scene in (3, 40):
        photo, _ = photo_of(prior, scene)
        settings = FitSettings(side=64, first=20, second=0, rays=64)
        work = Fitting([photo], prior, begin([photo], prior, settings, Steps()), settings, Steps(), None, None)
        work.first()
        assert work.known is not None
        off = np.abs(reach(work.result().field) - work.known)[front]
        assert np.nanmean(off) < 2e-4 and np.nanmedian(off) < 1e-4


def test_damaged_checkpoints_and_priors_are_named(prior: Prior, tmp_path: Path) -> None:
    photo, _ = photo_of(prior, 3)
    (tmp_path / "fit.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=r"fit\.safetensors"):
        fit([photo], prior, QUICK, Steps(), folder=tmp_path)
    (tmp_path / "placed.safetensors").write_bytes(b"nor this")
    with pytest.raises(WeightsError, match=r"placed\.safetensors"):
        fit([photo], prior, QUICK, Steps(), folder=tmp_path)
    (tmp_path / "heads.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(WeightsError, match=r"heads\.safetensors"):
        load_prior(tmp_path / "heads.safetensors")


def test_a_photo_with_hardly_a_head_is_refused(prior: Prior) -> None:
    photo, _ = photo_of(prior, 3)
    far = replace(photo, image=photo.image[:12, :12], mask=photo.mask[:12, :12])
    with pytest.raises(InputError, match="little"):
        fit([far], prior, QUICK, Steps())
