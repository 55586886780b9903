"""Do we play a role in the crash?  What the library itself knows.

- a crash in the application's own code: none
- one that a handler of the application was called for: handler
"""

import pytest

from tests.integration.preload.conftest import Stage
from tests.integration.preload.test_same_death import LIBCS

NONE, _FRAME, HANDLER = range(3)
"""``enum sf_involvement``."""


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize(
    ("way", "involvement"),
    [("null_read", NONE), ("handled", HANDLER), ("handler_aborts", HANDLER)],
)
def test_library_says_whether_a_handler_was_called(
    stage: Stage, libc: str, way: str, involvement: int
) -> None:
    assert stage.run(libc, way).snapshot.note["involvement"] == involvement
