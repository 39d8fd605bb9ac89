"""Every model of the table through its whole life, in fresh processes, against TensorFlow: see expectations.py."""

from __future__ import annotations

from collections.abc import Callable

import life_cycle
import pytest
from expectations import EXPECTATIONS

PARAMETERS = [
    pytest.param(name, marks=[pytest.mark.slow] if expected.slow else [], id=name)
    for name, expected in EXPECTATIONS.items()
]


@pytest.mark.parametrize("model", PARAMETERS)
def test_a_model_runs_in_engines_as_the_table_says(model: str, lived_model: Callable[[str], life_cycle.Life]) -> None:
    life_cycle.check_life(lived_model(model), EXPECTATIONS[model])
