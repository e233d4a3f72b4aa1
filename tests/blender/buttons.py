"""How a test presses what a user presses."""

from __future__ import annotations

import pytest


def why_grey(operator):
    """The reason that a grey button gives."""
    assert not operator.poll()
    with pytest.raises(RuntimeError) as caught:
        operator()
    return str(caught.value)


def fails(operator, **options):
    """The sentence with which an operator fails."""
    with pytest.raises(RuntimeError) as caught:
        operator(**options)
    return str(caught.value)
