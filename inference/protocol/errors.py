"""Every error a user can do something about.

UnderstudyError
|-- RequestError    2    a setting is missing or out of range; names the field
|-- InputError      3    a file is unreadable, or shows nobody
|-- WeightsError    4    a network's weights are missing or damaged
|-- ResourceError   5    memory or disk ran out
`-- Cancelled       130  somebody asked to stop

Anything else that escapes is a bug and leaves with exit code 70.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_BUG = 70


class UnderstudyError(Exception):
    """A failure with a sentence that says what, and one that says what to do."""

    code = "error"
    exit_code = EXIT_BUG

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RequestError(UnderstudyError):
    """A setting is missing, unknown or out of range."""

    code = "request"
    exit_code = 2

    def __init__(self, message: str, hint: str = "", *, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message, hint)
        self.field = field


class InputError(UnderstudyError):
    """A file the user gave is unreadable, inconsistent, or shows nobody."""

    code = "input"
    exit_code = 3


class WeightsError(UnderstudyError):
    """A network's weights are missing, damaged or of another schema."""

    code = "weights"
    exit_code = 4


class ResourceError(UnderstudyError):
    """Memory or disk ran out."""

    code = "resources"
    exit_code = 5


class Cancelled(UnderstudyError):
    """Somebody asked to stop."""

    code = "cancelled"
    exit_code = 130

    def __init__(self, message: str = "Cancelled.", hint: str = "") -> None:
        super().__init__(message, hint)
