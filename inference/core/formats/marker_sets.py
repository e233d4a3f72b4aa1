"""What markers are called, and the joints inside of them.

Known are Plug-in Gait (with its medial markers and its joint centres), CMU's set, Helen Hayes, IOR (Leardini 2007),
ISB-style names (L_IAS, L_FLE ...), Qualisys' and OptiTrack's animation sets, OpenCap's, and joints by name as Pose2Sim,
OpenSim and OpenPose call them. Case, separators and subjects' prefixes do not matter.

Joint centres: hips by Harrington 2007 (J Biomech 40:595), from the width and depth of the pelvis; shoulders 17 % of the
distance between the acromia under them (Rab 2002, Gait Posture 15:225); knees, ankles, elbows and wrists halfway
between their two markers or, where there is one, half the average joint's width and half a marker inside of it, along
the axis about which the limb bends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..humanoid import DEFAULT, FINGERS, HEAD_POINTS
from ..rotations import rotate_onto, unit
from ..skeletons import OPENPOSE_137
from .layouts import named

Array = np.ndarray
MARKER_M = 0.007  # half a marker
_HALF_WIDTHS = {"knee": 0.050, "ankle": 0.035, "elbow": 0.035}  # of an average adult's joints, metres
_USUAL_LEG_M, _ASIS_OVER_HIP_M, _USUAL_HEIGHT_M = 0.85, 0.095, 1.75
_ROUNDS = 4
_BENT = (0.1, 0.28)  # sine of a limb's bending: what axis it bends about is unsure below, sure above
_FOOT_OF_TOE = 0.72  # from the heel, the head of the second metatarsal, in lengths of the foot
# '#' stands for L or R. Names in brackets are skin markers only in a set that has a pelvis; elsewhere they are joints.
_NAMES = {
    "asis": "#ASI #ASIS #IAS #SIAS #FWT WAIST#FRONT",
    "psis": "#PSI #PSIS #IPS #SIPS #BWT WAIST#BACK",
    "sacrum": "SACR SACRAL SAC SACRUM VSACRAL VSAC S1 MPSI MPSIS",
    "knee": "#KNE #KNEL #KNEELAT #KNELAT #KNEEL #LE #FLE #LFE #LFC #KNEEOUT #LATKNEE (#KNEE)",
    "knee_in": "#KNM #KNEM #KNEEMED #KNEMED #KNEEM #MKNE #MKNEE #ME #FME #MFE #MFC #KNEEIN #MEDKNEE",
    "ankle": "#ANK #ANKL #ANKLELAT #ANKLAT #ANKLEL #LM #LMAL #FAL #ANKLEOUT #LATANKLE (#ANKLE)",
    "ankle_in": "#ANM #ANKM #ANKMED #ANKLEMED #ANKLEM #MMA #MM #MMAL #TAM #ANKLEIN #MANK #MANKLE #MEDANKLE",
    "heel": "#HEE #HEEL #CA #CAL #CALC #FCC #HEELBACK",
    "toe": "#TOE #MT2 #SM #FM2 #2M #2MT #MTP2 #FOREFOOT2 #TOETIP #TOEMED",
    "mt1": "#MT1 #FM1 #FM #1M #MTP1 #D1M #FOREFOOT1 #FOREFOOTIN",
    "mt5": "#MT5 #FM5 #VM #5M #MTP5 #D5M #5META #FOREFOOT5 #FOREFOOTOUT #TOELAT",
    "shoulder": "#SHO #ACR #AC #ACROMION #ACROMIUM #SAE #CAJ #SHOULDERTOP (#SHOULDER)",
    "elbow": "#ELB #ELBL #ELBLAT #ELBOWLAT #HLE #LEL #LELB #LELBOW #ELBOWOUT #LATELBOW (#ELBOW)",
    "elbow_in": "#ELBM #ELBMED #ELBOWMED #HME #MEL #MELB #MELBOW #ELBOWIN #MEDELBOW",
    "wrist": "#WRI #WRS #WR (#WRIST)",
    "wrist_thumb": "#WRA #RSP #RST #IWR #WRISTRAD #WRISTIN #LWRIST",
    "wrist_little": "#WRB #USP #UST #OWR #WRISTULN #WRISTOUT #MWRIST",
    "knuckle": "#FIN #MC3 #HND #HAND #HANDOUT",
    "head_front": "#FHD #FHEAD",
    "head_back": "#BHD #BHEAD",
    "hip_centre": "#HJC #FEP #HIPJC #HIPCENTRE #HIPCENTER",
    "knee_centre": "#KJC #FEO #KNEEJC #KNEECENTRE #KNEECENTER",
    "ankle_centre": "#AJC #TIO #ANKLEJC #ANKLECENTRE #ANKLECENTER",
    "shoulder_centre": "#SJC #GH #GHJC #SHOULDERJC #SHOULDERCENTRE #SHOULDERCENTER",
    "elbow_centre": "#EJC #HUO #ELBOWJC #ELBOWCENTRE #ELBOWCENTER",
    "wrist_centre": "#WJC #RAO #WRISTJC #WRISTCENTRE #WRISTCENTER",
}
NEEDED = ("Shoulder", "Hip", "Knee", "Ankle")
SETS = "Plug-in Gait's LASI RASI LPSI RPSI LKNE LANK LSHO ... or joints such as LHip LKnee LAnkle LShoulder"


@dataclass(frozen=True)
class Markers:
    """Labelled points in space as a file has them.

    positions (T, M, 3) in `unit` ("" where the file does not say), NaN in gaps; up: "+Y", "+Z" ... as declared, or "".
    """

    name: str
    labels: tuple[str, ...]
    positions: Array
    fps: float
    unit: str = ""
    up: str = ""


def _table() -> tuple[dict[str, str], dict[str, str]]:
    """Landmark of each plain name: of all sets, and of those with a pelvis alone."""
    everywhere, skin = {}, {}
    for landmark, names in _NAMES.items():
        for pattern in names.split():
            for side in "LR" if "#" in pattern else "":
                where = skin if pattern.startswith("(") else everywhere
                where[pattern.strip("()").replace("#", side)] = f"{landmark}.{side}"
            if "#" not in pattern:
                everywhere[pattern] = landmark
    return everywhere, skin


_EVERYWHERE, _SKIN = _table()


def plain(label: str) -> str:
    """A label in capitals without subject, separators and suffixes; its side in front: `Bob:Knee_Lat.R` RKNEELAT."""
    words = re.sub(r"(?i)[_.\s-]*study$", "", label.rpartition(":")[2])
    words = re.sub(r"(?i)\b(left|right)(?=[_.\s-]|[A-Z])", lambda m: m[1][0].upper(), words.replace("_", " "))
    parts = [part for part in re.split(r"[\s._-]+", words.upper()) if part]
    if len(parts) > 1 and parts[-1] in ("L", "R", "LEFT", "RIGHT"):
        parts = [parts[-1][0], *parts[:-1]]
    return "".join(parts)


def find_landmarks(labels: Sequence[str]) -> dict[str, int]:
    """Column of each landmark ("asis.L", "sacrum") and of each joint that a label names ("LKnee")."""
    names = [plain(label) for label in labels]
    by_name: dict[str, int] = {}
    for column, name in enumerate(names):
        if name not in by_name or labels[column].lower().endswith("study"):
            by_name[name] = column
    found = {_EVERYWHERE[name]: column for name, column in by_name.items() if name in _EVERYWHERE}
    if "asis.L" in found and "asis.R" in found:
        skin = {_SKIN[name]: column for name, column in by_name.items() if name in _SKIN}
        found = {**skin, **found}
    joints = named([label.rpartition(":")[2] for label in labels])
    taken = set(found.values())
    for column, joint in zip(joints.source, [joints.joints[i] for i in joints.source], strict=True):
        if column not in taken:
            found.setdefault(joint, column)
    return found


class Body:
    """Landmarks of one person over time, metres, Z up."""

    def __init__(self, landmarks: dict[str, int], positions: Array) -> None:
        """Take (T, M, 3) positions; clusters of the pelvis and the head are completed where three are seen."""
        self._places = {name: np.array(positions[:, column]) for name, column in landmarks.items()}
        self._none = np.full((len(positions), 3), np.nan)
        self._complete([f"{name}.{side}" for name in ("asis", "psis") for side in "LR"] + ["sacrum"])
        self._complete([f"head_{name}.{side}" for name in ("front", "back") for side in "LR"])
        self.size = self._size()

    def has(self, *names: str) -> bool:
        """Whether all of these are in the file."""
        return all(name in self._places for name in names)

    def at(self, *names: str) -> Array:
        """(T, 3) of the first of these that is in the file; NaN where none is."""
        return next((self._places[name] for name in names if name in self._places), self._none)

    def middle(self, one: str, other: str) -> Array:
        """(T, 3) halfway between two landmarks."""
        return 0.5 * (self.at(one) + self.at(other))

    def _complete(self, names: list[str]) -> None:
        """Put markers of a stiff part that are hidden where the others say they are."""
        names = [name for name in names if name in self._places]
        if len(names) < 4:
            return
        points = np.stack([self._places[name] for name in names], axis=1)
        seen = np.isfinite(points).all(axis=-1)
        whole = np.flatnonzero(seen.all(axis=1))
        part = np.flatnonzero(~seen.all(axis=1) & (seen.sum(axis=1) >= 3))
        if not len(whole) or not len(part):
            return
        nearest = whole[np.abs(whole[None, :] - part[:, None]).argmin(axis=1)]
        weights = seen[part].astype(float)
        held = np.where(seen[part][..., None], points[part], 0.0)
        turn, centre, middle = rotate_onto(points[nearest], held, weights)
        laid = np.einsum("nij,nkj->nki", turn, points[nearest] - centre[:, None]) + middle[:, None]
        filled = np.where(seen[part][..., None], points[part], laid)
        for index, name in enumerate(names):
            self._places[name][part] = filled[:, index]

    def _size(self) -> float:
        """Of the person, against the average one, by the legs."""
        legs = []
        for side in "LR":
            hip, usual = self.at(f"hip_centre.{side}", f"{side}Hip"), _USUAL_LEG_M
            if hip is self._none:
                hip, usual = self.at(f"asis.{side}"), _USUAL_LEG_M + _ASIS_OVER_HIP_M
            knee = self.at(f"knee_centre.{side}", f"{side}Knee", f"knee.{side}")
            ankle = self.at(f"ankle_centre.{side}", f"{side}Ankle", f"ankle.{side}")
            legs.append((np.linalg.norm(hip - knee, axis=-1) + np.linalg.norm(knee - ankle, axis=-1)) / usual)
        known = np.array(legs)[np.isfinite(legs)]
        return float(np.median(known)) if len(known) else np.nan

    def height(self) -> float:
        """Of the person, in the unit of the positions; NaN where no leg is seen."""
        return self.size * _USUAL_HEIGHT_M

    def joints(self) -> dict[str, Array]:
        """(T, 3) of each keypoint that can be told, by name."""
        out = {name: place for name, place in self._places.items() if name in OPENPOSE_137}
        lateral = self._pelvis(out)
        for side in "LR":
            self._leg(out, side, lateral)
        self._shoulders(out)
        for side in "LR":
            self._arm(out, side)
            self._hand(out, side)
        self._head(out)
        return {name: place for name, place in out.items() if np.isfinite(place).all(axis=-1).any()}

    def _pelvis(self, out: dict[str, Array]) -> Array:
        """Put the hips in place and give the (T, 3) direction from the right one to the left."""
        back = self.at("sacrum") if self.has("sacrum") else self.middle("psis.L", "psis.R")
        front = self.middle("asis.L", "asis.R")
        across = self.at("asis.L") - self.at("asis.R")
        lateral = unit(across)
        ahead = front - back
        ahead = unit(ahead - np.sum(ahead * lateral, axis=-1, keepdims=True) * lateral)
        if np.isfinite(ahead).any():
            width, depth = _median(across), _median(front - back)
            behind, below, aside = 0.24 * depth + 0.0099, 0.30 * width + 0.0109, 0.33 * width + 0.0073
            up = np.cross(ahead, lateral)
            for side, sign in (("L", 1.0), ("R", -1.0)):
                out.setdefault(f"{side}Hip", front - behind * ahead - below * up + sign * aside * lateral)
        for side in "LR":
            if self.has(f"hip_centre.{side}"):
                out[f"{side}Hip"] = self.at(f"hip_centre.{side}")
        if {"LHip", "RHip"} <= out.keys():
            lateral = unit(out["LHip"] - out["RHip"])
            out.setdefault("MidHip", 0.5 * (out["LHip"] + out["RHip"]))
        return lateral

    def _leg(self, out: dict[str, Array], side: str, lateral: Array) -> None:
        sign = 1.0 if side == "R" else -1.0  # the inside of the right leg is to the left
        hip = out.get(f"{side}Hip", self._none)
        knee, ankle = self.at(f"knee.{side}"), self.at(f"ankle.{side}")
        # thigh x shank of a bent knee points to the person's right; markers outside of the joints bend that plane
        inwards = sign * lateral
        for _ in range(_ROUNDS):
            middle = self._centre(side, "knee", across_from(hip - knee, inwards))
            end = self._centre(side, "ankle", across_from(middle - ankle, inwards))
            inwards = -sign * bending_axis(hip, middle, end, fallback=-lateral)
        self._put(out, f"{side}Knee", self._centre(side, "knee", across_from(hip - knee, inwards)))
        knee = out.get(f"{side}Knee", knee)
        self._put(out, f"{side}Ankle", self._centre(side, "ankle", across_from(knee - ankle, inwards)))
        heel, toe = self.at(f"heel.{side}"), self.at(f"toe.{side}")
        if not self.has(f"toe.{side}") and self.has(f"mt1.{side}", f"mt5.{side}"):
            toe = self.middle(f"mt1.{side}", f"mt5.{side}")
        out.setdefault(f"{side}Heel", heel)
        ahead = (toe - heel) / _FOOT_OF_TOE
        left = unit(np.cross(knee - out.get(f"{side}Ankle", ankle), ahead))
        if self.has(f"mt1.{side}", f"mt5.{side}"):
            left = sign * unit(self.at(f"mt1.{side}") - self.at(f"mt5.{side}"))
        out.setdefault(f"{side}BigToe", heel + ahead + sign * 0.02 * self.size * left)
        out.setdefault(f"{side}SmallToe", heel + 0.9 * ahead - sign * 0.035 * self.size * left)

    def _centre(self, side: str, joint: str, inwards: Array) -> Array:
        """(T, 3) a joint's centre: where the file says it is, between its two markers, or inside of its one."""
        one, other, centre = f"{joint}.{side}", f"{joint}_in.{side}", f"{joint}_centre.{side}"
        if self.has(centre) or not self.has(one):
            return self.at(centre, f"{side}{joint.capitalize()}")
        between = self.middle(one, other)
        inside = self.at(one) + (_HALF_WIDTHS[joint] * self.size + MARKER_M) * inwards
        if not np.isfinite(inside).any():
            inside = self.at(one)
        return np.where(np.isfinite(between), between, inside)

    def _put(self, out: dict[str, Array], name: str, place: Array) -> None:
        """Keep a place that is known in some frame."""
        if np.isfinite(place).all(axis=-1).any():
            out[name] = place

    def _shoulders(self, out: dict[str, Array]) -> None:
        if self.has("shoulder.L", "shoulder.R") and "MidHip" in out:
            tops = self.at("shoulder.L") - self.at("shoulder.R")
            down = out["MidHip"] - self.middle("shoulder.L", "shoulder.R")
            down = unit(down - np.sum(down * unit(tops), axis=-1, keepdims=True) * unit(tops))
            for side in "LR":
                out[f"{side}Shoulder"] = self.at(f"shoulder.{side}") + (0.17 * _median(tops) + MARKER_M) * down
        for side in "LR":
            if self.has(f"shoulder_centre.{side}"):
                out[f"{side}Shoulder"] = self.at(f"shoulder_centre.{side}")
        if {"LShoulder", "RShoulder"} <= out.keys():
            out["Neck"] = 0.5 * (out["LShoulder"] + out["RShoulder"])

    def _arm(self, out: dict[str, Array], side: str) -> None:
        sign = 1.0 if side == "R" else -1.0
        thumb, little = self.at(f"wrist_thumb.{side}"), self.at(f"wrist_little.{side}")
        if self.has(f"wrist_centre.{side}"):
            out[f"{side}Wrist"] = self.at(f"wrist_centre.{side}")
        elif self.has(f"wrist_thumb.{side}") or self.has(f"wrist.{side}"):
            between = 0.5 * (thumb + little)
            one = self.at(f"wrist.{side}", f"wrist_thumb.{side}")
            out[f"{side}Wrist"] = np.where(np.isfinite(between), between, one)
        shoulder, elbow = out.get(f"{side}Shoulder", self._none), self.at(f"elbow.{side}")
        wrist = out.get(f"{side}Wrist", self._none)
        # upper arm x forearm of a bent elbow points to the person's left where the arm hangs
        inwards = across_from(shoulder - elbow, little - thumb)
        for _ in range(_ROUNDS):
            middle = self._centre(side, "elbow", across_from(shoulder - elbow, inwards))
            bent = np.linalg.norm(np.cross(unit(shoulder - middle), unit(wrist - middle)), axis=-1) > _BENT[1]
            fallback = None if bent.any() else sign * unit(little - thumb)
            inwards = sign * bending_axis(shoulder, middle, wrist, fallback=fallback)
        self._put(out, f"{side}Elbow", self._centre(side, "elbow", across_from(shoulder - elbow, inwards)))

    def _hand(self, out: dict[str, Array], side: str) -> None:
        """Give a hand the average palm and straight fingers where three markers say how it is turned."""
        thumb, little = self.at(f"wrist_thumb.{side}"), self.at(f"wrist_little.{side}")
        wrist, knuckle = out.get(f"{side}Wrist", self._none), self.at(f"knuckle.{side}")
        along = knuckle - wrist
        if not np.isfinite(along + thumb - little).all(axis=-1).any():
            return
        size = _median(along) / np.linalg.norm(DEFAULT.table("palm")[2])
        x = unit(along)
        y = unit(-across_from(along, thumb - little))
        z = np.cross(x, y) * (1.0 if side == "L" else -1.0)
        out[f"{side}HandWrist"] = wrist
        for finger, root, lengths in zip(FINGERS, DEFAULT.table("palm"), DEFAULT.table("fingers"), strict=True):
            for number, reach in enumerate((0.0, *np.cumsum(lengths)), 1):
                a, b, c = size * (root + [reach, 0.0, 0.0])
                out[f"{side}Hand{finger.capitalize()}{number}"] = wrist + a * x + b * y + c * z

    def _head(self, out: dict[str, Array]) -> None:
        """Place face and ears under a band of four markers at the height of the forehead."""
        corners = [f"head_{place}.{side}" for place in ("front", "back") for side in "LR"]
        if not self.has(*corners):
            return
        front, back = self.middle(*corners[:2]), self.middle(*corners[2:])
        left = self.at(corners[0]) + self.at(corners[2]) - self.at(corners[1]) - self.at(corners[3])
        ahead = unit(front - back)
        left = unit(across_from(ahead, left))
        up = np.cross(ahead, left)
        for name in ("Nose", "LEye", "REye", "LEar", "REar"):
            x, y, z = self.size * (np.array(HEAD_POINTS[name]) - [0.0, -0.01, 0.145])
            out.setdefault(name, 0.5 * (front + back) + x * left - y * ahead + z * up)


def bending_axis(root: Array, joint: Array, end: Array, *, fallback: Array | None = None) -> Array:
    """(T, 3) unit normal of the plane that a limb bends in; the straighter it is, the more as `fallback` says.

    Without one, as in the frames around in which it bends.
    """
    normal = np.cross(unit(root - joint), unit(end - joint))
    bent = np.linalg.norm(normal, axis=-1)
    rows = np.flatnonzero(bent > _BENT[1])
    if fallback is None:
        fallback = normal
        if len(rows):
            every = np.arange(len(normal))
            fallback = np.stack([np.interp(every, rows, normal[rows, axis]) for axis in range(3)], axis=-1)
    share = np.clip((np.nan_to_num(bent) - _BENT[0]) / (_BENT[1] - _BENT[0]), 0.0, 1.0)[:, None]
    share = np.where(np.isfinite(fallback).all(axis=-1, keepdims=True), share * share * (3.0 - 2.0 * share), 1.0)
    return unit(
        np.where(share > 0, share * unit(normal), 0.0) + np.where(share < 1, (1.0 - share) * unit(fallback), 0.0)
    )


def across_from(along: Array, direction: Array) -> Array:
    """(T, 3) the part of a direction at right angles to another, length 1."""
    along = unit(along)
    return unit(direction - np.sum(direction * along, axis=-1, keepdims=True) * along)


def _median(vectors: Array) -> float:
    lengths = np.linalg.norm(vectors, axis=-1)
    seen = lengths[np.isfinite(lengths)]
    return float(np.median(seen)) if seen.size else float("nan")
