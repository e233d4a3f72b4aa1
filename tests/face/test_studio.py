"""The studio where faces act: quick pictures are the ray caster's, and mixed people are people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.core.face_shapes import SHAPES
from inference.training import face_response
from inference.training.studio import acting, actors, heads
from inference.training.studio.portrait import Light, Portrait
from inference.training.studio.raster import Raster


@pytest.mark.data
def test_quick_pictures_are_those_of_the_ray_caster_also_of_a_head_that_moved(data_dir: Path) -> None:
    head, rng = heads.make_ict(data_dir, 7).canonical(), np.random.default_rng(0)
    slow, quick = Portrait(head), Raster(head)
    for stretch in (1.0, 1.15):
        light = Light.drawn(rng)
        rotation, translation = acting.place(rng.normal(size=(1, 3)) * 0.3, np.array([[0.0, 0.0, 0.6]]))
        camera = acting.a_camera((96, 96), 200.0, rotation[0], translation[0])
        slow.pose(head.vertices * [1, 1, stretch])
        quick.pose(head.vertices * [1, 1, stretch])
        wanted, mask, _ = slow.photograph(camera, light, supersample=1)
        got, there = quick.photograph(camera, light)
        assert 0.1 < there.mean() < 0.9 and (there != (mask > 0.5)).mean() < 1e-3
        off = np.abs(got.astype(int) - wanted).max(-1)
        assert (off > 8).mean() < 0.01 and np.median(off[there]) == 0


def test_shares_of_mixed_people_leave_the_mean_and_the_spread_of_people() -> None:
    rng = np.random.default_rng(1)
    shares = np.array([face_response._shares(3, rng) for _ in range(50)])
    assert np.allclose(shares.sum(1), 1) and np.allclose(np.square(shares).sum(1), 1)


@pytest.mark.data
def test_a_mixed_person_lies_between_and_its_hair_stays_where_it_is(data_dir: Path) -> None:
    two = []
    for seed in (3, 4):
        head = heads.make_ict(data_dir, seed, expression=0.0, hair=False).canonical()
        keys = np.full((len(SHAPES), len(head.vertices), 3), 1e-3 * seed, np.float32)
        two.append(actors.Actor(head, keys, np.ones(len(SHAPES), bool), head.landmarks[:2]))
    person = actors.mixed(two, np.array([0.25, 0.75]))
    assert np.allclose(person.head.vertices, 0.25 * two[0].head.vertices + 0.75 * two[1].head.vertices)
    dressed = actors.with_hair(person, np.random.default_rng(0))
    bald = len(person.head.vertices)
    moved = dressed.posed(np.eye(len(SHAPES))[0]).vertices - dressed.head.vertices
    assert np.allclose(moved[:bald], 3.75e-3, atol=1e-6) and len(moved) > bald and not moved[bald:].any()


def test_whoever_is_mixed_of_actors_of_one_half_belongs_to_that_half() -> None:
    files = [Path(f"{rig}ict_{seed}.npz") for rig in ("", "foreign_") for seed in range(20)]
    rng, halves = np.random.default_rng(2), set()
    for number in range(40):
        chosen = face_response.met(files, rng)
        assert len({face_response.half_of(file.stem) for file in chosen}) == 1 == len({f.stem[0] for f in chosen})
        halves.add(face_response.half_of(f"{chosen[0].stem}+{number}"))
    assert halves == {0, 1}


@pytest.mark.data
def test_an_avatars_own_shapes_move_the_side_of_the_face_that_they_are_named_after(data_dir: Path) -> None:
    avatar = actors.avatar(data_dir, "Asian_F_3")
    left = np.array([name.endswith("Left") for name in SHAPES]) & avatar.moves
    assert left.sum() == 11 and avatar.moves.sum() == 28
    for index in np.flatnonzero(left):
        if SHAPES[index] != "jawLeft":
            moved = np.linalg.norm(avatar.keys[index], axis=1)
            assert (moved * avatar.head.vertices[:, 0]).sum() / moved.sum() > 0.01
    blink = avatar.keys[SHAPES.index("eyeBlinkLeft")]
    assert blink[np.linalg.norm(blink, axis=1).argmax(), 2] < -0.005


def test_what_people_have_alone_and_together_is_found_from_rays() -> None:
    rng = np.random.default_rng(3)
    people, frames, shapes = 4, 30, 6
    alone, together = rng.normal(size=(people, 3)) * 0.005, rng.normal(size=(shapes, 3)) * 0.003
    who, moves = np.repeat(np.arange(people), frames), rng.random((people * frames, shapes))
    slant = rng.normal(size=(people * frames, 2, 3))
    wanted = np.einsum("tij,tj->ti", slant, alone[who] + moves @ together)
    known = np.arange(0, people * frames, frames), np.full(3 * shapes, 0.003)
    own, shared = face_response._solve_people(slant, moves, wanted, np.full(len(who), 1e9), known)
    assert np.allclose(own, alone, atol=1e-5) and np.allclose(shared, together, atol=1e-5)
