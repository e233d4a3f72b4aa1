"""A trainee beside a trainer: known differences in time, place and joints are found again."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from understudy.tests.body.bodies import exercise, golden_mesh

from inference.body.coaching import read_performer, run
from inference.body.steps import in_step
from inference.core.artifacts import BodyMesh, BodyParameters, Coaching
from inference.core.body import place_bones
from inference.core.rotations import quaternion_from_rotvec
from inference.protocol.errors import InputError
from inference.protocol.events import SilentReporter
from inference.protocol.requests import CoachRequest

Array = np.ndarray
BENT_DEG = 22.0


@pytest.fixture(scope="module")
def mesh() -> BodyMesh:
    return golden_mesh()


def keep(folder: Path, mesh: BodyMesh, parameters: BodyParameters) -> Path:
    mesh.save(folder / "artifacts" / "body_mesh.npz")
    parameters.save(folder / "artifacts" / "body_parameters.npz")
    return folder


@pytest.fixture
def warp() -> Array:
    """The exercise's phase at each of the trainee's frames: late, then hurried."""
    time = np.linspace(0, 1, 60)
    return time + 0.12 * np.sin(2 * np.pi * time) / (2 * np.pi) * 3


@pytest.fixture
def compared(mesh: BodyMesh, warp: Array, tmp_path: Path) -> tuple[Coaching, Path]:
    """A trainee whose right elbow is bent too much, and a trainer who takes longer and stands elsewhere."""
    trainee = keep(tmp_path / "trainee", mesh, exercise(mesh, warp, elbow_deg=BENT_DEG))
    other = exercise(mesh, np.linspace(0, 1, 90), yaw=1.1, place=np.array([2.0, -1.0, 0.0]))
    trainer = keep(tmp_path / "trainer", mesh, other)
    run(CoachRequest(trainee=trainee, trainer=trainer), tmp_path / "job", SilentReporter())
    return Coaching.load(tmp_path / "job" / "artifacts" / "coaching.npz"), tmp_path / "job"


def test_the_trainer_is_found_in_step_although_slower_and_uneven(compared: tuple[Coaching, Path], warp: Array) -> None:
    found, _ = compared
    assert np.all(np.diff(found.match) >= 0)
    assert np.abs(found.match / 89 - warp)[3:-3].max() < 0.03


def test_only_the_joint_that_differs_is_said_to(compared: tuple[Coaching, Path]) -> None:
    found, job = compared
    column = found.header["joints"].index("elbow.R")
    assert found.difference[5:-5, column] == pytest.approx(BENT_DEG, abs=1.5)
    assert np.delete(found.difference, column, 1)[5:-5].max() < 5.0
    rows = json.loads((job / "report.json").read_text())["joints"]
    assert rows[0]["joint"] == "elbow.R"
    assert rows[0]["advice"].startswith("bend less by 22")
    assert all(row["advice"] == "good" for row in rows[1:])


def told(mesh: BodyMesh, folder: Path, bone: str, axis: int, own: float, other: float) -> str:
    """What is said to somebody who moves a bone so far (rad, at most) where the trainer moves it otherwise."""
    phase, files = np.linspace(0, 1, 60), []
    for name, most in (("trainee", own), ("trainer", other)):
        body = exercise(mesh, phase)
        turns = np.zeros((60, 3))
        turns[:, axis] = most * np.sin(np.pi * phase)
        pose = body.pose.copy()
        pose[:, mesh.header["bones"].index(bone)] = quaternion_from_rotvec(turns)
        files.append(keep(folder / name, mesh, replace(body, pose=pose)))
    numbers = run(CoachRequest(trainee=files[0], trainer=files[1]), folder / "job", SilentReporter())
    return str(numbers["joints"][0]["advice"])


def test_what_differs_much_is_never_called_good(mesh: BodyMesh, tmp_path: Path) -> None:
    assert told(mesh, tmp_path / "a", "head", 2, 0.6, -0.6).startswith("turn it as the trainer does: ")
    assert told(mesh, tmp_path / "b", "lowerleg01.L", 0, 0.8, 1.6).startswith("bend more by ")


def test_the_trainer_stands_where_the_trainee_does(
    compared: tuple[Coaching, Path], mesh: BodyMesh, warp: Array
) -> None:
    found, _ = compared
    wanted = exercise(mesh, warp)
    _, heads = place_bones(mesh, found.pose, found.root)
    _, truth = place_bones(mesh, wanted.pose, wanted.root)
    assert np.linalg.norm(heads - truth, axis=-1)[5:-5].max() < 0.06
    assert np.linalg.norm(heads - truth, axis=-1)[5:-5].mean() < 0.015


def test_the_table_has_a_row_a_frame_that_says_what_the_artifact_does(compared: tuple[Coaching, Path]) -> None:
    found, job = compared
    rows = list(csv.DictReader((job / "coaching.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len(found.times)
    assert float(rows[30]["elbow.R difference_deg"]) == pytest.approx(
        found.difference[30, found.header["joints"].index("elbow.R")], abs=0.01
    )


@pytest.mark.parametrize("fps", [24, 60, 120, 240])
def test_a_film_at_another_rate_is_the_same_exercise(mesh: BodyMesh, tmp_path: Path, fps: int) -> None:
    trainee = keep(tmp_path / "trainee", mesh, exercise(mesh, np.linspace(0, 1, 60)))
    trainer = keep(tmp_path / "trainer", mesh, exercise(mesh, np.linspace(0, 1, 2 * fps), fps=float(fps)))
    numbers = run(CoachRequest(trainee=trainee, trainer=trainer), tmp_path / "job", SilentReporter())
    match = Coaching.load(tmp_path / "job" / "artifacts" / "coaching.npz").match
    assert numbers["mean_deg"] < 0.6 and numbers["pace"] == pytest.approx(1, abs=0.05)
    assert all(row["advice"] == "good" for row in numbers["joints"])
    assert np.abs(match / fps - np.arange(60) / 30).max() < 0.07


def test_a_clip_laid_on_itself_takes_no_steps_aside() -> None:
    path = np.cumsum(np.random.default_rng(1).normal(size=(40, 3)), 0)
    cost = np.linalg.norm(path[:, None] - path[None], axis=-1)
    assert np.array_equal(in_step(cost, 3.0), np.arange(40))


def test_what_cannot_be_compared_is_refused_with_numbers(mesh: BodyMesh, tmp_path: Path) -> None:
    short = keep(tmp_path / "short", mesh, exercise(mesh, np.linspace(0, 1, 9)))
    with pytest.raises(InputError, match="holds 9 frames; at least half a second"):
        read_performer(short)
    with pytest.raises(InputError, match=r"holds no body_parameters\.npz"):
        read_performer(tmp_path / "nothing")
    with pytest.raises(InputError, match="moves for 30 frames and the trainer for 900: more than 3 times apart"):
        in_step(np.zeros((30, 900)), 3.0)
    strange = mesh.with_header(bones=[f"bone{row}" for row in range(len(mesh.parents))])
    with pytest.raises(InputError, match="is no body of anny"):
        read_performer(keep(tmp_path / "strange", strange, exercise(mesh, np.linspace(0, 1, 30))))
