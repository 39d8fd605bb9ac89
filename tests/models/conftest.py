"""Models are made once a session, several in one process: Keras's import and each process's start are the slow part."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

pytest.register_assert_rewrite("life_cycle")

import life_cycle  # noqa: E402 (after its asserts are rewritten)
from expect_structures import STRUCTURES  # noqa: E402
from expectations import EXPECTATIONS  # noqa: E402

# Those of test_life_cycles.py; these take a second each once Keras is imported, so one process makes them all.
SMALL = ("digits", "mlp", "any_size", "two_signatures", "mixed", "only_unsupported")
TABLE = {**EXPECTATIONS, **STRUCTURES}
# Models whose lives one process runs, one after the other.
_TOGETHER = 12


@pytest.fixture(scope="session")
def made_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], life_cycle.MadeModel]:
    """A function from the name of a model to the model on disk."""
    made: dict[str, life_cycle.MadeModel] = {}

    def make(name: str) -> life_cycle.MadeModel:
        if name not in made:
            names = SMALL if name in SMALL else (name,)
            made.update(life_cycle.make_models(names, tmp_path_factory.mktemp("made")))
        return made[name]

    return make


@pytest.fixture(scope="session")
def lived_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], life_cycle.Life]:
    """A function from the name of a model of the table to its life; small models that are to be tested live together."""
    wanted = {item.callspec.params.get("model") for item in request.session.items if hasattr(item, "callspec")}
    lives: dict[str, life_cycle.Life] = {}

    def live(name: str) -> life_cycle.Life:
        if name not in lives:
            names = [name] if TABLE[name].alone else list(_list_together(name, wanted - set(lives)))
            folder = tmp_path_factory.mktemp("lives")
            lives.update(life_cycle.run_lives(life_cycle.make_models(names, folder), TABLE, folder / "converted"))
        return lives[name]

    return live


def _list_together(name: str, wanted: Iterable[object]) -> list[str]:
    others = [other for other, expected in TABLE.items() if other in wanted and not expected.alone]
    return [name, *(other for other in others if other != name)][:_TOGETHER]
