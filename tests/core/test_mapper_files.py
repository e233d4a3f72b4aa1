"""Mappings as files, and what names say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.mapping.bone_names import is_helper, is_tip, is_twist, key, mirror_name, side_of
from inference.core.mapping.mapper import map_rig
from inference.core.mapping.presets import (
    FOLDER,
    decode,
    dumps,
    encode,
    mappings,
    read_mapping,
    user_mappings,
    write_mapping,
)
from inference.core.rig import HUMANOID_MAPPING, Mapping
from inference.protocol.errors import InputError, ResourceError
from tests import rigs

SMALL = {"format": "understudy-mapping", "version": 1, "name": "Mine", "bones": {"hips": ["pelvis"]}}


def written(folder: Path, **changes) -> Path:
    """A file of a small mapping with some keys changed."""
    path = folder / "mine.json"
    path.write_text(json.dumps({**SMALL, **changes}), encoding="utf-8")
    return path


def test_every_known_mapping_comes_back_from_its_own_text() -> None:
    for path in FOLDER.glob("*.json"):
        mapping = read_mapping(path)
        assert dumps(mapping) == path.read_text(encoding="utf-8"), path.name
        assert decode(json.loads(dumps(mapping))) == mapping


def test_known_mappings_have_names_of_their_own_and_ours_is_the_one_of_the_skeleton() -> None:
    assert len(mappings()) == len(list(FOLDER.glob("*.json")))
    assert mappings()["Understudy"] == HUMANOID_MAPPING


def test_both_sides_of_every_known_mapping_mirror_each_other() -> None:
    for mapping in mappings().values():
        for role, chain in mapping.bones.items():
            if role.endswith(".L"):
                assert tuple(map(mirror_name, chain)) == mapping.bones[role[:-1] + "R"], mapping.name


def test_a_mapping_is_written_whole_and_read_again(tmp_path: Path) -> None:
    mapping = map_rig(rigs.load("rigify_generated")).mapping
    write_mapping(tmp_path / "rigify.json", mapping)
    assert read_mapping(tmp_path / "rigify.json") == mapping
    assert [path.name for path in tmp_path.iterdir()] == ["rigify.json"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError):
        write_mapping(tmp_path / "file" / "mine.json", HUMANOID_MAPPING)


def test_a_mapping_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fills hips already"):
        write_mapping(tmp_path / "mine.json", Mapping("Mine", {"hips": ("a",), "spine": ("a",)}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"format": "bvh"}, "mine.json: format: is 'bvh', not 'understudy-mapping'", ""),
        ({"version": 2}, "mine.json: version: 2 cannot be read, only 1", "Update Understudy"),
        ({"version": True}, "version: True cannot be read", ""),
        ({"name": ""}, "mine.json: name: '' is not a name of 1 to 128 characters", ""),
        ({"name": 3}, "name: 3 is not a name", ""),
        ({"bone": {}}, "mine.json: bone: there is no such key", "Did you mean bones?"),
        ({"bones": []}, r"bones: \[\] is not an object of roles", ""),
        ({"bones": {"upperarm.L": ["a"]}}, "mine.json: bones.upperarm.L: there is no such role", "upper_arm.L?"),
        ({"bones": {"hips": "pelvis"}}, "bones.hips: 'pelvis' is not a list", ""),
        ({"bones": {"hips": [["pelvis"]]}}, r"bones.hips\[0\]: \['pelvis'\] is not a name", ""),
        ({"bones": {"hips": ["a" * 200]}}, r"bones.hips\[0\]: 'a", ""),
        ({"bones": {"spine": ["b"] * 100}}, "bones.spine: has 100 items; at most 64 are read", ""),
        ({"bones": {"hips": ["a"], "spine": ["a"]}}, "bones.spine: the bone 'a' fills hips already", ""),
        ({"ik": {}}, "ik: {} is not a list", ""),
        ({"ik": [{"role": "hand.L"}]}, r"ik\[0\].target: is missing", ""),
        ({"ik": [{"role": "head", "target": "a"}]}, r"ik\[0\].role: head is not the end of a limb", ""),
        ({"ik": [{"role": "hand.L", "target": "a", "poles": "b"}]}, r"ik\[0\].poles: there is no such key", "pole?"),
        (
            {"ik": [{"role": "hand.L", "target": "a", "fk": [{"bone": "a", "name": "x", "value": "1"}]}]},
            r"ik\[0\].fk\[0\].value: '1' is not a number",
            "",
        ),
        ({"settings": [{"bone": "a", "name": "x"}]}, r"settings\[0\].value: is missing", ""),
        ({"settings": [{"bone": "a", "name": "x", "value": 1e999}]}, r"mine.json|not a number", ""),
        ({"settings": [1]}, r"settings\[0\]: 1 is not an object", ""),
    ],
)
def test_an_error_names_the_file_and_the_key(tmp_path: Path, changes: dict, message: str, hint: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_mapping(written(tmp_path, **changes))
    assert "mine.json" in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"x"', "\x00", "[" * 5000, '{"format": NaN}'])
def test_what_is_no_mapping_is_refused_with_the_name_of_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.json"):
        read_mapping(path)


def test_a_file_of_more_than_a_mebibyte_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(InputError, match=r"mine\.json has 1,048,578 bytes"):
        read_mapping(path)


def test_a_folder_gives_what_is_usable_and_says_what_is_not(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "notes.txt").write_text("x")
    found, problems = user_mappings(tmp_path)
    assert list(found) == ["Mine"]
    assert len(problems) == 1
    assert "broken.json" in problems[0]
    assert user_mappings(tmp_path / "nowhere") == ({}, [])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("version", "name", "bones", "ik", "settings"), values)))
def test_any_values_are_a_mapping_or_an_error_of_input(changes: dict) -> None:
    try:
        mapping = decode({**SMALL, **changes})
    except InputError as error:
        assert error.message
    else:
        assert decode(encode(mapping)) == mapping


# Names ----------------------------------------------------------------------------------------------------------------

PAIRS = [
    ("upper_arm.L", "upper_arm.R"), ("hand_l", "hand_r"), ("LeftArm", "RightArm"), ("left_hip", "right_hip"),
    ("leftUpperArm", "rightUpperArm"), ("l_upperarm", "r_upperarm"), ("Bip01 L UpperArm", "Bip01 R UpperArm"),
    ("Bip001 LUpArmTwist", "Bip001 RUpArmTwist"), ("lShldrBend", "rShldrBend"), ("LThumb", "RThumb"),
    ("J_Bip_L_Hand", "J_Bip_R_Hand"), ("mixamorig:LeftHandIndex1", "mixamorig:RightHandIndex1"),
    ("CC_Base_L_Thigh", "CC_Base_R_Thigh"), ("thigh.L.001", "thigh.R.001"), ("c_foot_ik.l", "c_foot_ik.r"),
    ("lip.T.L.001", "lip.T.R.001"), ("HandL", "HandR"), ("LEFT_ARM", "RIGHT_ARM"), ("左腕", "右腕"),
    ("Character1:LeftUpLegRoll", "Character1:RightUpLegRoll"), ("DEF-f_index.01.L", "DEF-f_index.01.R"),
    ("Arm Left", "Arm Right"), ("hero_Left_Leg", "hero_Right_Leg"), ("L_Foot", "R_Foot"),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_a_name_is_mirrored_in_its_own_convention(left: str, right: str) -> None:
    assert (mirror_name(left), mirror_name(right)) == (right, left)
    assert (side_of(left), side_of(right)) == ("L", "R")
    assert key(left)[0] == key(right)[0]


@pytest.mark.parametrize(
    "name", ["Spine", "Head", "L5", "LowerBack", "Root", "pelvis", "spine_01", "neckLower", "rollercoaster", "Lumbar"]
)
def test_a_name_of_the_middle_is_its_own_mirror(name: str) -> None:
    assert mirror_name(name) == name
    assert not side_of(name)


def test_every_bone_of_every_rig_has_its_mirror_in_the_rig() -> None:
    for name in rigs.names():
        known = set(rigs.load(name).names)
        lonely = [bone for bone in known if mirror_name(bone) not in known]
        # Daz and Rigify have a few that exist on one side only
        assert len(lonely) <= 2, (name, lonely)


@given(st.text(max_size=40))
def test_mirroring_twice_gives_any_name_back(name: str) -> None:
    assert mirror_name(mirror_name(name)) == name


def test_words_for_ends_twists_and_helpers() -> None:
    tips = ("HeadTop_End", "Bip01 HeadNub", "EndSite", "LeftToeBase_End", "Toe0Nub", "LeftFinger1Tip", "BoneEnd.L")
    assert all(map(is_tip, tips))
    assert not any(map(is_tip, ("lShldrBend", "ForearmBend", "Hand", "Pend", "spine_02")))
    assert all(map(is_twist, ("upperarm_twist_01_l", "LeftArmRoll", "lShldrTwist", "Bip001 LUpArmTwist")))
    assert not any(map(is_twist, ("thigh_l", "controller_l", "rollers")))
    helpers = ("ik_foot_l", "J_Sec_Hair1_01", "MCH-spine", "c_leg_pole.l", "LeftEye", "weapon_r", "skirt.002")
    assert all(map(is_helper, helpers))
    assert not any(map(is_helper, ("LeftArm", "spine_01", "Bip01 L Clavicle", "lCollar", "head", "forearm.L", "Hips")))


def test_a_mapping_with_other_bones_put_in_is_mirrored() -> None:
    mapping = mappings()["Mixamo"]
    changed = mapping.with_chain("hand.L", ["LeftPalm"], mirrored=[mirror_name("LeftPalm")])
    assert (changed.bones["hand.L"], changed.bones["hand.R"]) == (("LeftPalm",), ("RightPalm",))
    assert replace(changed, bones=mapping.bones) == mapping
