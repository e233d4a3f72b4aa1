"""`python -m inference`."""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an old Python is told so, before anything newer is imported
    sys.exit("Understudy's inference needs Python 3.11 or newer; this is {}.{}.".format(*sys.version_info))

from .runtime.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
