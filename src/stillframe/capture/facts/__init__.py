"""Facts: what else is worth knowing about a process that dies, taken while it is held.

Flows in: a `Holder` and a `FactsPolicy`.  Flows out: `Facts`, one artifact
(``facts.json``) and a section of the report, never a part of a CrashReport.
:mod:`.registry` is the table of what is taken, with its bound and its reason;
:mod:`.take` reads; :mod:`.proc`, :mod:`.sockets` and :mod:`.cgroup` parse (pure);
:mod:`.redaction` keeps secrets out; :mod:`.wording` makes it readable.  Absent:
Kubernetes (what it knows of a container, the agent adds).
"""

from .model import Container, Facts, Log
from .redaction import Redactor
from .registry import REGISTRY, FactName, FactsPolicy
from .take import TakenFacts, take_facts
from .wording import render_facts, render_kept

__all__ = [
    "REGISTRY",
    "Container",
    "FactName",
    "Facts",
    "FactsPolicy",
    "Log",
    "Redactor",
    "TakenFacts",
    "render_facts",
    "render_kept",
    "take_facts",
]
