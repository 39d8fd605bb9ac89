"""Models whose dense parts stand in the midst of tables, branches, loops, odd signatures and old forms: their whole lives."""

from __future__ import annotations

from collections.abc import Callable

import life_cycle
import pytest
from expect_structures import STRUCTURES


@pytest.mark.parametrize("model", STRUCTURES)
def test_a_model_around_dense_parts_lives_as_the_table_says(
    model: str, lived_model: Callable[[str], life_cycle.Life]
) -> None:
    life_cycle.check_life(lived_model(model), STRUCTURES[model])
