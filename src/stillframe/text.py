"""Text from a pod, made safe to print, log and store: no control, bidi or newline characters."""

LINE = 256
LONG = 1024


def escape(text: str, limit: int = LONG) -> str:
    r"""The text with what is not printable as escapes, cut to ``limit`` characters.

    >>> escape("a\x1b[31m\nb\u202e")
    'a\\x1b[31m\\nb\\u202e'
    """
    if len(text) <= limit and text.isprintable():
        return text
    safe = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: limit + 1])
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"
