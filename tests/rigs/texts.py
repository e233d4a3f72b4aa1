"""The rigs of `written.py`, one after another."""

from __future__ import annotations

import math

from tests.rigs.written import FINGERS, Written


def fingers(pattern: str, hand: str, names: tuple[str, ...], *, count: int = 3, base: str = "", end: str = "") -> str:
    """Lines of five fingers.

    pattern: a bone's name with FINGER and NUMBER in it; base: the metacarpal's name with FINGER in it; end: that of
    the bone at the tip.
    """
    lines = []
    for landmark, name in zip(FINGERS, names, strict=True):
        parent, thumb = hand, landmark == "thumb"
        if base and not thumb:
            metacarpal = base.replace("FINGER", name)
            lines.append(f"{metacarpal} < {hand} @ {landmark}0")
            parent = metacarpal
        for number in range(1, count + 1):
            bone = pattern.replace("FINGER", name).replace("NUMBER", str(number))
            lines.append(f"{bone} < {parent} @ {landmark}{number - thumb}")
            parent = bone
        if end:
            tip = end.replace("FINGER", name)
            lines.append(f"{tip} < {parent} @ {landmark}{count + 1 - thumb}")
    return "\n".join(lines)


WORDS = (("Left",), ("Right",))
SHORT = (("l",), ("r",))
DOT = ((".l",), (".r",))
LETTER = (("L",), ("R",))
USUAL = ("Thumb", "Index", "Middle", "Ring", "Pinky")

HUMAN_IK = """
{0}UpLeg < Hips @ hip
{0}Leg < {0}UpLeg @ knee
{0}Foot < {0}Leg @ ankle
{0}ToeBase < {0}Foot @ ball
Spine < Hips @ back
Spine1 < Spine @ back>nape:0.33
Spine2 < Spine1 @ back>nape:0.66
{0}Shoulder < Spine2 @ clavicle
{0}Arm < {0}Shoulder @ shoulder
{0}ForeArm < {0}Arm @ elbow
{0}Hand < {0}ForeArm @ wrist
Neck < Spine2 @ nape
Head < Neck @ skull
"""
MIXAMO = (
    "Hips < @ hips"
    + HUMAN_IK
    + "HeadTop_End < Head @ crown\n{0}Toe_End < {0}ToeBase @ toe_end\n"
    + fingers("{0}HandFINGERNUMBER", "{0}Hand", USUAL, count=4)
)
HIK = (
    "Reference < @ floor\nHips < Reference @ hips"
    + HUMAN_IK.replace("Shoulder < Spine2", "Shoulder < Spine3").replace("Neck < Spine2", "Neck < Spine3")
    + """Spine3 < Spine2 @ back>nape:0.8
Neck1 < Neck @ nape>skull:0.5
{0}ArmRoll < {0}Arm @ shoulder>elbow:0.5
{0}ForeArmRoll < {0}ForeArm @ elbow>wrist:0.5
{0}UpLegRoll < {0}UpLeg @ hip>knee:0.5
{0}LegRoll < {0}Leg @ knee>ankle:0.5
"""
    + fingers("{0}HandFINGERNUMBER", "{0}Hand", USUAL, base="{0}InHandFINGER")
).replace("Head < Neck @", "Head < Neck1 @")


def prefixed(text: str, prefix: str) -> str:
    """The same bones with something before each name."""
    lines = []
    for line in text.strip().splitlines():
        left, _, where = line.partition("@")
        name, _, parent = (part.strip() for part in left.partition("<"))
        lines.append(f"{prefix}{name} < {prefix + parent if parent else ''} @ {where}")
    return "\n".join(lines)


UNREAL_LIMBS = """
clavicle_{0} < CHEST @ clavicle
upperarm_{0} < clavicle_{0} @ shoulder
lowerarm_{0} < upperarm_{0} @ elbow
hand_{0} < lowerarm_{0} @ wrist
thigh_{0} < pelvis @ hip
calf_{0} < thigh_{0} @ knee
foot_{0} < calf_{0} @ ankle
ball_{0} < foot_{0} @ ball
ik_foot_root < root @ floor
ik_foot_{0} < ik_foot_root @ ankle
ik_hand_root < root @ floor
ik_hand_gun < ik_hand_root @ wrist
ik_hand_{0} < ik_hand_gun @ wrist
"""
UNREAL_NAMES = ("thumb", "index", "middle", "ring", "pinky")
UNREAL4 = (
    """root < @ floor
pelvis < root @ hips
spine_01 < pelvis @ back
spine_02 < spine_01 @ back>nape:0.3
spine_03 < spine_02 @ back>nape:0.6
neck_01 < spine_03 @ nape
head < neck_01 @ skull"""
    + UNREAL_LIMBS.replace("CHEST", "spine_03")
    + """upperarm_twist_01_{0} < upperarm_{0} @ shoulder
lowerarm_twist_01_{0} < lowerarm_{0} @ elbow>wrist:0.6
thigh_twist_01_{0} < thigh_{0} @ hip
calf_twist_01_{0} < calf_{0} @ knee>ankle:0.6
"""
    + fingers("FINGER_0NUMBER_{0}", "hand_{0}", UNREAL_NAMES)
)
UNREAL5 = (
    """root < @ floor
pelvis < root @ hips
spine_01 < pelvis @ back
spine_02 < spine_01 @ back>nape:0.15
spine_03 < spine_02 @ back>nape:0.35
spine_04 < spine_03 @ back>nape:0.5
spine_05 < spine_04 @ back>nape:0.75
neck_01 < spine_05 @ nape
neck_02 < neck_01 @ nape>skull:0.5
head < neck_02 @ skull"""
    + UNREAL_LIMBS.replace("CHEST", "spine_05")
    + """upperarm_twist_01_{0} < upperarm_{0} @ shoulder>elbow:0.35
upperarm_twist_02_{0} < upperarm_{0} @ shoulder>elbow:0.7
lowerarm_twist_01_{0} < lowerarm_{0} @ elbow>wrist:0.7
lowerarm_twist_02_{0} < lowerarm_{0} @ elbow>wrist:0.35
thigh_twist_01_{0} < thigh_{0} @ hip>knee:0.35
thigh_twist_02_{0} < thigh_{0} @ hip>knee:0.7
calf_twist_01_{0} < calf_{0} @ knee>ankle:0.7
calf_twist_02_{0} < calf_{0} @ knee>ankle:0.35
interaction < root @ floor
center_of_mass < root @ hips
"""
    + fingers("FINGER_0NUMBER_{0}", "hand_{0}", UNREAL_NAMES, base="FINGER_metacarpal_{0}")
)
METAHUMAN = (
    UNREAL5
    + """
upperarm_correctiveRoot_{0} < upperarm_{0} @ shoulder
upperarm_bck_{0} < upperarm_correctiveRoot_{0} @ shoulder
upperarm_fwd_{0} < upperarm_correctiveRoot_{0} @ shoulder
upperarm_out_{0} < upperarm_correctiveRoot_{0} @ shoulder
lowerarm_correctiveRoot_{0} < lowerarm_{0} @ elbow
lowerarm_in_{0} < lowerarm_correctiveRoot_{0} @ elbow
lowerarm_out_{0} < lowerarm_correctiveRoot_{0} @ elbow
wrist_inner_{0} < hand_{0} @ wrist
wrist_outer_{0} < hand_{0} @ wrist
thigh_correctiveRoot_{0} < thigh_{0} @ hip
thigh_bck_{0} < thigh_correctiveRoot_{0} @ hip
thigh_fwd_{0} < thigh_correctiveRoot_{0} @ hip
calf_correctiveRoot_{0} < calf_{0} @ knee
calf_kneeBack_{0} < calf_correctiveRoot_{0} @ knee
calf_knee_{0} < calf_correctiveRoot_{0} @ knee
clavicle_pec_{0} < spine_05 @ clavicle>breast:0.5
spine_04_latissimus_{0} < spine_04 @ clavicle>shoulder:0.6
clavicle_out_{0} < clavicle_{0} @ shoulder
clavicle_scap_{0} < clavicle_{0} @ shoulder
ankle_bck_{0} < foot_{0} @ heel
ankle_fwd_{0} < foot_{0} @ ankle
bigtoe_01_{0} < ball_{0} @ ball
bigtoe_02_{0} < bigtoe_01_{0} @ toe_end
littletoe_01_{0} < ball_{0} @ ball
FACIAL_C_Neck1Root < neck_01 @ nape
FACIAL_C_Neck2Root < neck_02 @ nape>skull:0.5
FACIAL_C_FacialRoot < head @ skull
FACIAL_{1}_Eye < FACIAL_C_FacialRoot @ eye
FACIAL_C_Jaw < FACIAL_C_FacialRoot @ jaw
"""
)
VROID = """Root < @ floor
J_Bip_C_Hips < Root @ hips
J_Bip_C_Spine < J_Bip_C_Hips @ back
J_Bip_C_Chest < J_Bip_C_Spine @ back>nape:0.3
J_Bip_C_UpperChest < J_Bip_C_Chest @ back>nape:0.6
J_Bip_C_Neck < J_Bip_C_UpperChest @ nape
J_Bip_C_Head < J_Bip_C_Neck @ skull
J_Adj_{0}_FaceEye < J_Bip_C_Head @ eye
J_Sec_Hair1_01 < J_Bip_C_Head @ hair
J_Sec_Hair2_01 < J_Sec_Hair1_01 @ hair>hair_end:0.5
J_Sec_Hair3_01 < J_Sec_Hair2_01 @ hair_end
J_Sec_{0}_Bust1 < J_Bip_C_UpperChest @ clavicle>breast:0.7
J_Sec_{0}_Bust2 < J_Sec_{0}_Bust1 @ breast
J_Bip_{0}_Shoulder < J_Bip_C_UpperChest @ clavicle
J_Bip_{0}_UpperArm < J_Bip_{0}_Shoulder @ shoulder
J_Bip_{0}_LowerArm < J_Bip_{0}_UpperArm @ elbow
J_Bip_{0}_Hand < J_Bip_{0}_LowerArm @ wrist
J_Bip_{0}_UpperLeg < J_Bip_C_Hips @ hip
J_Sec_{0}_SkirtFront1_01 < J_Bip_C_Hips @ skirt
J_Sec_{0}_SkirtFront2_01 < J_Sec_{0}_SkirtFront1_01 @ skirt>hem:0.5
J_Sec_{0}_SkirtFront3_01 < J_Sec_{0}_SkirtFront2_01 @ hem
J_Bip_{0}_LowerLeg < J_Bip_{0}_UpperLeg @ knee
J_Bip_{0}_Foot < J_Bip_{0}_LowerLeg @ ankle
J_Bip_{0}_ToeBase < J_Bip_{0}_Foot @ ball
""" + fingers("J_Bip_{0}_FINGERNUMBER", "J_Bip_{0}_Hand", ("Thumb", "Index", "Middle", "Ring", "Little"))


def vrm_fingers() -> str:
    """VRM 1.0's names of the fingers."""
    lines = []
    for landmark in FINGERS:
        thumb = landmark == "thumb"
        parts = ("Metacarpal", "Proximal", "Distal") if thumb else ("Proximal", "Intermediate", "Distal")
        parent = "{0}Hand"
        for number, part in enumerate(parts, start=1 - thumb):
            name = "{0}" + landmark.capitalize() + part
            lines.append(f"{name} < {parent} @ {landmark}{number}")
            parent = name
    return "\n".join(lines)


VRM = """hips < @ hips
spine < hips @ back
chest < spine @ back>nape:0.3
upperChest < chest @ back>nape:0.6
neck < upperChest @ nape
head < neck @ skull
{0}Eye < head @ eye
jaw < head @ jaw
{0}Shoulder < upperChest @ clavicle
{0}UpperArm < {0}Shoulder @ shoulder
{0}LowerArm < {0}UpperArm @ elbow
{0}Hand < {0}LowerArm @ wrist
{0}UpperLeg < hips @ hip
{0}LowerLeg < {0}UpperLeg @ knee
{0}Foot < {0}LowerLeg @ ankle
{0}Toes < {0}Foot @ ball
""" + vrm_fingers()
ARP_NAMES = ("thumb", "index", "middle", "ring", "pinky")
ARP_EXPORT = """root.x < @ hips
spine_01.x < root.x @ back
spine_02.x < spine_01.x @ back>nape:0.3
spine_03.x < spine_02.x @ back>nape:0.6
neck.x < spine_03.x @ nape
head.x < neck.x @ skull
shoulder{0} < spine_03.x @ clavicle
arm_stretch{0} < shoulder{0} @ shoulder
arm_twist{0} < arm_stretch{0} @ shoulder>elbow:0.5
forearm_stretch{0} < arm_stretch{0} @ elbow
forearm_twist{0} < forearm_stretch{0} @ elbow>wrist:0.5
hand{0} < forearm_stretch{0} @ wrist
thigh_stretch{0} < root.x @ hip
thigh_twist{0} < thigh_stretch{0} @ hip>knee:0.5
leg_stretch{0} < thigh_stretch{0} @ knee
leg_twist{0} < leg_stretch{0} @ knee>ankle:0.5
foot{0} < leg_stretch{0} @ ankle
toes_01{0} < foot{0} @ ball
""" + fingers("FINGERNUMBER{0}", "hand{0}", ARP_NAMES, base="FINGER1_base{0}")
# The twist bones are the limbs' first segments in exports for game engines.
_GAME_HIERARCHY = (
    ("arm_stretch{0} < shoulder{0} @ shoulder\n", "c_arm_twist_offset{0} < shoulder{0} @ shoulder\n"),
    ("\narm_twist{0} < arm_stretch{0} @", "\narm_stretch{0} < c_arm_twist_offset{0} @"),
    ("\nhand{0} < forearm_stretch{0}", "\nhand{0} < forearm_twist{0}"),
    ("thigh_stretch{0} < root.x @ hip\nthigh_twist{0} < thigh_stretch{0}",
     "thigh_twist{0} < root.x @ hip\nthigh_stretch{0} < thigh_twist{0}"),
    ("\nfoot{0} < leg_stretch{0}", "\nfoot{0} < leg_twist{0}"),
)  # fmt: skip


def arp_game() -> str:
    """The export for game engines."""
    text = ARP_EXPORT
    for before, after in _GAME_HIERARCHY:
        assert before in text
        text = text.replace(before, after)
    return text


ARP_CONTROLS = """c_pos < @ floor
c_traj < c_pos @ floor
c_root_master.x < c_traj @ hips
c_root.x < c_root_master.x @ back
c_root_bend.x < c_root.x @ hips
c_spine_01.x < c_root_master.x @ back
c_spine_02.x < c_spine_01.x @ back>nape:0.3
c_spine_03.x < c_spine_02.x @ back>nape:0.6
c_neck.x < c_spine_03.x @ nape
c_head.x < c_neck.x @ skull
c_jawbone.x < c_head.x @ jaw
c_eye{0} < c_head.x @ eye
c_shoulder{0} < c_spine_03.x @ clavicle
c_arm_fk{0} < c_shoulder{0} @ shoulder
c_forearm_fk{0} < c_arm_fk{0} @ elbow
c_hand_fk{0} < c_forearm_fk{0} @ wrist
arm{0} < c_shoulder{0} @ shoulder
forearm{0} < arm{0} @ elbow
hand{0} < forearm{0} @ wrist
arm_stretch{0} < arm{0} @ shoulder>elbow:0.5
c_hand_ik{0} < c_traj @ wrist
c_arms_pole{0} < c_traj @ shoulder>elbow:1.0
c_thigh_fk{0} < c_root.x @ hip
c_leg_fk{0} < c_thigh_fk{0} @ knee
c_foot_fk{0} < c_leg_fk{0} @ ankle
c_toes_fk{0} < c_foot_fk{0} @ ball
thigh{0} < c_root.x @ hip
leg{0} < thigh{0} @ knee
foot{0} < leg{0} @ ankle
c_thigh_b{0} < c_root.x @ hip
c_foot_ik{0} < c_traj @ ankle
c_foot_01{0} < c_foot_ik{0} @ ball
c_foot_roll_cursor{0} < c_foot_ik{0} @ heel
c_toes_ik{0} < c_foot_01{0} @ ball
c_leg_pole{0} < c_traj @ knee
""" + fingers("c_FINGERNUMBER{0}", "hand{0}", ARP_NAMES, base="c_FINGER1_base{0}")
CHARACTER_CREATOR = """CC_Base_BoneRoot < @ floor
CC_Base_Hip < CC_Base_BoneRoot @ hips
CC_Base_Pelvis < CC_Base_Hip @ hips
CC_Base_{0}_Thigh < CC_Base_Pelvis @ hip
CC_Base_{0}_Calf < CC_Base_{0}_Thigh @ knee
CC_Base_{0}_ThighTwist01 < CC_Base_{0}_Thigh @ hip>knee:0.25
CC_Base_{0}_ThighTwist02 < CC_Base_{0}_Thigh @ hip>knee:0.6
CC_Base_{0}_KneeShareBone < CC_Base_{0}_Calf @ knee
CC_Base_{0}_Foot < CC_Base_{0}_Calf @ ankle
CC_Base_{0}_CalfTwist01 < CC_Base_{0}_Calf @ knee>ankle:0.25
CC_Base_{0}_CalfTwist02 < CC_Base_{0}_Calf @ knee>ankle:0.6
CC_Base_{0}_ToeBase < CC_Base_{0}_Foot @ ball
CC_Base_{0}_ToeBaseShareBone < CC_Base_{0}_Foot @ ball
CC_Base_{0}_BigToe1 < CC_Base_{0}_ToeBase @ ball>toe_end:0.3
CC_Base_Waist < CC_Base_Hip @ back
CC_Base_Spine01 < CC_Base_Waist @ back>nape:0.3
CC_Base_Spine02 < CC_Base_Spine01 @ back>nape:0.6
CC_Base_NeckTwist01 < CC_Base_Spine02 @ nape
CC_Base_NeckTwist02 < CC_Base_NeckTwist01 @ nape>skull:0.5
CC_Base_Head < CC_Base_NeckTwist02 @ skull
CC_Base_FacialBone < CC_Base_Head @ skull
CC_Base_JawRoot < CC_Base_FacialBone @ jaw
CC_Base_{0}_Eye < CC_Base_FacialBone @ eye
CC_Base_{0}_RibsTwist < CC_Base_Spine02 @ clavicle>breast:0.6
CC_Base_{0}_Breast < CC_Base_{0}_RibsTwist @ breast
CC_Base_{0}_Clavicle < CC_Base_Spine02 @ clavicle
CC_Base_{0}_Upperarm < CC_Base_{0}_Clavicle @ shoulder
CC_Base_{0}_Forearm < CC_Base_{0}_Upperarm @ elbow
CC_Base_{0}_UpperarmTwist01 < CC_Base_{0}_Upperarm @ shoulder>elbow:0.25
CC_Base_{0}_UpperarmTwist02 < CC_Base_{0}_Upperarm @ shoulder>elbow:0.6
CC_Base_{0}_ElbowShareBone < CC_Base_{0}_Forearm @ elbow
CC_Base_{0}_Hand < CC_Base_{0}_Forearm @ wrist
CC_Base_{0}_ForearmTwist01 < CC_Base_{0}_Forearm @ elbow>wrist:0.25
CC_Base_{0}_ForearmTwist02 < CC_Base_{0}_Forearm @ elbow>wrist:0.6
""" + fingers("CC_Base_{0}_FINGERNUMBER", "CC_Base_{0}_Hand", ("Thumb", "Index", "Mid", "Ring", "Pinky"))
DAZ8 = """hip < @ back
pelvis < hip @ hips
{0}ThighBend < pelvis @ hip
{0}ThighTwist < {0}ThighBend @ hip>knee:0.45
{0}Shin < {0}ThighTwist @ knee
{0}Foot < {0}Shin @ ankle
{0}Metatarsals < {0}Foot @ ankle>ball:0.4
{0}Toe < {0}Metatarsals @ ball
{0}BigToe < {0}Toe @ ball>toe_end:0.3
{0}BigToe_2 < {0}BigToe @ ball>toe_end:0.7
{0}Heel < {0}Foot @ heel
abdomenLower < hip @ back>nape:0.05
abdomenUpper < abdomenLower @ back>nape:0.25
chestLower < abdomenUpper @ back>nape:0.45
chestUpper < chestLower @ back>nape:0.7
{0}Pectoral < chestLower @ breast
neckLower < chestUpper @ nape
neckUpper < neckLower @ nape>skull:0.5
head < neckUpper @ skull
upperTeeth < head @ jaw
lowerJaw < head @ jaw
{0}Eye < head @ eye
upperFaceRig < head @ skull
lowerFaceRig < lowerJaw @ jaw
{0}Collar < chestUpper @ clavicle
{0}ShldrBend < {0}Collar @ shoulder
{0}ShldrTwist < {0}ShldrBend @ shoulder>elbow:0.45
{0}ForearmBend < {0}ShldrTwist @ elbow
{0}ForearmTwist < {0}ForearmBend @ elbow>wrist:0.5
{0}Hand < {0}ForearmTwist @ wrist
{0}Carpal1 < {0}Hand @ index0
{0}Carpal2 < {0}Hand @ middle0
{0}Carpal3 < {0}Hand @ ring0
{0}Carpal4 < {0}Hand @ little0
""" + fingers("{0}FINGERNUMBER", "{0}Hand", ("Thumb", "Index", "Mid", "Ring", "Pinky")).replace(
    "Index1 < {0}Hand", "Index1 < {0}Carpal1"
).replace("Mid1 < {0}Hand", "Mid1 < {0}Carpal2").replace("Ring1 < {0}Hand", "Ring1 < {0}Carpal3").replace(
    "Pinky1 < {0}Hand", "Pinky1 < {0}Carpal4"
)
DAZ9 = """hip < @ back
pelvis < hip @ hips
{0}_thigh < pelvis @ hip
{0}_thightwist1 < {0}_thigh @ hip>knee:0.3
{0}_thightwist2 < {0}_thigh @ hip>knee:0.6
{0}_shin < {0}_thigh @ knee
{0}_foot < {0}_shin @ ankle
{0}_metatarsal < {0}_foot @ ankle>ball:0.4
{0}_toes < {0}_metatarsal @ ball
{0}_bigtoe1 < {0}_toes @ ball>toe_end:0.3
spine1 < hip @ back>nape:0.05
spine2 < spine1 @ back>nape:0.25
spine3 < spine2 @ back>nape:0.45
spine4 < spine3 @ back>nape:0.7
{0}_pectoral < spine3 @ breast
neck1 < spine4 @ nape
neck2 < neck1 @ nape>skull:0.5
head < neck2 @ skull
lowerjaw < head @ jaw
{0}_eye < head @ eye
{0}_shoulder < spine4 @ clavicle
{0}_upperarm < {0}_shoulder @ shoulder
{0}_upperarmtwist1 < {0}_upperarm @ shoulder>elbow:0.3
{0}_upperarmtwist2 < {0}_upperarm @ shoulder>elbow:0.6
{0}_forearm < {0}_upperarm @ elbow
{0}_forearmtwist1 < {0}_forearm @ elbow>wrist:0.3
{0}_forearmtwist2 < {0}_forearm @ elbow>wrist:0.6
{0}_hand < {0}_forearm @ wrist
""" + fingers("{0}_FINGERNUMBER", "{0}_hand", ("thumb", "index", "mid", "ring", "pinky"), base="{0}_FINGERmetacarpal")


def biped_fingers() -> str:
    """3ds Max counts fingers from the thumb, 0, and their links from nothing."""
    lines = []
    for number, landmark in enumerate(FINGERS):
        thumb, parent = landmark == "thumb", "PRE {0} Hand"
        for link, suffix in enumerate(("", "1", "2"), start=1 - thumb):
            name = f"PRE {{0}} Finger{number}{suffix}"
            lines.append(f"{name} < {parent} @ {landmark}{link}")
            parent = name
        lines.append(f"PRE {{0}} Finger{number}Nub < {parent} @ {landmark}{4 - thumb}")
    return "\n".join(lines)


BIPED = """PRE < @ hips
PRE Footsteps < PRE @ floor
PRE Pelvis < PRE @ hips
PRE Spine < PRE Pelvis @ back
PRE Spine1 < PRE Spine @ back>nape:0.3
PRE Spine2 < PRE Spine1 @ back>nape:0.6
PRE Neck < PRE Spine2 @ nape
PRE Head < PRE Neck @ skull
PRE HeadNub < PRE Head @ crown
PRE {0} Clavicle < PRE Neck @ clavicle
PRE {0} UpperArm < PRE {0} Clavicle @ shoulder
PRE {0} Forearm < PRE {0} UpperArm @ elbow
PRE {0} Hand < PRE {0} Forearm @ wrist
PRE {0} Thigh < PRE Spine @ hip
PRE {0} Calf < PRE {0} Thigh @ knee
PRE {0} Foot < PRE {0} Calf @ ankle
PRE {0} Toe0 < PRE {0} Foot @ ball
PRE {0} Toe0Nub < PRE {0} Toe0 @ toe_end
""" + biped_fingers()
BIPED_FLAT = (
    BIPED.replace("Thigh < PRE Spine", "Thigh < PRE Pelvis").replace("Clavicle < PRE Neck", "Clavicle < PRE Spine2")
    + """
PRE {0}UpArmTwist < PRE {0} UpperArm @ shoulder>elbow:0.5
PRE {0} ForeTwist < PRE {0} Forearm @ elbow>wrist:0.5
PRE Prop1 < PRE @ weapon
PRE Ponytail1 < PRE Head @ hair
PRE Ponytail11 < PRE Ponytail1 @ hair_end
"""
)


def rokoko_fingers() -> str:
    """Rokoko counts fingers from the thumb, 1."""
    lines = []
    for number, landmark in enumerate(FINGERS, start=1):
        thumb, parent = landmark == "thumb", "{0}Hand"
        parts = ("Proximal", "Medial", "Distal") if thumb else ("Metacarpal", "Proximal", "Medial", "Distal")
        for at, part in enumerate(parts):
            name = f"{{0}}Finger{number}{part}"
            lines.append(f"{name} < {parent} @ {landmark}{at}")
            parent = name
        lines.append(f"{{0}}Finger{number}Tip < {parent} @ {landmark}{len(parts)}")
    return "\n".join(lines)


ROKOKO = """Root < @ floor
Hips < Root @ hips
Spine1 < Hips @ back
Spine2 < Spine1 @ back>nape:0.2
Spine3 < Spine2 @ back>nape:0.4
Spine4 < Spine3 @ back>nape:0.7
Neck < Spine4 @ nape
Head < Neck @ skull
HeadTip < Head @ crown
{0}Shoulder < Spine4 @ clavicle
{0}Arm < {0}Shoulder @ shoulder
{0}ForeArm < {0}Arm @ elbow
{0}Hand < {0}ForeArm @ wrist
{0}Thigh < Hips @ hip
{0}Shin < {0}Thigh @ knee
{0}Foot < {0}Shin @ ankle
{0}Toe < {0}Foot @ ball
{0}ToeTip < {0}Toe @ toe_end
""" + rokoko_fingers()
XSENS = """Pelvis < @ hips
L5 < Pelvis @ back
L3 < L5 @ back>nape:0.2
T12 < L3 @ back>nape:0.4
T8 < T12 @ back>nape:0.6
Neck < T8 @ nape
Head < Neck @ skull
Head_End < Head @ crown
{0}Shoulder < T8 @ clavicle
{0}UpperArm < {0}Shoulder @ shoulder
{0}Forearm < {0}UpperArm @ elbow
{0}Hand < {0}Forearm @ wrist
{0}Hand_End < {0}Hand @ palm
{0}UpperLeg < Pelvis @ hip
{0}LowerLeg < {0}UpperLeg @ knee
{0}Foot < {0}LowerLeg @ ankle
{0}Toe < {0}Foot @ ball
{0}Toe_End < {0}Toe @ toe_end"""
XSENS_BVH = """Hips < @ hips
Chest < Hips @ back
Chest2 < Chest @ back>nape:0.2
Chest3 < Chest2 @ back>nape:0.4
Chest4 < Chest3 @ back>nape:0.6
Neck < Chest4 @ nape
Head < Neck @ skull
{0}Collar < Chest4 @ clavicle
{0}Shoulder < {0}Collar @ shoulder
{0}Elbow < {0}Shoulder @ elbow
{0}Wrist < {0}Elbow @ wrist
{0}Hip < Hips @ hip
{0}Knee < {0}Hip @ knee
{0}Ankle < {0}Knee @ ankle
{0}Toe < {0}Ankle @ ball"""
SMPL = """pelvis < @ hips
{0}_hip < pelvis @ hip
{0}_knee < {0}_hip @ knee
{0}_ankle < {0}_knee @ ankle
{0}_foot < {0}_ankle @ ball
spine1 < pelvis @ back
spine2 < spine1 @ back>nape:0.3
spine3 < spine2 @ back>nape:0.5
neck < spine3 @ nape
head < neck @ skull
{0}_collar < spine3 @ clavicle
{0}_shoulder < {0}_collar @ shoulder
{0}_elbow < {0}_shoulder @ elbow
{0}_wrist < {0}_elbow @ wrist
"""
SMPLX = (
    SMPL
    + "jaw < head @ jaw\n{0}_eye_smplhf < head @ eye\n"
    + fingers("{0}_FINGERNUMBER", "{0}_wrist", ("thumb", "index", "middle", "ring", "pinky"))
)
SMPL_FBX = """m_avg_root < @ floor
m_avg_Pelvis < m_avg_root @ hips
m_avg_{0}_Hip < m_avg_Pelvis @ hip
m_avg_{0}_Knee < m_avg_{0}_Hip @ knee
m_avg_{0}_Ankle < m_avg_{0}_Knee @ ankle
m_avg_{0}_Foot < m_avg_{0}_Ankle @ ball
m_avg_Spine1 < m_avg_Pelvis @ back
m_avg_Spine2 < m_avg_Spine1 @ back>nape:0.3
m_avg_Spine3 < m_avg_Spine2 @ back>nape:0.5
m_avg_Neck < m_avg_Spine3 @ nape
m_avg_Head < m_avg_Neck @ skull
m_avg_{0}_Collar < m_avg_Spine3 @ clavicle
m_avg_{0}_Shoulder < m_avg_{0}_Collar @ shoulder
m_avg_{0}_Elbow < m_avg_{0}_Shoulder @ elbow
m_avg_{0}_Wrist < m_avg_{0}_Elbow @ wrist
m_avg_{0}_Hand < m_avg_{0}_Wrist @ palm"""
CGSPEED = """Hips < @ hips
LowerBack < Hips @ back
Spine < LowerBack @ back>nape:0.3
Spine1 < Spine @ back>nape:0.6
Neck < Spine1 @ nape
Neck1 < Neck @ nape>skull:0.4
Head < Neck1 @ skull
Head_End < Head @ crown
{1}HipJoint < Hips @ hips
{0}UpLeg < {1}HipJoint @ hip
{0}Leg < {0}UpLeg @ knee
{0}Foot < {0}Leg @ ankle
{0}ToeBase < {0}Foot @ ball
{0}ToeBase_End < {0}ToeBase @ toe_end
{0}Shoulder < Spine1 @ nape
{0}Arm < {0}Shoulder @ shoulder
{0}ForeArm < {0}Arm @ elbow
{0}Hand < {0}ForeArm @ wrist
{0}FingerBase < {0}Hand @ wrist
{0}HandIndex1 < {0}FingerBase @ palm
{0}HandIndex1_End < {0}HandIndex1 @ index3
{1}Thumb < {0}Hand @ wrist
{1}Thumb_End < {1}Thumb @ thumb2"""
A_POSE = math.radians(45)

RIGS = (
    Written("mixamo_full", prefixed(MIXAMO, "mixamorig1:"), WORDS),
    Written("human_ik", prefixed(HIK, "Character1:"), WORDS, axes="x"),
    Written("unreal4", UNREAL4, SHORT, arms=A_POSE, axes="x"),
    Written("unreal5", UNREAL5, SHORT, arms=A_POSE, axes="x"),
    Written("metahuman", METAHUMAN, (("l", "L"), ("r", "R")), arms=A_POSE, axes="x"),
    Written("vroid", VROID, LETTER, height=0.9),
    Written("vrm", VRM, (("left",), ("right",)), axes="world"),
    Written("auto_rig_pro", ARP_EXPORT, DOT, arms=0.6),
    Written("auto_rig_pro_game", arp_game(), DOT, arms=0.6),
    Written("auto_rig_pro_controls", ARP_CONTROLS, DOT, arms=0.6),
    Written("character_creator", CHARACTER_CREATOR, LETTER, axes="odd"),
    Written("daz_genesis8", DAZ8, SHORT, arms=math.radians(35), axes="world", height=1.04),
    Written("daz_genesis9", DAZ9, SHORT, arms=A_POSE, axes="world"),
    Written("biped", BIPED.replace("PRE", "Bip01"), LETTER, axes="x", arms=1.3),
    Written("biped_flat", BIPED_FLAT.replace("PRE", "Bip001"), LETTER, axes="x"),
    Written("rokoko", ROKOKO, WORDS, axes="world"),
    Written("xsens", XSENS, WORDS, axes="odd"),
    Written("xsens_bvh", XSENS_BVH, WORDS, height=1.08),
    Written("smplx", SMPLX, (("left",), ("right",)), axes="world"),
    Written("smpl_fbx", SMPL_FBX, LETTER, axes="world"),
    Written("cgspeed", CGSPEED, (("Left", "L"), ("Right", "R")), axes="y", height=0.97),
)
