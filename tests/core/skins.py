"""Markers on the skin of bodies whose joints are known, and the golden C3D files of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from understudy.tests.motion import bodies

from inference.core.artifacts import BodyMotion
from inference.core.humanoid import bone, make_skeleton
from inference.core.kinematics import forward
from inference.core.skeletons import HUMANOID_NAMES

Array = np.ndarray
GOLDEN = Path(__file__).parents[1] / "golden"
FRAMES, FPS = 40, 100.0
GAP = slice(12, 18)  # frames in which the left knee's marker is hidden
HIDDEN = "LKNE"


def plug_in_gait(*, medial: bool = False) -> dict[str, tuple[str, Array]]:
    """Bone and place at rest, metres, of each marker; Harrington's regression finds the hips of this pelvis."""
    rest = make_skeleton().rest[:, :3, 3]

    def at(name: str, *offset: float) -> tuple[str, Array]:
        return name, rest[bone(name)] + offset

    out = {"SACR": at("hips", 0.0, 0.1117, 0.0861)}
    for side, s in (("L", 1.0), ("R", -1.0)):
        out |= {
            f"{side}ASI": at("hips", s * 0.1253, -0.0483, 0.0861), f"{side}PSI": at("hips", s * 0.05, 0.1117, 0.0861),
            f"{side}KNE": at(f"shin.{side}", s * 0.057, 0.0, 0.0),
            f"{side}ANK": at(f"foot.{side}", s * 0.042, 0.0, 0.0),
            f"{side}HEE": at(f"foot.{side}", 0.0, 0.06, -0.045), f"{side}TOE": at(f"foot.{side}", 0.0, -0.13, -0.045),
            f"{side}SHO": at(f"upper_arm.{side}", 0.0, 0.0, 0.17 * 0.34 + 0.007),
            f"{side}ELB": at(f"forearm.{side}", 0.0, 0.0, 0.042),
            f"{side}WRA": at(f"hand.{side}", 0.0, -0.03, 0.0), f"{side}WRB": at(f"hand.{side}", 0.0, 0.03, 0.0),
            f"{side}FIN": at(f"hand.{side}", s * 0.095, 0.0, 0.0),
            f"{side}FHD": at("head", s * 0.07, -0.09, 0.145), f"{side}BHD": at("head", s * 0.07, 0.07, 0.145),
        }  # fmt: skip
        if medial:
            out |= {
                f"{side}KNM": at(f"shin.{side}", -s * 0.057, 0.0, 0.0),
                f"{side}MMA": at(f"foot.{side}", -s * 0.042, 0.0, 0.0),
                f"{side}ELBM": at(f"forearm.{side}", 0.0, 0.0, -0.042),
            }
    carriers = {"KNE": "thigh", "KNM": "thigh", "ANK": "shin", "MMA": "shin", "ELB": "upper_arm", "ELBM": "upper_arm",
                "WRA": "forearm", "WRB": "forearm", "SHO": "shoulder"}  # fmt: skip
    return {
        name: (f"{carriers[name[1:]]}.{name[0]}" if name[1:] in carriers else carrier, place)
        for name, (carrier, place) in out.items()
    }


def worn(motion: BodyMotion, places: dict[str, tuple[str, Array]]) -> Array:
    """(T, M, 3) metres of markers that bones carry."""
    globals_ = forward(motion.rest, motion.parents, motion.rotations, motion.root)
    out = []
    for carrier, place in places.values():
        row = HUMANOID_NAMES.index(carrier)
        local = np.linalg.inv(motion.rest[row]) @ np.append(place, 1.0)
        out.append((globals_[:, row] @ local)[:, :3])
    return np.stack(out, axis=1)


def walk() -> tuple[BodyMotion, tuple[str, ...], Array]:
    """A walk, labels, and (T, M, 3) metres with one marker hidden for a while."""
    motion, _ = bodies.walking(FRAMES, fps=FPS)
    places = plug_in_gait()
    positions = worn(motion, places)
    positions[GAP, list(places).index(HIDDEN)] = np.nan
    return motion, tuple(places), positions


def write_golden() -> None:
    """Write the golden files again, with c3d 0.6.0 and ezc3d 1.7.2, which nothing else here needs."""
    import c3d  # type: ignore[import-not-found]
    import ezc3d  # type: ignore[import-not-found]

    _, labels, metres = walk()
    lost = np.isnan(metres).any(axis=-1)
    points = np.where(lost[..., None], 0.0, 1000.0 * metres)
    for name, scale in (("floats", -1.0), ("whole", 0.1)):
        writer = c3d.Writer(point_rate=FPS, analog_rate=FPS, point_scale=scale)
        writer.set_point_labels([f"Sam:{label}" for label in labels])
        analog = np.zeros((0, 0))
        writer.add_frames(
            [
                (np.column_stack([p, np.where(gap, -1.0, 0.0), np.zeros(len(p))]), analog)
                for p, gap in zip(points, lost, strict=True)
            ]
        )
        with (GOLDEN / f"walk_{name}.c3d").open("wb") as stream:
            writer.write(stream)
    file = ezc3d.c3d()
    file["parameters"]["POINT"]["RATE"]["value"] = [FPS]
    file["parameters"]["POINT"]["LABELS"]["value"] = list(labels)
    file["parameters"]["POINT"]["UNITS"]["value"] = ["m"]
    file["data"]["points"] = np.concatenate([np.where(lost[..., None], np.nan, metres), np.ones((*lost.shape, 1))], 2).T
    file["parameters"]["ANALOG"]["RATE"]["value"] = [5 * FPS]
    file["parameters"]["ANALOG"]["LABELS"]["value"] = ["Fz", "Emg"]
    file["data"]["analogs"] = np.random.default_rng(0).normal(size=(1, 2, 5 * FRAMES))
    file.write(str(GOLDEN / "walk_analog.c3d"))
