"""Folders become batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.batch.manifest import read_manifest, write_manifest
from inference.batch.plan import Wishes, name_part, parse_frames, plan
from inference.protocol.errors import InputError, RequestError
from inference.protocol.requests import PHOTOS

from .batches import run


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_clips_photos_rigs_and_people_are_told_apart(tmp_path):
    make(tmp_path, "walk.mp4", "run.MOV", "ann.jpg", "bob/1.png", "bob/2.png", "rig/a.mp4", "rig/b.mp4", "rig/rig.toml",
         "notes.txt", ".hidden.mp4", "done/events.jsonl", "done/overlay.mp4")  # fmt: skip
    rows = {out: (task, request) for out, task, request in plan("clips", [tmp_path], Wishes())}
    assert {out: task for out, (task, _) in rows.items()} == {
        "walk": "motion", "run": "motion", "ann": "head", "bob": "head", "rig": "motion",
    }  # fmt: skip
    assert len(rows["rig"][1].video) == 2 and rows["rig"][1].calibration == tmp_path / "rig/rig.toml"
    assert len(rows["bob"][1].photo) == 2


@pytest.mark.parametrize("ending", PHOTOS)
def test_photos_of_every_ending_become_heads(tmp_path, ending):
    make(tmp_path, f"ann{ending}", f"bob/1{ending.upper()}", "bob/2.png")
    rows = {out: request for out, task, request in plan("clips", [tmp_path], Wishes()) if task == "head"}
    assert {out: len(request.photo) for out, request in rows.items()} == {"ann": 1, "bob": 2}


def test_equal_and_odd_names_become_different_plain_ones(tmp_path):
    make(tmp_path, "a/walk.mp4", "b/walk.mp4", "$(touch x).mp4", "con.mp4", "日本 é.mp4", "v1.2.mp4")
    rows = plan("clips", [tmp_path], Wishes())
    assert {out for out, _, _ in rows} == {"walk", "walk_2", "_touch x_", "_con", "日本 é", "v1_2"}
    manifest = write_manifest(tmp_path / "b.json", "inference", tmp_path / "out", rows)
    assert len(read_manifest(tmp_path / "b.json").items) == len(manifest.items) == 6


def test_settings_hold_for_their_task(tmp_path):
    make(tmp_path, "a.mp4", "b.png")
    rows = plan("clips", [tmp_path], Wishes({"motion": {"smoothing": 0.2}}))
    assert [request.smoothing for _, task, request in rows if task == "motion"] == [0.2]


def test_a_shot_is_an_item_a_frame(tmp_path):
    make(tmp_path, "hero.blend", "job/artifacts/body_motion.npz")
    table = "name,blend,capture,camera,frames\nwalk,hero.blend,job,Cam,1-6x2\nrun,hero.blend,,,10\n"
    (tmp_path / "shots.csv").write_text(table, encoding="utf-8")
    rows = plan("render", [tmp_path / "shots.csv"], Wishes({"render": {"engine": "cycles", "samples": 4}}))
    assert [out for out, _, _ in rows] == ["walk/0001.png", "walk/0003.png", "walk/0005.png", "run/0010.png"]
    assert rows[0][2].capture == tmp_path / "job/artifacts/body_motion.npz" and rows[0][2].samples == 4


@pytest.mark.parametrize("text", ["", "a", "5-1", "1-x", "1-9999999", "1-10x0"])
def test_what_are_no_frames_is_refused(text):
    with pytest.raises(InputError):
        parse_frames(text, "shot")


def test_nothing_to_do_is_told(tmp_path):
    with pytest.raises(InputError, match="Nothing for clips was found"):
        plan("clips", [tmp_path], Wishes())
    with pytest.raises(InputError, match="There is no"):
        plan("clips", [tmp_path / "no"], Wishes())
    make(tmp_path, "a.bvh")
    with pytest.raises(RequestError, match="blend: no character"):
        plan("retarget", [tmp_path], Wishes())


@pytest.mark.parametrize("text", ["", "..", "a/b", "x" * 300, "a.json", ". ."])
def test_any_text_gives_a_name(text):
    from inference.batch.manifest import check_out

    assert check_out(name_part(text))


def test_a_batch_does_not_change_unless_told(tmp_path):
    make(tmp_path, "clips/a.mp4")
    run("plan", tmp_path / "clips", "--out", tmp_path / "b.json")
    run("plan", tmp_path / "clips", "--out", tmp_path / "b.json")
    make(tmp_path, "clips/b.mp4")
    refused = run("plan", tmp_path / "clips", "--out", tmp_path / "b.json", code=2)
    assert "holds another batch" in refused.stderr
    run("plan", tmp_path / "clips", "--out", tmp_path / "b.json", "--overwrite")
    assert len(read_manifest(tmp_path / "b.json").items) == 2
