"""The studio where faces act: quick pictures are the ray caster's, and mixed people are people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.core.cameras import project
from inference.core.face_shapes import SHAPES
from inference.training import face_clips, face_response
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


def test_what_is_held_before_a_face_covers_its_mouth_for_a_while_and_moves_with_the_camera() -> None:
    held = face_clips.Held(np.array([0.2, 0.6]), np.zeros(2), np.zeros(2), np.pi / 2, 3, 0.016, np.ones(3))
    marks = np.array(
        [[0.03, 0, 0.03], [-0.03, 0, 0.03], [0, -0.02, 0], [0, 0, -0.08], [0.02, 0, -0.04], [-0.02, 0, -0.04]]
    )
    picture = np.random.default_rng(0).uniform(100, 120, (160, 160, 3))
    rotation, translation = acting.place(np.zeros((1, 3)), np.array([[0.0, 0.0, 0.6]]))
    camera = acting.a_camera((160, 160), 400.0, rotation[0], translation[0])
    changed = [np.abs(held.before(picture, camera, marks, share) - picture).max(2) > 1 for share in (0.1, 0.4, 0.7)]
    assert not changed[0].any() and not changed[2].any()
    x, y = np.round(project(camera, marks[4:6].mean(0, keepdims=True))[0]).astype(int)
    assert changed[1][y + 5 : y + 20, x].all() and not changed[1][: y - 30].any()


def test_clips_show_more_than_faces_that_rest_and_stay_within_what_faces_can_do() -> None:
    played = [face_clips.performed(0.7, np.random.default_rng(seed)) for seed in range(30)]
    weights = np.stack([one.weights for one in played])
    assert weights.min() >= 0 and weights.max() <= 1 and all(len(one.rotations) >= face_clips.CLIP for one in played)
    assert (weights[..., SHAPES.index("mouthClose")] <= weights[..., SHAPES.index("jawOpen")] + 1e-9).all()
    assert (weights.std(1) > 0.05).any(0).sum() > 45


def test_a_webcams_video_keeps_a_clip_roughly() -> None:
    y, x = np.mgrid[:96, :128]
    clip = [np.repeat(((x + 3 * k) // 6 % 2 * 90 + y)[..., None], 3, -1).astype(np.uint8) for k in range(5)]
    fine, rough = (face_clips.as_video(clip, crf) for crf in (12.0, 38.0))
    assert len(fine) == len(rough) == 5 and all(one.shape == (96, 128, 3) for one in (*fine, *rough))
    off = [np.abs(np.array(kept, float) - np.array(clip, float)).mean() for kept in (fine, rough)]
    assert off[0] < 0.8 * off[1]
    dim = face_clips.dim(clip[0], 1.0, 0.4).astype(float)
    assert dim.std() < 0.75 * clip[0].std() and dim.mean() == pytest.approx(clip[0].mean(), abs=1.0)


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
