"""A performance lands on a character: arrays in, arrays out.

`Retargeter` does what does not depend on a slider once, and the rest as often as sliders move.
"""

from __future__ import annotations

from .retargeter import Retargeter, retarget

__all__ = ["Retargeter", "retarget"]
