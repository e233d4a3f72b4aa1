"""How a performance lands on a character: one schema for the sliders, the flags and the batch."""

from __future__ import annotations

from typing import Annotated, Literal

from .schema import About, frozen


@frozen
class RetargetSettings:
    """How a performance lands on a character."""

    scale: Annotated[
        float | None, About("Size of the steps; without it, the ratio of the legs' lengths.", 0.001, 1000)
    ] = None
    hip_height: Annotated[float, About("Raises the hips by this share of the leg.", -0.5, 0.5)] = 0.0
    arm_reach: Annotated[
        float, About("How far the hands go to where the source's are, rather than keeping the arms' directions.", 0, 1)
    ] = 0.0
    leg_reach: Annotated[
        float, About("How far the feet go to where the source's are, rather than keeping the legs' directions.", 0, 1)
    ] = 0.0
    arm_spread: Annotated[float, About("Turns the upper arms away from the body.", -1, 1, "rad")] = 0.0
    leg_spread: Annotated[float, About("Turns the thighs apart.", -0.5, 0.5, "rad")] = 0.0
    spine_bend: Annotated[float, About("How much of the spine's bending is taken over.", 0, 2)] = 1.0
    shoulders: Annotated[float, About("How much of the shoulders' motion is taken over.", 0, 2)] = 1.0
    fingers: Annotated[float, About("How much of the fingers' motion is taken over; 0 leaves them.", 0, 2)] = 1.0
    twist: Annotated[float, About("How much of a limb's turning is shared out along it.", 0, 1)] = 1.0
    lock_feet: Annotated[float, About("How firmly feet stay where they stand.", 0, 1)] = 1.0
    floor: Annotated[bool, About("Lift feet out of the floor.")] = True
    root: Annotated[
        Literal["hips", "bone", "object", "in-place"],
        About("Where the character's travelling goes: the hips, the root bone, the object, or nowhere."),
    ] = "hips"
    root_axes: Annotated[
        Literal["xy", "x", "y", "xyz", "z"], About("The axes of the travelling that is moved to the root.")
    ] = "xy"
    root_turn: Annotated[bool, About("The root turns with the character's heading, too.")] = False
    fk: Annotated[bool, About("Key the bones or controls that turn.")] = True
    ik: Annotated[bool, About("Key the targets and poles of inverse kinematics, where the rig has them.")] = True
    mode: Annotated[Literal["keep", "fk", "ik"], About("What limbs with a switch follow afterwards.")] = "fk"
    reduce: Annotated[bool, About("Keep only the keys that are needed within the tolerances.")] = False
    tolerance_deg: Annotated[float, About("Largest error of a reduced rotation.", 0.01, 20, "deg")] = 0.5
    tolerance_mm: Annotated[float, About("Largest error of a reduced location.", 0.01, 100, "mm")] = 2.0
