"""Who is who over several views, in made-up crowds whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.bench.people import CrowdNoise, Scene, identity_scores, judge, make_scene
from inference.core.artifacts import Crowd2D
from inference.core.cameras import CameraSet
from inference.sight.crossing import Bodies, Laid, crossings
from inference.sight.grouping import cut, group, similarity

CLEAN = CrowdNoise(pixels=1.0, missing=0.02, absent=0.02, mistaken=0.0, sides=0.0, calibration_px=0.5)


def scores(count: int = 2, **options: object) -> dict[str, float]:
    """Means over some scenes, and what the trackers of single views had."""
    out = []
    for seed in range(count):
        scene = make_scene(np.random.default_rng(seed), frames=150, **options)  # type: ignore[arg-type]
        found = group(scene.crowds, scene.cameras if len(scene.crowds) > 1 else None)
        out.append({**judge(scene, found), "tracker": tracker_idf1(scene)})
    return {name: float(np.mean([s[name] for s in out])) for name in out[0]}


def tracker_idf1(scene: Scene) -> float:
    single = [
        identity_scores(who, crowd.track, np.zeros(len(who)), crowd.frame)["idf1"]
        for who, crowd in zip(scene.who, scene.crowds, strict=True)
    ]
    return float(np.mean(single))


@pytest.mark.parametrize(("views", "people"), [(2, 2), (2, 4), (3, 3), (4, 5)])
def test_people_who_cross_again_and_again_are_told_apart_over_views(views, people):
    found = scores(views=views, people=people)
    assert found["idf1"] > 0.9
    assert found["idf1"] > found["tracker"]


def test_with_a_good_tracker_and_detector_hardly_anything_is_confused():
    assert scores(views=3, people=3, noise=CLEAN)["idf1"] > 0.97


def test_one_view_alone_knows_people_again_by_their_clothes():
    found = scores(views=1, people=3)
    assert found["idf1"] > max(0.9, found["tracker"])


def test_people_dressed_alike_are_told_apart_by_geometry_alone():
    alike = replace(CLEAN, uniform=True)
    assert scores(views=3, people=2, noise=alike)["idf1"] > 0.9


def test_crowds_without_looks_are_grouped_too():
    scene = make_scene(np.random.default_rng(1), views=3, people=2, noise=CLEAN)
    bare = Scene(scene.cameras, [replace(crowd, look=None) for crowd in scene.crowds], scene.who, scene.points)
    assert judge(bare, group(bare.crowds, bare.cameras))["idf1"] > 0.9


def test_nobody_is_in_two_places_of_one_view_at_a_time():
    scene = make_scene(np.random.default_rng(3), views=3, people=4)
    for pieces in group(scene.crowds, scene.cameras):
        for view in range(3):
            frames = np.concatenate([scene.crowds[view].frame[p.rows] for p in pieces if p.view == view] or [[]])
            assert len(np.unique(frames)) == len(frames)


def test_every_row_belongs_to_at_most_one_person_and_few_are_lost():
    scene = make_scene(np.random.default_rng(4), views=2, people=3)
    people = group(scene.crowds, scene.cameras)
    for view, crowd in enumerate(scene.crowds):
        rows = np.concatenate([p.rows for pieces in people for p in pieces if p.view == view])
        assert len(np.unique(rows)) == len(rows)
        assert len(rows) > 0.98 * len(crowd.frame)


def test_somebody_who_leaves_and_comes_back_stays_themselves():
    scene = make_scene(np.random.default_rng(5), views=3, people=2, noise=CLEAN)
    crowds, who = [], []
    for crowd, true in zip(scene.crowds, scene.who, strict=True):
        kept = ~((true == 1) & (crowd.frame > 90) & (crowd.frame < 170))
        track = np.where((true == 1) & (crowd.frame >= 170), 99, crowd.track)[kept]  # a new track to the tracker
        order = np.lexsort((crowd.frame[kept], track))
        rows = np.flatnonzero(kept)[order]
        crowds.append(_take(crowd, rows, track[order]))
        who.append(true[rows])
    away = Scene(scene.cameras, crowds, who, scene.points)
    assert judge(away, group(crowds, scene.cameras))["idf1"] > 0.97


def test_somebody_seen_by_one_camera_alone_is_somebody():
    scene = make_scene(np.random.default_rng(6), views=3, people=3, noise=CLEAN)
    crowds, who = list(scene.crowds), list(scene.who)
    for view in (1, 2):
        rows = np.flatnonzero(who[view] != 2)
        crowds[view], who[view] = _take(crowds[view], rows, crowds[view].track[rows]), who[view][rows]
    lone = Scene(scene.cameras, crowds, who, scene.points)
    people = group(crowds, scene.cameras)
    assert judge(lone, people)["idf1"] > 0.95


def test_frame_rates_may_differ():
    scene = make_scene(np.random.default_rng(7), views=3, people=3, noise=CLEAN)
    crowd, true = scene.crowds[0], scene.who[0]
    rows = np.flatnonzero(crowd.frame % 2 == 0)
    slow = replace(
        _take(crowd, rows, crowd.track[rows]), frame=crowd.frame[rows] // 2, times=crowd.times[::2]
    ).with_header(fps=15.0)
    crowds = [slow, *scene.crowds[1:]]
    mixed = Scene(scene.cameras, crowds, [true[rows], *scene.who[1:]], scene.points)
    assert judge(mixed, group(crowds, scene.cameras))["idf1"] > 0.95


def test_an_empty_view_and_an_empty_crowd_hurt_nobody():
    scene = make_scene(np.random.default_rng(8), views=2, people=2, noise=CLEAN)
    empty = _take(scene.crowds[1], np.zeros(0, int), np.zeros(0, int))
    people = group([scene.crowds[0], empty], scene.cameras)
    assert len([p for p in people if sum(len(piece.rows) for piece in p) > 30]) == 2
    assert group([empty], None) == []


def test_exchanged_sides_cost_nothing():
    scene = make_scene(np.random.default_rng(9), views=2, people=2, noise=replace(CLEAN, sides=0.5))
    assert judge(scene, group(scene.crowds, scene.cameras))["idf1"] > 0.97


def test_rays_of_one_person_meet_where_the_person_is():
    scene = make_scene(np.random.default_rng(10), views=2, people=1, noise=replace(CLEAN, calibration_px=0.0))
    bodies = [Bodies.of(c, camera) for c, camera in zip(scene.crowds, scene.cameras, strict=True)]
    laid = [Laid(c.frame, np.arange(len(c.frame)), np.zeros(len(c.frame), int)) for c in scene.crowds]
    (crossing,) = crossings((bodies[0], bodies[1]), (laid[0], laid[1]))
    assert crossing.miss_m < 0.02
    tick, place = crossing.start
    assert np.linalg.norm(place - np.median(scene.points[0, tick], axis=0)) < 0.3


def test_tracks_are_cut_where_people_meet():
    scene = make_scene(np.random.default_rng(2), views=1, people=2, noise=CLEAN)
    crowd = scene.crowds[0]
    pieces = cut(crowd, 0, np.arange(len(crowd.times)))
    assert sum(len(p.rows) for p in pieces) == len(crowd.frame)
    assert all(np.all(np.diff(p.ticks) > 0) for p in pieces)
    assert max(p.last - p.first for p in pieces) <= 3.1 * crowd.fps


def test_similarity_counts_only_what_both_show():
    red, blue = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    unseen = np.full(2, np.nan)
    assert similarity(np.r_[red, blue], np.r_[red, red]) == pytest.approx(0.5)
    assert similarity(np.r_[red, unseen], np.r_[red, blue]) == pytest.approx(1.0)
    assert similarity(np.r_[red, unseen], np.r_[unseen, blue]) is None
    assert similarity(None, red) is None


def _take(crowd: Crowd2D, rows: np.ndarray, track: np.ndarray) -> Crowd2D:
    names = ("frame", "positions", "confidence", "look")
    return replace(crowd, track=track, **{name: getattr(crowd, name)[rows] for name in names})


def test_cameras_that_are_all_the_same_place_change_nothing_for_the_worse():
    scene = make_scene(np.random.default_rng(11), views=1, people=2, noise=CLEAN)
    twice = Scene(
        CameraSet((scene.cameras[0], scene.cameras[0])), [scene.crowds[0]] * 2, [scene.who[0]] * 2, scene.points
    )
    assert judge(twice, group(twice.crowds, twice.cameras))["idf1"] > 0.9
