"""The one way in which good files are damaged."""

from __future__ import annotations

import random

WORDS = (
    b"0", b"-1", b"9" * 30, b"nan", b"1e999", b"\0", b"\xff\xff\xff\xff", b"[" * 60, b"{", b'"', b"../", b"\\\\h\\s",
    b"$(touch canary)", b"\n", b",", b":", b"\x80\x04", b"\x7f\xff\xff\xff",
)  # fmt: skip


def mutated(content: bytes, dice: random.Random) -> bytes:
    """A copy with one to eight changes, most of them near the head, where formats say what they are."""
    out = bytearray(content)
    for _ in range(dice.randint(1, 8)):
        reach = min(len(out), 600) if dice.random() < 0.7 else len(out)
        at = dice.randrange(max(reach, 1))
        match dice.randrange(6):
            case 0:
                out[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                del out[at : at + dice.randint(1, 60)]
            case 2:
                out[at:at] = dice.choice(WORDS)
            case 3:
                out[at : at + 4] = dice.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\xff\xff\xff\x7f"))
            case 4:
                piece = out[at : at + dice.randint(1, 200)]
                where = dice.randrange(len(out) + 1)
                out[where:where] = piece
            case _:
                if dice.random() < 0.2:
                    del out[at:]
    return bytes(out)
