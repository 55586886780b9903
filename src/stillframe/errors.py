"""The project's small tree of errors, named for what the caller can do.

Foreign errors are converted at the edge with the cause chained; a function
either logs or raises, never both.
"""


class StillframeError(Exception):
    """Base of everything we raise on purpose.

    The message says what happened; ``remedy`` says what to do about it and may
    hold a command to copy.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\n  {self.remedy}" if self.remedy else text


class TemporaryError(StillframeError):
    """Try again after ``delay`` seconds."""

    def __init__(self, message: str, delay: float = 1.0, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.delay = delay


class PermanentError(StillframeError):
    """Trying again cannot help; give up and say so."""


class InvalidInputError(PermanentError):
    """The input is not what it claims to be; ``reason`` is a metric label.

    ``reason`` is one CamelCase word from a closed list kept by the raiser.
    """

    def __init__(self, reason: str, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.reason = reason


def one_line(error: BaseException) -> str:
    r"""What an error says, as one line; its kind where it says nothing.

    >>> one_line(PermanentError("no core", "make room")), one_line(KeyError())
    ('no core make room', 'KeyError')
    """
    return " ".join(str(error).split()) or type(error).__name__
