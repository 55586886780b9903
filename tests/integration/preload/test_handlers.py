"""Applications with handlers of their own: what a recovered fault costs.

What their faults, masks and actions do, and what is reported, is in the matrix.
"""

import pytest

from tests.integration.preload.conftest import Stage
from tests.integration.preload.test_same_death import LIBCS


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", ["recovered_by_mapping", "recovered_on_stack"])
def test_recovered_fault_costs_no_system_call(stage: Stage, libc: str, way: str) -> None:
    natively, captured = (
        stage.system_calls(libc, way, library=library) for library in (False, True)
    )

    # Start-up and installing the handler cost a few; a thousand faults none.
    assert (captured - natively).total() < 60
