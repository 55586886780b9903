"""From a core to what a developer wants to know: stacks, cause, fingerprint.

:func:`analyze` takes open files and returns an :class:`Analysis`;
:func:`render_text` makes it readable.  All parsing happens in a child process
without privileges (:mod:`.sandbox`); importing this package loads neither drgn
nor capstone.  One file per stage: :mod:`.images`, :mod:`.unwind`, :mod:`.trust`,
:mod:`.scan`, :mod:`.inlines`, :mod:`.demangle`, :mod:`.variables`, :mod:`.hs_err` and
:mod:`.java`, :mod:`.jvm`, :mod:`.instruction`, :mod:`.fault`, :mod:`.cause`, :mod:`.fingerprint`,
:mod:`.assemble`; :mod:`.pipeline` puts them in order.  Python's stacks come from a child
of their own (:mod:`.python_child`).
Network and the host's files are deliberately absent.
"""

from .job import Limits
from .model import Analysis, Frame, Module, Note, Process, Scope, Signal, Thread, Variable
from .render import render_text
from .runner import AnalysisError, analyze

__all__ = [
    "Analysis",
    "AnalysisError",
    "Frame",
    "Limits",
    "Module",
    "Note",
    "Process",
    "Scope",
    "Signal",
    "Thread",
    "Variable",
    "analyze",
    "render_text",
]
