"""Models are made once a session: making and exporting them is the slow part."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.register_assert_rewrite("life_cycle")

import life_cycle  # noqa: E402 (after its asserts are rewritten)

# These take a second each once Keras is imported, so one process makes them all.
SMALL = ("digits", "mlp", "any_size", "two_signatures", "mixed", "only_unsupported")


@pytest.fixture(scope="session")
def made_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], life_cycle.MadeModel]:
    """A function from the name of a model in make_model.py to the model on disk."""
    made: dict[str, life_cycle.MadeModel] = {}

    def make(name: str) -> life_cycle.MadeModel:
        if name not in made:
            names = SMALL if name in SMALL else (name,)
            made.update(life_cycle.make_models(names, tmp_path_factory.mktemp("made")))
        return made[name]

    return make
