"""The mapper on every rig of `tests/rigs`: by names, by structure alone, and on what is no person."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.core.mapping.mapper import map_rig, mappings
from inference.core.mapping.structure import find_structure
from inference.core.rig import FINGERS, NEEDED_ROLES, ROLES, SIDES, Rig
from inference.core.rotations import matrix_from_rotvec
from inference.protocol.errors import InputError
from tests import rigs
from tests.rigs.made import person, posed

PRESETS = {
    "auto_rig_pro": "Auto-Rig Pro export", "auto_rig_pro_controls": "Auto-Rig Pro",
    "auto_rig_pro_game": "Auto-Rig Pro export", "biped": "3ds Max Biped", "biped_flat": "3ds Max Biped",
    "cgspeed": "CMU", "character_creator": "Character Creator", "cmu": "CMU", "daz_genesis8": "Daz Genesis 3 and 8",
    "daz_genesis9": "Daz Genesis 9", "game_engine": "Unreal 4, MakeHuman game engine", "human_ik": "HumanIK",
    "makehuman": "MakeHuman, MPFB default", "metahuman": "Unreal 5, MetaHuman", "mixamo": "Mixamo",
    "mixamo_full": "Mixamo", "rigify_basic": "Rigify meta-rig", "rigify_basic_generated": "Rigify",
    "rigify_generated": "Rigify", "rigify_meta": "Rigify meta-rig", "rokoko": "Rokoko", "smpl_fbx": "SMPL family",
    "smplx": "SMPL family", "understudy": "Understudy", "unreal4": "Unreal 4, MakeHuman game engine",
    "unreal5": "Unreal 5, MetaHuman", "vrm": "VRM 1.0", "vroid": "VRoid", "xsens": "Xsens MVN",
    "xsens_bvh": "Xsens MVN, BVH",
}  # fmt: skip
CONTROLS = ("rigify_generated", "rigify_basic_generated", "auto_rig_pro_controls")
BODIES = tuple(name for name in PRESETS if name not in CONTROLS)
PARTS = ("shoulder", "upper_arm", "forearm", "hand", "thigh", "shin", "foot", "toe")
CORE = ("hips", "spine", "neck", "head", *(f"{part}.{side}" for side in SIDES for part in PARTS))
DIGITS = tuple(f"{finger}.{side}" for side in SIDES for finger in FINGERS)


def nameless(rig: Rig, seed: int = 0) -> tuple[Rig, dict[str, str]]:
    """The same bones in another order, under names that say nothing; and what they were called."""
    random = np.random.default_rng(seed)
    order: list[int] = []
    waiting = [int(row) for row in random.permutation(len(rig.names))]
    while waiting:
        row = next(row for row in waiting if rig.parents[row] < 0 or int(rig.parents[row]) in order)
        waiting.remove(row)
        order.append(row)
    place = {row: at for at, row in enumerate(order)}
    parents = np.array([place.get(int(rig.parents[row]), -1) for row in order])
    names = tuple(f"b{code:04x}" for code in random.permutation(len(order)))
    blind = replace(rig, names=names, parents=parents, rest=rig.rest[order], lengths=rig.lengths[order])
    return blind, dict(zip(names, (rig.names[row] for row in order), strict=True))


def turned(rig: Rig, angle: float, scale: float = 1.0) -> Rig:
    """A rig that looks another way, in another unit."""
    turn = np.eye(4)
    turn[:3, :3] = matrix_from_rotvec(np.array([0.0, 0.0, angle]))
    rest = turn @ rig.rest
    rest[:, :3, 3] *= scale
    return replace(rig, rest=rest, lengths=rig.lengths * scale)


def renamed(rig: Rig, names: dict[str, str]) -> Rig:
    """Some bones under other names."""
    return replace(rig, names=tuple(names.get(name, name) for name in rig.names))


def grown(rig: Rig, parent: str, joints: list[list[float]], name: str = "extra") -> Rig:
    """A chain more, from a bone on; joints in metres, world."""
    rest, lengths, names, parents = rig.rest, list(rig.lengths), list(rig.names), list(rig.parents)
    above = names.index(parent)
    for number, joint in enumerate(joints):
        matrix = np.eye(4)
        matrix[:3, 3] = joint
        rest = np.concatenate([rest, matrix[None]])
        parents.append(above)
        lengths.append(0.1)
        names.append(f"{name}{number}")
        above = len(names) - 1
    return replace(
        rig, names=tuple(names), parents=np.array(parents), rest=rest, lengths=np.array(lengths), inherit_rotation=None
    )


def without(rig: Rig, *bones: str) -> Rig:
    """A rig without some bones; their children hang from what they hung from."""
    gone = {rig.index[bone] for bone in bones}
    kept = [row for row in range(len(rig.names)) if row not in gone]
    parents = []
    for row in kept:
        above = int(rig.parents[row])
        while above in gone:
            above = int(rig.parents[above])
        parents.append(kept.index(above) if above >= 0 else -1)
    return replace(
        rig, names=tuple(rig.names[row] for row in kept), parents=np.array(parents), rest=rig.rest[kept],
        lengths=rig.lengths[kept], inherit_rotation=None,
    )  # fmt: skip


def recall(rig: Rig, blind: Rig, back: dict[str, str], roles: tuple[str, ...]) -> tuple[int, list[str]]:
    """How many of the roles that names give are found again without names, and which are not."""
    truth, found = map_rig(rig).mapping.bones, map_rig(blind).mapping.bones
    asked = [role for role in roles if role in truth]
    missed = [role for role in asked if tuple(back[bone] for bone in found.get(role, ())) != truth[role]]
    return len(asked), missed


@pytest.mark.parametrize("name", PRESETS)
def test_a_named_rig_is_known_by_its_names(name: str) -> None:
    rig = rigs.load(name)
    match = map_rig(rig, held=rigs.held(name), deform=rigs.deform(name))
    assert (match.mapping.name, match.how, match.notes) == (PRESETS[name], "preset", ())
    assert match.score > 0.85
    assert not match.mapping.missing(rig)
    assert set(match.mapping.bones) <= set(ROLES)
    assert all(bone in rig.index for chain in match.mapping.bones.values() for bone in chain)


@pytest.mark.parametrize("name", BODIES)
def test_structure_alone_finds_the_same_roles(name: str) -> None:
    rig = rigs.load(name)
    blind, back = nameless(turned(rig, 2.1, 100.0))
    assert map_rig(blind).how == "structure"
    _, missed = recall(rig, blind, back, CORE)
    assert not missed


def test_structure_alone_finds_the_fingers_of_all_but_mittens() -> None:
    asked, missed = 0, []
    for name in BODIES:
        rig = rigs.load(name)
        blind, back = nameless(rig, seed=3)
        count, wrong = recall(rig, blind, back, DIGITS)
        asked += count
        missed += [f"{name}: {role}" for role in wrong]
    assert {text.split(":")[0] for text in missed} <= {"cmu", "cgspeed"}
    assert len(missed) < 0.04 * asked


def test_axes_of_bones_say_nothing() -> None:
    random = np.random.default_rng(1)
    for name in BODIES:
        rig = rigs.load(name)
        rest = rig.rest.copy()
        rest[:, :3, :3] = rest[:, :3, :3] @ matrix_from_rotvec(2.0 * random.normal(size=(len(rest), 3)))
        blind, back = nameless(replace(rig, rest=rest))
        assert recall(rig, blind, back, CORE)[1] == []


def test_joints_a_few_millimetres_off_change_little() -> None:
    random = np.random.default_rng(0)
    asked, missed = 0, 0
    for name in BODIES:
        rig = rigs.load(name)
        rest = rig.rest.copy()
        rest[:, :3, 3] += 0.003 * np.ptp(rig.heads[:, 2]) * random.normal(size=(len(rest), 3))
        blind, back = nameless(replace(rig, rest=rest))
        count, wrong = recall(rig, blind, back, CORE)
        asked, missed = asked + count, missed + len(wrong)
    assert missed < 0.03 * asked


@given(st.sampled_from(BODIES), st.floats(-3.14, 3.14), st.integers(0, 9), st.floats(0.01, 100))
@settings(max_examples=20)
def test_facing_unit_and_order_of_bones_do_not_matter(name: str, angle: float, seed: int, scale: float) -> None:
    rig = rigs.load(name)
    blind, back = nameless(turned(rig, angle, scale), seed)
    assert recall(rig, blind, back, CORE)[1] == []


def test_a_sitting_character_is_read() -> None:
    rig = rigs.load("understudy")
    bend = {f"thigh.{side}": [-1.4, 0.0, 0.0] for side in SIDES} | {f"shin.{side}": [1.4, 0.0, 0.0] for side in SIDES}
    arms = {"upper_arm.L": [0.0, 1.2, 0.0], "upper_arm.R": [0.0, -1.2, 0.0], "forearm.L": [0.0, 0.0, -0.8]}
    sitting = posed(rig, bend | arms)
    blind, back = nameless(sitting)
    assert recall(rig, blind, back, CORE)[1] == []


def test_a_stride_and_a_bent_arm_at_rest_are_read() -> None:
    rig = rigs.load("understudy")
    legs = {"thigh.L": [-0.5, 0.0, 0.0], "thigh.R": [0.4, 0.0, 0.0], "shin.R": [0.5, 0.0, 0.0]}
    arms = {"upper_arm.L": [0.0, 1.2, 0.0], "upper_arm.R": [0.0, -1.2, 0.0], "forearm.R": [-1.2, 0.0, 0.0]}
    blind, back = nameless(turned(posed(rig, legs | arms), 1.0))
    assert recall(rig, blind, back, CORE)[1] == []


@pytest.mark.parametrize("kind", ["adult", "child", "giant"])
def test_people_of_other_proportions_are_read(kind: str) -> None:
    rig = person(kind)
    blind, back = nameless(rig)
    assert recall(rig, blind, back, CORE + DIGITS)[1] == []


def test_crooked_rest_poses_of_fifteen_degrees_in_every_joint_are_read() -> None:
    rig = rigs.load("understudy")
    random = np.random.default_rng(5)
    for seed in range(12):
        vectors = np.radians(15.0) / np.sqrt(3.0) * random.uniform(-1.0, 1.0, (len(rig.names), 3))
        bends = {name: vector for name, vector in zip(rig.names, vectors, strict=True) if name != "hips"}
        blind, back = nameless(posed(rig, bends), seed)
        assert recall(rig, blind, back, CORE)[1] == []


def test_hair_skirt_wings_tail_and_a_weapon_are_no_limbs() -> None:
    rig = rigs.load("mixamo_full")
    prefix = "mixamorig1:"
    for sign in (1.0, -1.0):
        rig = grown(rig, prefix + "Spine2", [[sign * x, 0.2 + x / 4, 1.4 + x] for x in (0.1, 0.4, 0.8)], f"w{sign}")
        rig = grown(rig, prefix + "Head", [[sign * 0.1, 0.1, z] for z in (1.7, 1.4, 1.1, 0.8)], f"p{sign}")
        rig = grown(rig, prefix + "Hips", [[sign * 0.14, -0.1, z] for z in (0.95, 0.75, 0.55)], f"s{sign}")
    rig = grown(rig, prefix + "Hips", [[0.0, y, 0.9 - y / 2] for y in (0.1, 0.3, 0.6, 0.9)], "t")
    rig = grown(rig, prefix + "RightHand", [[-0.8, y, 1.44] for y in (0.0, -0.6, -1.2)], "sword")
    for mapped in (nameless(rig), (rig, {name: name for name in rig.names})):
        truth = map_rig(rigs.load("mixamo_full")).mapping.bones
        found = map_rig(mapped[0]).mapping.bones
        assert {role: tuple(mapped[1][bone] for bone in found.get(role, ())) for role in CORE} == {
            role: truth[role] for role in CORE
        }


def test_metacarpals_corrective_bones_and_ik_bones_stay_unmapped() -> None:
    mapped = set(map_rig(rigs.load("metahuman")).mapping.role_of())
    assert not [bone for bone in mapped if "metacarpal" in bone or "corrective" in bone or bone.startswith("ik_")]


def test_segments_of_a_limb_are_its_chain_and_bones_beside_it_its_twist() -> None:
    daz, arp = (map_rig(rigs.load(name)).mapping.bones for name in ("daz_genesis8", "auto_rig_pro_game"))
    assert daz["upper_arm.L"] == ("lShldrBend", "lShldrTwist")
    assert arp["upper_arm.L"] == ("c_arm_twist_offset.l", "arm_stretch.l")
    assert arp["thigh.R"] == ("thigh_twist.r", "thigh_stretch.r")
    humanoid = map_rig(rigs.load("auto_rig_pro")).mapping.bones
    assert (humanoid["upper_arm.L"], humanoid["upper_arm_twist.L"]) == (("arm_stretch.l",), ("arm_twist.l",))
    unreal = map_rig(rigs.load("unreal5")).mapping.bones
    assert unreal["forearm_twist.L"] == ("lowerarm_twist_02_l", "lowerarm_twist_01_l")  # as they lie, not as counted


def test_five_separate_toes_stay_with_the_foot() -> None:
    rig = rigs.load("makehuman")
    assert "toe.L" not in map_rig(rig).mapping.bones
    few = without(rig, *(name for name in rig.names if name.startswith("toe") and not name.startswith("toe1-1")))
    assert map_rig(few).mapping.bones["toe.L"] == ("toe1-1.L",)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mixamo", lambda bone: bone.replace("mixamorig:", "")),
        ("mixamo", lambda bone: bone.replace("mixamorig:", "mixamorig12:")),
        ("mixamo", lambda bone: "Armature|" + bone),
        ("mixamo", lambda bone: bone.replace("mixamorig:", "").upper()),
        ("unreal5", lambda bone: "SK_" + bone.title()),
        ("biped", lambda bone: bone.replace(" ", "_").replace("Bip01", "Bip002")),
        ("character_creator", lambda bone: bone.removeprefix("CC_Base_")),
        ("vroid", lambda bone: bone.removeprefix("J_Bip_")),
        ("rigify_meta", lambda bone: bone.replace(".L", "_left").replace(".R", "_right")),
        ("human_ik", lambda bone: bone.replace("Character1:", "hero_rig:Character1_")),
    ],
)
def test_prefix_case_separators_and_the_way_of_naming_sides_do_not_matter(name: str, change) -> None:
    rig = rigs.load(name)
    other = renamed(rig, {bone: change(bone) for bone in rig.names})
    match = map_rig(other)
    truth = map_rig(rig).mapping
    assert match.how == "preset"
    assert {role: tuple(map(change, chain)) for role, chain in truth.bones.items()} == match.mapping.bones


def test_names_that_mean_another_bone_elsewhere_are_not_confused() -> None:
    rig = rigs.load("vrm")
    cats = mappings()["VRChat, CATS"]
    names = {
        bone: other
        for role, chain in map_rig(rig).mapping.bones.items()
        for bone, other in zip(chain, cats.bones[role], strict=True)
    }
    match = map_rig(renamed(rig, names))  # its "Left leg" is a thigh, in HumanIK "LeftLeg" is a shin
    assert (match.mapping.name, match.mapping.bones["thigh.L"]) == ("VRChat, CATS", ("Left leg",))
    assert match.notes == ()


def test_bones_that_only_mark_an_end_are_never_mapped() -> None:
    for name in ("mixamo_full", "biped", "xsens", "rokoko", "cgspeed"):
        mapped = map_rig(rigs.load(name)).mapping.role_of()
        assert not [bone for bone in mapped if bone.endswith(("End", "Nub", "Tip"))]


def test_roles_that_names_leave_empty_are_filled_by_structure() -> None:
    rig = rigs.load("unreal4")
    odd = {f"{finger}_0{i}_l": f"digit_{finger[0]}{i}_l" for finger in ("thumb", "index") for i in (1, 2, 3)}
    mapping = map_rig(renamed(rig, {**odd, "neck_01": "collum"})).mapping
    assert mapping.bones["neck"] == ("collum",)
    assert mapping.bones["thumb.L"] == tuple(odd[f"thumb_0{i}_l"] for i in (1, 2, 3))
    assert mapping.bones["index.L"] == tuple(odd[f"index_0{i}_l"] for i in (1, 2, 3))


def test_more_bones_of_the_spine_than_a_mapping_names_join_its_chain() -> None:
    rig = renamed(rigs.load("unreal5"), {"spine_02": "back_a", "spine_04": "back_b", "neck_02": "throat"})
    bones = map_rig(rig).mapping.bones
    assert bones["spine"] == ("spine_01", "back_a", "spine_03", "back_b", "spine_05")
    assert bones["neck"] == ("neck_01", "throat")


def test_limbs_named_for_the_wrong_side_are_exchanged_and_said() -> None:
    rig = rigs.load("mixamo")
    arms = [name for name in rig.names if any(part in name for part in ("Arm", "Hand", "Shoulder"))]
    swap = {name: name.replace("Left", "?").replace("Right", "Left").replace("?", "Right") for name in arms}
    match = map_rig(renamed(rig, swap))
    truth = map_rig(rig).mapping.bones
    assert match.mapping.bones["hand.L"] == tuple(swap[bone] for bone in truth["hand.L"])
    assert match.mapping.bones["index.R"] == tuple(swap[bone] for bone in truth["index.R"])
    assert match.mapping.bones["thigh.L"] == truth["thigh.L"]
    assert len(match.notes) == 1
    assert "'mixamorig:LeftArm' is on the character's right" in match.notes[0]


def test_a_character_whose_back_is_named_its_front_is_exchanged_as_a_whole() -> None:
    rig = rigs.load("unreal4")
    swap = {name: name[:-2] + {"_l": "_r", "_r": "_l"}[name[-2:]] for name in rig.names if name.endswith(("_l", "_r"))}
    match = map_rig(renamed(rig, swap))
    assert match.mapping.bones["foot.L"] == ("foot_r",)
    assert len(match.notes) == 2


def test_a_source_is_read_off_the_bones_that_move() -> None:
    rig = rigs.load("rigify_generated")
    assert map_rig(rig, evaluated=True).mapping.name == "Rigify deforming bones"
    assert map_rig(rig, evaluated=True).notes == ()


def blind_control_rig() -> tuple[Rig, dict[str, str], dict[str, np.ndarray]]:
    """Rigify's generated rig without names: 706 bones, most of them copies of others, the skin's in pieces."""
    name = "rigify_generated"
    rig = rigs.load(name)
    blind, back = nameless(rig)
    rows = [rig.index[back[bone]] for bone in blind.names]
    return blind, back, {"deform": rigs.deform(name)[rows], "held": rigs.held(name)[rows]}


def test_structure_alone_reads_the_skins_bones_of_a_control_rig() -> None:
    blind, back, masks = blind_control_rig()
    truth = map_rig(rigs.load("rigify_generated"), evaluated=True).mapping.bones
    found = map_rig(blind, deform=masks["deform"], held=masks["held"], evaluated=True).mapping.bones
    assert {role: tuple(back[bone] for bone in found[role]) for role in truth} == truth


def test_structure_alone_finds_the_limbs_that_no_constraint_moves() -> None:
    blind, back, masks = blind_control_rig()
    truth = map_rig(rigs.load("rigify_generated")).mapping.bones
    found = map_rig(blind, deform=masks["deform"], held=masks["held"]).mapping.bones
    for role in (f"{part}.{side}" for side in SIDES for part in PARTS if part not in ("shoulder", "toe")):
        assert tuple(back[bone] for bone in found[role]) == truth[role], role


def test_bones_that_constraints_move_are_told() -> None:
    rig = rigs.load("mixamo")
    held = np.array(["Arm" in name for name in rig.names])
    (note,) = map_rig(rig, held=held).notes
    assert "'mixamorig:LeftArm'" in note


def test_a_mapping_of_the_users_own_is_preferred_where_it_fits_better() -> None:
    own = replace(mappings()["Mixamo"], name="Mine", bones={**mappings()["Mixamo"].bones, "root": ("mixamorig:Hips0",)})
    rig = renamed(rigs.load("mixamo"), {})
    rig = replace(
        rig, names=("mixamorig:Hips0", *rig.names), parents=np.concatenate([[-1], rig.parents + 1]),
        rest=np.concatenate([np.eye(4)[None], rig.rest]), lengths=np.concatenate([[0.1], rig.lengths]),
        inherit_rotation=None,
    )  # fmt: skip
    assert map_rig(rig, presets=[own]).mapping.name == "Mine"


# What is no person ----------------------------------------------------------------------------------------------------


def quadruped() -> Rig:
    """A dog: four legs, a level spine, a head in front, a tail."""
    rig = Rig(("hips",), np.array([-1]), np.eye(4)[None], np.array([0.1]))
    rig.rest[0, :3, 3] = [0.0, 0.4, 0.7]
    rig = grown(rig, "hips", [[0.0, 0.15, 0.72], [0.0, -0.1, 0.72], [0.0, -0.3, 0.7]], "back")
    rig = grown(rig, "back2", [[0.0, -0.45, 0.85], [0.0, -0.6, 0.95]], "neck")
    rig = grown(rig, "hips", [[0.0, 0.5, 0.7], [0.0, 0.7, 0.75]], "tail")
    for sign, side in ((1.0, "_l"), (-1.0, "_r")):
        hind = [[sign * 0.1, y, z] for y, z in ((0.4, 0.6), (0.35, 0.35), (0.45, 0.1), (0.38, 0.02))]
        front = [[sign * 0.1, y, z] for y, z in ((-0.3, 0.6), (-0.25, 0.35), (-0.3, 0.1), (-0.37, 0.02))]
        rig = grown(grown(rig, "hips", hind, f"hind{side}"), "back2", front, f"fore{side}")
    return rig


def test_a_quadruped_is_refused_by_its_feet() -> None:
    with pytest.raises(InputError, match="stands on four legs: 'fore_[lr]3' and 'fore_[lr]3'") as caught:
        map_rig(quadruped())
    assert caught.value.hint


@pytest.mark.parametrize("animal", ["basic_quadruped", "cat", "horse", "horse_generated", "wolf"])
@pytest.mark.parametrize("blind", [False, True])
def test_rigifys_animals_are_refused(animal: str, blind: bool) -> None:
    rig = rigs.load(f"animals/{animal}")
    with pytest.raises(InputError, match="stands on four legs"):
        map_rig(nameless(rig)[0] if blind else rig)


def test_a_shark_is_refused() -> None:
    with pytest.raises(InputError, match="Only one pair of limbs was found, 'shoulder.L' and 'shoulder.R'"):
        map_rig(rigs.load("animals/shark"))
    with pytest.raises(InputError, match="does not stand upright at rest: '.*' is hardly higher than '.*'"):
        find_structure(rigs.load("animals/shark"))


@pytest.mark.parametrize("blind", [False, True])
def test_two_heads_are_refused_by_name(blind: bool) -> None:
    rig = rigs.load("mixamo")
    neck, head = rig.heads[rig.index["mixamorig:Neck"]], rig.heads[rig.index["mixamorig:Head"]]
    single = without(rig, "mixamorig:Neck", "mixamorig:Head")
    both = single
    for sign in (1.0, -1.0):
        aside = np.array([sign * 0.12, 0.0, 0.0])
        both = grown(both, "mixamorig:Spine2", [list(neck + aside), list(head + 1.2 * aside)], f"head{sign:+.0f}_")
    with pytest.raises(InputError, match="two heads: '.*' and '.*' rise beside each other from"):
        map_rig(nameless(both)[0] if blind else both)


def test_a_body_without_a_spine_is_refused() -> None:
    rig = rigs.load("mixamo")
    trunk = [f"mixamorig:{name}" for name in ("Spine", "Spine1", "Spine2")]
    with pytest.raises(InputError, match="There is no spine: .* hang from one bone, 'mixamorig:Hips'") as caught:
        map_rig(without(rig, *trunk))
    assert "between the hips and the shoulders" in caught.value.hint


def test_a_body_without_arms_or_legs_is_refused() -> None:
    rig = rigs.load("mixamo")
    arms = [name for name in rig.names if any(part in name for part in ("Arm", "Hand", "Shoulder"))]
    with pytest.raises(
        InputError, match="Only one pair of limbs was found, 'mixamorig:LeftUpLeg' and 'mixamorig:RightUpLeg'"
    ):
        map_rig(without(rig, *arms))
    legs = [name for name in rig.names if any(part in name for part in ("Leg", "Foot", "Toe"))]
    with pytest.raises(InputError, match="Only one pair of limbs was found, 'mixamorig:LeftShoulder'"):
        map_rig(without(rig, *legs))


@pytest.mark.parametrize("count", [1, 3, 12])
def test_a_few_bones_in_a_row_are_refused(count: int) -> None:
    rig = Rig(("a",), np.array([-1]), np.eye(4)[None], np.array([0.1]))
    rig = grown(rig, "a", [[0.0, 0.0, 0.1 * n] for n in range(1, count)], "b") if count > 1 else rig
    with pytest.raises(InputError):
        map_rig(rig)


# Speed ----------------------------------------------------------------------------------------------------------------


def test_seven_hundred_bones_take_less_than_a_tenth_of_a_second() -> None:
    rig = rigs.load("rigify_generated")
    mappings()
    times = []
    for _ in range(3):
        started = time.process_time()
        map_rig(rig, held=rigs.held("rigify_generated"), deform=rigs.deform("rigify_generated"))
        map_rig(rig, evaluated=True)
        times.append(time.process_time() - started)
    assert min(times) < 0.2


def test_needed_roles_are_there_in_every_known_mapping() -> None:
    for mapping in mappings().values():
        assert not [role for role in NEEDED_ROLES if not mapping.bones.get(role)], mapping.name


def test_a_short_joint_inside_the_pelvis_is_no_part_of_the_thigh():
    whole = rigs.load("understudy")
    names, parents, rest, lengths = list(whole.names), list(whole.parents), list(whole.rest), list(whole.lengths)
    for side in SIDES:
        thigh = names.index(f"thigh.{side}")
        place = rest[thigh].copy()
        place[:3, 3] += [0.0, 0.022, 0.018]
        names.append(f"buttock.{side}")
        parents.append(parents[thigh])
        rest.append(place)
        lengths.append(0.03)
        parents[thigh] = len(names) - 1
    order = [row for row in range(len(names)) if "buttock" not in names[row] and row == 0]
    order += [row for row in range(len(names)) if "buttock" in names[row]]
    order += [row for row in range(1, len(names)) if "buttock" not in names[row]]
    place = {row: index for index, row in enumerate(order)}
    rig = Rig(
        tuple(f"j{index}" for index in range(len(order))),
        np.array([-1 if parents[row] < 0 else place[parents[row]] for row in order]),
        np.array([rest[row] for row in order]), np.array([lengths[row] for row in order]),
    )  # fmt: skip
    found = map_rig(rig, evaluated=True).mapping
    for side in SIDES:
        assert found.bones[f"thigh.{side}"] == (f"j{place[names.index(f'thigh.{side}')]}",)
